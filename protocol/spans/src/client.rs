//! The HTTP client of the exporter. Its calls run on the runtime of the program; the exporter waits for them on a thread of
//! its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a call may take that the exporter does not end itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes calls over HTTP/1.1, with TLS where the URL says so.
#[derive(Debug)]
pub(crate) struct Calls {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl Calls {
    /// Must be called on a runtime. Trusts the certificates in a file, or else those of the system.
    ///
    /// # Errors
    /// One sentence, when the file cannot be read.
    pub(crate) fn new(certificates: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.with_root_certificates(roots(certificates)?);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, runtime: Handle::current() })
    }
}

/// A system without certificates can still call a collector without TLS.
fn roots(certificates: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = certificates else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let cannot =
        |why: &dyn std::fmt::Display| format!("cannot read the certificates in {}: {why}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| cannot(&e))? {
        roots.add(certificate.map_err(|e| cannot(&e))?).map_err(|e| cannot(&e))?;
    }
    Ok(roots)
}

impl HttpClient for Calls {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let call = async move {
            let answer = client.request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // The timer, too, belongs to the runtime.
        let call = self.runtime.spawn(async { tokio::time::timeout(PATIENCE, call).await? });
        Box::pin(async move { call.await? })
    }
}
