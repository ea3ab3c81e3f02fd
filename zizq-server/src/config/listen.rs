//! `--listen`: where the server listens besides --host and --port, and what it serves there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use protocol::access::Role;

use super::host;
use crate::access::Only;

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub at: At,
    /// What whoever comes in may do without saying who it is.
    pub role: Option<Role>,
    /// What it serves; none: everything.
    pub only: Option<Only>,
    /// Whether it speaks TLS, if the server has a certificate.
    pub tls: bool,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A port.
    Port { host: String, port: u16 },
    /// A socket in the file system.
    File(PathBuf),
}

impl Listen {
    /// What whoever comes in may do: metrics alone are for whoever reaches their own listener.
    #[must_use]
    pub fn trusts(&self) -> Option<Role> {
        self.role.or((self.only == Some(Only::Metrics)).then_some(Role::Viewer))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Port { host, port } => write!(f, "{host}:{port}"),
            Self::File(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => return Err("write the path of the socket after unix:".to_owned()),
            Some(path) => return Ok(Self::File(path.into())),
            None => {}
        }
        let wrong = || format!("`{text}` is neither HOST:PORT nor unix:PATH");
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self::Port { host: host(name).map_err(|e| format!("`{text}`: {e}"))?, port })
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let at = parts.next().unwrap_or_default().parse()?;
        let mut listen = Self { at, role: None, only: None, tls: true };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (name, value) {
                ("role", role) => listen.role = Some(role.parse()?),
                ("only", "metrics") => listen.only = Some(Only::Metrics),
                ("only", "api") => listen.only = Some(Only::Api),
                ("only", "ui") => listen.only = Some(Only::Ui),
                ("only", _) => return Err(format!("`{part}`: use only=metrics, only=api or only=ui")),
                ("tls", "off") => listen.tls = false,
                _ => return Err(format!("`{part}`: after the address there are role=, only= and tls=off")),
            }
        }
        Ok(listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read() {
        let port = |host: &str, port| At::Port { host: host.to_owned(), port };
        let plain = |at| Listen { at, role: None, only: None, tls: true };
        for (text, listen) in [
            ("10.0.0.5:7891", plain(port("10.0.0.5", 7891))),
            ("[::1]:0", plain(port("::1", 0))),
            ("queue.example:80,tls=off", Listen { tls: false, ..plain(port("queue.example", 80)) }),
            (
                "10.0.0.5:7891,role=worker,only=api",
                Listen { role: Some(Role::Worker), only: Some(Only::Api), ..plain(port("10.0.0.5", 7891)) },
            ),
            (
                "unix:/run/a.sock,only=ui",
                Listen { only: Some(Only::Ui), ..plain(At::File("/run/a.sock".into())) },
            ),
        ] {
            assert_eq!(text.parse::<Listen>().as_ref(), Ok(&listen), "{text}");
        }
        assert_eq!("h:1,only=metrics".parse::<Listen>().unwrap().trusts(), Some(Role::Viewer));
        assert_eq!("h:1,only=metrics,role=admin".parse::<Listen>().unwrap().trusts(), Some(Role::Admin));
        assert_eq!("h:1,only=api".parse::<Listen>().unwrap().trusts(), None);
        for (text, says) in [
            ("", "neither HOST:PORT nor unix:PATH"),
            ("7891", "neither HOST:PORT nor unix:PATH"),
            ("h:70000", "neither HOST:PORT nor unix:PATH"),
            (":7891", "write 127.0.0.1, or 0.0.0.0"),
            ("unix:", "the path of the socket"),
            ("h:1,role=root", "is no role"),
            ("h:1,only=pages", "use only=metrics"),
            ("h:1,tls=on", "role=, only= and tls=off"),
            ("h:1,", "role=, only= and tls=off"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
