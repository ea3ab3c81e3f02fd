//! Turns any command line or HTTP endpoint into a worker of a Zizq job queue.
//!
//! ```text
//! server ──► streams ──► pool ──► exec (one task per job) ──► pool ──► outbox, spool ──► server
//!                         ▲  └──► lease keeper ──► server       │
//!                         └── final answer ◄────────────────────┘
//! ```
//!
//! The pool owns the jobs of this worker; every other task does one thing and sends it events. The decisions are
//! made by its table of jobs, which does no I/O.

pub mod access;
mod address;
pub mod args;
mod backoff;
pub mod cgroup;
pub mod cli;
mod client;
mod clock;
pub mod config;
pub mod ctl;
mod delivery;
pub mod ended;
mod event;
pub mod exec;
pub mod flags;
mod label;
pub mod live;
pub mod logging;
mod notify;
mod outbox;
mod outcome;
mod pool;
mod proxy;
mod public;
mod reload;
mod renewal;
mod report;
mod rest;
mod retry_after;
pub mod route;
pub mod screen;
mod serve;
pub mod shutdown;
mod spool;
mod stats;
mod stream;
mod table;
mod template;
mod thin;
mod trust;
mod values;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zizq_spans::Spans;

use crate::client::Client;
use crate::config::Config;
use crate::ended::{Ended, Why};
use crate::exec::{Processes, Shared};
use crate::flags::Flags;
use crate::outbox::Outbox;
use crate::pool::{Pool, Tasks};
use crate::shutdown::Phase;
use crate::spool::Spool;
use crate::stats::Stats;
use crate::stream::Source;

/// The capacity of the channels: events for the pool, reports for the outbox. Full channels are the backpressure.
const CHANNEL: usize = 256;

/// Takes jobs and runs them until `phase` says to end and all its tasks have ended.
///
/// # Errors
/// Only at start-up: for example, if no connection could ever be made because there are no certificates for `https`.
pub async fn run(
    config: Config,
    flags: Flags,
    processes: Processes,
    mut phase: watch::Receiver<Phase>,
) -> anyhow::Result<Ended> {
    let client = Client::new(&config.access, &config.worker_id, config.pass_credentials)
        .map_err(anyhow::Error::msg)
        .context("cannot set up the connection to the server")?;
    let (events_in, events) = mpsc::channel(CHANNEL);
    let (reports, reports_out) = mpsc::channel(CHANNEL);
    let (renewals, renewals_out) = mpsc::channel(1);
    let spans = Spans::from_env("zizq-worker", env!("CARGO_PKG_VERSION"));
    let stats = Arc::new(Stats::new(spans.clone()));
    let shared = Shared::new(client.clone(), events_in.clone(), processes, spans.clone());

    let mut services = JoinSet::new();
    if let Some(address) = config.listen {
        services.spawn(serve::run(serve::bind(address).await?, stats.clone()));
    }
    let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    for doubt in &config.doubts {
        tracing::warn!("{doubt}");
    }
    let (spool, left) = open_spool(&config);
    let kept_in = spool.as_ref().map(|spool| spool.folder().to_owned());
    let mut outbox =
        Outbox { client: client.clone(), spool, events: events_in.clone(), stats: stats.clone() };
    if !left.is_empty() {
        tracing::info!(jobs = left.len(), "delivering the outcomes that an earlier worker left behind");
        tokio::select! {
            () = outbox.deliver_old(left) => {}
            // Undelivered outcomes stay in the spool.
            _ = phase.wait_for(|&phase| phase != Phase::Work) => return Ok(config.until.early(Why::Asked)),
            time = exec::after(config.until.server_timeout) => return Ok(config.until.early(Why::NoServer(time))),
        }
    }
    services.spawn(outbox.run(reports_out));
    services.spawn(renewal::run(client.clone(), config.lease, renewals_out, events_in.clone()));
    services.spawn(live::left::run(client.clone(), stats.clone()));
    live::show(stats.clone());
    services.spawn(client.clone().follow_files());
    services.spawn(reload::run(hangup, flags, client.clone(), events_in.clone()));

    let source = Source { client, lease: config.lease, events: events_in, stats: stats.clone() };
    let tasks = Tasks { source, shared, stats, services, events, reports, renewals, spool: kept_in };
    let pool = Pool::new(&config, tasks).map_err(anyhow::Error::msg).context("cannot set up the routes")?;
    let ended = pool.run(phase).await;
    spans.close().await;
    Ok(ended)
}

/// Opens the spool. A worker runs without one as well.
fn open_spool(config: &Config) -> (Option<Spool>, Vec<report::Report>) {
    let Some(folder) = &config.spool else {
        tracing::error!("{}; if this worker is killed, jobs may run again", spool::NO_FOLDER);
        return (None, Vec::new());
    };
    match Spool::open(folder, &config.access.url) {
        Ok((spool, left)) => (Some(spool), left),
        Err(e) => {
            let folder = folder.display();
            tracing::error!(
                "cannot keep outcomes in {folder}: {e}; name a folder of this user with --spool; \
                 if this worker is killed, jobs may run again"
            );
            (None, Vec::new())
        }
    }
}
