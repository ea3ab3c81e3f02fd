//! `zizq-server audit`: prints who has changed what.

use std::io::Write;

use http::Method;
use serde_json::Value;

use super::{client, token};
use crate::config::AuditTask;

/// Carries out the command.
///
/// # Errors
/// One sentence for people.
pub fn run(task: &AuditTask) -> anyhow::Result<()> {
    let socket = super::path(task.server.control_socket.as_deref(), &task.server.root_dir);
    let path = format!("/audit?limit={}", task.limit);
    let mut page = client::call::<()>(&socket, Method::GET, &path, None)?;
    let entries =
        page.get_mut("entries").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    let mut stdout = std::io::stdout();
    for entry in entries.iter().rev() {
        if task.json { writeln!(stdout, "{entry}")? } else { writeln!(stdout, "{}", line(entry))? }
    }
    Ok(stdout.flush()?)
}

fn line(entry: &Value) -> String {
    let text = |at: &str| entry.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let number = |at: &str| entry.pointer(at).and_then(Value::as_u64);
    let at = token::shown(number("/at").unwrap_or_default());
    let who = [text("/who/kind"), text("/who/name"), text("/remote")];
    let who: Vec<&str> = who.into_iter().filter(|part| !part.is_empty()).collect();
    let status = number("/status").map(|status| format!("  {status}")).unwrap_or_default();
    let changed = number("/changed").map(|jobs| format!("  {jobs} changed")).unwrap_or_default();
    let error = text("/error");
    let error = if error.is_empty() { String::new() } else { format!("  {error}") };
    format!("{at}  {}  {} {}{status}{changed}{error}", who.join(" "), text("/action"), text("/target"))
}
