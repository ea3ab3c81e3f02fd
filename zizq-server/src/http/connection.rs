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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::exchange::{refuse, respond};
use super::guard::Guard;
use super::memory::Memory;
use super::meters::Meters;
use super::socket::{Socket, plain_on_tls};
use super::tls::{Acceptors, is_about_certificate};
use super::{Service, closed};
use crate::access::{Access, Certificate, Only, Party, Proxy};

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
/// How many bytes are still read from whoever was refused.
const MAX_UNREAD: u64 = 64 * 1024;

/// What all connections share.
pub(crate) struct Host<S> {
    pub memory: Arc<Memory>,
    pub meters: Arc<Meters>,
    pub service: S,
}

/// Where connections come in.
pub(crate) struct Door<L> {
    pub listener: L,
    pub entry: Arc<Entry>,
    pub places: Places,
}

/// What holds for all connections of a listener.
pub(crate) struct Entry {
    pub tls: Option<Acceptors>,
    pub guard: Guard,
    /// Who comes in, if whoever reaches this listener is trusted so far.
    pub trusted: Option<Access>,
    /// The proxy that is believed when it says who its people are.
    pub proxy: Option<Arc<Proxy>>,
    /// What is served here; none: everything.
    pub only: Option<Only>,
}

/// The connections that may be open at a time.
#[derive(Clone)]
pub(crate) struct Places {
    limit: usize,
    free: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        let [free, refusals] = [limit, MAX_REFUSALS].map(|n| Arc::new(Semaphore::new(n)));
        Self { limit, free, refusals }
    }
}

/// A socket that listens.
pub(crate) trait Listen: Send + Sync + 'static {
    type Socket: Wire;

    /// Waits for the next connection. Returns the address of its other end, if there are addresses, and what is known of it.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, Option<SocketAddr>, Party)>> + Send;
}

/// A connection before anything was read.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Waits for the first byte, and leaves it there; none if none can come.
    fn first(&self) -> impl Future<Output = io::Result<Option<u8>>> + Send;
}

impl Wire for TcpStream {
    async fn first(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.peek(&mut byte).await? > 0).then_some(byte[0]))
    }
}

impl Wire for UnixStream {
    /// Nobody speaks TLS there.
    async fn first(&self) -> io::Result<Option<u8>> {
        Ok(None)
    }
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

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>, Party)> {
        let (socket, peer) = Self::accept(self).await?;
        prepare(&socket)?;
        Ok((socket, Some(peer), Party::default()))
    }
}

/// Serves connections until `closing` turns true and the open ones have ended.
pub(crate) async fn accept<S: Service, L: Listen>(
    door: Door<L>,
    host: Arc<Host<S>>,
    mut closing: watch::Receiver<bool>,
) {
    let Door { listener, entry, places } = door;
    let http = builder();
    let connections = GracefulShutdown::new();
    loop {
        let (socket, remote, party) = tokio::select! {
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
        let (host, http, entry) = (host.clone(), http.clone(), entry.clone());
        if let Ok(place) = places.free.clone().try_acquire_owned() {
            let watcher = connections.watcher();
            tokio::spawn(async move {
                let meters = host.meters.clone();
                let _connected = meters.connect();
                if let Err(error) = host.serve(http, socket, (remote, party), entry, watcher).await {
                    tracing::debug!(?remote, %error, "a connection ended with an error");
                }
                drop(place);
            });
            continue;
        }
        host.meters.refuse(Code::TooManyConnections);
        if let Ok(place) = places.refusals.clone().try_acquire_owned() {
            let limit = places.limit;
            tokio::spawn(async move {
                drop(timeout(REFUSAL_TIMEOUT, host.refuse(http, socket, &entry, limit)).await);
                drop(place);
            });
        }
    }
    drop(listener);
    if timeout(LAST_WORDS, connections.shutdown()).await.is_err() {
        tracing::info!("some connections did not end in time and are closed");
    }
}

/// Shakes hands. Whoever speaks plain HTTP is told so.
async fn shake<S: Wire>(
    tls: &Acceptors,
    mut socket: S,
    remote: Option<SocketAddr>,
) -> Result<(TlsStream<S>, Option<Certificate>), Failed> {
    // A TLS record begins with its type, which is no letter (RFC 8446, 5.1).
    if socket.first().await?.is_some_and(|byte| byte.is_ascii_uppercase()) {
        socket.write_all(&plain_on_tls()).await?;
        socket.shutdown().await?;
        // Closed at once, with bytes unread, the connection would take the answer with it.
        drop(timeout(REFUSAL_TIMEOUT, copy(&mut socket.take(MAX_UNREAD), &mut sink())).await);
        return Err("plain HTTP on a port that speaks TLS".into());
    }
    tls.accept(socket).await.map_err(|error| {
        if is_about_certificate(&error) {
            tracing::info!(?remote, %error, "the certificate of a caller was refused");
        }
        error.into()
    })
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

type Http = auto::Builder<TokioExecutor>;

impl<S: Service> Host<S> {
    async fn serve(
        self: Arc<Self>,
        http: Http,
        socket: impl Wire,
        (remote, party): (Option<SocketAddr>, Party),
        entry: Arc<Entry>,
        watcher: Watcher,
    ) -> Result<(), Failed> {
        let connection = self.memory.connect();
        let (host, held, of_entry) = (self.clone(), connection.clone(), entry.clone());
        let service = |party: Party| {
            let far = Far { remote, party: Arc::new(party) };
            service_fn(move |request| {
                let (host, held, far, entry) = (host.clone(), held.clone(), far.clone(), of_entry.clone());
                async move { respond(&host, &entry.guard, far, held, request).await }
            })
        };
        let party = party.by_listener(entry.trusted.clone(), entry.only);
        let party = party.behind(entry.proxy.clone(), remote.map(|remote| remote.ip()));
        let serve = async {
            match &entry.tls {
                None => {
                    let io = TokioIo::new(Socket::new(socket, connection.clone()));
                    watcher.watch(http.serve_connection(io, service(party)).into_owned()).await
                }
                Some(tls) => {
                    let shaken = timeout(HANDSHAKE_TIMEOUT, shake(tls, socket, remote)).await;
                    let (socket, certificate) = shaken??;
                    let io = TokioIo::new(Socket::new(socket, connection.clone()));
                    let service = service(party.over_tls(certificate));
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
        socket: impl Wire,
        entry: &Entry,
        limit: usize,
    ) -> Result<(), Failed> {
        let connection = self.memory.connect();
        let held = connection.clone();
        let service = service_fn(move |request| refuse(limit, held.clone(), request));
        http.http1().keep_alive(false);
        match &entry.tls {
            None => http.serve_connection(TokioIo::new(socket), service).await,
            Some(tls) => {
                let (socket, _) = shake(tls, socket, None).await?;
                http.serve_connection(TokioIo::new(socket), service).await
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
