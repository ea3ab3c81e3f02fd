//! The program: flags in, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tokio::sync::watch;
use zizq_worker::args::Args;
use zizq_worker::config::Config;
use zizq_worker::shutdown::Phase;
use zizq_worker::{logging, shutdown};

fn main() -> ExitCode {
    let args = Args::parse();
    let (level, format) = (args.log_level, args.log_format);
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(e) => Args::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    logging::init(level, format);
    match work(config) {
        Ok(code) => code,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(config: Config) -> anyhow::Result<ExitCode> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (phase_in, phase) = watch::channel(Phase::Work);
        let signals = tokio::spawn(shutdown::follow_signals(phase_in)?);
        let ended = zizq_worker::run(config, phase).await;
        signals.abort();
        ended
    })?;
    // Only a name lookup could still be going on, on a thread of its own.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(if ended.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
