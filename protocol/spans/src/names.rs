//! The names of attributes.
//!
//! Those of messaging systems and of processes are not stable yet in OpenTelemetry's semantic conventions. They are here as in
//! version 1.42 and change only on purpose: `protocol/docs/TRACING.md` lists them.

/// Of every span: [`SYSTEM_ZIZQ`].
pub const SYSTEM: &str = "messaging.system";
/// The value of [`SYSTEM`].
pub const SYSTEM_ZIZQ: &str = "zizq";
/// What is done: `enqueue`, `wait` or `process`.
pub const OPERATION: &str = "messaging.operation.name";
/// The kind of operation, one of the values of the conventions.
pub const OPERATION_TYPE: &str = "messaging.operation.type";
/// The queue.
pub const QUEUE: &str = "messaging.destination.name";
/// The id of the job.
pub const JOB_ID: &str = "messaging.message.id";
/// How many jobs a call brings.
pub const JOBS: &str = "messaging.batch.message_count";
/// The type of the job.
pub const JOB_TYPE: &str = "zizq.job.type";
/// Which attempt it is, counted from 1.
pub const ATTEMPT: &str = "zizq.job.attempt";
/// Which delivery it is, counted from 1.
pub const DELIVERY: &str = "zizq.job.delivery";
/// How many of the jobs of a call were duplicates or were folded into others, if any.
pub const NOT_NEW: &str = "zizq.jobs.not_new";
/// The code that a command exited with.
pub const EXIT_CODE: &str = "process.exit.code";
/// The signal that ended a command, such as `signal 9 (SIGKILL)`.
pub const SIGNAL: &str = "zizq.process.signal";
/// The method of a call.
pub const METHOD: &str = "http.request.method";
/// The path of a call.
pub const ROUTE: &str = "http.route";
/// Whether the call had been carried out before, by its `Idempotency-Key`.
pub const REPEATED: &str = "zizq.repeated";
/// The status of a refusal, or the one that an endpoint answered with.
pub const STATUS: &str = "http.response.status_code";
/// What became of the attempt: `success`, `failure`, `release` or `stopped`.
pub const OUTCOME: &str = "zizq.job.outcome";
/// The kind of error.
pub const ERROR_TYPE: &str = "error.type";
