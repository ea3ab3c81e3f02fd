//! Calls a server, over its control socket or over the network: the client of the commands that ask a running one.
#![warn(missing_docs)]

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use protocol::certificate::{certificates, private_key};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How many connections are kept for the next calls.
const MAX_IDLE: usize = 4;

/// Which certificates of a server are trusted.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Every certificate: for what has no secrets.
    Any,
    /// Those that the machine trusts.
    System,
    /// Those that this PEM file has or that they have signed.
    File(&'a Path),
}

/// A server, and how it is reached.
pub struct Client {
    place: Place,
    /// What calls say as their `Host`.
    authority: String,
    /// The path under which the calls are, without a slash at its end.
    base: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    idle: Mutex<Vec<Sender>>,
}

type Sender = SendRequest<Full<Bytes>>;

enum Place {
    Socket(PathBuf),
    Network { host: String, port: u16, tls: Option<TlsConnector> },
}

impl Client {
    /// The server that listens on this control socket.
    pub fn of_socket(path: &Path) -> Self {
        Self::new(Place::Socket(path.to_owned()), "localhost".to_owned(), String::new())
    }

    /// The server at this URL. A user name and password in it are sent. `tls` is asked only if the URL begins with https.
    ///
    /// # Errors
    /// A sentence about the URL or the certificates.
    pub fn of_url(url: &str, tls: impl FnOnce() -> anyhow::Result<ClientConfig>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().context("this is not a URL")?;
        let (Some(authority), Some(host), Some(scheme)) = (uri.authority(), uri.host(), uri.scheme_str())
        else {
            bail!("this is not a URL such as http://127.0.0.1:7890");
        };
        let tls = match scheme {
            "http" => None,
            "https" => Some(TlsConnector::from(Arc::new(tls()?))),
            other => bail!("`{other}` is neither http nor https"),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let (user, authority) = authority
            .as_str()
            .rsplit_once('@')
            .map_or((None, authority.as_str()), |(user, at)| (Some(user), at));
        let place = Place::Network { host: host.trim_matches(['[', ']']).to_owned(), port, tls };
        let client = Self::new(place, authority.to_owned(), uri.path().trim_end_matches('/').to_owned());
        let Some(user) = user else { return Ok(client) };
        let user = percent_decode_str(user).collect::<Vec<u8>>();
        let password = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(user)))?;
        Ok(client.with(AUTHORIZATION, password))
    }

    fn new(place: Place, authority: String, base: String) -> Self {
        Self { place, authority, base, headers: Vec::new(), idle: Mutex::default() }
    }

    /// With this header in every call.
    #[must_use]
    pub fn with(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(name == AUTHORIZATION);
        self.headers.push((name, value));
        self
    }

    /// Where the server is, without secrets.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Network { tls, .. } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}{}", self.authority, self.base)
            }
        }
    }

    /// The options of curl that reach the same server, and the URL before a path.
    pub fn curl(&self) -> (String, String) {
        match &self.place {
            Place::Socket(path) => {
                (format!("--unix-socket '{}' ", path.display()), "http://localhost".to_owned())
            }
            Place::Network { .. } => (String::new(), self.shown()),
        }
    }

    /// Whether a status means that what was asked for was done.
    pub const fn is_success(status: u16) -> bool {
        matches!(status, 200..300)
    }

    /// Makes one call that has JSON in both directions. Returns status and body of the answer.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn call(&self, method: &Method, path: &str, body: Vec<u8>) -> anyhow::Result<(u16, Bytes)> {
        let (answer, sender) = self.send(method, path, &[(ACCEPT, "application/json")], body.into()).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        self.keep(sender);
        Ok((status, body))
    }

    /// Opens a stream of server-sent events, or gets a refusal. `last` is the id of the last event before.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn open(
        &self,
        method: &Method,
        path: &str,
        body: Vec<u8>,
        last: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut headers = vec![(ACCEPT, "text/event-stream")];
        headers.extend((!last.is_empty()).then_some((HeaderName::from_static("last-event-id"), last)));
        Ok(self.send(method, path, &headers, body.into()).await?.0)
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> anyhow::Result<(Response<Incoming>, Sender)> {
        self.try_to_send(method, path, headers, body).await.map_err(explained)
    }

    async fn try_to_send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> anyhow::Result<(Response<Incoming>, Sender)> {
        let request = || {
            let mut request = Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.base))
                .header(HOST, &self.authority)
                .header(CONTENT_TYPE, "application/json");
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            request.body(Full::new(body.clone()))
        };
        if let Some(mut sender) = self.kept() {
            match sender.send_request(request()?).await {
                Ok(answer) => return Ok((answer, sender)),
                // The server has closed it meanwhile; whatever changes something is sent twice only if it was never sent.
                Err(error) if error.is_canceled() || method == Method::GET => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut sender = self.connect().await?;
        Ok((sender.send_request(request()?).await?, sender))
    }

    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().position(Sender::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.with_context(|| {
                    format!(
                        "no server answers at its control socket {}; is it running, and is its folder the one that \
                         --root-dir or ZIZQ_ROOT_DIR names",
                        path.display()
                    )
                })?;
                handshake(stream).await
            }
            Place::Network { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true).ok();
                let Some(tls) = tls else { return handshake(stream).await };
                let name = ServerName::try_from(host.clone()).context("this is not the name of a host")?;
                handshake(tls.connect(name, stream).await?).await
            }
        }
    }
}

/// Says what the server wants, where an error names only an alert of TLS.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let is_asked_for = |cause: &(dyn Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let alert = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(alert, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
    };
    if error.chain().any(is_asked_for) { error.context("the server asks for a certificate") } else { error }
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What a server is shown that asks for it: the PEM files of a certificate and of its private key.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The certificate, and those between it and its authority.
    pub cert: &'a Path,
    /// The private key.
    pub key: &'a Path,
}

impl Trust<'_> {
    /// The TLS configuration of a client.
    ///
    /// # Errors
    /// A sentence about the file that cannot be used.
    pub fn config(self, shown: Option<Shown<'_>>) -> anyhow::Result<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions()?;
        let config = match self {
            Self::Any => {
                let any = Arc::new(AnyCertificate(ring::default_provider()));
                config.dangerous().with_custom_certificate_verifier(any)
            }
            Self::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                config.with_root_certificates(roots)
            }
            Self::File(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in read_chain(path)? {
                    roots.add(certificate).with_context(|| {
                        format!("{} has a certificate that cannot be used", path.display())
                    })?;
                }
                config.with_root_certificates(roots)
            }
        };
        let Some(Shown { cert, key }) = shown else { return Ok(config.with_no_client_auth()) };
        let (certs, keys) = (cert.display(), key.display());
        let pem = std::fs::read(key).with_context(|| format!("cannot read {keys}"))?;
        let key = private_key(&pem).map_err(|error| anyhow::anyhow!("{keys}: {error}"))?;
        config
            .with_client_auth_cert(read_chain(cert)?, key)
            .with_context(|| format!("{keys} cannot be used as the private key of {certs}"))
    }
}

/// Reads the certificates of a PEM file; the first is the owner's.
///
/// # Errors
/// A sentence about the file.
pub fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let pem = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    certificates(&pem).map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

/// Accepts every certificate: nothing secret is sent, and the answer only says how the server is. A server that is asked
/// on its own machine rarely has a certificate for that address.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
