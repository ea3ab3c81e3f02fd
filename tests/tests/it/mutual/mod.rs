//! Callers that are known by a certificate or by the listener that they reach, and the files of TLS.

mod certs;
mod clients;
mod identity;
mod listeners;
mod reload;
mod tunnel;

use std::path::Path;
use std::process::Output;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::wait::within;
use tests::{Client, Wire};
use tokio::process::Command;

pub(crate) use listeners::urls;

async fn ended(mut command: Command) -> Output {
    command.kill_on_drop(true);
    within("the end of a command", command.output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An authority of its own, and what it has signed.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// One with a certificate for `localhost`, and these clients.
    pub(crate) async fn new(clients: &[&str]) -> Self {
        let authority = Self(TempDir::new().unwrap());
        let clients = clients.iter().flat_map(|name| ["--client", name]);
        let args: Vec<&str> = ["init", "--san", "localhost,127.0.0.1"].into_iter().chain(clients).collect();
        let made = authority.run(&args).await;
        assert!(made.status.success(), "{}", text(&made.stderr));
        authority
    }

    /// Runs `zizq-server cert` in its folder.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("zizq-server"));
        command.arg("cert").args(args).arg("--dir").arg(self.0.path());
        ended(command).await
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_owned()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    fn der(&self, file: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(file)).unwrap()
    }

    /// What the official client needs to be this caller.
    fn client(&self, name: &str, url: &str) -> zizq::Client {
        let (cert, key) = (self.read(&format!("{name}.pem")), self.read(&format!("{name}-key.pem")));
        let builder = zizq::Client::builder().url(url).ca_certificate(self.read("ca.pem"));
        builder.client_identity(cert, key).build().unwrap()
    }

    /// The URL of a way to the server at this port on which this caller's certificate is shown.
    async fn way_in(&self, name: &str, port: u16) -> String {
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).unwrap();
        tunnel::open(self.der("ca.pem"), (self.der(&format!("{name}.pem")), key), port).await
    }

    /// A client that is this caller.
    pub(crate) async fn caller(&self, name: &str, port: u16) -> Client {
        Client::new(&self.way_in(name, port).await, Wire::default())
    }

    /// A call by `curl` as this caller, or as nobody.
    fn curl(&self, name: Option<&str>, url: &str, more: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--cacert", &self.path("ca.pem")]).args(more).arg(url);
        if let Some(name) = name {
            command.args(["--cert", &self.path(&format!("{name}.pem"))]);
            command.args(["--key", &self.path(&format!("{name}-key.pem"))]);
        }
        command
    }

    /// The status and the body of the answer to such a call; none if there is none.
    pub(crate) async fn ask(&self, name: Option<&str>, url: &str, more: &[&str]) -> Option<(u16, Value)> {
        let output = ended(self.curl(name, url, &[more, &["--write-out", "\n%{http_code}"]].concat())).await;
        let said = text(&output.stdout);
        let (body, status) = said.rsplit_once('\n')?;
        let status = status.parse().ok().filter(|_| output.status.success())?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

/// A server with the certificate of an authority.
pub(crate) struct Secure {
    pub(crate) process: Process,
    pub(crate) port: u16,
    folder: TempDir,
    flags: Vec<String>,
}

impl Secure {
    /// One that asks callers for certificates, with these flags besides.
    pub(crate) async fn asking(authority: &Authority, flags: &[&str]) -> Self {
        let ca = authority.path("ca.pem");
        Self::with(authority, &[&["--tls-client-ca", ca.as_str()], flags].concat()).await
    }

    pub(crate) async fn with(authority: &Authority, flags: &[&str]) -> Self {
        let (cert, key) = (authority.path("server.pem"), authority.path("server-key.pem"));
        let tls = ["--tls-cert", cert.as_str(), "--tls-key", key.as_str()];
        let flags: Vec<String> = tls.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let folder = TempDir::new().unwrap();
        let (process, port) = start(folder.path(), &flags).await;
        Self { process, port, folder, flags }
    }

    /// Starts it again after its end, at another port.
    async fn restart(&mut self) {
        (self.process, self.port) = start(self.folder.path(), &self.flags).await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// Runs `zizq-server` over its control socket, and returns what it said.
    async fn control(&self, args: &[&str]) -> String {
        let mut command = Command::new(binary("zizq-server"));
        command.args(args).env("ZIZQ_ROOT_DIR", self.folder.path().join("root"));
        let output = ended(command).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Makes an identity of a certificate. Returns its id.
    pub(crate) async fn known(&self, name: &str, args: &[&str]) -> String {
        let certificate = format!("CN={name}");
        let said =
            self.control(&[&["token", "create", name, "--certificate", &certificate], args].concat()).await;
        assert!(said.starts_with("tok_") && !said.contains("zizq_"), "{said}");
        said.split(' ').next().unwrap().to_owned()
    }
}

async fn start(folder: &Path, flags: &[String]) -> (Process, u16) {
    let mut command = Command::new(binary("zizq-server"));
    command.args(["--port", "0", "--root-dir"]).arg(folder.join("root")).args(flags);
    let mut process = Process::start(command, &folder.join("server.log"));
    let line = process.line().await;
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.unwrap_or_else(|| panic!("the server said {line:?}: {}", process.log()));
    (process, port)
}
