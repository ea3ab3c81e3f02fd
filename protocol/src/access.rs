//! Access: the tokens that callers show, and what they may do with them.
//!
//! An access token is `zizq_`, a letter for its role, `_`, 32 random characters, and a checksum of 6 characters. So
//! scanners of secrets find it, a double click selects it, and a typo is seen without a look-up. It has nothing to do with
//! the tokens of leases.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::certificate::Facts;
use crate::error::excerpt;
use crate::name::{QueueName, TokenName};
use crate::number::opt_integer;
use crate::time::opt_time;

const PREFIX: &str = "zizq_";
/// The number of random characters: 190 bits.
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + 2 + SECRET + CHECKSUM;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many random bytes make a token. A byte in thirty is not used, so more are taken than there are characters.
pub const RANDOM_BYTES: usize = 96;

/// A secret that identifies a caller. It is never shown except to whom it is given.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(SmolStr);

impl AccessToken {
    /// Makes a token of random bytes.
    #[must_use]
    pub fn new(role: Option<Role>, random: &[u8; RANDOM_BYTES]) -> Self {
        let mut token = format!("{PREFIX}{}_", Role::letter(role));
        // Larger bytes would make the first characters more likely than others.
        let even = random.iter().filter(|byte| usize::from(**byte) < 4 * BASE62.len());
        token.extend(even.map(|byte| digit(usize::from(*byte))).chain(std::iter::repeat('0')).take(SECRET));
        token.extend(checksum(&token));
        Self(token.into())
    }

    /// The token itself. Whoever reads it is the caller.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a text begins like a token, whole or not.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

fn digit(n: usize) -> char {
    char::from(BASE62.get(n % BASE62.len()).copied().unwrap_or_default())
}

fn checksum(text: &str) -> [char; CHECKSUM] {
    let mut rest = usize::try_from(crc32fast::hash(text.as_bytes())).unwrap_or_default();
    let mut digits = ['0'; CHECKSUM];
    for place in digits.iter_mut().rev() {
        *place = digit(rest);
        rest /= BASE62.len();
    }
    digits
}

/// Why a text is not an access token. It quotes nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not look like one.
    #[error("an access token begins with zizq_ and has {LENGTH} letters, digits and underscores")]
    Other,
    /// It has lost or gained characters.
    #[error(
        "the access token has {0} characters instead of {LENGTH}: a part is missing, or there is too much"
    )]
    Length(usize),
    /// Its checksum is another one.
    #[error("the access token was mistyped: its checksum does not fit")]
    Mistyped,
}

impl FromStr for AccessToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !text.starts_with(PREFIX) || !text.bytes().all(usual) {
            return Err(InvalidToken::Other);
        }
        if text.len() != LENGTH {
            return Err(InvalidToken::Length(text.len()));
        }
        let (body, sum) = text.split_at_checked(LENGTH - CHECKSUM).ok_or(InvalidToken::Other)?;
        if sum.chars().ne(checksum(body)) { Err(InvalidToken::Mistyped) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(***)")
    }
}

/// What a caller may do. The reference (`protocol/API.md`, Access) says which calls that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Add jobs, and read one by its id.
    Enqueue,
    /// Take jobs, and report on the jobs taken.
    Work,
    /// Read queues, jobs without their contents, workers, crons, events.
    Read,
    /// Read the contents of jobs and their output.
    Payload,
    /// Change existing things: jobs, pauses, runs of crons.
    Operate,
    /// Set up crons and budgets.
    Configure,
    /// Everything else.
    Admin,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Enqueue, Self::Work, Self::Read, Self::Payload, Self::Operate, Self::Configure, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Work => "work",
            Self::Read => "read",
            Self::Payload => "payload",
            Self::Operate => "operate",
            Self::Configure => "configure",
            Self::Admin => "admin",
        }
    }
}

/// A name for a set of [`Verb`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Whoever is on duty: reads and changes jobs.
    Operator,
    /// Only looks, and sees no contents.
    Viewer,
    /// Adds jobs.
    Producer,
    /// Takes jobs.
    Worker,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Operator, Self::Viewer, Self::Producer, Self::Worker];

    /// What the role may do.
    #[must_use]
    pub const fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Admin => &Verb::ALL,
            Self::Operator => &[Verb::Enqueue, Verb::Read, Verb::Payload, Verb::Operate],
            Self::Viewer => &[Verb::Read],
            Self::Producer => &[Verb::Enqueue],
            Self::Worker => &[Verb::Work],
        }
    }

    /// What it may do in some queues.
    ///
    /// # Errors
    /// A sentence for a role that is about more than queues.
    pub fn grants(self, queues: &QueuePattern) -> Result<Vec<Grant>, String> {
        let grant = |verb: &Verb| Grant { verb: *verb, queues: queues.clone() }.checked();
        self.verbs().iter().map(grant).collect()
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Producer => "producer",
            Self::Worker => "worker",
        }
    }

    /// The letter in tokens; `c` where grants alone say what they are for.
    const fn letter(role: Option<Self>) -> char {
        match role {
            Some(Self::Admin) => 'a',
            Some(Self::Operator) => 'o',
            Some(Self::Viewer) => 'v',
            Some(Self::Producer) => 'p',
            Some(Self::Worker) => 'w',
            None => 'c',
        }
    }
}

/// Parses one of some words.
fn word<T: Copy>(what: &str, text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        format!("`{}` is no {what}; use one of {}", excerpt(text), names.join(", "))
    })
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word("grant", text, &Self::ALL, Self::as_str)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word("role", text, &Self::ALL, Self::as_str)
    }
}

/// Some queues: one by its name, all whose names begin alike (`mails*`), or all (`*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueuePattern {
    /// The queue of this name.
    Exact(QueueName),
    /// The queues whose names begin like this.
    Prefix(SmolStr),
}

impl QueuePattern {
    /// Every queue.
    pub const ALL: Self = Self::Prefix(SmolStr::new_static(""));

    /// Whether a queue of this name is among them.
    #[must_use]
    pub fn covers(&self, queue: &str) -> bool {
        match self {
            Self::Exact(name) => name.as_str() == queue,
            Self::Prefix(prefix) => queue.starts_with(prefix.as_str()),
        }
    }

    /// Whether every queue is.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        *self == Self::ALL
    }
}

impl FromStr for QueuePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| {
            QueueName::new(text).map_err(|e| format!("{e}; a pattern is a name, or a prefix and `*`"))
        };
        match text.strip_suffix('*') {
            Some("") => Ok(Self::ALL),
            Some(prefix) => name(prefix).map(|prefix| Self::Prefix(prefix.as_str().into())),
            None => name(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for QueuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Something that a caller may do in some queues: `read:mails*`, or `read` for all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// What.
    pub verb: Verb,
    /// Where.
    pub queues: QueuePattern,
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (verb, queues) = match text.split_once(':') {
            None => (text, QueuePattern::ALL),
            Some((verb, queues)) => (verb, queues.parse()?),
        };
        Self { verb: verb.parse()?, queues }.checked()
    }
}

impl Grant {
    fn checked(self) -> Result<Self, String> {
        if self.verb == Verb::Admin && !self.queues.is_of_all() {
            return Err("`admin` is about the server as a whole, not about some queues".to_owned());
        }
        Ok(self)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.queues.is_of_all() {
            return f.write_str(self.verb.as_str());
        }
        write!(f, "{}:{}", self.verb.as_str(), self.queues)
    }
}

/// The public name of an access token: `tok_` and 12 letters and digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(SmolStr);

impl TokenId {
    const PREFIX: &'static str = "tok_";
    const DIGITS: usize = 12;

    /// Makes an id of random bytes.
    #[must_use]
    pub fn new(random: u64) -> Self {
        let digits = std::iter::successors(Some(random), |rest| Some(rest / 62)).take(Self::DIGITS);
        let digits = digits.map(|rest| digit(usize::try_from(rest % 62).unwrap_or_default()));
        Self(Self::PREFIX.chars().chain(digits).collect())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(Self::PREFIX).filter(|digits| digits.len() == Self::DIGITS);
        match digits {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Self(text.into())),
            _ => Err(format!("the id of an access token is tok_ and {} letters and digits", Self::DIGITS)),
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name in a certificate: `CN=worker-7` (the common name of its subject) or `URI=spiffe://example.org/worker` (one of its
/// alternative names).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName(SmolStr);

impl CertificateName {
    /// The longest one, in bytes.
    const MAX: usize = 255;

    /// The names of a certificate, the most exact first. Those that cannot be names of callers are left out.
    #[must_use]
    pub fn all_of(facts: &Facts) -> Vec<Self> {
        let uris = facts.uris.iter().map(|uri| format!("URI={uri}"));
        let names = uris.chain(facts.common_name.iter().map(|name| format!("CN={name}")));
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("CN=").or_else(|| text.strip_prefix("URI="));
        match name {
            Some(name) if name.is_empty() || name.trim() != name => {
                Err(format!("`{}` names nothing after the `=`, or has spaces around the name", excerpt(text)))
            }
            Some(name) if name.chars().any(char::is_control) => {
                Err("the name of a certificate has no control characters".to_owned())
            }
            Some(_) if text.len() > Self::MAX => {
                Err(format!("the name of a certificate has at most {} bytes", Self::MAX))
            }
            Some(_) => Ok(Self(text.into())),
            None => Err(format!(
                "`{}` is no name of a certificate; write CN=NAME, or URI=spiffe://NAME",
                excerpt(text)
            )),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! as_text {
    ($($T:ident)*) => {$(
        impl Serialize for $T {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $T {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
as_text!(QueuePattern Grant TokenId CertificateName);

/// `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whom or what it is for.
    pub name: TokenName,
    /// A set of verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where the role counts; absent: in all queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<QueuePattern>>,
    /// What it may do besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// The certificate that its owner shows instead of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// When it ends, in milliseconds since the Unix epoch; absent: never.
    #[serde(default, deserialize_with = "opt_time", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The same as a length of time, in milliseconds.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// The most grants of a token.
pub const MAX_GRANTS: usize = 256;

impl NewToken {
    /// All that the token allows.
    ///
    /// # Errors
    /// A sentence for a token that makes no sense (422).
    pub fn grants(&self) -> Result<Vec<Grant>, String> {
        let all = [QueuePattern::ALL];
        let queues = match &self.queues {
            Some(queues) if queues.is_empty() => {
                return Err("queues: name at least one, or leave it out for all".to_owned());
            }
            Some(_) if self.role.is_none() => {
                return Err("queues: they belong to a role; write grants as `read:mails*`".to_owned());
            }
            Some(queues) => &queues[..],
            None => &all,
        };
        let of_role = self.role.iter().flat_map(|role| queues.iter().map(|queues| role.grants(queues)));
        let of_role = of_role.collect::<Result<Vec<_>, _>>().map_err(|e| format!("queues: {e}"))?;
        let mut grants = of_role.concat();
        grants.extend(self.grants.iter().cloned());
        grants.sort_unstable();
        grants.dedup();
        match grants.len() {
            0 => Err("it would allow nothing; give it a role, or grants such as `enqueue:mails*`".to_owned()),
            1..=MAX_GRANTS => Ok(grants),
            n => Err(format!(
                "it has {n} grants, and the limit is {MAX_GRANTS}; use patterns such as `mails*`"
            )),
        }
    }
}

/// `POST /tokens/{id}/rotate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old secret still counts, in milliseconds; absent: a day.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub overlap_ms: Option<u64>,
}

/// An access token in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its public name.
    pub id: TokenId,
    /// Whom or what it is for.
    pub name: TokenName,
    /// The role it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// All that it allows.
    pub grants: Vec<Grant>,
    /// The certificate that its owner shows instead of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// Since when this certificate is refused. A token with a secret is gone once it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
    /// In milliseconds since the Unix epoch, as all times here.
    pub created_at: u64,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The beginning of the day on which it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<u64>,
    /// Until when the secret from before the last rotation still counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<u64>,
    /// The secret. Only the answer that makes it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u8) -> [u8; RANDOM_BYTES] {
        std::array::from_fn(|n| {
            seed.wrapping_mul(37).wrapping_add(u8::try_from(n).unwrap().wrapping_mul(101))
        })
    }

    #[test]
    fn tokens_are_read_back_and_typos_are_seen() {
        for (role, letter) in [
            (Some(Role::Admin), 'a'),
            (Some(Role::Operator), 'o'),
            (Some(Role::Viewer), 'v'),
            (Some(Role::Producer), 'p'),
            (Some(Role::Worker), 'w'),
            (None, 'c'),
        ] {
            let token = AccessToken::new(role, &random(7));
            let text = token.reveal();
            assert!(text.starts_with(&format!("zizq_{letter}_")) && text.len() == LENGTH, "{text}");
            assert_eq!(text.parse(), Ok(token.clone()));
            for at in 0..text.len() {
                let mut typo = text.as_bytes().to_vec();
                typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
                let typo = String::from_utf8(typo).unwrap();
                assert!(typo.parse::<AccessToken>().is_err(), "{typo}");
                assert!(text[..at].parse::<AccessToken>().is_err());
            }
            assert_eq!(format!("{text}0").parse::<AccessToken>(), Err(InvalidToken::Length(LENGTH + 1)));
        }
        assert_eq!(AccessToken::new(None, &random(1)), AccessToken::new(None, &random(1)));
        assert_ne!(AccessToken::new(None, &random(1)), AccessToken::new(None, &random(2)));
        assert!("Bearer zizq".parse::<AccessToken>().is_err());
        // No byte is a character, except by chance of 2^-600 also for random ones.
        assert_eq!(
            AccessToken::new(None, &[255; RANDOM_BYTES]).reveal().parse(),
            Ok(AccessToken::new(None, &[255; RANDOM_BYTES]))
        );
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = AccessToken::new(None, &random(3));
        assert_eq!(format!("{token:?}"), "AccessToken(***)");
        for wrong in
            [format!("{}!", token.reveal()), token.reveal()[1..].to_owned(), token.reveal()[..40].to_owned()]
        {
            let error = wrong.parse::<AccessToken>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&token.reveal()[8..20]));
        }
    }

    #[test]
    fn patterns_cover_queues() {
        for (pattern, inside, outside) in [
            ("mails", vec!["mails"], vec!["mail", "mails2", "a", "Mails"]),
            ("mails*", vec!["mails", "mails2", "mails.eu"], vec!["mail", "xmails"]),
            ("*", vec!["a", "mails"], vec![]),
        ] {
            let parsed: QueuePattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            assert!(inside.iter().all(|queue| parsed.covers(queue)), "{pattern}");
            assert!(!outside.iter().any(|queue| parsed.covers(queue)), "{pattern}");
        }
        for bad in ["", "**", "*a", "a*b", "a,b", "a?"] {
            assert!(bad.parse::<QueuePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn grants_are_words() {
        for good in ["read", "read:mails*", "payload:a", "admin", "enqueue:x y"] {
            assert_eq!(good.parse::<Grant>().unwrap().to_string(), good);
        }
        assert_eq!("read:*".parse::<Grant>().unwrap().to_string(), "read");
        for (bad, says) in [
            ("reed", "use one of enqueue, work, read"),
            ("read:", "must not be empty"),
            ("admin:mails", "about the server as a whole"),
            ("", "is no grant"),
        ] {
            let error = bad.parse::<Grant>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn a_role_is_its_grants_in_its_queues() {
        let new = |json: serde_json::Value| serde_json::from_value::<NewToken>(json).unwrap().grants();
        let grants = |json| new(json).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(grants(serde_json::json!({"name": "n", "role": "viewer"})), ["read"]);
        assert_eq!(
            grants(
                serde_json::json!({"name": "n", "role": "producer", "queues": ["b", "a*"], "grants": ["read:c", "enqueue:b"]})
            ),
            ["enqueue:b", "enqueue:a*", "read:c"]
        );
        for (json, says) in [
            (serde_json::json!({"name": "n"}), "allow nothing"),
            (serde_json::json!({"name": "n", "role": "worker", "queues": []}), "at least one"),
            (serde_json::json!({"name": "n", "queues": ["a"], "grants": ["read"]}), "belong to a role"),
            (serde_json::json!({"name": "n", "role": "admin", "queues": ["a"]}), "as a whole"),
        ] {
            assert!(new(json).unwrap_err().contains(says), "{says}");
        }
    }

    #[test]
    fn certificates_have_names() {
        for good in ["CN=worker-7", "CN=a b", "URI=spiffe://example.org/w"] {
            assert_eq!(good.parse::<CertificateName>().unwrap().to_string(), good);
        }
        for bad in
            ["", "worker-7", "CN=", "CN= x", "cn=x", "URI=", "CN=a\nb", &format!("CN={}", "x".repeat(300))]
        {
            assert!(bad.parse::<CertificateName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_short_words() {
        let id = TokenId::new(u64::MAX);
        assert_eq!(id.as_str().len(), 16);
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_ne!(TokenId::new(1), TokenId::new(2));
        for bad in
            ["", "tok_", "tok_12345678901", "tok_1234567890123", "tok_12345678901-", "TOK_123456789012"]
        {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
    }
}
