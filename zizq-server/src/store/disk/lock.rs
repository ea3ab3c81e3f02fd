//! Locks a folder for one server: the operating system holds the lock on the file `lock` while the process lives, and
//! releases it at its end. The file itself means nothing; it is created if missing.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::store::StoreError;

/// A process that was just killed may hold the lock a little longer.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Locks a folder until the file is closed. fjall takes the same lock when it opens the folder.
///
/// # Errors
/// [`StoreError::Locked`] while another server has it.
pub(super) fn take(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let path = path.display();
            StoreError::Failed(format!("{path}: {error}; start the server as the owner of the folder"))
        }
        _ => StoreError::of_file(&path, error),
    };
    std::fs::create_dir_all(folder).map_err(|error| StoreError::of_file(folder, &error))?;
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let lock = open.map_err(|error| failed(&error))?;
    for tries in 1.. {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries < TRIES => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
    Ok(lock)
}
