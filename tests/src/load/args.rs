//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

use super::requests::MIN_PAYLOAD_BYTES;

/// Puts load on a server that speaks the Zizq contract, measures it, and checks that every job was delivered exactly
/// once. Ends with status 1 when a check failed.
#[derive(Debug, Parser)]
#[command(name = "zizq-load", version)]
pub struct Args {
    /// What every mode takes.
    #[command(flatten)]
    pub common: Common,
    /// What to measure.
    #[command(subcommand)]
    pub mode: Mode,
}

/// What every mode takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The server, such as http://127.0.0.1:7890; without it, every round starts a zizq-server of its own in a
    /// temporary folder
    #[arg(long, global = true)]
    pub url: Option<String>,
    /// The process id of the server at --url, to measure its CPU time and memory
    #[arg(long, global = true, requires = "url")]
    pub pid: Option<u32>,
    /// A flag for the server that is started, such as --server-arg=--enqueue-commit-mode=buffered; repeatable
    #[arg(long, global = true, value_name = "FLAG", allow_hyphen_values = true, conflicts_with = "url")]
    pub server_arg: Vec<String>,
    /// How often to measure
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Bytes of each payload
    #[arg(long, global = true, default_value_t = 100, value_parser = payload_bytes)]
    pub payload_bytes: usize,
    /// One JSON object per line instead of the table
    #[arg(long, global = true)]
    pub json: bool,
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes >= MIN_PAYLOAD_BYTES => Ok(bytes),
        Ok(_) => Err(format!("a payload needs {MIN_PAYLOAD_BYTES} bytes to be checked")),
        Err(e) => Err(format!("{e}")),
    }
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Jobs per second accepted from producers
    Enqueue(Enqueue),
    /// Jobs per second through workers, from the first delivery to the last ack, out of a queue that was filled before
    Drain(Drain),
    /// Time from before POST /jobs to arrival at a waiting worker, on an idle server
    Latency(Latency),
}

impl Mode {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Enqueue(_) => "enqueue",
            Self::Drain(_) => "drain",
            Self::Latency(_) => "latency",
        }
    }
}

/// See [`Mode::Enqueue`].
#[derive(Debug, clap::Args)]
pub struct Enqueue {
    /// Jobs per request; 1 uses POST /jobs instead of POST /jobs/bulk
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub bulk: u32,
    /// Keep-alive connections, each with one request at a time [default: 2, or 64 with --bulk 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,
    /// Jobs per round [default: 1,000,000, or 300,000 with --bulk 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
}

impl Enqueue {
    /// The connections, given or not.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.unwrap_or(if self.bulk == 1 { 64 } else { 2 })
    }

    /// The jobs, given or not.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.jobs.unwrap_or(if self.bulk == 1 { 300_000 } else { 1_000_000 })
    }
}

/// See [`Mode::Drain`].
#[derive(Debug, clap::Args)]
pub struct Drain {
    /// Workers, each with a stream
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
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
    /// Jobs per round [default: 1,000,000, or 300,000 with --ack single]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
}

impl Drain {
    /// The connections, given or not.
    #[must_use]
    pub fn ack_connections(&self) -> u32 {
        self.ack_connections.unwrap_or(if self.ack == Ack::Single { 8 } else { 1 })
    }

    /// The jobs, given or not.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.jobs.unwrap_or(if self.ack == Ack::Single { 300_000 } else { 1_000_000 })
    }
}

/// See [`Mode::Latency`].
#[derive(Debug, clap::Args)]
pub struct Latency {
    /// Jobs per round
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Milliseconds from one POST to the next
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub every_ms: u64,
    /// Format of the stream
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,
}

/// A stream format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON text per line
    Ndjson,
    /// Length-prefixed MessagePack
    Msgpack,
    /// Server-sent events
    Sse,
}

/// How outcomes are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// POST /jobs/success
    Bulk,
    /// POST /jobs/{id}/success
    Single,
}
