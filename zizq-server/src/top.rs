//! `zizq-server top`: finds the server that is shown, at its URL or over its control socket.

use std::path::Path;

use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, HeaderValue};
use zizq_client::{Client, Shown, Trust};

use crate::config::{DEFAULT_PORT, Top};
use crate::control;

/// Shows a server until it is told to end.
///
/// # Errors
/// One sentence for people.
pub fn run(top: &Top) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connect = |url: Option<&str>| client(top, url.or(top.url.as_deref()));
    let result = runtime.block_on(zizq_top::run(&top.shown, &connect));
    // A call that is still waited for must not hold up the end.
    runtime.shutdown_background();
    result
}

fn client(top: &Top, url: Option<&str>) -> anyhow::Result<Client> {
    let token = match &top.token_file {
        Some(path) => Some(first_line(path)?),
        None => std::env::var("ZIZQ_TOKEN").ok().filter(|token| !token.is_empty()),
    };
    let usual = format!("http://127.0.0.1:{DEFAULT_PORT}");
    let url = url.or_else(|| token.as_ref().map(|_| usual.as_str()));
    let client = match url {
        Some(url) => {
            let trust = top.server_ca.as_deref().map_or(Trust::System, Trust::File);
            let shown = top.client_cert.as_deref().zip(top.client_key.as_deref());
            let shown = shown.map(|(cert, key)| Shown { cert, key });
            Client::of_url(url, || trust.config(shown))
                .with_context(|| format!("cannot call `{}`", without_password(url)))?
        }
        None => {
            let socket = control::path(top.server.control_socket.as_deref(), &top.server.root_dir);
            if let Some(why) = control::too_long(&socket) {
                bail!(why);
            }
            if !socket.exists() {
                bail!(
                    "there is no control socket {}: is the server running, and is its folder the one that --root-dir or \
                     ZIZQ_ROOT_DIR names? --url http://HOST:{DEFAULT_PORT} reaches one elsewhere",
                    socket.display()
                );
            }
            Client::of_socket(&socket)
        }
    };
    let Some(token) = token else { return Ok(client) };
    let token = HeaderValue::from_str(&format!("Bearer {token}"))
        .context("the access token has a character that none has")?;
    Ok(client.with(AUTHORIZATION, token))
}

fn without_password(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, at)| format!("***@{at}"))
}

fn first_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        bail!("{} has no access token in its first line", path.display());
    }
    Ok(line.to_owned())
}
