//! Makes certificates (RFC 5280): P-256, with a random serial number.

use anyhow::{Context, bail};
use protocol::access::CertificateName;
use protocol::certificate::{Facts, date};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::folder::{AUTHORITY, Folder, Made, SERVER};
use crate::clock;

/// How long an authority lasts.
const DAYS_OF_AUTHORITY: i64 = 3_653;
/// Clocks that are behind by less take a certificate that was made just now.
const SKEW: Duration = Duration::hours(1);

/// Whom a certificate is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The name of its files.
    pub file: String,
    pub common_name: String,
    /// The names and addresses of a server; empty for a client.
    hosts: Vec<String>,
    uris: Vec<String>,
}

impl Owner {
    pub(super) fn server(hosts: &[String]) -> anyhow::Result<Self> {
        let bad = |host: &&String| {
            let usual = |c: char| c.is_ascii_alphanumeric() || ".-_*".contains(c);
            host.parse::<std::net::IpAddr>().is_err() && (host.is_empty() || !host.chars().all(usual))
        };
        if let Some(bad) = hosts.iter().find(bad) {
            bail!("--san: `{bad}` is neither the name of a host nor an address; leave out scheme and port");
        }
        let common_name = hosts.first().cloned().unwrap_or_default();
        Ok(Self { file: SERVER.to_owned(), common_name, hosts: hosts.to_vec(), uris: Vec::new() })
    }

    pub(super) fn client(name: &str, uri: Option<&str>) -> anyhow::Result<Self> {
        let usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || !name.chars().all(usual) {
            bail!(
                "`{name}` cannot be the name of a client; use up to 64 of the characters a-z A-Z 0-9 . _ -"
            );
        }
        if [AUTHORITY, SERVER].contains(&name) || name.ends_with("-key") {
            bail!("`{name}` is the name of other files in the folder; choose another one");
        }
        if let Some(uri) = uri {
            format!("URI={uri}").parse::<CertificateName>().map_err(|e| anyhow::anyhow!("--uri: {e}"))?;
        }
        let uris = uri.iter().map(|uri| (*uri).to_owned()).collect();
        Ok(Self { file: name.to_owned(), common_name: name.to_owned(), hosts: Vec::new(), uris })
    }

    /// The same as before.
    pub(super) fn again(file: &str, facts: &Facts) -> Self {
        let common_name = facts.common_name.clone().unwrap_or_else(|| file.to_owned());
        Self { file: file.to_owned(), common_name, hosts: facts.names.clone(), uris: facts.uris.clone() }
    }
}

/// Whoever signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: i64,
}

impl Authority {
    /// Makes one. Returns its files, too.
    pub(super) fn new(host: &str) -> anyhow::Result<(Self, Made)> {
        let now = now()?;
        // Two authorities of one name would be taken for each other.
        let name = format!("Zizq authority of {host} {}", date(now.unix_timestamp()));
        let mut params = params(&name, now, DAYS_OF_AUTHORITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let made = Made { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() };
        let not_after = params.not_after.unix_timestamp();
        Ok((Self { issuer: Issuer::new(params, key), not_after }, made))
    }

    /// Reads that of the folder.
    pub(super) fn read(folder: &Folder) -> anyhow::Result<Self> {
        let path = folder.certificate(AUTHORITY);
        if !path.exists() {
            bail!(
                "there is no authority in {}; make one with `zizq-server cert init --san HOST`",
                folder.shown()
            );
        }
        let facts = folder.facts(AUTHORITY)?;
        if let Some(why) = facts.untimely(now()?.unix_timestamp()) {
            bail!("the authority in {} is not valid: {why}; make a new one with --force", path.display());
        }
        let chain = zizq_client::read_chain(&path)?;
        let der = chain.first().context("it is empty")?;
        let key = KeyPair::from_pem(&folder.key(AUTHORITY)?)
            .with_context(|| format!("cannot use {}", folder.key_file(AUTHORITY).display()))?;
        let issuer =
            Issuer::from_ca_cert_der(der, key).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { issuer, not_after: facts.not_after })
    }

    /// Makes a certificate, with a new key unless there is one.
    pub(super) fn issue(&self, owner: &Owner, key: Option<&str>, days: u16) -> anyhow::Result<Made> {
        let now = now()?;
        let mut params = params(&owner.common_name, now, days.into())?;
        let last = OffsetDateTime::from_unix_timestamp(self.not_after)?;
        params.not_after = params.not_after.min(last);
        params.subject_alt_names = CertificateParams::new(owner.hosts.clone())?.subject_alt_names;
        for uri in &owner.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match owner.hosts.is_empty() {
            true => vec![ExtendedKeyUsagePurpose::ClientAuth],
            false => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let key = match key {
            Some(pem) => {
                KeyPair::from_pem(pem).with_context(|| format!("cannot use the key of {}", owner.file))?
            }
            None => KeyPair::generate()?,
        };
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Made { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() })
    }
}

fn now() -> anyhow::Result<OffsetDateTime> {
    Ok(OffsetDateTime::from_unix_timestamp(i64::try_from(clock::now().wall / 1_000)?)?)
}

fn params(name: &str, now: OffsetDateTime, days: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    (params.not_before, params.not_after) = (now - SKEW, now + Duration::days(days));
    // By default it would follow from the key, and be the same again after a renewal.
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)
        .map_err(|e| anyhow::anyhow!("the operating system provides no random numbers: {e}"))?;
    // It must be positive, and not zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    Ok(params)
}
