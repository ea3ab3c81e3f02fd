//! How the pages are served: addresses, headers, caches. No browser is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::Method;
use regex::Regex;
use serde_json::json;
use sha2::{Digest, Sha256};
use tests::{Answer, Server};
use walkdir::WalkDir;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("zizq-server/ui")
}

async fn page(server: &Server, path: &str) -> Answer {
    server.client().get(path).header("accept", "text/html").await
}

/// The addresses of the assets that the document at this path links to.
fn links(path: &str, document: &str) -> Vec<String> {
    let link = Regex::new(r#"(?:href|src)="([^"]+)""#).unwrap();
    let base = http::Uri::try_from(path).unwrap();
    let depth = base.path().matches('/').count();
    let resolved = |link: &str| {
        let up = link.matches("../").count();
        let parts: Vec<&str> = base.path().split('/').take(depth - up).collect();
        format!("{}/{}", parts.join("/"), link.trim_start_matches("../"))
    };
    let found = link.captures_iter(document).map(|found| found[1].to_owned());
    found.filter(|link| !link.starts_with("data:")).map(|link| resolved(&link)).collect()
}

#[tokio::test]
async fn the_root_leads_people_to_the_dashboard_and_tells_programs_what_is_here() {
    let server = Server::start().await;
    let client = server.client();
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    let answer = client.get("/").header("accept", browser).await;
    assert_eq!((answer.status, answer.header("location")), (302, "ui/"));
    for accept in ["*/*", "application/json", "application/msgpack", "application/*"] {
        let answer = client.get("/").header("accept", accept).await;
        let about = answer.expect(200);
        assert_eq!(about["links"]["dashboard"], "ui/", "{accept}");
        assert_eq!(about["contract"], "0.7.0", "{accept}");
        for (name, link) in about["links"].as_object().unwrap() {
            let path = format!("/{}", link.as_str().unwrap());
            if !["events", "live"].contains(&name.as_str()) {
                assert_eq!(client.get(&path).header("accept", "*/*").await.status, 200, "{path}");
            }
        }
    }
    client.get("/").header("accept", "image/png").await.expect_refusal(406, "image/png");
    client.get("/?x=1").await.expect_refusal(400, "x");
    let head = client.call(Method::HEAD, "/").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let answer = client.get("/ui").await;
    assert_eq!((answer.status, answer.header("location")), (302, "ui/"));
}

#[tokio::test]
async fn every_view_is_the_same_document_with_relative_links_to_assets_for_ever() {
    let server = Server::start().await;
    let client = server.client();
    for path in
        ["/ui/", "/ui/queues", "/ui/queues/a%2Fb", "/ui/jobs/x/attempts/3", "/ui/nothing/like/that?x=1"]
    {
        let answer = page(&server, path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        let document = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(!document.contains("{assets}") && !document.contains("=\"/"), "{document}");
        for link in links(path, &document) {
            let asset = client.get(&link).await;
            assert_eq!(asset.status, 200, "{path}: {link}");
            assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable", "{link}");
        }
        let tag = answer.header("etag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let again = client.get(path).header("if-none-match", &known).await;
            assert_eq!(
                (again.status, again.body.len(), again.header("etag")),
                (304, 0, tag.as_str()),
                "{known}"
            );
        }
        assert_eq!(client.get(path).header("if-none-match", "\"other\"").await.status, 200);
    }
}

#[tokio::test]
async fn assets_are_compressed_for_those_who_can_read_that() {
    let server = Server::start().await;
    let document = page(&server, "/ui/").await;
    let document = String::from_utf8(document.body.to_vec()).unwrap();
    let sheet = links("/ui/", &document).into_iter().find(|link| link.ends_with("app.css")).unwrap();
    let plain = std::fs::read(folder().join("app.css")).unwrap();
    for (accepted, compressed) in
        [("gzip", true), ("br, GZIP;q=0.5", true), ("identity", false), ("gzip;q=0", false), ("", false)]
    {
        let answer = server.client().get(&sheet).header("accept-encoding", accepted).await;
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(answer.header("content-encoding") == "gzip", compressed, "{accepted}");
        let body = if compressed {
            let mut body = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&*answer.body), &mut body).unwrap();
            assert!(answer.body.len() * 2 < body.len(), "{} of {}", answer.body.len(), body.len());
            body
        } else {
            answer.body.to_vec()
        };
        assert!(body == plain, "{accepted}");
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_that_lock_a_page_in() {
    let server = Server::start().await;
    let document = page(&server, "/ui/").await;
    let text = String::from_utf8(document.body.to_vec()).unwrap();
    let script = links("/ui/", &text).into_iter().find(|link| link.ends_with("app.js")).unwrap();
    for answer in [document, server.client().get(&script).await] {
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_like_any_other_call() {
    let server = Server::start().await;
    let client = server.client();
    client.get("/ui/assets/0000000000000000/app.js").await.expect_refusal(404, "load the page again");
    client.get("/ui/assets/").await.expect_refusal(404, "no file");
    for path in ["/ui/assets/../../Cargo.toml", "/ui/assets/%2e%2e/lib.rs"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    client.post("/ui/queues", &json!({})).await.expect_refusal(405, "GET, HEAD");
    let server = Server::with(["--ui", "off"]).await;
    let client = server.client();
    client.get("/ui/").await.expect_refusal(404, "/ui/");
    let about = client.get("/").header("accept", "text/html, */*;q=0.1").await.expect(200);
    assert_eq!(about["links"].get("dashboard"), None);
    page(&server, "/").await.expect_refusal(406, "text/html");
}

/// Code of others is as they published it.
#[test]
fn third_party_files_have_their_sums() {
    let vendor = folder().join("vendor");
    let list = std::fs::read_to_string(vendor.join("THIRD-PARTY.md")).unwrap();
    let row = Regex::new(r"(?m)^\| `([^`]+)` .* `([0-9a-f]{64})` \|$").unwrap();
    let mut listed = BTreeSet::new();
    for found in row.captures_iter(&list) {
        let bytes = std::fs::read(vendor.join(&found[1])).unwrap();
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, found[2], "{}", &found[1]);
        listed.insert(found[1].to_owned());
    }
    let names = vendor.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let code: BTreeSet<String> =
        names.filter(|name| name.ends_with(".js") || name.ends_with(".css")).collect();
    assert_eq!(listed, code);
}

/// A browser loads what is in the folder, and nothing in the folder is written as HTML.
#[test]
fn our_modules_are_small_and_write_no_html() {
    for entry in WalkDir::new(folder()).into_iter().map(Result::unwrap) {
        let path = entry.path();
        let is_ours = path.extension().is_some_and(|extension| extension == "js")
            && !path.to_string_lossy().contains("/vendor/");
        if !is_ours {
            continue;
        }
        let code = std::fs::read_to_string(path).unwrap();
        assert!(code.lines().count() <= 200, "{}: {} lines", path.display(), code.lines().count());
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "dangerouslySetInnerHTML",
            "eval(",
            "new Function",
        ] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}
