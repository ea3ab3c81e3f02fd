//! A server under test.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use tempfile::TempDir;
use tokio::process::Command;

use crate::binaries::binary;
use crate::client::{Client, Wire};
use crate::process::{Process, Variables};
use crate::wait::{until, within};

/// A running `zizq-server` with a folder of its own. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    flags: Vec<String>,
    variables: Variables,
    address: String,
    folder: TempDir,
}

impl Server {
    /// A fresh server with the defaults.
    pub async fn start() -> Self {
        Self::with::<&str>([]).await
    }

    /// A fresh server with these flags.
    pub async fn with<F: Into<String>>(flags: impl IntoIterator<Item = F>) -> Self {
        Self::with_variables(flags, Variables::new()).await
    }

    /// A fresh server with these flags and variables of its environment.
    pub async fn with_variables<F: Into<String>>(
        flags: impl IntoIterator<Item = F>,
        variables: Variables,
    ) -> Self {
        let flags: Vec<String> = flags.into_iter().map(Into::into).collect();
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let mut process = spawn(folder.path(), 0, &flags, &variables);
        let address = address(&mut process).await;
        Self { process, flags, variables, address, folder }
    }

    /// Runs `zizq-server` with these arguments as whoever runs this server: at its control socket.
    ///
    /// # Panics
    /// When the command does not end.
    pub async fn control(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("zizq-server"));
        command.args(args).env("ZIZQ_ROOT_DIR", self.root_dir()).kill_on_drop(true);
        within("the end of a command", command.output()).await.unwrap()
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port it listens on, the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn root_dir(&self) -> PathBuf {
        root_dir(self.folder.path())
    }

    /// The process, for signals and logs.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A client that speaks JSON over HTTP/1.1.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_as(Wire::default())
    }

    /// A client that speaks as told.
    #[must_use]
    pub fn client_as(&self, wire: Wire) -> Client {
        Client::new(&self.url(), wire)
    }

    /// `kill -9`, and its end.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// SIGTERM, and how it ended.
    pub async fn sigterm(&mut self) -> ExitStatus {
        self.process.sigterm().await
    }

    /// Starts it again after its end: same folder, same port, same flags.
    pub async fn restart(&mut self) {
        let start = async || {
            let mut process = spawn(self.folder.path(), self.port(), &self.flags, &self.variables);
            let line = process.line().await;
            // While it was down, somebody's connection may have got the port as its own end.
            let taken = line.is_empty() && process.log().contains("Address already in use (os error 98)");
            (!taken).then_some((process, line))
        };
        let (process, line) = until("the port from before", start).await;
        assert_eq!(address_in(&line), self.address, "the port after a restart");
        self.process = process;
    }

    /// As [`Self::restart`], with other flags from now on.
    pub async fn restart_with<F: Into<String>>(&mut self, flags: impl IntoIterator<Item = F>) {
        self.flags = flags.into_iter().map(Into::into).collect();
        self.restart().await;
    }
}

fn root_dir(folder: &Path) -> PathBuf {
    folder.join("root")
}

fn spawn(folder: &Path, port: u16, flags: &[String], variables: &Variables) -> Process {
    let mut command = Command::new(binary("zizq-server"));
    command.arg("--port").arg(port.to_string()).arg("--root-dir").arg(root_dir(folder)).args(flags);
    command.envs(variables.iter().cloned());
    Process::start(command, &folder.join("server.log"))
}

/// Waits for the line that says where it listens: host and port.
pub async fn address(process: &mut Process) -> String {
    address_in(&process.line().await).to_owned()
}

fn address_in(line: &str) -> &str {
    match line.split_once("http://") {
        Some((_, address)) => address.trim_end_matches('/'),
        None => panic!("the server said {line:?} instead of where it listens"),
    }
}
