//! What the worker shows to the server: access token, client certificate, and whom it trusts. The files are read again when
//! they change, so that a token can be replaced and a certificate renewed while jobs run.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use reqwest::ClientBuilder;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::sleep;

use super::{ANSWER_TIMEOUT, WORKER_ID, cause};
use crate::access::Access;

/// How often the files are looked at. A change counts once it is as old as that: some tools write one file after the other.
const LOOK: Duration = Duration::from_secs(2);

/// What changes with a file: its time, length and number; none if there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

#[derive(Debug)]
pub(super) struct Credentials {
    worker_id: HeaderValue,
    pass_to_commands: bool,
    current: ArcSwap<Connections>,
    files: Mutex<Files>,
}

/// Connections that show the same, and the variables of commands that show it, too.
#[derive(Debug)]
pub(super) struct Connections {
    /// A new one for each reading.
    pub(super) number: u64,
    pub(super) calls: reqwest::Client,
    pub(super) streams: reqwest::Client,
    pub(super) for_commands: Vec<(&'static str, OsString)>,
}

#[derive(Debug)]
struct Files {
    access: Access,
    /// As they were when they were read, and when they were last looked at.
    read: Vec<Stamp>,
    seen: Vec<Stamp>,
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    files.iter().map(stamp).collect()
}

impl Credentials {
    pub(super) fn new(
        access: &Access,
        worker_id: HeaderValue,
        pass_to_commands: bool,
    ) -> Result<Self, String> {
        let read = stamps(&access.files());
        let connections = Connections::new(access, 0, &worker_id, pass_to_commands)?;
        let files = Files { access: access.clone(), seen: read.clone(), read };
        Ok(Self {
            worker_id,
            pass_to_commands,
            current: ArcSwap::from_pointee(connections),
            files: files.into(),
        })
    }

    pub(super) fn current(&self) -> Arc<Connections> {
        self.current.load_full()
    }

    /// Reads the files again whenever they change.
    pub(super) async fn follow(&self) {
        loop {
            sleep(LOOK).await;
            self.read_again(false);
        }
    }

    /// Reads the files again if they have changed, and are left alone since, or at once. Those that cannot be used are not
    /// read again until they change, and what they had before stays in use.
    pub(super) fn read_again(&self, at_once: bool) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&files.access.files());
        let is_still = std::mem::replace(&mut files.seen, now.clone()) == now;
        if now == files.read || !(is_still || at_once) {
            return;
        }
        files.read = now;
        let number = self.current().number + 1;
        let read = files.access.read_again().and_then(|access| {
            let connections = Connections::new(&access, number, &self.worker_id, self.pass_to_commands)?;
            Ok((access, connections))
        });
        match read {
            Ok((access, connections)) => {
                for doubt in &access.doubts {
                    tracing::warn!("{doubt}");
                }
                files.access = access;
                self.current.store(Arc::new(connections));
                tracing::info!("access token, client certificate and server_ca were read again");
            }
            Err(e) => tracing::error!("the old access token and client certificate stay in use: {e}"),
        }
    }
}

impl Connections {
    fn new(
        access: &Access,
        number: u64,
        worker_id: &HeaderValue,
        pass_to_commands: bool,
    ) -> Result<Self, String> {
        let headers = HeaderMap::from_iter([(WORKER_ID, worker_id.clone())]);
        let builder = || Ok::<_, String>(access.builder()?.default_headers(headers.clone()));
        let built = |builder: ClientBuilder| builder.build().map_err(|e| cause(&e));
        Ok(Self {
            number,
            calls: built(builder()?.timeout(ANSWER_TIMEOUT))?,
            streams: built(builder()?.pool_max_idle_per_host(0))?,
            for_commands: access.variables(pass_to_commands),
        })
    }
}
