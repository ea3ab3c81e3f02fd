//! What a process used, as `/proc` tells.

use std::fs;

/// What a process used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// The resident set, in bytes.
    pub rss: u64,
    /// The largest resident set so far, in bytes.
    pub peak_rss: u64,
}

/// Linux reports times to user space in this unit whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// Reads it; `None` where there is no such process, or no `/proc`.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Self::parse(&stat, &status)
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; the fields behind it begin with the third, the state.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        let ticks = times.next()?.ok()? + times.next()?.ok()?;
        let bytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        let (rss, peak_rss) = (bytes("VmRSS:")?, bytes("VmHWM:")?);
        Some(Self { cpu_seconds: ticks / TICKS_PER_SECOND, rss, peak_rss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_writes() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 151 0 0 0 250 50 0 0 20 0 1 0 100 2000 300 18446744073709551615";
        let usage = Usage::parse(stat, "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n").unwrap();
        assert_eq!((usage.cpu_seconds, usage.rss, usage.peak_rss), (3.0, 1 << 20, 2 << 20));
    }

    #[test]
    fn of_ourselves() {
        assert!(Usage::of(std::process::id()).unwrap().peak_rss > 0);
    }
}
