//! A worker under test.

use std::process::ExitStatus;

use tempfile::TempDir;
use tokio::process::Command;

use crate::binaries::binary;
use crate::process::{Process, Variables};
use crate::server::Server;

/// A running `zizq-worker`. It is killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    _folder: TempDir,
}

impl Worker {
    /// A worker of `server` with these flags, such as `["--run", "QUEUE=COMMAND"]`.
    #[must_use]
    pub fn start<F: Into<String>>(server: &Server, flags: impl IntoIterator<Item = F>) -> Self {
        Self::start_at(&server.url(), flags)
    }

    /// A worker of the server at this address, or of what stands before it.
    #[must_use]
    pub fn start_at<F: Into<String>>(server: &str, flags: impl IntoIterator<Item = F>) -> Self {
        Self::spawn(server, flags, Variables::new())
    }

    /// As [`Self::start`], with these variables of its environment.
    #[must_use]
    pub fn with_variables<F: Into<String>>(
        server: &Server,
        flags: impl IntoIterator<Item = F>,
        variables: Variables,
    ) -> Self {
        Self::spawn(&server.url(), flags, variables)
    }

    fn spawn<F: Into<String>>(
        server: &str,
        flags: impl IntoIterator<Item = F>,
        variables: Variables,
    ) -> Self {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let mut command = Command::new(binary("zizq-worker"));
        command.arg("--server").arg(server).args(flags.into_iter().map(Into::into));
        command.env("ZIZQ_SPOOL", folder.path().join("spool"));
        command.envs(variables);
        let process = Process::start(command, &folder.path().join("worker.log"));
        Self { process, _folder: folder }
    }

    /// The process, for signals and logs.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// `kill -9`, and its end.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// SIGTERM, and how it ended.
    pub async fn sigterm(&mut self) -> ExitStatus {
        self.process.sigterm().await
    }
}
