//! Workers over the contract: streams, and connections for their acks.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::args::{Ack, Format};
use super::frames::{self, Delivery};
use super::http::{Connection, Request, Stream};
use super::target::Target;
use super::worker::{Plan, Shared};

/// Jobs that were delivered and wait for their ack.
#[derive(Debug, Default)]
struct Unacked {
    jobs: RefCell<Vec<Delivery>>,
    more: Notify,
}

/// Takes from every queue.
pub(super) const ALL: &str = "";

/// Connects streams that share their connections for acks, and lets them work until the set is dropped.
pub(super) async fn start(
    target: &Target,
    queue: &str,
    (streams, plan): (u32, Plan),
    shared: &Rc<Shared>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let unacked = Rc::new(Unacked::default());
    for _ in 0..plan.ack_connections {
        let acks = Acks {
            connection: target.connect().await?,
            format: plan.format,
            unacked: Rc::clone(&unacked),
            shared: Rc::clone(shared),
        };
        match plan.ack {
            Ack::Bulk => tasks.spawn_local(acks.bulk()),
            Ack::Single => tasks.spawn_local(acks.single()),
        };
    }
    for _ in 0..streams {
        let queues = if queue == ALL { String::new() } else { format!("queue={queue}&") };
        let stream = open(target, &queues, plan).await?;
        tasks.spawn_local(take(stream, plan.format, Rc::clone(&unacked), Rc::clone(shared)));
    }
    Ok(())
}

/// Opens a stream. `queues` is empty or ends in `&`.
pub(super) async fn open(target: &Target, queues: &str, plan: Plan) -> Result<Stream> {
    let path = format!("/jobs/take?{queues}prefetch={}", plan.prefetch);
    let accept = match plan.format {
        Format::Ndjson => "application/x-ndjson",
        Format::Msgpack => "application/vnd.zizq.msgpack-stream",
        Format::Sse => "text/event-stream",
    };
    target.connect().await?.open_stream(&Request::get(&path, &[("accept", accept)])).await
}

async fn take(mut stream: Stream, format: Format, unacked: Rc<Unacked>, shared: Rc<Shared>) -> Result<()> {
    loop {
        let read = stream.read(|bytes| {
            let mut jobs = unacked.jobs.borrow_mut();
            let read = frames::read(format, bytes, |job| {
                shared.arrive(job.n);
                jobs.push(job);
            })?;
            if !jobs.is_empty() {
                unacked.more.notify_one();
            }
            Ok(read)
        });
        tokio::select! {
            biased;
            () = shared.closed() => return Ok(()),
            read = read => read?,
        }
    }
}

/// One connection for acks.
struct Acks {
    connection: Connection,
    format: Format,
    unacked: Rc<Unacked>,
    shared: Rc<Shared>,
}

impl Acks {
    /// The most jobs in one request.
    const MOST: usize = 1_000;

    /// Acks whatever has gathered since the last answer.
    async fn bulk(mut self) -> Result<()> {
        let headers = [("content-type", self.format.body().media_type())];
        let (mut jobs, mut body) = (Vec::new(), Vec::new());
        loop {
            {
                let mut unacked = self.unacked.jobs.borrow_mut();
                let most = unacked.len().min(Self::MOST);
                jobs.extend(unacked.drain(..most));
            }
            if jobs.is_empty() {
                tokio::select! {
                    biased;
                    () = self.shared.closed() => return Ok(()),
                    () = self.unacked.more.notified() => continue,
                }
            }
            body.clear();
            self.format.body().write_successes(&mut body, &jobs);
            self.send(jobs.len(), &Request::post("/jobs/success", &headers, &body)).await?;
            jobs.clear();
        }
    }

    /// Acks one job after the other.
    async fn single(mut self) -> Result<()> {
        loop {
            let job = self.unacked.jobs.borrow_mut().pop();
            let Some(job) = job else {
                tokio::select! {
                    biased;
                    () = self.shared.closed() => return Ok(()),
                    () = self.unacked.more.notified() => continue,
                }
            };
            if !self.unacked.jobs.borrow().is_empty() {
                // There is something for the other connections too.
                self.unacked.more.notify_one();
            }
            let path = format!("/jobs/{}/success", String::from_utf8_lossy(&job.id));
            let lease = job.lease.as_ref().map(|lease| String::from_utf8_lossy(lease));
            let lease = lease.as_ref().map(|lease| ("zizq-lease", lease.as_ref()));
            self.send(1, &Request::post(&path, lease.as_slice(), b"")).await?;
        }
    }

    async fn send(&mut self, jobs: usize, request: &Request<'_>) -> Result<()> {
        let answer = self.connection.exchange(request).await?;
        if answer.status != 204 {
            self.shared.fault(format!("an ack of {jobs} jobs was answered with {}", answer.describe()));
        }
        self.shared.answered(jobs);
        Ok(())
    }
}
