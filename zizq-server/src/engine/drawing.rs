//! Ready jobs of one queue that draw on budgets.
//!
//! Every draw has lanes of its own, so a job that has to wait for tokens stands in nobody's way. The lanes of a draw
//! stand at a gate: at the one it was last found not to get through, or else at any of its gates. While the gate is
//! open, the first of all jobs at it is a candidate for the next to be handed out; when it is found out that another
//! gate of it is closed, its lanes move there.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::Engine;
use super::budgets::{DrawId, Gate, Moved};
use super::id::{QueueId, Stamp};
use super::ready::{Head, Lanes};

#[derive(Debug, Default)]
pub(super) struct Drawing {
    draws: FxHashMap<DrawId, DrawLanes>,
    gates: FxHashMap<Gate, AtGate>,
    /// The first job at each open gate.
    open: BTreeSet<(u16, Stamp, Gate)>,
}

#[derive(Debug)]
struct DrawLanes {
    lanes: Lanes,
    gate: Gate,
    /// Under which order it stands at its gate; none: it has no jobs.
    listed: Option<(u16, Stamp)>,
}

#[derive(Debug, Default)]
struct AtGate {
    open: bool,
    order: BTreeSet<(u16, Stamp, DrawId)>,
}

/// Whether a gate has its first job now, or lost its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Begins,
    Ends,
    Goes,
}

impl Drawing {
    fn has(&self, draw: DrawId) -> bool {
        self.draws.contains_key(&draw)
    }

    pub(super) fn lanes_mut(&mut self, draw: DrawId) -> Option<&mut Lanes> {
        self.draws.get_mut(&draw).map(|draw| &mut draw.lanes)
    }

    /// The first job that may be able to go.
    pub(super) fn head(&self) -> Head {
        let Some((.., gate)) = self.open.first() else { return Head::None };
        let first = self.gates.get(gate).and_then(|at| at.order.first());
        first.and_then(|(.., draw)| self.draws.get(draw)).map_or(Head::None, |draw| draw.lanes.head())
    }

    fn add(&mut self, draw: DrawId, queue: QueueId, gate: Gate) {
        let lanes = Lanes::new(queue, draw, true);
        self.draws.entry(draw).or_insert(DrawLanes { lanes, gate, listed: None });
    }

    /// Brings the order up to date after the lanes of a draw have changed.
    fn relist(&mut self, draw: DrawId) -> Option<(Gate, Stands)> {
        let lanes = self.draws.get_mut(&draw)?;
        let head = lanes.lanes.head().order();
        let before = std::mem::replace(&mut lanes.listed, head);
        let gate = lanes.gate;
        (before != head).then(|| (gate, self.list(gate, draw, before, head)))
    }

    fn list(
        &mut self,
        gate: Gate,
        draw: DrawId,
        before: Option<(u16, Stamp)>,
        after: Option<(u16, Stamp)>,
    ) -> Stands {
        let at = self.gates.entry(gate).or_default();
        let first = at.order.first().copied();
        if let Some((priority, stamp)) = before {
            at.order.remove(&(priority, stamp, draw));
        }
        at.order.extend(after.map(|(priority, stamp)| (priority, stamp, draw)));
        let now_first = at.order.first().copied();
        if at.open && first != now_first {
            if let Some((priority, stamp, _)) = first {
                self.open.remove(&(priority, stamp, gate));
            }
            self.open.extend(now_first.map(|(priority, stamp, _)| (priority, stamp, gate)));
        }
        match (first, now_first) {
            (None, Some(_)) => Stands::Begins,
            (Some(_), None) => {
                self.gates.remove(&gate);
                Stands::Ends
            }
            _ => Stands::Goes,
        }
    }

    /// Opens or closes a gate.
    fn set_open(&mut self, gate: Gate, open: bool) {
        let Some(at) = self.gates.get_mut(&gate) else { return };
        at.open = open;
        if let Some((priority, stamp, _)) = at.order.first() {
            if open {
                self.open.insert((*priority, *stamp, gate));
            } else {
                self.open.remove(&(*priority, *stamp, gate));
            }
        }
    }

    /// Lets the lanes of a draw stand at another gate.
    fn move_to(&mut self, draw: DrawId, gate: Gate) -> [Option<(Gate, Stands)>; 2] {
        let Some(lanes) = self.draws.get_mut(&draw) else { return [None; 2] };
        let from = std::mem::replace(&mut lanes.gate, gate);
        let listed = lanes.listed;
        let left = self.list(from, draw, listed, None);
        let came = self.list(gate, draw, None, listed);
        [Some((from, left)), Some((gate, came))]
    }

    fn remove(&mut self, draw: DrawId) -> Option<(Gate, Stands)> {
        let DrawLanes { gate, listed, .. } = self.draws.remove(&draw)?;
        Some((gate, self.list(gate, draw, listed, None)))
    }
}

impl Engine {
    /// Makes sure that a queue has lanes for a draw.
    pub(super) fn add_draw(&mut self, id: QueueId, draw: DrawId) {
        let (gate, _) = self.budgets.gate_for(draw);
        if let Some(queue) = self.queues.get_mut(id)
            && !queue.drawing.has(draw)
        {
            queue.drawing.add(draw, id, gate);
            self.budgets.add_queue(draw, id);
        }
    }

    /// Follows a change in the lanes of a draw.
    pub(super) fn relist(&mut self, id: QueueId, draw: DrawId) {
        let change = self.queues.get_mut(id).and_then(|queue| queue.drawing.relist(draw));
        if let Some((gate, stands)) = change {
            self.note_stand(id, gate, stands);
        }
    }

    fn note_stand(&mut self, id: QueueId, gate: Gate, stands: Stands) {
        if stands != Stands::Goes {
            self.budgets.stand(gate, id, stands == Stands::Begins);
        }
        if stands == Stands::Begins {
            self.settle_budgets();
            let open = self.budgets.is_open(gate);
            if let Some(queue) = self.queues.get_mut(id) {
                queue.drawing.set_open(gate, open);
            }
        }
    }

    /// Lets jobs of a queue that are first but short of tokens wait at the gate that is closed for them, until the
    /// first one can go. Whether there were such.
    pub(super) fn pass_gates(&mut self, id: QueueId) -> bool {
        let mut moved_any = false;
        loop {
            let Some(draw) = self.queues.get(id).map(|queue| queue.head().draw()) else { return moved_any };
            if draw.is_none() {
                return moved_any;
            }
            self.budgets.touch(draw);
            self.settle_budgets();
            let (gate, false) = self.budgets.gate_for(draw) else { return moved_any };
            moved_any = true;
            let moved = self.queues.get_mut(id).map(|queue| queue.drawing.move_to(draw, gate));
            for (gate, stands) in moved.into_iter().flatten().flatten() {
                self.note_stand(id, gate, stands);
            }
            self.heads.update(&self.queues, id);
        }
    }

    /// Lets the gates follow the pools.
    pub(super) fn settle_budgets(&mut self) {
        for Moved { queue: id, gate, open } in self.budgets.settle(self.now) {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.drawing.set_open(gate, open);
            }
            if open {
                self.dispatch_later(id);
            } else {
                self.heads.update(&self.queues, id);
            }
        }
    }

    /// Drops the lanes of draws that have no jobs any more, and their cursors.
    pub(super) fn drop_draws(&mut self, draws: Vec<(DrawId, Vec<QueueId>)>) {
        for (draw, queues) in draws {
            for id in queues {
                let change = self.queues.get_mut(id).and_then(|queue| queue.drawing.remove(draw));
                if let Some((gate, stands)) = change {
                    self.note_stand(id, gate, stands);
                }
                self.heads.update(&self.queues, id);
            }
            let of_draw = self.cursors.extract_if(|(_, of, _), _| *of == draw);
            for ((queue, _, priority), _) in of_draw {
                self.batch.remove_cursor(queue, draw, priority);
            }
        }
    }
}
