//! Damages a small folder in every way. The outcome must be that everything is there, or that exactly what was set
//! aside is missing, or that the folder is refused and `salvage` continues with the rest.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::batch::Batch;
use crate::store::keys;

const CACHE: u64 = 1_000_000;

/// Creates a store with some entries in tables, some in the journal only, some removed.
fn make(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut store = DiskStore::open(folder, CACHE).unwrap();
    let mut all = BTreeMap::new();
    let mut put = |store: &mut DiskStore, numbers: std::ops::Range<u32>| {
        for n in numbers {
            let mut batch = Batch::default();
            let (key, value) = (key(n), n.to_string().repeat(40).into_bytes());
            batch.put_raw(&key, &value);
            all.insert(key.clone(), value);
            if n % 3 == 2 {
                batch.forget(Key::from_slice(&self::key(n - 1)));
                all.remove(&self::key(n - 1));
            }
            store.commit(batch).unwrap();
        }
    };
    for part in [0..60, 60..120] {
        put(&mut store, part);
        store.opened().unwrap().jobs.rotate_memtable_and_wait().unwrap();
    }
    put(&mut store, 120..135);
    store.syncer()().unwrap();
    all
}

fn key(n: u32) -> Vec<u8> {
    [&[Area::Dead as u8][..], &n.to_be_bytes()].concat()
}

use crate::store::keys::Area;

/// Reads everything that is stored, without the store's own records.
fn read(store: &DiskStore) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
    let entries = store.snapshot().scan(&keys::start(1), &keys::start(Area::Aside as u8), false);
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

/// Reads a whole folder, by file name. The store may remove files meanwhile.
fn files(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = below.join(entry.file_name());
        if entry.path().is_dir() {
            files(folder, &name, found);
        } else {
            let mut bytes = match fs::read(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                read => read.unwrap(),
            };
            let is_journal = name.extension().is_some_and(|ending| ending == "jnl");
            // A journal is mostly zeros.
            if is_journal {
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            }
            found.insert(name, bytes);
        }
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Removed,
    CutAt(usize),
    Flipped(usize),
}

struct Folder {
    files: BTreeMap<PathBuf, Vec<u8>>,
    all: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let all = make(&root);
        let mut found = BTreeMap::new();
        files(&root, Path::new(""), &mut found);
        Self { files: found, all }
    }

    fn damaged(&self, name: &Path, damage: &Damage) -> tempfile::TempDir {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::create_dir_all(folder.path().join("keyspaces/1/tables")).unwrap();
        for (file, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if file == name {
                match damage {
                    Damage::Removed => continue,
                    Damage::CutAt(len) => bytes.truncate(*len),
                    Damage::Flipped(at) => bytes[*at] ^= 0x20,
                }
            }
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// Returns how it ended.
    fn outcome(&self, name: &Path, damage: &Damage) -> &'static str {
        let folder = self.damaged(name, damage);
        let context = || format!("{} {damage:?}", name.display());
        let mut store = DiskStore::new(folder.path(), CacheSizes::for_jobs(CACHE), None);
        let mut refused = false;
        loop {
            match store.reopen().and_then(|()| read(&store)) {
                Ok(found) => {
                    let lost = self.all.iter().filter(|(key, value)| found.get(*key) != Some(value)).count();
                    let alien = found.iter().filter(|(key, value)| self.all.get(*key) != Some(value)).count();
                    let is_said = fs::read_dir(folder.path())
                        .unwrap()
                        .any(|entry| entry.unwrap().path().join("LOST").exists());
                    assert!(is_said || lost + alien == 0, "{}: {lost} lost, {alien} alien", context());
                    let said = || fs::read_to_string(folder.path().join("damaged-1/LOST"));
                    assert!(refused || alien == 0, "{}: {alien} alien: {:?}", context(), said());
                    // The store is intact again.
                    store.set(None);
                    let mut again = DiskStore::new(folder.path(), CacheSizes::for_jobs(CACHE), None);
                    again.reopen().unwrap_or_else(|error| panic!("{}: again: {error}", context()));
                    assert_eq!(read(&again).unwrap(), found, "{}", context());
                    return if refused {
                        "salvaged"
                    } else if lost > 0 {
                        "set aside"
                    } else {
                        "all there"
                    };
                }
                // As the writer does.
                Err(StoreError::Unreadable(_)) if !refused => {}
                Err(StoreError::Broken { file, .. }) if !refused => {
                    assert!(file.starts_with(folder.path()), "{}: {}", context(), file.display());
                    refused = true;
                    store.salvage();
                }
                Err(error) => panic!("{} (refused: {refused}): {error}", context()),
            }
        }
    }
}

/// How many places of a file are damaged in a usual run.
const PLACES: usize = 8;

/// Removes, empties, truncates and changes every file of a small folder at some places, others in each run; at each
/// byte if `ZIZQ_TEST_EVERY_BYTE` is set.
#[test]
fn damage_to_any_file_is_repaired_or_set_aside_or_refused_with_a_remedy() {
    let folder = Folder::new();
    let everywhere = std::env::var_os("ZIZQ_TEST_EVERY_BYTE").is_some();
    let mut outcomes: BTreeMap<(String, &str), u32> = BTreeMap::new();
    for (name, bytes) in &folder.files {
        let mut damages = vec![Damage::Removed, Damage::CutAt(0)];
        let mut places: Vec<usize> = (0..bytes.len()).collect();
        if !everywhere {
            fastrand::shuffle(&mut places);
            places.truncate(PLACES);
        }
        damages.extend(places.iter().copied().map(Damage::CutAt));
        damages.extend(places.into_iter().map(Damage::Flipped));
        for damage in damages {
            let outcome = folder.outcome(name, &damage);
            *outcomes.entry((name.display().to_string(), outcome)).or_default() += 1;
        }
    }
    for ((name, outcome), count) in &outcomes {
        eprintln!("{name}: {outcome}: {count}");
    }
    let came = |outcome| outcomes.keys().any(|(_, came)| *came == outcome);
    assert!(came("all there") && came("set aside") && came("salvaged"), "{outcomes:?}");
}

/// Clears everything and ends the process before the next commit; then continues, with further ends.
#[test]
fn commits_after_clearing_everything_stay() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let put = |store: &mut DiskStore, n: u32| {
        let mut batch = Batch::default();
        batch.put_raw(&key(n), &[1; 100]);
        store.commit(batch).unwrap();
    };
    for in_tables in [false, true] {
        let mut store = DiskStore::open(&root, CACHE).unwrap();
        for n in 0..50 {
            put(&mut store, n);
        }
        if in_tables {
            store.opened().unwrap().jobs.rotate_memtable_and_wait().unwrap();
        }
        store.syncer()().unwrap();
        store.clear().unwrap();
        assert_eq!(store.unwritten(), 0, "the memtable is empty");
        drop(store);
        for n in 100..103 {
            let mut store = DiskStore::open(&root, CACHE).unwrap();
            let there: Vec<_> = (100..n).map(key).collect();
            assert_eq!(read(&store).unwrap().into_keys().collect::<Vec<_>>(), there);
            put(&mut store, n);
            store.syncer()().unwrap();
        }
        DiskStore::open(&root, CACHE).unwrap().clear().unwrap();
    }
}

/// Data that is cleared repeatedly, long before a memtable is full, does not take disk or memory permanently.
#[test]
fn the_space_of_cleared_data_is_freed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(folder.path(), CACHE).unwrap();
    let mut memtables = Vec::new();
    for n in 0..150 {
        let open = store.opened().unwrap();
        let memtable: Arc<dyn std::any::Any + Send + Sync> = open.jobs.tree.active_memtable();
        memtables.push(Arc::downgrade(&memtable));
        drop((open, memtable));
        for size in [1_000_000, 1] {
            let mut batch = Batch::default();
            batch.put_raw(&key(n), &vec![7; size]);
            store.commit(batch).unwrap();
            if size > 1 {
                store.clear().unwrap();
            }
        }
    }
    let file_sizes = || {
        let mut found = BTreeMap::new();
        files(folder.path(), Path::new(""), &mut found);
        let of = |wanted: fn(&str) -> bool| {
            let named = found.iter().filter(|(name, _)| wanted(&name.file_name().unwrap().to_string_lossy()));
            named.map(|(_, bytes)| bytes.len()).collect::<Vec<_>>()
        };
        let versions = of(|name| name.strip_prefix('v').is_some_and(|rest| rest.parse::<u64>().is_ok()));
        (versions.len(), of(|name| name.ends_with(".jnl")).iter().sum::<usize>())
    };
    let in_memory = || memtables.iter().filter(|memtable| memtable.upgrade().is_some()).count();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let ((versions, journal), memtables) = (file_sizes(), in_memory());
        if versions < 20 && journal < 80_000_000 && memtables < 20 {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{versions} versions, {journal} bytes, {memtables} memtables"
        );
        std::thread::yield_now();
    }
    assert_eq!(read(&store).unwrap().into_keys().collect::<Vec<_>>(), [key(149)]);
    drop(store);
    let store = DiskStore::open(folder.path(), CACHE).unwrap();
    assert_eq!(read(&store).unwrap().into_keys().collect::<Vec<_>>(), [key(149)]);
}

/// A table of a deeper level has a filter in parts, which are read when needed. Damage to any of them is detected, and
/// the table is rewritten.
#[test]
fn a_damaged_filter_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let mut store = DiskStore::open(&root, CACHE).unwrap();
    let mut all = BTreeMap::new();
    for n in 0..20_000_u32 {
        let mut batch = Batch::default();
        let (key, value) = (key(n), n.to_be_bytes().to_vec());
        batch.put_raw(&key, &value);
        all.insert(key, value);
        store.commit(batch).unwrap();
    }
    store.opened().unwrap().jobs.rotate_memtable_and_wait().unwrap();
    store.opened().unwrap().jobs.major_compact().unwrap();
    drop(store);
    let tree = root.join("keyspaces/1");
    let tables: Vec<u64> = manifest::read(&tree).unwrap().unwrap().into_iter().flatten().collect();
    assert_eq!(tables.len(), 1, "{tables:?}");
    let table = manifest::table(&tree, tables[0]);
    let bytes = fs::read(&table).unwrap();
    assert!(table::is_intact(&table).unwrap());
    let data: usize = bytes.len() * 9 / 10;
    let mut found = 0;
    for at in (data..bytes.len()).step_by(997) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&table, &damaged).unwrap();
        if table::is_intact(&table).unwrap() {
            // Everything is found then.
            let store = DiskStore::open(&root, CACHE).unwrap();
            for (key, value) in all.iter().step_by(50) {
                let read = store.snapshot().get(key).unwrap_or_else(|error| panic!("at {at}: {error}"));
                assert_eq!(read.as_deref(), Some(&value[..]), "at {at} of {}", bytes.len());
            }
        } else {
            found += 1;
        }
    }
    assert!(found > 0);
    fs::write(&table, &bytes).unwrap();
    assert_eq!(read(&DiskStore::open(&root, CACHE).unwrap()).unwrap(), all);
}

/// Tables are rewritten, and the process ends before it could list what is lost: the next one lists it, with the same
/// result.
#[test]
fn an_interrupted_repair_continues() {
    let folder = Folder::new();
    let name = folder.files.keys().find(|name| name.starts_with("keyspaces/1/tables")).unwrap();
    let damage = Damage::Flipped(300);
    let after = |interrupt: bool| {
        let root = folder.damaged(name, &damage);
        assert!(!table::is_intact(&root.path().join(name)).unwrap());
        let mut store = DiskStore::new(root.path(), CacheSizes::for_jobs(CACHE), None);
        store.at.is_suspect.store(true, Ordering::Relaxed);
        if interrupt {
            store.at.look(&mut Loss::new(root.path())).unwrap();
            assert!(!root.path().join("damaged-1/LOST").exists());
            // Nothing is suspect now, and all tables are intact.
            store = DiskStore::new(root.path(), CacheSizes::for_jobs(CACHE), None);
        }
        store.reopen().unwrap();
        assert!(!root.path().join("mending").exists());
        let lost = fs::read_to_string(root.path().join("damaged-1/LOST")).unwrap();
        let lost: Vec<String> =
            lost.lines().map(|line| line.replace(root.path().to_str().unwrap(), "")).collect();
        (read(&store).unwrap(), lost, store.snapshot().get(&keys::meta(salvage::MARK)).unwrap().is_some())
    };
    let whole = after(false);
    assert!(whole.0.len() < folder.all.len() && whole.2, "{:?}", whole.1);
    assert_eq!(after(true), whole);
}

/// For low space as well as unreadable data: later callers must not take this for an error that reopening cannot fix.
#[test]
fn after_a_background_thread_has_ended_all_callers_get_a_recoverable_error() {
    for (min_free, want) in [(u64::MAX, "the disk is full"), (0, "an earlier write failed")] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = DiskStore::new(folder.path(), CacheSizes::for_jobs(CACHE), Some(min_free));
        store.set(Some(Open::at(&store.at).unwrap()));
        let first = store.reason(fjall::Error::Poisoned);
        let later = [store.syncer()(), store.commit(Batch::default()), store.clear()];
        for error in std::iter::once(first).chain(later.map(Result::unwrap_err)) {
            assert!(error.may_pass() && error.to_string().starts_with(want), "{min_free}: {error}");
        }
        drop(store);
        assert!(DiskStore::open(folder.path(), CACHE).is_ok());
    }
}
