//! TLS, if it is configured.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use protocol::certificate::{Facts, certificates, private_key};
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::clock;

/// The TLS files, as given by flags.
#[derive(Debug, Clone, Args)]
pub struct Tls {
    /// Serve HTTPS with the certificate chain in this PEM file
    #[arg(long, env = "ZIZQ_TLS_CERT", requires = "tls_key", required = false)]
    pub tls_cert: PathBuf,
    /// The private key of the certificate, a PEM file
    #[arg(long, env = "ZIZQ_TLS_KEY", requires = "tls_cert", required = false)]
    pub tls_key: PathBuf,
}

/// What new connections speak TLS with. A reload replaces it; open connections keep the old one.
#[derive(Clone)]
pub(crate) struct Acceptors {
    files: Tls,
    current: Arc<watch::Sender<TlsAcceptor>>,
}

impl Acceptors {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// One sentence for the operator: a file cannot be read, or the two do not belong together.
    pub(crate) fn read(files: &Tls) -> anyhow::Result<Self> {
        let (acceptor, doubts) = load(files)?;
        warn(&doubts);
        Ok(Self { files: files.clone(), current: Arc::new(watch::Sender::new(acceptor)) })
    }

    /// Reloads them. An error changes nothing.
    pub(crate) fn read_again(&self) -> anyhow::Result<()> {
        let (acceptor, doubts) = load(&self.files)?;
        warn(&doubts);
        self.current.send_replace(acceptor);
        Ok(())
    }

    /// The acceptor for a new connection.
    pub(crate) fn current(&self) -> TlsAcceptor {
        self.current.borrow().clone()
    }
}

fn warn(doubts: &[String]) {
    for doubt in doubts {
        tracing::warn!("{doubt}");
    }
}

/// Loads the files, and returns warnings about them. HTTP/2 is offered before HTTP/1.1 (ALPN, RFC 7301).
///
/// Each pair of files gets its own configuration, so that a session of the old certificate is not resumed with the new
/// one.
fn load(files: &Tls) -> anyhow::Result<(TlsAcceptor, Vec<String>)> {
    let (cert, key) = (files.tls_cert.display().to_string(), files.tls_key.display().to_string());
    let pem = std::fs::read(&files.tls_cert).with_context(|| format!("--tls-cert: cannot read {cert}"))?;
    let chain = certificates(&pem).map_err(|e| anyhow::anyhow!("--tls-cert {cert}: {e}"))?;
    let pem = std::fs::read(&files.tls_key).with_context(|| format!("--tls-key: cannot read {key}"))?;
    let private = private_key(&pem).map_err(|e| anyhow::anyhow!("--tls-key {key}: {e}"))?;
    let now = i64::try_from(clock::now().wall / 1000).unwrap_or(i64::MAX);
    let mut doubts = doubts(&cert, chain.first().and_then(|first| Facts::of(first)).as_ref(), now);
    if others_can_read(&files.tls_key) {
        doubts.push(format!("--tls-key {key}: every user of this machine can read it; run chmod o= {key}"));
    }
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private);
    let mut config = match config {
        Ok(config) => config,
        Err(rustls::Error::InconsistentKeys(_)) => {
            bail!("--tls-key {key}: the key does not belong to the certificate in {cert}")
        }
        Err(error) => bail!("{cert} and {key} cannot be used: {error}"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), doubts))
}

fn doubts(cert: &str, facts: Option<&Facts>, now: i64) -> Vec<String> {
    let Some(facts) = facts else { return Vec::new() };
    let untimely = facts.doubt(now).map(|doubt| format!("--tls-cert {cert}: {doubt}"));
    let nameless = facts.names.is_empty().then(|| {
        format!(
            "--tls-cert {cert}: the certificate names no host, so clients refuse it; \
             create it with openssl req -x509 ... -addext subjectAltName=DNS:HOST"
        )
    });
    untimely.into_iter().chain(nameless).collect()
}

fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}
