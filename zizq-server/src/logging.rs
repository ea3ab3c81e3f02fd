//! The log: what the server has to say, on standard error.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};
use zizq_log::{Log, log_panics};

use crate::config::{Config, LogFormat};

/// Starts logging. Nobody who logs waits for whoever reads it; what is given back writes the last lines at the end.
///
/// # Errors
/// Where the level is none.
pub fn init(config: &Config) -> anyhow::Result<Log> {
    // The store speaks of its own workings at `info`, and of a folder in use, which we say better.
    let quiet = "fjall=warn,lsm_tree=warn,fjall::locked_file=off";
    let filter = match config.log_level.as_str() {
        level @ ("info" | "warn" | "error") => format!("{level},zizq_log=warn,{quiet}"),
        filter => format!("zizq_log=warn,{filter}"),
    };
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log-level: `{}` is no level and no filter", config.log_level))?;
    let log = Log::start(io::stderr());
    let layer = layer().with_writer(log.clone());
    let layer = match config.log_format() {
        LogFormat::Pretty => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter.and(log.few(&[])))).init();
    log_panics();
    Ok(log)
}
