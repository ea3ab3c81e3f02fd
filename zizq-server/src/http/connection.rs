//! Accepts connections and speaks HTTP/1.1 or HTTP/2 on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use protocol::error::Code;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::exchange::{refuse, respond};
use super::guard::Guard;
use super::memory::Memory;
use super::meters::Meters;
use super::socket::Socket;
use super::tls::Acceptors;
use super::{Service, closed};
use crate::access::Party;

/// A peer that has vanished is detected within this time.
const VANISHED_AFTER: Duration = Duration::from_secs(20);
/// The longest that the head of a request may take to arrive and that a connection may be idle. Clients close idle
/// connections sooner, so none is closed under a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest request head, in bytes: URLs of 64 kB and some headers.
const MAX_HEAD: u32 = 128 * 1024;
/// The most concurrent calls of a connection (HTTP/2). Each costs memory before it has sent anything.
const MAX_STREAMS: u32 = 256;
/// The most bytes in transit before they are read: per call, and four times as much per connection, so that two waiting
/// bodies do not block the others.
const WINDOW: u32 = 1024 * 1024;
/// How many bytes of a stream are buffered before they are sent.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// How long unfinished answers may take when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long refusing a connection beyond the limit may take, and how many are refused at a time.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_REFUSALS: usize = 64;

/// What all connections share: the settings and the service.
pub(crate) struct Host<S> {
    pub guard: Guard,
    pub memory: Arc<Memory>,
    pub meters: Arc<Meters>,
    pub service: S,
}

/// Where connections come in.
pub(crate) struct Door<L> {
    pub listener: L,
    pub tls: Option<Acceptors>,
    pub max_connections: usize,
}

/// A socket that listens.
pub(crate) trait Listen: Send + Sync + 'static {
    type Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection. Returns what is known of its other end, too.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, Far)>> + Send;
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Far {
    /// None where there are no addresses.
    pub remote: Option<SocketAddr>,
    pub party: Arc<Party>,
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Far)> {
        let (socket, peer) = Self::accept(self).await?;
        prepare(&socket)?;
        Ok((socket, Far { remote: Some(peer), party: Arc::default() }))
    }
}

/// Serves connections until `closing` turns true and the open ones have ended.
pub(crate) async fn accept<S: Service, L: Listen>(
    door: Door<L>,
    host: Arc<Host<S>>,
    mut closing: watch::Receiver<bool>,
) {
    let Door { listener, tls, max_connections } = door;
    let places = Arc::new(Semaphore::new(max_connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let memory = host.memory.clone();
    let watch = AbortOnDrop(tokio::spawn(async move { memory.watch().await }));
    let http = builder();
    let connections = GracefulShutdown::new();
    loop {
        let (socket, far) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually the process has too many open files; connections that end make room.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = closed(&mut closing) => break,
        };
        let (host, http, tls) = (host.clone(), http.clone(), tls.clone());
        if let Ok(place) = places.clone().try_acquire_owned() {
            let watcher = connections.watcher();
            tokio::spawn(async move {
                let meters = host.meters.clone();
                let _connected = meters.connect();
                let remote = far.remote;
                if let Err(error) = host.serve(http, socket, far, tls, watcher).await {
                    tracing::debug!(?remote, %error, "a connection ended with an error");
                }
                drop(place);
            });
            continue;
        }
        host.meters.refuse(Code::TooManyConnections);
        if let Ok(place) = refusals.clone().try_acquire_owned() {
            tokio::spawn(async move {
                drop(timeout(REFUSAL_TIMEOUT, host.refuse(http, socket, tls, max_connections)).await);
                drop(place);
            });
        }
    }
    drop((listener, watch));
    if timeout(LAST_WORDS, connections.shutdown()).await.is_err() {
        tracing::info!("some connections did not end in time and are closed");
    }
}

/// Aborts a task when dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

type Http = auto::Builder<TokioExecutor>;

impl<S: Service> Host<S> {
    async fn serve(
        self: Arc<Self>,
        http: Http,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        far: Far,
        tls: Option<Acceptors>,
        watcher: Watcher,
    ) -> Result<(), Failed> {
        let connection = self.memory.connect();
        let far = if tls.is_some() { Far { party: Arc::new(Party::over_tls()), ..far } } else { far };
        let (host, held) = (self.clone(), connection.clone());
        let service = service_fn(move |request| {
            let (host, held, far) = (host.clone(), held.clone(), far.clone());
            async move { respond(&host, far, held, request).await }
        });
        let serve = async {
            match &tls {
                None => {
                    let io = TokioIo::new(Socket::new(socket, connection.clone()));
                    watcher.watch(http.serve_connection(io, service).into_owned()).await
                }
                Some(tls) => {
                    let socket = timeout(HANDSHAKE_TIMEOUT, tls.current().accept(socket)).await??;
                    let io = TokioIo::new(Socket::new(socket, connection.clone()));
                    watcher.watch(http.serve_connection(io, service).into_owned()).await
                }
            }
        };
        tokio::select! {
            served = serve => served,
            () = connection.cut() => Err("an answer was not read in time".into()),
        }
    }

    /// Answers that there are too many connections. An HTTP/2 client may send several requests.
    async fn refuse(
        &self,
        mut http: Http,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        tls: Option<Acceptors>,
        limit: usize,
    ) -> Result<(), Failed> {
        let connection = self.memory.connect();
        let held = connection.clone();
        let service = service_fn(move |request| refuse(limit, held.clone(), request));
        http.http1().keep_alive(false);
        match &tls {
            None => http.serve_connection(TokioIo::new(socket), service).await,
            Some(tls) => {
                http.serve_connection(TokioIo::new(tls.current().accept(socket).await?), service).await
            }
        }
    }
}

fn builder() -> Http {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD as usize)
        .half_close(false);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(VANISHED_AFTER / 2)
        .keep_alive_timeout(VANISHED_AFTER / 2);
    http
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive =
        TcpKeepalive::new().with_time(VANISHED_AFTER / 2).with_interval(VANISHED_AFTER / 8).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED_AFTER))?;
    Ok(())
}
