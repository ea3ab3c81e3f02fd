//! Gaps in the commits that an operator has accepted as lost: a file of lines `AFTER BEFORE` next to the journals.
//! Without it, the next start would report the gap again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// The commits between these two are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub after: u64,
    pub before: u64,
}

impl Gap {
    pub(super) const fn covers(self, after: u64, before: u64) -> bool {
        self.after <= after && before <= self.before
    }
}

/// # Errors
/// When the file cannot be read.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Gap>> {
    match fs::read_to_string(folder.join("accepted")) {
        Ok(text) => Ok(text.lines().filter_map(gap).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// # Errors
/// When the file cannot be written.
pub(super) fn add(folder: &Path, gap: Gap) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(folder.join("accepted"))?;
    writeln!(file, "{} {}", gap.after, gap.before)?;
    file.sync_all()
}

fn gap(line: &str) -> Option<Gap> {
    let (after, before) = line.split_once(' ')?;
    Some(Gap { after: after.parse().ok()?, before: before.parse().ok()? })
}
