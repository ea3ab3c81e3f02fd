//! The server under load.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};

use super::args::Common;
use super::http::Connection;
use super::report::Span;
use super::requests;
use super::usage::Usage;
use crate::server::Server;

/// What was used at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    server: Option<Usage>,
    load: Option<Usage>,
}

impl Used {
    /// From this moment to another.
    pub(super) fn to(self, after: Self) -> Span {
        Span { server: self.server.zip(after.server), load: self.load.zip(after.load) }
    }
}

/// A server that somebody else runs, or one of our own that ends with the round.
#[derive(Debug)]
pub(super) struct Target {
    /// `HOST:PORT`
    pub(super) address: String,
    /// What it says it is.
    pub(super) version: String,
    pid: Option<u32>,
    own: Option<RefCell<Server>>,
    /// Apart from every other run, so that the server may have other jobs too.
    pub(super) queue: String,
}

impl Target {
    pub(super) async fn open(common: &Common) -> Result<Self> {
        let queue = format!("load-{:08x}", fastrand::u32(..));
        let (address, pid, own) = match &common.url {
            Some(url) => {
                let address = url.strip_prefix("http://").context("--url begins with http://")?;
                (address.trim_end_matches('/').to_owned(), common.pid, None)
            }
            None => {
                let mut server = Server::with(common.server_arg.clone()).await;
                let pid = server.process().pid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
                (server.address().to_owned(), pid, Some(RefCell::new(server)))
            }
        };
        let mut target = Self { address, version: String::new(), pid, own, queue };
        let version = target.get("/version").await?;
        let name = version["server"].as_str().or(version["version"].as_str());
        target.version = name.unwrap_or("unknown version").to_owned();
        Ok(target)
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address).await
    }

    /// What the server and we ourselves used so far.
    pub(super) fn usage(&self) -> Used {
        Used { server: self.pid.and_then(Usage::of), load: Usage::of(std::process::id()) }
    }

    /// How many jobs of our queue match the filters.
    pub(super) async fn count(&self, filters: &str) -> Result<u64> {
        let answer = self.get(&format!("/jobs/count?queue={}{filters}", self.queue)).await?;
        answer["count"].as_u64().with_context(|| format!("not a count: {answer}"))
    }

    async fn get(&self, path: &str) -> Result<serde_json::Value> {
        let mut connection = self.connect().await?;
        let answer = connection.exchange(&requests::get(&self.address, path, "application/json")).await?;
        ensure!(answer.status == 200, "GET {path} was answered with {}", answer.describe());
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// The end of the log of our own server, for messages.
    pub(super) fn log(&self) -> String {
        let Some(server) = &self.own else { return String::new() };
        let log = server.borrow_mut().process().log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(20);
        format!("; the server logged at last:\n{}\n", lines[last..].join("\n"))
    }
}
