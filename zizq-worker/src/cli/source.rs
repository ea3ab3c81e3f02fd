//! The payloads of `enqueue`: from a flag, from files, or from lines, read on a thread of their own.

use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf, absolute};
use std::thread;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::CliError;

/// Payloads, each with its origin.
pub(super) struct Source {
    items: Box<dyn Iterator<Item = Result<Item, CliError>> + Send>,
    /// How many there are, if known.
    pub(super) total: Option<u64>,
}

/// Payloads as they are read.
pub(super) type Coming = mpsc::Receiver<Result<Item, CliError>>;

/// One payload.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) payload: Box<RawValue>,
    /// Its origin, for people: `line 3`, `photo.jpg`, or nothing.
    pub(super) place: String,
}

impl Source {
    /// Reads on a thread of its own, up to `ahead` payloads ahead, so that waiting for a line blocks nothing else.
    pub(super) fn start(self, ahead: usize) -> Coming {
        let (to, coming) = mpsc::channel(ahead);
        // The thread ends with the process, perhaps in the middle of a line.
        thread::spawn(move || {
            for item in self.items {
                if to.blocking_send(item).is_err() {
                    break;
                }
            }
        });
        coming
    }

    /// One payload, given as JSON.
    pub(super) fn one(json: &str) -> Result<Self, CliError> {
        let payload = parse(json).map_err(|e| {
            CliError::Usage(format!(
                "--payload is not valid JSON: {e}; a string needs double quotes: --payload '\"text\"'"
            ))
        })?;
        Ok(Self::known(vec![Item { payload, place: String::new() }]))
    }

    /// One job with `null` as its payload.
    pub(super) fn null() -> Self {
        Self::known(vec![Item { payload: RawValue::NULL.to_owned(), place: String::new() }])
    }

    /// A payload `{"file": PATH}` per file. All files are checked first, so that a wrong name stops nothing half-way.
    pub(super) fn files(files: &[PathBuf]) -> Result<Self, CliError> {
        let items: Result<Vec<_>, _> = files.iter().map(|file| of_file(file)).collect();
        items.map(Self::known)
    }

    fn known(items: Vec<Item>) -> Self {
        let total = Some(items.len() as u64);
        Self { items: Box::new(items.into_iter().map(Ok)), total }
    }

    /// A payload per line of the standard input that is not empty: JSON, or the line as a string.
    pub(super) fn lines(as_text: bool) -> Self {
        let read = move |line: io::Result<String>, number: usize| {
            let line = line.map_err(|e| CliError::Failed(format!("cannot read line {number}: {e}")))?;
            let payload = if as_text { text(&line) } else { parse(&line) };
            let payload = payload.map_err(|e| {
                let hint = "--text takes each line as a string";
                CliError::Failed(format!("line {number} is not valid JSON: {e}; {hint}"))
            })?;
            Ok(Item { payload, place: format!("line {number}") })
        };
        let lines = BufReader::new(io::stdin()).lines().zip(1..);
        let lines = lines.filter(|(line, _)| !matches!(line, Ok(line) if line.trim().is_empty()));
        Self { items: Box::new(lines.map(move |(line, number)| read(line, number))), total: None }
    }
}

/// Whether the standard input is a terminal, where waiting for lines would surprise.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

fn of_file(file: &Path) -> Result<Item, CliError> {
    let place = file.display().to_string();
    let wrong = |why: &dyn std::fmt::Display| CliError::Usage(format!("--each {place}: {why}"));
    match file.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::Usage(format!("cannot find the file {place} (--each)")));
        }
        Err(e) => return Err(wrong(&e)),
        Ok(_) => {}
    }
    // The worker may run in another folder.
    let path = absolute(file).map_err(|e| wrong(&e))?;
    let path = path.to_str().ok_or_else(|| wrong(&"its name is not UTF-8, so it cannot be in a payload"))?;
    let payload = parse(&json!({ "file": path }).to_string()).map_err(|e| wrong(&e))?;
    Ok(Item { payload, place })
}

fn parse(json: &str) -> serde_json::Result<Box<RawValue>> {
    serde_json::from_str(json)
}

fn text(line: &str) -> serde_json::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(line)
}
