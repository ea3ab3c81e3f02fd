//! The configuration: merges flags, environment and file, and checks the result.

mod explain;
mod file;
mod lookup;
mod mistakes;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::lease::{MAX_LEASE_MS, MIN_LEASE_MS};
use protocol::name::QueueName;
use protocol::plural::plural;
use reqwest::header::HeaderValue;
use toml::Spanned;

use self::file::{File, OneOrMore, RouteTable, RunLine, Span};
use crate::access::{Access, Written, open_to_all, others_can_read};
use crate::cgroup::{self, Place};
use crate::ended::{Ended, Why};
use crate::flags::Flags;
use crate::logging::{LogFormat, LogLevel};
use crate::route::{ConcurrencyFlag, Route, RouteMap, Target};
use crate::screen::Live;
use crate::spool;
use crate::template::Template;

/// A configuration with every key explained.
pub const SAMPLE: &str = include_str!("sample.toml");

const DEFAULT_LEASE: Duration = Duration::from_secs(30);
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long `--once` waits for a server.
const SERVER_TIMEOUT_ONCE: Duration = Duration::from_secs(60);
const DEFAULT_LINGER: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// The configuration of a worker.
#[derive(Debug)]
pub struct Config {
    /// How to reach the server.
    pub access: Access,
    /// Whether commands get the user name and password of the server.
    pub(crate) pass_credentials: bool,
    /// The name of this worker.
    pub worker_id: HeaderValue,
    /// The routes, no two for the same jobs.
    pub routes: Vec<Arc<Route>>,
    /// The maximum number of jobs that run at a time, over all routes.
    pub total: Option<NonZeroU16>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How long running jobs may take to finish at shutdown.
    pub shutdown_timeout: Duration,
    /// How long a command has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The folder that keeps outcomes until the server has them, if there is one.
    pub spool: Option<PathBuf>,
    /// Where commands get cgroups, if they do.
    pub cgroup: Option<Place>,
    /// Where to serve readiness and metrics.
    pub listen: Option<SocketAddr>,
    /// When the worker ends by itself.
    pub until: Until,
    /// Whether to show the running jobs.
    pub live: Live,
    /// The template of job labels.
    pub(crate) label: Option<Arc<Template>>,
    /// How to log.
    pub log: (LogLevel, Option<LogFormat>),
    /// Warnings, in sentences.
    pub doubts: Vec<String>,
}

/// Keys and their values.
pub(crate) type Fixed = [(&'static str, String); 17];

/// The conditions on which a worker ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Until {
    /// After this many jobs.
    pub max_jobs: Option<NonZeroU64>,
    /// After this long without a job.
    pub max_idle: Option<Duration>,
    /// When no job is left.
    pub once: bool,
    /// With `once`: and none waits for a retry.
    pub wait_for_retries: bool,
    /// After this long without a server.
    pub server_timeout: Option<Duration>,
}

impl Until {
    /// Whether the worker ends by itself when its work is done.
    pub(crate) const fn is_batch(&self) -> bool {
        self.once || self.max_jobs.is_some() || self.max_idle.is_some()
    }

    /// The end of a run in which no job was started.
    pub(crate) const fn early(&self, why: Why) -> Ended {
        Ended::early(why, self.is_batch())
    }
}

/// What is wrong, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl From<String> for ConfigError {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl Config {
    /// Reads the file, if one is named, and merges the flags over it.
    ///
    /// # Errors
    /// One sentence per mistake, for the author of the flags or the file.
    pub fn read(flags: &Flags) -> Result<Self, ConfigError> {
        let Some(path) = flags.config.as_deref() else { return settle(flags, File::default()) };
        let text = read_text(path)?;
        let settled = toml::from_str(&text)
            .map_err(|e: toml::de::Error| {
                let line = explain::line(&text, e.span().map_or(0, |span| span.start));
                ConfigError(format!("{}:{line}: {}", path.display(), explain::in_words(e.message())))
            })
            .and_then(|mut file: File| {
                for route in &mut file.route {
                    let line = explain::line(&text, route.span().start);
                    route.get_mut().place = Some(format!("{}:{line}", path.display()));
                }
                let is_open = file.holds_a_secret() && others_can_read(path);
                let mut config = settle(flags, file)?;
                config.doubts.extend(is_open.then(|| open_to_all(path, "the password or the secrets")));
                Ok(config)
            });
        settled.map_err(|first| match mistakes::mistakes(path, &text) {
            // The mistake is not in the file alone.
            all if all.is_empty() => first,
            all => ConfigError(all.join("\n")),
        })
    }
}

/// Merges flags and file.
fn settle(flags: &Flags, file: File) -> Result<Config, ConfigError> {
    let span = |span: Option<Span>| span.map(|span| span.0);
    let lease = flags.lease.or(span(file.lease)).unwrap_or(DEFAULT_LEASE);
    if !(MIN_LEASE_MS.into()..=MAX_LEASE_MS.into()).contains(&lease.as_millis()) {
        let lease = humantime::format_duration(lease);
        return Err(ConfigError(format!("--lease must be from 1s to 12h, not {lease}")));
    }
    let written = Written {
        server: file.server,
        server_file: file.server_file,
        token_file: file.token_file,
        server_ca: file.server_ca,
        client_cert: file.client_cert,
        client_key: file.client_key,
        proxy: file.proxy,
    };
    let access = flags.access.access(written)?;
    let grace = flags.grace.or(span(file.grace)).unwrap_or(DEFAULT_GRACE);
    let defaults = routes::Defaults {
        concurrency: file.concurrency.unwrap_or(NonZeroU16::MIN),
        timeout: flags.timeout.or(span(file.timeout)),
        trace: file.trace.unwrap_or_default(),
        linger: flags.linger.or(span(file.linger)).unwrap_or(DEFAULT_LINGER),
        grace,
    };
    let name = flags.worker_id.clone().or(file.worker_id);
    let routes = all_routes(flags, file.route.into_iter().map(Spanned::into_inner), defaults)?;
    let mut doubts = access.doubts.clone();
    doubts.extend(routes.iter().flat_map(|route| route.doubts.iter().cloned()));
    Ok(Config {
        access,
        pass_credentials: flags.pass_credentials || file.pass_credentials.unwrap_or(false),
        worker_id: worker_id(name.unwrap_or_else(default_worker_id))?,
        routes,
        total: flags.total_concurrency.or(file.total_concurrency),
        lease,
        shutdown_timeout: flags
            .shutdown_timeout
            .or(span(file.shutdown_timeout))
            .unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT),
        grace,
        spool: flags.spool.clone().or(file.spool).or_else(spool::default_folder),
        cgroup: flags.cgroup.clone().or(file.cgroup.map(|cgroup| cgroup.0)),
        listen: flags.listen.or(file.listen),
        until: Until {
            max_jobs: flags.max_jobs.or(file.max_jobs),
            max_idle: flags.max_idle.or(span(file.max_idle)),
            once: flags.once,
            wait_for_retries: flags.wait_for_retries,
            server_timeout: flags
                .server_timeout
                .or(span(file.server_timeout))
                .or(flags.once.then_some(SERVER_TIMEOUT_ONCE)),
        },
        live: flags.live.or(file.live).unwrap_or_default(),
        label: label(flags.label.as_deref().or(file.label.as_deref()))?,
        log: (flags.log_level.or(file.log_level).unwrap_or_default(), flags.log_format.or(file.log_format)),
        doubts,
    })
}

impl Config {
    /// The settings that a reload does not change, by key.
    pub(crate) fn fixed(&self) -> Fixed {
        let Self {
            access, pass_credentials, worker_id, lease, spool, cgroup, listen, until, live, log, ..
        } = self;
        [
            ("server", access.url.to_string()),
            ("token_file", format!("{:?}", access.token_file)),
            ("server_ca", format!("{:?}", access.ca.as_ref().map(|(path, _)| path))),
            ("client_cert", format!("{:?}", access.identity.as_ref().map(|shown| (&shown.cert, &shown.key)))),
            ("proxy", format!("{:?}", access.proxy)),
            ("pass_credentials", pass_credentials.to_string()),
            ("worker_id", format!("{worker_id:?}")),
            ("lease", format!("{lease:?}")),
            ("spool", format!("{spool:?}")),
            ("cgroup", format!("{cgroup:?}")),
            ("listen", format!("{listen:?}")),
            ("max_jobs", format!("{:?}", until.max_jobs)),
            ("max_idle", format!("{:?}", until.max_idle)),
            ("server_timeout", format!("{:?}", until.server_timeout)),
            ("live", format!("{live:?}")),
            ("log_level", format!("{:?}", log.0)),
            ("log_format", format!("{:?}", log.1)),
        ]
    }

    /// Warnings about missing programs and folders.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.routes.iter().filter_map(|route| lookup::missing(route)).collect()
    }

    /// A line about the scope of limits (job or process), if there are limits.
    ///
    /// # Errors
    /// If commands are to get cgroups in a folder that cannot be used.
    pub fn foresee_limits(&self) -> Result<String, ConfigError> {
        let depends = |route: &Arc<Route>| match &route.target {
            Target::Command(spec) => spec.limits.memory.is_some() || spec.limits.processes.is_some(),
            Target::Http(_) => false,
        };
        Ok(match &self.cgroup {
            Some(place) => cgroup::foresee(place)? + "\n",
            None if self.routes.iter().any(depends) => {
                "commands get no cgroups: memory is limited per process, as \
                 address space, processes per user\n"
                    .to_owned()
            }
            None => String::new(),
        })
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line =
            e.as_bytes().get(..good).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError(format!("{shown}:{line}: this line is not valid UTF-8"))
    })
}

/// Builds the routes of flags and file.
fn all_routes(
    flags: &Flags,
    tables: impl Iterator<Item = RouteTable>,
    mut defaults: routes::Defaults,
) -> Result<Vec<Arc<Route>>, ConfigError> {
    let mut limit_of = HashMap::new();
    for ConcurrencyFlag { queue, limit } in flags.concurrency.iter().cloned() {
        if limit_of.insert(queue.clone(), limit).is_some() {
            let whom = queue.map_or("every queue".to_owned(), |queue| format!("queue `{queue}`"));
            return Err(ConfigError(format!("--concurrency is given twice for {whom}")));
        }
    }
    if let Some(limit) = limit_of.remove(&None) {
        defaults.concurrency = limit;
    }
    let shell = flags.run.iter().map(|flag| RouteTable {
        queue: OneOrMore(vec![flag.queue.clone()]),
        run: Some(RunLine::Shell(flag.what.clone())),
        ..RouteTable::default()
    });
    let http = flags.http.iter().map(|flag| RouteTable {
        queue: OneOrMore(vec![flag.queue.clone()]),
        url: Some(flag.what.clone()),
        ..RouteTable::default()
    });
    let (mut routes, mut names) = (Vec::new(), HashSet::new());
    for mut table in shell.chain(http).chain(tables) {
        if let [queue] = table.queue.0.as_slice()
            && let Some(limit) = limit_of.remove(&Some(queue.clone()))
        {
            table.concurrency = Some(limit);
        }
        let route = routes::route(table, defaults)?;
        if !names.insert(route.name.clone()) && !route.types.is_empty() {
            return Err(ConfigError(format!(
                "two routes have the name `{}`; give one another `name`",
                route.name
            )));
        }
        routes.push(Arc::new(route));
    }
    if routes.is_empty() {
        let how = "no queue to work on; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]] in a --config file";
        return Err(ConfigError(how.to_owned()));
    }
    if let Some(queue) = limit_of.into_keys().flatten().min() {
        return Err(without_route(&queue));
    }
    RouteMap::new(routes.iter().map(|route| &**route))?;
    Ok(routes)
}

fn without_route(queue: &QueueName) -> ConfigError {
    ConfigError(format!("--concurrency names queue `{queue}`, which has no route of its own"))
}

fn label(text: Option<&str>) -> Result<Option<Arc<Template>>, ConfigError> {
    let template = text.map(Template::parse).transpose();
    Ok(template.map_err(|e| ConfigError(format!("--label: {e}")))?.map(Arc::new))
}

fn worker_id(name: String) -> Result<HeaderValue, ConfigError> {
    let visible = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
    match HeaderValue::from_str(&name) {
        Ok(value) if visible => Ok(value),
        _ => Err(ConfigError(format!("--worker-id must be 1 to 255 visible ASCII characters, not `{name}`"))),
    }
}

fn default_worker_id() -> String {
    let uname = rustix::system::uname();
    let host: String =
        uname.nodename().to_string_lossy().chars().filter(char::is_ascii_graphic).take(200).collect();
    format!("{host}-{}", std::process::id())
}

impl fmt::Display for Config {
    /// A summary, for `zizq-worker check`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "takes jobs from {}", self.access.shown())?;
        for route in &self.routes {
            let list = |names: Vec<&str>| names.join(", ");
            write!(
                f,
                "route {}: queue {}",
                route.name,
                list(route.queues.iter().map(|q| q.as_str()).collect())
            )?;
            if !route.types.is_empty() {
                write!(f, ", type {}", list(route.types.iter().map(|t| t.as_str()).collect()))?;
            }
            let what = match &route.target {
                Target::Command(_) => "a command",
                Target::Http(_) => "an endpoint",
            };
            writeln!(f, ", {} at a time, {what}", route.concurrency)?;
        }
        if let Some(total) = self.total {
            writeln!(f, "{total} {} at a time in total", plural(total.get(), "job", "jobs"))?;
        }
        match &self.spool {
            Some(folder) => writeln!(f, "keeps outcomes in {}", folder.display()),
            None => writeln!(f, "{}", spool::NO_FOLDER),
        }
    }
}
