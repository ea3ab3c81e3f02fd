//! Starts the store, the engine and HTTP, and stops them without losing anything.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zizq_spans::Spans;

use crate::access::Registry;
use crate::admission::{self, AdminToken, Admission};
use crate::api::calls::CallMeters;
use crate::api::live::Live;
use crate::api::{App, audit};
use crate::batching::{self, Batcher};
use crate::board::Board;
use crate::clock::{self, millis};
use crate::config::{Config, Limits};
use crate::control;
use crate::engine::command::jobs::CountJobs;
use crate::engine::command::{Drain, Stop};
use crate::http::connection::{self, Door, Entry, Host, Places};
use crate::http::guard::Guard;
use crate::http::memory::Memory;
use crate::http::meters::Meters;
use crate::http::tls::Acceptors;
use crate::http::work::Work;
use crate::listeners::{Bound, FileSocket, Listeners};
use crate::logs::Logs;
use crate::reader::Reader;
use crate::run::handle::Handle;
use crate::run::turn::Core;
use crate::run::writer;
use crate::store::disk::{self, DiskStore};
use crate::store::{Store, StoreError};
use crate::{notify, open_files};

/// How often a draining server checks whether its workers are done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// The most connections to the control socket at a time.
const MAX_CONTROLLERS: usize = 64;

/// A server that is ready to serve.
pub struct Server {
    url: String,
    ports: Vec<Door<TcpListener>>,
    files: Vec<Door<FileSocket>>,
    control: Option<Door<control::Socket>>,
    tls: Option<Acceptors>,
    host: Host<Arc<App>>,
    admin: AdminToken,
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
        admission::foresee(config)?;
        // Listen first, so that a mistyped host does not create a new folder.
        let listeners = Listeners::bind(config).await?;
        let mut store = make_store(config)?;
        let (core, down) = open_core(&mut store, config, seed()?)?;
        let (events, access) = (core.events().clone(), core.access().clone());
        let threads = core.meters().clone();
        let admission = Admission::new(config, listeners.exposed().as_deref(), access.clone())?;
        let (firings, fired) = mpsc::channel(batching::MAX_FIRINGS);
        let (engine, thread) = writer::start(core, config.commit_modes(), firings, down)?;
        let logs = Logs::start(&config.root_dir.join("logs"), store.clone())?;
        let (close, closing) = watch::channel(false);
        let max_connections = open_files::make_room(config.limits.max_connections);
        let (limits, filters) = (config.limits, config.filters.limits());
        let batcher = Arc::new(Batcher::new(engine.clone(), filters, limits.max_payload_size));
        tokio::spawn(batcher.clone().follow(fired));
        let board = start_board(config, engine.clone(), logs.clone(), closing.clone()).await;
        let control = control_socket(config)?;
        let transport = Arc::<Meters>::default();
        let app = Arc::new(App {
            access: access.clone(),
            marker: admission.marker,
            read_only: config.callers.read_only,
            zone: config.timezone(),
            reader: Reader::new(store, engine.clone(), board.clone(), filters),
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
            tls: tls.clone(),
            heartbeat_ms: millis(config.heartbeat_interval),
            closing,
        });
        let memory = Memory::new(limits.max_body_size);
        audit::of_server(&app.logs, "start").await;
        let host = Host { memory, meters: transport, service: app };
        let (admin, drain_timeout) = (admission.admin, config.drain_timeout);
        let places = Places::new(max_connections);
        let (url, ports, files) = doors(listeners, config, tls.as_ref(), &access, &places);
        let control = control.map(|listener| control_door(listener, access));
        Ok(Self { url, ports, files, control, tls, host, admin, close, engine: thread, drain_timeout })
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the handle that reloads the certificate.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader { tls: self.tls.clone(), admin: self.admin.clone() }
    }

    /// Serves until it is asked to stop, then lets the workers finish, unless it is asked again, and stops.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(self, mut asked_to_stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let app = &self.host.service;
        let (engine, logs, spans) = (app.engine.clone(), app.logs.clone(), app.spans.clone());
        let closing = self.close.subscribe();
        let host = Arc::new(self.host);
        let memory = host.memory.clone();
        tokio::spawn(async move { memory.watch().await });
        let mut serving = JoinSet::new();
        for door in self.ports {
            serving.spawn(connection::accept(door, host.clone(), closing.clone()));
        }
        for door in self.files {
            serving.spawn(connection::accept(door, host.clone(), closing.clone()));
        }
        if let Some(door) = self.control {
            serving.spawn(connection::accept(door, host.clone(), closing.clone()));
        }
        let access = host.service.access.clone();
        drop(host);
        tokio::spawn(admission::note_uses(access.clone(), engine.clone()));
        tokio::spawn(admission::warn_of_expiry(self.tls.clone(), access));
        if let Some(tls) = self.tls {
            tokio::spawn(tls.follow());
        }
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
        while let Some(ended) = serving.join_next().await {
            ended.context("a listener failed")?;
        }
        audit::of_server(&logs, "stop").await;
        logs.stop().await;
        let ended = watched.await;
        spans.close().await;
        stopped(ended)?;
        stopping.map(|_| ()).context("the engine did not stop properly")
    }
}

/// Reloads what may change while the server runs.
#[derive(Clone)]
pub struct Reloader {
    tls: Option<Acceptors>,
    admin: AdminToken,
}

impl Reloader {
    /// Reloads certificate and key, and the file of the admin token, and logs the result. On an error the old ones stay in
    /// use.
    pub fn reload(&self) {
        match self.admin.read() {
            Ok(true) => tracing::info!("the file of the admin token was read again"),
            Ok(false) => {}
            Err(error) => tracing::error!("the old admin token stays in use: {error:#}"),
        }
        match &self.tls {
            Some(tls) => tls.reload(),
            None if self.admin.is_given() => {}
            None => tracing::info!(
                "nothing to reload: only TLS certificates and the admin token are, and this server has neither"
            ),
        }
    }
}

/// What serves each listener, and the URL of the first.
fn doors(
    listeners: Listeners,
    config: &Config,
    tls: Option<&Acceptors>,
    access: &Arc<Registry>,
    places: &Places,
) -> (String, Vec<Door<TcpListener>>, Vec<Door<FileSocket>>) {
    let Listeners { main, ports, files } = listeners;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = main.address.map(|address| format!("{scheme}://{address}")).unwrap_or_default();
    ports.iter().for_each(|bound| bound.announce(tls.is_some()));
    files.iter().for_each(|bound| bound.announce(false));
    fn door<L>(bound: Bound<L>, entry: Arc<Entry>, places: &Places) -> Door<L> {
        Door { listener: bound.listener, entry, places: places.clone() }
    }
    let ports = std::iter::once(main).chain(ports).map(|bound| {
        let entry = bound.entry(config, tls, access);
        door(bound, entry, places)
    });
    let files = files.into_iter().map(|bound| {
        let entry = bound.entry(config, None, access);
        door(bound, entry, places)
    });
    (url, ports.collect(), files.collect())
}

fn control_door(listener: control::Socket, access: Arc<Registry>) -> Door<control::Socket> {
    let guard = Guard::new(None, false, Vec::new(), Vec::new(), access);
    let entry = Entry { tls: None, guard, trusted: None, proxy: None, only: None };
    Door { listener, entry: Arc::new(entry), places: Places::new(MAX_CONTROLLERS) }
}

/// The control socket. Where none can be made in the folder, the server does without.
fn control_socket(config: &Config) -> anyhow::Result<Option<control::Socket>> {
    let given = config.callers.control_socket.as_deref();
    match control::Socket::bind(control::path(given, &config.root_dir)) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if given.is_some() => Err(error),
        Err(error) => {
            tracing::warn!("{error:#}; until then there is none, and `zizq-server token` does not work");
            Ok(None)
        }
    }
}

/// Where the engine's random numbers begin.
fn seed() -> anyhow::Result<u64> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|e| anyhow::anyhow!("the operating system provides no random numbers: {e}"))?;
    Ok(u64::from_be_bytes(seed))
}

/// Makes the board, which goes on from its stored history, and keeps that up to date.
async fn start_board(config: &Config, engine: Handle, logs: Logs, closing: watch::Receiver<bool>) -> Board {
    let history = logs.history().await.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read the history of statistics; it begins anew");
        Vec::new()
    });
    let board = Board::new(engine, history, config.metrics.metrics_queues);
    tokio::spawn(board.clone().follow(closing, move |steps| logs.keep_history(steps)));
    board
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
