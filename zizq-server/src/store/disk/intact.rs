//! Checks a folder before fjall opens it, because fjall takes missing files for files that never existed: without a
//! journal it creates a new one, without a list of tables it assumes none, and removes them.
//!
//! Several places tell what existed. A store has a `version`, journals without a gap, and a list of existing tables for
//! each keyspace. Every commit has a number, so the journals must continue where the tables end, and reach as far as
//! [`synced`] tells. After that, a power failure may have torn the journal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lsm_tree::{AbstractTree, AnyTree, SeqNo, SequenceNumberCounter};
use protocol::plural::plural;

use super::accepted::{self, Gap};
use super::torn::{self, JournalBatch};
use super::{manifest, synced, table};
use crate::store::{StoreError, keys};

/// The contents of the file `version`.
pub(super) const VERSION: [u8; 4] = *b"FJL\x03";

/// The part to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Version,
    Journals,
    /// The list of keyspaces.
    Names,
    /// The list of tables.
    Tree,
    Tables,
}

/// A part that is damaged or missing.
#[derive(Debug)]
pub(super) struct Broken {
    pub part: Part,
    pub file: PathBuf,
    /// The rest of the sentence after the file name.
    pub what: String,
}

impl Broken {
    pub(super) fn new(part: Part, file: &Path, what: impl Into<String>) -> Self {
        Self { part, file: file.to_owned(), what: what.into() }
    }
}

impl From<Broken> for StoreError {
    fn from(Broken { file, what, .. }: Broken) -> Self {
        Self::Broken { file, what }
    }
}

/// Why the store is incomplete, or cannot be checked.
#[derive(Debug)]
pub(super) enum Fault {
    Broken(Broken),
    Store(StoreError),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The trees of a folder: the one with the names, and the one with the jobs.
pub(super) fn trees(folder: &Path) -> [PathBuf; 2] {
    ["0", "1"].map(|id| folder.join("keyspaces").join(id))
}

/// A store that has everything that the disk is known to have.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// The number of the last commit.
    pub commits: u64,
    /// The greatest sequence number of fjall.
    pub seqno: Option<SeqNo>,
    /// The journal that a power failure has torn, and where.
    pub torn: Option<(PathBuf, usize)>,
}

/// Checks that everything that was written exists. Removes only what no version of the store refers to.
///
/// # Errors
/// What is broken.
pub(super) fn look(folder: &Path) -> Result<Whole, Fault> {
    let journals = torn::journals(folder).map_err(|error| StoreError::of_file(folder, &error))?;
    let known = synced::read(folder).map_err(|error| StoreError::of_file(&folder.join("synced"), &error))?;
    let known = known.map(|known| known.commits);
    let [names, jobs] = trees(folder);
    let has_trees = [&names, &jobs].into_iter().any(|tree| tree.exists());
    let version = folder.join("version");
    if !version.exists() && journals.is_empty() && !has_trees && known.is_none() {
        return Ok(Whole::default());
    }
    match fs::read(&version) {
        Ok(bytes) if bytes == VERSION => {}
        Ok(_) => return Err(Broken::new(Part::Version, &version, "is damaged").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Broken::new(Part::Version, &version, "is missing").into());
        }
        Err(error) => return Err(StoreError::of_file(&version, &error).into()),
    }
    if journals.is_empty() {
        return Err(Broken::new(Part::Journals, folder, "has no journal, no file like `0.jnl`").into());
    }
    // Nothing can be stored before the keyspace has a name.
    if known.is_none() && !is_named(&jobs, &journals)? {
        return Ok(Whole::default());
    }
    look_at_names(&names)?;
    let persisted = look_at_jobs(&jobs)?;
    look_at_journals(folder, &journals, known, persisted)
}

/// Whether the creation of the store was far enough that it may contain anything.
fn is_named(jobs: &Path, journals: &[(u64, PathBuf)]) -> Result<bool, Fault> {
    if journals.len() > 1 || !manifest::read(jobs)?.unwrap_or_default().is_empty() {
        return Ok(true);
    }
    for (_, journal) in journals {
        let bytes = fs::read(journal).map_err(|error| StoreError::of_file(journal, &error))?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tables of a tree, all of which exist.
fn tables(tree: &Path) -> Result<Vec<u64>, Broken> {
    let Some(runs) = manifest::read(tree)? else {
        return Err(Broken::new(Part::Tree, &tree.join("current"), "is missing"));
    };
    let tables: Vec<u64> = runs.into_iter().flatten().collect();
    match tables.iter().map(|id| manifest::table(tree, *id)).find(|table| !table.is_file()) {
        Some(missing) => Err(Broken::new(Part::Tables, &missing, "is missing")),
        None => Ok(tables),
    }
}

/// Reads every entry, as there are few.
fn look_at_names(tree: &Path) -> Result<(), Broken> {
    let tables = tables(tree).map_err(|broken| Broken { part: Part::Names, ..broken })?;
    let broken = |what: String| Broken::new(Part::Names, tree, what);
    for id in &tables {
        let file = manifest::table(tree, *id);
        if !table::is_intact(&file).unwrap_or(false) {
            return Err(Broken::new(Part::Names, &file, "is damaged"));
        }
    }
    if tables.is_empty() { Err(broken("has lost the name of the keyspace".to_owned())) } else { Ok(()) }
}

/// How far tables or journals reach.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Reach {
    /// The last commit; `None` if unknown.
    pub commit: Option<u64>,
    /// Their greatest sequence number of fjall.
    pub seqno: Option<SeqNo>,
}

/// How far the tables reach.
pub(super) fn look_at_jobs(path: &Path) -> Result<Reach, Broken> {
    let tables = tables(path)?;
    if tables.is_empty() {
        return Ok(Reach::default());
    }
    let counter = SequenceNumberCounter::default;
    let tree: AnyTree = match lsm_tree::Config::new(path, counter(), counter()).open() {
        Ok(tree) => tree,
        Err(error) => {
            let files = tables.into_iter().map(|id| manifest::table(path, id));
            let file = files.into_iter().find(|file| !table::opens(file)).unwrap_or_else(|| path.to_owned());
            return Err(Broken::new(Part::Tables, &file, format!("is damaged ({error})")));
        }
    };
    // If this is unreadable, the caller that needs it reports that.
    let last = tree.get(keys::commits().as_slice(), SeqNo::MAX).ok().flatten();
    let commit = last.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_be_bytes));
    Ok(Reach { commit, seqno: tree.get_highest_persisted_seqno() })
}

fn look_at_journals(
    folder: &Path,
    journals: &[(u64, PathBuf)],
    known: Option<u64>,
    persisted: Reach,
) -> Result<Whole, Fault> {
    let broken = |file: &Path, what: String| Err(Broken::new(Part::Journals, file, what).into());
    let accepted = accepted::read(folder).map_err(|error| StoreError::of_file(folder, &error))?;
    let numbers = journals.iter().map(|(number, _)| *number);
    let missing = numbers.clone().zip(numbers.skip(1)).find(|(number, next)| number + 1 != *next);
    if let Some((number, _)) = missing {
        return broken(&folder.join(format!("{}.jnl", number + 1)), "is missing".to_owned());
    }
    let (mut reached, mut torn) = (persisted, None);
    for (i, (_, journal)) in journals.iter().enumerate() {
        let bytes = fs::read(journal).map_err(|error| StoreError::of_file(journal, &error))?;
        let whole = walk(&bytes, persisted, &mut reached, &accepted).map_err(|gap| {
            let (first, last) = (gap.after + 1, gap.before - 1);
            Broken::new(Part::Journals, journal, format!("lacks the commits from {first} to {last}"))
        })?;
        let rest = bytes.get(whole..).unwrap_or_default();
        let is_torn = match known {
            Some(known) => reached.commit.unwrap_or(0) >= known,
            None => torn::next_batch(&bytes, whole + 1).is_none(),
        };
        if rest.iter().any(|byte| *byte != 0) {
            if !is_torn || i + 1 < journals.len() {
                return broken(journal, format!("is damaged at byte {whole}, not only torn at its end"));
            }
            torn = Some((journal.clone(), whole));
        }
    }
    let (known, has) = (known.unwrap_or(0), reached.commit.unwrap_or(0));
    match journals.last() {
        Some((_, newest)) if has < known => broken(
            newest,
            format!(
                "ends too early: {known} {} synced to the disk, and it has {has}",
                plural(known, "commit was", "commits were")
            ),
        ),
        _ => Ok(Whole { commits: has, seqno: reached.seqno, torn }),
    }
}

/// Walks through the whole batches of a journal, which must continue after the last commit that was reached. Returns
/// where they end.
///
/// # Errors
/// The commits that are missing.
pub(super) fn walk(
    bytes: &[u8],
    persisted: Reach,
    reached: &mut Reach,
    accepted: &[Gap],
) -> Result<usize, Gap> {
    let (mut whole, mut last) = (0, None);
    for batch in torn::batches(bytes) {
        if !fits(&batch, last, persisted) {
            return Ok(whole);
        }
        (whole, last) = (batch.range.end, Some(batch.seqno));
        reached.seqno = reached.seqno.max(Some(batch.seqno));
        // A batch that clears everything is not a commit. Earlier commits still count, and the next one follows them.
        let Some(commit) = batch.commit else { continue };
        if let Some(after) = reached.commit
            && commit > after + 1
            && !accepted.iter().any(|gap| gap.covers(after, commit))
        {
            return Err(Gap { after, before: commit });
        }
        reached.commit = reached.commit.max(Some(commit));
    }
    Ok(whole)
}

/// Whether the sequence number of a batch is plausible: numbers grow, and batches that the tables do not contain have
/// greater numbers than the tables, or fjall would skip them.
pub(super) fn fits(batch: &JournalBatch, last: Option<SeqNo>, persisted: Reach) -> bool {
    let is_in_tables = batch.commit.zip(persisted.commit).map(|(commit, persisted)| commit <= persisted);
    let grows = last.is_none_or(|last| last < batch.seqno && batch.seqno - last < FAR);
    let is_told_apart =
        is_in_tables.zip(persisted.seqno).is_none_or(|(is_in, seqno)| is_in == (batch.seqno <= seqno));
    grows && is_told_apart
}

/// fjall does less than this between two batches.
const FAR: SeqNo = 1 << 24;
