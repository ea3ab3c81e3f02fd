//! The `zizq-server` program.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zizq_server::config::{Cli, Config, Health, Task};
use zizq_server::control::{audit, token};
use zizq_server::health::{self, Readiness};
use zizq_server::serve::{Reloader, Server};
use zizq_server::{cert, logging, notify, top};

/// Every job's memory is freed on another thread than it was allocated on; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Without this, the first touch of a huge page zeroes 2 MB at once, which paused the engine for 5 to 14 ms. Kernels
    // without huge pages refuse the call, and need no change.
    rustix::thread::disable_transparent_huge_pages(true).ok();
    let config = match Cli::read() {
        Task::Serve(config) => config,
        Task::Health(health) => return health_of(&health),
        Task::Token(task) => return ended(token::run(&task)),
        Task::Audit(task) => return ended(audit::run(&task)),
        Task::Cert(task) => return ended(cert::run(&task)),
        Task::Top(task) => return ended(top::run(&task)),
        Task::JqHelper { memory } => return zizq_server::run_jq_helper(memory),
    };
    let mut log = logging::init(&config);
    let ended = run(&config);
    if let Err(error) = &ended {
        // Queued after earlier log lines; there may be no reader.
        writeln!(log, "zizq-server: {error:#}").ok();
    }
    log.finish();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints an error, if there is one. Returns the exit code.
fn ended(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    writeln!(std::io::stderr(), "zizq-server: {error:#}").ok();
    ExitCode::FAILURE
}

/// Prints whether a server is ready. Returns the exit code: 0 if it is, 1 if not, 2 if it does not answer.
fn health_of(asked: &Health) -> ExitCode {
    // There may be no reader; the exit code says it, too.
    match health::ask(asked) {
        Ok(Readiness { ready: true, .. }) => {
            writeln!(std::io::stdout(), "ready").ok();
            ExitCode::SUCCESS
        }
        Ok(Readiness { reasons, .. }) => {
            writeln!(std::io::stdout(), "not ready: {}", reasons.join(", ")).ok();
            ExitCode::from(1)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "zizq-server: {error:#}").ok();
            ExitCode::from(2)
        }
    }
}

/// The longest that unfinished reads may delay the exit.
const LAST_READS: Duration = Duration::from_millis(500);

/// Uses one thread for connections: with the engine on its own thread, that is the fastest on small machines.
fn run(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(LAST_READS);
    result
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let asked_to_stop = signals()?;
    // Installed before the start, because SIGHUP would otherwise end the process.
    let hangups = signal(SignalKind::hangup())?;
    let server = Server::start(config).await?;
    let url = server.url().to_owned();
    announce(&url)?;
    let dashboard = config.has_pages().then(|| format!("{url}/ui/"));
    tracing::info!(url, dashboard, root_dir = %config.root_dir.display(), "listening");
    tokio::spawn(reload(hangups, server.reloader()));
    notify::is_ready(&url);
    server.run(asked_to_stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Reloads files on every SIGHUP.
async fn reload(mut hangups: Signal, reloader: Reloader) {
    while hangups.recv().await.is_some() {
        notify::is_reloading();
        let reloader = reloader.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || reloader.reload()).await {
            tracing::error!(%error, "could not reload the files");
        }
        notify::has_reloaded();
    }
}

/// Sends a message for every SIGTERM and SIGINT.
fn signals() -> std::io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Prints the only line on standard output, for people and for programs that start the server with port 0.
fn announce(url: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "zizq-server listening on {url}")?;
    Ok(stdout.flush()?)
}
