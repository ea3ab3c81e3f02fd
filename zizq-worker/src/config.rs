//! What the flags mean together, checked.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;
use std::time::Duration;

use protocol::lease::{MAX_LEASE_MS, MIN_LEASE_MS};
use protocol::name::QueueName;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::args::Args;
use crate::route::{ConcurrencyFlag, Route, RouteFlag};

/// What a worker does.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server to take jobs from.
    pub server: Url,
    /// The name of this worker.
    pub worker_id: HeaderValue,
    /// The queues, no two the same.
    pub routes: Vec<Route>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How long running jobs may take to finish at the end.
    pub shutdown_timeout: Duration,
    /// How long a command has between TERM and KILL.
    pub grace: Duration,
}

/// Flags that contradict each other, or that only the whole shows to be wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to do.
    #[error("no queue is given; add --run 'QUEUE=COMMAND' or --http 'QUEUE=URL'")]
    NoRoute,
    /// Two routes for one queue.
    #[error("queue `{0}` is given twice; a queue has one --run or --http")]
    QueueTwice(QueueName),
    /// Two limits for one queue.
    #[error("--concurrency is given twice for {}", .0.as_ref().map_or("every queue".to_owned(), |q| format!("queue `{q}`")))]
    ConcurrencyTwice(Option<QueueName>),
    /// A limit for a queue that has no route.
    #[error("--concurrency names queue `{0}`, which has no --run and no --http")]
    ConcurrencyWithoutRoute(QueueName),
    /// A lease that the server would not give.
    #[error("--lease must be from 1s to 12h, not {}", humantime::format_duration(*.0))]
    Lease(Duration),
    /// A name that cannot stand in a header.
    #[error("--worker-id must be 1 to 255 visible ASCII characters, not `{0}`")]
    WorkerId(String),
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let lease_ms = MIN_LEASE_MS.into()..=MAX_LEASE_MS.into();
        if !lease_ms.contains(&args.lease.as_millis()) {
            return Err(ConfigError::Lease(args.lease));
        }
        Ok(Self {
            routes: routes(args.run.into_iter().chain(args.http).collect(), args.concurrency)?,
            server: args.server,
            worker_id: worker_id(args.worker_id.unwrap_or_else(default_worker_id))?,
            lease: args.lease,
            shutdown_timeout: args.shutdown_timeout,
            grace: args.grace,
        })
    }
}

fn routes(flags: Vec<RouteFlag>, limits: Vec<ConcurrencyFlag>) -> Result<Vec<Route>, ConfigError> {
    if flags.is_empty() {
        return Err(ConfigError::NoRoute);
    }
    let mut limit_of = HashMap::new();
    for ConcurrencyFlag { queue, limit } in limits {
        if limit_of.insert(queue.clone(), limit).is_some() {
            return Err(ConfigError::ConcurrencyTwice(queue));
        }
    }
    let mut seen = HashSet::new();
    let default = limit_of.remove(&None).unwrap_or(NonZeroU16::MIN);
    let mut routes = Vec::new();
    for RouteFlag { queue, target } in flags {
        if !seen.insert(queue.clone()) {
            return Err(ConfigError::QueueTwice(queue));
        }
        let concurrency = limit_of.remove(&Some(queue.clone())).unwrap_or(default);
        routes.push(Route { queue, target, concurrency });
    }
    match limit_of.into_keys().flatten().min() {
        Some(queue) => Err(ConfigError::ConcurrencyWithoutRoute(queue)),
        None => Ok(routes),
    }
}

fn worker_id(name: String) -> Result<HeaderValue, ConfigError> {
    let visible = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
    match HeaderValue::from_str(&name) {
        Ok(value) if visible => Ok(value),
        _ => Err(ConfigError::WorkerId(name)),
    }
}

fn default_worker_id() -> String {
    let uname = rustix::system::uname();
    let host: String =
        uname.nodename().to_string_lossy().chars().filter(char::is_ascii_graphic).take(200).collect();
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn config(flags: &[&str]) -> Result<Config, String> {
        let flags = ["zizq-worker"].iter().chain(flags);
        let args = Args::try_parse_from(flags).map_err(|e| e.to_string())?;
        Config::try_from(args).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults() {
        let config = config(&["--run", "a=x"]).unwrap();
        assert_eq!(config.lease, Duration::from_secs(30));
        assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
        assert_eq!(config.routes[0].concurrency.get(), 1);
        assert!(config.worker_id.to_str().unwrap().ends_with(&format!("-{}", std::process::id())));
    }

    #[test]
    fn a_plain_number_is_for_the_queues_without_their_own() {
        let flags = ["--run", "a=x", "--http", "b=http://h/", "--concurrency", "b=2", "--concurrency", "7"];
        let limits: Vec<_> = config(&flags).unwrap().routes.iter().map(|r| r.concurrency.get()).collect();
        assert_eq!(limits, [7, 2]);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        for (flags, sentence) in [
            (&[][..], "no queue is given; add --run 'QUEUE=COMMAND' or --http 'QUEUE=URL'"),
            (&["--run", "a=x", "--http", "a=http://h/"], "queue `a` is given twice"),
            (&["--run", "a=x", "--concurrency", "b=2"], "names queue `b`, which has no --run and no --http"),
            (&["--run", "a=x", "--concurrency", "2", "--concurrency", "3"], "given twice for every queue"),
            (&["--run", "a=x", "--concurrency", "a=2", "--concurrency", "a=3"], "given twice for queue `a`"),
            (&["--run", "a=x", "--concurrency", "0"], "`0` is not a number from 1 to 65535"),
            (&["--run", "a="], "the command for queue `a` is empty"),
            (&["--run", "a*=x"], "`a*` contains '*'"),
            (&["--run", "a=x", "--server", "localhost:7890"], "does not begin with http://"),
            (&["--run", "a=x", "--server", "127.0.0.1:7890"], "is not a URL"),
            (&["--run", "a=x", "--server", "http://h/?x"], "has a `?` or `#` part"),
            (&["--run", "a=x", "--lease", "1ms"], "--lease must be from 1s to 12h, not 1ms"),
            (&["--run", "a=x", "--lease", "13h"], "--lease must be from 1s to 12h, not 13h"),
            (&["--run", "a=x", "--lease", "30"], "time unit needed"),
            (&["--run", "a=x", "--worker-id", "ä"], "--worker-id must be 1 to 255 visible ASCII characters"),
        ] {
            let error = config(flags).unwrap_err();
            assert!(error.contains(sentence), "{flags:?}: {error}");
        }
    }
}
