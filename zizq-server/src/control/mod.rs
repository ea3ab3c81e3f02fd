//! The control socket: the same calls as over the network, for whoever runs the server on its machine. So the first
//! access token needs no password, and no secret in a log.

pub mod audit;
pub(crate) mod client;
pub mod token;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::access::{Access, Identity, Party};
use crate::http::connection::Listen;

/// The name of the socket in the server's folder.
const NAME: &str = "control.sock";
/// The longest path of a socket, in bytes (`sun_path`, without the final zero).
const MAX_PATH: usize = 107;

/// Where the socket is: where it was said, or in the server's folder.
pub(crate) fn path(given: Option<&Path>, root_dir: &Path) -> PathBuf {
    given.map_or_else(|| root_dir.join(NAME), Path::to_owned)
}

/// Says why a path is too long, if it is.
pub(crate) fn too_long(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().len();
    let shown = path.display();
    (bytes > MAX_PATH).then(|| {
        format!(
            "the path of the control socket, {shown}, has {bytes} bytes, and those of sockets have at most {MAX_PATH}; \
             choose a shorter one with --control-socket"
        )
    })
}

/// The socket. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens there. The folder of the server must be locked, so that what is there is left from before.
    ///
    /// # Errors
    /// A sentence for the person who starts the server.
    pub(crate) fn bind(path: PathBuf) -> anyhow::Result<Self> {
        if let Some(why) = too_long(&path) {
            anyhow::bail!(why);
        }
        let cannot = |error: io::Error| {
            anyhow::anyhow!(
                "cannot make the control socket {}: {error}; --control-socket moves it",
                path.display()
            )
        };
        let is_socket =
            |file: std::fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type());
        if std::fs::symlink_metadata(&path).is_ok_and(is_socket) {
            std::fs::remove_file(&path).map_err(cannot)?;
        }
        let listener = UnixListener::bind(&path).map_err(cannot)?;
        // Until here others might connect; whoever does is asked who it is, too.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(cannot)?;
        Ok(Self { listener, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl Listen for Socket {
    type Socket = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>, Party)> {
        let (socket, _) = self.listener.accept().await?;
        let uid = socket.peer_cred()?.uid();
        let is_own = uid == 0 || uid == rustix::process::geteuid().as_raw();
        let party = if is_own {
            Party::certain(Access::of_connection(Identity::local(uid)))
        } else {
            Party::default()
        };
        Ok((socket, None, party))
    }
}
