//! The standard table.

use anyhow::Result;
use clap::Parser;

use super::args::{Args, Mode};
use super::modes::args::Table;

/// Every scenario: its name and its command line.
const ROWS: &[(&str, &str)] = &[
    ("enqueue-bulk", "enqueue"),
    ("enqueue-bulk, 1 KiB", "enqueue --payload-bytes 1024 --jobs 300000"),
    ("enqueue-bulk, 16 KiB", "enqueue --payload-bytes 16384 --bulk 100 --jobs 30000"),
    ("enqueue-bulk, MessagePack", "enqueue --format msgpack"),
    ("enqueue-bulk, fsync", "enqueue --commit fsync"),
    ("enqueue-single", "enqueue --bulk 1"),
    ("enqueue-single, HTTP/2", "enqueue --bulk 1 --http 2"),
    ("enqueue-single, fsync", "enqueue --bulk 1 --commit fsync --jobs 100000"),
    ("drain, 1 worker", "drain --workers 1"),
    ("drain, 8 workers", "drain"),
    ("drain, 64 workers", "drain --workers 64"),
    ("drain, 8 workers, SSE", "drain --format sse"),
    ("drain, 8 workers, MessagePack", "drain --format msgpack"),
    ("drain, 8 workers, HTTP/2", "drain --http 2"),
    ("drain, 8 workers, 1 KiB", "drain --payload-bytes 1024 --jobs 300000"),
    ("drain, 8 workers, 16 KiB", "drain --payload-bytes 16384 --jobs 30000"),
    ("drain, 8 workers, fsync", "drain --commit fsync --jobs 300000"),
    ("drain, 8 workers, single acks", "drain --ack single"),
    ("flow: enqueue-bulk, plain", "enqueue"),
    ("flow: enqueue-bulk, unique keys", "enqueue --unique"),
    ("flow: enqueue-bulk, 1 budget", "enqueue --budgets 1"),
    ("flow: enqueue-bulk, 3 budgets", "enqueue --budgets 3"),
    ("flow: drain, plain", "drain"),
    ("flow: drain, unique keys", "drain --unique"),
    ("flow: drain, 1 budget", "drain --budgets 1"),
    ("flow: drain, 3 budgets", "drain --budgets 3"),
    ("flow: drain, 1M parked", "drain --parked 1000000"),
    ("flow: drain, 1M parked on 8,192 budgets", "drain --parked 1000000 --parked-on 8192"),
    ("pipeline", "pipeline"),
    ("pipeline, 1,000 idle on other queues", "pipeline --idle 1000"),
    ("pipeline, 5,000 idle on other queues", "pipeline --idle 5000"),
    ("pipeline, 1,000 more on the same queue", "pipeline --idle 1000 --idle-on same"),
    ("pipeline, 5,000 more on the same queue", "pipeline --idle 5000 --idle-on same"),
    ("latency", "latency"),
    ("latency, 1,000 idle on other queues", "latency --idle 1000"),
    ("latency, 5,000 idle on other queues", "latency --idle 5000"),
    ("latency, 1,000 idle on the same queue", "latency --idle 1000 --idle-on same"),
    ("latency, 5,000 idle on the same queue", "latency --idle 5000 --idle-on same"),
    ("burst of scheduled jobs", "burst"),
    ("burst, without workers for it", "burst --workers 0"),
    ("100,000 queues", "queues"),
    ("10,000 queues, one job at a time", "queues --queues 10000 --at-a-time 1"),
    ("finished jobs kept", "churn --keep --seconds 600 --jobs 3000000"),
    ("churn", "churn --seconds 30"),
    ("backlog", "backlog"),
];

/// Something to measure.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// Its flags.
    pub(super) command: String,
    pub(super) mode: Mode,
}

/// The scenarios that are wanted.
pub(super) fn scenarios(flags: &Table) -> Result<Vec<Scenario>> {
    let wanted =
        |name: &str| flags.only.is_empty() || flags.only.iter().any(|part| name.contains(part.as_str()));
    let rows = ROWS.iter().filter(|(name, _)| wanted(name));
    rows.map(|&(name, command)| {
        let words = std::iter::once("zizq-load").chain(command.split(' '));
        let mut mode = Args::try_parse_from(words)?.mode;
        mode.scale(flags.scale);
        Ok(Scenario { name: name.to_owned(), command: command.to_owned(), mode })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_command_line() {
        let all = scenarios(&Table { only: Vec::new(), scale: 1.0, list: false }).unwrap();
        assert_eq!(all.len(), ROWS.len());
        let some = scenarios(&Table { only: vec!["latency".to_owned()], scale: 0.1, list: false }).unwrap();
        assert!(some.len() > 1 && some.iter().all(|scenario| matches!(scenario.mode, Mode::Latency(_))));
    }
}
