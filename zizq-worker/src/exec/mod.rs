//! Runs one job.

mod command;
mod group;
mod http;
mod output;

use std::collections::HashMap;
use std::sync::Arc;

use protocol::job::DeliveredJob;
use protocol::name::QueueName;
use tokio::sync::watch;

use crate::config::Config;
use crate::outcome::Outcome;
use crate::route::Target;

/// Whether a running job shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// It may clean up.
    Gently,
    Now,
}

/// What to do with the jobs of one queue.
#[derive(Debug)]
pub(crate) enum Executor {
    Command(command::Shell),
    Http(http::Endpoint),
}

impl Executor {
    /// Runs a job to its end, or until `stop` says so. Nothing of it is left behind, even when this is dropped.
    pub(crate) async fn run(&self, job: &DeliveredJob, stop: watch::Receiver<Stop>) -> Outcome {
        match self {
            Self::Command(shell) => shell.run(job, stop).await,
            Self::Http(endpoint) => endpoint.call(job, stop).await,
        }
    }
}

/// The executor of each queue.
#[derive(Debug)]
pub(crate) struct Executors(HashMap<QueueName, Arc<Executor>>);

impl Executors {
    pub(crate) fn new(config: &Config) -> reqwest::Result<Self> {
        let executor = |target: &Target| {
            Ok(Arc::new(match target {
                Target::Command(line) => Executor::Command(command::Shell::new(line, config)),
                Target::Http(url) => Executor::Http(http::Endpoint::new(url)?),
            }))
        };
        let routes = config.routes.iter();
        routes
            .map(|route| Ok((route.queue.clone(), executor(&route.target)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn of(&self, queue: &QueueName) -> Option<Arc<Executor>> {
        self.0.get(queue).cloned()
    }
}

/// Waits until the job shall end.
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // Nobody left to say so means that the pool is gone, and then nothing may run.
    drop(stop.wait_for(|&stop| stop != Stop::No).await);
}
