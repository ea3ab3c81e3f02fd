//! A command and everything it started: its process group and, where there are cgroups, what left that.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};

use crate::cgroup::{JobGroup, Spent};

/// How often to look whether a group is empty: nobody is told when the last of it ends.
const POLL: Duration = Duration::from_millis(20);

/// The group that a child leads. Whatever is left of it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Group<'a> {
    leader: Option<Pid>,
    cgroup: Option<JobGroup<'a>>,
}

impl<'a> Group<'a> {
    /// The group of a child that was started as the leader of one.
    pub(super) const fn of(leader: Pid, cgroup: Option<JobGroup<'a>>) -> Self {
        Self { leader: Some(leader), cgroup }
    }

    /// Sends a signal to the process group. That nobody is left to receive it is not an error.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader
            && let Err(e) = kill_process_group(leader, signal)
            && e != rustix::io::Errno::SRCH
        {
            tracing::warn!("process group {leader:?} did not get {signal:?}: {e}");
        }
    }

    /// Waits until nothing is left of the process group. Its leader has been buried before.
    pub(super) async fn emptied(&self) {
        let Some(leader) = self.leader else { return };
        loop {
            // What the leader has started became our child when the leader died, and is of the group until it is buried.
            while matches!(waitpgid(leader, WaitOptions::NOHANG), Ok(Some(_))) {}
            if test_kill_process_group(leader).is_err() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills what is left, once: the number of a group may later be that of another.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        self.leader = None;
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// What all of it used together, as far as its cgroup says.
    pub(super) fn spent(&self) -> Spent {
        self.cgroup.as_ref().map(JobGroup::spent).unwrap_or_default()
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use rustix::process::{getpid, set_child_subreaper};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_group_is_empty_once_what_its_leader_started_has_died() {
        set_child_subreaper(Some(getpid())).unwrap();
        let mut leader =
            Command::new("sh").args(["-c", "sleep 1000; true"]).process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(leader.id().try_into().unwrap()).unwrap();
        let group = Group::of(pid, None);
        assert!(timeout(POLL * 5, group.emptied()).await.is_err(), "it sleeps");
        group.signal(Signal::TERM);
        leader.wait().unwrap();
        timeout(Duration::from_secs(30), group.emptied()).await.unwrap();
    }
}
