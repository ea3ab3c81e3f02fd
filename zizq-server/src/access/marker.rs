//! A file in the server's folder that says that there have been access tokens: so a server whose tokens were lost with a
//! part of its store, or in the middle of a reset, does not let everybody in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "access-tokens-required";

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Marker(PathBuf);

impl Marker {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.join(NAME))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.exists()
    }

    /// Makes the file, and waits until the disk has it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) async fn make(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let path = self.0.clone();
        let make = move || {
            File::create(&path)?.sync_all()?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?
    }
}
