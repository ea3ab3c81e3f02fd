//! All callers that are known, as the HTTP side sees them: a map that is replaced as a whole whenever it changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use protocol::access::{AccessToken, InvalidToken, Role, TokenId};
use tokio::sync::watch;

use super::session::{self, Cookie, Session};
use super::throttle::Throttle;
use super::{Access, Digest, Grants, Identity, Kind, Party, Proof, TokenRecord};
use crate::caller::Caller;
use crate::clock;
use crate::hash::HashMap;

/// The longest that is waited for the end of a permission at a time: the wall clock may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The access tokens of the engine at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    pub(crate) all: BTreeMap<TokenId, Arc<TokenRecord>>,
    /// What sessions are signed with. There is one as soon as there has been a token.
    pub(crate) key: Option<[u8; 32]>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "this server asks for an access token: send it as `Authorization: Bearer TOKEN`; whoever runs the server makes one \
         with `zizq-server token create`"
    )]
    Missing,
    #[error("Authorization: it is neither `Bearer TOKEN` nor `Basic` with a token as the password")]
    Scheme,
    #[error("Authorization: {0}")]
    Wrong(#[from] InvalidToken),
    #[error(
        "Authorization: no access token is like this one: it was revoked, replaced, or made by another server"
    )]
    Unknown,
    #[error("Authorization: the access token has expired")]
    Expired,
}

/// All callers that are known.
#[derive(Debug)]
pub struct Registry {
    directory: ArcSwap<Directory>,
    /// Told the generation of each new directory.
    changed: watch::Sender<u64>,
    /// Whether some token was used for the first time today.
    is_used: AtomicBool,
    throttle: Throttle,
    failures: AtomicU64,
    /// How many refusals of unknown callers were written down in which minute.
    strangers: Mutex<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Directory {
    generation: u64,
    /// What the server was told; none: it asks as soon as there has been a token.
    mode: Option<bool>,
    tokens: Tokens,
    /// The token that was given as a file.
    of_file: Option<Digest>,
    by_digest: HashMap<Digest, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    identity: Arc<Identity>,
    /// In milliseconds since the Unix epoch; `u64::MAX`: never.
    until: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            directory: ArcSwap::default(),
            changed: watch::Sender::new(0),
            is_used: AtomicBool::new(false),
            throttle: Throttle::default(),
            failures: AtomicU64::new(0),
            strangers: Mutex::default(),
        }
    }
}

impl Directory {
    fn asks(&self) -> bool {
        self.mode.unwrap_or_else(|| {
            self.tokens.key.is_some() || !self.tokens.all.is_empty() || self.of_file.is_some()
        })
    }

    /// The caller of a browser's session.
    fn session(&self, party: &Party, headers: &HeaderMap) -> Result<Access, Denied> {
        let cookie = Cookie::of(headers, party.is_tls).ok_or(Denied::Missing)?;
        let now = clock::now().wall;
        let is_it = |(digest, entry): &(&Digest, &Entry)| {
            entry.identity.id == cookie.id && cookie.is_signed(self.key(digest), digest)
        };
        let (digest, entry) = self.by_digest.iter().find(is_it).ok_or(Denied::Missing)?;
        if entry.until <= now || cookie.session.until() <= now {
            return Err(Denied::Missing);
        }
        let (identity, proof) = (entry.identity.clone(), Proof::Secret(*digest));
        Ok(Access { identity, proof, session: Some(cookie.session) })
    }

    /// What the sessions of a token are signed with, besides its digest.
    fn key<'a>(&'a self, digest: &'a Digest) -> &'a [u8; 32] {
        self.tokens.key.as_ref().unwrap_or_else(|| digest.bytes())
    }

    /// Fills the map from the rest. What is known of the last use of a token is taken over.
    fn index(mut self, before: &Self) -> Self {
        let known: HashMap<&str, &Arc<Identity>> =
            before.by_digest.values().map(|entry| (entry.identity.id.as_str(), &entry.identity)).collect();
        for (id, record) in &self.tokens.all {
            let grants = Grants::of(&record.grants);
            let mut identity =
                Identity::new(Kind::Token, id.as_str().into(), record.name.as_str().into(), grants);
            identity.role = record.role;
            let used_on = known.get(id.as_str()).map_or(0, |identity| identity.used_on());
            *identity.used_on.get_mut() = record.used_on.max(used_on);
            let identity = Arc::new(identity);
            let until = record.expires_at.unwrap_or(u64::MAX);
            if let Some(old) = record.old {
                let until = until.min(old.until);
                self.by_digest.insert(old.digest, Entry { identity: identity.clone(), until });
            }
            self.by_digest.insert(record.digest, Entry { identity, until });
        }
        if let Some(digest) = self.of_file {
            let mut identity = Identity::new(
                Kind::Token,
                "admin-token".into(),
                "the file of the admin token".into(),
                Grants::all(),
            );
            identity.role = Some(Role::Admin);
            self.by_digest.insert(digest, Entry { identity: Arc::new(identity), until: u64::MAX });
        }
        self
    }
}

impl Directory {
    fn cookie(&self, access: &Access, session: Session, is_tls: bool) -> Option<String> {
        let Proof::Secret(digest) = access.proof else { return None };
        let value = session::sign(self.key(&digest), &access.identity.id, session, &digest)?;
        let secure = if is_tls { "; Secure" } else { "" };
        let (name, seconds) = (session::name(is_tls), session::IDLE_MS / 1_000);
        Some(format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"))
    }
}

impl Registry {
    fn replace(&self, change: impl Fn(&Directory) -> Directory) {
        self.directory.rcu(|before| {
            let next = change(before);
            Directory { generation: before.generation + 1, ..next.index(before) }
        });
        self.changed.send_replace(self.directory.load().generation);
    }

    /// Takes in the tokens of the engine.
    pub(crate) fn publish(&self, tokens: &Tokens) {
        self.replace(|before| Directory {
            mode: before.mode,
            of_file: before.of_file,
            tokens: tokens.clone(),
            ..Directory::default()
        });
    }

    /// Sets whether callers are asked who they are; none: as soon as there has been a token.
    pub(crate) fn set_mode(&self, asks: Option<bool>) {
        self.replace(|before| Directory {
            mode: asks,
            of_file: before.of_file,
            tokens: before.tokens.clone(),
            ..Directory::default()
        });
    }

    /// Sets the secret that was given as a file.
    pub(crate) fn set_file(&self, secret: Option<&str>) {
        self.replace(|before| Directory {
            mode: before.mode,
            of_file: secret.map(Digest::of),
            tokens: before.tokens.clone(),
            ..Directory::default()
        });
    }

    /// Whether callers are asked who they are.
    pub(crate) fn asks(&self) -> bool {
        self.directory.load().asks()
    }

    /// Returns who calls.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn identify(&self, party: &Party, headers: &HeaderMap) -> Result<Access, Denied> {
        if let Some(certain) = party.is_certainly() {
            return Ok(certain.clone());
        }
        let directory = self.directory.load();
        if !directory.asks() {
            return Ok(Access::open());
        }
        let Some(header) = headers.get(AUTHORIZATION) else { return directory.session(party, headers) };
        let access = match party.recall(header, directory.generation) {
            Some(access) => access,
            None => {
                let secret = secret_of(header.as_bytes())?;
                let digest = Digest::of(&secret);
                let Some(entry) = directory.by_digest.get(&digest) else {
                    // A token of any other server fits its own checksum.
                    secret.parse::<AccessToken>()?;
                    return Err(Denied::Unknown);
                };
                let access =
                    Access { identity: entry.identity.clone(), proof: Proof::Secret(digest), session: None };
                party.remember(header, directory.generation, &access);
                access
            }
        };
        let now = clock::now().wall;
        if let Proof::Secret(digest) = access.proof
            && directory.by_digest.get(&digest).is_none_or(|entry| entry.until <= now)
        {
            return Err(Denied::Expired);
        }
        if access.identity.note_use(now) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        Ok(access)
    }

    /// Begins the session of whoever shows this access token. Returns the cookie, and when it ends.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn log_in(&self, secret: &str, is_tls: bool) -> Result<(Access, String), Denied> {
        let directory = self.directory.load();
        let digest = Digest::of(secret);
        let Some(entry) = directory.by_digest.get(&digest) else {
            secret.parse::<AccessToken>()?;
            return Err(Denied::Unknown);
        };
        let now = clock::now().wall;
        if entry.until <= now {
            return Err(Denied::Expired);
        }
        let session = Some(Session::begin(now));
        let access = Access { identity: entry.identity.clone(), proof: Proof::Secret(digest), session };
        let cookie = directory.cookie(&access, Session::begin(now), is_tls).ok_or(Denied::Unknown)?;
        Ok((access, cookie))
    }

    /// The cookie that replaces the one of a session, if it is time.
    pub(crate) fn renewal(&self, access: &Access, is_tls: bool) -> Option<String> {
        let session = access.session?.renewed(clock::now().wall)?;
        self.directory.load().cookie(access, session, is_tls)
    }

    /// When a session ends unless it is renewed, in milliseconds since the Unix epoch.
    pub(crate) fn session_until(access: &Access) -> Option<u64> {
        access.session.map(Session::until)
    }

    /// Whether one more refusal of an unknown caller may be written down this minute.
    pub(crate) fn may_note_stranger(&self, most: u64) -> bool {
        let minute = clock::now().up / 60_000;
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.0 != minute {
            *strangers = (minute, 0);
        }
        strangers.1 += 1;
        strangers.1 <= most
    }

    /// When a permission ends by itself, in milliseconds since the Unix epoch; none: never.
    pub(crate) fn expires_at(&self, access: &Access) -> Option<u64> {
        let Proof::Secret(digest) = access.proof else { return None };
        self.directory
            .load()
            .by_digest
            .get(&digest)
            .map(|entry| entry.until)
            .filter(|until| *until < u64::MAX)
    }

    /// The digests of all secrets that are known.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> std::collections::BTreeSet<Digest> {
        self.directory.load().by_digest.keys().copied().collect()
    }

    /// The day of the last use of a token; 0: never.
    pub(crate) fn used_on(&self, id: &str) -> u32 {
        let directory = self.directory.load();
        let entry = directory.by_digest.values().find(|entry| entry.identity.id == id);
        entry.map_or(0, |entry| entry.identity.used_on())
    }

    /// Waits until a permission has ended: its token was revoked, replaced or has expired, or callers are asked now who
    /// were not before.
    pub(crate) async fn ended(&self, access: &Access) {
        let mut changed = self.changed.subscribe();
        loop {
            let now = clock::now().wall;
            let until = {
                let directory = self.directory.load();
                match access.proof {
                    Proof::Connection => u64::MAX,
                    Proof::None => {
                        if directory.asks() {
                            0
                        } else {
                            u64::MAX
                        }
                    }
                    Proof::Secret(digest) => directory.by_digest.get(&digest).map_or(0, |entry| entry.until),
                }
            };
            if until <= now {
                return;
            }
            let left = Duration::from_millis(until - now).min(LOOK);
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(left), if until < u64::MAX => {}
            }
        }
    }

    /// Notes that a caller was denied. Returns how long it must wait for the answer.
    pub(crate) fn denied(&self, caller: Caller, why: Denied) -> Duration {
        self.failures.fetch_add(1, Ordering::Relaxed);
        // Whoever shows nothing has guessed nothing.
        if why == Denied::Missing { Duration::ZERO } else { self.throttle.failed(caller, clock::now().up) }
    }

    /// How many calls were denied.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The day of the last use of every token, if one was used for the first time on its day since this was last asked.
    pub(crate) fn take_uses(&self) -> Vec<(TokenId, u32)> {
        if !self.is_used.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let directory = self.directory.load();
        let identities = directory.by_digest.values().map(|entry| &entry.identity);
        identities.filter_map(|one| Some((one.id.parse().ok()?, one.used_on()))).collect()
    }
}

/// The secret in the header `Authorization`: that of `Bearer`, or the password of `Basic` (RFC 7617).
fn secret_of(header: &[u8]) -> Result<String, Denied> {
    let text = std::str::from_utf8(header).map_err(|_| Denied::Scheme)?;
    let (scheme, value) = text.trim().split_once(' ').ok_or(Denied::Scheme)?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Denied::Scheme);
    }
    let pair = BASE64_STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.ok_or(Denied::Scheme)?;
    pair.split_once(':').map(|(_, password)| password.to_owned()).ok_or(Denied::Scheme)
}
