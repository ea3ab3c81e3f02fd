//! `zizq-server health`: asks a server whether it is ready, for containers and scripts without another HTTP client.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{DEFAULT_PORT, Health};
use crate::control;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What a server says about itself.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// Why it is not.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// Asks the server.
///
/// # Errors
/// When it does not answer. The message is one sentence for people.
pub fn ask(health: &Health) -> anyhow::Result<Readiness> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(socket) = usual_socket().filter(|_| health.url.is_none()) {
        let shown = socket.display();
        let asked = async { exchange(UnixStream::connect(&socket).await?, "localhost").await };
        let answer = runtime.block_on(async { timeout(health.timeout, asked).await });
        let answer =
            answer.map_err(|_| anyhow::anyhow!("{shown} has not answered for {:?}", health.timeout))?;
        return answer.with_context(|| format!("cannot ask at the control socket {shown}"));
    }
    let url = health.url.clone().unwrap_or_else(usual_url);
    let answer = runtime.block_on(async { timeout(health.timeout, get(&url)).await });
    let answer = answer.map_err(|_| anyhow::anyhow!("{url} has not answered for {:?}", health.timeout))?;
    answer.with_context(|| format!("cannot ask {url}"))
}

/// Where a server listens that got its settings from the environment of this process.
fn usual_url() -> String {
    let from_env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let scheme = if from_env("ZIZQ_TLS_CERT").is_some() { "https" } else { "http" };
    let host = from_env("ZIZQ_HOST").unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
    // A server that listens on every address is asked on this machine.
    let host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host,
    };
    let port = from_env("ZIZQ_PORT").unwrap_or_else(|| DEFAULT_PORT.to_string());
    format!("{scheme}://{host}:{port}")
}

/// The control socket of a server that got its settings from the environment of this process, if it hears nobody without a
/// certificate at its port.
fn usual_socket() -> Option<PathBuf> {
    let from_env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_optional = from_env("ZIZQ_TLS_CLIENT_AUTH").is_some_and(|value| value == "optional");
    from_env("ZIZQ_TLS_CLIENT_CA").filter(|_| !is_optional)?;
    let root_dir = from_env("ZIZQ_ROOT_DIR").unwrap_or_else(|| "./zizq-root".into());
    let given = from_env("ZIZQ_CONTROL_SOCKET").map(PathBuf::from);
    Some(control::path(given.as_deref(), Path::new(&root_dir)))
}

async fn get(url: &str) -> anyhow::Result<Readiness> {
    let url: Uri = url.parse().context("this is not a URL")?;
    let (Some(host), Some(scheme)) = (url.host(), url.scheme_str()) else {
        bail!("this is not a URL such as http://127.0.0.1:7890");
    };
    let is_tls = match scheme {
        "http" => false,
        "https" => true,
        other => bail!("`{other}` is neither http nor https"),
    };
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let bare = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((bare, port)).await?;
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    if !is_tls {
        return exchange(stream, &authority).await;
    }
    let name = ServerName::try_from(bare.to_owned()).context("this is not the name of a host")?;
    exchange(any_connector()?.connect(name, stream).await?, &authority).await
}

/// Connects to a server whatever certificate it shows.
pub(crate) fn any_connector() -> anyhow::Result<TlsConnector> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(AnyCertificate(ring::default_provider())));
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &str,
) -> anyhow::Result<Readiness> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get("/readyz").header(HOST, authority).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    serde_json::from_slice(&body)
        .with_context(|| format!("it answered {status}, and not as zizq-server does"))
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
