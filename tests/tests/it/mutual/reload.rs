//! Certificates, keys and authorities are read again when their files change.

use tests::wait::until;

use super::{Authority, Secure};
use crate::tls::connect_for;

async fn times(server: &Secure, text: &str, n: usize) {
    until(format!("`{text}` in the log"), async || {
        (server.process.log().matches(text).count() >= n).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_a_broken_one_is_told_of_once() {
    let authority = Authority::new(&[]).await;
    let server = Secure::with(&authority, &[]).await;
    let shown = async || {
        let stream = connect_for(server.port, &authority.der("ca.pem"), b"http/1.1").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = authority.der("server.pem");
    assert_eq!(shown().await, before);
    let renewed = authority.run(&["renew"]).await;
    assert!(renewed.status.success());
    let after = authority.der("server.pem");
    assert_ne!(after, before);
    times(&server, "certificate and key reloaded", 1).await;
    assert_eq!(shown().await, after);

    let good = authority.read("server.pem");
    std::fs::write(authority.path("server.pem"), "nonsense").unwrap();
    times(&server, "cannot reload the certificate", 1).await;
    assert_eq!(shown().await, after);
    std::fs::write(authority.path("server.pem"), good).unwrap();
    times(&server, "certificate and key reloaded", 2).await;
    assert_eq!(server.process.log().matches("cannot reload the certificate").count(), 1);
    assert_eq!(shown().await, after);
}

#[tokio::test]
async fn another_authority_of_callers_counts_without_a_restart() {
    let (authority, other) = (Authority::new(&["old"]).await, Authority::new(&["new"]).await);
    let server = Secure::asking(&authority, &[]).await;
    for file in ["new.pem", "new-key.pem"] {
        std::fs::copy(other.path(file), authority.path(file)).unwrap();
    }
    let health = server.url("/health");
    assert_eq!(authority.ask(Some("new"), &health, &[]).await, None);
    // Both count while callers move from one to the other.
    let both = authority.read("ca.pem") + &other.read("ca.pem");
    std::fs::write(authority.path("ca.pem"), both).unwrap();
    until("the new authority", async || {
        authority.ask(Some("new"), &health, &[]).await.map(|(status, _)| assert_eq!(status, 200))
    })
    .await;
    assert_eq!(authority.ask(Some("old"), &health, &[]).await.unwrap().0, 200);
}
