//! Sessions of people in a browser: a cookie that proves that its owner has shown an access token. Nothing is stored: the
//! cookie is signed, over the digest of the token, too, so that it dies with the token and survives a restart.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{COOKIE, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Uri};
use sha2::Sha256;
use smol_str::SmolStr;

use super::Digest;

/// How long a session lasts while nothing is done with it, and at most, in milliseconds.
pub(super) const IDLE_MS: u64 = 3_600_000;
const MAX_MS: u64 = 12 * 3_600_000;
/// How old a cookie is when it is renewed, in milliseconds.
const RENEW_MS: u64 = 5 * 60_000;

const VERSION: &str = "1";

/// When a person logged in, and was last seen, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    login: u64,
    seen: u64,
}

impl Session {
    pub(super) const fn begin(now: u64) -> Self {
        Self { login: now, seen: now }
    }

    /// When it ends unless it is renewed.
    pub(super) fn until(self) -> u64 {
        (self.login + MAX_MS).min(self.seen + IDLE_MS)
    }

    /// The session of now, if its cookie is to be replaced.
    pub(super) fn renewed(self, now: u64) -> Option<Self> {
        (now >= self.seen + RENEW_MS).then_some(Self { seen: now, ..self })
    }
}

/// A cookie that may be one of ours.
#[derive(Debug)]
pub(super) struct Cookie {
    pub id: SmolStr,
    pub session: Session,
    signed: String,
    mac: Vec<u8>,
}

/// The name of the cookie. The prefix has browsers accept it over TLS only, from this host, for all paths.
pub(super) const fn name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-zizq" } else { "zizq" }
}

fn mac(key: &[u8], signed: &str, digest: &Digest) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(signed.as_bytes());
    mac.update(digest.bytes());
    Some(mac)
}

/// The value of a cookie.
pub(super) fn sign(key: &[u8], id: &str, session: Session, digest: &Digest) -> Option<String> {
    let Session { login, seen } = session;
    let signed = format!("{VERSION}.{id}.{login}.{seen}");
    let mac = mac(key, &signed, digest)?.finalize().into_bytes();
    Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)))
}

impl Cookie {
    /// Reads our cookie, if there is one and it may count: only the server's own pages, and people who type a URL, send it.
    pub(super) fn of(headers: &HeaderMap, is_tls: bool) -> Option<Self> {
        let name = name(is_tls);
        let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)?;
        if !is_from_own_page(headers) {
            return None;
        }
        let (signed, mac) = value.rsplit_once('.')?;
        let [VERSION, id, login, seen] = signed.split('.').collect::<Vec<_>>()[..] else { return None };
        let session = Session { login: login.parse().ok()?, seen: seen.parse().ok()? };
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
        Some(Self { id: id.into(), session, signed: signed.to_owned(), mac })
    }

    /// Whether it was signed with this key, for the token with this digest. Takes the same time whatever it says.
    pub(super) fn is_signed(&self, key: &[u8], digest: &Digest) -> bool {
        mac(key, &self.signed, digest).is_some_and(|mac| mac.verify_slice(&self.mac).is_ok())
    }
}

/// Whether a browser says that a page of this server calls, or the user. Without `Sec-Fetch-Site`, `Origin` must say it.
pub(super) fn is_from_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let (origin, host) = (headers.get(ORIGIN).and_then(text), headers.get(HOST).and_then(text));
    let authority = origin
        .and_then(|origin| origin.parse::<Uri>().ok())
        .and_then(|uri| uri.authority().map(ToString::to_string));
    authority.is_some() && authority == host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_cookie_counts_from_own_pages_and_only_as_it_was_signed() {
        let (key, digest) = ([3; 32], Digest::of("secret"));
        let session = Session::begin(1_900_000_000_000);
        let value = sign(&key, "tok_123456789012", session, &digest).unwrap();
        let cookie = format!("other=1; zizq={value}");
        for (more, counts) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://localhost:1"), ("host", "localhost:1")], true),
            (&[("origin", "http://localhost:2"), ("host", "localhost:1")], false),
            (&[("origin", "null"), ("host", "localhost:1")], false),
            (&[("host", "localhost:1")], false),
            (&[], false),
        ] {
            let all = [&[("cookie", cookie.as_str())][..], more].concat();
            let read = Cookie::of(&headers(&all), false);
            assert_eq!(read.is_some(), counts, "{more:?}");
            if let Some(read) = read {
                assert_eq!((read.id.as_str(), read.session), ("tok_123456789012", session));
                assert!(read.is_signed(&key, &digest));
                assert!(!read.is_signed(&[4; 32], &digest) && !read.is_signed(&key, &Digest::of("other")));
            }
        }
        let own = |value: &str| headers(&[("cookie", &format!("zizq={value}")), ("sec-fetch-site", "none")]);
        assert!(Cookie::of(&own(&value), true).is_none(), "over TLS it has another name");
        for at in 0..value.len() {
            let mut other = value.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let read = Cookie::of(&own(&String::from_utf8(other).unwrap()), false);
            // The last digit of the code has bits to spare, which decoders refuse or ignore.
            assert!(at + 1 == value.len() || read.is_none_or(|read| !read.is_signed(&key, &digest)), "{at}");
        }
    }

    #[test]
    fn a_session_ends_when_idle_and_after_half_a_day() {
        let begun = Session::begin(1_000);
        assert_eq!(begun.until(), 1_000 + IDLE_MS);
        assert_eq!(begun.renewed(1_000 + RENEW_MS - 1), None);
        let mut session = begun;
        while let Some(next) =
            session.renewed(session.until() - 1).filter(|next| next.until() > session.until())
        {
            session = next;
        }
        assert_eq!(session.until(), 1_000 + MAX_MS);
    }
}
