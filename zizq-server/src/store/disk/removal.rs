//! Frees the space of removed files in small steps.
//!
//! fjall removes journals of 64 MB, and several tables at once. Some disks and file systems take 30 ms and more to free
//! that much, and every sync waits for it. A removed file exists while it is open: so each file is opened when it is
//! created, and truncated step by step once it is removed. The removal is synced first: after a power failure a file
//! may have its name again, and must not be shorter then.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::hash::HashMap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How much is freed at a time, in bytes.
const STEP: u64 = 1024 * 1024;
/// The pause between steps.
const PAUSE: Duration = Duration::from_millis(1);
/// How many files are kept open. Further ones are removed without this.
const MAX_OPEN: usize = 1_024;

/// Watches folders until it is dropped.
#[derive(Debug)]
pub(super) struct Removal {
    /// Closing it ends the thread.
    _alive: PipeWriter,
}

impl Removal {
    /// # Errors
    /// When the folders cannot be read or watched.
    pub(super) fn watch(folders: &[PathBuf]) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut files = Files::default();
        for folder in folders {
            let watch = inotify::add_watch(&events, folder, WatchFlags::CREATE | WatchFlags::DELETE)?;
            for entry in fs::read_dir(folder)? {
                files.open(&entry?.path());
            }
            files.folders.insert(watch, folder.clone());
        }
        let (ended, alive) = io::pipe()?;
        thread::Builder::new().name("removal".to_owned()).spawn(move || {
            if let Err(error) = run(&events, &ended, files) {
                tracing::warn!(%error, "removed files of the store are no longer watched; freeing their space may cause pauses");
            }
        })?;
        Ok(Self { _alive: alive })
    }
}

fn run(events: &OwnedFd, ended: &PipeReader, mut files: Files) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4_096];
    loop {
        let mut ready = [PollFd::new(events, PollFlags::IN), PollFd::new(ended, PollFlags::empty())];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        if ready.iter().any(|fd| fd.revents().contains(PollFlags::HUP)) {
            return Ok(());
        }
        let mut reader = inotify::Reader::new(events, &mut buffer);
        loop {
            match reader.next() {
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                event => files.note(&event?),
            }
        }
        files.give_back()?;
    }
}

#[derive(Debug, Default)]
struct Files {
    folders: HashMap<i32, PathBuf>,
    open: Vec<File>,
}

impl Files {
    fn note(&mut self, event: &inotify::Event<'_>) {
        if event.events().contains(ReadFlags::CREATE)
            && let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name())
        {
            let path = folder.join(OsStr::from_bytes(name.to_bytes()));
            self.open(&path);
        }
    }

    /// Opens a file. Errors are ignored, as the file may be gone already.
    fn open(&mut self, path: &Path) {
        if self.open.len() < MAX_OPEN
            && path.is_file()
            && let Ok(file) = File::options().write(true).open(path)
        {
            self.open.push(file);
        }
    }

    /// Frees the space of removed files. A file with another hard link keeps its contents.
    fn give_back(&mut self) -> io::Result<()> {
        let is_removed = |file: &mut File| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        let removed: Vec<File> = self.open.extract_if(.., is_removed).collect();
        if !removed.is_empty() {
            self.folders.values().try_for_each(|folder| File::open(folder)?.sync_all())?;
        }
        for file in removed {
            let mut left = file.metadata()?.len();
            while left > 0 {
                left = left.saturating_sub(STEP);
                file.set_len(left)?;
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits up to ten seconds until the file has this length.
    fn shrunk(file: &File, len: u64) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            file.metadata().unwrap().len() <= len
        })
    }

    #[test]
    fn only_removed_files_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make = |name: &str| {
            let file = File::create_new(path(name)).unwrap();
            file.set_len(3 * STEP + 5).unwrap();
            file
        };
        let before = make("before");
        let removal = Removal::watch(&[folder.path().to_owned()]).unwrap();
        let [after, linked, kept] = ["after", "linked", "kept"].map(make);
        fs::hard_link(path("linked"), path("link")).unwrap();
        let remove = |name: &str| fs::remove_file(path(name)).unwrap();
        remove("before");
        assert!(shrunk(&before, 0));
        // By now the watch has seen all the others.
        remove("linked");
        remove("after");
        assert!(shrunk(&after, 0));
        assert_eq!(linked.metadata().unwrap().len(), 3 * STEP + 5);
        assert_eq!(kept.metadata().unwrap().len(), 3 * STEP + 5);
        drop(removal);
    }
}
