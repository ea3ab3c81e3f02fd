//! The command line: what each mode takes.

use clap::{Args, Subcommand, ValueEnum};

use crate::load::args::{Ack, Format, How};
use crate::load::body::Body;
use crate::load::http::Version;
use crate::load::modes::flow::{Flow, Parked};
use crate::load::worker::Plan;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum Mode {
    /// The standard table: every scenario of a list, each one a command line of this tool
    Table(Table),
    /// Jobs per second accepted from producers
    Enqueue(Enqueue),
    /// Jobs per second through workers, from the first delivery to the last ack, out of a queue that was filled before
    Drain(Drain),
    /// Jobs per second through producers and workers at once
    Pipeline(Pipeline),
    /// Time from before POST /jobs to arrival at a waiting worker, on a server that does nothing else
    Latency(Latency),
    /// A long backlog: rate, memory and disk on the way, a drain out of it, and restarts
    Backlog(Backlog),
    /// Many queues with a job each: rate, memory, the latency of another queue, a restart, and a drain of them all
    Queues(Queues),
    /// Many scheduled jobs that are due at once, and the latency of another queue meanwhile
    Burst(Burst),
    /// Producers and workers at full speed for a given time: rates, memory and disk on the way
    Churn(Churn),
    /// Pages, counts, jq filters and a change of many among a lot of jobs, and the latency of another queue meanwhile
    Look(Look),
    /// Random calls over all routes, good and bad ones, of which each must be answered in time and as it should be
    Random(Random),
    /// An HTTP server that does nothing, to be measured as a bound
    #[command(hide = true)]
    Hello {
        /// Where to listen.
        port: u16,
    },
}

/// See [`Mode::Table`].
#[derive(Debug, Clone, Args)]
pub struct Table {
    /// Only scenarios whose name contains this; repeatable
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// More or fewer jobs, streams and seconds than the standard, such as 0.1
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// Print the command line of each scenario instead of running it
    #[arg(long)]
    pub list: bool,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if scale > 0.0 && scale <= 1_000.0 => Ok(scale),
        _ => Err("a scale is a number above 0".to_owned()),
    }
}

/// See [`Mode::Enqueue`].
#[derive(Debug, Clone, Args)]
pub struct Enqueue {
    /// Jobs per request; 1 uses POST /jobs instead of POST /jobs/bulk
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub bulk: u32,
    /// Connections [default: 2, or with --bulk 1: 64, or 4 with --http 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,
    /// Requests at a time on each connection of HTTP/2 [default: 1, or 16 with --bulk 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: Option<u32>,
    /// Format of the bodies
    #[arg(long, value_enum, default_value_t = Body::Json)]
    pub format: Body,
    /// Jobs per round [default: 1,000,000, or 300,000 with --bulk 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// What they ask for.
    #[command(flatten)]
    pub flow: Flow,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

impl Enqueue {
    /// The connections, given or not.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.unwrap_or(match (self.bulk, self.how.http) {
            (1, Version::One) => 64,
            (1, Version::Two) => 4,
            _ => 2,
        })
    }

    /// The requests at a time, given or not.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.unwrap_or(if self.bulk == 1 { 16 } else { 1 })
    }
}

/// See [`Mode::Drain`].
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// Workers, each with a stream
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// How they work.
    #[command(flatten)]
    pub work: Work,
    /// Jobs per round [default: 1,000,000, or 300,000 with --ack single]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// What they ask for.
    #[command(flatten)]
    pub flow: Flow,
    /// What is in their way.
    #[command(flatten)]
    pub parked: Parked,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// How workers work.
#[derive(Debug, Clone, Copy, Args)]
pub struct Work {
    /// Jobs in flight per worker
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub prefetch: u32,
    /// Format of the streams
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,
    /// How outcomes are reported: all that have gathered in one request, or one per request
    #[arg(long, value_enum, default_value_t = Ack::Bulk)]
    pub ack: Ack,
    /// Connections for acks per worker, each with one request at a time [default: 1, or 8 with --ack single]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub ack_connections: Option<u32>,
}

impl Work {
    pub(in crate::load) fn plan(&self) -> Plan {
        let ack_connections = self.ack_connections.unwrap_or(if self.ack == Ack::Single { 8 } else { 1 });
        Plan { format: self.format, prefetch: self.prefetch, ack: self.ack, ack_connections }
    }
}

/// See [`Mode::Pipeline`].
#[derive(Debug, Clone, Args)]
pub struct Pipeline {
    /// Producers, each with a connection
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub producers: u32,
    /// Jobs per request
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub bulk: u32,
    /// Workers, each with a stream
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// How they work.
    #[command(flatten)]
    pub work: Work,
    /// Who else is there.
    #[command(flatten)]
    pub idle: Idle,
    /// Jobs per round
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// See [`Mode::Latency`].
#[derive(Debug, Clone, Args)]
pub struct Latency {
    /// Jobs per round
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Milliseconds from one POST to the next
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub every_ms: u64,
    /// How the worker works.
    #[command(flatten)]
    pub work: Work,
    /// Who else is there.
    #[command(flatten)]
    pub idle: Idle,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// Streams that wait.
#[derive(Debug, Clone, Copy, Args)]
pub struct Idle {
    /// Streams that are open besides
    #[arg(long, default_value_t = 0)]
    pub idle: u32,
    /// What they wait for
    #[arg(long, value_enum, default_value_t = On::Other)]
    pub idle_on: On,
}

/// What idle streams wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// Jobs of queues that have none
    Other,
    /// The same jobs as the workers that are measured
    Same,
}

/// See [`Mode::Backlog`].
#[derive(Debug, Clone, Args)]
pub struct Backlog {
    /// Jobs that wait in the end
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(10..))]
    pub jobs: u32,
    /// Jobs from one sample to the next
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub step: u32,
    /// Jobs to drain out of it
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub drain: u32,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// See [`Mode::Queues`].
#[derive(Debug, Clone, Args)]
pub struct Queues {
    /// How many
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub queues: u32,
    /// All the jobs draw on one budget, which allows so many at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub at_a_time: Option<u32>,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// See [`Mode::Look`].
#[derive(Debug, Clone, Args)]
pub struct Look {
    /// Jobs that wait in one queue; a tenth as many, up to 100,000, wait in another to be changed
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10..))]
    pub jobs: u32,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// See [`Mode::Random`].
#[derive(Debug, Clone, Args)]
pub struct Random {
    /// The most calls
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub calls: u64,
    /// The longest time, where that is over first
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Connections: every other one speaks HTTP/2, with four calls at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// The same calls again, as far as answers do not differ; printed by each round
    #[arg(long)]
    pub seed: Option<u64>,
    /// The most memory the server may take, in MiB
    #[arg(long, default_value_t = 512)]
    pub most_mib: u64,
}

/// See [`Mode::Burst`].
#[derive(Debug, Clone, Args)]
pub struct Burst {
    /// Jobs that are due at once
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// When they are due, in seconds from the start [default: 5, and one more for every 100,000 jobs]
    #[arg(long)]
    pub due_in: Option<u32>,
    /// Workers that wait for them; with 0 some come once all the jobs are ready
    #[arg(long, default_value_t = 4)]
    pub workers: u32,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

/// See [`Mode::Churn`].
#[derive(Debug, Clone, Args)]
pub struct Churn {
    /// How long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// The most jobs, where that comes first
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true, value_parser = clap::value_parser!(u32).range(10..))]
    pub jobs: u32,
    /// Finished jobs are kept by the server for a day
    #[arg(long)]
    pub keep: bool,
    /// What the jobs are like.
    #[command(flatten)]
    pub how: How,
}

impl Enqueue {
    /// The jobs, given or not.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.jobs.unwrap_or(if self.bulk == 1 { 300_000 } else { 1_000_000 })
    }
}

impl Drain {
    /// The jobs, given or not.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.jobs.unwrap_or(if self.work.ack == Ack::Single { 300_000 } else { 1_000_000 })
    }
}
