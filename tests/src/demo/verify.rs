//! Whether every file came out right.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::checksum::{Checksums, crc32};
use super::files::{Files, size};
use super::screen::Screen;

/// What became of the files.
#[derive(Debug, Default)]
pub(super) struct Checked {
    files: u64,
    bytes: u64,
    compressed_bytes: u64,
    /// What is wrong, by name.
    wrong: Vec<String>,
    wrong_checksums: Vec<String>,
}

/// Decompresses every result, compares it with its file, and its checksum with what the endpoint said.
pub(super) fn check(files: &Files, folder: &Path, checksums: &Checksums) -> Checked {
    let mut checked = Checked::default();
    for (n, path) in (0..).zip(files.paths()) {
        checked.files += 1;
        let original = fs::read(path);
        let compressed = fs::read(folder.join(format!("compressed/{n}.gz")));
        let mut bytes = Vec::new();
        let restored = compressed.and_then(|compressed| {
            checked.compressed_bytes += compressed.len() as u64;
            MultiGzDecoder::new(compressed.as_slice()).read_to_end(&mut bytes)
        });
        checked.bytes += bytes.len() as u64;
        if restored.is_err() || original.ok().as_deref() != Some(bytes.as_slice()) {
            checked.wrong.push(files.name(path).into_owned());
        }
        if checksums.of(n) != Some(crc32(&bytes)) {
            checked.wrong_checksums.push(files.name(path).into_owned());
        }
    }
    checked
}

impl Checked {
    /// Shows it; `false` if anything is wrong.
    pub(super) fn show(&self, screen: &Screen) -> bool {
        let equal = self.files - self.wrong.len() as u64;
        screen.check(
            self.wrong.is_empty(),
            &format!(
                "{equal} of {} files decompress to what they were ({} → {})",
                self.files,
                size(self.bytes),
                size(self.compressed_bytes)
            ),
        );
        let equal = self.files - self.wrong_checksums.len() as u64;
        screen.check(
            self.wrong_checksums.is_empty(),
            &format!("{equal} of {} checksums are right", self.files),
        );
        for name in self.wrong.iter().chain(&self.wrong_checksums).take(10) {
            screen.more(name);
        }
        self.wrong.is_empty() && self.wrong_checksums.is_empty()
    }
}
