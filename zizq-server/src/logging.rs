//! The server's log, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use zizq_log::Log;

use crate::config::{Config, LogFormat};

/// Starts logging. Code that logs never waits for the log's reader; the returned value writes the last lines at exit.
#[must_use]
pub fn init(config: &Config) -> Log {
    let log = Log::start(io::stderr());
    let layer = layer().with_writer(log.clone());
    let layer = match config.log_format() {
        LogFormat::Pretty => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(config.log_level.clone().and(log.few(&[])))).init();
    log.take_panics();
    log
}
