//! All callers that are known, as the HTTP side sees them: a map that is replaced as a whole whenever it changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, HeaderName};
use protocol::access::{AccessToken, CertificateName, InvalidToken, Role, TokenId};
use protocol::certificate::expires_soon;
use smol_str::SmolStr;
use tokio::sync::watch;

use super::session::{self, Cookie, Session};
use super::throttle::Throttle;
use super::{Access, Certificate, Credential, Digest, Grants, Identity, Kind, Party, Proof, TokenRecord};
use crate::caller::Caller;
use crate::clock;
use crate::hash::HashMap;

/// The longest that is waited for the end of a permission at a time: the wall clock may be set.
const LOOK: Duration = Duration::from_secs(60);
/// How long a link counts, in milliseconds.
const LINK_MS: u64 = 60_000;

/// The access tokens of the engine at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    pub(crate) all: BTreeMap<TokenId, Arc<TokenRecord>>,
    /// What sessions are signed with. There is one as soon as there has been a token.
    pub(crate) key: Option<[u8; 32]>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    #[error(
        "this link was followed before, or is older than a minute; whoever runs the server makes another with `zizq-server token \
         link`"
    )]
    OldLink,
    #[error(
        "the certificate {0} is valid, but this server does not know its owner; whoever runs the server says who that is with \
         `zizq-server token create NAME --certificate {0}`"
    )]
    Stranger(SmolStr),
    #[error("the certificate {0} no longer counts here: it was revoked, or has expired")]
    Certificate(SmolStr),
    #[error(
        "{0}: this header counts only from the proxy (--auth-proxy-from), and the call came from elsewhere; send an access token as \
         `Authorization: Bearer TOKEN`"
    )]
    NoProxy(HeaderName),
    #[error("{0}: {1}")]
    Unclear(HeaderName, &'static str),
    #[error(
        "{0}: what the proxy says counts for the server's own pages only (Sec-Fetch-Site: same-origin); programs send an access \
         token as `Authorization: Bearer TOKEN`"
    )]
    NoPage(HeaderName),
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
    /// Links that begin a session, by the digests of their codes.
    links: Mutex<HashMap<Digest, Link>>,
    /// How many refusals of unknown callers were written down in which minute.
    strangers: Mutex<(u64, u64)>,
}

/// What everything else follows from.
#[derive(Debug, Clone, Default)]
struct Given {
    /// What the server was told; none: it asks as soon as there has been a token.
    mode: Option<bool>,
    tokens: Tokens,
    /// The token that was given as a file.
    of_file: Option<Digest>,
    /// What owners of certificates may do whom nobody has named.
    strangers: Vec<Role>,
}

#[derive(Debug, Default)]
struct Directory {
    generation: u64,
    given: Given,
    by_digest: HashMap<Digest, Entry>,
    /// All certificates that have been named; those that were revoked are over since 1970.
    by_certificate: HashMap<CertificateName, Entry>,
}

/// A link that begins a session.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// Of the access token whose session it is.
    digest: Digest,
    /// In milliseconds since the Unix epoch.
    until: u64,
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
            links: Mutex::default(),
            strangers: Mutex::default(),
        }
    }
}

impl Directory {
    fn asks(&self) -> bool {
        let Given { mode, tokens, of_file, .. } = &self.given;
        mode.unwrap_or_else(|| tokens.key.is_some() || !tokens.all.is_empty() || of_file.is_some())
    }

    /// The caller that a header is about.
    fn secret(&self, header: &HeaderValue) -> Result<Access, Denied> {
        let secret = secret_of(header.as_bytes())?;
        let digest = Digest::of(&secret);
        let Some(entry) = self.by_digest.get(&digest) else {
            // A token of any other server fits its own checksum.
            secret.parse::<AccessToken>()?;
            return Err(Denied::Unknown);
        };
        Ok(Access { identity: entry.identity.clone(), proof: Proof::Secret(digest), session: None })
    }

    /// The owner of a certificate.
    fn owner(&self, certificate: &Certificate) -> Option<&Entry> {
        certificate.names().iter().find_map(|name| self.by_certificate.get(name))
    }

    /// The caller that shows nothing but its connection.
    fn connected(&self, party: &Party) -> Result<Access, Denied> {
        if let Some(trusted) = party.trusted() {
            return Ok(trusted.clone());
        }
        let certificate = party.certificate().ok_or(Denied::Missing)?;
        let identity = match self.owner(certificate) {
            Some(entry) => entry.identity.clone(),
            None if self.given.strangers.is_empty() => return Err(Denied::Stranger(certificate.shown())),
            None => {
                let (name, grants) = (certificate.shown(), Grants::of_roles(&self.given.strangers));
                Arc::new(Identity::new(Kind::Certificate, name.clone(), name, grants))
            }
        };
        Ok(Access { identity, proof: Proof::Certificate(certificate.clone()), session: None })
    }

    /// Until when a permission lasts, in milliseconds since the Unix epoch; `u64::MAX`: forever.
    fn until(&self, access: &Access) -> u64 {
        match &access.proof {
            Proof::Connection => u64::MAX,
            Proof::None if self.asks() => 0,
            Proof::None => u64::MAX,
            Proof::Secret(digest) => self.by_digest.get(digest).map_or(0, |entry| entry.until),
            Proof::Certificate(certificate) => match self.owner(certificate) {
                Some(entry) if entry.identity.id == access.identity.id => entry.until.min(certificate.until),
                // Somebody has said who this is since.
                Some(_) => 0,
                None if access.identity.id == certificate.shown() => certificate.until,
                None => 0,
            },
        }
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
        self.given.tokens.key.as_ref().unwrap_or_else(|| digest.bytes())
    }

    /// Fills the map from the rest. What is known of the last use of a token is taken over.
    fn index(mut self, before: &Self) -> Self {
        let known: HashMap<&str, &Arc<Identity>> =
            before.identities().map(|identity| (identity.id.as_str(), identity)).collect();
        for (id, record) in &self.given.tokens.all {
            let grants = Grants::of(&record.grants);
            let kind = record.certificate().map_or(Kind::Token, |_| Kind::Certificate);
            let mut identity = Identity::new(kind, id.as_str().into(), record.name.as_str().into(), grants);
            identity.role = record.role;
            let used_on = known.get(id.as_str()).map_or(0, |identity| identity.used_on());
            *identity.used_on.get_mut() = record.used_on.max(used_on);
            let identity = Arc::new(identity);
            let until = record.expires_at.unwrap_or(u64::MAX);
            match &record.credential {
                Credential::Certificate { name, revoked_at } => {
                    let until = if revoked_at.is_some() { 0 } else { until };
                    self.by_certificate.insert(name.clone(), Entry { identity, until });
                }
                Credential::Secret { digest, old } => {
                    if let Some(old) = old {
                        let until = until.min(old.until);
                        self.by_digest.insert(old.digest, Entry { identity: identity.clone(), until });
                    }
                    self.by_digest.insert(*digest, Entry { identity, until });
                }
            }
        }
        if let Some(digest) = self.given.of_file {
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
    /// Everybody who is known by name.
    fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.by_digest.values().chain(self.by_certificate.values()).map(|entry| &entry.identity)
    }

    fn cookie(&self, access: &Access, session: Session, is_tls: bool) -> Option<String> {
        let Proof::Secret(digest) = access.proof else { return None };
        let value = session::sign(self.key(&digest), &access.identity.id, session, &digest)?;
        let secure = if is_tls { "; Secure" } else { "" };
        let (name, seconds) = (session::name(is_tls), session::IDLE_MS / 1_000);
        Some(format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"))
    }
}

impl Registry {
    fn replace(&self, change: impl Fn(&mut Given)) {
        self.directory.rcu(|before| {
            let mut given = before.given.clone();
            change(&mut given);
            Directory { given, generation: before.generation + 1, ..Directory::default() }.index(before)
        });
        self.changed.send_replace(self.directory.load().generation);
    }

    /// Takes in the tokens of the engine.
    pub(crate) fn publish(&self, tokens: &Tokens) {
        self.replace(|given| given.tokens = tokens.clone());
    }

    /// Sets whether callers are asked who they are; none: as soon as there has been a token.
    pub(crate) fn set_mode(&self, asks: Option<bool>) {
        self.replace(|given| given.mode = asks);
    }

    /// Sets what owners of valid certificates may do whom nobody has named. Without a role they are denied.
    pub(crate) fn set_strangers(&self, roles: &[Role]) {
        self.replace(|given| given.strangers = roles.to_vec());
    }

    /// Sets the secret that was given as a file.
    pub(crate) fn set_file(&self, secret: Option<&str>) {
        self.replace(|given| given.of_file = secret.map(Digest::of));
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
            return Ok(party.trusted().cloned().unwrap_or_else(Access::open));
        }
        let header = headers.get(AUTHORIZATION);
        if header.is_none() {
            if let Ok(access) = directory.session(party, headers) {
                return Ok(access);
            }
            // Several people share a connection of their proxy, so nothing is remembered.
            if let Some(person) = party.person(headers)? {
                return Ok(person);
            }
        }
        let access = match party.recall(header, directory.generation) {
            Some(access) => access,
            None => {
                let access = match header {
                    Some(header) => directory.secret(header)?,
                    None => directory.connected(party)?,
                };
                party.remember(header, directory.generation, &access);
                access
            }
        };
        let now = clock::now().wall;
        if directory.until(&access) <= now {
            return Err(match access.proof {
                Proof::Certificate(certificate) => Denied::Certificate(certificate.shown()),
                _ => Denied::Expired,
            });
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
        let digest = Digest::of(secret);
        if !self.directory.load().by_digest.contains_key(&digest) {
            secret.parse::<AccessToken>()?;
        }
        self.begin(digest, is_tls)
    }

    /// Takes in the code of a link that begins a session of this access token. Returns until when it counts, in milliseconds
    /// since the Unix epoch; none if the token has no secret that counts.
    pub(crate) fn link(&self, id: &TokenId, code: &str) -> Option<u64> {
        let now = clock::now().wall;
        let directory = self.directory.load();
        let Credential::Secret { digest, .. } = directory.given.tokens.all.get(id)?.credential else {
            return None;
        };
        directory.by_digest.get(&digest).filter(|entry| entry.until > now)?;
        let until = now + LINK_MS;
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.until > now);
        links.insert(Digest::of(code), Link { digest, until });
        Some(until)
    }

    /// Begins the session of whoever follows a link, the first time.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn follow_link(&self, code: &str, is_tls: bool) -> Result<(Access, String), Denied> {
        let link = self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&Digest::of(code));
        let link = link.filter(|link| link.until > clock::now().wall).ok_or(Denied::OldLink)?;
        self.begin(link.digest, is_tls)
    }

    fn begin(&self, digest: Digest, is_tls: bool) -> Result<(Access, String), Denied> {
        let directory = self.directory.load();
        let entry = directory.by_digest.get(&digest).ok_or(Denied::Unknown)?;
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
        Some(self.directory.load().until(access)).filter(|until| *until < u64::MAX)
    }

    /// The digests of all secrets that are known.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> std::collections::BTreeSet<Digest> {
        self.directory.load().by_digest.keys().copied().collect()
    }

    /// All certificates that have been named, and whether they were revoked.
    #[cfg(test)]
    pub(crate) fn certificates(&self) -> BTreeMap<CertificateName, bool> {
        let directory = self.directory.load();
        directory.by_certificate.iter().map(|(name, entry)| (name.clone(), entry.until == 0)).collect()
    }

    /// A sentence about every access token that expires soon.
    pub(crate) fn expiring(&self) -> Vec<String> {
        let now = clock::seconds();
        let directory = self.directory.load();
        let doubt = |(id, record): (&TokenId, &Arc<TokenRecord>)| {
            let until = record.expires_at.filter(|_| record.revoked_at().is_none())?;
            let until = i64::try_from(until / 1_000).ok().filter(|until| *until > now)?;
            let (name, soon) = (&record.name, expires_soon(until, now)?);
            Some(format!("access token `{name}` ({id}): {soon}; whoever needs it needs a new one by then"))
        };
        directory.given.tokens.all.iter().filter_map(doubt).collect()
    }

    /// The day of the last use of a token; 0: never.
    pub(crate) fn used_on(&self, id: &str) -> u32 {
        let directory = self.directory.load();
        directory.identities().find(|identity| identity.id == id).map_or(0, |identity| identity.used_on())
    }

    /// Waits until a permission has ended: its token was revoked, replaced or has expired, or callers are asked now who
    /// were not before.
    pub(crate) async fn ended(&self, access: &Access) {
        let mut changed = self.changed.subscribe();
        loop {
            let now = clock::now().wall;
            let until = self.directory.load().until(access);
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
    pub(crate) fn denied(&self, caller: Caller, why: &Denied) -> Duration {
        self.failures.fetch_add(1, Ordering::Relaxed);
        // Whoever shows nothing has guessed nothing.
        match why {
            Denied::Missing
            | Denied::Stranger(_)
            | Denied::Certificate(_)
            | Denied::NoProxy(_)
            | Denied::Unclear(..)
            | Denied::NoPage(_) => Duration::ZERO,
            _ => self.throttle.failed(caller, clock::now().up),
        }
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
        directory.identities().filter_map(|one| Some((one.id.parse().ok()?, one.used_on()))).collect()
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
