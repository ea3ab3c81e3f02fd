//! A command and all processes that it started: its process group and, with cgroups, those that left it.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};

use crate::cgroup::{JobGroup, Spent};

/// How often to check whether a group is empty: the kernel does not report it.
const POLL: Duration = Duration::from_millis(20);

/// The process group that a child leads. Dropping this kills what is left of it.
#[derive(Debug)]
pub(super) struct Group<'a> {
    leader: Option<Pid>,
    cgroup: Option<JobGroup<'a>>,
}

impl<'a> Group<'a> {
    /// The group of a child that was started as its leader.
    pub(super) const fn of(leader: Pid, cgroup: Option<JobGroup<'a>>) -> Self {
        Self { leader: Some(leader), cgroup }
    }

    /// Sends a signal to the process group. An empty group is not an error.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader
            && let Err(e) = kill_process_group(leader, signal)
            && e != rustix::io::Errno::SRCH
        {
            tracing::warn!("cannot send {signal:?} to the process group {leader:?}: {e}");
        }
    }

    /// Waits until the process group is empty. Its leader was reaped before.
    pub(super) async fn emptied(&self) {
        let Some(leader) = self.leader else { return };
        loop {
            // Children of the leader became ours when it died, and belong to the group until they are reaped.
            while matches!(waitpgid(leader, WaitOptions::NOHANG), Ok(Some(_))) {}
            if test_kill_process_group(leader).is_err() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills what is left, once: the kernel may reuse the number of a group.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        self.leader = None;
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// What all processes used together, if there is a cgroup.
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
    async fn a_group_is_empty_once_the_children_of_its_leader_have_died() {
        set_child_subreaper(Some(getpid())).unwrap();
        let mut leader =
            Command::new("sh").args(["-c", "sleep 1000; true"]).process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(leader.id().try_into().unwrap()).unwrap();
        let group = Group::of(pid, None);
        assert!(timeout(POLL * 5, group.emptied()).await.is_err(), "the child sleeps");
        group.signal(Signal::TERM);
        leader.wait().unwrap();
        timeout(Duration::from_secs(30), group.emptied()).await.unwrap();
    }
}
