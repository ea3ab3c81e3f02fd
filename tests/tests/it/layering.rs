//! The shape of the code: layers import only what lies below them, and what ARCHITECTURE.md calls absent is absent.
//!
//! Production code alone is looked at: no comments, no `#[cfg(test)]`, no files of tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A module at the top of a crate, and the modules beside it that it may import.
type Layer = (&'static str, &'static [&'static str]);

/// The layers of protocol, the lowest first. Each imports what stands above it.
const PROTOCOL: &[Layer] = &[
    ("plural", &[]),
    ("certificate", &["plural"]),
    ("error", &[]),
    ("frame", &[]),
    ("given", &[]),
    ("malformed", &[]),
    ("media", &[]),
    ("nullable", &[]),
    ("number", &[]),
    ("page", &[]),
    ("pattern", &[]),
    ("synonyms", &[]),
    ("trace", &["error"]),
    ("unit", &[]),
    ("id", &["error"]),
    ("json", &["malformed"]),
    ("msgpack", &["malformed"]),
    ("name", &["error"]),
    ("object", &["error"]),
    ("time", &["error", "number"]),
    ("access", &["certificate", "error", "name", "number", "time"]),
    ("body", &["error", "json", "malformed", "media", "msgpack", "object", "synonyms"]),
    ("budget", &["error", "name", "nullable", "number", "object"]),
    ("lease", &["error", "id", "number", "time"]),
    ("pause", &["nullable"]),
    ("payload", &["json", "malformed", "media"]),
    ("stream", &["id"]),
    ("take", &["name", "number"]),
    ("flow", &["budget", "error", "trace"]),
    ("jq", &["error", "media", "payload"]),
    ("log", &["body", "media"]),
    ("outcome", &["body", "id", "json", "lease", "media", "msgpack", "number", "payload", "time"]),
    ("job", &["budget", "flow", "id", "lease", "name", "number", "trace"]),
    ("encode", &["job", "media", "page", "payload"]),
    (
        "enqueue",
        &[
            "body", "budget", "flow", "job", "json", "media", "msgpack", "name", "number", "object",
            "payload", "time", "trace",
        ],
    ),
    ("patch", &["body", "job", "media", "name", "nullable", "number", "object", "time"]),
    ("cron", &["body", "enqueue", "media", "name", "nullable", "object"]),
];

/// The layers of zizq-server, the lowest first. Each imports what stands above it.
const SERVER: &[Layer] = &[
    ("caller", &[]),
    ("clock", &[]),
    ("hash", &[]),
    ("histogram", &[]),
    ("meter", &[]),
    ("open_files", &[]),
    ("access", &["caller", "clock", "hash"]),
    ("http", &["access", "caller", "clock", "hash", "meter"]),
    ("job", &["hash"]),
    ("jq", &["caller", "clock", "hash", "meter"]),
    ("store", &["access", "hash", "job"]),
    ("engine", &["access", "clock", "hash", "histogram", "job", "store"]),
    ("logs", &["meter", "store"]),
    ("run", &["access", "clock", "engine", "hash", "job", "meter", "store"]),
    ("fuzz", &["access", "engine", "http", "job", "run", "store"]),
    ("batching", &["access", "caller", "clock", "engine", "hash", "job", "jq", "run"]),
    ("board", &["access", "clock", "engine", "hash", "histogram", "job", "run", "store"]),
    ("config", &["access", "clock", "engine", "http", "jq", "run", "store"]),
    ("admission", &["access", "config", "engine", "http", "run"]),
    ("listeners", &["access", "config", "http"]),
    ("notify", &["engine", "run"]),
    ("reader", &["board", "caller", "clock", "engine", "hash", "job", "jq", "meter", "run", "store"]),
    (
        "api",
        &[
            "access",
            "batching",
            "board",
            "clock",
            "config",
            "engine",
            "hash",
            "histogram",
            "http",
            "job",
            "jq",
            "logs",
            "meter",
            "reader",
            "run",
            "store",
        ],
    ),
    ("control", &["access", "clock", "config", "http"]),
    ("health", &["config", "control"]),
    ("cert", &["clock", "config"]),
    ("logging", &["config"]),
    ("top", &["config", "control"]),
    (
        "serve",
        &[
            "access",
            "admission",
            "api",
            "batching",
            "board",
            "clock",
            "config",
            "control",
            "engine",
            "http",
            "listeners",
            "logs",
            "notify",
            "open_files",
            "reader",
            "run",
            "store",
        ],
    ),
];

/// The layers of zizq-worker, the lowest first. Each imports what stands above it.
const WORKER: &[Layer] = &[
    ("address", &[]),
    ("backoff", &[]),
    ("clock", &[]),
    ("public", &[]),
    ("report", &[]),
    ("rest", &[]),
    ("retry_after", &[]),
    ("screen", &[]),
    ("shutdown", &[]),
    ("values", &[]),
    ("ctl", &["clock"]),
    ("logging", &["screen"]),
    ("outcome", &["report"]),
    ("proxy", &["address"]),
    ("spool", &["address", "report"]),
    ("template", &["clock"]),
    ("trust", &["clock"]),
    ("access", &["address", "proxy", "trust"]),
    ("ended", &["logging"]),
    ("label", &["template"]),
    ("route", &["address", "outcome", "template", "trust"]),
    ("stats", &["logging", "outcome", "report", "rest"]),
    ("cgroup", &["route"]),
    ("client", &["access", "clock", "outcome", "proxy", "report", "retry_after", "trust"]),
    ("notify", &["stats"]),
    ("serve", &["stats"]),
    ("table", &["outcome", "report", "route"]),
    ("thin", &["logging", "stats"]),
    ("delivery", &["backoff", "client", "outcome", "report"]),
    ("flags", &["access", "cgroup", "logging", "route", "screen", "values"]),
    ("live", &["client", "screen", "stats", "thin"]),
    (
        "config",
        &[
            "access", "address", "cgroup", "ended", "flags", "logging", "outcome", "route", "screen",
            "spool", "template", "trust", "values",
        ],
    ),
    ("cli", &["access", "address", "backoff", "client", "clock", "config", "ctl", "proxy", "values"]),
    ("event", &["config", "report"]),
    (
        "exec",
        &[
            "access",
            "address",
            "backoff",
            "cgroup",
            "client",
            "clock",
            "ctl",
            "event",
            "flags",
            "logging",
            "outcome",
            "proxy",
            "public",
            "report",
            "retry_after",
            "route",
            "template",
            "thin",
            "trust",
        ],
    ),
    ("outbox", &["client", "delivery", "event", "report", "spool", "stats"]),
    ("reload", &["client", "config", "event", "flags", "notify"]),
    ("renewal", &["backoff", "client", "event", "report"]),
    ("stream", &["address", "backoff", "client", "event", "report", "shutdown", "stats"]),
    ("args", &["cli", "ctl", "exec", "flags"]),
    (
        "pool",
        &[
            "clock",
            "config",
            "ended",
            "event",
            "exec",
            "label",
            "logging",
            "notify",
            "outcome",
            "report",
            "retry_after",
            "route",
            "screen",
            "shutdown",
            "stats",
            "stream",
            "table",
            "thin",
        ],
    ),
];

const CRATES: &[(&str, &[Layer])] =
    &[("protocol", PROTOCOL), ("zizq-server", SERVER), ("zizq-worker", WORKER)];

/// What must not be said, where, and where it may be said all the same.
const ABSENT: &[(&str, &str, &[&str], &str)] = &[
    ("zizq-server/src", r"\bfjall::", &["zizq-server/src/store/disk/"], "fjall is known in store/disk alone"),
    ("", r"\bjaq_\w+::", &["protocol/src/jq/", "tests/"], "jaq is known in protocol/src/jq alone"),
    (
        "zizq-server/src",
        r"\bStatusCode\b",
        &["zizq-server/src/http/reply.rs"],
        "statuses are known in http/reply.rs alone, and those of refusals in protocol/src/error.rs",
    ),
    (
        "zizq-server/src/engine",
        r"\b(tokio|SystemTime|Instant|std::fs|TcpStream|UdpSocket|thread::)",
        &[],
        "the engine reads no clock, does no I/O and starts nothing",
    ),
    (
        "zizq-server/src/engine",
        r"\b(Mutex|RwLock|Atomic\w+|static [A-Z]\w*|static mut|thread_local)\b",
        &["zizq-server/src/engine/outbox.rs"],
        "the engine's state has one owner, so there are no locks around it and nothing is global; only the outbox is shared, \
         with a connection",
    ),
    (
        "protocol/src",
        r"\b(tokio|SystemTime|Instant|std::fs|TcpStream|UdpSocket)\b",
        &[],
        "protocol does no I/O and reads no clock",
    ),
    (
        "zizq-server/src",
        r"\bSystemTime::now\b",
        &["zizq-server/src/clock.rs"],
        "the clock on the wall is read in clock.rs alone",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of production code.
struct File {
    /// From the top of the repository.
    path: String,
    /// The modules it lies in, from the top of the crate: `engine`, `crons`, `firing`.
    module: Vec<String>,
    /// Its lines without comments, to the tests at its end.
    lines: Vec<String>,
}

impl File {
    fn read(root: &Path, path: &Path) -> Self {
        let shown = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let (_, inside) = shown.split_once("src/").unwrap();
        let mut module: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = Vec::new();
        let mut is_for_tests = false;
        for line in text.lines() {
            if is_for_tests && line.starts_with("mod ") && line.ends_with('{') {
                break;
            }
            is_for_tests = line == "#[cfg(test)]";
            lines.push(code_of(line).to_owned());
        }
        Self { path: shown, module, lines }
    }

    fn top(&self) -> &str {
        &self.module[0]
    }

    /// The paths in this crate that it names, from the top of the crate, with the number of the line.
    fn names(&self) -> Vec<(usize, Vec<String>)> {
        static PATH: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\b(crate|super(?:::super)*)::(?:\{([^}]*)\}|(\w+(?:::\w+)*))").unwrap()
        });
        let text = self.lines.join("\n");
        let mut names = Vec::new();
        for found in PATH.captures_iter(&text) {
            let line = text[..found.get(0).unwrap().start()].matches('\n').count() + 1;
            let base = match &found[1] {
                "crate" => Vec::new(),
                climbs => {
                    let up = climbs.split("::").count();
                    self.module[..self.module.len().saturating_sub(up)].to_vec()
                }
            };
            let one = |tail: &str| {
                let tail = tail.split("::").map(|word| word.trim().to_owned());
                (line, base.iter().cloned().chain(tail).collect::<Vec<_>>())
            };
            match (found.get(2), found.get(3)) {
                (Some(group), _) => names.extend(group.as_str().split(',').map(one)),
                (_, Some(tail)) => names.push(one(tail.as_str())),
                _ => {}
            }
        }
        names
    }

    /// What it imports by a relative path: most often of a module inside its own.
    fn children(&self) -> Vec<(usize, Vec<String>)> {
        static PATH: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^\s*(?:pub(?:\(\w+\))? )?use ([a-z]\w*(?:::\w+)*)").unwrap());
        let found = self.lines.iter().enumerate().filter_map(|(i, line)| Some((i + 1, PATH.captures(line)?)));
        let inside =
            |tail: &str| self.module.iter().cloned().chain(tail.split("::").map(str::to_owned)).collect();
        found.map(|(line, path)| (line, inside(&path[1]))).collect()
    }
}

/// A line without what follows `//` outside of a text. It need not be right about texts over several lines: they name no paths.
fn code_of(line: &str) -> &str {
    let mut is_text = false;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match c {
            '"' if before != '\\' && before != '\'' => is_text = !is_text,
            '/' if before == '/' && !is_text => return &line[..i - 1],
            _ => {}
        }
        before = c;
    }
    line
}

fn files_in(root: &Path, folder: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_str().unwrap();
        let is_test = matches!(name, "tests" | "tests.rs" | "simulation" | "testing.rs" | "target");
        if is_test {
            continue;
        }
        if entry.is_dir() {
            files.extend(files_in(root, &entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(File::read(root, &entry));
        }
    }
    files
}

/// What a file may not import.
fn broken(name: &str, layers: &[Layer], files: &[File]) -> Vec<String> {
    let known: BTreeMap<&str, &[&str]> = layers.iter().copied().collect();
    let mut broken = Vec::new();
    for file in files {
        let top = file.top();
        if matches!(top, "lib" | "main") {
            continue;
        }
        let Some(may) = known.get(top) else {
            broken.push(format!(
                "{}: `{top}` is in no layer of {name}; give it its place in the table of layers",
                file.path
            ));
            continue;
        };
        for (line, path) in file.names() {
            let other = path[0].as_str();
            if known.contains_key(other) && other != top && !may.contains(&other) {
                broken.push(format!(
                    "{}:{line}: `{top}` may not import `{other}`; it may import {}",
                    file.path,
                    if may.is_empty() { "nothing".to_owned() } else { may.join(", ") }
                ));
            }
        }
    }
    broken
}

#[test]
fn layers_import_only_what_lies_below_them() {
    let root = root();
    for (name, layers) in CRATES {
        let files = files_in(&root, &root.join(name).join("src"));
        let mut below = BTreeSet::new();
        for (layer, may) in *layers {
            let above: Vec<_> = may.iter().filter(|other| !below.contains(*other)).collect();
            assert!(above.is_empty(), "{name}: `{layer}` would import {above:?}, which do not lie below it");
            assert!(files.iter().any(|file| file.top() == *layer), "{name}: there is no `{layer}`");
            below.insert(*layer);
            let used: BTreeSet<String> = files
                .iter()
                .filter(|file| file.top() == *layer)
                .flat_map(File::names)
                .map(|(_, path)| path[0].clone())
                .collect();
            let unused: Vec<_> = may.iter().filter(|other| !used.contains(**other)).collect();
            assert!(unused.is_empty(), "{name}: `{layer}` does not import {unused:?}; take it off its list");
        }
        let broken = broken(name, layers, &files);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }
}

#[test]
fn what_is_absent_is_absent() {
    let root = root();
    let mut found = Vec::new();
    let absent: Vec<_> = ABSENT
        .iter()
        .map(|(folder, pattern, but, rule)| (folder, Regex::new(pattern).unwrap(), but, rule))
        .collect();
    for krate in [
        "protocol",
        "protocol/client",
        "protocol/log",
        "protocol/spans",
        "protocol/top",
        "zizq-server",
        "zizq-worker",
        "tests",
    ] {
        for file in files_in(&root, &root.join(krate).join("src")) {
            for (folder, pattern, but, rule) in &absent {
                let concerns =
                    file.path.starts_with(**folder) && !but.iter().any(|but| file.path.starts_with(but));
                let lines =
                    file.lines.iter().enumerate().filter(|(_, line)| concerns && pattern.is_match(line));
                found.extend(
                    lines.map(|(i, line)| format!("{}:{}: {}: {rule}", file.path, i + 1, line.trim())),
                );
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Files that import each other, over however many steps, between the modules of a crate. Inside a room that is no fault.
#[test]
fn no_modules_import_each_other() {
    let root = root();
    for (name, _) in CRATES {
        let files = files_in(&root, &root.join(name).join("src"));
        let circles = circles(&files);
        for circle in &circles {
            println!("{name}: {} files import each other: {}", circle.len(), circle.join(", "));
        }
        let top =
            |path: &str| path.split_once("src/").unwrap().1.split(['/', '.']).next().unwrap().to_owned();
        for circle in circles {
            let rooms: BTreeSet<String> = circle.iter().map(|path| top(path)).collect();
            assert_eq!(rooms.len(), 1, "{name}: a circle of imports: {}", circle.join(", "));
        }
    }
}

/// The strongly connected parts of the graph of imports that have more than one file.
fn circles(files: &[File]) -> Vec<Vec<String>> {
    let index: BTreeMap<&[String], usize> =
        files.iter().enumerate().map(|(i, file)| (file.module.as_slice(), i)).collect();
    let imports: Vec<BTreeSet<usize>> = files
        .iter()
        .map(|file| {
            let names = file.names().into_iter().chain(file.children());
            names
                .filter_map(|(_, path)| (1..=path.len()).rev().find_map(|n| index.get(&path[..n]).copied()))
                .collect()
        })
        .collect();
    let reach: Vec<BTreeSet<usize>> = (0..files.len())
        .map(|start| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(file) = next.pop() {
                next.extend(imports[file].iter().filter(|other| seen.insert(**other)));
            }
            seen
        })
        .collect();
    let mut done = BTreeSet::new();
    let mut circles = Vec::new();
    for file in 0..files.len() {
        if !reach[file].contains(&file) || !done.insert(file) {
            continue;
        }
        let members: Vec<usize> =
            reach[file].iter().copied().filter(|other| reach[*other].contains(&file)).collect();
        done.extend(members.iter().copied());
        if members.len() > 1 {
            circles.push(members.into_iter().map(|member| files[member].path.clone()).collect());
        }
    }
    circles
}

#[test]
fn comments_are_no_imports() {
    assert_eq!(code_of("let a = 1; // crate::b"), "let a = 1; ");
    assert_eq!(code_of(r#"let url = "http://a"; // b"#), r#"let url = "http://a"; "#);
    let file = File {
        path: "zizq-server/src/http/tls.rs".to_owned(),
        module: vec!["http".to_owned(), "tls".to_owned()],
        lines: vec!["use crate::{api, clock};".to_owned(), "super::super::engine::x()".to_owned()],
    };
    let layers: &[Layer] = &[("clock", &[]), ("http", &["clock"]), ("api", &["http"]), ("engine", &[])];
    assert_eq!(
        broken("zizq-server", layers, &[file]),
        [
            "zizq-server/src/http/tls.rs:1: `http` may not import `api`; it may import clock",
            "zizq-server/src/http/tls.rs:2: `http` may not import `engine`; it may import clock",
        ]
    );
}
