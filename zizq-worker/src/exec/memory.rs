//! The kernel's counters of memory: the peak of this worker, and whether a process was killed because memory ran out.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's count of out-of-memory kills at the last look.
static SEEN: AtomicU64 = AtomicU64::new(u64::MAX);

/// Remembers the current count.
pub(super) fn watch() {
    if let Some(kills) = kills() {
        SEEN.store(kills, Ordering::Relaxed);
    }
}

/// Whether the kernel killed a process since the last look. Two processes killed at the same moment, one by somebody else,
/// may be mistaken for each other.
pub(super) fn kernel_killed_for_memory() -> bool {
    kills().is_some_and(|now| now > SEEN.swap(now, Ordering::Relaxed))
}

/// The peak memory of this worker at the last look, in bytes.
static OWN_PEAK: AtomicU64 = AtomicU64::new(0);

/// Whether a command's peak is its own, and not that of the worker that it was forked from.
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
