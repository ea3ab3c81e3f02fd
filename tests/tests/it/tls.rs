//! Certificates as they are given to the server, read again on SIGHUP; and what a service manager hears.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tests::Server;
use tests::binaries::binary;
use tests::process::Process;
use tests::wait::{until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate for `localhost`, and its key.
pub(super) struct Identity {
    pub(super) der: CertificateDer<'static>,
    pem: String,
    pub(super) key: String,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A folder with certificate and key in it, and what runs with them.
pub(super) struct Place {
    folder: TempDir,
}

impl Place {
    pub(super) fn new(identity: &Identity) -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        place.write(&identity.pem, &identity.key);
        place
    }

    fn write(&self, certificate: &str, key: &str) {
        std::fs::write(self.certificate(), certificate).unwrap();
        std::fs::write(self.key(), key).unwrap();
        self.chmod(0o600);
    }

    fn chmod(&self, mode: u32) {
        std::fs::set_permissions(self.key(), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary("zizq-server"));
        command
            .args(["--port", "0", "--log-format", "pretty", "--root-dir"])
            .arg(self.folder.path().join("root"));
        command.arg("--tls-cert").arg(self.certificate()).arg("--tls-key").arg(self.key());
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    pub(super) async fn start(&self) -> (Process, u16) {
        let mut process = Process::start(self.command(), &self.log());
        let line = process.line().await;
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the server said {line:?}: {}", process.log()));
        assert!(line.contains("https://"), "{line}");
        (process, port)
    }
}

async fn connect(port: u16, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    connect_for(port, trusted, b"http/1.1").await
}

/// Opens a connection for this protocol (ALPN) that trusts only this certificate.
pub(super) async fn connect_for(
    port: u16,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

async fn is_answered(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    // The rest of it is not of interest, but must not stand before the next answer.
    let mut rest = [0; 4096];
    let _ = within("the rest of an answer", stream.read(&mut rest)).await.unwrap();
    &answer == b"HTTP/1.1 200"
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_for_new_connections() {
    let (old, new) = (Identity::new(), Identity::new());
    let place = Place::new(&old);
    let (mut process, port) = place.start().await;
    let mut before = connect(port, &old.der).await.unwrap();
    assert!(is_answered(&mut before).await);
    assert!(connect(port, &new.der).await.is_err());

    place.write(&new.pem, &new.key);
    process.signal(Signal::HUP);
    process.logged("certificate and key reloaded; new connections use them").await;
    assert!(is_answered(&mut connect(port, &new.der).await.unwrap()).await);
    assert!(connect(port, &old.der).await.is_err(), "the old certificate is still shown");
    assert!(is_answered(&mut before).await, "a connection from before goes on");
    assert_eq!(process.sigterm().await.code(), Some(0));
}

#[tokio::test]
async fn sighup_with_a_bad_file_keeps_the_old_certificate_and_says_so() {
    let (old, other) = (Identity::new(), Identity::new());
    let place = Place::new(&old);
    let (process, port) = place.start().await;
    for (certificate, key, why) in [
        (other.pem.as_str(), old.key.as_str(), "the key does not belong to the certificate in"),
        ("", &old.key, "there is no certificate in it"),
        (&old.pem, "", "there is no private key in it"),
        (&old.key, &old.pem, "it holds a private key"),
    ] {
        place.write(certificate, key);
        process.signal(Signal::HUP);
        process.logged(why).await;
        assert!(is_answered(&mut connect(port, &old.der).await.unwrap()).await, "{why}");
    }
    assert_eq!(process.log().matches("cannot reload the certificate").count(), 4, "{}", process.log());
    place.write(&old.pem, &old.key);
    std::fs::remove_file(place.key()).unwrap();
    process.signal(Signal::HUP);
    process.logged("cannot read").await;
    assert!(is_answered(&mut connect(port, &old.der).await.unwrap()).await);
}

#[tokio::test]
async fn sighup_without_tls_changes_nothing() {
    let mut server = Server::start().await;
    server.process().signal(Signal::HUP);
    server.process().logged("nothing to reload").await;
    server.client().add("q").await;
    assert_eq!(server.sigterm().await.code(), Some(0));
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_in_plain_words() {
    let (ours, other) = (Identity::new(), Identity::new());
    for (certificate, key, why) in [
        (&ours.pem, &other.key, "the key does not belong to the certificate in"),
        (&ours.key, &ours.key, "it holds a private key"),
        (&ours.pem, &ours.pem, "it holds a certificate"),
        (&ours.pem, &"-----BEGIN ENCRYPTED PRIVATE KEY-----\n".to_owned(), "it is locked with a passphrase"),
    ] {
        let place = Place::new(&ours);
        place.write(certificate, key);
        let mut process = Process::start(place.command(), &place.log());
        assert_eq!(process.ended().await.code(), Some(1), "{why}");
        assert!(process.log().contains(why), "{why}: {}", process.log());
        assert!(process.log().contains(&place.folder.path().display().to_string()), "{}", process.log());
    }
}

#[tokio::test]
async fn an_expired_certificate_and_a_key_that_all_can_read_are_warned_of_at_start_and_at_sighup() {
    let soon = tests::wait::now_ms() / 1000 + 3 * 86_400 - 3_600;
    let soon = time::OffsetDateTime::from_unix_timestamp(i64::try_from(soon).unwrap()).unwrap();
    let good = Identity::new();
    for (identity, mode, warning) in [
        (
            Identity::with(|params| params.not_after = date_time_ymd(2020, 1, 2)),
            0o600,
            Some("it expired on 2020-01-02"),
        ),
        (Identity::with(|params| params.not_after = soon), 0o600, Some("it expires in 2 days, on ")),
        (
            Identity::with(|params| params.not_before = date_time_ymd(2999, 1, 1)),
            0o600,
            Some("it is valid only from 2999-01-01"),
        ),
        (
            Identity::with(|params| params.subject_alt_names.clear()),
            0o600,
            Some("the certificate names no host"),
        ),
        (Identity::new(), 0o644, Some("every user of this machine can read it")),
        (Identity::new(), 0o640, None),
    ] {
        let place = Place::new(&identity);
        place.chmod(mode);
        let (mut process, _) = place.start().await;
        let warnings = |log: String| log.lines().filter(|line| line.contains("--tls-")).count();
        // The last line of a start.
        process.logged("listening").await;
        let log = process.log();
        assert!(warning.is_none_or(|warning| log.contains(warning)), "{warning:?}: {log}");
        let at_start = warnings(log);
        assert!(warning.is_some() || at_start == 0, "{}", process.log());
        process.signal(Signal::HUP);
        process.logged("key reloaded").await;
        assert_eq!(warnings(process.log()), 2 * at_start, "{}", process.log());
        place.write(&good.pem, &good.key);
        process.signal(Signal::HUP);
        until("the second time", async || (process.log().matches("key reloaded").count() == 2).then_some(()))
            .await;
        assert_eq!(warnings(process.log()), 2 * at_start, "the new ones are right: {}", process.log());
        assert_eq!(process.sigterm().await.code(), Some(0));
    }
}

/// What the server tells its service manager, message by message.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// Waits for a message with a line that begins so, and gives the whole message.
    async fn hears(&self, start: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let n = within(start, self.0.recv(&mut buffer)).await.unwrap();
            let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if message.lines().any(|line| line.starts_with(start)) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn a_service_manager_hears_ready_status_watchdog_reload_and_the_end() {
    let place = Place::new(&Identity::new());
    let path = place.folder.path().join("notify");
    let manager = Manager::at(&path);
    let mut command = place.command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut process = Process::start(command, &place.log());
    let ready = manager.hears("READY=1").await;
    assert!(ready.contains("STATUS=listening on https://"), "{ready}");
    for _ in 0..3 {
        let beat = manager.hears("WATCHDOG=1").await;
        assert!(beat.contains("STATUS=0 jobs ready, 0 in flight"), "{beat}");
    }
    process.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1").await;
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{reloading}");
    manager.hears("READY=1").await;
    process.signal(Signal::TERM);
    manager.hears("STOPPING=1").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
