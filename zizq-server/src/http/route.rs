//! Which call a request is: one table of methods and paths.

use http::Method;
use percent_encoding::percent_decode_str;

/// Everything that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Health,
    Version,
    ListQueues,
    GetQueue,
    ForgetQueue,
    PauseQueue,
    ResumeQueue,
    ListWorkers,
    Enqueue,
    EnqueueBulk,
    ListJobs,
    CountJobs,
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
    Cron(CronCall),
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
    Reset,
}

impl Call {
    /// Whether a body would be passed over where something is changed.
    pub(crate) fn is_without_body(self, method: &Method) -> bool {
        let is_poke = matches!(
            self,
            Self::Reset | Self::PauseQueue | Self::ResumeQueue | Self::Cron(CronCall::RunEntry)
        );
        is_poke || *method == Method::DELETE
    }

    /// Whether `GET` opens something that goes on.
    const fn is_stream(self) -> bool {
        matches!(self, Self::TakeStream | Self::ListenEvents | Self::ReadLog)
    }

    /// Whether it answers in media types of its own.
    pub(crate) const fn negotiates(self) -> bool {
        self.is_stream()
    }

    /// Whether its answer may be long, and is made as soon as it is asked for. Those that wait first for something to
    /// happen make room when it has.
    pub(crate) const fn answers_at_length(self) -> bool {
        use CronCall::{GetCron, ListCrons};
        matches!(
            self,
            Self::ListQueues
                | Self::ListWorkers
                | Self::ListJobs
                | Self::ListErrors
                | Self::GetError
                | Self::ReadLog
                | Self::ListBudgets
                | Self::EnqueueBulk
                | Self::Cron(ListCrons | GetCron)
        )
    }
}

/// Calls about cron groups and their entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CronCall {
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
}

/// Fixed segments come before `{}`, so that `/jobs/count` is not taken for a job.
pub(super) const ROUTES: [(Method, &str, Call); 63] = [
    (Method::GET, "/health", Call::Health),
    (Method::GET, "/version", Call::Version),
    (Method::GET, "/queues", Call::ListQueues),
    (Method::GET, "/queues/{}", Call::GetQueue),
    (Method::DELETE, "/queues/{}", Call::ForgetQueue),
    (Method::POST, "/queues/{}/pause", Call::PauseQueue),
    (Method::POST, "/queues/{}/resume", Call::ResumeQueue),
    (Method::GET, "/workers", Call::ListWorkers),
    (Method::GET, "/events", Call::ListenEvents),
    (Method::POST, "/jobs", Call::Enqueue),
    (Method::GET, "/jobs", Call::ListJobs),
    (Method::PATCH, "/jobs", Call::PatchJobs),
    (Method::DELETE, "/jobs", Call::DeleteJobs),
    (Method::POST, "/jobs/bulk", Call::EnqueueBulk),
    (Method::GET, "/jobs/count", Call::CountJobs),
    (Method::GET, "/jobs/take", Call::TakeStream),
    (Method::POST, "/jobs/take", Call::TakePoll),
    (Method::POST, "/jobs/success", Call::SucceedBulk),
    (Method::POST, "/jobs/heartbeat", Call::HeartbeatBulk),
    (Method::POST, "/jobs/release", Call::ReleaseBulk),
    (Method::POST, "/jobs/retry", Call::RetryJobs),
    (Method::DELETE, "/jobs/budgets", Call::ClearBindingsBulk),
    (Method::POST, "/jobs/budgets/{}", Call::BindBulk),
    (Method::PUT, "/jobs/budgets/{}", Call::RebindBulk),
    (Method::PATCH, "/jobs/budgets/{}", Call::SetCostBulk),
    (Method::DELETE, "/jobs/budgets/{}", Call::UnbindBulk),
    (Method::GET, "/jobs/{}", Call::GetJob),
    (Method::PATCH, "/jobs/{}", Call::PatchJob),
    (Method::DELETE, "/jobs/{}", Call::DeleteJob),
    (Method::GET, "/jobs/{}/errors", Call::ListErrors),
    (Method::GET, "/jobs/{}/errors/{}", Call::GetError),
    (Method::GET, "/jobs/{}/log", Call::ReadLog),
    (Method::POST, "/jobs/{}/log", Call::AppendLog),
    (Method::POST, "/jobs/{}/success", Call::Succeed),
    (Method::POST, "/jobs/{}/failure", Call::Fail),
    (Method::POST, "/jobs/{}/heartbeat", Call::Heartbeat),
    (Method::POST, "/jobs/{}/release", Call::Release),
    (Method::POST, "/jobs/{}/retry", Call::RetryJob),
    (Method::GET, "/budgets", Call::ListBudgets),
    (Method::GET, "/budgets/{}", Call::GetBudget),
    (Method::POST, "/budgets/{}", Call::CreateBudget),
    (Method::PUT, "/budgets/{}", Call::PutBudget),
    (Method::PATCH, "/budgets/{}", Call::PatchBudget),
    (Method::DELETE, "/budgets/{}", Call::DeleteBudget),
    (Method::GET, "/crons", Call::Cron(CronCall::ListCrons)),
    (Method::DELETE, "/crons", Call::Cron(CronCall::DeleteCrons)),
    (Method::GET, "/crons/{}", Call::Cron(CronCall::GetCron)),
    (Method::PUT, "/crons/{}", Call::Cron(CronCall::PutCron)),
    (Method::PATCH, "/crons/{}", Call::Cron(CronCall::PatchCron)),
    (Method::DELETE, "/crons/{}", Call::Cron(CronCall::DeleteCron)),
    (Method::POST, "/crons/{}/entries", Call::Cron(CronCall::AddEntry)),
    (Method::GET, "/crons/{}/entries/{}", Call::Cron(CronCall::GetEntry)),
    (Method::PUT, "/crons/{}/entries/{}", Call::Cron(CronCall::PutEntry)),
    (Method::PATCH, "/crons/{}/entries/{}", Call::Cron(CronCall::PatchEntry)),
    (Method::DELETE, "/crons/{}/entries/{}", Call::Cron(CronCall::DeleteEntry)),
    (Method::POST, "/crons/{}/entries/{}/run", Call::Cron(CronCall::RunEntry)),
    (Method::PUT, "/jobs/{}/budgets", Call::ReplaceBindings),
    (Method::DELETE, "/jobs/{}/budgets", Call::ClearBindings),
    (Method::POST, "/jobs/{}/budgets/{}", Call::Bind),
    (Method::PUT, "/jobs/{}/budgets/{}", Call::Rebind),
    (Method::PATCH, "/jobs/{}/budgets/{}", Call::SetCost),
    (Method::DELETE, "/jobs/{}/budgets/{}", Call::Unbind),
    (Method::POST, "/reset", Call::Reset),
];

/// All routes: methods, and paths in which `{}` stands for a variable segment.
pub fn all() -> impl Iterator<Item = (Method, &'static str)> {
    ROUTES.iter().map(|(method, pattern, _)| (method.clone(), *pattern))
}

/// A call and the variable segments of its path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    pub call: Call,
    pub params: Vec<String>,
}

/// Why there is no call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    NotFound,
    /// The path is there, with these methods.
    MethodNotAllowed(Vec<Method>),
}

/// Finds the call; `HEAD` is `GET` except of a stream. Segments are decoded after the path has been split, so that `%2F` is no separator.
///
/// # Errors
/// [`NoRoute`].
pub(crate) fn find(method: &Method, path: &str) -> Result<Matched, NoRoute> {
    let mut allowed = Vec::new();
    let mut fixed = false;
    for (route_method, pattern, call) in &ROUTES {
        let Some(params) = match_path(pattern, path) else { continue };
        // A path that is spelled out in full is never also somebody's id.
        if params.is_empty() {
            fixed = true;
        } else if fixed {
            break;
        }
        let is_head = method == Method::HEAD && route_method == Method::GET && !call.is_stream();
        if route_method == method || is_head {
            return Ok(Matched { call: *call, params });
        }
        allowed.push(route_method.clone());
    }
    Err(if allowed.is_empty() { NoRoute::NotFound } else { NoRoute::MethodNotAllowed(allowed) })
}

fn match_path(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" && !segment.is_empty() {
            // No name is anything but UTF-8.
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
        find(&method, path).map(|matched| (matched.call, matched.params))
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
        assert_eq!(call(Method::GET, "/"), Err(NoRoute::NotFound));
    }

    /// The table of the reference: methods and paths, with `{}` for variable segments.
    fn documented() -> Vec<(Method, String)> {
        // Read here, so that a change of the text alone compiles nothing.
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
            all().map(|(method, pattern)| (method, pattern.to_owned())).collect();
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
    fn methods() {
        let not_allowed = |methods: &[Method]| Err(NoRoute::MethodNotAllowed(methods.to_vec()));
        assert_eq!(
            call(Method::PUT, "/jobs"),
            not_allowed(&[Method::POST, Method::GET, Method::PATCH, Method::DELETE])
        );
        assert_eq!(call(Method::GET, "/jobs/bulk"), not_allowed(&[Method::POST]));
        assert_eq!(call(Method::HEAD, "/health"), Ok((Call::Health, vec![])));
        assert_eq!(call(Method::HEAD, "/events"), not_allowed(&[Method::GET]));
        assert_eq!(call(Method::HEAD, "/reset"), not_allowed(&[Method::POST]));
        assert_eq!(call(Method::DELETE, "/jobs/take"), not_allowed(&[Method::GET, Method::POST]));
        assert_eq!(call(Method::PUT, "/jobs/x"), not_allowed(&[Method::GET, Method::PATCH, Method::DELETE]));
    }
}
