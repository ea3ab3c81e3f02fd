//! `zizq-server token`: makes and ends access tokens. A token alone goes to standard output, everything else to standard
//! error, so that a script can keep it.

use std::io::Write;

use http::Method;
use protocol::access::{NewToken, Rotate, TokenView};
use serde::Deserialize;

use super::client;
use crate::config::{TokenCommand, TokenTask};

/// Carries out the command.
///
/// # Errors
/// One sentence for people.
pub fn run(task: &TokenTask) -> anyhow::Result<()> {
    let socket = super::path(task.server.control_socket.as_deref(), &task.server.root_dir);
    let call = |method, path: &str| client::call::<()>(&socket, method, path, None);
    match &task.command {
        TokenCommand::Create(create) => {
            let new = NewToken {
                name: create.name.clone(),
                role: create.role,
                queues: (!create.queue.is_empty()).then(|| create.queue.clone()),
                grants: create.grant.clone(),
                certificate: create.certificate.clone(),
                expires_at: None,
                expires_in_ms: create.expires.map(crate::clock::millis),
            };
            tell_made(&client::call(&socket, Method::POST, "/tokens", Some(&new))?)
        }
        TokenCommand::Rotate(rotate) => {
            let body = Rotate { overlap_ms: Some(crate::clock::millis(rotate.overlap)) };
            let path = format!("/tokens/{}/rotate", rotate.id);
            tell_made(&client::call(&socket, Method::POST, &path, Some(&body))?)
        }
        TokenCommand::Revoke { id } => {
            call(Method::DELETE, &format!("/tokens/{id}"))?;
            writeln!(std::io::stderr(), "{id} is revoked, and what was open with it is closed")?;
            Ok(())
        }
        TokenCommand::Link { id, server_url } => {
            let made = call(Method::POST, &format!("/tokens/{id}/link"))?;
            let code = made.get("code").and_then(serde_json::Value::as_str).unwrap_or_default();
            writeln!(std::io::stderr(), "it counts once, and for a minute")?;
            let mut stdout = std::io::stdout();
            writeln!(stdout, "{}/ui/login#code={code}", server_url.trim_end_matches('/'))?;
            Ok(stdout.flush()?)
        }
        TokenCommand::List => list(&call(Method::GET, "/tokens")?),
    }
}

fn tell_made(made: &serde_json::Value) -> anyhow::Result<()> {
    let view = TokenView::deserialize(made)?;
    let grants: Vec<String> = view.grants.iter().map(ToString::to_string).collect();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{} `{}` may: {}", view.id, view.name, grants.join(" "))?;
    if let Some(until) = view.expires_at {
        writeln!(stderr, "it expires {}", shown(until))?;
    }
    if let Some(until) = view.old_secret_until {
        writeln!(stderr, "the one before still counts until {}", shown(until))?;
    }
    if let Some(certificate) = view.certificate {
        writeln!(
            stderr,
            "it is whoever shows a certificate with the name {certificate}; the server asks every caller who it is"
        )?;
        return Ok(());
    }
    writeln!(stderr, "keep it now, it is not shown again; the server asks every caller for an access token")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", view.token.unwrap_or_default())?;
    Ok(stdout.flush()?)
}

fn list(tokens: &serde_json::Value) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct List {
        tokens: Vec<TokenView>,
    }
    let mut stdout = std::io::stdout();
    for view in List::deserialize(tokens)?.tokens {
        let grants: Vec<String> = view.grants.iter().map(ToString::to_string).collect();
        let used =
            view.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {}", day(at)));
        let expires = view.expires_at.map_or_else(String::new, |at| format!(", expires {}", shown(at)));
        let name = view.name.as_str();
        let certificate = view.certificate.map_or_else(String::new, |name| format!(", certificate {name}"));
        if let Some(at) = view.revoked_at {
            writeln!(stdout, "{}  {name:<24}  revoked {}{certificate}", view.id, day(at))?;
            continue;
        }
        writeln!(stdout, "{}  {name:<24}  {}  ({used}{expires}{certificate})", view.id, grants.join(" "))?;
    }
    Ok(())
}

/// A time for people.
pub(super) fn shown(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn day(ms: u64) -> String {
    shown(ms).get(..10).unwrap_or_default().to_owned()
}
