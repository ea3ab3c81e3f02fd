//! Finds the call for a request in a table of methods and paths.

use http::Method;
use percent_encoding::percent_decode_str;
use protocol::access::Verb;

/// Every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Root,
    Health,
    Live,
    Ready,
    Version,
    ShowConfig,
    Stats,
    StatsHistory,
    LiveView,
    Metrics,
    ListQueues,
    GetQueue,
    PauseQueues,
    ForgetQueue,
    PauseQueue,
    ResumeQueue,
    ListWorkers,
    DrainStream,
    DrainWorker,
    DisconnectStream,
    Enqueue,
    EnqueueBulk,
    ListJobs,
    CountJobs,
    GroupJobs,
    GetJob,
    PatchJob,
    DeleteJob,
    RetryJob,
    PatchJobs,
    DeleteJobs,
    RetryJobs,
    ListErrors,
    GetError,
    ReadLog,
    AppendLog,
    TakeStream,
    ListenEvents,
    TakePoll,
    Succeed,
    SucceedBulk,
    Fail,
    Heartbeat,
    HeartbeatBulk,
    Release,
    ReleaseBulk,
    ListCrons,
    DeleteCrons,
    GetCron,
    PutCron,
    PatchCron,
    DeleteCron,
    AddEntry,
    GetEntry,
    PutEntry,
    PatchEntry,
    DeleteEntry,
    RunEntry,
    ListBudgets,
    GetBudget,
    CreateBudget,
    PutBudget,
    PatchBudget,
    DeleteBudget,
    Bind,
    Rebind,
    SetCost,
    Unbind,
    ReplaceBindings,
    ClearBindings,
    BindBulk,
    RebindBulk,
    SetCostBulk,
    UnbindBulk,
    ClearBindingsBulk,
    LogIn,
    LogOut,
    ListAudit,
    WhoAmI,
    ListTokens,
    CreateToken,
    RotateToken,
    LinkToken,
    RevokeToken,
    Reset,
}

/// How the body of a request is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// The call reads it.
    Read,
    /// The call has none, and any body is ignored.
    Ignored,
    /// Must be empty: a call that changes jobs must not ignore filters that were sent in the body.
    Empty,
}

/// The kind of answer to a successful request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Short,
    /// May be long, and is made at once, so the connection must have room. Calls that wait for an event make room
    /// afterwards.
    Long,
    /// A stream, with media types of its own.
    Stream,
    /// Either, depending on `Accept`.
    LongOrStream,
    /// A long text, in one of the formats of metrics.
    Metrics,
    /// A short answer for programs, a page for people.
    ShortOrPage,
    /// A short answer in the end, or events on the way there, depending on `Accept`.
    ShortOrStream,
}

impl Answer {
    pub(super) const fn is_long(self) -> bool {
        matches!(self, Self::Long | Self::LongOrStream | Self::Metrics)
    }

    /// Whether the answer has media types of its own.
    pub(super) const fn negotiates(self) -> bool {
        self.can_stream() || matches!(self, Self::Metrics | Self::ShortOrPage)
    }

    /// Whether the answer may have no end.
    const fn can_stream(self) -> bool {
        matches!(self, Self::Stream | Self::LongOrStream | Self::ShortOrStream)
    }
}

/// The permission that a call requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// None: anyone may call it.
    Anyone,
    /// None but to be known.
    Known,
    /// To do this.
    To(Verb),
    /// To do one of these: whoever works may know how many jobs its own queues have, and whether they are paused.
    Either(Verb, Verb),
}

impl Right {
    /// What the caller must be allowed to do; the second is as good as the first.
    pub fn verbs(self) -> impl Iterator<Item = Verb> {
        let (first, second) = match self {
            Self::Anyone | Self::Known => (None, None),
            Self::To(verb) => (Some(verb), None),
            Self::Either(first, second) => (Some(first), Some(second)),
        };
        first.into_iter().chain(second)
    }
}

/// What a call means for a caller that is limited to some queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is about the server as a whole, or all queues: only for callers that may do it in all of them.
    Whole,
    /// The queue in the path.
    Queue,
    /// The job in the path: in another queue there is none.
    Job,
    /// The same; whoever holds the job may, too.
    OwnJob,
    /// The same; whoever may enqueue to its queue may, too.
    AnyJob,
    /// The cron group in the path, with all its entries.
    Group,
    /// The cron entry in the path.
    Entry,
    /// The call takes the scope, and leaves out or refuses what is not in it.
    Itself,
}

/// The properties of a call that are known before it is executed.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    /// `{}` stands for a variable segment.
    pub path: &'static str,
    pub(crate) call: Call,
    pub(crate) body: Body,
    pub(crate) answer: Answer,
    pub right: Right,
    pub reach: Reach,
}

const fn row(
    method: Method,
    path: &'static str,
    call: Call,
    body: Body,
    answer: Answer,
    right: Right,
    reach: Reach,
) -> Route {
    Route { method, path, call, body, answer, right, reach }
}

/// Literal segments come before `{}`, so that `/jobs/count` is not read as a job.
#[rustfmt::skip]
pub(super) static ROUTES: [Route; 85] = [
    row(Method::GET, "/", Call::Root, Body::Ignored, Answer::ShortOrPage, Right::Anyone, Reach::Whole),
    row(Method::GET, "/health", Call::Health, Body::Ignored, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::GET, "/livez", Call::Live, Body::Ignored, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::GET, "/readyz", Call::Ready, Body::Ignored, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::GET, "/version", Call::Version, Body::Ignored, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::GET, "/config", Call::ShowConfig, Body::Ignored, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
    row(Method::GET, "/stats", Call::Stats, Body::Ignored, Answer::Short, Right::To(Verb::Read), Reach::Itself),
    row(Method::GET, "/stats/history", Call::StatsHistory, Body::Ignored, Answer::Short, Right::To(Verb::Read), Reach::Itself),
    row(Method::GET, "/live", Call::LiveView, Body::Ignored, Answer::Stream, Right::To(Verb::Read), Reach::Itself),
    row(Method::GET, "/metrics", Call::Metrics, Body::Ignored, Answer::Metrics, Right::To(Verb::Read), Reach::Whole),
    row(Method::GET, "/queues", Call::ListQueues, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::PATCH, "/queues", Call::PauseQueues, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Itself),
    row(Method::GET, "/queues/{}", Call::GetQueue, Body::Ignored, Answer::Short, Right::Either(Verb::Read, Verb::Work), Reach::Queue),
    row(Method::DELETE, "/queues/{}", Call::ForgetQueue, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Queue),
    row(Method::POST, "/queues/{}/pause", Call::PauseQueue, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Queue),
    row(Method::POST, "/queues/{}/resume", Call::ResumeQueue, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Queue),
    row(Method::GET, "/workers", Call::ListWorkers, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::POST, "/workers/drain", Call::DrainWorker, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Itself),
    row(Method::POST, "/workers/{}/drain", Call::DrainStream, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Itself),
    row(Method::POST, "/workers/{}/disconnect", Call::DisconnectStream, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Itself),
    row(Method::GET, "/events", Call::ListenEvents, Body::Ignored, Answer::Stream, Right::To(Verb::Read), Reach::Itself),
    row(Method::POST, "/jobs", Call::Enqueue, Body::Read, Answer::Short, Right::To(Verb::Enqueue), Reach::Itself),
    row(Method::GET, "/jobs", Call::ListJobs, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::PATCH, "/jobs", Call::PatchJobs, Body::Read, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::DELETE, "/jobs", Call::DeleteJobs, Body::Empty, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::POST, "/jobs/bulk", Call::EnqueueBulk, Body::Read, Answer::Long, Right::To(Verb::Enqueue), Reach::Itself),
    row(Method::GET, "/jobs/count", Call::CountJobs, Body::Ignored, Answer::Short, Right::Either(Verb::Read, Verb::Work), Reach::Itself),
    row(Method::GET, "/jobs/groups", Call::GroupJobs, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::GET, "/jobs/take", Call::TakeStream, Body::Ignored, Answer::Stream, Right::To(Verb::Work), Reach::Itself),
    row(Method::POST, "/jobs/take", Call::TakePoll, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Itself),
    row(Method::POST, "/jobs/success", Call::SucceedBulk, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Itself),
    row(Method::POST, "/jobs/heartbeat", Call::HeartbeatBulk, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Itself),
    row(Method::POST, "/jobs/release", Call::ReleaseBulk, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Itself),
    row(Method::POST, "/jobs/retry", Call::RetryJobs, Body::Read, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::DELETE, "/jobs/budgets", Call::ClearBindingsBulk, Body::Empty, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::POST, "/jobs/budgets/{}", Call::BindBulk, Body::Read, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::PUT, "/jobs/budgets/{}", Call::RebindBulk, Body::Read, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::PATCH, "/jobs/budgets/{}", Call::SetCostBulk, Body::Read, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::DELETE, "/jobs/budgets/{}", Call::UnbindBulk, Body::Empty, Answer::ShortOrStream, Right::To(Verb::Operate), Reach::Itself),
    row(Method::GET, "/jobs/{}", Call::GetJob, Body::Ignored, Answer::Short, Right::To(Verb::Read), Reach::AnyJob),
    row(Method::PATCH, "/jobs/{}", Call::PatchJob, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::DELETE, "/jobs/{}", Call::DeleteJob, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::GET, "/jobs/{}/errors", Call::ListErrors, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::OwnJob),
    row(Method::GET, "/jobs/{}/errors/{}", Call::GetError, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::OwnJob),
    row(Method::GET, "/jobs/{}/log", Call::ReadLog, Body::Ignored, Answer::LongOrStream, Right::To(Verb::Payload), Reach::OwnJob),
    row(Method::POST, "/jobs/{}/log", Call::AppendLog, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Job),
    row(Method::POST, "/jobs/{}/success", Call::Succeed, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Job),
    row(Method::POST, "/jobs/{}/failure", Call::Fail, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Job),
    row(Method::POST, "/jobs/{}/heartbeat", Call::Heartbeat, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Job),
    row(Method::POST, "/jobs/{}/release", Call::Release, Body::Read, Answer::Short, Right::To(Verb::Work), Reach::Job),
    row(Method::POST, "/jobs/{}/retry", Call::RetryJob, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::GET, "/budgets", Call::ListBudgets, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Whole),
    row(Method::GET, "/budgets/{}", Call::GetBudget, Body::Ignored, Answer::Short, Right::To(Verb::Read), Reach::Whole),
    row(Method::POST, "/budgets/{}", Call::CreateBudget, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Whole),
    row(Method::PUT, "/budgets/{}", Call::PutBudget, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Whole),
    row(Method::PATCH, "/budgets/{}", Call::PatchBudget, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Whole),
    row(Method::DELETE, "/budgets/{}", Call::DeleteBudget, Body::Empty, Answer::Short, Right::To(Verb::Configure), Reach::Whole),
    row(Method::GET, "/crons", Call::ListCrons, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::DELETE, "/crons", Call::DeleteCrons, Body::Empty, Answer::Short, Right::To(Verb::Configure), Reach::Whole),
    row(Method::GET, "/crons/{}", Call::GetCron, Body::Ignored, Answer::Long, Right::To(Verb::Read), Reach::Itself),
    row(Method::PUT, "/crons/{}", Call::PutCron, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Group),
    row(Method::PATCH, "/crons/{}", Call::PatchCron, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Group),
    row(Method::DELETE, "/crons/{}", Call::DeleteCron, Body::Empty, Answer::Short, Right::To(Verb::Configure), Reach::Group),
    row(Method::POST, "/crons/{}/entries", Call::AddEntry, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Itself),
    row(Method::GET, "/crons/{}/entries/{}", Call::GetEntry, Body::Ignored, Answer::Short, Right::To(Verb::Read), Reach::Entry),
    row(Method::PUT, "/crons/{}/entries/{}", Call::PutEntry, Body::Read, Answer::Short, Right::To(Verb::Configure), Reach::Entry),
    row(Method::PATCH, "/crons/{}/entries/{}", Call::PatchEntry, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Entry),
    row(Method::DELETE, "/crons/{}/entries/{}", Call::DeleteEntry, Body::Empty, Answer::Short, Right::To(Verb::Configure), Reach::Entry),
    row(Method::POST, "/crons/{}/entries/{}/run", Call::RunEntry, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Entry),
    row(Method::PUT, "/jobs/{}/budgets", Call::ReplaceBindings, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::DELETE, "/jobs/{}/budgets", Call::ClearBindings, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::POST, "/jobs/{}/budgets/{}", Call::Bind, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::PUT, "/jobs/{}/budgets/{}", Call::Rebind, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::PATCH, "/jobs/{}/budgets/{}", Call::SetCost, Body::Read, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::DELETE, "/jobs/{}/budgets/{}", Call::Unbind, Body::Empty, Answer::Short, Right::To(Verb::Operate), Reach::Job),
    row(Method::POST, "/ui/session", Call::LogIn, Body::Read, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::DELETE, "/ui/session", Call::LogOut, Body::Empty, Answer::Short, Right::Anyone, Reach::Whole),
    row(Method::GET, "/audit", Call::ListAudit, Body::Ignored, Answer::Long, Right::To(Verb::Admin), Reach::Whole),
    row(Method::GET, "/whoami", Call::WhoAmI, Body::Ignored, Answer::Short, Right::Known, Reach::Whole),
    row(Method::GET, "/tokens", Call::ListTokens, Body::Ignored, Answer::Long, Right::To(Verb::Admin), Reach::Whole),
    row(Method::POST, "/tokens", Call::CreateToken, Body::Read, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
    row(Method::DELETE, "/tokens/{}", Call::RevokeToken, Body::Empty, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
    row(Method::POST, "/tokens/{}/rotate", Call::RotateToken, Body::Read, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
    row(Method::POST, "/tokens/{}/link", Call::LinkToken, Body::Empty, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
    row(Method::POST, "/reset", Call::Reset, Body::Empty, Answer::Short, Right::To(Verb::Admin), Reach::Whole),
];

/// All routes.
pub fn all() -> &'static [Route] {
    &ROUTES
}

/// A route and the variable segments of the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matched {
    pub route: &'static Route,
    /// Its position in the table.
    pub position: usize,
    pub params: Vec<String>,
}

/// Why no call matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    NotFound,
    /// The path exists, with these methods.
    MethodNotAllowed(Vec<Method>),
}

/// Finds the call. `HEAD` is treated as `GET` except for a stream. Segments are decoded after the path is split, so
/// `%2F` is not a separator.
///
/// # Errors
/// [`NoRoute`].
pub(super) fn find(method: &Method, path: &str) -> Result<Matched, NoRoute> {
    let mut allowed = Vec::new();
    let mut fixed = false;
    for (position, route) in ROUTES.iter().enumerate() {
        let Some(params) = match_path(route.path, path) else { continue };
        // A literal path always wins over a variable one.
        if params.is_empty() {
            fixed = true;
        } else if fixed {
            break;
        }
        let is_head = method == Method::HEAD && route.method == Method::GET && !route.answer.can_stream();
        if route.method == method || is_head {
            return Ok(Matched { route, position, params });
        }
        allowed.push(route.method.clone());
    }
    Err(if allowed.is_empty() { NoRoute::NotFound } else { NoRoute::MethodNotAllowed(allowed) })
}

fn match_path(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" && !segment.is_empty() {
            // Names are always UTF-8.
            params.push(percent_decode_str(segment).decode_utf8().ok()?.into_owned());
        } else if segment != expected {
            return None;
        }
    }
    segments.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str) -> Result<(Call, Vec<String>), NoRoute> {
        find(&method, path).map(|matched| (matched.route.call, matched.params))
    }

    #[test]
    fn paths() {
        assert_eq!(call(Method::GET, "/jobs/count"), Ok((Call::CountJobs, vec![])));
        assert_eq!(call(Method::GET, "/jobs/abc"), Ok((Call::GetJob, vec!["abc".to_owned()])));
        assert_eq!(call(Method::GET, "/jobs/a%2Fb"), Ok((Call::GetJob, vec!["a/b".to_owned()])));
        assert_eq!(
            call(Method::GET, "/jobs/x/errors/3"),
            Ok((Call::GetError, vec!["x".to_owned(), "3".to_owned()]))
        );
        assert_eq!(call(Method::GET, "/jobs/"), Err(NoRoute::NotFound));
        assert_eq!(call(Method::GET, "/queues/%FF"), Err(NoRoute::NotFound));
        assert_eq!(call(Method::GET, "/nope"), Err(NoRoute::NotFound));
        assert_eq!(call(Method::GET, "/"), Ok((Call::Root, vec![])));
        assert_eq!(call(Method::GET, "//"), Err(NoRoute::NotFound));
    }

    /// Reads the table in the reference: methods and paths, with `{}` for variable segments.
    fn documented() -> Vec<(Method, String)> {
        // Read at run time, so that a change of the text recompiles nothing.
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/API.md");
        let reference = std::fs::read_to_string(reference).unwrap();
        let (_, section) = reference.split_once("\n## Calls\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let bare = |cell: &str| cell.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let segment = |segment: &str| {
            let is_variable = segment.starts_with('{') && segment.ends_with('}');
            if is_variable { "{}".to_owned() } else { segment.to_owned() }
        };
        let row = |row: &str| {
            let [_, method, path, what, _] = row.split('|').collect::<Vec<_>>().try_into().expect(row);
            assert!(!what.trim().is_empty(), "{row}");
            let path = bare(path).expect(row).split('/').map(segment).collect::<Vec<_>>().join("/");
            (bare(method).expect(row).parse().expect(row), path)
        };
        section.lines().filter(|line| line.starts_with('|')).skip(2).map(row).collect()
    }

    #[test]
    fn the_reference_has_each_route_once_and_no_other() {
        let documented = documented();
        let served: Vec<(Method, String)> =
            all().iter().map(|route| (route.method.clone(), route.path.to_owned())).collect();
        let without = |some: &[(Method, String)], others: &[(Method, String)]| {
            some.iter().filter(|call| !others.contains(call)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(without(&served, &documented), [], "protocol/API.md does not have them under Calls");
        assert_eq!(
            without(&documented, &served),
            [],
            "protocol/API.md has them under Calls, but the server does not"
        );
        assert_eq!(documented.len(), served.len(), "protocol/API.md has one of them twice");
    }

    #[test]
    fn the_right_of_a_call_fits_what_it_does() {
        let of = |right: Right| {
            all().iter().filter(|route| route.right == right).map(|route| route.path).collect::<Vec<_>>()
        };
        let open = ["/", "/health", "/livez", "/readyz", "/version", "/ui/session", "/ui/session"];
        assert_eq!(of(Right::Anyone), open);
        assert_eq!(of(Right::Known), ["/whoami"]);
        assert_eq!(
            of(Right::To(Verb::Admin)),
            [
                "/config",
                "/audit",
                "/tokens",
                "/tokens",
                "/tokens/{}",
                "/tokens/{}/rotate",
                "/tokens/{}/link",
                "/reset"
            ]
        );
        assert_eq!(of(Right::To(Verb::Enqueue)), ["/jobs", "/jobs/bulk"]);
        assert_eq!(of(Right::To(Verb::Payload)), ["/jobs/{}/log"]);
        assert_eq!(of(Right::Either(Verb::Read, Verb::Work)), ["/queues/{}", "/jobs/count"]);
        for Route { method, path, right, .. } in all() {
            let takes_or_reports = path.ends_with("/take")
                || ["success", "failure", "heartbeat", "release"].iter().any(|verb| path.ends_with(verb))
                || (path.ends_with("/log") && *method == Method::POST);
            assert_eq!(*right == Right::To(Verb::Work), takes_or_reports, "{method} {path}");
            if *right == Right::To(Verb::Admin) || *path == "/ui/session" {
                continue;
            }
            let only_looks = matches!(
                right,
                Right::Anyone | Right::Known | Right::To(Verb::Read | Verb::Payload) | Right::Either(..)
            );
            assert_eq!(only_looks, *method == Method::GET && !takes_or_reports, "{method} {path}: {right:?}");
        }
    }

    #[test]
    fn methods() {
        let not_allowed = |methods: &[Method]| Err(NoRoute::MethodNotAllowed(methods.to_vec()));
        assert_eq!(
            call(Method::PUT, "/jobs"),
            not_allowed(&[Method::POST, Method::GET, Method::PATCH, Method::DELETE])
        );
        assert_eq!(call(Method::GET, "/jobs/bulk"), not_allowed(&[Method::POST]));
        assert_eq!(call(Method::HEAD, "/health"), Ok((Call::Health, vec![])));
        assert_eq!(call(Method::HEAD, "/metrics"), Ok((Call::Metrics, vec![])));
        assert_eq!(call(Method::HEAD, "/"), Ok((Call::Root, vec![])));
        assert_eq!(call(Method::HEAD, "/events"), not_allowed(&[Method::GET]));
        assert_eq!(call(Method::HEAD, "/reset"), not_allowed(&[Method::POST]));
        assert_eq!(call(Method::DELETE, "/jobs/take"), not_allowed(&[Method::GET, Method::POST]));
        assert_eq!(call(Method::PUT, "/jobs/x"), not_allowed(&[Method::GET, Method::PATCH, Method::DELETE]));
    }
}
