//! Continues with what can be read of a damaged folder. The rest is set aside in its own folder, `damaged-N`: the
//! damaged files as they were, and a list of what is lost.
//!
//! A part of a table is lost with the keys in it. Older tables may have older or removed values for these keys, and
//! there is no way to tell, so they are set aside as well. Records that are written only once, such as the names of
//! queues, stay in their older state.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fjall::Keyspace;
use lsm_tree::{AbstractTree, CompressionType, InternalValue, SeqNo, SequenceNumberCounter};
use protocol::plural::plural;

use super::accepted::{self, Gap};
use super::intact::{self, Broken, Fault, Part};
use super::table::{self, Contents, Lost};
use super::torn;
use super::{manifest, synced};
use crate::store::StoreError;
use crate::store::keys::{self, Area, Key};

/// In the store after a loss: what depends on it must be repaired.
pub(crate) const MARK: &str = "salvaged";

/// What is lost.
#[derive(Debug, Default)]
pub(super) struct Loss {
    folder: PathBuf,
    /// Where it is set aside, once there is something.
    aside: Option<PathBuf>,
    lines: Vec<String>,
    /// Values that may be older than what is lost under the same key, each with its sequence number.
    doubtful: Vec<(Key, SeqNo)>,
    /// The lost keys in the runs of tables, by the number of the run.
    ranges: Vec<(usize, Lost)>,
    /// How many lines and ranges are recorded, and whether the folder for them is.
    noted: (usize, usize, bool),
}

/// What is recorded before any change, and read again if the process ends before everything is settled: changed files
/// would look intact by then.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Noted {
    Line(String),
    /// The folder for what is set aside, relative to the store's folder.
    Aside(PathBuf),
    /// The run, and the keys around what is lost.
    Range(usize, Vec<u8>, Vec<u8>),
}

impl Loss {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// Continues after an earlier process. Returns whether one had begun.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub(super) fn resume(&mut self) -> io::Result<bool> {
        let text = match fs::read_to_string(self.notes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            text => text?,
        };
        // The last line may be torn: nothing was changed by then.
        for noted in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match noted {
                Noted::Line(line) => self.lines.push(line),
                Noted::Aside(name) => self.aside = Some(self.folder.join(name)),
                Noted::Range(run, after, before) => {
                    let [after, before] = [after, before].map(|key| Some(Key::from_slice(&key)));
                    self.ranges.push((run, Lost { bytes: 0..0, after, before }));
                }
            }
        }
        self.noted = self.to_note();
        Ok(true)
    }

    /// Records the losses. Must be called before any change.
    fn note(&mut self) -> io::Result<()> {
        let (lines, ranges, aside) = self.noted;
        let line = |line: &String| Noted::Line(line.clone());
        let range = |(run, lost): &(usize, Lost)| {
            let key = |key: &Option<Key>| key.as_ref().map(|key| key.to_vec()).unwrap_or_default();
            Noted::Range(*run, key(&lost.after), key(&lost.before))
        };
        let new = self.lines.iter().skip(lines).map(line);
        let aside = self.aside.as_ref().filter(|_| !aside).and_then(|aside| aside.file_name());
        let aside = aside.map(|name| Noted::Aside(name.into()));
        let new: Vec<_> = new.chain(self.ranges.iter().skip(ranges).map(range)).chain(aside).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for noted in &new {
            text += &serde_json::to_string(noted)?;
            text.push('\n');
        }
        let mut file = File::options().create(true).append(true).open(self.notes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        self.noted = self.to_note();
        Ok(())
    }

    fn to_note(&self) -> (usize, usize, bool) {
        (self.lines.len(), self.ranges.len(), self.aside.is_some())
    }

    fn notes(&self) -> PathBuf {
        self.folder.join("mending")
    }

    /// Removes the records once everything is settled and on the disk.
    ///
    /// # Errors
    /// When the records cannot be removed.
    pub(super) fn finish(folder: &Path) -> io::Result<()> {
        torn::remove(&folder.join("mending"))
    }

    fn aside(&mut self) -> io::Result<PathBuf> {
        if let Some(aside) = &self.aside {
            return Ok(aside.clone());
        }
        for number in 1_u32.. {
            let aside = self.folder.join(format!("damaged-{number}"));
            match fs::create_dir(&aside) {
                Ok(()) => return Ok(self.aside.insert(aside).clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Keeps a file as it is. Its replacement must be another file.
    fn keep(&mut self, file: &Path) -> io::Result<()> {
        if file.is_file() {
            let name = file.strip_prefix(&self.folder).unwrap_or(file).to_string_lossy().replace('/', "-");
            let kept = self.aside()?.join(name);
            match fs::hard_link(file, &kept) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => drop(fs::copy(file, kept)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Repairs what can be repaired by now, and lists what is lost, if anything.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) fn settle(mut self, jobs: &Keyspace) -> Result<(), StoreError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        for (key, seqno) in std::mem::take(&mut self.doubtful) {
            let found = jobs.tree.get_internal_entry(&key, SeqNo::MAX).map_err(fjall::Error::from)?;
            let Some(found) = found.filter(|found| found.key.seqno == seqno) else { continue };
            jobs.insert(keys::aside(&key).as_slice(), found.value)?;
            jobs.remove(key.as_slice())?;
            self.say(format!(
                "set aside because it may be out of date: the record under the key {}",
                keys::shown(&key)
            ));
        }
        jobs.insert(keys::meta(MARK).as_slice(), [])?;
        let aside = self.aside()?;
        let list = aside.join("LOST");
        let mut file = File::options().create(true).append(true).open(&list)?;
        file.write_all((self.lines.join("\n") + "\n").as_bytes())?;
        file.sync_all()?;
        let (lost, list) = (self.lines.len(), list.display());
        let first = self.lines.first().map_or("", String::as_str);
        tracing::error!(%list, lost, first, "the store was damaged; it continues without what could not be read, as the list says");
        Ok(())
    }
}

/// Makes a broken part usable again, possibly with less in it.
///
/// # Errors
/// When that is impossible.
pub(super) fn repair(
    folder: &Path,
    broken: &Broken,
    loss: &mut Loss,
    make: impl Fn(&Path) -> Result<(), StoreError>,
) -> Result<(), Fault> {
    let [names, jobs] = intact::trees(folder);
    loss.say(format!("{} {}", broken.file.display(), broken.what));
    loss.note()?;
    match broken.part {
        Part::Version => {
            loss.keep(&broken.file)?;
            let anew = folder.join("version.new");
            fs::write(&anew, intact::VERSION)?;
            File::open(&anew)?.sync_all()?;
            fs::rename(anew, folder.join("version"))?;
        }
        Part::Journals => repair_journals(folder, &jobs, loss)?,
        Part::Names => {
            let anew = folder.join("names.new");
            if anew.exists() {
                fs::remove_dir_all(&anew)?;
            }
            make(&anew)?;
            move_aside(&names, loss)?;
            fs::rename(anew.join("keyspaces/0"), &names)?;
            fs::remove_dir_all(anew)?;
        }
        Part::Tree => rebuild(&jobs, loss)?,
        Part::Tables => mend(&jobs, loss, true)?,
    }
    Ok(File::open(folder)?.sync_all()?)
}

fn move_aside(tree: &Path, loss: &mut Loss) -> io::Result<PathBuf> {
    let name = tree.file_name().unwrap_or_default();
    let aside = loss.aside()?.join("keyspaces").join(name);
    fs::create_dir_all(&aside)?;
    if let Some(parent) = tree.parent() {
        fs::create_dir_all(parent)?;
    }
    if tree.exists() {
        fs::rename(tree, &aside)?;
    }
    Ok(aside)
}

/// Keeps the intact batches, wherever they are, and accepts that others are missing.
fn repair_journals(folder: &Path, jobs: &Path, loss: &mut Loss) -> Result<(), Fault> {
    let known = synced::read(folder)?.map(|known| known.commits);
    synced::forget(folder)?;
    let found = torn::journals(folder)?;
    let range =
        found.first().map_or(0, |(number, _)| *number)..=found.last().map_or(0, |(number, _)| *number);
    for number in range {
        // A journal may be empty, but must exist.
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(format!("{number}.jnl")))?;
    }
    let persisted = intact::look_at_jobs(jobs).unwrap_or_default();
    let mut reached = persisted;
    for (_, journal) in torn::journals(folder)? {
        let bytes = fs::read(&journal)?;
        let mut whole = Vec::new();
        let (mut at, mut skipped, mut last) = (0, 0, None);
        while let Some(batch) = torn::next_batch(&bytes, at) {
            skipped += batch.range.start - at;
            at = batch.range.end;
            if !intact::fits(&batch, last, persisted) {
                skipped += batch.range.len();
                continue;
            }
            last = Some(batch.seqno);
            whole.extend_from_slice(bytes.get(batch.range).unwrap_or_default());
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let is_damaged = skipped > 0 || rest.iter().any(|byte| *byte != 0);
        if is_damaged {
            loss.keep(&journal)?;
            let lost = skipped + rest.len();
            let noun = plural(lost, "byte", "bytes");
            loss.say(format!("{}: {lost} {noun} cannot be read", journal.display()));
            loss.note()?;
            torn::replace(&journal, &whole)?;
        }
        while let Err(gap) = intact::walk(&whole, persisted, &mut reached, &accepted::read(folder)?) {
            accept(folder, gap, loss)?;
        }
    }
    let reached = reached.commit.unwrap_or(0);
    if let Some(known) = known.filter(|known| *known > reached) {
        loss.say(format!("the commits from {} to {known} are lost", reached + 1));
    }
    Ok(())
}

fn accept(folder: &Path, gap: Gap, loss: &mut Loss) -> io::Result<()> {
    loss.say(format!("the commits from {} to {} are lost", gap.after + 1, gap.before - 1));
    loss.note()?;
    accepted::add(folder, gap)
}

/// Makes a tree of all existing tables, because it is unknown which of them belong to it.
fn rebuild(tree: &Path, loss: &mut Loss) -> Result<(), Fault> {
    let failed = |error: lsm_tree::Error| StoreError::from(fjall::Error::from(error));
    let aside = move_aside(tree, loss)?;
    let counter = SequenceNumberCounter::default;
    let anew = lsm_tree::Config::new(tree, counter(), counter()).open().map_err(failed)?;
    let mut files: Vec<PathBuf> = match fs::read_dir(aside.join("tables")) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    files.sort_unstable();
    loss.say(format!(
        "{} {} read again; entries that were removed since they were written may be back",
        files.len(),
        plural(files.len(), "table was", "tables were")
    ));
    // The number of tables that can be merged at once is limited.
    for files in files.chunks(files.len() / 200 + 1) {
        for file in files {
            let contents = table::read(file)?;
            for lost in &contents.lost {
                loss.say(shown(file, lost));
            }
            for entry in contents.entries {
                let InternalValue { key, value } = entry;
                let _ = match key.value_type {
                    lsm_tree::ValueType::Value => anew.insert(key.user_key, value, key.seqno),
                    _ => anew.remove(key.user_key, key.seqno),
                };
            }
        }
        anew.flush_active_memtable(0).map_err(failed)?;
    }
    if !files.is_empty() {
        anew.major_compact(super::TABLE_BYTES, SeqNo::MAX).map_err(failed)?;
    }
    Ok(())
}

/// Rewrites every table that cannot be fully read, with what can be read of it.
///
/// # Errors
/// When it is unknown which keys are lost, unless `anything` may be.
pub(super) fn mend(tree: &Path, loss: &mut Loss, anything: bool) -> Result<(), Fault> {
    let runs = manifest::read(tree)?.unwrap_or_default();
    if !anything {
        check(tree, runs.iter().flatten())?;
    }
    let mut lost_above: Vec<Lost> = Vec::new();
    for (number, run) in runs.into_iter().enumerate() {
        let mut last = None::<Key>;
        for id in run {
            let file = manifest::table(tree, id);
            let read = match table::read(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                read => Some(read.map_err(|error| StoreError::of_file(&file, &error))?),
            };
            let is_whole =
                read.as_ref().is_some_and(|contents| contents.lost.is_empty()) && table::is_intact(&file)?;
            let mut contents = read.unwrap_or_default();
            loss.doubt(&contents, &lost_above);
            if !is_whole {
                contents.forget_commits();
                loss.lines.extend(contents.lost.iter().map(|lost| shown(&file, lost)));
                loss.ranges.extend(contents.lost.drain(..).filter(is_known).map(|lost| (number, lost)));
                rewrite(tree, id, contents.compression, &contents.entries, last.as_ref(), loss)?;
            }
            let end = contents.entries.last().map(|entry| Key::from_slice(&entry.key.user_key));
            last = end.or_else(|| last.map(|key| behind(&key)));
        }
        let here = loss.ranges.iter().filter(|(run, _)| *run == number);
        lost_above.extend(here.map(|(_, lost)| lost.clone()));
    }
    Ok(())
}

/// Checks before any change that the lost keys of every table are known.
///
/// # Errors
/// When they are not.
fn check<'a>(tree: &Path, tables: impl Iterator<Item = &'a u64>) -> Result<(), Fault> {
    for &id in tables {
        let file = manifest::table(tree, id);
        let lost = match table::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| StoreError::of_file(&file, &error))?.lost),
        };
        if !lost.is_some_and(|lost| lost.iter().all(is_known)) {
            return Err(Broken::new(Part::Tables, &file, "is damaged beyond a part of it").into());
        }
    }
    Ok(())
}

const fn is_known(lost: &Lost) -> bool {
    lost.after.is_some() && lost.before.is_some()
}

impl Loss {
    /// Sets aside entries in ranges where newer ones were lost. Records that are written only once stay.
    fn doubt(&mut self, contents: &Contents, lost_above: &[Lost]) {
        const KEPT: [Area; 12] = [
            Area::Meta,
            Area::Queue,
            Area::QueueName,
            Area::Cursor,
            Area::DrawCursor,
            Area::Budget,
            Area::Draw,
            Area::Cron,
            Area::CronEntry,
            Area::Answer,
            Area::AnswerPart,
            Area::AccessToken,
        ];
        let is_kept = |key: &[u8]| KEPT.iter().any(|area| key.first() == Some(&(*area as u8)));
        for InternalValue { key, .. } in &contents.entries {
            let is_lost = lost_above.iter().any(|lost| lost.covers(&key.user_key));
            if is_lost && !key.is_tombstone() && !is_kept(&key.user_key) {
                self.doubtful.push((Key::from_slice(&key.user_key), key.seqno));
            }
        }
    }
}

fn rewrite(
    tree: &Path,
    id: u64,
    compression: Option<CompressionType>,
    entries: &[InternalValue],
    last: Option<&Key>,
    loss: &mut Loss,
) -> Result<(), Fault> {
    let (file, anew) = (manifest::table(tree, id), tree.join("rewritten"));
    loss.keep(&file)?;
    let (n, noun) = (entries.len(), plural(entries.len(), "entry", "entries"));
    loss.say(format!("{} was rewritten with {n} {noun}", file.display()));
    let mut entries = entries.to_vec();
    if entries.is_empty() {
        // A table cannot be empty. This key is never used, and follows everything before the table.
        let key = last.map_or_else(|| Key::from_slice(&[0]), behind);
        entries.push(InternalValue::new_tombstone(key.as_slice(), 0));
    }
    let compression = compression.unwrap_or(CompressionType::None);
    table::write(&anew, id, compression, entries)
        .map_err(|error| StoreError::from(fjall::Error::from(error)))?;
    loss.note()?;
    fs::rename(anew, &file)?;
    Ok(File::open(tree.join("tables"))?.sync_all()?)
}

/// The first key after another.
fn behind(key: &Key) -> Key {
    let mut behind = key.clone();
    behind.push(0);
    behind
}

fn shown(file: &Path, lost: &Lost) -> String {
    let key = |key: &Option<Key>| key.as_ref().map_or("?".to_owned(), |key| keys::shown(key));
    let Lost { bytes, after, before } = lost;
    format!(
        "{}: the bytes from {} to {} cannot be read; they held the keys between {} and {}",
        file.display(),
        bytes.start,
        bytes.end,
        key(after),
        key(before)
    )
}
