//! Producers.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::body::Body;
use super::check::Faults;
use super::http::{Connection, Request};
use super::peers;
use super::target::{Protocol, Target};
use super::template::{Template, payload};
use super::watchdog::Progress;
use super::worker::Shared;

/// What jobs look like, and how many go into one request.
#[derive(Debug, Clone)]
pub(super) struct Jobs {
    pub(super) queue: String,
    pub(super) payload_bytes: usize,
    /// Members of each job beside queue, type and payload.
    pub(super) members: Map<String, Value>,
    pub(super) body: Body,
    /// Jobs per request; with 1 it is `POST /jobs`.
    pub(super) bulk: u32,
}

impl Jobs {
    /// Plain ones.
    pub(super) fn new(queue: &str, payload_bytes: usize, bulk: u32) -> Self {
        Self { queue: queue.to_owned(), payload_bytes, members: Map::new(), body: Body::Json, bulk }
    }

    fn template(&self, jobs: u32) -> Result<Template> {
        self.body.enqueue((&self.queue, &self.members), self.payload_bytes, jobs, self.bulk > 1)
    }
}

/// Sends jobs, one request at a time.
#[derive(Debug)]
pub(super) enum Producer {
    Http(Http),
    Peer(peers::Producer),
    Disk(Disk),
}

impl Producer {
    /// So many, each on a connection of its own, with so many requests at a time where that is possible.
    pub(super) async fn open(
        target: &Target,
        jobs: &Jobs,
        connections: u32,
        requests: u32,
    ) -> Result<Vec<Self>> {
        let mut producers = Vec::new();
        for _ in 0..connections {
            match target.protocol {
                Protocol::Disk => producers.push(Self::Disk(Disk::open(jobs)?)),
                Protocol::Peer(dialect) => {
                    let (wire, queue, bulk) = (target.wire().await?, &jobs.queue, jobs.bulk);
                    let peer = peers::Producer::open(wire, dialect, queue, jobs.payload_bytes, bulk).await?;
                    producers.push(Self::Peer(peer));
                }
                Protocol::Zizq | Protocol::Hello => {
                    let check = target.protocol == Protocol::Zizq;
                    let first = target.connect().await?;
                    for _ in 1..requests {
                        if let Some(connection) = first.share() {
                            producers.push(Self::Http(Http::new(connection, jobs, check)?));
                        }
                    }
                    producers.push(Self::Http(Http::new(first, jobs, check)?));
                }
            }
        }
        Ok(producers)
    }

    /// Enqueues the jobs `first` and following and waits for the answer; what is wrong with it, if anything.
    pub(super) async fn send(&mut self, first: u32, jobs: u32) -> Result<Option<String>> {
        match self {
            Self::Http(producer) => producer.send(first, jobs).await,
            Self::Peer(producer) => producer.send(first, jobs).await.map(|()| None),
            Self::Disk(producer) => producer.send(first).map(|()| None),
        }
    }
}

/// Over the contract.
#[derive(Debug)]
pub(super) struct Http {
    connection: Connection,
    jobs: Jobs,
    template: Template,
    /// Whether every job is to be confirmed.
    check: bool,
}

impl Http {
    fn new(connection: Connection, jobs: &Jobs, check: bool) -> Result<Self> {
        Ok(Self { connection, template: jobs.template(jobs.bulk)?, jobs: jobs.clone(), check })
    }

    async fn send(&mut self, first: u32, jobs: u32) -> Result<Option<String>> {
        if self.template.jobs() != jobs as usize {
            self.template = self.jobs.template(jobs)?;
        }
        let path = if self.jobs.bulk > 1 { "/jobs/bulk" } else { "/jobs" };
        let media_type = self.jobs.body.media_type();
        let headers = [("content-type", media_type), ("accept", media_type)];
        let request = Request::post(path, &headers, self.template.stamp(first));
        let answer = self.connection.exchange(&request).await?;
        let confirmed = !self.check || self.jobs.body.confirmed(answer.body) == jobs as usize;
        let fine = answer.status == 201 && confirmed;
        Ok((!fine).then(|| format!("a request with {jobs} jobs was answered with {}", answer.describe())))
    }
}

/// A file: the least that whoever keeps jobs has to do.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    template: Template,
}

impl Disk {
    fn open(jobs: &Jobs) -> Result<Self> {
        let template = Template::new(b"", payload(jobs.payload_bytes).as_bytes(), b"\n", b"\n", jobs.bulk);
        Ok(Self { file: tempfile::tempfile()?, template })
    }

    fn send(&mut self, first: u32) -> Result<()> {
        self.file.write_all(self.template.stamp(first))?;
        Ok(self.file.sync_data()?)
    }
}

/// Gives producers their jobs, and gathers what they see.
#[derive(Debug)]
pub(super) struct Feed {
    /// The number of the next job.
    next: Cell<u32>,
    end: Cell<u32>,
    /// When no more jobs are begun.
    stop_at: Option<Instant>,
    bulk: u32,
    latency: RefCell<Histogram<u64>>,
    faults: RefCell<Faults>,
    /// Jobs whose enqueue was answered.
    pub(super) answered: Progress,
}

impl Feed {
    /// The jobs `0..jobs`, so many at a time, or as many of them as are begun before a time is over.
    pub(super) fn new(jobs: u32, bulk: u32, most: Option<Duration>) -> Result<Rc<Self>> {
        Ok(Rc::new(Self {
            next: Cell::new(0),
            end: Cell::new(jobs),
            stop_at: most.map(|most| Instant::now() + most),
            bulk,
            latency: RefCell::new(histogram()?),
            faults: RefCell::default(),
            answered: Progress::default(),
        }))
    }

    /// Starts the producers.
    pub(super) fn run(
        self: &Rc<Self>,
        producers: Vec<Producer>,
        ahead: Option<Ahead>,
    ) -> JoinSet<Result<()>> {
        let mut tasks = JoinSet::new();
        for producer in producers {
            tasks.spawn_local(Rc::clone(self).produce(producer, ahead.clone()));
        }
        tasks
    }

    async fn produce(self: Rc<Self>, mut producer: Producer, ahead: Option<Ahead>) -> Result<()> {
        loop {
            while ahead.as_ref().is_some_and(|ahead| ahead.is_far(self.next.get())) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let first = self.next.get();
            let jobs = self.bulk.min(self.end.get() - first);
            if jobs == 0 {
                return Ok(());
            }
            self.next.set(first + jobs);
            let start = Instant::now();
            if self.stop_at.is_some_and(|at| start > at) {
                self.stop();
            }
            let fault = producer.send(first, jobs).await?;
            self.latency.borrow_mut().saturating_record(micros(start.elapsed()));
            if let Some(fault) = fault {
                self.faults.borrow_mut().add(fault);
            }
            self.answered.add(jobs as usize);
        }
    }

    /// How many jobs there are.
    pub(super) fn end(&self) -> u32 {
        self.end.get()
    }

    /// Lets the jobs up to this one be enqueued too.
    pub(super) fn extend(&self, end: u32) {
        self.end.set(end);
    }

    /// No more than what was begun.
    pub(super) fn stop(&self) {
        self.end.set(self.next.get());
    }

    /// How many jobs were begun.
    pub(super) fn begun(&self) -> u32 {
        self.next.get()
    }

    /// How long the requests took.
    pub(super) fn latency(&self) -> Histogram<u64> {
        self.latency.borrow().clone()
    }

    /// What was wrong, once.
    pub(super) fn faults(&self) -> Faults {
        self.faults.take()
    }
}

/// Holds producers back while they are too far ahead of the workers.
#[derive(Clone)]
pub(super) struct Ahead {
    pub(super) most: u32,
    pub(super) workers: Rc<Shared>,
}

impl Ahead {
    fn is_far(&self, next: u32) -> bool {
        next > self.workers.acked().saturating_add(self.most)
    }
}

/// For latencies of up to a minute, in microseconds, to three digits.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
