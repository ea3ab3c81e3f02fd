//! What the kernel says about memory: of this worker, and whether it killed for want of it.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often the kernel had killed when it was last looked at.
static SEEN: AtomicU64 = AtomicU64::new(u64::MAX);

/// Remembers how often the kernel has killed so far.
pub(super) fn watch() {
    if let Some(kills) = kills() {
        SEEN.store(kills, Ordering::Relaxed);
    }
}

/// Whether it killed since the last look. Of two processes that were killed at the same moment, one of them by somebody
/// else, either may be taken for the other.
pub(super) fn kernel_killed_for_memory() -> bool {
    kills().is_some_and(|now| now > SEEN.swap(now, Ordering::Relaxed))
}

/// The most memory this worker held when it was last looked at, in bytes.
static OWN_PEAK: AtomicU64 = AtomicU64::new(0);

/// Whether a peak of a command is not only that of the worker, which it was a part of when it was started.
pub(super) fn is_its_own(peak: u64) -> bool {
    if peak > OWN_PEAK.load(Ordering::Relaxed) {
        OWN_PEAK.store(own_peak().unwrap_or(0), Ordering::Relaxed);
    }
    peak > OWN_PEAK.load(Ordering::Relaxed)
}

fn own_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn kills() -> Option<u64> {
    let counters = fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
