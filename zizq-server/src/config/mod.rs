//! Flags and `ZIZQ_*` environment variables.

mod cert;
mod listen;
mod proxy;
mod shown;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use protocol::access::{CertificateName, Grant, QueuePattern, Role, TokenId};
use protocol::job::Backoff;
use protocol::name::TokenName;
use protocol::unit;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::clock::millis;
use crate::engine::{Settings, recurrence};
use crate::http::guard::{Host, Origin, Prefix};
use crate::http::tls::Tls;
use crate::jq;
use crate::run::commit::{CommitMode, CommitModes};
use crate::store::disk;

#[derive(Debug, Parser)]
#[command(name = "zizq-server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    serve: Config,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve jobs (the default without a subcommand)
    Serve(Box<Config>),
    /// Print who has changed what, the newest last
    Audit(AuditTask),
    /// Show a running server on the terminal: its queues, jobs and workers, the output of jobs; and change them
    Top(Top),
    /// Make, list and end access tokens, over the control socket of a running server
    Token(TokenTask),
    /// Make and show certificates, for TLS and for callers that are known by them
    Cert(CertTask),
    /// Ask a running server whether it is ready; ends with 0 if it is, with 1 if not, and with 2 if it does not answer
    Health(Health),
    /// Evaluate jq expressions; the server starts this itself
    #[command(hide = true)]
    JqHelper {
        /// The memory that an expression may use, in bytes
        memory: u64,
    },
}

impl Cli {
    /// The task that the command line selects.
    fn into_task(self, matches: &ArgMatches) -> Task {
        let with_settings = |mut config: Box<Config>| {
            config.settings = shown::settings(matches);
            Task::Serve(config)
        };
        match self.command {
            Some(Subcommands::Serve(config)) => with_settings(config),
            Some(Subcommands::Health(health)) => Task::Health(health),
            Some(Subcommands::Token(token)) => Task::Token(token),
            Some(Subcommands::Audit(audit)) => Task::Audit(audit),
            Some(Subcommands::Cert(cert)) => Task::Cert(cert),
            Some(Subcommands::Top(top)) => Task::Top(top),
            Some(Subcommands::JqHelper { memory }) => Task::JqHelper { memory },
            None => with_settings(Box::new(self.serve)),
        }
    }
}

pub use cert::{CertCommand, CertTask};
pub use listen::{At, Listen};
pub use proxy::ProxyFlags;
pub use shown::{Setting, Source};

/// The port of a server unless another one is chosen.
pub const DEFAULT_PORT: u16 = 7890;

/// What the program is started for.
#[derive(Debug)]
pub enum Task {
    /// To serve jobs.
    Serve(Box<Config>),
    /// To ask whether a server is ready.
    Health(Health),
    /// To make, list or end access tokens.
    Token(TokenTask),
    /// To print the audit trail.
    Audit(AuditTask),
    /// To make or show certificates.
    Cert(CertTask),
    /// To show a server on the terminal.
    Top(Top),
    /// To evaluate jq expressions for a server.
    JqHelper {
        /// The memory that an expression may use, in bytes.
        memory: u64,
    },
}

/// Where to ask whether a server is ready. It is meant for containers that have no curl.
#[derive(Debug, Args)]
pub struct Health {
    /// The URL of the server; default: from ZIZQ_HOST, ZIZQ_PORT and ZIZQ_TLS_CERT, as the server reads them
    #[arg(long, env = "ZIZQ_URL")]
    pub url: Option<String>,
    /// How long to wait for the answer
    #[arg(long, default_value = "5s", value_parser = unit::duration)]
    pub timeout: Duration,
}

/// Where the control socket of a running server is.
#[derive(Debug, Args)]
pub struct RunningServer {
    /// The folder of the server
    #[arg(long, env = "ZIZQ_ROOT_DIR", default_value = "./zizq-root", global = true)]
    pub root_dir: PathBuf,
    /// The control socket of the server; default: control.sock in its folder
    #[arg(long, env = "ZIZQ_CONTROL_SOCKET", value_name = "PATH", global = true)]
    pub control_socket: Option<PathBuf>,
}

/// What to print of the audit trail.
#[derive(Debug, Args)]
pub struct AuditTask {
    /// The server.
    #[command(flatten)]
    pub server: RunningServer,
    /// How many entries
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub limit: u32,
    /// Print the entries as JSON, one per line
    #[arg(long)]
    pub json: bool,
}

/// Which server to show on the terminal, and how.
#[derive(Debug, Args)]
pub struct Top {
    /// The server.
    #[command(flatten)]
    pub server: RunningServer,
    /// The URL of the server; default: its control socket
    #[arg(long, env = "ZIZQ_SERVER", value_name = "URL", hide_env_values = true)]
    pub url: Option<String>,
    /// Read the access token from this file; ZIZQ_TOKEN is the token itself
    #[arg(long, env = "ZIZQ_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trust only this certificate, and those that it has signed, for the server: a PEM file
    #[arg(long, env = "ZIZQ_SERVER_CA", value_name = "FILE")]
    pub server_ca: Option<PathBuf>,
    /// Show the server this certificate, a PEM file: it may know callers by that instead of an access token
    #[arg(long, env = "ZIZQ_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The private key of --client-cert, a PEM file
    #[arg(long, env = "ZIZQ_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub shown: zizq_top::Flags,
}

/// What to do about access tokens.
#[derive(Debug, Args)]
pub struct TokenTask {
    /// The server.
    #[command(flatten)]
    pub server: RunningServer,
    /// The command.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// A command about access tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an access token, and print it
    Create(CreateToken),
    /// List the access tokens, without their secrets
    List,
    /// Replace the secret of an access token, and print the new one
    Rotate(RotateToken),
    /// Print a link to the dashboard that logs in with an access token, once and within a minute
    Link {
        /// The id, as `list` shows it
        id: TokenId,
        /// The URL of the server as the browser sees it
        #[arg(long, env = "ZIZQ_SERVER", default_value = "http://127.0.0.1:7890", hide_env_values = true)]
        server_url: String,
    },
    /// End an access token at once, with everything that is open with it
    Revoke {
        /// The id, as `list` shows it
        id: TokenId,
    },
}

/// A new access token.
#[derive(Debug, Args)]
pub struct CreateToken {
    /// Whom or what it is for
    pub name: TokenName,
    /// What it may do: admin, operator, viewer, producer or worker
    #[arg(long)]
    pub role: Option<Role>,
    /// The queues in which the role counts: names, or prefixes such as 'mails*'; may be repeated, or a comma-separated
    /// list. Default: all
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub queue: Vec<QueuePattern>,
    /// What it may do besides, such as 'payload' or 'read:mails*': enqueue, work, read, payload, operate, configure, admin;
    /// may be repeated, or a comma-separated list
    #[arg(long, value_name = "GRANT", value_delimiter = ',')]
    pub grant: Vec<Grant>,
    /// The certificate that its owner shows instead of a secret, by a name in it: CN=NAME or URI=spiffe://NAME
    #[arg(long, value_name = "CN=NAME|URI=NAME")]
    pub certificate: Option<CertificateName>,
    /// How long it lasts, such as 90d. Default: until it is revoked
    #[arg(long, value_name = "TIME", value_parser = unit::duration)]
    pub expires: Option<Duration>,
}

/// A new secret of an access token.
#[derive(Debug, Args)]
pub struct RotateToken {
    /// The id, as `list` shows it
    pub id: TokenId,
    /// How long the old one still counts
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = unit::duration)]
    pub overlap: Duration,
}

/// Whether callers are asked who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They are not: whoever reaches the server may do everything.
    Open,
    /// They show an access token.
    Required,
}

/// A job queue: pushes ready jobs to connected workers, and keeps them in an embedded store.
///
/// Write durations as `500ms`, `15s` or `7d`, and sizes as `64KB` or `256MB`.
///
/// With OTEL_EXPORTER_OTLP_ENDPOINT in its environment, the server sends the spans of jobs whose producer sampled their
/// trace to that OpenTelemetry collector; other variables that begin with OTEL_ say how.
#[derive(Debug, Args)]
pub struct Config {
    /// The folder for all data
    #[arg(long, env = "ZIZQ_ROOT_DIR", default_value = "./zizq-root")]
    pub root_dir: PathBuf,
    /// The address to listen on
    #[arg(long, env = "ZIZQ_HOST", default_value = "127.0.0.1", value_parser = host)]
    pub host: String,
    /// The port to listen on; 0 picks a free one
    #[arg(long, env = "ZIZQ_PORT", default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// Listen here, too: HOST:PORT or unix:PATH, and after commas `role=ROLE` (whoever comes in here has that role and need not
    /// say who it is), `only=metrics`, `only=api` or `only=ui`, and `tls=off` for a server with --tls-cert. Such as
    /// `10.0.0.5:7891,role=worker`. May be repeated, or a list with spaces
    #[arg(long, env = "ZIZQ_LISTEN", value_name = "ADDRESS[,...]", value_delimiter = ' ')]
    pub listen: Vec<Listen>,
    #[command(flatten)]
    pub callers: Callers,
    /// Whether there is a dashboard at /ui/
    #[arg(long, env = "ZIZQ_UI", default_value = "on")]
    ui: Switch,
    #[command(flatten)]
    pub tls: Option<Tls>,
    /// The longest silence on a stream; a heartbeat is sent after it
    #[arg(long, env = "ZIZQ_HEARTBEAT_INTERVAL", default_value = "3s", value_parser = pause)]
    pub heartbeat_interval: Duration,
    /// How long a clean shutdown waits for workers to finish
    #[arg(long, env = "ZIZQ_DRAIN_TIMEOUT", default_value = "10s", value_parser = unit::duration)]
    pub drain_timeout: Duration,
    #[command(flatten)]
    jobs: JobDefaults,
    #[command(flatten)]
    commits: Commits,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub filters: FilterLimits,
    #[command(flatten)]
    pub metrics: MetricsFlags,
    /// Start with a damaged folder and keep what can be read. The rest is set aside in `damaged-N` in the folder, with
    /// a list. Use it for one start; without damage it changes nothing
    #[arg(long)]
    pub salvage: bool,
    /// The log level: off, error, warn, info, debug, trace, or a filter such as `info,hyper=debug`
    #[arg(long, env = "ZIZQ_LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: Targets,
    /// The log format; default: pretty on a terminal, json elsewhere
    #[arg(long, env = "ZIZQ_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// All settings, as they were written.
    #[arg(skip)]
    pub settings: Vec<Setting>,
}

/// Who may call the server.
#[derive(Debug, Clone, Args)]
pub struct Callers {
    /// A host name of the server, besides localhost and the --host address, such as `zizq.example.org`; may be
    /// repeated, or a comma-separated list. Requests to any other name are answered 421
    #[arg(long, env = "ZIZQ_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    pub allowed_host: Vec<Host>,
    /// The origin of web pages that may call the server and read its answers, such as `https://app.example.org`; may be
    /// repeated, or a comma-separated list. Pages of other sites are answered 403
    #[arg(long, env = "ZIZQ_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<Origin>,
    /// The path under which a proxy passes calls on without taking it off, such as `/tools/zizq`; calls without it are
    /// answered as well
    #[arg(long, env = "ZIZQ_PATH_PREFIX", value_name = "PATH")]
    pub path_prefix: Option<Prefix>,
    /// Whether callers must show an access token. Default: once there has been one; without any, only this machine is
    /// served
    #[arg(long, env = "ZIZQ_AUTH", value_enum, value_name = "open|required")]
    pub auth: Option<Auth>,
    /// The file of an access token that may do everything: a line of 32 characters or more. It is read at the start and on
    /// SIGHUP. Default: the systemd credential `admin-token`, if there is one
    #[arg(long, env = "ZIZQ_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Show what there is, and change nothing: calls that do are answered 403, also those of workers and producers
    #[arg(long, env = "ZIZQ_READ_ONLY", value_parser = clap::builder::BoolishValueParser::new())]
    pub read_only: bool,
    /// The socket for `zizq-server token` and others who run the server; default: control.sock in --root-dir
    #[arg(long, env = "ZIZQ_CONTROL_SOCKET", value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
}

/// The defaults for jobs that set none.
#[derive(Debug, Args)]
struct JobDefaults {
    /// How often a failed job is retried after its first attempt before it is dead: 25 are 26 attempts in all; 0: never
    #[arg(long, env = "ZIZQ_DEFAULT_RETRY_LIMIT", default_value_t = 25)]
    default_retry_limit: u32,
    /// The constant part of the backoff before a retry
    #[arg(long, env = "ZIZQ_DEFAULT_BACKOFF_BASE", default_value = "15s", value_parser = backoff)]
    default_backoff_base: Duration,
    /// How steeply the backoff grows: attempts^exponent seconds
    #[arg(long, env = "ZIZQ_DEFAULT_BACKOFF_EXPONENT", default_value_t = 4.0, value_parser = exponent)]
    default_backoff_exponent: f32,
    /// The largest random addition to the backoff, per attempt
    #[arg(long, env = "ZIZQ_DEFAULT_BACKOFF_JITTER", default_value = "30s", value_parser = backoff)]
    default_backoff_jitter: Duration,
    /// How long completed jobs are kept
    #[arg(long, env = "ZIZQ_DEFAULT_COMPLETED_JOB_RETENTION", default_value = "0s", value_parser = unit::duration)]
    default_completed_job_retention: Duration,
    /// How long dead jobs are kept
    #[arg(long, env = "ZIZQ_DEFAULT_DEAD_JOB_RETENTION", default_value = "7d", value_parser = unit::duration)]
    default_dead_job_retention: Duration,
    /// The deliveries without an outcome after which a job is dead
    #[arg(long, env = "ZIZQ_MAX_DELIVERIES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_deliveries: u32,
    /// The most jobs in flight over all streams; 0: no limit
    #[arg(long, env = "ZIZQ_GLOBAL_IN_FLIGHT_LIMIT", default_value_t = 0)]
    global_in_flight_limit: usize,
    /// The time zone of cron entries that name none, such as `Europe/Berlin`; default: that of the machine
    #[arg(long, env = "ZIZQ_TIMEZONE", value_parser = recurrence::zone)]
    timezone: Option<TimeZone>,
    /// The most budgets that can exist
    #[arg(long, env = "ZIZQ_MAX_BUDGETS", default_value_t = 8_192)]
    max_budgets: usize,
    /// The longest an attempt may take; default: unlimited
    #[arg(long, env = "ZIZQ_DEFAULT_TIMEOUT", value_parser = timeout)]
    default_timeout: Option<Duration>,
    /// How long an open SSE stream alone renews a lease; after that, only heartbeats do. 0: forever
    #[arg(long, env = "ZIZQ_MAX_STREAM_RENEWAL", default_value = "12h", value_parser = unit::duration)]
    max_stream_renewal: Duration,
}

/// When calls are answered.
#[derive(Debug, Clone, Copy, Args)]
struct Commits {
    /// When calls other than enqueues are answered: once the operating system has the change, or once the disk has it
    #[arg(long, env = "ZIZQ_DEFAULT_COMMIT_MODE", default_value = "buffered")]
    default_commit_mode: CommitMode,
    /// When an enqueue is answered: once the operating system has it, or once the disk has it
    #[arg(long, env = "ZIZQ_ENQUEUE_COMMIT_MODE", default_value = "fsync")]
    enqueue_commit_mode: CommitMode,
}

/// The limits of the server.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limits {
    /// The memory for caching data read from disk
    #[arg(long, env = "ZIZQ_CACHE_SIZE", default_value = "64MB", value_parser = from_to("1MB", "1TiB"))]
    pub cache_size: usize,
    /// The memtable size, for tests that need a smaller one
    #[arg(long, env = "ZIZQ_MEMTABLE_SIZE", value_parser = from_to("64KB", "1GiB"), hide = true)]
    pub memtable_size: Option<usize>,
    /// The most connections at a time; further ones are answered 503. Default: 20,000, or fewer if the limit of open
    /// files is lower
    #[arg(long, env = "ZIZQ_MAX_CONNECTIONS", value_parser = connections)]
    pub max_connections: Option<usize>,
    /// The space to keep free on the disk: with less, no jobs are accepted. Default: 5% of the disk, at most 1GiB
    #[arg(long, env = "ZIZQ_MIN_FREE_DISK", value_parser = from_to("0B", "1PiB"))]
    pub min_free_disk: Option<usize>,
    /// The largest request body
    #[arg(long, env = "ZIZQ_MAX_BODY_SIZE", default_value = "32MiB", value_parser = from_to("1KB", "2GiB"))]
    pub max_body_size: usize,
    /// The largest payload of a job
    #[arg(long, env = "ZIZQ_MAX_PAYLOAD_SIZE", default_value = "1MiB", value_parser = from_to("1KB", "1GiB"))]
    pub max_payload_size: usize,
}

/// The limits of jq expressions.
#[derive(Debug, Clone, Copy, Args)]
pub struct FilterLimits {
    /// The longest that a filter, or the folding of a request, may take beyond the usual time per payload
    #[arg(long, env = "ZIZQ_FILTER_TIMEOUT", default_value = "2s", value_parser = filter_timeout)]
    filter_timeout: Duration,
    /// The memory that a filter, or the folding of a request, may use
    #[arg(long, env = "ZIZQ_FILTER_MEMORY", default_value = "256MB", value_parser = from_to("16MB", "1TiB"))]
    filter_memory: usize,
}

impl FilterLimits {
    /// The limits, as jq takes them.
    #[must_use]
    pub const fn limits(self) -> jq::Limits {
        jq::Limits { time: self.filter_timeout, memory: self.filter_memory }
    }
}

/// What `/metrics` shows of single queues.
#[derive(Debug, Clone, Copy, Args)]
pub struct MetricsFlags {
    /// How many queues have metrics and a history of their own: from when they first have jobs until they have been empty
    /// for an hour. The others are summed up. Each takes about 8 kB of memory and 2 kB of each answer
    #[arg(long, env = "ZIZQ_METRICS_QUEUES", value_name = "N", default_value_t = 1_000, value_parser = queues)]
    pub metrics_queues: usize,
    /// Also show, of each of these queues, how its waiting and run times are distributed, in 16 buckets each. It triples
    /// the size of the answer
    #[arg(long, env = "ZIZQ_METRICS_QUEUE_HISTOGRAMS")]
    pub metrics_queue_histograms: bool,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// The settings of the engine.
    #[must_use]
    pub fn engine(&self) -> Settings {
        let jobs = &self.jobs;
        let short = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
        Settings {
            retry_limit: jobs.default_retry_limit,
            backoff: Backoff {
                base_ms: short(jobs.default_backoff_base),
                exponent: jobs.default_backoff_exponent,
                jitter_ms: short(jobs.default_backoff_jitter),
            },
            completed_ms: millis(jobs.default_completed_job_retention),
            dead_ms: millis(jobs.default_dead_job_retention),
            max_deliveries: jobs.max_deliveries,
            in_flight_limit: jobs.global_in_flight_limit,
            queue_histograms: self.metrics.metrics_queue_histograms,
            max_budgets: jobs.max_budgets,
            timeout_ms: jobs.default_timeout.map(millis),
            stream_renewal_ms: match millis(jobs.max_stream_renewal) {
                0 => u64::MAX,
                ms => ms,
            },
        }
    }

    /// The time zone of cron entries that name none.
    #[must_use]
    pub fn timezone(&self) -> TimeZone {
        self.jobs.timezone.clone().unwrap_or_else(TimeZone::system)
    }

    /// Whether there is a dashboard.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        self.ui == Switch::On
    }

    /// The commit modes of the engine.
    #[must_use]
    pub const fn commit_modes(&self) -> CommitModes {
        CommitModes { enqueue: self.commits.enqueue_commit_mode, others: self.commits.default_commit_mode }
    }

    /// The log format: as configured, or by whether standard error is a terminal.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        let fitting = if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json };
        self.log_format.unwrap_or(fitting)
    }
}

/// Parses a host without a port; an IPv6 address may have brackets.
fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() {
        return Err("it is empty; write 127.0.0.1, or 0.0.0.0 for every network".to_owned());
    }
    if bare.parse::<Ipv6Addr>().is_err() && bare.contains(['/', ':']) {
        return Err(
            "expected only a name or an address, such as 0.0.0.0; set the port with --port".to_owned()
        );
    }
    Ok(bare.to_owned())
}

/// Parses a level, or levels per part of the program. The default level of the rest is `info`.
fn log_filter(text: &str) -> Result<Targets, String> {
    let level = |text: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let known = levels.contains(&text.to_ascii_lowercase().as_str());
        known.then(|| text.parse::<LevelFilter>().ok()).flatten().ok_or_else(|| {
            let levels = levels.join(", ");
            format!("`{text}` is not a level; use {levels}, or a filter such as info,hyper=debug")
        })
    };
    let (mut rest, mut parts) = (LevelFilter::INFO, Vec::new());
    for part in text.split(',') {
        match part.split_once('=') {
            None => rest = level(part)?,
            Some((target, _)) if target.trim() != target || target.is_empty() => {
                return Err(format!(
                    "`{part}` names no part of the program before `=`; write it like hyper=debug"
                ));
            }
            Some((target, one)) => parts.push((target, level(one)?)),
        }
    }
    // Messages about the log itself are always shown.
    let mut filter =
        Targets::new().with_default(rest).with_target(zizq_log::TARGET, rest.min(LevelFilter::WARN));
    if rest <= LevelFilter::INFO {
        // At `info` the store logs its internals, and a folder in use, which the server reports better.
        let quiet = rest.min(LevelFilter::WARN);
        filter = filter.with_targets(disk::LOG_TARGETS.map(|target| (target, quiet)));
        filter = filter.with_target(disk::LOG_TARGET_OF_LOCK, LevelFilter::OFF);
    }
    Ok(filter.with_targets(parts))
}

/// Parses a backoff, which a job's record keeps as milliseconds in 32 bits.
fn backoff(text: &str) -> Result<Duration, String> {
    match unit::duration(text)? {
        pause if pause.as_millis() <= u32::MAX.into() => Ok(pause),
        _ => Err("it must be at most 49 days".to_owned()),
    }
}

fn filter_timeout(text: &str) -> Result<Duration, String> {
    match unit::duration(text)? {
        time if (Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&time) => Ok(time),
        _ => Err("it must be between 10ms and 1h".to_owned()),
    }
}

/// Parses a size within a range.
fn from_to(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let size = unit::size(text)?;
        if !(unit::size(least)?..=unit::size(most)?).contains(&size) {
            return Err(format!("it must be between {least} and {most}"));
        }
        usize::try_from(size).map_err(|_| "it is too large for this machine".to_owned())
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match unit::duration(text)? {
        Duration::ZERO => Err("it would leave no time to run; leave it out for no timeout".to_owned()),
        timeout => Ok(timeout),
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let pause = unit::duration(text)?;
    if (Duration::from_millis(10)..=Duration::from_secs(15)).contains(&pause) {
        Ok(pause)
    } else {
        Err("it must be between 10ms and 15s, or clients take the silence for a dead connection".to_owned())
    }
}

fn exponent(text: &str) -> Result<f32, String> {
    let exponent = f32::from_str(text).map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=100.0).contains(&exponent) {
        Ok(exponent)
    } else {
        Err("it must be between 0 and 100".to_owned())
    }
}

fn queues(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 0..=10_000) => Ok(n),
        _ => Err("it must be a number from 0 to 10000".to_owned()),
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000) => Ok(n),
        _ => Err("it must be a number from 1 to 1000000".to_owned()),
    }
}
