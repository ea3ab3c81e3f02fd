//! Goes on with what can be read of a damaged folder. What cannot is set aside: the damaged files, as they were, and a
//! list of what is lost, in a folder of its own, `damaged-N`.
//!
//! A part of a table is lost with the keys in it. Older tables may have older values under these keys, or values that were
//! removed: nobody can say, so they are set aside, too. What is said once only, such as the names of queues, stays in its
//! older state.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fjall::Keyspace;
use lsm_tree::{AbstractTree, CompressionType, InternalValue, SeqNo, SequenceNumberCounter};

use super::accepted::{self, Gap};
use super::intact::{self, Broken, Fault, Part};
use super::table::{self, Contents, Lost};
use super::torn;
use super::{manifest, synced};
use crate::store::StoreError;
use crate::store::keys::{self, Area, Key};

/// In the store after something was lost: what depends on it is to be put right.
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
    /// The keys that are lost in the runs of tables, by the number of the run.
    ranges: Vec<(usize, Lost)>,
    /// How many lines and ranges are written down, and whether it is where things are set aside.
    noted: (usize, usize, bool),
}

/// What is written down before anything is changed, and read again if the process ends before all of it is settled: then
/// what was changed by then looks whole.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Noted {
    Line(String),
    /// Where it is set aside, below the folder.
    Aside(PathBuf),
    /// In which run, and the keys around what is lost.
    Range(usize, Vec<u8>, Vec<u8>),
}

impl Loss {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// Goes on where an earlier process has ended. Says whether one had begun.
    ///
    /// # Errors
    /// When what it has written down cannot be read.
    pub(super) fn resume(&mut self) -> io::Result<bool> {
        let text = match fs::read_to_string(self.notes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            text => text?,
        };
        // The last line may have been torn: nothing was changed by then.
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

    /// To be called before anything is changed.
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

    /// Everything is settled, and on the disk.
    ///
    /// # Errors
    /// When what was written down cannot be removed.
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

    /// Keeps a file as it is. What is written in its place has to be another file.
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

    /// Puts right what can be by now, and says what is lost. Nothing where nothing is.
    ///
    /// # Errors
    /// When that cannot be written down.
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
                "set aside, for it may be out of date: the record under the key {}",
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
        tracing::error!(%list, lost, first, "the store was damaged; it goes on without what could not be read, which the list names");
        Ok(())
    }
}

/// Makes a broken part whole, if with less in it.
///
/// # Errors
/// When that is not possible.
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

/// Keeps the whole batches, wherever they lie, and accepts that others are missing.
fn repair_journals(folder: &Path, jobs: &Path, loss: &mut Loss) -> Result<(), Fault> {
    let known = synced::read(folder)?.map(|known| known.commits);
    synced::forget(folder)?;
    let found = torn::journals(folder)?;
    let range =
        found.first().map_or(0, |(number, _)| *number)..=found.last().map_or(0, |(number, _)| *number);
    for number in range {
        // A journal may be empty, but has to be there.
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
            loss.say(format!("{}: {} bytes cannot be read", journal.display(), skipped + rest.len()));
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

/// Makes a tree of all tables that there are, for nobody knows any more which of them belong to it.
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
        "the tables, {} of them, were read anew; what was removed since they were written may be there again",
        files.len()
    ));
    // At most so many tables can be merged at once.
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

/// Writes every table that cannot be read as a whole anew, with what can be read of it.
///
/// # Errors
/// Unless `anything` may be lost: when it is not known which keys are.
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

/// Before anything is written: whether it is known which keys are lost, in every table.
///
/// # Errors
/// Where it is not.
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
    /// Entries that lie where newer ones were lost. What is said once only stays.
    fn doubt(&mut self, contents: &Contents, lost_above: &[Lost]) {
        const KEPT: [Area; 11] = [
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
    loss.say(format!("{} was written anew with {} entries", file.display(), entries.len()));
    let mut entries = entries.to_vec();
    if entries.is_empty() {
        // A table cannot be empty. Nothing has such a key, and it lies behind what comes before the table.
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

/// The first key behind another.
fn behind(key: &Key) -> Key {
    let mut behind = key.clone();
    behind.push(0);
    behind
}

fn shown(file: &Path, lost: &Lost) -> String {
    let key = |key: &Option<Key>| key.as_ref().map_or("?".to_owned(), |key| keys::shown(key));
    let Lost { bytes, after, before } = lost;
    format!(
        "{}: the bytes from {} to {} cannot be read; they were the keys between {} and {}",
        file.display(),
        bytes.start,
        bytes.end,
        key(after),
        key(before)
    )
}
