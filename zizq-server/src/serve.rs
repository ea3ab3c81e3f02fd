//! Starts the store, the engine and HTTP, and stops them without losing anything.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use zizq_spans::Spans;

use crate::api::App;
use crate::api::calls::CallMeters;
use crate::api::live::Live;
use crate::batching::{self, Batcher};
use crate::board::Board;
use crate::clock::{self, millis};
use crate::config::{Config, Limits};
use crate::engine::command::jobs::CountJobs;
use crate::engine::command::{Drain, Stop};
use crate::http::connection::{self, Host};
use crate::http::guard::Guard;
use crate::http::memory::Memory;
use crate::http::meters::Meters;
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

/// How many clients may be connecting at once; the next one has to retry a second later. The operating system may have
/// a lower limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// How often a draining server checks whether its workers are done.
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
    /// When the folder is in use or unreadable, or the port is taken. The message is one sentence for the person who
    /// starts the server.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let tls = config.tls.as_ref().map(Acceptors::read).transpose()?;
        let (host, port) = (config.host.as_str(), config.port);
        // Listen first, so that a mistyped host does not create a new folder.
        let listener = listen(host, port).await.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => {
                    "; something else listens there: stop it, or choose another port with --port (0: a free one)"
                }
                ErrorKind::PermissionDenied => "; choose another port with --port, such as one above 1023",
                _ => "",
            };
            anyhow::anyhow!("cannot listen on {host} port {port}: {error}{hint}")
        })?;
        let mut store = make_store(config)?;
        let (core, down) = open_core(&mut store, config, seed()?)?;
        let (events, threads) = (core.events().clone(), core.meters().clone());
        let (firings, fired) = mpsc::channel(batching::MAX_FIRINGS);
        let (engine, thread) = writer::start(core, config.commit_modes(), firings, down)?;
        let logs = Logs::start(&config.root_dir.join("logs"), store.clone())?;
        let (close, closing) = watch::channel(false);
        let max_connections = open_files::make_room(config.limits.max_connections);
        let (limits, filters) = (config.limits, config.filters.limits());
        let batcher = Arc::new(Batcher::new(engine.clone(), filters, limits.max_payload_size));
        tokio::spawn(batcher.clone().follow(fired));
        let history = logs.history().await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the history of statistics; it begins anew");
            Vec::new()
        });
        let board = Board::new(engine.clone(), history, config.metrics.metrics_queues);
        let keeper = logs.clone();
        tokio::spawn(board.clone().follow(closing.clone(), move |steps| keeper.keep_history(steps)));
        let transport = Arc::<Meters>::default();
        let app = Arc::new(App {
            reader: Reader::new(store, engine.clone(), filters),
            batcher,
            board,
            live: Live::new(),
            engine,
            logs,
            unread: Arc::default(),
            limits,
            settings: config.settings.clone(),
            metrics: config.metrics,
            work: Work::new(),
            events,
            has_pages: config.has_pages(),
            spans: Spans::from_env("zizq-server", env!("CARGO_PKG_VERSION")),
            calls: CallMeters::new(),
            transport: transport.clone(),
            threads,
            heartbeat_ms: millis(config.heartbeat_interval),
            closing,
        });
        let guard = guard(config, &listener)?;
        let memory = Memory::new(limits.max_body_size);
        let host = Host { tls, guard, memory, meters: transport, max_connections, service: app };
        Ok(Self { listener, host, close, engine: thread, drain_timeout: config.drain_timeout })
    }

    /// The URL of the server.
    ///
    /// # Errors
    /// When the operating system does not report the address.
    pub fn url(&self) -> std::io::Result<String> {
        let scheme = if self.host.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Returns the handle that reloads the certificate.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader(self.host.tls.clone())
    }

    /// Serves until it is asked to stop, then lets the workers finish, unless it is asked again, and stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(self, mut asked_to_stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let app = &self.host.service;
        let (engine, logs, spans) = (app.engine.clone(), app.logs.clone(), app.spans.clone());
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
            Some(()) = asked_to_stop.recv() => tracing::info!("asked to stop again; no longer waiting for running jobs"),
        }
        let stopping = engine.ask(Stop).await;
        self.close.send_replace(true);
        serving.await.context("the listener failed")?;
        logs.stop().await;
        let ended = watched.await;
        spans.close().await;
        stopped(ended)?;
        stopping.map(|_| ()).context("the engine did not stop properly")
    }
}

/// Reloads what may change while the server runs.
#[derive(Clone)]
pub struct Reloader(Option<Acceptors>);

impl Reloader {
    /// Reloads certificate and key, and logs the result. On an error the old ones stay in use.
    pub fn reload(&self) {
        match self.0.as_ref().map(Acceptors::read_again) {
            Some(Ok(())) => {
                tracing::info!("certificate and key reloaded; new connections use them");
            }
            Some(Err(error)) => {
                tracing::error!("cannot reload the certificate; the old one stays in use: {error:#}");
            }
            None => tracing::info!(
                "nothing to reload: only TLS certificates are reloaded, and this server has none"
            ),
        }
    }
}

/// Builds the guard; the name in --host is one of the server's own.
fn guard(config: &Config, listener: &TcpListener) -> std::io::Result<Guard> {
    let mut hosts = config.callers.allowed_host.clone();
    hosts.extend(config.host.parse());
    let callers = &config.callers;
    let guard = Guard::new(listener.local_addr()?.ip(), hosts, callers.cors_origin.clone());
    Ok(guard.below(callers.path_prefix.clone()))
}

/// Listens on the first usable address of the host.
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
    Err(refused.unwrap_or_else(|| std::io::Error::other("the host has no address")))
}

/// Where the engine's random numbers begin.
fn seed() -> anyhow::Result<u64> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|e| anyhow::anyhow!("the operating system provides no random numbers: {e}"))?;
    Ok(u64::from_be_bytes(seed))
}

fn make_store(config: &Config) -> anyhow::Result<DiskStore> {
    let folder = &config.root_dir;
    if folder.is_file() {
        anyhow::bail!("{} is a file, and --root-dir needs a folder", folder.display());
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
        // The parent must be synced too, or a power cut loses the folder's name. If it cannot be opened, the folder
        // existed before.
        drop(std::fs::File::open(parent).and_then(|parent| parent.sync_all()));
    }
    let Limits { cache_size, memtable_size, min_free_disk, .. } = config.limits;
    let usual = disk::CacheSizes::for_jobs(cache_size as u64);
    let sizes =
        disk::CacheSizes { memtable: memtable_size.map_or(usual.memtable, |bytes| bytes as u64), ..usual };
    let store = DiskStore::new(folder, sizes, min_free_disk.map(|bytes| bytes as u64));
    if config.salvage {
        store.salvage();
    }
    Ok(store)
}

/// Opens the engine with the stored jobs; if the disk is full, returns a closed engine and the reason.
fn open_core(
    store: &mut DiskStore,
    config: &Config,
    seed: u64,
) -> anyhow::Result<(Core<DiskStore>, Option<StoreError>)> {
    let mut open =
        || store.reopen().and_then(|()| Core::open(store.clone(), config.engine(), clock::now(), seed));
    let mut opened = open();
    if matches!(opened, Err(StoreError::Unreadable(_))) {
        // The second attempt opens the store around what cannot be read.
        opened = open();
    }
    let shown = config.root_dir.display();
    let (mut core, full) = match opened {
        Ok(core) => (core, None),
        Err(error @ StoreError::Full) => (Core::closed(store.clone(), config.engine()), Some(error)),
        Err(StoreError::Locked) => anyhow::bail!(
            "another server is using the folder {shown}; stop it, or choose another folder with --root-dir"
        ),
        Err(error @ StoreError::Broken { .. }) => anyhow::bail!(
            "{error}. The store in {shown} is damaged; nothing in it was changed. Restore the file if you have a copy of \
             the folder. Or start once with --salvage to keep what can be read: the rest is set aside in the folder, \
             with a list of what is lost"
        ),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot open the store in {shown}")));
        }
    };
    core.set_zone(config.timezone());
    Ok((core, full))
}

/// Stops deliveries and waits for the jobs in flight.
async fn drain(engine: &Handle, timeout: Duration) {
    if engine.ask(Drain).await.is_err() {
        return;
    }
    let deadline = Instant::now() + timeout;
    let mut told = false;
    loop {
        let Ok(counted) = engine.ask(CountJobs { queues: None }).await else { return };
        let jobs = counted.counts.in_flight;
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
