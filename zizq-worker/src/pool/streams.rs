//! The streams of a worker, and how many jobs each may hold.

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
    /// By its queues, as a comma list.
    open: HashMap<String, Open>,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) routes: Vec<RouteName>,
    /// How many jobs it may hold when nothing is in the way.
    pub(super) slots: u16,
    credit: watch::Sender<u16>,
}

impl Streams {
    pub(super) fn new(source: Source) -> Self {
        let phase = watch::Sender::new(Phase::Work);
        Self { source, phase, tasks: JoinSet::new(), open: HashMap::new() }
    }

    /// Opens what is new, closes what is not wanted any more, and leaves the others as they are.
    pub(super) fn set(&mut self, wanted: Vec<Stream>, total: u16) {
        let mut before = std::mem::take(&mut self.open);
        let stats = self.source.stats.clone();
        // Held to the end: a stream that is just being started may be open before it is written down here.
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

    /// Closes those that only serve these routes.
    pub(super) fn give_up(&mut self, routes: &HashSet<RouteName>) {
        self.open.retain(|queues, open| {
            let is_served = !open.routes.iter().all(|route| routes.contains(route));
            if !is_served {
                self.source.stats.board().streams.remove(queues);
            }
            is_served
        });
    }

    /// Whether there is none, or will soon be none.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Tells them how far the worker is.
    pub(super) fn follow(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Whether any of them may hold a job now.
    pub(super) fn are_wanted(&self) -> bool {
        self.open.values().any(|open| *open.credit.borrow() > 0)
    }

    /// Every queue, as a comma list.
    pub(super) fn queues(&self) -> String {
        self.open.keys().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// The end of a stream; none where there is no stream left.
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
    /// Whether it may hold fewer jobs than it could.
    pub(super) fn is_reduced(&self) -> bool {
        *self.credit.borrow() < self.slots
    }

    /// Lets it hold so many jobs. That takes a new connection, which goes on where the old one was.
    pub(super) fn set_credit(&self, credit: u16) {
        self.credit.send_if_modified(|now| std::mem::replace(now, credit) != credit);
    }
}
