//! The free space on the store's disk, and the part that is held back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;

/// The space to keep free on a large disk, in bytes: room for compactions, and for the outcomes of existing jobs.
const RESERVE: u64 = 1024 * 1024 * 1024;
/// The fraction of a smaller disk to keep free.
const RESERVE_PART: u64 = 20;
/// The space required to open the store on a large disk, in bytes.
const TO_OPEN: u64 = 8 * 1024 * 1024;
/// The fraction of a smaller disk that is required.
const TO_OPEN_PART: u64 = 16;
/// The space held back for that on a large disk, in bytes, because others may take all free space.
const BALLAST: u64 = 16 * 1024 * 1024;
/// The fraction of a smaller disk that is held back.
const BALLAST_PART: u64 = 8;
/// The fraction of a small disk that may gather in memory in one place.
const GATHERED_PART: u64 = 32;

#[derive(Debug, Clone)]
pub(super) struct Space {
    folder: PathBuf,
    /// The size of the disk.
    size: u64,
    reserve: u64,
    ballast: u64,
    /// The space that job output will still take.
    output: Arc<AtomicU64>,
}

impl Space {
    /// With nothing to keep free, nothing is held back either.
    pub(super) fn new(folder: &Path, reserve: Option<u64>) -> Self {
        let size = rustix::fs::statvfs(folder).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        let size = size.unwrap_or(u64::MAX);
        let reserve = reserve.unwrap_or_else(|| RESERVE.min(size / RESERVE_PART));
        let ballast = if reserve == 0 { 0 } else { BALLAST.min(size / BALLAST_PART) };
        Self { folder: folder.to_owned(), size, reserve, ballast, output: Arc::default() }
    }

    /// The same for another folder of the same disk, but without holding space back.
    pub(super) fn beside(&self, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ballast: 0, ..self.clone() }
    }

    /// Whether nothing new should be stored, with this many bytes still to be written. With nothing to keep free,
    /// writes will tell.
    pub(super) fn is_low(&self, unwritten: u64) -> bool {
        self.reserve > 0 && self.free() < self.needed(unwritten)
    }

    /// The space that must be free, with this many bytes still to be written.
    fn needed(&self, unwritten: u64) -> u64 {
        let output = self.output.load(Ordering::Relaxed);
        self.reserve.saturating_add(unwritten).saturating_add(output)
    }

    /// The space that is kept free.
    pub(super) const fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Describes the free and the required space, for the log.
    pub(super) fn describe(&self, unwritten: u64) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let (free, needed) = (mib(self.free()), mib(self.needed(unwritten)));
        format!("{}: {free} MiB free, {needed} MiB required", self.folder.display())
    }

    /// The same for a store that is not open.
    pub(super) fn describe_opening(&self) -> String {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        let (free, needed) = (kib(self.free()), kib(self.to_open()));
        format!("{}: {free} KiB free, {needed} KiB required to open the store", self.folder.display())
    }

    /// Reserves room for this many bytes of output.
    pub(super) fn set_output(&self, bytes: u64) {
        self.output.store(bytes, Ordering::Relaxed);
    }

    /// How much may gather in memory before it is written, in bytes: writing it needs room.
    pub(super) fn gathered(&self, most: u64) -> u64 {
        most.min(self.size / GATHERED_PART)
    }

    /// How much space unwritten job output may take, in bytes. Output is refused while there is still room for that,
    /// and earlier than jobs.
    pub(super) fn for_output(&self) -> u64 {
        2 * self.ballast
    }

    fn to_open(&self) -> u64 {
        TO_OPEN.min(self.size / TO_OPEN_PART)
    }

    /// The space that may be used before the store is opened, in bytes.
    pub(super) fn beyond_opening(&self) -> u64 {
        self.free().saturating_sub(self.to_open())
    }

    /// Whether the store can be opened, if need be with the space held back.
    pub(super) fn is_enough_to_open(&self) -> bool {
        let needed = self.to_open();
        if self.free() < needed && fs::remove_file(self.ballast()).is_ok() {
            tracing::warn!("the disk is almost full; using the space that was held back to open the store");
        }
        self.free() >= needed
    }

    /// Holds space back, unless it already does or there is too little.
    pub(super) fn hold_back(&self) {
        let path = self.ballast();
        if self.ballast == 0 || path.exists() || self.is_low(2 * self.ballast) {
            return;
        }
        let Ok(file) = File::create_new(&path) else { return };
        if rustix::fs::fallocate(file, FallocateFlags::empty(), 0, self.ballast).is_err() {
            // Some file systems cannot do this.
            fs::remove_file(path).ok();
        }
    }

    /// The free space in bytes. If the operating system does not tell, writes will.
    pub(super) fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("reserve")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_kept_free_depends_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let space = |reserve| Space::new(folder.path(), reserve);
        assert!((1..=RESERVE).contains(&space(None).reserve));
        assert!(!space(Some(0)).is_low(0));
        assert!(space(Some(1)).is_low(u64::MAX) && !space(Some(0)).is_low(u64::MAX));
        assert!(space(Some(u64::MAX)).is_low(0));
        assert_eq!(Space::new(Path::new("/no such folder"), None).reserve, RESERVE);
    }

    #[test]
    fn the_space_held_back_is_kept_until_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::new(folder.path(), Some(1));
        space.hold_back();
        let held = folder.path().join("reserve");
        // Some file systems cannot hold space back.
        assert!(fs::metadata(&held).is_ok_and(|held| held.len() == space.ballast) || !held.exists());
        assert!(space.is_enough_to_open());
        let nothing = Space::new(folder.path(), Some(0));
        fs::remove_file(held).ok();
        nothing.hold_back();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
