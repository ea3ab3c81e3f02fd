//! What can be measured, one file each.

pub(super) mod args;
mod backlog;
mod burst;
mod churn;
mod drain;
mod enqueue;
pub(super) mod flow;
mod idle;
mod latency;
mod look;
mod pipeline;
mod probe;
mod queues;
pub(super) mod random;
mod restart;

use std::time::Duration;

use anyhow::{Result, bail};

use super::args::{Commit, Format, How};
use super::body::Body;
use super::http::Version;
use super::report::{self, Figure, Round};
use super::target::{Protocol, Target};
use args::Mode;
use flow::Parked;

impl Mode {
    /// One round on a server.
    pub(super) async fn measure(&self, target: &Target) -> Result<Round> {
        match self {
            Self::Enqueue(flags) => enqueue::measure(target, flags).await,
            Self::Drain(flags) => drain::measure(target, flags).await,
            Self::Pipeline(flags) => pipeline::measure(target, flags).await,
            Self::Latency(flags) => latency::measure(target, flags).await,
            Self::Backlog(flags) => backlog::measure(target, flags).await,
            Self::Queues(flags) => queues::measure(target, flags).await,
            Self::Burst(flags) => burst::measure(target, flags).await,
            Self::Churn(flags) => churn::measure(target, flags).await,
            Self::Look(flags) => look::measure(target, flags).await,
            Self::Random(flags) => random::measure(target, flags).await,
            Self::Table(_) | Self::Hello { .. } => bail!("this is not measured itself"),
        }
    }

    /// Its name on the command line.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Enqueue(_) => "enqueue",
            Self::Drain(_) => "drain",
            Self::Pipeline(_) => "pipeline",
            Self::Latency(_) => "latency",
            Self::Backlog(_) => "backlog",
            Self::Queues(_) => "queues",
            Self::Burst(_) => "burst",
            Self::Churn(_) => "churn",
            Self::Look(_) => "look",
            Self::Random(_) => "random",
            Self::Hello { .. } => "hello",
        }
    }

    /// The figures that matter most.
    pub(super) fn headline(&self) -> Vec<&'static Figure> {
        use report::*;
        match self {
            Self::Enqueue(flags) if flags.bulk == 1 => vec![&JOBS_PER_SECOND, &CPU, &P99],
            Self::Enqueue(_) | Self::Drain(_) | Self::Pipeline(_) => vec![&JOBS_PER_SECOND, &CPU],
            Self::Latency(_) => vec![&P50, &P99],
            Self::Backlog(_) => {
                vec![&FIRST_RATE, &LAST_RATE, &PEAK_RSS, &DRAIN_RATE, &FIRST_JOB, &CRASH_FIRST_JOB]
            }
            Self::Queues(_) => vec![&JOBS_PER_SECOND, &P50, &P99, &PEAK_RSS, &FIRST_JOB, &DRAIN_RATE],
            Self::Burst(_) => vec![&P50, &P99, &MAX, &IDLE_P99, &DRAIN_RATE],
            Self::Churn(_) => vec![&JOBS_PER_SECOND, &FIRST_RATE, &LAST_RATE, &PEAK_RSS],
            Self::Look(_) => {
                vec![&PAGE_P50, &PAGE_P99, &COUNT_P99, &FILTER_SECONDS, &PATCH_SECONDS, &P50, &P99]
            }
            Self::Random(_) => vec![&CALLS_PER_SECOND, &CALLS, &P99, &MAX, &UNAVAILABLE, &PEAK_RSS],
            Self::Table(_) | Self::Hello { .. } => Vec::new(),
        }
    }

    /// Whether it makes sense on a server that speaks so: on others than ours, only what is the same there.
    pub(super) fn runs_on(&self, protocol: Protocol) -> bool {
        let How { http, commit, .. } = *self.how();
        let plain = http == Version::One
            && match self {
                Self::Enqueue(flags) => flags.format == Body::Json && flags.flow.is_plain(),
                Self::Drain(flags) => {
                    flags.work.format == Format::Ndjson && flags.flow.is_plain() && flags.parked.is_none()
                }
                Self::Pipeline(flags) => flags.work.format == Format::Ndjson && flags.idle.idle == 0,
                Self::Latency(flags) => flags.work.format == Format::Ndjson && flags.idle.idle == 0,
                _ => false,
            };
        match protocol {
            Protocol::Zizq => true,
            Protocol::Peer(_) => plain,
            Protocol::Hello => self.is_plain_enqueue() && commit != Commit::Fsync,
            Protocol::Disk => self.is_plain_enqueue() && commit != Commit::Buffered,
        }
    }

    fn is_plain_enqueue(&self) -> bool {
        matches!(self, Self::Enqueue(flags) if flags.flow.is_plain())
    }

    /// What its jobs are like.
    pub(super) fn how(&self) -> &How {
        const NONE: &How =
            &How { payload_bytes: None, commit: Commit::Buffered, http: Version::One, enqueue_seconds: 0 };
        match self {
            Self::Enqueue(flags) => &flags.how,
            Self::Drain(flags) => &flags.how,
            Self::Pipeline(flags) => &flags.how,
            Self::Latency(flags) => &flags.how,
            Self::Backlog(flags) => &flags.how,
            Self::Queues(flags) => &flags.how,
            Self::Burst(flags) => &flags.how,
            Self::Churn(flags) => &flags.how,
            Self::Look(flags) => &flags.how,
            Self::Random(_) | Self::Table(_) | Self::Hello { .. } => NONE,
        }
    }

    /// Makes it larger or smaller.
    pub(super) fn scale(&mut self, by: f64) {
        let jobs = |jobs: u32| scaled(jobs, by, 100);
        match self {
            Self::Enqueue(flags) => flags.jobs = Some(jobs(flags.jobs())),
            Self::Drain(flags) => {
                flags.jobs = Some(jobs(flags.jobs()));
                let Parked { parked, parked_on } = &mut flags.parked;
                (*parked, *parked_on) = (scaled(*parked, by, (*parked).min(10)), scaled(*parked_on, by, 1));
            }
            Self::Pipeline(flags) => {
                flags.jobs = jobs(flags.jobs);
                flags.idle.idle = scaled(flags.idle.idle, by, flags.idle.idle.min(5));
            }
            Self::Latency(flags) => {
                flags.jobs = scaled(flags.jobs, by, 20);
                flags.idle.idle = scaled(flags.idle.idle, by, flags.idle.idle.min(5));
            }
            Self::Backlog(flags) => {
                (flags.jobs, flags.step, flags.drain) =
                    (jobs(flags.jobs), jobs(flags.step), jobs(flags.drain));
            }
            Self::Queues(flags) => flags.queues = jobs(flags.queues),
            Self::Burst(flags) => flags.jobs = jobs(flags.jobs),
            Self::Look(flags) => flags.jobs = jobs(flags.jobs),
            Self::Churn(flags) => {
                (flags.seconds, flags.jobs) = (scaled(flags.seconds, by, 1), jobs(flags.jobs));
            }
            Self::Random(_) | Self::Table(_) | Self::Hello { .. } => {}
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn scaled(n: u32, by: f64, least: u32) -> u32 {
    ((f64::from(n) * by) as u32).max(least)
}

impl How {
    /// Bytes of each payload, given or not.
    fn payload_bytes(&self) -> usize {
        self.payload_bytes.unwrap_or(100)
    }

    /// How long a round enqueues.
    fn most(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.enqueue_seconds))
    }
}
