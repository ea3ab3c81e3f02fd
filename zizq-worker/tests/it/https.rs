//! TLS: whom the worker believes, and whom it shows what.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::fake::Server;
use crate::worker::{ConfigFile, id, job, lease};

/// An authority of our own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a name, and its key, both as PEM.
    fn certify(&self, name: &str) -> (String, String, CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.pem(), key.serialize_pem(), certificate.der().clone(), der)
    }
}

/// An endpoint that answers 200 to whoever gets through.
async fn endpoint(authority: &Authority, asks_for_certificate: bool) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (_, _, certificate, key) = authority.certify("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = if asks_for_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        config.with_client_cert_verifier(verifier)
    } else {
        config.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(socket).await {
                let mut request = [0; 4096];
                if tls.read(&mut request).await.is_ok_and(|n| n > 0) {
                    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                        .await
                        .ok();
                    tls.shutdown().await.ok();
                }
            }
        }
    });
    address
}

/// What becomes of a job of such a route: nothing to say where it succeeds.
async fn outcome(address: SocketAddr, host: &str, lines: &str) -> Option<Value> {
    let url = format!("https://{host}:{}/", address.port());
    let file = ConfigFile::new(&format!("[[route]]\nqueue = 'q'\nurl = '{url}'\n{lines}\n"));
    let mut server = Server::start().await;
    let _worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let mut call = server.any_call().await;
    let body = call.body.take();
    match call.path.as_str() {
        "/jobs/success" => {
            assert_eq!(crate::fake::leases(&body), [(id(1), lease(11))]);
            None
        }
        _ => Some(body),
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_and_a_stranger_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, strange) = (Authority::new(), Authority::new());
    let path = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let ours_pem = path("ours.pem", &ours.0.pem());
    let strange_pem = path("strange.pem", &strange.0.pem());
    let address = endpoint(&ours, false).await;
    assert_eq!(outcome(address, "localhost", &format!("ca = '{ours_pem}'")).await, None);
    for (host, lines) in [
        ("localhost", format!("ca = '{strange_pem}'")),
        // A certificate for another name.
        ("127.0.0.1", format!("ca = '{ours_pem}'")),
    ] {
        let failure = outcome(address, host, &lines).await.unwrap();
        assert_eq!(failure["error_type"], "http_error");
        assert!(failure["message"].as_str().unwrap().contains("certificate"), "{failure}");
    }
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let (certificate, key, ..) = ours.certify("worker");
    let path = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let ca = path("ca.pem", &ours.0.pem());
    let (cert, key) = (path("cert.pem", &certificate), path("key.pem", &key));
    let address = endpoint(&ours, true).await;
    let with = format!("ca = '{ca}'\ncert = '{cert}'\nkey = '{key}'");
    assert_eq!(outcome(address, "localhost", &with).await, None);
    let failure = outcome(address, "localhost", &format!("ca = '{ca}'")).await.unwrap();
    assert_eq!(failure["error_type"], "http_error");
}
