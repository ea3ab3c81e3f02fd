//! Putting it together: store, engine, HTTP; and taking it apart again without losing anything.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::api::App;
use crate::batching::{self, Batcher};
use crate::clock::{self, millis};
use crate::config::{Config, Limits};
use crate::engine::command::jobs::CountJobs;
use crate::engine::command::{Drain, Stop};
use crate::http::connection::{self, Host};
use crate::http::guard::Guard;
use crate::http::memory::Memory;
use crate::http::tls::Acceptors;
use crate::http::work::Work;
use crate::logs::Logs;
use crate::reader::Reader;
use crate::run::handle::Handle;
use crate::run::turn::Core;
use crate::run::writer;
use crate::store::disk::{self, DiskStore};
use crate::store::{Store, StoreError};
use crate::{notify, open_files};

/// How many clients may connect at once before the next has to try again a second later. The operating system may have a
/// lower limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// How often a draining server looks whether its workers are done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// A server that is ready to serve.
pub struct Server {
    listener: TcpListener,
    host: Host<Arc<App>>,
    close: watch::Sender<bool>,
    engine: JoinHandle<Result<(), StoreError>>,
    drain_timeout: Duration,
}

impl Server {
    /// Opens the store and the port.
    ///
    /// # Errors
    /// When the folder is in use or unreadable, or the port is taken: one sentence for the person who started it.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let tls = config.tls.as_ref().map(Acceptors::read).transpose()?;
        let (host, port) = (config.host.as_str(), config.port);
        // First of all: who mistypes the host must not find a new folder.
        let listener =
            listen(host, port).await.with_context(|| format!("cannot listen on {host} port {port}"))?;
        let mut store = make_store(config)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
        let seed = u64::from_be_bytes(seed);
        let (core, down) = open_core(&mut store, config, seed)?;
        let events = core.events().clone();
        let (firings, fired) = mpsc::channel(batching::MAX_FIRINGS);
        let (engine, thread) = writer::start(core, config.commit_modes(), firings, down)?;
        let logs = Logs::start(&config.root_dir.join("logs"), store.clone())?;
        let (close, closing) = watch::channel(false);
        let max_connections = open_files::make_room(config.limits.max_connections);
        let (limits, filters) = (config.limits, config.filters.limits());
        let batcher = Arc::new(Batcher::new(engine.clone(), filters, limits.max_payload_size));
        tokio::spawn(batcher.clone().follow(fired));
        let app = Arc::new(App {
            reader: Reader::new(store, engine.clone(), filters),
            batcher,
            engine,
            logs,
            limits,
            work: Work::new(),
            events,
            heartbeat_ms: millis(config.heartbeat_interval),
            closing,
        });
        let guard = guard(config, &listener)?;
        let memory = Memory::new(limits.max_body_size);
        let host = Host { tls, guard, memory, max_connections, service: app };
        Ok(Self { listener, host, close, engine: thread, drain_timeout: config.drain_timeout })
    }

    /// The URL it is reached at.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn url(&self) -> std::io::Result<String> {
        let scheme = if self.host.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// What reads the certificate again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader(self.host.tls.clone())
    }

    /// Serves until it is asked to stop, then lets the workers finish, unless it is asked once more, and stops.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn run(self, mut asked_to_stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let app = &self.host.service;
        let (engine, logs) = (app.engine.clone(), app.logs.clone());
        let closing = self.close.subscribe();
        let serving = tokio::spawn(connection::accept(self.listener, self.host, closing));
        tokio::spawn(notify::follow(engine.clone()));
        let mut watched = tokio::task::spawn_blocking(|| self.engine.join());
        tokio::select! {
            ended = &mut watched => return stopped(ended),
            _ = asked_to_stop.recv() => tracing::info!("shutting down"),
        }
        notify::is_stopping();
        tokio::select! {
            () = drain(&engine, self.drain_timeout) => {}
            Some(()) = asked_to_stop.recv() => tracing::info!("not waiting any longer"),
        }
        let stopping = engine.ask(Stop).await;
        self.close.send_replace(true);
        serving.await.context("the listener broke off")?;
        logs.stop().await;
        let ended = watched.await;
        stopped(ended)?;
        stopping.map(|_| ()).context("the engine did not stop properly")
    }
}

/// Reads again what may change while the server runs.
#[derive(Clone)]
pub struct Reloader(Option<Acceptors>);

impl Reloader {
    /// Reads certificate and key again, and says what came of it. What is wrong stays as it was.
    pub fn reload(&self) {
        match self.0.as_ref().map(Acceptors::read_again) {
            Some(Ok(())) => {
                tracing::info!("certificate and key were read again; new connections use them");
            }
            Some(Err(error)) => {
                tracing::error!("the certificate stays as it was, for what there is now is wrong: {error:#}");
            }
            None => tracing::info!("nothing to read again: without TLS, a server has no files of that kind"),
        }
    }
}

/// The name that the server was told to listen on is its own.
fn guard(config: &Config, listener: &TcpListener) -> std::io::Result<Guard> {
    let mut hosts = config.callers.allowed_host.clone();
    hosts.extend(config.host.parse());
    Ok(Guard::new(listener.local_addr()?.ip(), hosts, config.callers.cors_origin.clone()))
}

/// Listens on the first address of the host that can be had.
async fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut refused = None;
    for address in lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| std::io::Error::other("it has no address")))
}

fn make_store(config: &Config) -> anyhow::Result<DiskStore> {
    let folder = &config.root_dir;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
        // Its name in there must survive a loss of power, too; where we may not look, it was there before.
        drop(std::fs::File::open(parent).and_then(|parent| parent.sync_all()));
    }
    let Limits { cache_size, memtable_size, min_free_disk, .. } = config.limits;
    let usual = disk::Memory::for_jobs(cache_size as u64);
    let memory =
        disk::Memory { gathered: memtable_size.map_or(usual.gathered, |bytes| bytes as u64), ..usual };
    let store = DiskStore::new(folder, memory, min_free_disk.map(|bytes| bytes as u64));
    if config.salvage {
        store.salvage();
    }
    Ok(store)
}

/// The engine with what is stored; or, while the disk is full, with the reason why it has to wait for it.
fn open_core(
    store: &mut DiskStore,
    config: &Config,
    seed: u64,
) -> anyhow::Result<(Core<DiskStore>, Option<StoreError>)> {
    let mut open =
        || store.reopen().and_then(|()| Core::open(store.clone(), config.settings(), clock::now(), seed));
    let mut opened = open();
    if matches!(opened, Err(StoreError::Unreadable(_))) {
        // The second time around what cannot be read.
        opened = open();
    }
    let shown = config.root_dir.display();
    let (mut core, full) = match opened {
        Ok(core) => (core, None),
        Err(error @ StoreError::Full) => (Core::closed(store.clone(), config.settings()), Some(error)),
        Err(StoreError::Locked) => anyhow::bail!(
            "another server is using the folder {shown}; stop it, or give this one another --root-dir"
        ),
        Err(error @ StoreError::Broken { .. }) => anyhow::bail!(
            "{error}. The store in {shown} is damaged; nothing in it was changed. Bring the file back if there is a copy \
             of the folder; or start once with --salvage, to go on with what can be read: what cannot is set aside in \
             the folder, and a list says what is lost"
        ),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot open the store in {shown}")));
        }
    };
    core.set_zone(config.timezone());
    Ok((core, full))
}

/// Hands out no more jobs, and waits for those in flight.
async fn drain(engine: &Handle, timeout: Duration) {
    if engine.ask(Drain).await.is_err() {
        return;
    }
    let deadline = Instant::now() + timeout;
    let mut told = false;
    loop {
        let Ok(counts) = engine.ask(CountJobs { queues: None }).await else { return };
        let jobs = counts.in_flight;
        if jobs == 0 {
            return;
        }
        if Instant::now() >= deadline {
            tracing::info!(jobs, "jobs are still running; their leases are kept for the next start");
            return;
        }
        if !told {
            told = true;
            tracing::info!(jobs, ?timeout, "waiting for running jobs");
        }
        sleep(DRAIN_LOOK).await;
    }
}

type EngineEnd = Result<std::thread::Result<Result<(), StoreError>>, tokio::task::JoinError>;

fn stopped(ended: EngineEnd) -> anyhow::Result<()> {
    match ended {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(anyhow::Error::new(error).context("the engine stopped")),
        Ok(Err(_)) | Err(_) => anyhow::bail!("the engine panicked; the log says where"),
    }
}
