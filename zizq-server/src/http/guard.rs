//! Checks which host names this server answers to, and which web pages may call it.
//!
//! A browser sends requests for every open page to every server that its machine can reach, and a request without a
//! body needs no consent. Three headers identify them: `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454)
//! show that another site's page is calling; `Host` reveals a page whose name was made to point here (DNS rebinding).
//! Programs send neither of the first two.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use protocol::error::{Code, excerpt};
use smol_str::SmolStr;

use super::reply::Refusal;
use crate::access::{Party, Registry};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Checks every request before anything else.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Where the listener is that this is the guard of.
    place: Place,
    /// Whether it lets in whoever reaches it, so that a page of the web must not.
    trusts: bool,
    hosts: Vec<Host>,
    origins: Vec<Origin>,
    prefix: Option<Prefix>,
    access: Arc<Registry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A loopback address.
    Loopback,
    Network,
    /// A socket in the file system, where no browser comes.
    File,
}

/// The origin of the calling page, if it is on the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallingPage(Option<HeaderValue>);

impl Guard {
    /// Creates the guard of a listener at `address` (none: in the file system) that also answers to these names, and may be
    /// called by pages of these origins. `trusts`: it lets in whoever reaches it.
    pub(crate) fn new(
        address: Option<IpAddr>,
        trusts: bool,
        hosts: Vec<Host>,
        origins: Vec<Origin>,
        access: Arc<Registry>,
    ) -> Self {
        let place = match address {
            None => Place::File,
            Some(address) if address.is_loopback() => Place::Loopback,
            Some(_) => Place::Network,
        };
        Self { place, trusts, hosts, origins, prefix: None, access }
    }

    /// Takes calls below this path, too, for those at the root.
    pub(crate) fn below(self, prefix: Option<Prefix>) -> Self {
        Self { prefix, ..self }
    }

    /// Takes the prefix off the path of a request.
    pub(crate) fn strip(&self, parts: &mut Parts) {
        let Some(Prefix(prefix)) = &self.prefix else { return };
        let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
        let below = path.strip_prefix(prefix.as_str()).filter(|below| below.starts_with('/'));
        let Some(Ok(below)) = below.map(PathAndQuery::from_str) else { return };
        let mut uri = parts.uri.clone().into_parts();
        uri.path_and_query = Some(below);
        if let Ok(uri) = http::Uri::from_parts(uri) {
            parts.uri = uri;
        }
    }

    /// Returns who calls. The name of the server does not matter to callers that are known for certain, or that must say who they
    /// are: a page that has made its own name point here knows no secret. But it may know the header of a proxy.
    ///
    /// # Errors
    /// 400 if the host is unreadable, 421 if it is not one of this server's, 403 if the page of another site calls.
    pub(crate) fn check(&self, parts: &Parts, party: &Party) -> Result<CallingPage, Refusal> {
        let host = self.host(parts, party)?;
        let mut page = CallingPage::default();
        for value in parts.headers.get_all(ORIGIN) {
            let origin: Option<Origin> = value.to_str().ok().and_then(|text| text.parse().ok());
            match origin {
                Some(origin) if self.origins.contains(&origin) => page = CallingPage(Some(value.clone())),
                Some(origin) if host.as_ref().is_some_and(|host| origin.is_at(host)) => {}
                _ => return Err(foreign_page(&String::from_utf8_lossy(value.as_bytes()))),
            }
        }
        let own = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
        if page.0.is_none() && !parts.headers.get_all(&SITE).iter().all(own) && !is_visit(parts) {
            return Err(Refusal::new(
                Code::ForeignOrigin,
                "this call comes from a web page of another site (Sec-Fetch-Site); if the page is yours, start the \
                 server with --cors-origin and the page's origin",
            ));
        }
        Ok(page)
    }

    /// The host name in the request. Browsers always send one.
    fn host(&self, parts: &Parts, party: &Party) -> Result<Option<Authority>, Refusal> {
        let mut headers = parts.headers.get_all(HOST).iter();
        let (header, second) = (headers.next(), headers.next());
        // RFC 9112, 3.2.
        if second.is_some() {
            return Err(Refusal::invalid("Host: the request has more than one"));
        }
        let target = parts.uri.authority().map(http::uri::Authority::as_str);
        if header.is_none() && target.is_none() && parts.version == Version::HTTP_11 {
            return Err(Refusal::invalid("Host: the request has none"));
        }
        // If both are present, the target counts (RFC 9112, 3.2.2). A foreign name is refused in either.
        let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let mut host = None;
        for text in [header.as_deref(), target].into_iter().flatten() {
            let named: Authority = text.parse().map_err(|NotAHost| {
                Refusal::invalid(format!("Host: `{}` is not a host, with or without a port", excerpt(text)))
            })?;
            let shows_secret = self.access.asks() && !self.trusts && !party.vouches(&parts.headers);
            if !self.answers_to(&named.host) && party.is_certainly().is_none() && !shows_secret {
                return Err(foreign_host(&named.host));
            }
            host = Some(named);
        }
        Ok(host)
    }

    fn answers_to(&self, host: &Host) -> bool {
        let own = match host {
            _ if self.place == Place::File => true,
            Host::Ip(ip) => self.place == Place::Network || ip.is_loopback(),
            // Web pages cannot have a name without a dot, except those in the reader's own network.
            Host::Name(name) => is_local(name) || (self.place == Place::Network && !name.contains('.')),
        };
        own || self.hosts.contains(host)
    }
}

impl CallingPage {
    /// Whether the browser asks if its page may call (Fetch, CORS preflight).
    pub(crate) fn asks_first(&self, parts: &Parts) -> bool {
        self.0.is_some()
            && parts.method == Method::OPTIONS
            && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Lets the page read the answer, and answers a preflight.
    pub(crate) fn allow(self, asked: &Parts, answer: &mut HeaderMap) {
        let asks_first = self.asks_first(asked);
        let Some(origin) = self.0 else { return };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.append(VARY, HeaderValue::from_static("origin"));
        if !asks_first {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("allow, retry-after"));
            return;
        }
        let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(headers) = asked.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
    }
}

/// A path below which a proxy passes calls on as they are, such as `/tools/zizq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_path = path.starts_with('/') && !path.starts_with("//") && !path.contains(['?', '#']);
        if is_path && PathAndQuery::from_str(path).is_ok() {
            Ok(Self(path.to_owned()))
        } else {
            Err(format!("`{text}` is not a path such as /tools/zizq"))
        }
    }
}

/// Whether the user follows a link to a page of this server. Only the user sees the answer.
fn is_visit(parts: &Parts) -> bool {
    let is = |name: &HeaderName, value: &str| parts.headers.get(name).is_some_and(|v| v == value);
    let path = parts.uri.path();
    parts.method == Method::GET
        && (path == "/" || path.starts_with("/ui/"))
        && is(&MODE, "navigate")
        && is(&DEST, "document")
}

fn foreign_page(origin: &str) -> Refusal {
    let origin = excerpt(origin);
    Refusal::new(
        Code::ForeignOrigin,
        format!(
            "Origin: this call comes from a web page of `{origin}`, which may not call this server; if the page is yours, \
         start the server with --cors-origin and this origin"
        ),
    )
}

fn foreign_host(host: &Host) -> Refusal {
    let host = host.to_string();
    let host = excerpt(&host);
    Refusal::new(
        Code::ForeignHost,
        format!(
            "Host: this server does not answer to `{host}`; if that is its name, start it with --allowed-host and this name"
        ),
    )
}

/// Names that never leave the machine (RFC 6761, 6.3).
fn is_local(name: &str) -> bool {
    const LOCAL: &str = "localhost";
    name.strip_suffix(LOCAL).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The error for text that cannot be a host.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAHost;

impl fmt::Display for NotAHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a host name or an address, without scheme and port")
    }
}

impl std::error::Error for NotAHost {}

/// A name in lower case without the final dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address; DNS cannot redirect it.
    Ip(IpAddr),
    /// A name of the DNS.
    Name(SmolStr),
}

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(NotAHost)?;
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| NotAHost);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(ip) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_name = name.split('.').all(|label| !label.is_empty() && label.bytes().all(usual));
        if is_name { Ok(Self::Name(lower(name))) } else { Err(NotAHost) }
    }
}

/// Converts to lower case. Short names are stored without allocation.
fn lower(text: &str) -> SmolStr {
    text.chars().map(|c| c.to_ascii_lowercase()).collect()
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A host with an optional port.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: Host,
    port: Option<u16>,
}

impl FromStr for Authority {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let end_of_address = text.find(']').map_or(0, |at| at + 1);
        let colon = text.get(end_of_address..).and_then(|rest| rest.find(':'));
        let (host, port) = match colon {
            Some(at) => text.split_at_checked(end_of_address + at).ok_or(NotAHost)?,
            None => (text, ""),
        };
        // A colon without a port counts as no port (RFC 3986, 3.2.3).
        let port = match port.strip_prefix(':').filter(|port| !port.is_empty()) {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| NotAHost)?)
            }
            Some(_) => return Err(NotAHost),
            None => None,
        };
        Ok(Self { host: host.parse()?, port })
    }
}

/// The origin of a page: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: SmolStr,
    host: Host,
    port: Option<u16>,
}

impl Origin {
    /// Whether a page of this origin was loaded from the host that it calls. The scheme may differ, because a proxy may
    /// add TLS.
    fn is_at(&self, host: &Authority) -> bool {
        self.host == host.host && self.port == host.port.or_else(|| usual_port(&self.scheme))
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write the page's scheme, host and port, like https://app.example.org".to_owned();
        if matches!(text, "*" | "null") {
            return Err("it would let every web page call this server; name the pages that may".to_owned());
        }
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(wrong());
        }
        let scheme = lower(scheme);
        let Authority { host, port } = authority.parse().map_err(|NotAHost| wrong())?;
        let port = port.or_else(|| usual_port(&scheme));
        Ok(Self { scheme, host, port })
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn guard(address: IpAddr) -> Guard {
        let hosts = ["zizq.example.org", "192.0.2.1"].map(|name| name.parse().unwrap());
        let origins = vec!["https://app.example.org".parse().unwrap()];
        Guard::new(Some(address), false, hosts.to_vec(), origins, Arc::default())
    }

    fn parts(version: Version, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The status of the refusal, or 200 if there is none.
    fn status(guard: &Guard, parts: &Parts) -> u16 {
        use protocol::media::Format;
        match guard.check(parts, &Party::default()) {
            Ok(_) => 200,
            Err(refusal) => refusal.into_response(Format::Json).status().as_u16(),
        }
    }

    #[test]
    fn hosts_are_checked_on_loopback_and_elsewhere() {
        for (host, on_loopback, elsewhere) in [
            ("localhost", 200, 200),
            ("localhost:7890", 200, 200),
            ("LOCALHOST:7890", 200, 200),
            ("localhost.", 200, 200),
            ("localhost.:7890", 200, 200),
            ("localhost:", 200, 200),
            ("a.localhost", 200, 200),
            ("a.b.LocalHost:1", 200, 200),
            ("127.0.0.1", 200, 200),
            ("127.0.0.1:7890", 200, 200),
            ("127.255.0.9:65535", 200, 200),
            ("[::1]", 200, 200),
            ("[::1]:7890", 200, 200),
            ("[0:0:0:0:0:0:0:1]", 200, 200),
            ("zizq.example.org", 200, 200),
            ("ZIZQ.example.org.:80", 200, 200),
            ("192.0.2.1:80", 200, 200),
            ("evil.example", 421, 421),
            ("evil.example:7890", 421, 421),
            ("notlocalhost", 421, 200),
            ("localhost.evil.example", 421, 421),
            ("localhost.evil", 421, 421),
            ("127.0.0.1.evil.example", 421, 421),
            ("x.zizq.example.org", 421, 421),
            ("zizq", 421, 200),
            ("zizq:7890", 421, 200),
            ("my_service", 421, 200),
            ("10.0.0.1", 421, 200),
            ("0.0.0.0:7890", 421, 200),
            ("[2001:db8::1]:7890", 421, 200),
            ("[::ffff:127.0.0.1]", 421, 200),
            ("127.1", 421, 421),
            ("", 400, 400),
            (":7890", 400, 400),
            (".", 400, 400),
            ("localhost..", 400, 400),
            (".localhost", 400, 400),
            ("::1", 400, 400),
            ("[::1", 400, 400),
            ("[::1]x", 400, 400),
            ("[localhost]", 400, 400),
            ("[::1%25lo]", 400, 400),
            ("localhost:port", 400, 400),
            ("localhost:65536", 400, 400),
            ("localhost:+80", 400, 400),
            ("user@localhost", 400, 400),
            ("localhost@evil.example", 400, 400),
            ("localhost:80@evil.example", 400, 400),
            ("localhost/evil.example", 400, 400),
            ("localhost,evil.example", 400, 400),
            ("local host", 400, 400),
            ("löcalhost", 400, 400),
        ] {
            for (address, expected) in [(LOOPBACK, on_loopback), (ANYWHERE, elsewhere)] {
                let parts = parts(Version::HTTP_11, "/jobs", &[("host", host)]);
                assert_eq!(status(&guard(address), &parts), expected, "{host:?} on {address}");
            }
        }
    }

    #[test]
    fn every_host_in_a_request_must_be_allowed() {
        let one = Version::HTTP_11;
        for (version, target, hosts, expected) in [
            (one, "/jobs", &[][..], 400),
            (Version::HTTP_10, "/jobs", &[], 200),
            (Version::HTTP_2, "/jobs", &[], 200),
            (one, "/jobs", &["localhost", "localhost"], 400),
            (one, "/jobs", &["localhost", "evil.example"], 400),
            (one, "http://localhost:7890/jobs", &["localhost"], 200),
            (one, "http://evil.example/jobs", &["localhost"], 421),
            (one, "http://localhost/jobs", &["evil.example"], 421),
            (one, "http://user@localhost/jobs", &["localhost"], 400),
            (Version::HTTP_2, "http://127.0.0.1:7890/jobs", &[], 200),
            (Version::HTTP_2, "https://[::1]:7890/jobs", &[], 200),
            (Version::HTTP_2, "http://evil.example/jobs", &[], 421),
            (Version::HTTP_2, "http://localhost/jobs", &["evil.example"], 421),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let found = status(&guard(LOOPBACK), &parts(version, target, &headers));
            assert_eq!(found, expected, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_programs_are_not() {
        for (headers, expected) in [
            (&[][..], 200),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("sec-fetch-site", "none")], 200),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("sec-fetch-site", "cross-site")], 403),
            (&[("sec-fetch-site", "Cross-Site")], 403),
            (&[("sec-fetch-site", "")], 403),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
            (&[("origin", "http://localhost:7890")], 200),
            (&[("origin", "HTTP://LocalHost:7890")], 200),
            // A proxy in front of the server speaks TLS.
            (&[("origin", "https://localhost:7890")], 200),
            (&[("origin", "http://localhost")], 403),
            (&[("origin", "http://localhost:3000")], 403),
            (&[("origin", "http://127.0.0.1:7890")], 403),
            (&[("origin", "https://evil.example")], 403),
            (&[("origin", "http://localhost:7890.evil.example")], 403),
            (&[("origin", "http://localhost:7890@evil.example")], 403),
            (&[("origin", "http://localhost:7890/")], 403),
            (&[("origin", "http://localhost:7890"), ("origin", "https://evil.example")], 403),
            (&[("origin", "null")], 403),
            (&[("origin", "")], 403),
            (&[("origin", "localhost:7890")], 403),
            (&[("origin", "https://app.example.org")], 200),
            (&[("origin", "https://APP.example.org:443"), ("sec-fetch-site", "cross-site")], 200),
            (&[("origin", "http://app.example.org")], 403),
            (&[("origin", "https://app.example.org:444")], 403),
            (&[("origin", "https://app.example.org.evil.example")], 403),
            (&[("origin", "https://app.example.org"), ("origin", "https://evil.example")], 403),
        ] {
            let all = [headers, &[("host", "localhost:7890")]].concat();
            let found = status(&guard(LOOPBACK), &parts(Version::HTTP_11, "/reset", &all));
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    #[test]
    fn default_ports_may_be_omitted() {
        for (host, origin, expected) in [
            ("zizq.example.org", "https://zizq.example.org", 200),
            ("zizq.example.org:443", "https://zizq.example.org", 200),
            ("zizq.example.org", "http://zizq.example.org:80", 200),
            ("zizq.example.org:443", "http://zizq.example.org", 403),
            ("zizq.example.org", "https://zizq.example.org:8443", 403),
        ] {
            let found = parts(Version::HTTP_11, "/", &[("host", host), ("origin", origin)]);
            assert_eq!(status(&guard(ANYWHERE), &found), expected, "{host} {origin}");
        }
    }

    #[test]
    fn a_link_to_a_page_may_be_followed_from_anywhere() {
        let visit = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        let fetch = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
        for (method, path, headers, expected) in [
            (Method::GET, "/", visit, 200),
            (Method::GET, "/ui/", visit, 200),
            (Method::GET, "/ui/queues?q=1", visit, 200),
            (Method::GET, "/ui/", frame, 403),
            (Method::GET, "/", fetch, 403),
            (Method::POST, "/ui/", visit, 403),
            (Method::HEAD, "/", visit, 403),
            (Method::GET, "/jobs/take", visit, 403),
            (Method::GET, "/uix", visit, 403),
            (Method::GET, "/jobs", visit, 403),
        ] {
            let all = [&headers[..], &[("host", "localhost"), ("sec-fetch-site", "cross-site")]].concat();
            let mut parts = parts(Version::HTTP_11, path, &all);
            parts.method = method.clone();
            assert_eq!(status(&guard(LOOPBACK), &parts), expected, "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_whole_segments() {
        let guard = guard(LOOPBACK).below("/tools/zizq/".parse().ok());
        for (path, expected) in [
            ("/tools/zizq/jobs?queue=a", "/jobs?queue=a"),
            ("/tools/zizq/", "/"),
            ("/jobs", "/jobs"),
            ("/tools/zizq", "/tools/zizq"),
            ("/tools/zizqx/jobs", "/tools/zizqx/jobs"),
            ("/tools/zizq/a%2Fb", "/a%2Fb"),
            ("/tools/zizq//jobs", "//jobs"),
        ] {
            let mut parts = parts(Version::HTTP_11, path, &[]);
            guard.strip(&mut parts);
            assert_eq!(parts.uri.to_string(), expected);
        }
        for bad in ["", "/", "tools", "//x", "/a?b", "/a#b", "/a b"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_and_hosts_without_a_name_are_refused() {
        for bad in ["", "*", "*.example.org", "a:80", "http://a", "a/b", ".org", "a b"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
        for bad in ["", "*", "null", "a.example", "https://", "https://a/", "https://*.example.org", "://a"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        assert_eq!("A.Example.".parse::<Host>().unwrap().to_string(), "a.example");
        assert_eq!("https://a".parse::<Origin>(), "HTTPS://A:443".parse());
    }
}
