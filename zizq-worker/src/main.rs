//! The program: flags in, exit code out.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tokio::sync::watch;
use zizq_worker::args::{Args, CheckFlags, Command};
use zizq_worker::config::{Config, ConfigError, SAMPLE};
use zizq_worker::exec::{Processes, guard, launch};
use zizq_worker::flags::Flags;
use zizq_worker::logging::LogFormat;
use zizq_worker::shutdown::Phase;
use zizq_worker::{cli, ctl, live, logging, shutdown};

fn main() -> ExitCode {
    let Args { command, flags } = Args::try_parse().unwrap_or_else(|e| {
        ctl::misused(&e);
        e.exit()
    });
    let done = match command {
        None => return start(flags),
        Some(Command::Cli(command)) => return command.run(),
        Some(Command::Check(flags)) => return check(&flags),
        Some(Command::Init { path }) => init(&path),
        Some(Command::Ctl(said)) => said.run(),
        Some(Command::Guard { mark, cgroups }) => return guard_others(&mark, cgroups.as_deref()),
        Some(Command::ExecChild(args)) => {
            let Err(e) = launch::run(args);
            say(io::stderr(), &format!("zizq-worker: {e}\n"));
            return ExitCode::from(launch::CANNOT_LAUNCH);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(io::stderr(), &format!("error: {e}\n"));
            ExitCode::from(2)
        }
    }
}

/// Writes as far as it can: without a reader there is nothing to be done.
fn say(mut to: impl io::Write, text: &str) {
    drop(to.write_all(text.as_bytes()));
}

/// Prints the requested output to the standard output, and reports when that fails.
fn answer(text: &str) -> Result<(), String> {
    let mut to = io::stdout();
    let said = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    said.map_err(|e| format!("cannot write to the standard output: {e}"))
}

fn start(flags: Flags) -> ExitCode {
    let config = match Config::read(&flags) {
        Ok(config) => config,
        Err(e) => Args::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    let (level, format) = config.log;
    config.live.start(format != Some(LogFormat::Json));
    let log = logging::init(level, format);
    let code = work(config, flags).unwrap_or_else(|e| {
        tracing::error!("{e:#}");
        ExitCode::FAILURE
    });
    log.finish();
    code
}

fn work(config: Config, flags: Flags) -> anyhow::Result<ExitCode> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    // IMPORTANT: before anything else opens files. Commands inherit a descriptor with a small number, so one must be free.
    let mut processes = Processes::new()?;
    if let Some(place) = &config.cgroup {
        processes = match processes.within(place) {
            Ok(processes) => processes,
            Err(e) => {
                tracing::error!("{e}");
                return Ok(ExitCode::from(2));
            }
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (phase_in, phase) = watch::channel(Phase::Work);
        let signals = tokio::spawn(shutdown::follow_signals(phase_in)?);
        let ended = zizq_worker::run(config, flags, processes, phase).await;
        signals.abort();
        live::stop();
        ended
    })?;
    // Only a name lookup can still be running, on its own thread.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::from(ended.code()))
}

fn guard_others(mark: &str, cgroups: Option<&Path>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(guard::run(mark, cgroups));
        runtime.shutdown_background();
        done
    });
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(check: &CheckFlags) -> ExitCode {
    match look(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err((sentences, code)) => {
            for sentence in sentences.lines() {
                say(io::stderr(), &format!("error: {sentence}\n"));
            }
            ExitCode::from(code)
        }
    }
}

/// Reads a configuration and prints what it means. The error carries the exit code.
fn look(check: &CheckFlags) -> Result<(), (String, u8)> {
    const WRONG: u8 = 2;
    let wrong = |e: ConfigError| (e.to_string(), WRONG);
    let config = Config::read(&check.flags).map_err(wrong)?;
    let warn =
        |doubts: &[String]| doubts.iter().for_each(|doubt| say(io::stderr(), &format!("warning: {doubt}\n")));
    warn(&config.doubts);
    warn(&config.missing());
    let limits = config.foresee_limits().map_err(wrong)?;
    let mut text = format!("{config}{limits}");
    if check.online {
        let (server, doubts) = cli::ask(&config)?;
        warn(&doubts);
        text += &format!("{server}\n");
    }
    answer(&format!("{text}the configuration is valid\n")).map_err(|e| (e, WRONG))
}

fn init(path: &Path) -> Result<(), String> {
    if path == Path::new("-") {
        return answer(SAMPLE);
    }
    let cannot = |e: io::Error| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} exists and is left unchanged; name another file", path.display())
        }
        _ => format!("cannot write {}: {e}", path.display()),
    };
    let mut file = File::create_new(path).map_err(cannot)?;
    file.write_all(SAMPLE.as_bytes()).map_err(cannot)
}
