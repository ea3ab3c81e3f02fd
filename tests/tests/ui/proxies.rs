//! The dashboard behind proxies: under a path that the proxy takes away, under one that it keeps, over TLS with HTTP/2, and behind
//! one that asks people who they are.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tests::Server;
use tests::wait::until;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::browser::Browser;
use crate::seed::fill;

/// The header in which the server is told who a person is.
const USER: &str = "x-forwarded-user";

type Body = BoxBody<Bytes, hyper::Error>;

/// A proxy for one server.
#[derive(Debug, Clone)]
struct Proxy {
    server: String,
    /// The path below which the server is.
    prefix: &'static str,
    /// Whether the server sees this path.
    keeps: bool,
    /// Whom it lets in.
    user: Arc<Mutex<Option<&'static str>>>,
    client: Client<HttpConnector, Incoming>,
}

impl Proxy {
    fn new(server: &Server, prefix: &'static str, keeps: bool) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { server: server.url(), prefix, keeps, user: Arc::default(), client }
    }

    /// Starts it, and gives its URL.
    async fn start(&self, tls: bool) -> String {
        let (proxy, prefix) = (self.clone(), self.prefix);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}{prefix}", listener.local_addr().unwrap());
        let acceptor = tls.then(acceptor);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (proxy, acceptor) = (proxy.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let proxy = proxy.clone();
                        async move { Ok::<_, Infallible>(proxy.forward(request).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A browser closes connections as it likes.
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(connection) = acceptor.accept(connection).await else { return };
                            builder.serve_connection(TokioIo::new(connection), service).await.ok();
                        }
                        None => drop(builder.serve_connection(TokioIo::new(connection), service).await),
                    }
                });
            }
        });
        url
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path_and_query().unwrap().as_str();
        let Some(below) = path.strip_prefix(self.prefix) else {
            return plain(StatusCode::NOT_FOUND, "another application");
        };
        let host = request.uri().authority().map(ToString::to_string);
        let path = if self.keeps { path } else { below };
        *request.uri_mut() = Uri::try_from(format!("{}{path}", self.server)).unwrap();
        *request.version_mut() = http::Version::HTTP_11;
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        request.headers_mut().remove(USER);
        if let Some(user) = *self.user.lock().unwrap() {
            request.headers_mut().insert(USER, user.parse().unwrap());
        }
        match self.client.request(request).await {
            Ok(answer) => answer.map(BodyExt::boxed),
            Err(error) => plain(StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn acceptor() -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_under_any_path_and_over_http_2() {
    let Some(mut browser) = Browser::start().await else { return };
    for (prefix, keeps, tls) in
        [("", false, false), ("/tools/zizq", false, false), ("/tools/zizq", true, false), ("", false, true)]
    {
        let what = format!("{prefix:?}, kept: {keeps}, TLS: {tls}");
        let flags = if keeps { vec!["--path-prefix", prefix] } else { vec![] };
        let server = Server::with(flags).await;
        fill(&server).await;
        let url = Proxy::new(&server, prefix, keeps).start(tls).await;
        // The root leads there, too.
        let tab = browser.open(&format!("{url}/")).await;
        tab.see("Needs attention").await;
        assert_eq!(tab.place().await, format!("{prefix}/ui/"), "{what}");
        tab.wait("document.querySelector('canvas')").await;
        if tls {
            let protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
            assert_eq!(tab.eval(&format!("return {protocol}")).await, "h2");
        }
        tab.keys("g q").await;
        tab.see("launch/pad").await;
        tab.press("🚀 launch/pad").await;
        tab.see("Time to empty").await;
        assert_eq!(tab.place().await, format!("{prefix}/ui/queues/%F0%9F%9A%80%20launch%2Fpad"), "{what}");
        // The same address, loaded as a whole, several levels deep.
        tab.go(&format!("{url}/ui/queues/%F0%9F%9A%80%20launch%2Fpad")).await;
        tab.press("Pause").await;
        tab.see("Resume").await;
        let client = server.client();
        let path = format!("{}/queues/%F0%9F%9A%80%20launch%2Fpad", if keeps { prefix } else { "" });
        until(&what, async || (client.get(&path).await.expect(200)["paused"] == true).then_some(())).await;
        tab.keys("g j").await;
        tab.see("All that match").await;
        tab.fine();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_proxy_lets_in_needs_no_log_in() {
    let Some(mut browser) = Browser::start().await else { return };
    let roles = ["--auth-proxy-role", "ada=admin,bob=viewer"];
    let proxied = ["--auth-proxy-header", "X-Forwarded-User", "--auth-proxy-from", "127.0.0.1"];
    let server = Server::with(proxied.iter().chain(&roles).copied()).await;
    let proxy = Proxy::new(&server, "", false);
    let url = proxy.start(false).await;
    let lets_in = |user| *proxy.user.lock().unwrap() = user;
    lets_in(Some("bob"));
    let tab = browser.open(&format!("{url}/ui/server")).await;
    tab.see("Let in by the proxy").await;
    tab.wait("document.documentElement.dataset.deny === 'enqueue operate configure admin'").await;
    let text = tab.text().await;
    assert!(text.contains("bob") && text.contains("viewer") && !text.contains("Log in"), "{text}");
    tab.axe("the server page of a person").await;
    lets_in(Some("ada"));
    tab.go(&format!("{url}/ui/server")).await;
    tab.see("Access tokens").await;
    tab.press("Make a token").await;
    tab.fill("[name=name]", "ci").await;
    tab.press("Make it").await;
    tab.see("It is shown only now").await;
    tab.press("I have copied it").await;
    tab.go(&format!("{url}/ui/audit")).await;
    tab.see("/tokens").await;
    tab.see("ada").await;
    tab.fine();
    // Whom it lets in no longer it asks again, when the page is loaded; only then there is a log-in.
    tab.eval("window.loaded = true").await;
    lets_in(None);
    tab.keys("g q").await;
    tab.see("It begins with zizq_").await;
    tab.wait("window.loaded === undefined").await;
    tab.forgive();
    // Whom the server gives no role is told so.
    lets_in(Some("mallory"));
    tab.go(&format!("{url}/ui/")).await;
    tab.see("the proxy says that this is `mallory`").await;
    tab.forgive();
}
