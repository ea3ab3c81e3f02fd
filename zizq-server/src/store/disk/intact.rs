//! What is looked at before fjall opens a folder, for fjall takes what is missing for what never was: without a journal
//! it begins a new one, without a list of tables it begins with none, and removes them.
//!
//! What was there is known from more than one place. A store has a `version`, journals without a gap, and for each
//! keyspace a list of tables, all of which are there. Every commit has a number; so the journals have to go on where the
//! tables end, and to reach as far as [`synced`] says. Behind that may be what a loss of power has torn.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lsm_tree::{AbstractTree, AnyTree, SeqNo, SequenceNumberCounter};

use super::accepted::{self, Gap};
use super::torn::{self, JournalBatch};
use super::{manifest, synced, table};
use crate::store::{StoreError, keys};

/// What the file `version` says.
pub(super) const VERSION: [u8; 4] = *b"FJL\x03";

/// What has to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Version,
    Journals,
    /// Which keyspaces there are.
    Names,
    /// Which tables there are.
    Tree,
    Tables,
}

/// What is not as it was written, or not there.
#[derive(Debug)]
pub(super) struct Broken {
    pub part: Part,
    pub file: PathBuf,
    /// The rest of a sentence.
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

/// Why it is not known whether all is there, or that it is not.
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

/// Where the trees of a folder lie: the one that knows the names, and that of the jobs.
pub(super) fn trees(folder: &Path) -> [PathBuf; 2] {
    ["0", "1"].map(|id| folder.join("keyspaces").join(id))
}

/// A store of which everything is there that the disk is known to have.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// The number of the last commit.
    pub commits: u64,
    /// The greatest number of fjall.
    pub seqno: Option<SeqNo>,
    /// The journal that a loss of power has torn, and where.
    pub torn: Option<(PathBuf, usize)>,
}

/// Whether everything is there that was written. Nothing is changed but for what no version of the store refers to.
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
    // Nothing can have been stored before there was a name.
    if known.is_none() && !is_named(&jobs, &journals)? {
        return Ok(Whole::default());
    }
    look_at_names(&names)?;
    let persisted = look_at_jobs(&jobs)?;
    look_at_journals(folder, &journals, known, persisted)
}

/// Whether the making of the store came so far that something can be in it.
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

/// The tables of a tree, all of which are there.
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

/// Every entry is read: there are few.
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

/// How far something reaches.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Reach {
    /// The last commit; none where that is not known.
    pub commit: Option<u64>,
    /// The greatest number of fjall in it.
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
    // Where this cannot be read, whoever needs it finds out.
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
            format!("ends too early: {known} commits were forced onto the disk, and {has} are there"),
        ),
        _ => Ok(Whole { commits: has, seqno: reached.seqno, torn }),
    }
}

/// Goes through the whole batches of a journal, which have to go on behind the last that was reached. Says where they
/// end.
///
/// # Errors
/// Which commits are missing.
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
        // What removes everything is no commit itself. Those before it count all the same, and the next goes on behind them.
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

/// Whether the number of a batch is the one it was written with, as far as can be told: numbers grow, and what the tables
/// do not have has greater ones than what they have, or fjall would leave it out.
pub(super) fn fits(batch: &JournalBatch, last: Option<SeqNo>, persisted: Reach) -> bool {
    let is_in_tables = batch.commit.zip(persisted.commit).map(|(commit, persisted)| commit <= persisted);
    let grows = last.is_none_or(|last| last < batch.seqno && batch.seqno - last < FAR);
    let is_told_apart =
        is_in_tables.zip(persisted.seqno).is_none_or(|(is_in, seqno)| is_in == (batch.seqno <= seqno));
    grows && is_told_apart
}

/// From one batch to the next fjall does not do so much.
const FAR: SeqNo = 1 << 24;
