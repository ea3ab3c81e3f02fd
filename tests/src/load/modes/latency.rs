//! One job now and then, on a server that has nothing else to do.

use std::time::Duration;

use anyhow::Result;

use super::args::Latency;
use super::idle::IdleStreams;
use super::probe::Probe;
use crate::load::report::Round;
use crate::load::target::Target;

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Latency) -> Result<Round> {
    let plan = flags.work.plan();
    let mut probe = Probe::connect(target, &target.queue, flags.how.payload_bytes(), (1, plan)).await?;
    let mut idle = IdleStreams::open(target, flags.idle, plan, &probe.shared, &mut probe.workers).await?;
    let before = target.usage();
    let latency = probe.run(flags.jobs, Duration::from_millis(flags.every_ms)).await?;
    let mut round = Round::default();
    round.figures.latency(&latency);
    round.figures.usage(before, target, flags.jobs);
    let mut faults = probe.faults();
    idle.check(&mut faults)?;
    round.faults = faults.into_sentences();
    Ok(round)
}
