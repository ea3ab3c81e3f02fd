//! TLS, where it is asked for.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Reads certificate and key. HTTP/2 is offered before HTTP/1.1 (ALPN, RFC 7301).
///
/// # Errors
/// When a file cannot be read, or the two do not belong together.
pub(crate) fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    let shown = |path: &Path| path.display().to_string();
    let certificates = CertificateDer::pem_file_iter(&tls.tls_cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("--tls-cert: cannot read certificates from {}", shown(&tls.tls_cert)))?;
    let key = PrivateKeyDer::from_pem_file(&tls.tls_key)
        .with_context(|| format!("--tls-key: cannot read a private key from {}", shown(&tls.tls_key)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| {
            format!("{} and {} do not go together", shown(&tls.tls_cert), shown(&tls.tls_key))
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
