//! `zizq-server cert`.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::{Authority, Secure, text};

#[tokio::test]
async fn certificates_are_made_once_and_never_overwritten_by_chance() {
    let authority = Authority(TempDir::new().unwrap());
    let mode = |file: &str| std::fs::metadata(authority.path(file)).unwrap().permissions().mode() & 0o777;
    for (line, code, says) in [
        ("client w", 1, "there is no authority in"),
        ("renew", 1, "there is no authority in"),
        ("init", 2, "--san"),
        ("init --san http://localhost", 1, "neither the name of a host nor an address"),
        ("init --san localhost --client ca", 1, "is the name of other files"),
        ("init --san localhost --client ../x", 1, "cannot be the name of a client"),
        ("init --san localhost 127.0.0.1 ::1 --client worker-7", 0, "--client-cert"),
        ("init --san localhost", 1, "ca.pem exists; nothing was changed. --force replaces it"),
        ("server --san localhost", 1, "server.pem exists; nothing was changed"),
        ("client worker-7", 1, "worker-7.pem exists; nothing was changed"),
        ("client spiffe --uri spiffe://example.org/w", 0, "token create spiffe --certificate CN=spiffe"),
        ("client spiffe --uri=", 1, "--uri"),
        ("client worker-8 --days 0", 2, "0 is not in 1..=3650"),
        ("client worker-8 --days 30", 0, "curl --cacert"),
        ("server --san localhost --force", 0, "zizq-server --host 0.0.0.0 --tls-cert"),
    ] {
        let output = authority.run(&line.split(' ').collect::<Vec<_>>()).await;
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(says), "{line}: {said}");
    }
    for key in ["ca-key.pem", "server-key.pem", "worker-7-key.pem", "spiffe-key.pem"] {
        assert_eq!(mode(key), 0o600, "{key}");
        assert!(authority.read(key).starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
    }
    assert_eq!(mode("ca.pem"), 0o644);
    let left = std::fs::read_dir(authority.0.path()).unwrap();
    assert!(left.flatten().all(|file| !file.file_name().to_string_lossy().contains("partial")));
}

#[tokio::test]
async fn a_renewal_keeps_names_and_keys() {
    let authority = Authority::new(&["w"]).await;
    let (key, certificate, ca) =
        (authority.read("w-key.pem"), authority.read("w.pem"), authority.read("ca.pem"));
    let output = authority.run(&["renew", "--days", "30"]).await;
    let said = text(&output.stdout);
    assert!(said.contains("server.pem is valid until") && said.contains("w.pem is valid until"), "{said}");
    assert_eq!((authority.read("w-key.pem"), authority.read("ca.pem")), (key, ca));
    assert_ne!(authority.read("w.pem"), certificate);
    for (file, lines) in [
        ("w.pem", vec!["common name  w", "w-key.pem is its key", "ca.pem has signed it"]),
        ("server.pem", vec!["hosts        localhost, 127.0.0.1", "ca.pem has signed it"]),
        ("ca.pem", vec!["(an authority)", "(365"]),
    ] {
        let output = authority.run(&["show", &authority.path(file)]).await;
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        assert!(lines.iter().all(|line| said.contains(line)), "{said}");
        // A second later it is a day less.
        let is_renewed = ["(30 days left)", "(29 days left)"].iter().any(|left| said.contains(left));
        assert_eq!(is_renewed, file != "ca.pem", "{said}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_shown() {
    let (authority, other) = (Authority::new(&["w"]).await, Authority::new(&["w"]).await);
    let server = Secure::asking(&authority, &[]).await;
    let (localhost, elsewhere) = (format!("localhost:{}", server.port), format!("127.0.0.2:{}", server.port));
    let show = async |what: &str, ca: &Authority| {
        let output = authority.run(&["show", what, "--ca", &ca.path("ca.pem")]).await;
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = show(&localhost, &authority).await;
    assert!(
        code == Some(0) && said.contains("it is for localhost") && said.contains("has signed it"),
        "{said}"
    );
    let (code, said) = show(&localhost, &other).await;
    assert!(code == Some(1) && said.contains("does not vouch for it"), "{said}");
    let (code, said) = show(&authority.path("w.pem"), &other).await;
    assert!(code == Some(1) && said.contains("does not vouch for it"), "{said}");
    std::fs::copy(other.path("w-key.pem"), authority.path("w-key.pem")).unwrap();
    let (code, said) = show(&authority.path("w.pem"), &authority).await;
    assert!(code == Some(1) && said.contains("DOES NOT FIT") && said.contains("w-key.pem"), "{said}");
    let (code, said) = show("nowhere.pem", &authority).await;
    assert!(code == Some(1) && said.contains("cannot read nowhere.pem"), "{said}");
    // It listens at one address only.
    let (code, said) = show(&elsewhere, &authority).await;
    assert!(code == Some(1) && said.contains("cannot get a certificate from 127.0.0.2"), "{said}");
}
