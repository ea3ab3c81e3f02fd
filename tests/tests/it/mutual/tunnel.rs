//! A way into a server for clients that speak plain HTTP: over TLS, with a certificate.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Leads to the server at this port, and shows this certificate. Returns the URL of its beginning.
pub(super) async fn open(
    ca: CertificateDer<'static>,
    (cert, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
    port: u16,
) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert], key)
        .unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let mut secure = connector.connect(name, socket).await.unwrap();
                // Whoever ends first ends both.
                drop(copy_bidirectional(&mut plain, &mut secure).await);
            });
        }
    });
    url
}
