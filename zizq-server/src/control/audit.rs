//! `zizq-server audit`: prints who has changed what.

use std::io::Write;

use http::Method;
use protocol::error::excerpt;
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
    let (action, target) = (text("/action"), text("/target"));
    let until = Some(text("/until")).filter(|until| !until.is_empty() && !target.contains(until));
    let until = until.map(|until| format!("  until {until}")).unwrap_or_default();
    let differences = differences(entry);
    format!("{at}  {}  {action} {target}{status}{changed}{until}{differences}{error}", who.join(" "))
}

/// What has changed about one thing: `  priority 5 → 1, retry_limit – → 3`.
fn differences(entry: &Value) -> String {
    let mut found = Vec::new();
    collect("", &entry["before"], &entry["after"], &mut found);
    if entry["more"] == true {
        found.push("…".to_owned());
    }
    if found.is_empty() { String::new() } else { format!("  {}", found.join(", ")) }
}

fn collect(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    let Some(members) = before.as_object().or_else(|| after.as_object()) else {
        if !(before.is_null() && after.is_null()) {
            found.push(format!("{} {} → {}", excerpt(path), shown(path, before), shown(path, after)));
        }
        return;
    };
    for name in members.keys() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(&path, &before[name], &after[name], found);
    }
}

fn shown(path: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => excerpt(text),
        value => match value.as_u64().filter(|_| path.ends_with("_at")) {
            Some(at) => token::shown(at),
            None => value.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_read_from_left_to_right() {
        let patched = json!({
            "before": {"priority": 5, "queue": "a\u{1b}", "ready_at": 1_767_225_600_000_u64, "retention": {"dead_ms": null}},
            "after": {"priority": 1, "queue": "b", "ready_at": 1_767_229_200_000_u64, "retention": {"dead_ms": 7}},
            "more": true,
        });
        let expected = "  priority 5 → 1, queue a\\u{1b} → b, ready_at 2026-01-01 00:00 UTC → 2026-01-01 01:00 UTC, \
            retention.dead_ms – → 7, …";
        assert_eq!(differences(&patched), expected);
        assert_eq!(differences(&json!({"after": {"paused": true, "timezone": null}})), "  paused – → true");
        assert_eq!(differences(&json!({"before": {"grants": ["read"]}})), "  grants [\"read\"] → –");
        assert_eq!(differences(&json!({"target": "/jobs"})), "");
    }
}
