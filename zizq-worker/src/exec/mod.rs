//! Runs a job by its route, as a command or as an HTTP call, and leaves nothing of it behind.

mod attend;
mod broken;
mod command;
mod control;
mod group;
pub mod guard;
mod http;
mod joblog;
pub mod launch;
mod lines;
mod memory;
mod output;
mod processes;
mod trace;
mod webhook;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::job::DeliveredJob;
use tokio::sync::{mpsc, watch};
use zizq_spans::Spans;

pub(crate) use self::joblog::Acceptance;
pub use self::processes::Processes;
use self::trace::Attempt;
use crate::client::Client;
use crate::event::Event;
use crate::outcome::Outcome;
use crate::report::Usage;
use crate::route::{Route, RouteName, Target};

/// Whether and how a running job must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// With time to clean up.
    Gently,
    Now,
}

/// What all runs share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) hosts: Arc<http::Hosts>,
    pub(crate) job_log: Arc<Acceptance>,
    pub(crate) spans: Spans,
}

impl Shared {
    pub(crate) fn new(
        client: Client,
        events: mpsc::Sender<Event>,
        processes: Processes,
        spans: Spans,
    ) -> Self {
        Self {
            client,
            events,
            processes: Arc::new(processes),
            hosts: Arc::default(),
            job_log: Arc::default(),
            spans,
        }
    }
}

/// The outcome of a run, and what it used.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) usage: Option<Usage>,
}

/// A route, ready to run jobs.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) route: Arc<Route>,
    executor: Executor,
    spans: Spans,
}

#[derive(Debug)]
enum Executor {
    Command(command::Runner),
    Http(http::Endpoint),
}

impl Handler {
    fn new(route: Arc<Route>, shared: &Shared) -> Result<Self, String> {
        let executor = match &route.target {
            Target::Command(_) => Executor::Command(command::Runner::new(route.clone(), shared.clone())?),
            Target::Http(_) => Executor::Http(http::Endpoint::new(route.clone(), shared)?),
        };
        Ok(Self { route, executor, spans: shared.spans.clone() })
    }

    /// Runs a job to its end, or until `stop` ends it. Nothing of it is left behind, even if this is dropped.
    pub(crate) async fn run(&self, mut job: Box<DeliveredJob>, stop: watch::Receiver<Stop>) -> Ran {
        let attempt = Attempt::begin(&self.spans, &self.route, &mut job);
        let (fact, ran) = match &self.executor {
            Executor::Command(runner) => runner.run(&job, stop).await,
            Executor::Http(endpoint) => endpoint.call(&job, stop).await,
        };
        attempt.end(&fact, &ran.outcome);
        ran
    }
}

/// The handler of each route.
#[derive(Debug)]
pub(crate) struct Handlers(HashMap<RouteName, Arc<Handler>>);

impl Handlers {
    /// # Errors
    /// If a route cannot work, for example because a certificate cannot be read.
    pub(crate) fn new(routes: &[Arc<Route>], shared: &Shared) -> Result<Self, String> {
        let handler = |route: &Arc<Route>| match Handler::new(route.clone(), shared) {
            Ok(handler) => Ok((route.name.clone(), Arc::new(handler))),
            Err(e) => Err(format!("route `{}`: {e}", route.name)),
        };
        routes.iter().map(handler).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn of(&self, route: &str) -> Option<&Arc<Handler>> {
        self.0.get(route)
    }

    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.0.values().map(|handler| &*handler.route)
    }
}

/// Waits until the job must end.
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // A dropped sender means that the pool is gone, and then nothing may run.
    drop(stop.wait_for(|&stop| stop != Stop::No).await);
}

/// Waits for this long, or forever. Returns how long.
pub(crate) async fn after(time: Option<Duration>) -> Duration {
    match time {
        Some(time) => {
            tokio::time::sleep(time).await;
            time
        }
        None => std::future::pending().await,
    }
}
