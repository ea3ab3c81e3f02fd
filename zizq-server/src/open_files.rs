//! The process's limit of open files: every connection needs one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections at a time if no limit is given.
pub(crate) const DEFAULT_CONNECTIONS: usize = 20_000;

/// The files that the store and the rest of the process need besides connections.
const OTHERS: u64 = 1_024;

/// Raises the limit of open files as far as allowed, and returns how many of the requested connections fit.
pub(crate) fn make_room(asked: Option<usize>) -> usize {
    let wanted = asked.unwrap_or(DEFAULT_CONNECTIONS);
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // `None` means no limit.
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.unwrap_or(u64::MAX);
    let connections = connections_of(files, wanted);
    // Warn only if a number was requested.
    if connections < wanted && asked.is_some() {
        tracing::warn!(
            open_files = files,
            connections,
            "the limit of open files allows fewer connections than --max-connections"
        );
    } else {
        tracing::info!(open_files = files, connections, "connection limit");
    }
    connections
}

fn connections_of(files: u64, wanted: usize) -> usize {
    // With few files, connections get half of them.
    let most = files.saturating_sub(OTHERS).max(files / 2).max(1);
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_enough_files() {
        assert_eq!(connections_of(1_048_576, 20_000), 20_000);
        assert_eq!(connections_of(4_096, 20_000), 3_072);
        assert_eq!(connections_of(1_024, 20_000), 512);
        assert_eq!(connections_of(u64::MAX, 5), 5);
    }
}
