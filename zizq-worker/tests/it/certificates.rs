//! Certificates as people make them: what is believed, and what is said of the others.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::worker::command;

const LOCALHOST: &[&str] = &["localhost"];

/// A certificate and its key, and the certificate of whoever made it, as PEM.
struct Made {
    certificate: String,
    key: String,
    authority: String,
}

fn params(names: &[&str], is_authority: bool) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

/// A certificate that vouches for itself.
fn by_itself(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Made { authority: certificate.clone(), certificate, key: key.serialize_pem() }
}

/// A certificate that an authority vouches for.
fn by_authority(params: CertificateParams) -> Made {
    let authority =
        CertifiedIssuer::self_signed(self::params(&[], true), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap().pem();
    Made { certificate, key: key.serialize_pem(), authority: authority.pem() }
}

/// Answers every request with an empty list of queues.
async fn serve(made: &Made) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let mut request = [0; 4096];
                if tls.read(&mut request).await.is_ok_and(|n| n > 0) {
                    let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 18\r\nconnection: close\r\n\r\n{\"error\": \"it is\"}\n";
                    tls.write_all(answer.as_bytes()).await.ok();
                    tls.shutdown().await.ok();
                }
            });
        }
    });
    address
}

/// What the command line says of this server, where it believes this file. A server that is believed says `it is`.
async fn said(made: &Made, host: &str, believed: Option<&str>, by_variable: bool) -> String {
    let address = serve(made).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("believed.pem");
    let mut command = command();
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command.args(["status", "--server"]).arg(format!("https://{host}:{}", address.port()));
    if let Some(pem) = believed {
        std::fs::write(&path, pem).unwrap();
        if by_variable {
            command.env("SSL_CERT_FILE", &path);
        } else {
            command.arg("--server-ca").arg(&path);
        }
    }
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("Error("), "{said}");
    said
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_after = date_time_ymd(2020, 1, 2);
    params
}

fn early(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2999, 1, 2);
    params
}

/// What somebody made, the host it is asked at, and what is said.
fn table() -> Vec<(&'static str, Made, &'static str, &'static str)> {
    vec![
        ("an authority for itself", by_itself(params(LOCALHOST, true)), "localhost", "it is"),
        ("no authority", by_itself(params(LOCALHOST, false)), "localhost", "it is"),
        ("an address", by_itself(params(&["127.0.0.1"], true)), "127.0.0.1", "it is"),
        ("a chain", by_authority(params(LOCALHOST, false)), "localhost", "it is"),
        (
            "no name",
            by_itself(params(&[], true)),
            "localhost",
            "its certificate names no host; with openssl req -x509 add: -addext subjectAltName=DNS:localhost",
        ),
        (
            "no name, at an address",
            by_itself(params(&[], true)),
            "127.0.0.1",
            "-addext subjectAltName=IP:127.0.0.1",
        ),
        (
            "no name, in a chain",
            by_authority(params(&[], false)),
            "localhost",
            "-addext subjectAltName=DNS:localhost",
        ),
        (
            "other names",
            by_itself(params(&["a.example", "b.example"], true)),
            "localhost",
            "its certificate is for a.example, b.example, not for localhost",
        ),
        (
            "other names, in a chain",
            by_authority(params(&["a.example"], false)),
            "localhost",
            "its certificate is for a.example, not for localhost",
        ),
        (
            "a name for an address",
            by_itself(params(LOCALHOST, true)),
            "127.0.0.1",
            "is for localhost, not for 127.0.0.1",
        ),
        ("expired", by_itself(expired(params(LOCALHOST, true))), "localhost", "it expired on 2020-01-02"),
        (
            "expired, in a chain",
            by_authority(expired(params(LOCALHOST, false))),
            "localhost",
            "it expired on 2020-01-02",
        ),
        ("early", by_itself(early(params(LOCALHOST, true))), "localhost", "it is valid only from 2999-01-02"),
        (
            "an authority in a chain",
            by_authority(params(LOCALHOST, true)),
            "localhost",
            "marked as an authority (CA:TRUE)",
        ),
    ]
}

#[tokio::test]
async fn a_certificate_as_people_make_them_is_believed_where_it_is_named_or_says_what_to_add() {
    let strange = by_itself(params(LOCALHOST, true)).certificate;
    for (what, made, host, wanted) in table() {
        for by_variable in [false, true] {
            let said = said(&made, host, Some(&made.authority), by_variable).await;
            assert!(said.contains(wanted), "{what}: {said}");
            assert_eq!(said.contains("certificate"), wanted != "it is", "{what}: {said}");
        }
        let said = said(&made, host, Some(&strange), false).await;
        assert!(said.contains("certificate") && !said.contains("it is\n"), "{what}, to a stranger: {said}");
    }
    let authority = by_authority(params(LOCALHOST, true));
    let named = said(&authority, "localhost", Some(&authority.certificate), false).await;
    assert!(named.contains("it is"), "an authority in a chain, itself named: {named}");
    let stranger = said(&by_itself(params(LOCALHOST, false)), "localhost", Some(&strange), false).await;
    assert!(stranger.contains("its certificate is signed by an unknown authority"), "{stranger}");
    assert!(stranger.contains("--server-ca FILE"), "{stranger}");
}

/// Has the real openssl make a certificate, where there is one.
fn openssl(folder: &Path, more: &[&str]) -> Option<Made> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
    let output = openssl.args(more).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path| std::fs::read_to_string(path).unwrap();
    Some(Made { certificate: read(&certificate), key: read(&key), authority: read(&certificate) })
}

#[tokio::test]
async fn a_certificate_of_openssl_req_x509_is_believed_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (more, wanted) in [
        (&["-addext", "subjectAltName=DNS:localhost"][..], "it is"),
        (
            &["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"],
            "it is",
        ),
        (&[], "with openssl req -x509 add: -addext subjectAltName=DNS:localhost"),
    ] {
        // A machine without openssl has none to try.
        let Some(made) = openssl(folder.path(), more) else { return };
        for by_variable in [false, true] {
            let said = said(&made, "localhost", Some(&made.certificate), by_variable).await;
            assert!(said.contains(wanted), "{more:?}: {said}");
        }
    }
}

#[tokio::test]
async fn doubtful_files_of_a_configuration_are_warned_of_and_a_key_of_another_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (by_itself(params(LOCALHOST, false)), by_itself(expired(params(LOCALHOST, false))));
    let (cert, old) = (write("cert", &ours.certificate, 0o644), write("old", &other.certificate, 0o644));
    let (key, open) = (write("key", &ours.key, 0o600), write("open", &ours.key, 0o644));
    let (key_of_old, both) = (write("old-key", &other.key, 0o600), "url = 'https://h'\n");
    let route = |lines: &str| format!("[[route]]\nqueue = 'q'\n{both}{lines}\n");
    for (text, mode, code, said) in [
        (route(&format!("cert = '{cert}'\nkey = '{key}'")), 0o644, 0, None),
        (
            route(&format!("cert = '{cert}'\nkey = '{key_of_old}'")),
            0o644,
            2,
            Some("old-key does not belong to the certificate in"),
        ),
        (route(&format!("cert = '{cert}'\nkey = '{cert}'")), 0o644, 2, Some("it holds a certificate")),
        (route(&format!("cert = '{cert}'\nkey = '{open}'")), 0o644, 0, Some("can read the private key in")),
        (
            route(&format!("cert = '{old}'\nkey = '{key_of_old}'")),
            0o644,
            0,
            Some("`cert`: it expired on 2020-01-02"),
        ),
        (route(&format!("ca = '{old}'")), 0o644, 0, Some("`ca`: it expired on 2020-01-02")),
        (format!("server_ca = '{old}'\n{}", route("")), 0o644, 0, Some("it expired on 2020-01-02")),
        (
            format!("server = 'http://me:pssst@h'\n{}", route("")),
            0o644,
            0,
            Some("can read the password or the secrets in"),
        ),
        (format!("server = 'http://me:pssst@h'\n{}", route("")), 0o640, 0, None),
        (
            route("secrets = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'"),
            0o644,
            0,
            Some("can read the password or the secrets in"),
        ),
    ] {
        let path = write("worker.toml", &text, mode);
        let output = command().args(["check", "--config", &path]).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {error}");
        assert_eq!(error.lines().count(), usize::from(said.is_some()), "{text}: {error}");
        assert!(said.is_none_or(|said| error.contains(said)) && !error.contains("pssst"), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_holds_no_certificate_is_called_what_it_is() {
    let made = by_itself(params(LOCALHOST, true));
    for (pem, wanted) in [("", "there is no certificate in it"), (&made.key, "it holds a private key")] {
        let said = said(&made, "localhost", Some(pem), false).await;
        assert!(said.contains("`server_ca`") && said.contains(wanted), "{said}");
    }
}
