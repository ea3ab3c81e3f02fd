//! How much space is left on the disk of the store.

use std::path::{Path, PathBuf};

/// What is kept free on a large disk, in bytes: room for compactions, and for what ends jobs that are there.
const RESERVE: u64 = 1024 * 1024 * 1024;
/// The part of a smaller disk that is kept free.
const RESERVE_PART: u64 = 20;
/// To open the store takes a little space, in bytes.
const TO_OPEN: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    reserve: u64,
}

impl Space {
    pub(super) fn new(folder: &Path, reserve: Option<u64>) -> Self {
        let reserve = reserve.unwrap_or_else(|| {
            let size = rustix::fs::statvfs(folder).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
            RESERVE.min(size.unwrap_or(u64::MAX) / RESERVE_PART)
        });
        Self { folder: folder.to_owned(), reserve }
    }

    /// Whether nothing new should be stored.
    pub(super) fn is_low(&self) -> bool {
        self.free() < self.reserve
    }

    pub(super) fn is_enough_to_open(&self) -> bool {
        self.free() >= TO_OPEN
    }

    /// In bytes. Where the operating system does not say, writes will tell.
    pub(super) fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_free() {
        let folder = tempfile::tempdir().unwrap();
        let space = |reserve| Space::new(folder.path(), reserve);
        assert!((1..=RESERVE).contains(&space(None).reserve));
        assert!(!space(Some(0)).is_low());
        assert!(space(Some(u64::MAX)).is_low());
        assert_eq!(Space::new(Path::new("/no such folder"), None).reserve, RESERVE);
    }
}
