//! Where the jobs of `enqueue` come from: one payload, files, or lines.

use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf, absolute};
use std::thread;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::CliError;

/// Payloads, each with the place that it came from.
pub(super) struct Source {
    items: Box<dyn Iterator<Item = Result<Item, CliError>> + Send>,
    /// How many there are, where that is known.
    pub(super) total: Option<u64>,
}

/// Payloads as they come.
pub(super) type Coming = mpsc::Receiver<Result<Item, CliError>>;

/// One payload.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) payload: Box<RawValue>,
    /// Where it came from, for people: `line 3`, `photo.jpg`, or nothing.
    pub(super) place: String,
}

impl Source {
    /// Reads on a thread of its own, at most so many ahead: whoever waits for the next line can do something else.
    pub(super) fn start(self, ahead: usize) -> Coming {
        let (to, coming) = mpsc::channel(ahead);
        // It ends with the process, in the middle of a line perhaps.
        thread::spawn(move || {
            for item in self.items {
                if to.blocking_send(item).is_err() {
                    break;
                }
            }
        });
        coming
    }

    /// The one payload that was given as JSON.
    pub(super) fn one(json: &str) -> Result<Self, CliError> {
        let payload = parse(json).map_err(|e| {
            CliError::Usage(format!(
                "--payload is not valid JSON: {e}; a text needs quotes: --payload '\"text\"'"
            ))
        })?;
        Ok(Self::known(vec![Item { payload, place: String::new() }]))
    }

    /// One job with `null` as its payload.
    pub(super) fn null() -> Self {
        Self::known(vec![Item { payload: RawValue::NULL.to_owned(), place: String::new() }])
    }

    /// A payload `{"file": PATH}` for each file. All of them are looked at first, so that a wrong name stops nothing
    /// half-way.
    pub(super) fn files(files: &[PathBuf]) -> Result<Self, CliError> {
        let items: Result<Vec<_>, _> = files.iter().map(|file| of_file(file)).collect();
        items.map(Self::known)
    }

    fn known(items: Vec<Item>) -> Self {
        let total = Some(items.len() as u64);
        Self { items: Box::new(items.into_iter().map(Ok)), total }
    }

    /// A payload for each line of the standard input that is not empty: JSON, or a text as it is.
    pub(super) fn lines(as_text: bool) -> Self {
        let read = move |line: io::Result<String>, number: usize| {
            let line = line.map_err(|e| CliError::Failed(format!("cannot read line {number}: {e}")))?;
            let payload = if as_text { text(&line) } else { parse(&line) };
            let payload = payload.map_err(|e| {
                let hint = "--text takes each line as a text";
                CliError::Failed(format!("line {number} is not valid JSON: {e}; {hint}"))
            })?;
            Ok(Item { payload, place: format!("line {number}") })
        };
        let lines = BufReader::new(io::stdin()).lines().zip(1..);
        let lines = lines.filter(|(line, _)| !matches!(line, Ok(line) if line.trim().is_empty()));
        Self { items: Box::new(lines.map(move |(line, number)| read(line, number))), total: None }
    }
}

/// Whether a person is at the standard input, who would wonder what is waited for.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

fn of_file(file: &Path) -> Result<Item, CliError> {
    let place = file.display().to_string();
    let wrong = |why: &dyn std::fmt::Display| CliError::Usage(format!("--each {place}: {why}"));
    if let Err(e) = file.metadata() {
        return Err(wrong(&e));
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
