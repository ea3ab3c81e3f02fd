//! Waiting, with an end.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::Command;

/// After this long a test gives up: well over the 30 s that the server itself grants, such as for a body that pauses, on a
/// machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for `future`.
///
/// # Panics
/// When [`PATIENCE`] is over, naming `what` was awaited.
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Waits for the end of a program, and returns what it printed.
///
/// # Panics
/// When it cannot be started; when [`PATIENCE`] is over, saying what each of its threads was doing.
pub async fn output(mut command: Command, what: impl Display) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let process = child.id().unwrap_or_default();
    let mut ended = pin!(child.wait_with_output());
    match tokio::time::timeout(PATIENCE, &mut ended).await {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}; its threads:\n{}", threads(process)),
    }
}

/// What each thread of a process is doing, as the kernel says.
fn threads(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let read = |task: &Path, name| fs::read_to_string(task.join(name)).unwrap_or_default();
    let shown = |task: PathBuf| {
        let [name, place, call] =
            ["comm", "wchan", "syscall"].map(|name| read(&task, name).trim().to_owned());
        format!("{name}: {place}, system call {call}\n")
    };
    tasks.map(|task| shown(task.path())).collect()
}

/// Asks `probe` again and again until it gives a value: for what the contract has no signal for.
///
/// # Panics
/// When [`PATIENCE`] is over, naming `what` was awaited.
pub async fn until<T>(what: impl Display, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let attempts = async {
        loop {
            pace.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    within(what, attempts).await
}

/// The time in milliseconds since the Unix epoch; the servers under test share our clock.
#[expect(clippy::disallowed_methods, reason = "here is the one place where the tests read the clock")]
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
