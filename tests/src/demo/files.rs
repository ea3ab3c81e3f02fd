//! The files that become jobs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use walkdir::{DirEntry, WalkDir};

/// Files of a folder; their place in the list is their number.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    bytes: u64,
    too_large: u32,
    too_many: u32,
    largest: u64,
}

impl Files {
    pub(super) fn find(folder: &Path, most: u32, largest: u64) -> Result<Self> {
        let folder =
            folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        let mut files = Self { folder, paths: Vec::new(), bytes: 0, too_large: 0, too_many: 0, largest };
        let walk = WalkDir::new(&files.folder).sort_by_file_name().into_iter().filter_entry(wanted);
        // What cannot be read is not part of the demo.
        for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            let readable = fs::File::open(entry.path()).and_then(|file| file.metadata());
            let Ok(length) = readable.map(|metadata| metadata.len()) else { continue };
            if length > largest {
                files.too_large += 1;
            } else if files.paths.len() >= most as usize {
                files.too_many += 1;
            } else {
                files.bytes += length;
                files.paths.push(entry.into_path());
            }
        }
        ensure!(!files.paths.is_empty(), "{} has no files to make jobs of", files.folder.display());
        Ok(files)
    }

    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The whole paths, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// The path inside of the folder, for people.
    pub(super) fn name<'a>(&self, path: &'a Path) -> std::borrow::Cow<'a, str> {
        path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy()
    }

    /// The folder and how much there is in it.
    pub(super) fn describe(&self) -> String {
        format!("{} ({})", self.folder.display(), size(self.bytes))
    }

    /// What is missing, if anything is.
    pub(super) fn left_out(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.too_large > 0 {
            parts.push(format!("{} larger than {}", self.too_large, size(self.largest)));
        }
        if self.too_many > 0 {
            parts.push(format!("{} beyond the first {}", self.too_many, self.paths.len()));
        }
        (!parts.is_empty()).then(|| format!("left out: {} (see --help)", parts.join(", ")))
    }

    /// Makes `files/NUMBER` a link to each file, so that no shell command has to deal with names, and a folder for the
    /// results.
    pub(super) fn link_into(&self, folder: &Path) -> Result<()> {
        for name in ["files", "compressed"] {
            fs::create_dir(folder.join(name))?;
        }
        for (n, path) in self.paths.iter().enumerate() {
            symlink(path, folder.join("files").join(n.to_string()))?;
        }
        Ok(())
    }
}

/// Neither what git keeps nor what cargo builds.
fn wanted(entry: &DirEntry) -> bool {
    let skipped = [".git", "target", "node_modules", "zizq-root"];
    entry.depth() == 0
        || !entry.file_type().is_dir()
        || !skipped.iter().any(|name| entry.file_name() == *name)
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = bytes as f64;
    match bytes {
        ..1_024.0 => format!("{bytes} bytes"),
        ..1_048_576.0 => format!("{:.1} KiB", bytes / 1_024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}
