//! The command line: what every mode takes. `modes::args` has the rest.

use clap::{Parser, ValueEnum};

use super::body::Body;
use super::contender::Contender;
use super::http::Version;
pub use super::modes::args::Mode;
use super::template::MIN_PAYLOAD_BYTES;

/// Puts load on a server that speaks the Zizq contract, measures it, and checks that every job was delivered exactly
/// once. Ends with status 1 when a check failed.
#[derive(Debug, Parser)]
#[command(name = "zizq-load", version)]
pub struct Args {
    /// Whom to measure, and how to say it.
    #[command(flatten)]
    pub common: Common,
    /// What to measure.
    #[command(subcommand)]
    pub mode: Mode,
}

/// Whom to measure, and how to say it.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The server, such as http://127.0.0.1:7890; without it, every round starts a zizq-server of its own in a
    /// temporary folder
    #[arg(long, global = true)]
    pub url: Option<String>,
    /// The process id of the server at --url, to measure its CPU time and memory
    #[arg(long, global = true, requires = "url")]
    pub pid: Option<u32>,
    /// A flag for the server that is started, such as --server-arg=--cache-size=8MB; repeatable
    #[arg(long, global = true, value_name = "FLAG", allow_hyphen_values = true, conflicts_with = "url")]
    pub server_arg: Vec<String>,
    /// Send the access token in this file with every request, to everybody; servers without --auth required ignore it
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<std::path::PathBuf>,
    /// Whom to measure beside it, in turn; repeatable: beanstalkd, redis, hello (an HTTP server that does nothing), disk
    /// (a file that is appended to and synced), a URL, the path of another zizq-server with its flags, or a command with
    /// {port} and {dir} in it that starts a server which speaks the contract
    #[arg(long, visible_alias = "peer", global = true, value_name = "WHAT")]
    pub vs: Vec<Contender>,
    /// How often to measure
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// One JSON object per line instead of the table
    #[arg(long, global = true, conflicts_with = "markdown")]
    pub json: bool,
    /// A table in Markdown at the end instead
    #[arg(long, global = true)]
    pub markdown: bool,
}

/// What the jobs are like and how they travel.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// Bytes of each payload [default: 100, or 200 in a backlog]
    #[arg(long, value_parser = payload_bytes)]
    pub payload_bytes: Option<usize>,
    /// When servers that we start answer: once the operating system has it, or once the disk has it. `default` leaves it
    /// to each
    #[arg(long, value_enum, default_value_t = Commit::Buffered)]
    pub commit: Commit,
    /// Version of HTTP
    #[arg(long, value_enum, default_value_t = Version::One)]
    pub http: Version,
    /// Seconds after which enqueue, drain and pipeline enqueue no more and go on with what there is: some servers are slow
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub enqueue_seconds: u64,
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes >= MIN_PAYLOAD_BYTES => Ok(bytes),
        Ok(_) => Err(format!("a payload needs {MIN_PAYLOAD_BYTES} bytes to be checked")),
        Err(e) => Err(format!("{e}")),
    }
}

/// When an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Commit {
    /// Once the operating system has it
    Buffered,
    /// Once the disk has it
    Fsync,
    /// As the server does it by itself
    Default,
}

/// A stream format. Acks are in JSON, with `Msgpack` in MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON text per line
    Ndjson,
    /// Length-prefixed MessagePack
    Msgpack,
    /// Server-sent events
    Sse,
}

impl Format {
    /// What goes with it.
    pub(super) const fn body(self) -> Body {
        match self {
            Self::Msgpack => Body::Msgpack,
            Self::Ndjson | Self::Sse => Body::Json,
        }
    }
}

/// How outcomes are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// POST /jobs/success
    Bulk,
    /// POST /jobs/{id}/success
    Single,
}
