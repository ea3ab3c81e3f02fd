//! The engine, its store, its workers and the clock, and the model beside them.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use protocol::id::JobId;
use protocol::lease::LeaseToken;

use super::act::Act;
use super::act::BudgetAct;
use super::act::CronAct;
use super::batches::Folding;
use super::disk::Disk;
use super::heard::Ear;
use super::ledger::{Ledger, leftovers};
use super::mirror::Mirror;
use super::model::Model;
use super::profile::{Profile, chance, one};
use super::streams::State;
use super::watchers::Told;
use crate::clock::Time;
use crate::engine::command::crons::Firing;
use crate::engine::command::crons::Ran;
use crate::engine::command::once::Once;
use crate::engine::command::streams::{Link, StreamKind};
use crate::engine::command::{Reject, Reply};
use crate::engine::outbox::{Item, Outbox};
use crate::run::turn::{Answer, Core};
use crate::store::Store;
use crate::store::memory::MemoryStore;

/// A worker's end of a stream.
#[derive(Debug)]
pub(super) struct Connection {
    pub link: Link,
    pub id: u128,
    pub kind: StreamKind,
    pub rests: bool,
    outbox: Arc<Outbox>,
    unread: Vec<Item>,
}

impl Connection {
    /// Returns the jobs it was sent and has not read.
    pub(super) fn unread_jobs(&self) -> Vec<JobId> {
        let job = |item: &Item| if let Item::Job(job) = item { Some(job.job.id) } else { None };
        self.unread.iter().filter_map(job).collect()
    }

    /// Returns the jobs it was told to stop, in messages that it has not read.
    pub(super) fn unread_cancels(&self) -> Vec<JobId> {
        let cancel = |item: &Item| if let Item::Cancel { id, .. } = item { Some(*id) } else { None };
        self.unread.iter().filter_map(cancel).collect()
    }
}

pub(super) struct World {
    pub profile: Profile,
    pub(super) core: Core<Disk>,
    pub(super) ear: Ear,
    mirror: Mirror,
    pub model: Model,
    /// What the wall clock says.
    pub wall: u64,
    /// What the clock that never steps says.
    pub up: u64,
    pub connections: Vec<Connection>,
    /// Links of connections that have ended.
    pub old_links: Vec<Link>,
    /// Deliveries that were made.
    pub past: Vec<(JobId, LeaseToken)>,
    /// Some of the streams that can be resumed, and the last event that each worker has seen.
    pub event_streams: Vec<(u128, u64)>,
    /// Tokens up to this one are from before this process.
    pub tokens_before: LeaseToken,
    /// What the disk has for sure.
    pub(super) synced: Model,
    /// What the disk may have as well: the store and the model as they were after each turn since then.
    pub(super) unsynced: Vec<(MemoryStore, Model)>,
    pub(super) drained: Vec<Link>,
    /// Cron entries that have to be folded.
    pub firings: VecDeque<Firing>,
    /// What was folded lately, or should have been.
    pub foldings: Vec<Folding>,
    pub serial: u64,
    /// Calls that were made with a key.
    pub onces: Vec<Once>,
    /// What the waiters were told.
    pub told: Told,
    turns: usize,
    /// The number of turns between checks of the whole store.
    pub check_every: usize,
    /// The log of what happened, if it is wanted.
    pub log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Result<Self> {
        Self::with(Profile::of(seed), seed)
    }

    pub(super) fn with(profile: Profile, seed: u64) -> Result<Self> {
        let wall = 1_900_000_000_000;
        let time = Time { wall, up: 1_000_000_000 };
        let model = Model::new(profile.settings, time);
        let core = Core::open(Disk::default(), profile.settings, time, seed)?;
        Ok(Self {
            profile,
            ear: Ear::new(core.events().listen(), &model),
            mirror: Mirror::default(),
            core,
            synced: model.clone(),
            unsynced: Vec::new(),
            model,
            wall,
            up: time.up,
            connections: Vec::new(),
            old_links: Vec::new(),
            past: Vec::new(),
            event_streams: Vec::new(),
            tokens_before: LeaseToken::from_u64(wall << 20),
            drained: Vec::new(),
            firings: VecDeque::new(),
            foldings: Vec::new(),
            serial: 0,
            onces: Vec::new(),
            told: Told::default(),
            turns: 0,
            check_every: 16,
            log: None,
        })
    }

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(what());
        }
    }

    /// Takes one step of a history.
    pub(super) fn step(&mut self, seed: u64) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        self.pass_time(rng);
        self.read(rng);
        if !chance(rng, self.profile.crashes) {
            let acts = self.acts(rng);
            self.turn(acts)?;
            return if self.profile.power { self.after_turn(rng) } else { Ok(()) };
        }
        match rng.u32(..10) {
            0..3 => self.crash(rng),
            3..7 => self.fail_within(rng),
            7 | 8 if self.profile.power => self.lose_power(rng),
            _ => self.stop(rng),
        }
    }

    pub(super) const fn time(&self) -> Time {
        Time { wall: self.wall, up: self.up }
    }

    pub(super) const fn pass(&mut self, ms: u64) {
        self.wall += ms;
        self.up += ms;
    }

    fn pass_time(&mut self, rng: &mut Rng) {
        let due_in = self.core.engine().due_in(self.time()).unwrap_or(0).min(600_000);
        let (passes, is_set) = match rng.u32(..100) {
            0..40 => (0, 0),
            40..65 => (rng.u64(1..60), 0),
            65..80 => (rng.u64(1..1_500), 0),
            80..86 => (rng.u64(1..12_000), 0),
            86..92 => (due_in, 0),
            92..95 => (due_in.saturating_sub(1), 0),
            // If power may be lost, the times that are forgotten then must not come again.
            95..98 => (rng.u64(..2_000), self.set_clock(rng)),
            98 => (rng.u64(30_000..130_000), 0),
            _ => (0, 0),
        };
        if (passes, is_set) != (0, 0) {
            let at = (self.wall + passes).saturating_add_signed(is_set);
            self.tell(|| format!("at {at} ({passes:+} ms, and the clock is set by {is_set:+} ms)"));
        }
        self.pass(passes);
        self.wall = self.wall.saturating_add_signed(is_set);
    }

    /// Returns by how much the clock is set.
    fn set_clock(&self, rng: &mut Rng) -> i64 {
        let by = one(rng, &[900, 4_000, 40_000, 90_000, 86_400_000]);
        let by = rng.i64(0..by);
        if rng.bool() || self.profile.power { by } else { -by }
    }

    /// Lets some of the workers read what has arrived.
    fn read(&mut self, rng: &mut Rng) {
        for connection in &mut self.connections {
            if connection.unread.is_empty() || !chance(rng, self.profile.reads) {
                continue;
            }
            let items = std::mem::take(&mut connection.unread);
            if connection.outbox.was_starved(&items) {
                self.drained.push(connection.link);
            }
            let jobs =
                || items.iter().filter_map(|item| if let Item::Job(job) = item { Some(job) } else { None });
            let bytes: usize = jobs().map(|job| job.job.weight()).sum();
            let link = Some(connection.link);
            if let Some(stream) = self.model.streams.values_mut().find(|stream| stream.link == link) {
                stream.unread -= bytes;
            }
            let last = jobs().map(|job| job.event).max();
            let seen = self.event_streams.iter_mut().find(|(id, _)| *id == connection.id);
            if let (Some((_, seen)), Some(last)) = (seen, last) {
                *seen = last.max(*seen);
            }
        }
    }

    /// Runs one turn of the engine, and checks everything that must hold after it.
    pub(super) fn turn(&mut self, mut acts: Vec<Act>) -> Result<()> {
        let drained = self.drained.drain(..).map(Act::Drained);
        acts.splice(0..0, drained);
        for act in &acts {
            self.tell(|| format!("  {act}"));
        }
        let answers =
            self.core.turn(self.time(), acts.iter().map(Act::call).collect::<Vec<_>>().into_iter())?;
        ensure!(answers.len() == acts.len(), "{} answers to {} commands", answers.len(), acts.len());
        self.model.set_time(self.time());
        self.model.sweep();
        for (act, answer) in acts.iter().zip(&answers) {
            self.model.apply(act, answer).with_context(|| format!("{act}"))?;
            self.follow(act, answer);
            self.mirror.hear(answer, &self.model).with_context(|| format!("{act}"))?;
        }
        let late = self.core.late_answers();
        let snapshot = self.core.store().snapshot();
        self.model.tick(&snapshot)?;
        self.take_firings()?;
        self.model.take_in_bulk(&snapshot, late)?;
        self.take_items()?;
        self.model.close_batches();
        self.ear.listen(&acts, &self.model)?;
        self.check_woken()?;
        self.check_published()?;
        self.check_deadline()?;
        self.turns += 1;
        if self.turns.is_multiple_of(self.check_every) { self.check_store() } else { Ok(()) }
    }

    /// Notes what workers learn from an answer.
    fn follow(&mut self, act: &Act, answer: &Answer) {
        match (act, answer) {
            (Act::Open(open), Ok(Reply::OpenStream(opened))) => {
                let is_old = |c: &mut Connection| c.link.stream == opened.link.stream;
                self.old_links.extend(self.connections.extract_if(.., is_old).map(|c| c.link));
                let (link, id, kind) = (opened.link, opened.id, open.kind);
                let outbox = open.outbox.clone();
                self.connections.push(Connection {
                    link,
                    id,
                    kind,
                    rests: false,
                    outbox,
                    unread: Vec::new(),
                });
                if kind == StreamKind::Events && !opened.resumed {
                    self.event_streams.push((id, 0));
                    if self.event_streams.len() > 12 {
                        self.event_streams.remove(0);
                    }
                }
            }
            (Act::RunEntry(..), Ok(Reply::RunEntry(Ran::Folds(firing)))) => {
                self.firings.push_back(firing.clone())
            }
            // The caller of a fold tries again.
            (Act::Fold(Folding { firing: Some(firing), .. }), Err(Reject::Changed)) => {
                self.firings.push_back(firing.clone());
            }
            (Act::CutOff(start), _) => {
                let is_cut = |c: &mut Connection| format!("{:032x}", c.id).starts_with(start.as_str());
                self.old_links.extend(self.connections.extract_if(.., is_cut).map(|c| c.link));
            }
            (Act::Close(link) | Act::Finish(link), _) => {
                let ended = self.connections.extract_if(.., |c| c.link == *link).map(|c| c.link);
                self.old_links.extend(ended);
            }
            _ => {}
        }
    }

    /// Takes the cron entries that have to be folded.
    fn take_firings(&mut self) -> Result<()> {
        let firings: Vec<Firing> = std::iter::from_fn(|| self.core.take_firing()).collect();
        self.model.check_fired(&firings)?;
        self.firings.extend(firings);
        Ok(())
    }

    /// Takes everything that was sent, whether its worker reads it or not.
    fn take_items(&mut self) -> Result<()> {
        let mut told = Vec::new();
        for connection in &mut self.connections {
            let items = connection.outbox.take();
            connection.unread.extend(items.iter().cloned());
            told.push((connection.link, items));
        }
        for (link, items) in &told {
            for item in items {
                if let Item::Job(delivery) = item {
                    self.past.push((delivery.job.id, delivery.token));
                    self.tell(|| {
                        format!(
                            "    -> {link:?} {:?} {:?} n {}",
                            delivery.job.id, delivery.token, delivery.event
                        )
                    });
                } else {
                    self.tell(|| format!("    -> {link:?} {item:?}"));
                }
            }
        }
        if self.past.len() > 200 {
            self.past.drain(..100);
        }
        let open = self.model.streams.values().filter(|stream| stream.state == State::Open);
        for link in open.filter_map(|stream| stream.link) {
            ensure!(self.connections.iter().any(|c| c.link == link), "{link:?} has no connection");
        }
        self.model.check_told(told)
    }

    /// Checks that the engine wakes when it has something to do, and never without need.
    fn check_deadline(&self) -> Result<()> {
        let (next, seen) = (self.model.due_in(), self.core.engine().due_in(self.time()));
        if let Some(next) = next {
            ensure!(seen.is_some_and(|pause| pause <= next), "something is due in {next} ms, not {seen:?}");
        }
        if self.core.engine().wants_undated().is_some() {
            ensure!(seen == Some(0), "there are dates to be looked at, but nothing for {seen:?} ms");
            return Ok(());
        }
        let undated = &self.model.undated;
        ensure!(undated.is_empty(), "the dates of {undated:?} come from a clock that was ahead");
        // What was left for the next turn may have ended in another way, and so may a job whose timer is still to be read.
        let unread = self.core.engine().wants_timers().is_some_and(|(at, _)| at <= self.model.now);
        if next != Some(0) && !self.model.is_cut && !unread {
            ensure!(seen != Some(0), "nothing is due yet, but it wants to turn");
        }
        Ok(())
    }

    pub(super) fn check_store(&self) -> Result<()> {
        let ledger = Ledger::read(&self.core.store().snapshot())?;
        ledger.check()?;
        ledger.compare(&self.model)
    }

    /// Works everything off. Nothing may be left.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.tell(|| "finish".to_owned());
        let closed = self.connections.iter().map(|c| Act::Close(c.link));
        let resumed = self.model.paused.iter().map(|queue| Act::Pause(queue.clone(), false));
        let crons = self.model.crons.keys().cloned();
        let deleted = crons.map(|name| Act::Cron(CronAct::Delete(name)));
        self.turn(closed.chain(resumed).chain(deleted).collect())?;
        let mut rng = Rng::with_seed(0);
        self.profile.reads = 100;
        for _ in 0..20_000 {
            let mut acts: Vec<Act> = Vec::new();
            if self.connections.is_empty() {
                acts.push(Act::Open(super::act::Opening::everything(1)));
            }
            let held = self.connections.first().map(|c| c.link);
            let held = self.model.streams.iter().find(|(_, s)| s.link.is_some() && s.link == held);
            if let Some((key, _)) = held {
                acts.push(Act::Succeed(self.model.held_by(*key).map(|lease| lease.as_held()).collect()));
            }
            self.turn(acts)?;
            self.read(&mut rng);
            if self.model.jobs.is_empty() && !self.model.bulks.is_any_coming() {
                let keys: Vec<_> = self.model.budgets.keys().cloned().collect();
                let delete = |key| Act::Budget(BudgetAct::Delete(key));
                self.turn(keys.into_iter().map(delete).collect())?;
                ensure!(self.model.budgets.is_empty(), "no job draws on the budgets");
                self.check_store()?;
                self.crash(&mut rng)?;
                let left = leftovers(&self.core.store().snapshot())?;
                ensure!(left.is_empty(), "left in the store: {left:?}");
                return Ok(());
            }
            if self.model.leases.is_empty() || rng.bool() {
                self.pass(self.core.engine().due_in(self.time()).unwrap_or(0));
            }
        }
        anyhow::bail!("there are jobs that do not end: {:?}", self.model.jobs.values().next());
    }
}
