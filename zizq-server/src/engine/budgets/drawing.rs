//! The ready jobs of one queue that draw on budgets.
//!
//! Each draw has its own lanes, so a job that waits for tokens blocks no other. The lanes of a draw stand at one gate:
//! the one that last held it up, or any of its gates otherwise. While the queue is awake at a gate, the first of all
//! jobs there is a candidate for the next delivery. If that gate turns out to be closed, the queue goes to sleep there;
//! if another gate of the draw is closed, the lanes move to that one.

use std::collections::BTreeSet;

use crate::hash::HashMap;

use super::{Budgets, Gate};
use crate::engine::Engine;
use crate::engine::queues::lanes::{Head, Lanes, Oldest};
use crate::job::draw::DrawId;
use crate::job::id::{QueueId, Stamp};

#[derive(Debug, Default)]
pub(in crate::engine) struct Drawing {
    draws: HashMap<DrawId, DrawLanes>,
    gates: HashMap<Gate, AtGate>,
    /// The first job at each gate at which the queue is awake.
    awake: BTreeSet<(u16, Stamp, Gate)>,
}

#[derive(Debug)]
struct DrawLanes {
    lanes: Lanes,
    gate: Gate,
    /// The order under which the draw is listed at its gate; none if it has no jobs.
    listed: Option<(u16, Stamp)>,
}

#[derive(Debug, Default)]
struct AtGate {
    awake: bool,
    order: BTreeSet<(u16, Stamp, DrawId)>,
}

/// The order of the first job at a gate, before and after a change.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Stand {
    pub gate: Gate,
    pub awake: bool,
    pub before: Option<(u16, Stamp)>,
    pub after: Option<(u16, Stamp)>,
}

impl Drawing {
    fn has(&self, draw: DrawId) -> bool {
        self.draws.contains_key(&draw)
    }

    pub(in crate::engine) fn lanes_mut(&mut self, draw: DrawId) -> Option<&mut Lanes> {
        self.draws.get_mut(&draw).map(|draw| &mut draw.lanes)
    }

    /// Returns the oldest ready job.
    pub(in crate::engine) fn oldest(&self) -> Oldest {
        self.draws.values().map(|draw| draw.lanes.oldest()).fold(Oldest::None, Oldest::or)
    }

    /// Returns the first job that may be able to go.
    pub(in crate::engine) fn head(&self) -> Head {
        let Some((.., gate)) = self.awake.first() else { return Head::None };
        let first = self.gates.get(gate).and_then(|at| at.order.first());
        first.and_then(|(.., draw)| self.draws.get(draw)).map_or(Head::None, |draw| draw.lanes.head())
    }

    fn add(&mut self, draw: DrawId, queue: QueueId, gate: Gate) {
        let lanes = Lanes::new(queue, draw, true);
        self.draws.entry(draw).or_insert(DrawLanes { lanes, gate, listed: None });
    }

    /// Returns the gates at which the queue sleeps, with the order of its first job at each.
    pub(in crate::engine) fn sleepers(&self) -> impl Iterator<Item = (Gate, (u16, Stamp))> {
        self.gates.iter().filter(|(_, at)| !at.awake).filter_map(|(gate, at)| Some((*gate, at.first()?)))
    }

    /// Returns the gates at which the queue sleeps although they are open.
    pub(in crate::engine) fn sleeps_at_open(&self, budgets: &Budgets) -> Vec<Gate> {
        let sleeps_at = |gate: &Gate| self.gates.get(gate).is_some_and(|at| !at.awake);
        if self.gates.len() < budgets.opened().len() {
            let open = self.gates.keys().copied().filter(|gate| budgets.is_open(*gate));
            open.filter(sleeps_at).collect()
        } else {
            budgets.opened().filter(sleeps_at).collect()
        }
    }

    /// Updates the order after the lanes of a draw have changed.
    fn relist(&mut self, draw: DrawId) -> Option<Stand> {
        let lanes = self.draws.get_mut(&draw)?;
        let head = lanes.lanes.head().order();
        let before = std::mem::replace(&mut lanes.listed, head);
        let gate = lanes.gate;
        (before != head).then(|| self.list(gate, draw, before, head))
    }

    fn list(
        &mut self,
        gate: Gate,
        draw: DrawId,
        before: Option<(u16, Stamp)>,
        after: Option<(u16, Stamp)>,
    ) -> Stand {
        let at = self.gates.entry(gate).or_default();
        let first = at.first();
        if let Some((priority, stamp)) = before {
            at.order.remove(&(priority, stamp, draw));
        }
        at.order.extend(after.map(|(priority, stamp)| (priority, stamp, draw)));
        let now_first = at.first();
        let awake = at.awake;
        if now_first.is_none() {
            self.gates.remove(&gate);
        }
        if awake && first != now_first {
            if let Some((priority, stamp)) = first {
                self.awake.remove(&(priority, stamp, gate));
            }
            self.awake.extend(now_first.map(|(priority, stamp)| (priority, stamp, gate)));
        }
        Stand { gate, awake, before: first, after: now_first }
    }

    /// Wakes the queue at a gate, or puts it to sleep there. Returns the order of the first job there if this is a
    /// change.
    pub(in crate::engine) fn set_awake(&mut self, gate: Gate, awake: bool) -> Option<(u16, Stamp)> {
        let at = self.gates.get_mut(&gate).filter(|at| at.awake != awake)?;
        at.awake = awake;
        let (priority, stamp) = at.first()?;
        if awake {
            self.awake.insert((priority, stamp, gate));
        } else {
            self.awake.remove(&(priority, stamp, gate));
        }
        Some((priority, stamp))
    }

    /// Moves the lanes of a draw to another gate.
    pub(in crate::engine) fn move_to(&mut self, draw: DrawId, gate: Gate) -> [Option<Stand>; 2] {
        let Some(lanes) = self.draws.get_mut(&draw).filter(|lanes| lanes.gate != gate) else {
            return [None; 2];
        };
        let from = std::mem::replace(&mut lanes.gate, gate);
        let listed = lanes.listed;
        let left = self.list(from, draw, listed, None);
        let came = self.list(gate, draw, None, listed);
        [Some(left), Some(came)]
    }

    fn remove(&mut self, draw: DrawId) -> Option<Stand> {
        let DrawLanes { gate, listed, .. } = self.draws.remove(&draw)?;
        Some(self.list(gate, draw, listed, None))
    }
}

impl AtGate {
    fn first(&self) -> Option<(u16, Stamp)> {
        self.order.first().map(|(priority, stamp, _)| (*priority, *stamp))
    }
}

impl Engine {
    /// Makes sure that a queue has lanes for a draw.
    pub(in crate::engine) fn add_draw(&mut self, id: QueueId, draw: DrawId) {
        let (gate, _) = self.budgets.gate_for(draw);
        if let Some(queue) = self.queues.get_mut(id)
            && !queue.drawing.has(draw)
        {
            queue.drawing.add(draw, id, gate);
            self.budgets.add_queue(draw, id);
        }
    }

    /// Follows a change in the lanes of a draw.
    pub(in crate::engine) fn relist(&mut self, id: QueueId, draw: DrawId) {
        let change = self.queues.get_mut(id).and_then(|queue| queue.drawing.relist(draw));
        if let Some(stand) = change {
            self.note_stand(id, stand);
        }
    }

    /// Drops the lanes and cursors of draws that no longer have jobs.
    pub(in crate::engine) fn drop_draws(&mut self, draws: Vec<(DrawId, Vec<QueueId>)>) {
        for (draw, queues) in draws {
            for id in queues {
                let change = self.queues.get_mut(id).and_then(|queue| queue.drawing.remove(draw));
                if let Some(stand) = change {
                    self.note_stand(id, stand);
                }
                self.dispatcher.follow_head(&self.queues, id);
            }
            self.cursors.drop_where(&mut self.batch, |(_, of, _)| *of == draw);
        }
    }
}
