//! Certificates and keys from PEM files, with warnings and errors in sentences for the people who made them.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::plural::plural;

/// A certificate that expires sooner gets a warning.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 86_400;

/// The facts about a certificate that matter to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its names and addresses (subjectAltName).
    pub names: Vec<String>,
    /// Its URIs (subjectAltName), such as those of SPIFFE.
    pub uris: Vec<String>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// Whether it is marked as a certificate authority.
    pub is_authority: bool,
    /// The start of its validity, in seconds since the Unix epoch.
    pub not_before: i64,
    /// The end of its validity, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Facts {
    /// Reads a certificate; `None` if it is not one.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| &extension.value.general_names);
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        };
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        let common_name = certificate.subject().iter_common_name().next();
        Some(Self {
            uris: names.map(|names| names.iter().filter_map(uri).collect()).unwrap_or_default(),
            common_name: common_name.and_then(|name| name.as_str().ok()).map(str::to_owned),
            names: names.map(|names| names.iter().filter_map(name).collect()).unwrap_or_default(),
            is_authority: certificate.is_ca(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Why it is not valid at this time, in seconds since the Unix epoch; `None` if it is.
    #[must_use]
    pub fn untimely(&self, now: i64) -> Option<String> {
        if now > self.not_after {
            Some(format!("it expired on {}", date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("it is valid only from {}; is the clock right?", date(self.not_before)))
        } else {
            None
        }
    }

    /// A warning about it at this time, in seconds since the Unix epoch, if there is one.
    #[must_use]
    pub fn doubt(&self, now: i64) -> Option<String> {
        self.untimely(now).or_else(|| expires_soon(self.not_after, now))
    }
}

/// A warning about what ends at `until` if that is soon; both in seconds since the Unix epoch.
#[must_use]
pub fn expires_soon(until: i64, now: i64) -> Option<String> {
    let left = until.saturating_sub(now);
    (left < SOON).then(|| {
        let days = left / DAY;
        format!("it expires in {days} {}, on {}", plural(days, "day", "days"), date(until))
    })
}

/// Reads all certificates of a PEM file; the first is the owner's.
///
/// # Errors
/// A sentence that says what the file is instead.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|e| format!("it is damaged: {e}"))?;
    if read.is_empty() {
        let instead = match pem {
            [0x30, ..] => "it is DER; make it PEM with: openssl x509 -inform DER -in FILE -out FILE.pem",
            _ if has(pem, "PRIVATE KEY-----") => "it holds a private key",
            _ if has(pem, "CERTIFICATE REQUEST-----") => "it holds a request for a certificate",
            _ => "certificates begin with -----BEGIN CERTIFICATE-----",
        };
        return Err(format!("there is no certificate in it; {instead}"));
    }
    match read.iter().position(|certificate| Facts::of(certificate).is_none()) {
        Some(n) => Err(format!("its certificate number {} cannot be read", n + 1)),
        None => Ok(read),
    }
}

/// Reads the private key of a PEM file.
///
/// # Errors
/// A sentence that says what the file is instead.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let instead = match pem {
            _ if has(pem, "ENCRYPTED") => {
                "it is locked with a passphrase; unlock it with: openssl pkey -in FILE -out FILE.open"
            }
            [0x30, ..] => "it is DER; make it PEM with: openssl pkey -inform DER -in FILE -out FILE.pem",
            _ if has(pem, "CERTIFICATE-----") => "it holds a certificate",
            _ => "keys begin with -----BEGIN PRIVATE KEY-----",
        };
        format!("there is no private key in it that can be used; {instead}")
    })
}

fn has(pem: &[u8], text: &str) -> bool {
    pem.windows(text.len()).any(|part| part == text.as_bytes())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The day of a time in seconds since the Unix epoch.
#[must_use]
pub fn date(seconds: i64) -> String {
    // Dates before 1970 or after 9999 cannot be shown.
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default().min(LAST));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_doubtful_about_a_certificate_is_said() {
        let day = |n: i64| n * DAY;
        let facts = Facts {
            names: Vec::new(),
            uris: Vec::new(),
            common_name: None,
            is_authority: false,
            not_before: day(100),
            not_after: day(200),
        };
        for (now, doubt) in [
            (day(100), None),
            (day(186), None),
            (day(186) + 1, Some("it expires in 13 days, on 1970-07-20")),
            (day(198) + 1, Some("it expires in 1 day, on 1970-07-20")),
            (day(200), Some("it expires in 0 days, on 1970-07-20")),
            (day(200) + 1, Some("it expired on 1970-07-20")),
            (day(99), Some("it is valid only from 1970-04-11; is the clock right?")),
        ] {
            assert_eq!(facts.doubt(now).as_deref(), doubt, "{now}");
        }
        let never = Facts { not_after: i64::MAX, ..facts };
        assert_eq!(never.doubt(day(150)), None);
    }

    #[test]
    fn what_is_no_certificate_is_called_what_it_is() {
        for (pem, said) in [
            ("", "certificates begin with -----BEGIN CERTIFICATE-----"),
            ("0\u{1}", "it is DER"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "it holds a private key"),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                "it holds a request for a certificate",
            ),
            ("-----BEGIN CERTIFICATE-----\nAA!A\n-----END CERTIFICATE-----\n", "it is damaged"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate number 1 cannot be read",
            ),
        ] {
            let error = certificates(pem.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{pem}: {error}");
        }
        for (pem, said) in [
            ("", "keys begin with -----BEGIN PRIVATE KEY-----"),
            ("0\u{1}", "it is DER"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "it holds a certificate"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "it is locked with a passphrase",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                "it is locked with a passphrase",
            ),
        ] {
            let error = private_key(pem.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{pem}: {error}");
        }
    }
}
