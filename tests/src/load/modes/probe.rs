//! One job now and then, and how long each takes to arrive.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::load::check::Faults;
use crate::load::producer::{Jobs, Producer, histogram, micros};
use crate::load::target::Target;
use crate::load::worker::{self, Plan, Shared};

/// When each job was sent, and how long they took.
#[derive(Debug)]
struct Clock {
    sent: Vec<Instant>,
    latency: Histogram<u64>,
}

/// A producer and a worker of a queue.
pub(super) struct Probe {
    producer: Producer,
    clock: Rc<RefCell<Clock>>,
    pub(super) shared: Rc<Shared>,
    pub(super) workers: JoinSet<Result<()>>,
    faults: Faults,
    next: u32,
}

impl Probe {
    /// Connects both, and sends a first job that does not count: it opens what is opened late.
    pub(super) async fn connect(
        target: &Target,
        queue: &str,
        payload_bytes: usize,
        plan: Plan,
    ) -> Result<Self> {
        let clock = Rc::new(RefCell::new(Clock { sent: Vec::new(), latency: histogram()? }));
        let shared = Shared::told(on_arrival(&clock));
        let mut workers = JoinSet::new();
        worker::start(target, queue, (1, plan), &shared, &mut workers).await?;
        let mut producers = Producer::open(target, &Jobs::new(queue, payload_bytes, 1), 1, 1).await?;
        let producer = producers.pop().context("no producer")?;
        let mut probe = Self { producer, clock, shared, workers, faults: Faults::default(), next: 0 };
        probe.run(1, Duration::from_millis(1)).await?;
        Ok(probe)
    }

    /// So many jobs.
    pub(super) async fn run(&mut self, jobs: u32, every: Duration) -> Result<Histogram<u64>> {
        self.send(Some(jobs), every, &Cell::new(false)).await?;
        self.settle().await
    }

    /// Jobs for as long as something else takes.
    pub(super) async fn run_until<T>(
        &mut self,
        other: impl Future<Output = Result<T>>,
        every: Duration,
    ) -> Result<(T, Histogram<u64>)> {
        let over = Cell::new(false);
        let other = async {
            let done = other.await;
            over.set(true);
            done
        };
        let (done, ()) = tokio::try_join!(other, self.send(None, every, &over))?;
        Ok((done, self.settle().await?))
    }

    /// Sends jobs at their times. One that has to wait for the answer to an earlier one counts from its time: a stall
    /// is seen by all that it holds up.
    async fn send(&mut self, jobs: Option<u32>, every: Duration, over: &Cell<bool>) -> Result<()> {
        let mut pace = interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut free = Instant::now();
        let end = jobs.map(|jobs| self.next + jobs);
        while !over.get() && end.is_none_or(|end| self.next < end) {
            let due = pace.tick().await.into_std();
            let sent = if due < free { due } else { Instant::now() };
            self.clock.borrow_mut().sent.push(sent);
            let n = self.next;
            self.next += 1;
            if let Some(fault) = self.producer.send(n, 1).await? {
                self.faults.add(fault);
            }
            free = Instant::now();
        }
        Ok(())
    }

    /// Waits for what is on its way, and gives what was measured since the last time.
    async fn settle(&mut self) -> Result<Histogram<u64>> {
        let (shared, goal) = (Rc::clone(&self.shared), self.next);
        let arrivals = async {
            while shared.acked() < goal {
                if let Some(ended) = self.workers.try_join_next() {
                    ended??;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        shared.acked.watch("latency", arrivals).await?;
        Ok(std::mem::replace(&mut self.clock.borrow_mut().latency, histogram()?))
    }

    /// What was wrong.
    pub(super) fn faults(&mut self) -> Faults {
        let mut faults = std::mem::take(&mut self.faults);
        faults.add_all(self.shared.faults(self.next, 0));
        faults
    }
}

fn on_arrival(clock: &Rc<RefCell<Clock>>) -> Box<dyn Fn(u32, Instant)> {
    let clock = Rc::clone(clock);
    Box::new(move |n, at| {
        let mut clock = clock.borrow_mut();
        if let Some(&sent) = clock.sent.get(n as usize) {
            let micros = micros(at.saturating_duration_since(sent));
            clock.latency.saturating_record(micros);
        }
    })
}
