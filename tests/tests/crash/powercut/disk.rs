//! A disk that can lose what was not synced, made of the calls of a trace.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::trace::Call;

/// Everything that was done below one folder.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    names: Vec<NameChange>,
    /// The names as the process saw them.
    live: BTreeMap<PathBuf, usize>,
    open: HashMap<i64, Open>,
}

/// A file or a folder.
#[derive(Debug, Default)]
struct Node {
    folder: bool,
    changes: Vec<Change>,
    /// Begin and end of every sync.
    syncs: Vec<(usize, usize)>,
}

/// A change of the contents of a file.
#[derive(Debug)]
struct Change {
    begin: usize,
    end: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
}

/// A change of a name in a folder.
#[derive(Debug)]
struct NameChange {
    at: usize,
    name: PathBuf,
    /// What has the name from now on.
    node: Option<usize>,
}

/// What a file descriptor stands for. Duplicates of one are not made by our server, and refused.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: usize,
    offset: u64,
    append: bool,
}

/// What becomes of that which was not synced when the power went.
#[derive(Debug)]
pub(crate) enum Unsynced {
    /// None of it reached the disk: neither contents nor names.
    Lost,
    /// Of contents any part reached it in any order, the last of each write torn; of names those up to some moment.
    Torn(fastrand::Rng),
}

impl Disk {
    /// Follows the calls below `root`, an empty folder at the start.
    pub(crate) fn new(root: &Path, calls: &[Call]) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![Node { folder: true, ..Node::default() }],
            names: Vec::new(),
            live: BTreeMap::from([(root.to_owned(), 0)]),
            open: HashMap::new(),
        };
        calls.iter().for_each(|call| disk.follow(call));
        disk
    }

    fn follow(&mut self, call: &Call) {
        match call.name.as_str() {
            "open" | "openat" | "creat" => self.open(call),
            "close" => drop(self.open.remove(&call.number(0))),
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => self.write(call),
            "lseek" => {
                if let Some(open) = self.open.get_mut(&call.number(0)) {
                    open.offset = call.result.cast_unsigned();
                }
            }
            "read" | "readv" => {
                if let Some(open) = self.open.get_mut(&call.number(0)) {
                    open.offset += call.result.cast_unsigned();
                }
            }
            "ftruncate" => {
                if let Some(open) = self.open.get(&call.number(0)).copied() {
                    self.change(open.node, call, What::Resize(call.number(1).cast_unsigned()));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&call.number(0)) {
                    self.nodes[open.node].syncs.push((call.begin, call.end));
                }
            }
            "mkdir" | "mkdirat" | "unlink" | "unlinkat" | "rmdir" | "rename" | "renameat" | "renameat2" => {
                self.rename(call);
            }
            _ => self.refuse_what_is_not_modelled(call),
        }
    }

    /// A server that starts to use these must not make the test blind.
    fn refuse_what_is_not_modelled(&self, call: &Call) {
        let ours = match call.name.as_str() {
            "io_uring_setup" => true,
            "mmap" => {
                let written = call.has_flag(3, "MAP_SHARED") && call.has_flag(2, "PROT_WRITE");
                written && self.open.contains_key(&call.number(4))
            }
            "fcntl" => call.args[1].text.starts_with("F_DUPFD") && self.open.contains_key(&call.number(0)),
            "accept4" | "recvfrom" | "sendto" => false,
            _ => {
                let descriptors = call.args.iter().filter_map(|arg| arg.text.parse().ok());
                descriptors.into_iter().any(|fd: i64| self.open.contains_key(&fd))
                    || call.args.iter().any(|arg| self.ours(&arg.bytes).is_some())
            }
        };
        assert!(!ours, "the model of the disk does not know {call:?}");
    }

    /// The path, if it is below the root.
    fn ours(&self, path: &[u8]) -> Option<PathBuf> {
        let path = Path::new(OsStr::from_bytes(path));
        path.starts_with(&self.root).then(|| path.components().collect())
    }

    fn open(&mut self, call: &Call) {
        let at = usize::from(call.name == "openat");
        let Some(path) = self.ours(&call.args[at].bytes) else { return };
        let creat = call.name == "creat";
        let node = match self.live.get(&path) {
            Some(&node) => node,
            None => self.create(path, call, false),
        };
        if creat || call.has_flag(at + 1, "O_TRUNC") {
            self.change(node, call, What::Resize(0));
        }
        let append = call.has_flag(at + 1, "O_APPEND");
        self.open.insert(call.result, Open { node, offset: 0, append });
    }

    fn create(&mut self, path: PathBuf, call: &Call, folder: bool) -> usize {
        self.nodes.push(Node { folder, ..Node::default() });
        let node = self.nodes.len() - 1;
        self.name(path, Some(node), call);
        node
    }

    fn name(&mut self, name: PathBuf, node: Option<usize>, call: &Call) {
        match node {
            Some(node) => drop(self.live.insert(name.clone(), node)),
            None => drop(self.live.remove(&name)),
        }
        self.names.push(NameChange { at: call.end, name, node });
    }

    fn rename(&mut self, call: &Call) {
        let mut paths = call.args.iter().filter_map(|arg| self.ours(&arg.bytes));
        let (Some(path), to) = (paths.next(), paths.next()) else { return };
        let is_mkdir = call.name.starts_with("mkdir");
        match to {
            None if is_mkdir => drop(self.create(path, call, true)),
            None => self.name(path, None, call),
            Some(to) => {
                let node = self.live.get(&path).copied();
                assert!(node.is_some_and(|node| !self.nodes[node].folder), "a rename of a file: {call:?}");
                self.name(to, node, call);
                self.name(path, None, call);
            }
        }
    }

    fn write(&mut self, call: &Call) {
        let Some(open) = self.open.get(&call.number(0)).copied() else { return };
        let written = usize::try_from(call.result).unwrap();
        let bytes = call.args[1].bytes[..written].to_vec();
        let offset = if call.name.starts_with('p') {
            call.number(3).cast_unsigned()
        } else if open.append {
            self.size(open.node)
        } else {
            open.offset
        };
        let end = offset + written as u64;
        if !call.name.starts_with('p') {
            self.open.insert(call.number(0), Open { offset: end, ..open });
        }
        self.change(open.node, call, What::Write { offset, bytes });
    }

    fn change(&mut self, node: usize, call: &Call, what: What) {
        self.nodes[node].changes.push(Change { begin: call.begin, end: call.end, what });
    }

    fn size(&self, node: usize) -> u64 {
        self.nodes[node].changes.iter().fold(0, |size, change| match &change.what {
            What::Write { offset, bytes } => size.max(offset + bytes.len() as u64),
            What::Resize(size) => *size,
        })
    }

    /// The names that were taken away, and where in the trace.
    pub(crate) fn removed(&self) -> impl Iterator<Item = (usize, &str)> {
        let removed = self.names.iter().filter(|change| change.node.is_none());
        removed.filter_map(|change| Some((change.at, change.name.to_str()?)))
    }

    /// Writes what is on the disk after the power went at a place of the trace to an empty folder.
    pub(crate) fn after_cut(&self, cut: usize, mut unsynced: Unsynced, to: &Path) {
        for (name, node) in self.names_after(cut, &mut unsynced) {
            let path = to.join(name.strip_prefix(&self.root).unwrap());
            let node = &self.nodes[node];
            if node.folder {
                std::fs::create_dir(&path).unwrap();
            } else {
                node.write_to(&File::create_new(&path).unwrap(), cut, &mut unsynced);
            }
        }
    }

    /// The names that are left, folders before what is in them.
    fn names_after(&self, cut: usize, unsynced: &mut Unsynced) -> BTreeMap<PathBuf, usize> {
        let up_to = match unsynced {
            Unsynced::Lost => 0,
            Unsynced::Torn(random) => random.usize(..=cut),
        };
        let mut folders = HashMap::from([(self.root.as_path(), 0)]);
        let mut names = BTreeMap::new();
        for change in self.names.iter().filter(|change| change.at < cut) {
            let folder = folders[change.name.parent().unwrap()];
            if let Some(node) = change.node.filter(|node| self.nodes[*node].folder) {
                folders.insert(&change.name, node);
            }
            if change.at >= up_to && !self.nodes[folder].synced(change.at, cut) {
                continue;
            }
            match change.node {
                Some(node) => drop(names.insert(change.name.clone(), node)),
                None => drop(names.remove(&change.name)),
            }
        }
        // What is in a folder that is gone is gone as well.
        let all = names.clone();
        let reachable = |name: &Path| {
            let mut above = name.ancestors().skip(1).take_while(|folder| *folder != self.root);
            above.all(|folder| all.contains_key(folder))
        };
        names.retain(|name, _| reachable(name));
        names
    }
}

impl Node {
    /// Whether what ended at a place was synced before the cut.
    fn synced(&self, end: usize, cut: usize) -> bool {
        self.syncs.iter().any(|sync| end < sync.0 && sync.1 < cut)
    }

    fn write_to(&self, file: &File, cut: usize, unsynced: &mut Unsynced) {
        for change in self.changes.iter().filter(|change| change.begin < cut) {
            let keep = match unsynced {
                _ if self.synced(change.end, cut) => usize::MAX,
                Unsynced::Lost => 0,
                Unsynced::Torn(random) => match (&change.what, random.u8(..3)) {
                    (_, 0) => 0,
                    (What::Write { bytes, .. }, 1) => random.usize(..=bytes.len()),
                    _ => usize::MAX,
                },
            };
            match &change.what {
                _ if keep == 0 => {}
                What::Write { offset, bytes } => {
                    file.write_all_at(&bytes[..keep.min(bytes.len())], *offset).unwrap()
                }
                What::Resize(size) => file.set_len(*size).unwrap(),
            }
        }
    }
}

#[test]
fn what_was_not_synced_is_lost() {
    let trace = concat!(
        "1 openat(AT_FDCWD, \"/r/a\", O_WRONLY|O_CREAT, 0666) = 5\n",
        "1 openat(AT_FDCWD, \"/r\", O_RDONLY) = 6\n",
        "1 fsync(6) = 0\n",
        "1 write(5, \"one\", 3) = 3\n",
        "1 fdatasync(5 <unfinished ...>\n",
        "2 write(5, \"two\", 3) = 3\n",
        "1 <... fdatasync resumed>) = 0\n",
        "1 openat(AT_FDCWD, \"/r/b\", O_WRONLY|O_CREAT, 0666) = 7\n",
    );
    let disk = Disk::new(Path::new("/r"), &super::trace::parse(trace));
    let after = |cut| {
        let to = tempfile::tempdir().unwrap();
        disk.after_cut(cut, Unsynced::Lost, to.path());
        assert!(!to.path().join("b").exists());
        std::fs::read_to_string(to.path().join("a")).ok()
    };
    assert_eq!(after(2), None);
    assert_eq!(after(6).as_deref(), Some(""));
    assert_eq!(
        after(8).as_deref(),
        Some("one"),
        "what came after the begin of the sync is not covered by it"
    );
}
