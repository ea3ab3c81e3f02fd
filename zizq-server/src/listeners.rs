//! Everything that the server listens on: bound before anything else is made, so that a taken port changes nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

use crate::access::{Access, Identity, Party, Registry};
use crate::config::{At, Config, Listen};
use crate::http::connection::{self, Entry};
use crate::http::guard::Guard;
use crate::http::tls::Acceptors;

/// How many clients may be connecting at once; the next one has to retry a second later. The operating system may have
/// a lower limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// A listener that is bound.
pub(crate) struct Bound<L> {
    pub listener: L,
    spec: Listen,
    /// None in the file system.
    pub address: Option<SocketAddr>,
}

/// All listeners but the control socket. The first port is that of --host and --port.
pub(crate) struct Listeners {
    pub main: Bound<TcpListener>,
    pub ports: Vec<Bound<TcpListener>>,
    pub files: Vec<Bound<FileSocket>>,
}

impl Listeners {
    /// Binds them all.
    ///
    /// # Errors
    /// A sentence for the person who starts the server: which flag, and why.
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let (host, port) = (&config.host, config.port);
        let spec = Listen { at: At::Port { host: host.clone(), port }, role: None, only: None, tls: true };
        let main = bind_port(&spec, host, port).await.map_err(|error| {
            let hint = hint(&error, "with --port (0: a free one)", "with --port");
            anyhow::anyhow!("cannot listen on {host} port {port}: {error}{hint}")
        })?;
        let (mut ports, mut files) = (Vec::new(), Vec::new());
        for spec in &config.listen {
            let cannot = |error: io::Error| {
                let hint = hint(&error, "there (0: a free one)", "there");
                anyhow::anyhow!("--listen {}: cannot listen there: {error}{hint}", spec.at)
            };
            match &spec.at {
                At::Port { host, port } => ports.push(bind_port(spec, host, *port).await.map_err(cannot)?),
                At::File(path) => {
                    let listener = FileSocket::bind(path).map_err(cannot)?;
                    files.push(Bound { listener, spec: spec.clone(), address: None });
                }
            }
        }
        Ok(Self { main, ports, files })
    }

    /// An address that others than this machine can reach, and that trusts nobody yet.
    pub(crate) fn exposed(&self) -> Option<String> {
        let mut all = std::iter::once(&self.main).chain(&self.ports);
        all.find(|bound| bound.is_exposed()).map(|bound| bound.spec.at.to_string())
    }
}

fn hint(error: &io::Error, another: &str, higher: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("; something else listens there: stop it, or choose another port {another}")
        }
        ErrorKind::PermissionDenied => format!("; choose another port {higher}, such as one above 1023"),
        _ => String::new(),
    }
}

async fn bind_port(spec: &Listen, host: &str, port: u16) -> io::Result<Bound<TcpListener>> {
    let listener = listen(host, port).await?;
    let address = Some(listener.local_addr()?);
    Ok(Bound { listener, spec: spec.clone(), address })
}

/// Listens on the first usable address of the host.
async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut refused = None;
    for address in lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::other("the host has no address")))
}

impl<L> Bound<L> {
    fn is_exposed(&self) -> bool {
        let ip = self.address.map(|address| address.ip());
        self.spec.trusts().is_none() && ip.is_some_and(|ip| !is_loopback(ip))
    }

    /// Whether it speaks TLS, if the server has a certificate.
    fn may_use_tls(&self) -> bool {
        self.spec.tls && self.address.is_some()
    }

    /// What holds for its connections.
    pub(crate) fn entry(
        &self,
        config: &Config,
        tls: Option<&Acceptors>,
        access: &Arc<Registry>,
    ) -> Arc<Entry> {
        let Listen { at, only, .. } = &self.spec;
        let role = self.spec.trusts();
        let trusted = role.map(|role| Access::of_connection(Identity::of_listener(&at.to_string(), role)));
        let mut hosts = config.callers.allowed_host.clone();
        if let At::Port { host, .. } = at {
            hosts.extend(host.parse());
        }
        let (address, origins) =
            (self.address.map(|address| address.ip()), config.callers.cors_origin.clone());
        let guard = Guard::new(address, role.is_some(), hosts, origins, access.clone())
            .below(config.callers.path_prefix.clone());
        let tls = tls.filter(|_| self.may_use_tls());
        // Whoever is trusted need not show a certificate.
        let tls = tls.map(|tls| if role.is_some() { tls.silent() } else { tls.clone() });
        // Whoever reaches a listener with a role has that role, and no other by a header.
        let proxy = config.callers.proxy.believed().filter(|_| role.is_none());
        Arc::new(Entry { tls, guard, trusted, proxy, only: *only })
    }

    /// Logs where it is.
    pub(crate) fn announce(&self, has_tls: bool) {
        let scheme = if has_tls && self.may_use_tls() { "https" } else { "http" };
        let at = match self.address {
            Some(address) => format!("{scheme}://{address}"),
            None => self.spec.at.to_string(),
        };
        let (role, only) = (self.spec.trusts(), self.spec.only);
        let role = role.map(protocol::access::Role::as_str);
        tracing::info!(at, role, only = only.map(crate::access::Only::as_str), "listening, too");
    }
}

/// Whether an address is of this machine alone.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// A socket in the file system. Its file goes with it. Who may connect is a matter of its folder.
pub(crate) struct FileSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl FileSocket {
    fn bind(path: &Path) -> io::Result<Self> {
        let bound = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        Ok(Self { listener: bound?, path: path.to_owned() })
    }
}

/// Whether a socket is that of a process that has gone.
fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused)
}

impl Drop for FileSocket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl connection::Listen for FileSocket {
    type Socket = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>, Party)> {
        let (socket, _) = self.listener.accept().await?;
        Ok((socket, None, Party::default()))
    }
}
