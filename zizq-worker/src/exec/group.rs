//! A process group: a command and everything it started.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// How often to look whether a group is empty: nobody is told when the last of it ends.
const POLL: Duration = Duration::from_millis(20);

/// The group that a child leads. Whatever is left of it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was started as the leader of one.
    pub(super) const fn of(leader: Pid) -> Self {
        Self(Some(leader))
    }

    /// Sends a signal to all of it. That nobody is left to receive it is not an error.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0
            && let Err(e) = kill_process_group(leader, signal)
            && e != rustix::io::Errno::SRCH
        {
            tracing::warn!("process group {leader:?} did not get {signal:?}: {e}");
        }
    }

    /// Waits until nothing is left of it.
    pub(super) async fn emptied(&self) {
        while self.0.is_some_and(|leader| test_kill_process_group(leader).is_ok()) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills what is left, once: the number of a group may later be that of another.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
