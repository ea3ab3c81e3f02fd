//! Routes: which jobs this worker takes, and the command or endpoint for each.

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
pub(crate) use self::map::{RouteMap, Stream};
use crate::outcome::Rules;
use crate::template::{Script, Template};
use crate::trust::Identity;

/// The name of a route, unique in a worker.
pub(crate) type RouteName = Arc<str>;

/// A set of jobs, and how to run each of them.
#[derive(Debug)]
pub struct Route {
    /// The name in messages.
    pub(crate) name: RouteName,
    /// The queues of its jobs.
    pub(crate) queues: Vec<QueueName>,
    /// The types of its jobs; empty: every type that has no route of its own.
    pub(crate) types: Vec<JobType>,
    /// The maximum number of jobs that run at a time.
    pub(crate) concurrency: NonZeroU16,
    /// How the spans of its attempts lie in the traces of their jobs.
    pub(crate) trace: Tracing,
    /// How long a job may run.
    pub(crate) timeout: Option<Duration>,
    /// How each way to end is judged.
    pub(crate) rules: Rules,
    /// The command or the endpoint.
    pub(crate) target: Target,
    /// The file and line that define it, if a file does.
    pub(crate) place: Option<String>,
    /// Warnings, in sentences.
    pub(crate) doubts: Vec<String>,
}

/// How a route runs its jobs.
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
    /// How long processes that it started may outlive it.
    pub(crate) linger: Duration,
    /// How long it has between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) inherit: Inherit,
    pub(crate) env: BTreeMap<String, Template>,
    pub(crate) user: Option<User>,
    pub(crate) limits: Limits,
}

/// The program of a command.
#[derive(Debug)]
pub(crate) enum Run {
    /// A line for `sh -c`.
    Shell(Script),
    /// A program and its arguments.
    Program(Vec<Template>),
}

/// How the span of an attempt lies in the trace of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tracing {
    /// Below what enqueued the job.
    #[default]
    Child,
    /// In a trace of its own that links to what enqueued the job: for queues so long that one trace would span days.
    Link,
}

/// How a command gets the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayloadTo {
    /// On its standard input.
    #[default]
    Stdin,
    /// In a file named by `ZIZQ_PAYLOAD_FILE`, deleted when the command ends.
    File,
    /// Not at all, except through placeholders.
    None,
}

/// The variables of the worker's environment that a command inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Inherit {
    #[default]
    All,
    None,
    Only(Vec<String>),
}

/// The user that a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The name and home directory of the account, if there is one.
    pub(crate) account: Option<(String, String)>,
}

/// The limits of a command; `None`: those of the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory: of all its processes together in a cgroup, otherwise of address space per process.
    pub(crate) memory: Option<u64>,
    /// Seconds of CPU time per process.
    pub(crate) cpu_seconds: Option<u64>,
    /// Processes and threads: its own in a cgroup, otherwise all of the user.
    pub(crate) processes: Option<u64>,
    /// Open files per process.
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
    /// The body, if it is not the payload.
    pub(crate) body: Option<Template>,
    pub(crate) cloud_events: bool,
    /// The keys for signing (Standard Webhooks), the newest first.
    pub(crate) secrets: Vec<Vec<u8>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) first_byte_timeout: Option<Duration>,
    pub(crate) max_connections_per_host: Option<NonZeroU16>,
    pub(crate) private_addresses: bool,
    /// Certificates to trust in addition to the system's.
    pub(crate) ca: Vec<CertificateDer<'static>>,
    /// The client certificate and its key.
    pub(crate) identity: Option<Identity>,
    /// The fixed part of the URL, which decides about proxy and certificates.
    pub(crate) base: Option<Url>,
}

impl Route {
    /// How long its commands have between SIGTERM and SIGKILL.
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
