//! One hour of a cron entry that fires every second, under a clock that the test controls.

use std::sync::Arc;

use protocol::cron::Template;
use protocol::job::Status;
use protocol::name::CronName;
use serde_json::json;

use super::ledger::Ledger;
use super::profile::Profile;
use crate::clock::Time;
use crate::engine::command::Request;
use crate::engine::command::crons::{GetCron, NewEntry, PutEntry};
use crate::run::turn::Core;
use crate::store::Store;
use crate::store::memory::MemoryStore;

/// A full second.
const START: u64 = 1_900_000_000_000;
const HOUR: u64 = 3_600_000;

struct Server {
    core: Core<MemoryStore>,
    /// By how much the wall clock was set back so far, in milliseconds.
    back: u64,
    /// What the wall clock said in the last turn.
    at: u64,
}

impl Server {
    /// Makes a world with one entry, created at `START`.
    fn every_second() -> Self {
        let mut server = Self::over(MemoryStore::default(), START);
        let job = json!({"queue": "q", "type": "tick", "payload": null});
        let entry = NewEntry {
            name: name("second"),
            expression: "* * * * * *".to_owned(),
            recurrence: "* * * * * *".parse().unwrap(),
            timezone: None,
            paused: None,
            template: Arc::new(Template::parse(&job).unwrap()),
        };
        server.ask(START, PutEntry(name("g"), entry.into()));
        server
    }

    fn over(store: MemoryStore, now: u64) -> Self {
        Self { core: Core::open(store, Profile::of(0).settings, now.into(), 0).unwrap(), back: 0, at: now }
    }

    /// Starts the next process, after this one was killed.
    fn restart(&mut self, now: u64) {
        *self = Self::over(self.core.store().after_crash(), now);
    }

    fn ask<R: Request>(&mut self, now: u64, request: R) -> R::Answer {
        let call = request.into_command().into();
        let reply = self.core.turn(self.time(now), std::iter::once(call)).unwrap().remove(0).unwrap();
        R::answer(reply).unwrap()
    }

    /// Runs a turn whenever the engine wants one, and at no other time, up to `end`. Returns the times of the turns.
    fn run_until(&mut self, end: u64) -> Vec<u64> {
        let mut turned = Vec::new();
        while let Some(pause) = self.core.engine().due_in(self.time(self.at))
            && self.at + pause <= end
        {
            self.turn(self.at + pause);
            turned.push(self.at);
        }
        turned
    }

    /// Returns the time at which the wall clock says `wall`.
    const fn time(&self, wall: u64) -> Time {
        Time { wall, up: wall + self.back }
    }

    /// Sets the wall clock back; the next turn is at once.
    fn set_back(&mut self, ms: u64) {
        self.back += ms;
        self.turn(self.at - ms);
    }

    fn turn(&mut self, now: u64) {
        self.at = now;
        self.core.turn(self.time(now), std::iter::empty()).unwrap();
    }

    /// Returns when each of the jobs was made, in the order of their ids, all of which differ.
    fn made(&self) -> Vec<u64> {
        let ledger = Ledger::read(&self.core.store().snapshot()).unwrap();
        ledger.check().unwrap();
        let jobs = ledger.jobs.into_values().inspect(|job| assert_eq!(job.status, Status::Ready));
        jobs.map(|job| job.ready_at).collect()
    }

    fn last_and_next(&mut self, now: u64) -> (Option<u64>, Option<u64>) {
        let view = self.ask(now, GetCron(name("g")));
        (view.entries[0].last_enqueue_at, view.entries[0].next_enqueue_at)
    }
}

fn name(name: &str) -> CronName {
    CronName::new(name).unwrap()
}

/// Returns the full seconds after one time up to another.
fn seconds(after: u64, to: u64) -> impl Iterator<Item = u64> {
    (after / 1_000 + 1..=to / 1_000).map(|second| second * 1_000)
}

#[test]
fn an_entry_that_fires_every_second_fires_3600_times_an_hour() {
    let mut server = Server::every_second();
    let end = START + HOUR;
    let every_second: Vec<u64> = seconds(START, end).collect();
    assert_eq!(every_second.len(), 3_600);
    assert_eq!(server.run_until(end), every_second, "it wakes once for each");
    assert_eq!(server.made(), every_second);
    assert_eq!(server.last_and_next(end), (Some(end), Some(end + 1_000)));
}

#[test]
fn missed_times_fire_once_and_then_every_second_again_also_after_a_restart() {
    let mut server = Server::every_second();
    let end = START + HOUR;
    // The process is late: nothing wakes it for a little over five seconds.
    let (asleep, awake) = (START + 600_000, START + 605_250);
    server.run_until(asleep);
    server.turn(awake);
    // A restart that takes no time, in the middle of a second.
    let restart = START + 1_200_500;
    server.run_until(restart);
    server.restart(restart);
    // A restart that takes seven seconds: the time of the entry has come when the process begins, so it fires at once.
    let (down, up) = (START + 1_800_000, START + 1_807_900);
    server.run_until(down);
    server.restart(up);
    server.turn(up);
    // The clock is set back: the entry goes on at once.
    let later = START + 2_400_000;
    server.run_until(later);
    server.set_back(30_000);
    server.run_until(end);

    let on_time = seconds(START, asleep).chain([awake]).chain(seconds(awake, down)).chain([up]);
    let again = seconds(later - 30_000, end);
    let expected: Vec<u64> = on_time.chain(seconds(up, later)).chain(again).collect();
    assert_eq!(expected.len(), 3_600 - 5 - 7 + 2 + 30);
    assert_eq!(server.made(), expected);
    assert_eq!(server.last_and_next(end), (Some(end), Some(end + 1_000)));
}
