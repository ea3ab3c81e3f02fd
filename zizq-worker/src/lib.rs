//! Turns any command line or HTTP endpoint into a worker of a Zizq job queue.
//!
//! ```text
//! server ──► stream (one per queue) ──► pool ──► exec (one task per job) ──► pool ──► outbox ──► server
//!                                        ▲  └──► lease keeper ──► server        │
//!                                        └── what became of it ◄────────────────┘
//! ```
//!
//! The pool is the one owner of what this worker holds; every other task does one thing and tells it
//! what happened. What follows from what is the business of its table of jobs, which does no I/O.

pub mod args;
mod backoff;
mod client;
mod clock;
pub mod config;
mod event;
mod exec;
mod lease;
pub mod logging;
mod outbox;
mod outcome;
mod pool;
mod report;
mod retry_after;
pub mod route;
pub mod shutdown;
mod stream;
mod table;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::config::Config;
use crate::exec::Executors;
use crate::pool::{Pool, Tasks};
use crate::shutdown::{Ended, Phase};

/// How many events may wait for the pool, and how many reports for the outbox.
const CHANNEL: usize = 256;

/// Takes jobs and runs them until `phase` says to end, and every task that it started has ended.
///
/// # Errors
/// Only before anything is started: where no connection could ever be made, as without certificates for `https`.
pub async fn run(config: Config, phase: watch::Receiver<Phase>) -> anyhow::Result<Ended> {
    let client = Client::new(&config).context("cannot set up the connection to the server")?;
    let executors = Executors::new(&config).context("cannot set up the HTTP routes")?;
    let (events_in, events) = mpsc::channel(CHANNEL);
    let (reports, reports_out) = mpsc::channel(CHANNEL);
    let (renewals, renewals_out) = mpsc::channel(1);

    let mut streams = JoinSet::new();
    for route in &config.routes {
        let stream = stream::Subscription::new(client.clone(), route, config.lease, events_in.clone());
        streams.spawn(stream.run(phase.clone()));
    }
    let mut services = JoinSet::new();
    services.spawn(outbox::run(client.clone(), reports_out, events_in.clone()));
    services.spawn(lease::run(client, renewals_out, events_in));

    let tasks = Tasks { streams, services, events, reports, renewals };
    Ok(Pool::new(&config, Arc::new(executors), tasks).run(phase).await)
}
