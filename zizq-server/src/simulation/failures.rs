//! How a process ends in a history, and how the next one begins.

use anyhow::{Result, ensure};
use fastrand::Rng;
use protocol::lease::LeaseToken;

use super::act::Act;
use super::disk::{Disk, Fault};
use super::heard::Ear;
use super::ledger::Ledger;
use super::model::Model;
use super::profile::{chance, one};
use super::watchers::Waiters;
use super::world::World;
use crate::job::id::Stamp;
use crate::run::turn::Core;
use crate::store::memory::MemoryStore;
use crate::store::{Store, view};

/// What the engine starts again from.
enum Begin {
    /// Another process finds this store.
    Next(MemoryStore),
    /// The same process, after the store has failed.
    Same,
}

impl World {
    /// In a history in which power may be lost, syncs what was written now and then.
    pub(super) fn after_turn(&mut self, rng: &mut Rng) -> Result<()> {
        match rng.u32(..100) {
            0..20 => self.sync(),
            20..22 => {
                self.tell(|| "sync failed".to_owned());
                self.core.store().fail_sync();
                ensure!(self.core.store().syncer()().is_err(), "it should fail");
                // The process ends. What it wrote is not gone until power is lost.
                if rng.bool() { self.crash(rng) } else { self.lose_power(rng) }
            }
            22..60 if self.unsynced.len() < 6 => {
                self.unsynced.push((self.core.store().memory.after_crash(), self.model.clone()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        self.tell(|| "sync".to_owned());
        self.core.store().syncer()()?;
        self.synced = self.model.clone();
        self.unsynced.clear();
        Ok(())
    }

    pub(super) fn crash_now(&mut self) -> Result<()> {
        self.crash(&mut Rng::with_seed(0))
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) -> Result<()> {
        self.tell(|| "crash".to_owned());
        self.check_store()?;
        self.begin(Begin::Next(self.core.store().memory.after_crash()), rng)
    }

    pub(super) fn stop(&mut self, rng: &mut Rng) -> Result<()> {
        if rng.bool() {
            self.turn(vec![Act::Drain])?;
            let acts = self.acts(rng);
            self.turn(acts)?;
        }
        self.turn(vec![Act::Stop])?;
        self.check_store()?;
        let leases = self.model.leases.len();
        self.begin(Begin::Next(self.core.store().memory.after_crash()), rng)?;
        ensure!(self.model.leases.len() == leases, "a clean stop keeps every lease");
        Ok(())
    }

    /// Loses power. What was synced is there again; of what was written after that, everything up to some turn. A torn
    /// batch counts as none, which is the business of the store (`store/disk/torn.rs`).
    pub(super) fn lose_power(&mut self, rng: &mut Rng) -> Result<()> {
        let at = rng.usize(..=self.unsynced.len());
        self.tell(|| format!("power lost, {at} states later than what was synced"));
        let (memory, model) = match at.checked_sub(1) {
            None => (self.core.store().memory.after_power_loss(), self.synced.clone()),
            Some(at) => self.unsynced.swap_remove(at),
        };
        self.model = self.remembered(model);
        // Power is away for longer than ids and tokens may be ahead of the clock.
        let last_token = self.model.last_token.map_or(0, |token| token.to_u64() >> 20);
        let last_id = self.model.last_id.map_or(0, |id| Stamp::of(id).millis());
        let at = self.wall.max(last_token).max(last_id) + 3_000;
        self.pass(at - self.wall);
        self.begin(Begin::Next(memory), rng)
    }

    /// Returns an earlier state, with what its workers have seen since then.
    fn remembered(&self, mut model: Model) -> Model {
        (model.last_id, model.last_token) = (self.model.last_id, self.model.last_token);
        for (id, token) in &self.past {
            if let Some(entry) = model.jobs.get_mut(id)
                && !entry.tokens.contains(token)
            {
                entry.tokens.push(*token);
            }
        }
        model
    }

    /// Makes the store fail, or the process die, in the middle of a turn. No caller hears what came of it.
    pub(super) fn fail_within(&mut self, rng: &mut Rng) -> Result<()> {
        let mut acts = self.acts(rng);
        acts.retain(|act| !matches!(act, Act::Reset));
        let reads = rng.bool();
        let soon = one(rng, &[5, 60]);
        let after = rng.u32(..if reads { soon } else { 3 });
        let fault = Fault { after, reads, written: rng.bool() };
        self.core.store().fail(fault);
        let calls = acts.iter().map(Act::call).collect::<Vec<_>>();
        let result = self.core.turn(self.time(), calls.into_iter());
        self.core.store().mend();
        self.tell(|| format!("failed: {}, {fault:?}", result.is_err()));
        for act in &acts {
            self.tell(|| format!("  {act}"));
        }
        self.model.set_time(self.time());
        let ledger = Ledger::read(&self.core.store().snapshot())?;
        ledger.check()?;
        self.model.adopt(&acts, &ledger)?;
        let next = Begin::Next(self.core.store().memory.after_crash());
        self.begin(if rng.bool() { Begin::Same } else { next }, rng)
    }

    fn begin(&mut self, begin: Begin, rng: &mut Rng) -> Result<()> {
        let store = match &begin {
            Begin::Next(memory) => memory,
            Begin::Same => &self.core.store().memory,
        };
        let clock = view::clock(&store.snapshot())?;
        let saved_clock = clock.latest;
        self.model.restart(self.time(), clock);
        // Tokens begin behind every one that can have been given out.
        let first_token = if saved_clock == 0 { self.wall } else { self.wall.max(saved_clock + 2_000) };
        self.tokens_before = LeaseToken::from_u64(first_token << 20);
        self.connections.clear();
        self.old_links.clear();
        self.drained.clear();
        self.firings.clear();
        self.foldings.clear();
        self.told.take();
        self.model.waiters = Waiters::default();
        self.open_engine(begin, rng)?;
        self.core.store().syncer()()?;
        self.synced = self.model.clone();
        self.unsynced.clear();
        self.ear = Ear::new(self.core.events().listen(), &self.model);
        let leases = self.model.leases.len();
        self.tell(|| format!("opened, {leases} leases"));
        self.check_store()
    }

    /// Opens the engine; perhaps it fails at first.
    fn open_engine(&mut self, begin: Begin, rng: &mut Rng) -> Result<()> {
        let (settings, time) = (self.profile.settings, self.time());
        let fault = Fault { after: rng.u32(..6), reads: rng.bool(), written: rng.bool() };
        let fails = chance(rng, 10);
        match begin {
            Begin::Next(memory) if fails => self.core = Core::closed(Disk::new(memory), settings),
            Begin::Next(memory) => {
                self.core = Core::open(Disk::new(memory), settings, time, rng.u64(..))?;
                return Ok(());
            }
            Begin::Same => self.core.close_streams(),
        }
        if fails {
            self.core.store().fail(fault);
            // It makes no difference whether it came to that call.
            drop(self.core.reopen(time, rng.u64(..)));
            self.core.store().mend();
        }
        Ok(self.core.reopen(time, rng.u64(..))?)
    }
}
