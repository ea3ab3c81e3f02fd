//! What flags, environment and file mean together, checked.

mod explain;
mod file;
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
use reqwest::Url;
use reqwest::header::HeaderValue;

use self::file::{File, OneOrMore, RouteTable, RunLine, Span};
use crate::args::{Flags, server_url};
use crate::cgroup::{self, Place};
use crate::client::shown;
use crate::live::Live;
use crate::logging::{LogFormat, LogLevel};
use crate::route::{ConcurrencyFlag, Route, RouteMap, Target};

/// A configuration with every key explained.
pub const SAMPLE: &str = include_str!("sample.toml");

/// Where a server listens unless it is told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7890";
const DEFAULT_LEASE: Duration = Duration::from_secs(30);
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// What a worker does.
#[derive(Debug)]
pub struct Config {
    /// The server to take jobs from.
    pub server: Url,
    /// The name of this worker.
    pub worker_id: HeaderValue,
    /// The routes, no two for the same jobs.
    pub routes: Vec<Arc<Route>>,
    /// How many jobs may run at a time in all.
    pub total: Option<NonZeroU16>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How long running jobs may take to finish at the end.
    pub shutdown_timeout: Duration,
    /// How long a command has between TERM and KILL.
    pub grace: Duration,
    /// Where outcomes are kept until the server has them.
    pub spool: PathBuf,
    /// Where commands get cgroups.
    pub cgroup: Option<Place>,
    /// Where to serve readiness and metrics.
    pub listen: Option<SocketAddr>,
    /// When to end by oneself.
    pub until: Until,
    /// Whether to show what runs.
    pub live: Live,
    /// How to log.
    pub log: (LogLevel, Option<LogFormat>),
}

/// Keys, and what they are set to.
pub(crate) type Fixed = [(&'static str, String); 11];

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Until {
    /// After this many jobs.
    pub max_jobs: Option<NonZeroU64>,
    /// After so long without a job.
    pub max_idle: Option<Duration>,
    /// When there is no job any more.
    pub once: bool,
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
    /// Reads the file, if one is named, and puts the flags before it.
    ///
    /// # Errors
    /// With a sentence for whoever wrote the flags or the file.
    pub fn read(flags: &Flags) -> Result<Self, ConfigError> {
        let file = flags.config.as_deref().map_or_else(|| Ok(File::default()), read_file)?;
        let span = |span: Option<Span>| span.map(|span| span.0);
        let lease = flags.lease.or(span(file.lease)).unwrap_or(DEFAULT_LEASE);
        if !(MIN_LEASE_MS.into()..=MAX_LEASE_MS.into()).contains(&lease.as_millis()) {
            let lease = humantime::format_duration(lease);
            return Err(ConfigError(format!("--lease must be from 1s to 12h, not {lease}")));
        }
        let server = match (&flags.server, &file.server) {
            (Some(url), _) => url.clone(),
            (None, text) => server_url(text.as_deref().unwrap_or(DEFAULT_SERVER))?,
        };
        let grace = flags.grace.or(span(file.grace)).unwrap_or(DEFAULT_GRACE);
        let defaults = routes::Defaults {
            concurrency: file.concurrency.unwrap_or(NonZeroU16::MIN),
            timeout: flags.timeout.or(span(file.timeout)),
            grace,
        };
        let name = flags.worker_id.clone().or(file.worker_id);
        Ok(Self {
            server,
            worker_id: worker_id(name.unwrap_or_else(default_worker_id))?,
            routes: all_routes(flags, file.route, defaults)?,
            total: flags.total_concurrency.or(file.total_concurrency),
            lease,
            shutdown_timeout: flags
                .shutdown_timeout
                .or(span(file.shutdown_timeout))
                .unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT),
            grace,
            spool: flags.spool.clone().or(file.spool).unwrap_or_else(crate::spool::default_folder),
            cgroup: flags.cgroup.clone().or(file.cgroup.map(|cgroup| cgroup.0)),
            listen: flags.listen.or(file.listen),
            until: Until {
                max_jobs: flags.max_jobs.or(file.max_jobs),
                max_idle: flags.max_idle.or(span(file.max_idle)),
                once: flags.once,
            },
            live: flags.live.or(file.live).unwrap_or_default(),
            log: (
                flags.log_level.or(file.log_level).unwrap_or_default(),
                flags.log_format.or(file.log_format),
            ),
        })
    }

    /// What stays as it is while a worker runs, by the names of its keys.
    pub(crate) fn fixed(&self) -> Fixed {
        let Self { server, worker_id, lease, spool, cgroup, listen, until, live, log, .. } = self;
        [
            ("server", server.to_string()),
            ("worker_id", format!("{worker_id:?}")),
            ("lease", format!("{lease:?}")),
            ("spool", spool.display().to_string()),
            ("cgroup", format!("{cgroup:?}")),
            ("listen", format!("{listen:?}")),
            ("max_jobs", format!("{:?}", until.max_jobs)),
            ("max_idle", format!("{:?}", until.max_idle)),
            ("live", format!("{live:?}")),
            ("log_level", format!("{:?}", log.0)),
            ("log_format", format!("{:?}", log.1)),
        ]
    }

    /// A line about whether limits are of a job or of each process, if there is something to say.
    ///
    /// # Errors
    /// Where commands shall get cgroups in a folder that cannot be used.
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

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| ConfigError(explain::sentence(path, &text, &e)))
}

/// The routes of flags and file.
fn all_routes(
    flags: &Flags,
    tables: Vec<RouteTable>,
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
            return Err(ConfigError(format!("two routes are called `{}`", route.name)));
        }
        routes.push(Arc::new(route));
    }
    if routes.is_empty() {
        let how =
            "no queue is given; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]] to a --config";
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
    /// What it means, for whoever checks it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "takes jobs from {}", shown(&self.server))?;
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
            writeln!(f, "{total} jobs at a time in all")?;
        }
        writeln!(f, "keeps outcomes in {}", self.spool.display())
    }
}
