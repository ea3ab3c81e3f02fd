//! The protocols of beanstalkd and of Redis lists, as far as a queue needs them.
//!
//! Redis has no queue, but lists: a job is pushed onto one, moved to the list of its worker when it is taken, and
//! removed from there when it is done. That is the usual way to lose no job with a worker.

use anyhow::{Context, Result, bail, ensure};

use super::wire::Wire;
use crate::load::frames::{NUMBER, number};
use crate::load::template::{Template, payload};

/// Another queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) enum Dialect {
    Beanstalkd,
    Redis,
}

/// A job that a worker has taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) n: u32,
    /// What its end is reported with: its id, or all of it.
    key: Vec<u8>,
}

impl Dialect {
    /// Makes a connection work on one queue alone.
    pub(super) async fn choose(self, wire: &mut Wire, queue: &str) -> Result<()> {
        if self == Self::Beanstalkd {
            wire.write(format!("use {queue}\r\nwatch {queue}\r\nignore default\r\n").as_bytes()).await?;
            for expected in ["USING", "WATCHING 2", "WATCHING 1"] {
                let line = wire.line().await?;
                ensure!(line.starts_with(expected.as_bytes()), "unexpected: {}", text(line));
            }
        }
        Ok(())
    }

    /// The enqueue of some jobs in one write.
    pub(super) fn puts(self, queue: &str, payload_bytes: usize, jobs: u32) -> Template {
        let payload = payload(payload_bytes);
        match self {
            Self::Beanstalkd => {
                let job = format!("put 32768 0 600 {payload_bytes}\r\n{payload}\r\n");
                Template::new(b"", job.as_bytes(), b"", b"", jobs)
            }
            Self::Redis => {
                let head = format!("*{}\r\n$5\r\nLPUSH\r\n${}\r\n{queue}\r\n", jobs + 2, queue.len());
                let job = format!("${payload_bytes}\r\n{payload}\r\n");
                Template::new(head.as_bytes(), job.as_bytes(), b"", b"", jobs)
            }
        }
    }

    /// Reads the answers to the enqueue of some jobs.
    pub(super) async fn put_answers(self, wire: &mut Wire, jobs: usize) -> Result<()> {
        let (lines, expected) = match self {
            Self::Beanstalkd => (jobs, &b"INSERTED "[..]),
            Self::Redis => (1, &b":"[..]),
        };
        for _ in 0..lines {
            let line = wire.line().await?;
            ensure!(line.starts_with(expected), "a job was answered with {}", text(line));
        }
        Ok(())
    }

    /// Asks for a job; with `wait`, until there is one.
    pub(super) fn take(self, out: &mut Vec<u8>, queue: &str, own: &str, wait: bool) {
        match (self, wait) {
            (Self::Beanstalkd, true) => out.extend_from_slice(b"reserve\r\n"),
            (Self::Beanstalkd, false) => out.extend_from_slice(b"reserve-with-timeout 0\r\n"),
            (Self::Redis, true) => command(out, &[b"BRPOPLPUSH", queue.as_bytes(), own.as_bytes(), b"0"]),
            (Self::Redis, false) => command(out, &[b"RPOPLPUSH", queue.as_bytes(), own.as_bytes()]),
        }
    }

    /// Reads the answer to [`Self::take`]; `None` when there was no job.
    pub(super) async fn taken(self, wire: &mut Wire) -> Result<Option<Taken>> {
        let line = wire.line().await?;
        let (key, len): (Vec<u8>, usize) = match line {
            b"TIMED_OUT" | b"$-1" => return Ok(None),
            [b'$', len @ ..] => (Vec::new(), text(len).parse()?),
            _ => {
                let line = text(line);
                let mut words = line.strip_prefix("RESERVED ").with_context(|| line.clone())?.split(' ');
                let (Some(id), Some(len)) = (words.next(), words.next()) else { bail!(line.clone()) };
                (id.as_bytes().to_vec(), len.parse()?)
            }
        };
        let payload = wire.bytes(len).await?;
        let n = number(payload, NUMBER).with_context(|| format!("not a job of ours: {}", text(payload)))?;
        let key = if self == Self::Redis { payload.to_vec() } else { key };
        Ok(Some(Taken { n, key }))
    }

    /// Reports the end of a job.
    pub(super) fn ack(self, out: &mut Vec<u8>, own: &str, job: &Taken) {
        match self {
            Self::Beanstalkd => {
                out.extend_from_slice(b"delete ");
                out.extend_from_slice(&job.key);
                out.extend_from_slice(b"\r\n");
            }
            // The oldest is found at once from the tail.
            Self::Redis => command(out, &[b"LREM", own.as_bytes(), b"-1", &job.key]),
        }
    }

    /// Reads the answer to [`Self::ack`].
    pub(super) async fn acked(self, wire: &mut Wire) -> Result<()> {
        let line = wire.line().await?;
        ensure!(line == b"DELETED" || line == b":1", "an ack was answered with {}", text(line));
        Ok(())
    }

    /// How many jobs a queue has.
    pub(in crate::load) async fn left(self, wire: &mut Wire, queue: &str) -> Result<u64> {
        if self == Self::Redis {
            let mut out = Vec::new();
            command(&mut out, &[b"LLEN", queue.as_bytes()]);
            wire.write(&out).await?;
            let line = text(wire.line().await?);
            return line.strip_prefix(':').context(line.clone())?.parse().context(line.clone());
        }
        wire.write(format!("stats-tube {queue}\r\n").as_bytes()).await?;
        let line = text(wire.line().await?);
        // A tube ends with its last job.
        let Some(len) = line.strip_prefix("OK ") else { return Ok(0) };
        let stats = text(wire.bytes(len.parse()?).await?);
        let counts = stats.lines().filter_map(|line| line.split_once(": "));
        let counts =
            counts.filter(|(name, _)| ["current-jobs-ready", "current-jobs-reserved"].contains(name));
        counts.map(|(_, count)| Ok(count.parse::<u64>()?)).sum()
    }
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
