//! The log on standard error: what the worker does, and every line that its jobs print.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};
use zizq_log::Log;

/// The target of the output of jobs.
pub(crate) const JOB_OUTPUT: &str = "job";
/// The target of successes: one line each, while people can keep up.
pub(crate) const SUCCESS: &str = "success";

/// Whether the log is for people: then the message is complete, and members that repeat it are left out.
pub(crate) fn is_for_people() -> bool {
    FOR_PEOPLE.load(Ordering::Relaxed)
}

static FOR_PEOPLE: AtomicBool = AtomicBool::new(false);

/// The least important messages to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Problems that need a person.
    Error,
    /// Also failed jobs and lost connections.
    Warn,
    /// Also successful jobs and the output of jobs.
    #[default]
    Info,
    /// Also every step.
    Debug,
    /// Also messages of the libraries.
    Trace,
}

/// How to write the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Starts the log. Logging never waits for the reader; the returned value writes the last lines at the end.
pub fn init(level: LogLevel, format: Option<LogFormat>) -> Log {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    FOR_PEOPLE.store(format == LogFormat::Pretty, Ordering::Relaxed);
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let targets = Targets::new()
        .with_default(others)
        .with_target("zizq_worker", level)
        .with_target(JOB_OUTPUT, level)
        .with_target(SUCCESS, level)
        .with_target(zizq_log::TARGET, LevelFilter::WARN);
    let log = Log::start(crate::screen::stderr());
    let layer = fmt::layer().with_writer(log.clone());
    let layer = match format {
        LogFormat::Pretty => layer.with_ansi(terminal).with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let few = log.few(&[JOB_OUTPUT, SUCCESS]);
    tracing_subscriber::registry().with(layer.with_filter(targets.and(few))).init();
    log.take_panics();
    log
}

/// How many characters of a job's message are logged.
const MAX_MESSAGE: usize = 1_000;

/// The start of a message, in one line.
pub(crate) fn one_line(message: &str) -> String {
    let mut chars = message.trim().chars();
    let mut line: String =
        chars.by_ref().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}
