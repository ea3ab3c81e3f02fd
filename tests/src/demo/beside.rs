//! What goes on beside the files, so that there is something on every screen of the dashboard: a cron entry, jobs that
//! report how far they are, a budget, and jobs that die.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::binaries::binary;
use crate::client::{Answer, Client};
use crate::process::Process;

/// The queue of jobs that take a while, print lines, report their progress, and enqueue mails at their end.
const REPORTS: &str = "reports";
/// The queue of jobs that draw on a budget, and of which some fail.
const MAILS: &str = "mails";
/// How many mails there are at once.
const FIRST_MAILS: usize = 40;
/// One mail of so many has no recipient.
const LOST: usize = 8;

/// Prints a line each second, and says how far it is.
const REPORT: &str = r#"for part in 1 2 3 4 5 6 7 8 9 10; do
  echo "$(date +%T) counting part $part of 10"
  zizq-worker ctl progress "$(($part / 10)).$(($part % 10))" "part $part of 10"
  sleep 1
done
for to in ada@example.com nobody@example.com; do
  zizq-worker ctl enqueue "{\"queue\": \"mails\", \"type\": \"report\", \"payload\": {\"to\": \"$to\"}, \"retry_limit\": 0, \"budgets\": [{\"key\": \"mail-server\"}]}"
done"#;

/// Fails where nobody would read it.
const MAIL: &str = r#"payload=$(cat)
echo "a mail for $payload"
case "$payload" in *nobody@*) zizq-worker ctl fail --kill 'there is no such mailbox';; esac"#;

/// Enqueues the first of them, and starts their worker.
pub(super) async fn start(client: &Client, url: &str, folder: &Path) -> Result<Process> {
    let budget = json!({"allocation": 5, "strategy": {"type": "time_based", "duration_ms": 1_000}});
    accepted(client.call(http::Method::PUT, "/budgets/mail-server").value(&budget).await)?;
    let report = json!({"queue": REPORTS, "type": "hourly", "payload": {"of": "the demo"}, "unique_key": "report", "retention": {"completed_ms": 3_600_000}});
    let entry = json!({"name": "report", "expression": "*/30 * * * * *", "job": report});
    accepted(client.call(http::Method::PUT, "/crons/demo").value(&json!({"entries": [entry]})).await)?;
    accepted(client.post("/jobs", &report).await)?;
    let mails: Vec<Value> = (1..=FIRST_MAILS).map(mail).collect();
    accepted(client.post("/jobs/bulk", &json!({"jobs": mails})).await)?;
    let worker = binary("zizq-worker");
    let mut command = Command::new(&worker);
    command.args(["--server", url, "--worker-id", "reports-and-mails", "--concurrency", "3"]);
    command.args(["--run", &format!("{REPORTS}={REPORT}"), "--run", &format!("{MAILS}={MAIL}")]);
    // Its commands say `zizq-worker ctl`.
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = worker.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&paths));
    command.env("PATH", std::env::join_paths(paths)?).env("ZIZQ_SPOOL", folder.join("spool-beside"));
    command.current_dir(folder);
    Ok(Process::start(command, &folder.join("worker-beside.log")))
}

fn mail(n: usize) -> Value {
    let to =
        if n.is_multiple_of(LOST) { "nobody@example.com".to_owned() } else { format!("user{n}@example.com") };
    json!({"queue": MAILS, "type": "welcome", "payload": {"to": to}, "retry_limit": 0, "budgets": [{"key": "mail-server"}], "retention": {"completed_ms": 3_600_000}})
}

fn accepted(answer: Answer) -> Result<()> {
    ensure!(answer.status < 300, "the server refused it: {:?}", answer.body);
    Ok(())
}
