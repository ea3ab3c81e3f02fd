//! The server under load.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::args::How;
use super::contender::Contender;
use super::daemon::Daemon;
use super::http::{Connection, Request, Version};
use super::peers::{Dialect, Wire};
use crate::usage::Usage;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The contract.
    Zizq,
    /// Something else, for jobs.
    Peer(Dialect),
    /// The contract, but it keeps nothing and delivers nothing.
    Hello,
    /// Nothing: a file.
    Disk,
}

/// What was used at one moment, by the server and by ourselves, where that can be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) server: Option<Usage>,
    pub(super) load: Option<Usage>,
}

/// A server that somebody else runs, or one of our own that ends with the round.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    /// `HOST:PORT`
    pub(super) address: String,
    /// What it says it is.
    pub(super) version: String,
    pub(super) http: Version,
    pid: Option<u32>,
    own: Option<RefCell<Daemon>>,
    /// Apart from every other run, so that the server may have other jobs too.
    pub(super) queue: String,
}

impl Target {
    pub(super) async fn open(contender: &Contender, how: &How) -> Result<Self> {
        let (address, pid, own) = match contender {
            Contender::Url(url, pid) => {
                let address = url.strip_prefix("http://").context("a URL begins with http://")?;
                (address.trim_end_matches('/').to_owned(), *pid, None)
            }
            Contender::Disk => (String::new(), None, None),
            _ => {
                let daemon = Daemon::start(&contender.command(how.commit)?).await?;
                (daemon.address.clone(), None, Some(RefCell::new(daemon)))
            }
        };
        let queue = format!("load-{:08x}", fastrand::u32(..));
        let (protocol, version) = (contender.protocol(), contender.label());
        let mut target = Self { protocol, address, version, http: how.http, pid, own, queue };
        if protocol == Protocol::Zizq {
            let version = target.get("/version").await?;
            let name = version["server"].as_str().or(version["version"].as_str());
            target.version = name.unwrap_or("unknown version").to_owned();
        }
        Ok(target)
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address, self.http).await
    }

    /// A connection to a peer.
    pub(super) async fn wire(&self) -> Result<Wire> {
        Wire::open(&self.address).await
    }

    /// What the server and we ourselves used so far.
    pub(super) fn usage(&self) -> Used {
        let own = self.own.as_ref().and_then(|daemon| daemon.borrow().pid());
        Used { server: own.or(self.pid).and_then(Usage::of), load: Usage::of(std::process::id()) }
    }

    /// Bytes on disk, of a server of our own.
    pub(super) fn disk_bytes(&self) -> Option<u64> {
        let daemon = self.own.as_ref()?.borrow();
        let files = walkdir::WalkDir::new(daemon.folder()).into_iter().filter_map(Result::ok);
        // Files may go while we look.
        Some(files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum())
    }

    /// How many jobs of a queue are not finished.
    pub(super) async fn unfinished(&self, queue: &str) -> Result<u64> {
        match self.protocol {
            Protocol::Zizq => self.count(&format!("queue={queue}&status=scheduled,ready,in_flight")).await,
            Protocol::Peer(dialect) => dialect.left(&mut self.wire().await?, queue).await,
            Protocol::Hello | Protocol::Disk => bail!("{} has no jobs", self.version),
        }
    }

    /// How many jobs match the filters.
    pub(super) async fn count(&self, filters: &str) -> Result<u64> {
        let answer = self.get(&format!("/jobs/count?{filters}")).await?;
        answer["count"].as_u64().with_context(|| format!("not a count: {answer}"))
    }

    async fn get(&self, path: &str) -> Result<serde_json::Value> {
        let mut connection = self.connect().await?;
        let answer = connection.exchange(&Request::get(path, &[("accept", "application/json")])).await?;
        ensure!(answer.status == 200, "GET {path} was answered with {}", answer.describe());
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// Whether it can be stopped and started.
    pub(super) fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// Stops the server of our own and waits for its end.
    #[expect(clippy::await_holding_refcell_ref, reason = "nothing else runs while the server stands still")]
    pub(super) async fn stop(&self, signal: Signal) -> Result<()> {
        self.own.as_ref().context("only a server of our own is stopped")?.borrow_mut().stop(signal).await;
        Ok(())
    }

    /// Starts it after its end, and waits until it accepts connections.
    #[expect(clippy::await_holding_refcell_ref, reason = "nothing else runs while the server stands still")]
    pub(super) async fn start_again(&self) -> Result<()> {
        self.own.as_ref().context("only a server of our own is started")?.borrow_mut().start_again().await
    }

    /// The end of the log of our own server, for messages.
    pub(super) fn log(&self) -> String {
        match &self.own {
            Some(daemon) => format!("; the server logged at last:\n{}\n", daemon.borrow().log()),
            None => String::new(),
        }
    }
}
