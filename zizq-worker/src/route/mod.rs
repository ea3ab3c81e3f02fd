//! Which jobs this worker takes, and what it does with them.

mod flags;
mod map;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::name::{JobType, QueueName};
use reqwest::{Method, Url};
use rustls::pki_types::CertificateDer;

pub use self::flags::{ConcurrencyFlag, RouteFlag};
pub(crate) use self::flags::{http_url, without_password};
pub(crate) use self::map::{RouteMap, Stream};
use crate::outcome::Rules;
use crate::template::{Script, Template};
use crate::trust::Identity;

/// The name of a route, unique in a worker.
pub(crate) type RouteName = Arc<str>;

/// Some jobs, and what is done with each.
#[derive(Debug)]
pub struct Route {
    /// What messages call it.
    pub(crate) name: RouteName,
    /// The queues its jobs come from.
    pub(crate) queues: Vec<QueueName>,
    /// The types of its jobs; none: every type that no other route has.
    pub(crate) types: Vec<JobType>,
    /// How many jobs may run at a time.
    pub(crate) concurrency: NonZeroU16,
    /// How long a job may run.
    pub(crate) timeout: Option<Duration>,
    /// What follows from what happened.
    pub(crate) rules: Rules,
    /// What to do with a job.
    pub(crate) target: Target,
    /// Where it was written down, if that was in a file: the file and the line.
    pub(crate) place: Option<String>,
    /// What is right and may not be meant, in sentences.
    pub(crate) doubts: Vec<String>,
}

/// What is done with a job.
#[derive(Debug)]
pub(crate) enum Target {
    Command(CommandSpec),
    Http(HttpSpec),
}

/// A command to run.
#[derive(Debug)]
pub(crate) struct CommandSpec {
    pub(crate) run: Run,
    pub(crate) payload: PayloadTo,
    /// How long what it has started may go on after it.
    pub(crate) linger: Duration,
    /// How long it has between TERM and KILL.
    pub(crate) grace: Duration,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) inherit: Inherit,
    pub(crate) env: BTreeMap<String, Template>,
    pub(crate) user: Option<User>,
    pub(crate) limits: Limits,
}

/// What is run.
#[derive(Debug)]
pub(crate) enum Run {
    /// A line for `sh -c`.
    Shell(Script),
    /// A program and its arguments.
    Program(Vec<Template>),
}

/// How a command gets the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayloadTo {
    /// On its standard input.
    #[default]
    Stdin,
    /// In a file that `ZIZQ_PAYLOAD_FILE` names, gone when the command has ended.
    File,
    /// By placeholders alone.
    None,
}

/// Which variables of the worker's own environment a command gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Inherit {
    #[default]
    All,
    None,
    Only(Vec<String>),
}

/// Whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The name and the home of the account, where it has one.
    pub(crate) account: Option<(String, String)>,
}

/// What a command may use; absent: what the worker may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory: of all its processes together where it has a cgroup, otherwise of address space of one process.
    pub(crate) memory: Option<u64>,
    /// Seconds of CPU time of one process.
    pub(crate) cpu_seconds: Option<u64>,
    /// Processes and threads: its own where it has a cgroup, otherwise all of the user.
    pub(crate) processes: Option<u64>,
    /// Open files of one process.
    pub(crate) files: Option<u64>,
    /// Niceness to add.
    pub(crate) nice: Option<i32>,
}

/// An endpoint to call.
#[derive(Debug)]
pub(crate) struct HttpSpec {
    pub(crate) url: Template,
    pub(crate) method: Method,
    pub(crate) headers: BTreeMap<String, Template>,
    /// Another body than the payload.
    pub(crate) body: Option<Template>,
    pub(crate) cloud_events: bool,
    /// Keys of Standard Webhooks, the newest first.
    pub(crate) secrets: Vec<Vec<u8>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) first_byte_timeout: Option<Duration>,
    pub(crate) max_connections_per_host: Option<NonZeroU16>,
    pub(crate) private_addresses: bool,
    /// Authorities and certificates to believe beside the known ones.
    pub(crate) ca: Vec<CertificateDer<'static>>,
    /// A certificate and its key, to show to the endpoint.
    pub(crate) identity: Option<Identity>,
    /// Where it is, as far as that is fixed: for proxies and certificates.
    pub(crate) base: Option<Url>,
}

impl Route {
    /// How long its commands have between TERM and KILL.
    pub(crate) const fn grace(&self) -> Option<Duration> {
        match &self.target {
            Target::Command(spec) => Some(spec.grace),
            Target::Http(_) => None,
        }
    }
}

impl Limits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
