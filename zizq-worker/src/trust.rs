//! TLS trust: certificate authorities, and single certificates that are named in the configuration.
//!
//! A certificate made for one machine is often self-signed, or wrongly marked as an authority. If the configuration names
//! exactly this certificate, it is trusted while it is valid, for its names.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use protocol::certificate::{Facts, certificates, private_key};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::clock;

/// What to trust.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    /// Whether to trust the authorities of this machine.
    pub(crate) known: bool,
    /// Authorities and certificates from the configuration.
    pub(crate) named: Vec<CertificateDer<'static>>,
    /// How to name one, for messages.
    pub(crate) how: &'static str,
}

/// A client certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Reads certificates from a PEM file.
pub(crate) fn read(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&pem(key, path)?).map_err(|e| format!("`{key}`: {}: {e}", path.display()))
}

fn pem(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("`{key}`: cannot read {}: {e}", path.display()))
}

impl Identity {
    /// Reads a certificate and its key from PEM files.
    pub(crate) fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        Self::of_files(("cert", cert), ("key", key))
    }

    /// As [`Self::read`]; each file with the name of its setting.
    pub(crate) fn of_files(
        (of_cert, cert): (&str, &Path),
        (of_key, key): (&str, &Path),
    ) -> Result<Self, String> {
        let chain = read(of_cert, cert)?;
        let shown = key.display();
        let key = private_key(&pem(of_key, key)?).map_err(|e| format!("`{of_key}`: {shown}: {e}"))?;
        let pair =
            rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider());
        match pair {
            Ok(_) => Ok(Self { chain, key }),
            Err(Error::InconsistentKeys(_)) => {
                Err(format!("`{of_key}`: {shown} does not belong to the certificate in {}", cert.display()))
            }
            Err(e) => Err(format!("`{of_key}`: cannot use {shown}: {e}")),
        }
    }

    /// A warning about it, if there is one.
    pub(crate) fn doubt(&self) -> Option<String> {
        doubt(&self.chain)
    }
}

/// A warning about the first doubtful certificate, if there is one.
pub(crate) fn doubt(certificates: &[CertificateDer<'_>]) -> Option<String> {
    let now = i64::try_from(clock::now_ms() / 1000).unwrap_or(i64::MAX);
    certificates.iter().find_map(|certificate| Facts::of(certificate)?.doubt(now))
}

impl Trust {
    /// The TLS configuration of a client.
    pub(crate) fn config(&self, identity: Option<&Identity>) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Verifier::new(self, provider.clone())?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match identity {
            None => Ok(builder.with_no_client_auth()),
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|e| e.to_string())
            }
        }
    }
}

#[derive(Debug)]
struct Verifier {
    believed: Vec<CertificateDer<'static>>,
    chains: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    how: &'static str,
}

impl Verifier {
    fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut believed = trust.named.clone();
        if trust.known {
            let found = rustls_native_certs::load_native_certs();
            for e in &found.errors {
                tracing::debug!("cannot read certificates of this machine: {e}");
            }
            believed.extend(found.certs);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(believed.iter().cloned());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let chains = chains.map_err(|_| {
            format!(
                "this machine has no trusted certificate authorities: install ca-certificates, or name yours with {}",
                trust.how
            )
        })?;
        Ok(Self { believed, chains, provider, how: trust.how })
    }

    /// Checks a certificate that is trusted by itself.
    fn check_named(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(why) = Facts::of(certificate).and_then(|facts| facts.untimely(seconds(now))) {
            return Err(said(format!("its certificate is not valid: {why}")));
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
    }

    /// Explains an error to the person who made the certificate.
    fn in_words(
        &self,
        error: Error,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Error {
        let Error::InvalidCertificate(why) = &error else { return error };
        let Some(facts) = Facts::of(certificate) else { return error };
        let host = name.to_str();
        let kind = if matches!(name, ServerName::IpAddress(_)) { "IP" } else { "DNS" };
        let how = self.how;
        let sentence = match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => match facts.untimely(seconds(now)) {
                Some(why) => format!("its certificate is not valid: {why}"),
                // An intermediate certificate.
                None => format!("a certificate in its chain is not valid now: {why}"),
            },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                if facts.names.is_empty() =>
            {
                format!(
                    "its certificate names no host; with openssl req -x509 add: -addext subjectAltName={kind}:{host}"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is for {}, not for {host}", facts.names.join(", "))
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!(
                    "its certificate is signed by an unknown authority; name the authority, or the certificate, with {how}"
                )
            }
            CertificateError::Other(OtherError(other)) if other.is::<Sentence>() => return error,
            CertificateError::Other(_) if facts.is_authority => format!(
                "its certificate is marked as an authority (CA:TRUE): name exactly this certificate with {how}, \
                 or recreate it with -addext basicConstraints=critical,CA:FALSE"
            ),
            _ if facts.names.is_empty() => format!(
                "its certificate cannot be used ({why}) and names no host; \
                 with openssl req -x509 add: -addext subjectAltName={kind}:{host}"
            ),
            _ => format!("its certificate cannot be used: {why}"),
        };
        said(sentence)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_named = self.believed.iter().any(|one| one.as_ref() == certificate.as_ref());
        let checked = match is_named {
            true => self.check_named(certificate, name, now),
            false => self.chains.verify_server_cert(certificate, others, name, ocsp, now).map(|_| ()),
        };
        match checked {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(self.in_words(error, certificate, name, now)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A sentence, passed through the error types of libraries.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Sentence(String);

fn said(sentence: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Sentence(sentence)))))
}

/// The sentence in an error, if it is about a certificate.
pub(crate) fn sentence(error: &(dyn StdError + 'static)) -> Option<String> {
    // The inner error of an `io::Error` is not among its sources.
    let mut error = error;
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    match error.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) if other.is::<Sentence>() => {
            Some(other.to_string())
        }
        _ => None,
    }
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
