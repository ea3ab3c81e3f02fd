//! One job now and then, and how long each takes to arrive.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

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

/// Producers and a worker of a queue.
pub(super) struct Probe {
    producers: Vec<Producer>,
    clock: Rc<RefCell<Clock>>,
    pub(super) shared: Rc<Shared>,
    pub(super) workers: JoinSet<Result<()>>,
    faults: Faults,
}

impl Probe {
    /// Connects them, and sends first jobs that do not count: they open what is opened late. With more than one
    /// connection, a request that takes long does not hold up the next.
    pub(super) async fn connect(
        target: &Target,
        queue: &str,
        payload_bytes: usize,
        (connections, plan): (u32, Plan),
    ) -> Result<Self> {
        let clock = Rc::new(RefCell::new(Clock { sent: Vec::new(), latency: histogram()? }));
        let shared = Shared::told(on_arrival(&clock));
        let mut workers = JoinSet::new();
        worker::start(target, queue, (1, plan), &shared, &mut workers).await?;
        let producers = Producer::open(target, &Jobs::new(queue, payload_bytes, 1), connections, 1).await?;
        let mut probe = Self { producers, clock, shared, workers, faults: Faults::default() };
        probe.run(connections, Duration::from_millis(1)).await?;
        Ok(probe)
    }

    /// So many jobs.
    pub(super) async fn run(&mut self, jobs: u32, every: Duration) -> Result<Histogram<u64>> {
        let end = self.sent() + jobs;
        self.send(Rc::new(Pace::new(&self.clock, every, Some(end)))).await?;
        self.settle().await
    }

    /// Jobs for as long as something else takes.
    pub(super) async fn run_until<T>(
        &mut self,
        other: impl Future<Output = Result<T>>,
        every: Duration,
    ) -> Result<(T, Histogram<u64>)> {
        let pace = Rc::new(Pace::new(&self.clock, every, None));
        let other = async {
            let done = other.await;
            pace.over.set(true);
            done
        };
        let (done, ()) = tokio::try_join!(other, self.send(Rc::clone(&pace)))?;
        Ok((done, self.settle().await?))
    }

    async fn send(&mut self, pace: Rc<Pace>) -> Result<()> {
        let mut tasks = JoinSet::new();
        for producer in self.producers.drain(..) {
            tasks.spawn_local(Rc::clone(&pace).produce(producer));
        }
        while let Some(ended) = tasks.join_next().await {
            self.producers.push(ended??);
        }
        self.faults.add_all(pace.faults.take());
        Ok(())
    }

    fn sent(&self) -> u32 {
        u32::try_from(self.clock.borrow().sent.len()).unwrap_or(u32::MAX)
    }

    /// Waits for what is on its way, and gives what was measured since the last time.
    async fn settle(&mut self) -> Result<Histogram<u64>> {
        let (shared, goal) = (Rc::clone(&self.shared), self.sent());
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
        faults.add_all(self.shared.faults(self.sent(), 0));
        faults
    }
}

/// When jobs are sent.
struct Pace {
    /// Whoever is free waits for the next time.
    times: Mutex<Interval>,
    clock: Rc<RefCell<Clock>>,
    end: Option<u32>,
    over: Cell<bool>,
    faults: RefCell<Faults>,
}

impl Pace {
    fn new(clock: &Rc<RefCell<Clock>>, every: Duration, end: Option<u32>) -> Self {
        let mut times = interval(every);
        times.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (clock, over, faults) = (Rc::clone(clock), Cell::new(false), RefCell::default());
        Self { times: Mutex::new(times), clock, end, over, faults }
    }

    /// Sends jobs at their times. One for which nobody was free at its time counts from then: a stall is seen by all
    /// that it holds up.
    async fn produce(self: Rc<Self>, mut producer: Producer) -> Result<Producer> {
        loop {
            let free = Instant::now();
            let mut times = self.times.lock().await;
            let n = u32::try_from(self.clock.borrow().sent.len())?;
            if self.over.get() || self.end.is_some_and(|end| n >= end) {
                return Ok(producer);
            }
            let due = times.tick().await.into_std();
            self.clock.borrow_mut().sent.push(if due < free { due } else { Instant::now() });
            drop(times);
            if let Some(fault) = producer.send(n, 1).await? {
                self.faults.borrow_mut().add(fault);
            }
        }
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
