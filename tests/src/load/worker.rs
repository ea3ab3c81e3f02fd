//! Workers, and what they share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::args::{Ack, Format};
use super::check::{Deliveries, Faults};
use super::peers;
use super::take;
use super::target::{Protocol, Target};
use super::watchdog::Progress;

/// How a worker works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) format: Format,
    /// Jobs in flight.
    pub(super) prefetch: u32,
    pub(super) ack: Ack,
    pub(super) ack_connections: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { format: Format::Ndjson, prefetch: 256, ack: Ack::Bulk, ack_connections: 1 }
    }
}

/// Told of every arrival.
type OnArrival = Box<dyn Fn(u32, Instant)>;

/// What the workers of a round share.
#[derive(Default)]
pub(super) struct Shared {
    deliveries: RefCell<Deliveries>,
    faults: RefCell<Faults>,
    on_arrival: Option<OnArrival>,
    /// When the first job arrived and the last was acked.
    first: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
    /// Jobs whose ack was answered.
    pub(super) acked: Progress,
    /// How many to ack, once that is known.
    goal: Cell<Option<u32>>,
    finished: Notify,
    close_at_goal: bool,
    closing: Cell<bool>,
    close: Notify,
}

impl Shared {
    /// For so many jobs.
    pub(super) fn new(jobs: u32) -> Rc<Self> {
        Rc::new(Self { goal: Cell::new(Some(jobs)), ..Self::default() })
    }

    /// For so many jobs, after which workers take no more and ack what they have.
    pub(super) fn closing_after(jobs: u32) -> Rc<Self> {
        Rc::new(Self { goal: Cell::new(Some(jobs)), close_at_goal: true, ..Self::default() })
    }

    /// For jobs of whose arrival somebody wants to hear.
    pub(super) fn told(on_arrival: OnArrival) -> Rc<Self> {
        Rc::new(Self { on_arrival: Some(on_arrival), ..Self::default() })
    }

    /// For as many jobs as [`Self::set_goal`] will say.
    pub(super) fn open_ended() -> Rc<Self> {
        Rc::default()
    }

    /// Says how many jobs there are to ack.
    pub(super) fn set_goal(&self, jobs: u32) {
        self.goal.set(Some(jobs));
        self.look_at_goal();
    }

    /// A job arrived.
    pub(super) fn arrive(&self, n: u32) {
        if self.first.get().is_none() || self.on_arrival.is_some() {
            let now = Instant::now();
            self.first.set(self.first.get().or(Some(now)));
            if let Some(told) = &self.on_arrival {
                told(n, now);
            }
        }
        self.deliveries.borrow_mut().note(n);
    }

    /// Something is wrong.
    pub(super) fn fault(&self, fault: String) {
        self.faults.borrow_mut().add(fault);
    }

    /// The acks of some jobs were answered.
    pub(super) fn answered(&self, jobs: usize) {
        self.acked.add(jobs);
        self.look_at_goal();
    }

    fn look_at_goal(&self) {
        if self.goal.get().is_some_and(|goal| self.acked() >= goal) {
            if self.last.get().is_none() {
                self.last.set(Some(Instant::now()));
                if self.close_at_goal {
                    self.close(true);
                }
            }
            self.finished.notify_one();
        }
    }

    /// Waits for the last ack, or for the first worker that fails.
    pub(super) async fn finished(&self, workers: &mut JoinSet<Result<()>>) -> Result<()> {
        tokio::select! {
            () = self.finished.notified() => Ok(()),
            ended = join(workers) => ended,
        }
    }

    /// Lets workers take no more, ack what they have, and end; `false` lets later ones work again.
    pub(super) fn close(&self, close: bool) {
        self.closing.set(close);
        self.close.notify_waiters();
    }

    /// Waits until workers are to end.
    pub(super) async fn closed(&self) {
        let close = self.close.notified();
        if !self.closing.get() {
            close.await;
        }
    }

    /// When the first job arrived and the last was acked.
    pub(super) fn timing(&self) -> Option<(Instant, Instant)> {
        self.first.get().zip(self.last.get())
    }

    /// How many acks were answered.
    pub(super) fn acked(&self) -> u32 {
        self.acked.get()
    }

    /// How many different jobs arrived.
    pub(super) fn arrived(&self) -> u32 {
        self.deliveries.borrow().distinct()
    }

    /// Everything that is wrong where so many jobs were enqueued, and so many of them may have been left.
    pub(super) fn faults(&self, enqueued: u32, left: u32) -> Faults {
        let mut faults = self.faults.take();
        self.deliveries.borrow().faults(enqueued, left, &mut faults);
        faults
    }
}

/// Waits for all of them, or for the first that fails.
pub(super) async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Connects workers and lets them work until the set is dropped.
pub(super) async fn start(
    target: &Target,
    queue: &str,
    (workers, plan): (u32, Plan),
    shared: &Rc<Shared>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    for _ in 0..workers {
        match target.protocol {
            Protocol::Peer(dialect) => {
                let wire = target.wire().await?;
                tasks.spawn_local(peers::work(wire, dialect, queue.to_owned(), plan, Rc::clone(shared)));
            }
            _ => take::start(target, queue, (1, plan), shared, tasks).await?,
        }
    }
    Ok(())
}
