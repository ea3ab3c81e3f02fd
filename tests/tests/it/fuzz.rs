//! The kept corpus of the fuzz targets, played on every run of the tests.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is the library of the fuzz targets, too")]
mod targets;

/// Plays every file of a target's corpus, and of what once was found.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut played = 0;
    for file in fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display())) {
        let path = file.unwrap().path();
        eprintln!("{}", path.display());
        run(&fs::read(path).unwrap());
        played += 1;
    }
    assert!(played > 0, "{target} has a corpus");
}

#[test]
fn frames() {
    replay("frames", targets::frames);
}

#[test]
fn bodies() {
    replay("bodies", targets::bodies);
}

#[test]
fn text() {
    replay("text", targets::text);
}

#[test]
fn records() {
    replay("records", targets::records);
}

#[test]
fn store() {
    replay("store", targets::store);
}
