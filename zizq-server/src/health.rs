//! `zizq-server health`: asks a server whether it is ready, for containers and scripts without another HTTP client.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use http::Method;
use serde::Deserialize;
use tokio::time::timeout;
use zizq_client::{Client, Trust};

use crate::config::{DEFAULT_PORT, Health};
use crate::control;

/// What a server says about itself.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// Why it is not.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// Asks the server.
///
/// # Errors
/// When it does not answer. The message is one sentence for people.
pub fn ask(health: &Health) -> anyhow::Result<Readiness> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = match usual_socket().filter(|_| health.url.is_none()) {
        Some(socket) => Client::of_socket(&socket),
        None => {
            let url = health.url.clone().unwrap_or_else(usual_url);
            Client::of_url(&url, || Trust::Any.config(None)).with_context(|| format!("cannot ask {url}"))?
        }
    };
    let shown = client.shown();
    let answer = runtime.block_on(async { timeout(health.timeout, readiness(&client)).await });
    let answer = answer.map_err(|_| anyhow::anyhow!("{shown} has not answered for {:?}", health.timeout))?;
    answer.with_context(|| format!("cannot ask {shown}"))
}

async fn readiness(client: &Client) -> anyhow::Result<Readiness> {
    let (status, body) = client.call(&Method::GET, "/readyz", Vec::new()).await?;
    serde_json::from_slice(&body)
        .with_context(|| format!("it answered {status}, and not as zizq-server does"))
}

/// Where a server listens that got its settings from the environment of this process.
fn usual_url() -> String {
    let from_env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let scheme = if from_env("ZIZQ_TLS_CERT").is_some() { "https" } else { "http" };
    let host = from_env("ZIZQ_HOST").unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
    // A server that listens on every address is asked on this machine.
    let host = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host,
    };
    let port = from_env("ZIZQ_PORT").unwrap_or_else(|| DEFAULT_PORT.to_string());
    format!("{scheme}://{host}:{port}")
}

/// The control socket of a server that got its settings from the environment of this process, if it hears nobody without a
/// certificate at its port.
fn usual_socket() -> Option<PathBuf> {
    let from_env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_optional = from_env("ZIZQ_TLS_CLIENT_AUTH").is_some_and(|value| value == "optional");
    from_env("ZIZQ_TLS_CLIENT_CA").filter(|_| !is_optional)?;
    let root_dir = from_env("ZIZQ_ROOT_DIR").unwrap_or_else(|| "./zizq-root".into());
    let given = from_env("ZIZQ_CONTROL_SOCKET").map(PathBuf::from);
    Some(control::path(given.as_deref(), Path::new(&root_dir)))
}
