//! A worker: one stream, and connections for its acks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::args::{Ack, Format};
use super::check::{Deliveries, Faults};
use super::frames::{self, Delivery};
use super::http::{Answer, Connection, Stream};
use super::requests::{get, post};
use super::target::Target;
use super::watchdog::Progress;

/// How a worker works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) format: Format,
    pub(super) prefetch: u32,
    pub(super) ack: Ack,
    pub(super) ack_connections: u32,
}

/// What the workers of a round share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deliveries: RefCell<Deliveries>,
    pub(super) faults: RefCell<Faults>,
    /// When each job was sent and how long it took to arrive; only the mode `latency` asks.
    pub(super) arrived: Option<Arrived>,
    pub(super) timing: RefCell<Timing>,
    /// Jobs whose ack was answered.
    pub(super) acked: Progress,
    pub(super) jobs: u32,
    /// The last job was acked.
    pub(super) finished: Notify,
}

/// Told of every arrival.
pub(super) struct Arrived(pub(super) Box<dyn Fn(u32, Instant)>);

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arrived")
    }
}

/// When the first job arrived and the last was acked.
#[derive(Debug, Default)]
pub(super) struct Timing {
    pub(super) first: Option<Instant>,
    pub(super) last: Option<Instant>,
}

impl Shared {
    pub(super) fn new(jobs: u32, arrived: Option<Arrived>) -> Rc<Self> {
        Rc::new(Self {
            deliveries: RefCell::new(Deliveries::new(jobs)),
            faults: RefCell::default(),
            arrived,
            timing: RefCell::default(),
            acked: Progress::default(),
            jobs,
            finished: Notify::new(),
        })
    }

    fn arrive(&self, job: Delivery) {
        if let Some(Arrived(arrived)) = &self.arrived {
            arrived(job.n, Instant::now());
        }
        self.deliveries.borrow_mut().note(job.n);
    }

    fn answered(&self, jobs: usize, answer: &Answer<'_>) {
        if answer.status != 204 {
            let fault = format!("an ack of {jobs} jobs was answered with {}", answer.describe());
            self.faults.borrow_mut().add(fault);
        }
        self.acked.add(jobs as u64);
        if self.acked.get() >= u64::from(self.jobs) {
            self.timing.borrow_mut().last.get_or_insert_with(Instant::now);
            self.finished.notify_one();
        }
    }

    /// Everything that is wrong, in sentences.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.take();
        self.deliveries.borrow().faults(&mut faults);
        faults.into_sentences()
    }
}

/// Jobs that were delivered to one worker and wait for their ack.
#[derive(Debug, Default)]
struct Unacked {
    jobs: RefCell<Vec<Delivery>>,
    more: Notify,
}

/// Connects a worker and lets it work until the set is dropped.
pub(super) async fn start(
    target: &Target,
    plan: Plan,
    shared: &Rc<Shared>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let unacked = Rc::new(Unacked::default());
    for _ in 0..plan.ack_connections {
        let acks = Acks {
            connection: target.connect().await?,
            host: target.address.clone(),
            unacked: Rc::clone(&unacked),
            shared: Rc::clone(shared),
        };
        match plan.ack {
            Ack::Bulk => tasks.spawn_local(acks.bulk()),
            Ack::Single => tasks.spawn_local(acks.single()),
        };
    }
    let path = format!("/jobs/take?queue={}&prefetch={}", target.queue, plan.prefetch);
    let accept = match plan.format {
        Format::Ndjson => "application/x-ndjson",
        Format::Msgpack => "application/vnd.zizq.msgpack-stream",
        Format::Sse => "text/event-stream",
    };
    let stream = target.connect().await?.open_stream(&get(&target.address, &path, accept)).await?;
    tasks.spawn_local(take(stream, plan.format, unacked, Rc::clone(shared)));
    Ok(())
}

async fn take(mut stream: Stream, format: Format, unacked: Rc<Unacked>, shared: Rc<Shared>) -> Result<()> {
    loop {
        stream
            .read(|bytes| {
                let mut jobs = unacked.jobs.borrow_mut();
                let read = frames::read(format, bytes, |job| {
                    shared.arrive(job);
                    jobs.push(job);
                })?;
                if !jobs.is_empty() {
                    shared.timing.borrow_mut().first.get_or_insert_with(Instant::now);
                    unacked.more.notify_one();
                }
                Ok(read)
            })
            .await?;
    }
}

/// One connection for acks.
struct Acks {
    connection: Connection,
    host: String,
    unacked: Rc<Unacked>,
    shared: Rc<Shared>,
}

impl Acks {
    /// The most jobs in one request.
    const MOST: usize = 1_000;

    /// Acks whatever has gathered since the last answer.
    async fn bulk(mut self) -> Result<()> {
        let (mut jobs, mut body) = (Vec::new(), Vec::new());
        loop {
            {
                let mut unacked = self.unacked.jobs.borrow_mut();
                let most = unacked.len().min(Self::MOST);
                jobs.extend(unacked.drain(..most));
            }
            if jobs.is_empty() {
                self.unacked.more.notified().await;
                continue;
            }
            write_successes(&mut body, &jobs);
            let mut request = post(&self.host, "/jobs/success", "", body.len());
            request.append(&mut body);
            let answer = self.connection.exchange(&request).await?;
            self.shared.answered(jobs.len(), &answer);
            jobs.clear();
        }
    }

    /// Acks one job after the other.
    async fn single(mut self) -> Result<()> {
        loop {
            let job = self.unacked.jobs.borrow_mut().pop();
            let Some(job) = job else {
                self.unacked.more.notified().await;
                continue;
            };
            if !self.unacked.jobs.borrow().is_empty() {
                // There is something for the other connections too.
                self.unacked.more.notify_one();
            }
            let path = format!("/jobs/{}/success", String::from_utf8_lossy(&job.id));
            let lease = job.lease.map(|lease| format!("zizq-lease: {}\r\n", String::from_utf8_lossy(&lease)));
            let request = post(&self.host, &path, &lease.unwrap_or_default(), 0);
            let answer = self.connection.exchange(&request).await?;
            self.shared.answered(1, &answer);
        }
    }
}

/// The body of `POST /jobs/success`: with leases where the server gave any, which it does for all or for none.
fn write_successes(body: &mut Vec<u8>, jobs: &[Delivery]) {
    let leases = jobs.first().is_some_and(|job| job.lease.is_some());
    body.extend_from_slice(if leases { b"{\"jobs\":[" } else { b"{\"ids\":[" });
    for job in jobs {
        let (before, after): (&[u8], &[u8]) = if leases { (b"{\"id\":\"", b"\"") } else { (b"\"", b"\",") };
        body.extend_from_slice(before);
        body.extend_from_slice(&job.id);
        body.extend_from_slice(after);
        if let Some(lease) = &job.lease {
            body.extend_from_slice(b",\"lease\":\"");
            body.extend_from_slice(lease);
            body.extend_from_slice(b"\"},");
        }
    }
    body.pop();
    body.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_are_json() {
        let job = |lease| Delivery { n: 0, id: [b'1'; 25], lease };
        let text = |lease| {
            let mut body = Vec::new();
            write_successes(&mut body, &[job(lease), job(lease)]);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()
        };
        let (id, lease) = ("1".repeat(25), "2".repeat(16));
        assert_eq!(text(None), serde_json::json!({"ids": [id, id]}));
        let one = serde_json::json!({"id": id, "lease": lease});
        assert_eq!(text(Some([b'2'; 16])), serde_json::json!({"jobs": [one, one]}));
    }
}
