//! `GET /` and the dashboard below `/ui/`: pages of this program's own, which call the API like any other client.
//!
//! Every view has a URL of its own, and all of them are answered with the same document, whose links are relative: so
//! the dashboard works under any path that a proxy may put before it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response};
use protocol::error::{Code, excerpt};
use protocol::media::{Format, negotiate};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::{App, not_acceptable};
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;

/// What the browser may do with the pages: load from here, and no more. Nothing is written into a page but text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types uplot";

/// The headers of everything below `/ui/`.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), ""),
    (VARY, "accept-encoding"),
];

/// The addresses of the most important calls, from the root.
const LINKS: [(&str, &str); 10] = [
    ("stats", "stats"),
    ("live", "live"),
    ("queues", "queues"),
    ("jobs", "jobs"),
    ("workers", "workers"),
    ("crons", "crons"),
    ("budgets", "budgets"),
    ("events", "events"),
    ("metrics", "metrics"),
    ("health", "readyz"),
];

/// Stands in the document for the way from a page to its assets.
const ASSETS: &str = "{assets}";

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../../ui/", $path)))),*]
    };
}

/// Everything in the folder `ui` that a browser loads.
#[rustfmt::skip]
static FILES: &[(&str, &[u8])] = &files![
    "app.css",
    "app.js",
    "lib/actions.js",
    "lib/api.js",
    "lib/cron.js",
    "lib/dom.js",
    "lib/filter.js",
    "lib/format.js",
    "lib/json.js",
    "lib/keys.js",
    "lib/live.js",
    "lib/payload.js",
    "lib/route.js",
    "parts/action.js",
    "parts/ansi.js",
    "parts/basics.js",
    "parts/chart.js",
    "parts/cron.js",
    "parts/enqueue.js",
    "parts/filterbar.js",
    "parts/frame.js",
    "parts/help.js",
    "parts/job.js",
    "parts/log.js",
    "parts/over.js",
    "parts/palette.js",
    "parts/table.js",
    "parts/tokens.js",
    "parts/tree.js",
    "screens/audit.js",
    "screens/budgets.js",
    "screens/crons.js",
    "screens/dead.js",
    "screens/job.js",
    "screens/jobs.js",
    "screens/login.js",
    "screens/overview.js",
    "screens/queue.js",
    "screens/queues.js",
    "screens/server.js",
    "screens/worker.js",
    "screens/workers.js",
    "vendor/htm-preact-3.1.1.js",
    "vendor/uPlot-1.6.32.css",
    "vendor/uPlot-1.6.32.js",
];

static INDEX: &[u8] = include_bytes!("../../ui/index.html");

/// The files by their paths, and a hash of them all, which their URLs contain.
struct Assets {
    hash: String,
    index: String,
    files: BTreeMap<&'static str, File>,
}

struct File {
    plain: Cow<'static, [u8]>,
    /// Made when it is first asked for.
    gzipped: OnceLock<Vec<u8>>,
}

static THE_ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut hasher = Xxh3::new();
    let index = current("index.html", INDEX);
    hasher.update(&index);
    let files = FILES.iter().map(|&(path, embedded)| {
        let plain = current(path, embedded);
        hasher.update(path.as_bytes());
        hasher.update(&plain);
        (path, File { plain, gzipped: OnceLock::new() })
    });
    let files = files.collect();
    let index = String::from_utf8_lossy(&index).into_owned();
    Assets { hash: format!("{:016x}", hasher.digest()), index, files }
});

/// The content of a file: what is embedded; in a debug build what is there at the start, so that whoever works on the pages
/// need not build them.
fn current(path: &str, embedded: &'static [u8]) -> Cow<'static, [u8]> {
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ui");
    let found = if cfg!(debug_assertions) { std::fs::read(Path::new(FOLDER).join(path)).ok() } else { None };
    found.map_or(Cow::Borrowed(embedded), Cow::Owned)
}

/// `GET /`: the dashboard for people, and for programs what is here.
pub(super) fn root(app: &App, request: &Request) -> Answer {
    #[derive(Clone, Copy)]
    enum Shape {
        Page,
        Data(Format),
    }
    let data = Format::SUPPORTED.map(|media_type| (media_type, Format::from_content_type(Some(media_type))));
    let data = data.into_iter().filter_map(|(media_type, format)| Some((media_type, Shape::Data(format?))));
    let page = app.shows_pages(request).then_some(("text/html", Shape::Page));
    let offers: Vec<(&str, Shape)> = data.chain(page).collect();
    let shape = negotiate(request.accepted.as_deref(), &offers, Shape::Data(Format::Json));
    request.no_query()?;
    match shape {
        Some(Shape::Page) => Ok(reply::see("ui/")),
        Some(Shape::Data(format)) => {
            let mut links: Vec<(&str, &str)> = LINKS.to_vec();
            links.extend(app.shows_pages(request).then_some(("dashboard", "ui/")));
            let links: Map<String, Value> =
                links.into_iter().map(|(name, link)| (name.to_owned(), json!(link))).collect();
            let about =
                json!({"server": crate::SERVER, "contract": protocol::CONTRACT_VERSION, "links": links});
            let mut answer = reply::ok(format, &about);
            answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
            Ok(answer)
        }
        None => Err(not_acceptable(
            request,
            &offers.iter().map(|(media_type, _)| *media_type).collect::<Vec<_>>(),
        )),
    }
}

/// Answers requests for the dashboard; `None` is for others.
pub(super) fn page(request: &Request) -> Option<Answer> {
    let path = request.parts.uri.path();
    if path == "/ui" {
        return Some(Ok(reply::see("ui/")));
    }
    // The one call that lies here.
    let path = path.strip_prefix("/ui/").filter(|path| *path != "session")?;
    let method = &request.parts.method;
    if method != Method::GET && method != Method::HEAD {
        return Some(Err(Refusal::method_not_allowed(method, &[Method::GET, Method::HEAD])));
    }
    let mut answer = match path.strip_prefix("assets/") {
        Some(asset) => match self::asset(&request.parts.headers, asset) {
            Some(answer) => answer,
            None => {
                let error = format!("the dashboard has no file {}; load the page again", excerpt(asset));
                return Some(Err(Refusal::new(Code::NoRoute, error)));
            }
        },
        None => document(&request.parts.headers, path),
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(Ok(answer))
}

/// The document, as it is at this path below `/ui/`.
fn document(headers: &HeaderMap, path: &str) -> Response<Content> {
    let up = path.bytes().filter(|&byte| byte == b'/').count();
    let tag = format!("\"{}-{up}\"", THE_ASSETS.hash);
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        // Proxies that compress make the tag a weak one.
        known
            .to_str()
            .is_ok_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
    });
    let mut answer = if known {
        reply::not_modified()
    } else {
        let assets = format!("{}assets/{}", "../".repeat(up), THE_ASSETS.hash);
        reply::document("text/html; charset=utf-8", THE_ASSETS.index.replace(ASSETS, &assets).into_bytes())
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

/// A file, if the path has the hash of these.
fn asset(headers: &HeaderMap, path: &str) -> Option<Response<Content>> {
    let path = path.strip_prefix(THE_ASSETS.hash.as_str())?.strip_prefix('/')?;
    let file = THE_ASSETS.files.get(path)?;
    let gzipped = accepts_gzip(headers).then(|| file.gzipped());
    let mut answer = reply::document(media_type(path), gzipped.unwrap_or(&file.plain).to_vec());
    if gzipped.is_some() {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, forever);
    Some(answer)
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Whether gzip is among the encodings that the client takes (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        is_gzip && !parts.any(refused)
    })
}

impl File {
    fn gzipped(&self) -> &[u8] {
        self.gzipped.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Writing to memory does not fail; if it did, the plain bytes would not be gzip.
            drop(encoder.write_all(&self.plain));
            encoder.finish().unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The files below a folder of `ui`.
    fn below(folder: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(Result::unwrap);
        entries.map(|entry| format!("{folder}{}", entry.file_name().to_string_lossy())).collect()
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let embedded: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        let all = ["", "lib/", "parts/", "screens/", "vendor/"].into_iter().flat_map(below);
        let loaded = all.filter(|path| path.ends_with(".js") || path.ends_with(".css")).collect();
        assert_eq!(embedded, loaded);
    }

    #[test]
    fn gzip_is_for_those_who_name_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("gzipx", false),
            ("*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
    }
}
