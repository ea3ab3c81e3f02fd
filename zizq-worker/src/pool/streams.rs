//! The streams of a worker, and how many jobs each may hold (its credit).

use std::collections::{HashMap, HashSet};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::route::{RouteName, Stream};
use crate::shutdown::Phase;
use crate::stream::{Source, Subscription};

/// Every stream.
#[derive(Debug)]
pub(super) struct Streams {
    source: Source,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<()>,
    /// By queues, comma-separated.
    open: HashMap<String, Open>,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) routes: Vec<RouteName>,
    /// The most jobs it may hold.
    pub(super) slots: u16,
    credit: watch::Sender<u16>,
}

impl Streams {
    pub(super) fn new(source: Source) -> Self {
        let phase = watch::Sender::new(Phase::Work);
        Self { source, phase, tasks: JoinSet::new(), open: HashMap::new() }
    }

    /// Opens new streams, closes those that are no longer wanted, and leaves the others as they are.
    pub(super) fn set(&mut self, wanted: Vec<Stream>, total: u16) {
        let mut before = std::mem::take(&mut self.open);
        let stats = self.source.stats.clone();
        // IMPORTANT: locked to the end. A stream that is being started may open before it is recorded here.
        let mut board = stats.board();
        let states = std::mem::take(&mut board.streams);
        for Stream { queues, routes, slots } in wanted {
            let queues = queues.iter().map(|queue| queue.as_str()).collect::<Vec<_>>().join(",");
            let slots = slots.min(total);
            let known = before.remove(&queues).map(|open| Open { routes: routes.clone(), slots, ..open });
            let is_open = known.is_some() && states.get(&queues).is_some_and(|&is_open| is_open);
            let open = known.unwrap_or_else(|| {
                let (credit, follow) = watch::channel(slots);
                let stream = Subscription::new(self.source.clone(), queues.clone(), follow);
                self.tasks.spawn(stream.run(self.phase.subscribe()));
                Open { routes, slots, credit }
            });
            board.streams.insert(queues.clone(), is_open);
            self.open.insert(queues, open);
        }
    }

    /// Closes the streams that serve only these routes.
    pub(super) fn give_up(&mut self, routes: &HashSet<RouteName>) {
        self.open.retain(|queues, open| {
            let is_served = !open.routes.iter().all(|route| routes.contains(route));
            if !is_served {
                self.source.stats.board().streams.remove(queues);
            }
            is_served
        });
    }

    /// Whether no stream is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Tells the streams the phase of the worker.
    pub(super) fn follow(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Whether any stream may hold a job now.
    pub(super) fn are_wanted(&self) -> bool {
        self.open.values().any(|open| *open.credit.borrow() > 0)
    }

    /// All queues, comma-separated.
    pub(super) fn queues(&self) -> String {
        self.open.keys().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Waits for the end of a stream. `None`: no stream is left.
    pub(super) async fn next_end(&mut self) -> Option<Result<(), JoinError>> {
        self.tasks.join_next().await
    }

    pub(super) fn are_closed(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Open {
    /// Whether it may hold fewer jobs than its slots.
    pub(super) fn is_reduced(&self) -> bool {
        *self.credit.borrow() < self.slots
    }

    /// Sets how many jobs it may hold. This takes a new connection, which resumes where the old one stopped.
    pub(super) fn set_credit(&self, credit: u16) {
        self.credit.send_if_modified(|now| std::mem::replace(now, credit) != credit);
    }
}
