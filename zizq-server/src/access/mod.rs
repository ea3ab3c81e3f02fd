//! Who calls, and what they may do.
//!
//! A caller is known by its connection (the control socket, its certificate, a listener with a role), by what it shows with
//! each request (an access token), or by what a proxy says of it. Either way it becomes an [`Access`]: an identity with grants. Another way to know callers is
//! one more [`Kind`], and one more place that fills in a [`Party`].

mod certificate;
mod grants;
mod marker;
mod party;
mod proxy;
mod record;
mod registry;
mod scope;
mod session;
mod throttle;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use protocol::access::Role;
use smol_str::SmolStr;

pub(crate) use certificate::Certificate;
pub(crate) use grants::Grants;
pub(crate) use marker::Marker;
pub(crate) use party::{Only, Party};
pub(crate) use proxy::{Assignment, Network, Proxy};
pub(crate) use record::{Credential, Digest, OldSecret, TokenRecord};
pub(crate) use registry::{Denied, Registry, Tokens};
pub use scope::Scope;
pub(crate) use session::Session;

/// Milliseconds of a day: how exactly the last use of a token is known.
pub(crate) const DAY_MS: u64 = 86_400_000;

/// How a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is not: the server asks nobody.
    Open,
    /// By the user that runs it, on the machine of the server.
    Local,
    /// By an access token.
    Token,
    /// By the certificate of its connection.
    Certificate,
    /// By the listener that it reached: whoever does is trusted so far.
    Listener,
    /// By what a proxy in front of the server says.
    Proxy,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Listener => "listener",
            Self::Proxy => "proxy",
        }
    }
}

/// A caller that is known.
#[derive(Debug)]
pub(crate) struct Identity {
    pub kind: Kind,
    /// What it is for programs: the id of a token, the number of a user.
    pub id: SmolStr,
    /// What it is for people.
    pub name: SmolStr,
    pub role: Option<Role>,
    pub grants: Grants,
    /// The number of the day, since the Unix epoch, on which it was last seen; 0: never.
    used_on: AtomicU32,
}

impl Identity {
    fn new(kind: Kind, id: SmolStr, name: SmolStr, grants: Grants) -> Self {
        Self { kind, id, name, role: None, grants, used_on: AtomicU32::new(0) }
    }

    /// Whoever calls a server that asks nobody.
    fn open() -> Arc<Self> {
        static OPEN: LazyLock<Arc<Identity>> = LazyLock::new(|| {
            Arc::new(Identity::new(Kind::Open, SmolStr::default(), SmolStr::default(), Grants::all()))
        });
        OPEN.clone()
    }

    /// Whoever comes in by a listener with a role.
    pub(crate) fn of_listener(name: &str, role: Role) -> Self {
        let grants = Grants::of_roles(&[role]);
        Self { role: Some(role), ..Self::new(Kind::Listener, name.into(), name.into(), grants) }
    }

    /// A user of this machine who may do everything.
    pub(crate) fn local(uid: u32) -> Self {
        Self::new(Kind::Local, smol_str::format_smolstr!("{uid}"), "control socket".into(), Grants::all())
    }

    /// The day of its last use.
    pub(crate) fn used_on(&self) -> u32 {
        self.used_on.load(Ordering::Relaxed)
    }

    /// Notes that it was used. Returns whether that is news.
    fn note_use(&self, now: u64) -> bool {
        let day = u32::try_from(now / DAY_MS).unwrap_or(u32::MAX);
        self.used_on() < day && self.used_on.fetch_max(day, Ordering::Relaxed) < day
    }
}

/// The permission of one call, and how long it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub identity: Arc<Identity>,
    /// What it was proved with.
    proof: Proof,
    /// The session of a person in a browser.
    session: Option<Session>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// Nothing: the server asks nobody.
    None,
    /// The connection itself, or the proxy at its other end.
    Connection,
    /// The secret with this digest.
    Secret(Digest),
    /// This certificate.
    Certificate(Certificate),
}

impl Access {
    fn open() -> Self {
        Self { identity: Identity::open(), proof: Proof::None, session: None }
    }

    /// The access of a connection whose other end is known, or of whom it speaks for.
    pub(crate) fn of_connection(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), proof: Proof::Connection, session: None }
    }

    /// What tells the caller from others, where there are others.
    pub(crate) fn holder(&self) -> Option<&SmolStr> {
        let is_one_of_many =
            matches!(self.identity.kind, Kind::Token | Kind::Certificate | Kind::Listener | Kind::Proxy);
        is_one_of_many.then_some(&self.identity.id)
    }

    /// Whether the server asked the caller who it is.
    pub(crate) fn is_proved(&self) -> bool {
        self.proof != Proof::None
    }
}
