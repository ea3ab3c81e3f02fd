//! The load tool: puts load on any server that speaks the contract, measures it and checks it at the same time.
//!
//! It shares the machine with the server, so it is built to be cheap: one thread, requests prepared in advance, and
//! answers of which only the needed bytes are looked at. That is safe because every payload is its own, so no member
//! name that it looks for can occur inside of one.

pub mod args;
mod check;
mod drain;
mod enqueue;
mod frames;
mod http;
mod latency;
mod report;
mod requests;
mod target;
mod usage;
mod watchdog;
mod worker;

use anyhow::{Context, Result};

use args::{Args, Mode};
use report::{Report, Round};
use target::Target;

/// Runs every round of the mode; `false` when a check failed.
///
/// # Errors
/// When a round could not be finished.
pub async fn run(args: Args) -> Result<bool> {
    let Args { common, mode } = args;
    let mut report = Report::new(&mode, &common);
    for round in 1..=common.rounds {
        let target = Target::open(&common).await?;
        report.head(&target)?;
        let measured = measure(&mode, &target, &common).await;
        let measured =
            measured.with_context(|| format!("round {round} of {}{}", mode.name(), target.log()))?;
        report.round(round, measured)?;
    }
    report.finish()
}

async fn measure(mode: &Mode, target: &Target, common: &args::Common) -> Result<Round> {
    match mode {
        Mode::Enqueue(flags) => enqueue::measure(target, flags, common.payload_bytes).await,
        Mode::Drain(flags) => drain::measure(target, flags, common.payload_bytes).await,
        Mode::Latency(flags) => latency::measure(target, flags, common.payload_bytes).await,
    }
}
