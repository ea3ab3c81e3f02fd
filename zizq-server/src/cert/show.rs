//! `zizq-server cert show`: what a certificate says, and whether it fits.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use protocol::certificate::{Facts, date, private_key};
use protocol::plural::plural;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zizq_client::{Trust, read_chain};

use super::folder::{AUTHORITY, Folder};
use crate::clock;

/// How long a server may take to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);
const DAY: i64 = 86_400;

/// Whether something is as it should be, and what it is.
type Finding = Result<String, String>;

pub(super) fn run(folder: &Folder, what: &str, ca: Option<&Path>) -> anyhow::Result<()> {
    let usual = Some(folder.certificate(AUTHORITY)).filter(|path| path.exists());
    let ca = ca.map(Path::to_owned).or(usual);
    let is_file = Path::new(what).exists();
    let address = what.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (chain, mut findings) = match address.filter(|_| !is_file) {
        Some((host, port)) => {
            let host = host.trim_matches(['[', ']']);
            let chain = chain_of_server(host, port)?;
            let finding = chain.first().map(|first| names(first, host));
            (chain, finding.into_iter().collect::<Vec<_>>())
        }
        None => (read_chain(Path::new(what))?, key_beside(Path::new(what)).into_iter().collect()),
    };
    let (first, rest) = chain.split_first().context("there is no certificate")?;
    let facts = Facts::of(first).context("the certificate cannot be read")?;
    if let Some(ca) = ca.filter(|_| !facts.is_authority) {
        findings.push(signed(&ca, first, rest, &facts)?);
    }
    let now = i64::try_from(clock::now().wall / 1_000)?;
    let (text, fits) = described(what, &facts, now, &findings)?;
    std::io::stdout().write_all(text.as_bytes())?;
    if fits { Ok(()) } else { bail!("{what}: something does not fit, see above") }
}

/// The text, and whether all is well.
fn described(what: &str, facts: &Facts, now: i64, findings: &[Finding]) -> anyhow::Result<(String, bool)> {
    let mut text = String::new();
    let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    writeln!(text, "{what}{}", if facts.is_authority { " (an authority)" } else { "" })?;
    writeln!(text, "  common name  {}", facts.common_name.as_deref().unwrap_or("none"))?;
    writeln!(text, "  hosts        {}", or_none(&facts.names))?;
    if !facts.uris.is_empty() {
        writeln!(text, "  URIs         {}", facts.uris.join(", "))?;
    }
    let (from, until) = (date(facts.not_before), date(facts.not_after));
    let untimely = facts.untimely(now);
    let left = match &untimely {
        Some(why) => format!("NOT VALID: {why}"),
        None => {
            let days = facts.not_after.saturating_sub(now) / DAY;
            format!("{days} {} left", plural(days, "day", "days"))
        }
    };
    writeln!(text, "  valid        {from} to {until} ({left})")?;
    for finding in findings {
        match finding {
            Ok(good) => writeln!(text, "  fits         {good}")?,
            Err(bad) => writeln!(text, "  DOES NOT FIT {bad}")?,
        }
    }
    Ok((text, untimely.is_none() && findings.iter().all(Result::is_ok)))
}

/// Shakes hands with a server, whatever it shows.
fn chain_of_server(host: &str, port: u16) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shake = async {
        let stream = TcpStream::connect((host, port)).await?;
        let tls = TlsConnector::from(Arc::new(Trust::Any.config(None)?));
        let stream = tls.connect(ServerName::try_from(host.to_owned())?, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        anyhow::Ok(chain.iter().map(|one| one.clone().into_owned()).collect())
    };
    let chain = runtime.block_on(async { timeout(PATIENCE, shake).await });
    let shown = format!("cannot get a certificate from {host} port {port}");
    chain.context("it has not answered in time").and_then(|chain| chain).context(shown)
}

fn names(certificate: &CertificateDer<'_>, host: &str) -> Finding {
    let name = ServerName::try_from(host).map_err(|_| format!("{host} is not the name of a host"))?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    match verify_server_name(&parsed, &name) {
        Ok(()) => Ok(format!("it is for {host}")),
        Err(_) => Err(format!("it is not for {host}: clients refuse it")),
    }
}

/// Whether the key beside a file belongs to it.
fn key_beside(path: &Path) -> Option<Finding> {
    let stem = path.to_str()?.strip_suffix(".pem")?;
    let key = PathBuf::from(format!("{stem}-key.pem"));
    let pem = std::fs::read(&key).ok()?;
    let shown = key.display();
    let checked = private_key(&pem).and_then(|key| {
        let chain = read_chain(path).map_err(|error| error.to_string())?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| error.to_string())
    });
    Some(match checked {
        Ok(_) => Ok(format!("{shown} is its key")),
        Err(error) => Err(format!("{shown}: {error}")),
    })
}

/// Whether an authority has signed it.
fn signed(
    ca: &Path,
    first: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    facts: &Facts,
) -> anyhow::Result<Finding> {
    let mut roots = RootCertStore::empty();
    for one in read_chain(ca)? {
        roots.add(one).with_context(|| format!("{} cannot be an authority", ca.display()))?;
    }
    let now = UnixTime::since_unix_epoch(Duration::from_millis(clock::now().wall));
    let provider = ring::default_provider();
    let checked = if facts.names.is_empty() {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider)).build()?;
        verifier.verify_client_cert(first, rest, now).map(|_| ())
    } else {
        let algorithms = provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(first)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, rest, now, algorithms)
    };
    let shown = ca.display();
    Ok(match checked {
        Ok(()) => Ok(format!("{shown} has signed it")),
        Err(error) => Err(format!("{shown} does not vouch for it: {error}")),
    })
}
