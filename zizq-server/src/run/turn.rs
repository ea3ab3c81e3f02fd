//! One turn of the engine over a store: applies commands, commits once, returns answers.

use crate::access::Registry;
use crate::clock::Time;
use crate::engine::answers::Known;
use crate::engine::command::crons::Firing;
use crate::engine::command::jobs::Enqueue;
use crate::engine::command::once::{Envelope, Once, Repeated};
use crate::engine::command::{Command, Reject, Reply};
use crate::engine::{
    Engine, Found, REFILL, REFILL_BYTES, Settings, Stored, TIMERS_REFILL, UNDATED_SLICE, Wanted, place_of,
};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::{Home, QueueId, Stamp};
use crate::job::place::Place;
use crate::job::tag::Tag;
use crate::run::events::Hub;
use crate::run::meters::Meters;
use crate::store::damage::{self, draws, mend};
use crate::store::keys::{self, Key};
use crate::store::view::Part;
use crate::store::{Snapshot, Store, StoreError, bulk, view};
use protocol::job::Status;
use std::sync::Arc;
use std::time::Instant;

/// The engine and its store.
pub struct Core<S: Store> {
    engine: Engine,
    store: S,
    events: Arc<Hub>,
    access: Arc<Registry>,
    meters: Arc<Meters>,
}

/// The engine's answer to a command, valid once the turn is over.
pub(crate) type Answer = Result<Reply, Reject>;

impl<S: Store> Core<S> {
    /// Continues with the state in the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(mut store: S, settings: Settings, now: Time, seed: u64) -> Result<Self, StoreError> {
        let meters = Arc::<Meters>::default();
        let engine = Engine::new(settings, load(&mut store, &meters)?, now, seed);
        let mut core = Self { engine, store, events: Arc::default(), access: Arc::default(), meters };
        core.commit()?;
        core.publish_tokens();
        Ok(core)
    }

    /// An engine over a store that could not be opened yet. [Open it](Self::reopen) before its first turn.
    pub fn closed(store: S, settings: Settings) -> Self {
        let engine = Engine::new(settings, Stored::default(), 0.into(), 0);
        Self { engine, store, events: Arc::default(), access: Arc::default(), meters: Arc::default() }
    }

    /// Starts again with the stored state after the store has failed.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn reopen(&mut self, now: Time, seed: u64) -> Result<(), StoreError> {
        self.store.reopen()?;
        let zone = self.engine.zone();
        self.engine = Engine::new(self.engine.settings(), load(&mut self.store, &self.meters)?, now, seed);
        self.engine.set_zone(zone);
        self.commit()?;
        self.publish_tokens();
        Ok(())
    }

    /// Ends all streams. The engine must be reopened before its next use.
    pub fn close_streams(&self) {
        self.engine.close_streams();
    }

    /// The listeners to status changes.
    pub fn events(&self) -> &Arc<Hub> {
        &self.events
    }

    /// The callers that are known.
    pub fn access(&self) -> &Arc<Registry> {
        &self.access
    }

    /// Tells those who check callers of the access tokens, if they have changed. They have been committed.
    fn publish_tokens(&mut self) {
        if let Some(tokens) = self.engine.take_tokens() {
            self.access.publish(&tokens);
        }
    }

    /// What has been counted.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Sets the time zone of cron entries that name none.
    pub fn set_zone(&mut self, zone: jiff::tz::TimeZone) {
        self.engine.set_zone(zone);
    }

    /// Takes a due cron entry whose job belongs to a batch. The caller folds it and returns it as [`Command::Fold`].
    pub fn take_firing(&mut self) -> Option<Firing> {
        self.engine.take_firing()
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    /// Applies commands in order, then does what is due, dispatches, and commits. On return, everything that the
    /// answers confirm has reached the operating system, and deliveries are in the outboxes of their streams.
    ///
    /// # Errors
    /// When the store fails. The engine's memory is then ahead of the store and must not be used again.
    pub fn turn(
        &mut self,
        now: Time,
        calls: impl Iterator<Item = Envelope>,
    ) -> Result<Vec<Answer>, StoreError> {
        self.engine.set_time(now);
        self.engine.set_watched(self.events.is_watched());
        let mut answers = Vec::with_capacity(calls.size_hint().0);
        for Envelope { command, once } in calls {
            answers.push(match once {
                None => self.carry_out(command)?,
                Some(once) => self.carry_out_once(command, &once)?,
            });
            self.make_room()?;
        }
        self.read_payloads(self.engine.expiring_payloads())?;
        self.engine.expire();
        self.read_payloads(self.engine.overdue_payloads())?;
        self.engine.tick();
        self.read_tags(self.engine.fires())?;
        self.engine.fire();
        self.date_anew()?;
        self.ring_timers()?;
        self.take_in_bulk()?;
        self.engine.dispatch();
        self.commit()?;
        self.read_ahead()?;
        self.engine.flush();
        self.events.publish(self.engine.take_events());
        self.publish_tokens();
        Ok(answers)
    }

    /// Executes a command. Many large jobs are processed in parts, so that they are not all in memory at once.
    fn carry_out(&mut self, mut command: Command) -> Result<Answer, StoreError> {
        let rest = self.engine.first_part(&command).and_then(|jobs| command.split_off(jobs));
        let mut answer = self.apply(command)?;
        let mut next = rest;
        while let Some(mut part) = next {
            self.make_room()?;
            next = self.engine.first_part(&part).and_then(|jobs| part.split_off(jobs));
            answer = match (answer, self.apply(part)?) {
                (Ok(before), Ok(reply)) => Ok(before.and(reply)),
                (Err(reject), _) | (_, Err(reject)) => Err(reject),
            };
        }
        Ok(answer)
    }

    /// Executes a command unless its idempotency key was executed before.
    fn carry_out_once(&mut self, command: Command, once: &Once) -> Result<Answer, StoreError> {
        if let Some(answer) = self.repeat(once)? {
            return Ok(answer);
        }
        let answer = self.carry_out(command)?;
        if let Ok(reply) = &answer {
            self.engine.keep_answer(once, reply);
        }
        Ok(answer)
    }

    fn apply(&mut self, command: Command) -> Result<Answer, StoreError> {
        self.read_payloads(self.engine.needs_payloads(&command))?;
        let found = self.look_up(&command)?;
        Ok(self.engine.apply(command, found))
    }

    /// Commits what the turn has gathered if it is large.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.engine.is_heavy() {
            self.commit()?;
            self.engine.leave_payloads();
        }
        Ok(())
    }

    /// The answers to earlier callers that got [`Reply::Later`], which became due since the last turn.
    pub fn late_answers(&mut self) -> Vec<(Stamp, Answer)> {
        self.engine.finished_bulks()
    }

    /// The answer to a call that was executed before; `None` for a new one.
    fn repeat(&mut self, once: &Once) -> Result<Option<Answer>, StoreError> {
        let (parts, created) = match self.engine.known(once) {
            Ok(Known::New) => return Ok(None),
            Ok(Known::Answered { parts, created }) => (parts, created),
            Err(reject) => return Ok(Some(Err(reject))),
        };
        self.commit()?;
        let jobs = view::answer(&self.store.snapshot(), &once.key, parts)?;
        let lost = || Reject::AnswerLost(once.key.clone());
        Ok(Some(jobs.map(|jobs| Reply::Again(Repeated { created, jobs })).ok_or_else(lost)))
    }

    /// Looks up in the store what the engine does not hold. Changes of this turn must be committed first.
    fn look_up(&mut self, command: &Command) -> Result<Found, StoreError> {
        let mut found = Found::default();
        self.read_tags(self.engine.needs_tags(command))?;
        let ids = self.engine.needs(command);
        if !ids.is_empty() {
            self.commit()?;
            let mut snapshot = self.store.snapshot();
            for id in ids {
                let job = self.read(&mut snapshot, |snapshot| view::find(snapshot, id))?;
                found.extend(job.map(|job| (id, job)));
            }
        }
        Ok(found)
    }

    /// Reads payloads that only the store has.
    fn read_payloads(&mut self, places: Vec<Place>) -> Result<(), StoreError> {
        if !places.is_empty() {
            let mut snapshot = self.store.snapshot();
            for place in places {
                let job = self.read(&mut snapshot, |snapshot| view::job_at(snapshot, place))?;
                self.engine.provide_payload(place, job);
            }
        }
        Ok(())
    }

    fn ring_timers(&mut self) -> Result<(), StoreError> {
        if let Some(from) = self.engine.wants_timers() {
            self.commit()?;
            let mut snapshot = self.store.snapshot();
            let part = self.read(&mut snapshot, |snapshot| view::timers(snapshot, from, TIMERS_REFILL))?;
            self.engine.provide_timers(part);
        }
        let due = self.engine.due();
        if !due.is_empty() {
            self.commit()?;
            let mut snapshot = self.store.snapshot();
            for due in due {
                let job = self.read(&mut snapshot, |snapshot| view::job_at(snapshot, due.place))?;
                self.engine.ring(due, job);
            }
        }
        Ok(())
    }

    /// Checks some of the timers whose times may come from a clock that was ahead.
    fn date_anew(&mut self) -> Result<(), StoreError> {
        let Some(from) = self.engine.wants_undated() else { return Ok(()) };
        self.commit()?;
        let mut snapshot = self.store.snapshot();
        let timers = self.read(&mut snapshot, |snapshot| view::timers(snapshot, from, UNDATED_SLICE))?;
        let mut items = Vec::new();
        for ((_, stamp), target) in timers.items {
            let place = place_of(stamp, target);
            items.extend(self.read(&mut snapshot, |snapshot| view::job_at(snapshot, place))?);
        }
        self.engine.date_anew(Part { items, next: timers.next });
        Ok(())
    }

    fn take_in_bulk(&mut self) -> Result<(), StoreError> {
        let Some(jobs) = self.engine.next_slice() else { return Ok(()) };
        let slice = Command::Enqueue(Enqueue(jobs));
        let found = self.look_up(&slice)?;
        if let Command::Enqueue(Enqueue(jobs)) = slice {
            self.engine.enqueue_slice(jobs, &found);
        }
        Ok(())
    }

    /// Reads what the engine ran short of and dispatches again, until it needs nothing more.
    fn read_ahead(&mut self) -> Result<(), StoreError> {
        loop {
            let wanted = self.engine.wants();
            if wanted.is_empty() {
                return Ok(());
            }
            let mut snapshot = self.store.snapshot();
            for wanted in wanted {
                match wanted {
                    Wanted::Lanes(queue) => {
                        let lanes = self.read(&mut snapshot, |snapshot| view::lanes(snapshot, queue))?;
                        self.engine.provide_lanes(queue, lanes);
                    }
                    Wanted::Lane(lane) => {
                        let part = self.read(&mut snapshot, |snapshot| {
                            view::lane(snapshot, lane, REFILL, REFILL_BYTES)
                        })?;
                        self.engine.provide_jobs(lane, part);
                    }
                    Wanted::Payload(place) => {
                        let job = self.read(&mut snapshot, |snapshot| view::job_at(snapshot, place))?;
                        self.engine.provide_payload(place, job);
                    }
                }
            }
            self.engine.dispatch();
            self.commit()?;
        }
    }

    /// Reads the tags that the engine asks for. The engine itself knows what this turn changed about them.
    fn read_tags(&mut self, tags: Vec<Tag>) -> Result<(), StoreError> {
        if !tags.is_empty() {
            let mut snapshot = self.store.snapshot();
            for tag in tags {
                let clears = self.engine.clears();
                let read = |snapshot: &_| if clears { Ok(Vec::new()) } else { view::holders(snapshot, &tag) };
                let holders = self.read(&mut snapshot, read)?;
                self.engine.provide_tag(tag, holders);
            }
        }
        Ok(())
    }

    /// Reads from a snapshot. A damaged record is set aside, and the read is retried without it.
    fn read<T>(
        &mut self,
        snapshot: &mut S::Snapshot,
        read: impl Fn(&S::Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            match read(snapshot) {
                Err(StoreError::Damaged { what, key }) => {
                    let place = damage::job_key(&key);
                    let place = place.map(|place| draws::in_order(snapshot, place)).transpose()?;
                    match place.map(|place| (place, self.engine.held_at(place))) {
                        // The worker and the engine have this job; the record is rewritten when its lease ends.
                        Some((_, Some(job))) => self.store.commit(damage::replace(&job))?,
                        lost => {
                            set_aside(&mut self.store, what, &key, &self.meters)?;
                            lost.into_iter().for_each(|(place, _)| self.engine.lost(place));
                        }
                    }
                    *snapshot = self.store.snapshot();
                }
                read => return read,
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.read_tags(self.engine.wants_tags())?;
        let changes = self.engine.changes();
        if changes.clear {
            self.store.clear()?;
        }
        if !changes.batch.is_empty() {
            let started = Instant::now();
            self.store.commit(changes.batch)?;
            self.meters.commits.since(started);
        }
        Ok(())
    }
}

fn set_aside<S: Store>(
    store: &mut S,
    what: &'static str,
    key: &Key,
    meters: &Meters,
) -> Result<(), StoreError> {
    let (at, moved_to) = (keys::shown(key), keys::shown(&keys::aside(key)));
    tracing::error!(at, moved_to, "a stored {what} record is damaged and was set aside");
    meters.damaged.add(1);
    store.commit(damage::set_aside(&store.snapshot(), key)?)
}

/// Loads the engine's initial state. Damaged records are set aside.
fn load<S: Store>(store: &mut S, meters: &Meters) -> Result<Stored, StoreError> {
    loop {
        let snapshot = store.snapshot();
        let mended = mend::mended(&snapshot).transpose().or_else(|| draws::recounted(&snapshot).transpose());
        match mended {
            Some(Ok(batch)) => {
                store.commit(batch)?;
                continue;
            }
            Some(Err(StoreError::Damaged { what, key })) => {
                set_aside(store, what, &key, meters)?;
                continue;
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        match read_all(&snapshot) {
            Err(StoreError::Damaged { what, key }) => set_aside(store, what, &key, meters)?,
            read => return read,
        }
    }
}

fn read_all<S: Snapshot>(snapshot: &S) -> Result<Stored, StoreError> {
    view::check_format(snapshot)?;
    let leases = view::leases(snapshot)?;
    let leases = leases.into_iter().map(|(stamp, lease)| {
        let queue = QueueId(lease.queue);
        let at = |draw| {
            let place = Place { status: Status::Ready, queue, draw, priority: lease.priority, stamp };
            view::job_at(snapshot, place)
        };
        let mut job = at(DrawId::NONE)?.map_or_else(|| at(DrawId::SOME), |job| Ok(Some(job)))?;
        job.iter_mut().for_each(Job::leave_payload);
        let id = job.as_ref().map_or(Home { queue, priority: lease.priority }.id(stamp), |job| job.id);
        Ok((id, lease, job))
    });
    Ok(Stored {
        clock: view::clock(snapshot)?,
        queues: view::queues(snapshot)?,
        cursors: view::all_cursors(snapshot)?,
        budgets: view::budgets(snapshot)?,
        draws: view::draws(snapshot)?,
        crons: view::crons(snapshot)?,
        cron_states: view::cron_states(snapshot)?,
        bulks: bulk::bulks(snapshot)?,
        answers: view::answers(snapshot)?,
        tokens: view::tokens(snapshot)?,
        leases: leases.collect::<Result<_, StoreError>>()?,
    })
}
