//! TLS, if it is configured: the server's certificate, and those that callers show.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use protocol::access::Role;
use protocol::certificate::{Facts, certificates, private_key};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::Certificate;
use crate::clock;

/// How often the files are looked at. A change counts once it is as old as that: some tools write one file after the other.
const LOOK: Duration = Duration::from_secs(2);

/// The TLS files, as given by flags.
#[derive(Debug, Clone, Args)]
pub struct Tls {
    /// Serve HTTPS with the certificate chain in this PEM file. It is read again on SIGHUP, and when it changes
    #[arg(long, env = "ZIZQ_TLS_CERT", value_name = "FILE", requires = "tls_key", required = false)]
    pub tls_cert: PathBuf,
    /// The private key of the certificate, a PEM file
    #[arg(long, env = "ZIZQ_TLS_KEY", value_name = "FILE", requires = "tls_cert", required = false)]
    pub tls_key: PathBuf,
    /// Know callers by their certificates, if one of the authorities in this PEM file has signed them
    #[arg(long, env = "ZIZQ_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether callers must show a certificate, or may show an access token instead [default: required]
    #[arg(
        long,
        env = "ZIZQ_TLS_CLIENT_AUTH",
        value_enum,
        value_name = "required|optional",
        requires = "tls_client_ca"
    )]
    pub tls_client_auth: Option<ClientAuth>,
    /// What callers with a valid certificate may do that no `zizq-server token create --certificate` has named: a role, a
    /// comma-separated list of roles, or none [default: worker,producer]
    #[arg(long, env = "ZIZQ_TLS_CLIENT_ROLE", value_name = "ROLES|none", requires = "tls_client_ca")]
    pub tls_client_role: Option<Roles>,
}

/// Whether callers show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// Whoever shows none is not heard.
    Required,
    /// Whoever shows none shows an access token.
    Optional,
}

/// Some roles, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl std::str::FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|e| format!("{e}, or none"))
    }
}

impl Tls {
    /// What owners of valid certificates may do whom nobody has named.
    pub(crate) fn strangers(&self) -> &[Role] {
        match &self.tls_client_role {
            Some(Roles(roles)) => roles,
            None => &[Role::Worker, Role::Producer],
        }
    }
}

/// What new connections speak TLS with. A reload replaces it; open connections keep the old one.
#[derive(Clone)]
pub(crate) struct Acceptors {
    files: Tls,
    /// Whether callers are asked for certificates.
    asks: bool,
    current: Arc<watch::Sender<Loaded>>,
    /// How the files were when they were last read.
    read: Arc<Mutex<Vec<Stamp>>>,
}

struct Loaded {
    asking: TlsAcceptor,
    silent: TlsAcceptor,
    expiries: Vec<Expiry>,
}

/// The certificate in a file that expires first.
#[derive(Debug)]
struct Expiry {
    flag: &'static str,
    file: String,
    facts: Facts,
}

impl Expiry {
    fn of(flag: &'static str, file: &Path, certificates: &[CertificateDer<'_>]) -> Option<Self> {
        let all = certificates.iter().filter_map(|certificate| Facts::of(certificate));
        let facts = all.min_by_key(|facts| facts.not_after)?;
        Some(Self { flag, file: file.display().to_string(), facts })
    }

    fn doubt(&self, now: i64) -> Option<String> {
        let doubt = self.facts.doubt(now)?;
        Some(format!("{} {}: {doubt}", self.flag, self.file))
    }
}

/// What changes with a file: its time, length and number; none if there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Acceptors {
    /// Reads the files.
    ///
    /// # Errors
    /// One sentence for the operator: a file cannot be read, or the two do not belong together.
    pub(crate) fn read(files: &Tls) -> anyhow::Result<Self> {
        let stamps = stamps(files);
        let (loaded, doubts) = load(files)?;
        warn(&doubts);
        let current = Arc::new(watch::Sender::new(loaded));
        Ok(Self { files: files.clone(), asks: true, current, read: Arc::new(Mutex::new(stamps)) })
    }

    /// The same for a listener that asks nobody for a certificate.
    pub(crate) fn silent(&self) -> Self {
        Self { asks: false, ..self.clone() }
    }

    /// The files, and when the first certificate in each expires, in seconds since the Unix epoch.
    pub(crate) fn expiries(&self) -> Vec<(String, i64)> {
        let of_file = |expiry: &Expiry| (expiry.file.clone(), expiry.facts.not_after);
        self.current.borrow().expiries.iter().map(of_file).collect()
    }

    /// Warns of certificates that are not valid, or not for long.
    pub(crate) fn warn_of_expiry(&self) {
        let now = clock::seconds();
        let doubts: Vec<String> =
            self.current.borrow().expiries.iter().filter_map(|expiry| expiry.doubt(now)).collect();
        warn(&doubts);
    }

    /// Reads the files again, and logs the result. An error changes nothing.
    pub(crate) fn reload(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        match load(&self.files) {
            Ok((loaded, doubts)) => {
                warn(&doubts);
                self.current.send_replace(loaded);
                tracing::info!("certificate and key reloaded; new connections use them");
            }
            Err(error) => {
                tracing::error!("cannot reload the certificate; the old one stays in use: {error:#}");
            }
        }
    }

    /// Reads the files again whenever they change. Those that cannot be used are not read again until they change.
    pub(crate) async fn follow(self) {
        let mut before = Vec::new();
        loop {
            sleep(LOOK).await;
            let this = self.clone();
            let look = move || {
                let now = stamps(&this.files);
                let is_news = now != *this.read.lock().unwrap_or_else(PoisonError::into_inner);
                if is_news && now == before {
                    this.reload();
                }
                now
            };
            match tokio::task::spawn_blocking(look).await {
                Ok(now) => before = now,
                Err(_) => return,
            }
        }
    }

    /// Shakes hands on a new connection. Returns the certificate of the caller, too.
    pub(crate) async fn accept<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<(TlsStream<S>, Option<Certificate>)> {
        let acceptor = {
            let current = self.current.borrow();
            if self.asks { current.asking.clone() } else { current.silent.clone() }
        };
        let stream = acceptor.accept(socket).await?;
        let chain = stream.get_ref().1.peer_certificates().filter(|_| self.asks);
        let certificate = chain.and_then(<[_]>::first).and_then(|certificate| Certificate::of(certificate));
        Ok((stream, certificate))
    }
}

/// Whether a handshake failed for the certificate of the caller.
pub(crate) fn is_about_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

fn stamps(files: &Tls) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    [&files.tls_cert, &files.tls_key].into_iter().chain(&files.tls_client_ca).map(stamp).collect()
}

fn warn(doubts: &[String]) {
    for doubt in doubts {
        tracing::warn!("{doubt}");
    }
}

/// Loads the files, and returns warnings about them.
fn load(files: &Tls) -> anyhow::Result<(Loaded, Vec<String>)> {
    let (cert, key) = (files.tls_cert.display().to_string(), files.tls_key.display().to_string());
    let pem = std::fs::read(&files.tls_cert).with_context(|| format!("--tls-cert: cannot read {cert}"))?;
    let chain = certificates(&pem).map_err(|e| anyhow::anyhow!("--tls-cert {cert}: {e}"))?;
    let pem = std::fs::read(&files.tls_key).with_context(|| format!("--tls-key: cannot read {key}"))?;
    let private = private_key(&pem).map_err(|e| anyhow::anyhow!("--tls-key {key}: {e}"))?;
    let mut doubts = Vec::new();
    if chain.first().and_then(|first| Facts::of(first)).is_some_and(|facts| facts.names.is_empty()) {
        doubts.push(format!(
            "--tls-cert {cert}: the certificate names no host, so clients refuse it; create it with zizq-server cert server \
             --san HOST"
        ));
    }
    let mut expiries: Vec<Expiry> = Expiry::of("--tls-cert", &files.tls_cert, &chain).into_iter().collect();
    if others_can_read(&files.tls_key) {
        doubts.push(format!("--tls-key {key}: every user of this machine can read it; run chmod o= {key}"));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = match &files.tls_client_ca {
        Some(path) => {
            let (verifier, expiry) = verifier(path, files.tls_client_auth, &provider, &mut doubts)?;
            expiries.extend(expiry);
            Some(verifier)
        }
        None => None,
    };
    let now = clock::seconds();
    doubts.extend(expiries.iter().filter_map(|expiry| expiry.doubt(now)));
    let silent = acceptor(files, &provider, chain.clone(), private.clone_key(), None)?;
    let asking = match verifier {
        Some(_) => acceptor(files, &provider, chain, private, verifier)?,
        None => silent.clone(),
    };
    Ok((Loaded { asking, silent, expiries }, doubts))
}

/// Checks certificates of callers.
fn verifier(
    path: &Path,
    auth: Option<ClientAuth>,
    provider: &Arc<CryptoProvider>,
    doubts: &mut Vec<String>,
) -> anyhow::Result<(Arc<dyn ClientCertVerifier>, Option<Expiry>)> {
    let shown = path.display();
    let pem = std::fs::read(path).with_context(|| format!("--tls-client-ca: cannot read {shown}"))?;
    let all = certificates(&pem).map_err(|e| anyhow::anyhow!("--tls-client-ca {shown}: {e}"))?;
    let expiry = Expiry::of("--tls-client-ca", path, &all);
    let mut roots = RootCertStore::empty();
    for (n, one) in all.into_iter().enumerate() {
        if Facts::of(&one).is_some_and(|facts| !facts.is_authority) {
            doubts.push(format!(
                "--tls-client-ca {shown}: its certificate number {} is no authority (CA:TRUE), so it can sign none of callers",
                n + 1
            ));
        }
        roots.add(one).map_err(|error| {
            anyhow::anyhow!(
                "--tls-client-ca {shown}: its certificate number {} cannot be used: {error}",
                n + 1
            )
        })?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if auth == Some(ClientAuth::Optional) {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| anyhow::anyhow!("--tls-client-ca {shown}: {error}"))?;
    Ok((verifier, expiry))
}

/// HTTP/2 is offered before HTTP/1.1 (ALPN, RFC 7301). Each set of files gets its own configuration, so that a session of
/// the old certificate, or with one of an old authority, is not resumed with the new one.
fn acceptor(
    files: &Tls,
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> anyhow::Result<TlsAcceptor> {
    let (cert, key) = (files.tls_cert.display(), files.tls_key.display());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = match builder.with_single_cert(chain, private) {
        Ok(config) => config,
        Err(rustls::Error::InconsistentKeys(_)) => {
            bail!("--tls-key {key}: the key does not belong to the certificate in {cert}")
        }
        Err(error) => bail!("{cert} and {key} cannot be used: {error}"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}
