//! A random test of the invariant: a living worker never holds a job that it neither runs nor is about to report.

use super::tests::{SUCCESS, job, slots};
use super::*;

/// The server as one worker sees it: the jobs that it believes to be with this worker, and their tokens.
#[derive(Debug, Default)]
struct Server {
    held: HashMap<JobId, LeaseToken>,
    /// Deliveries on their way to the worker.
    sent: VecDeque<Box<DeliveredJob>>,
    last_token: u64,
}

impl Server {
    fn hands_out(&mut self, n: u128) {
        // A job is delivered again when its lease expires or its worker loses the connection.
        self.last_token += 1;
        let queue = if n.is_multiple_of(7) { "other" } else { "q" };
        let mut job = job(n, self.last_token);
        job.queue = protocol::name::QueueName::new(queue).unwrap();
        self.held.insert(job.id, job.lease);
        self.sent.push_back(job);
    }

    fn hears(&mut self, report: &Report) -> bool {
        let is_its = self.held.get(&report.lease.id) == Some(&report.lease.token);
        if is_its {
            self.held.remove(&report.lease.id);
        }
        is_its
    }
}

/// A table, its owner, and the server.
struct World {
    random: fastrand::Rng,
    table: Table,
    server: Server,
    runs: Vec<JobId>,
    /// Reports that the server has not answered.
    reports: VecDeque<Report>,
    drained: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (table, server) = (Table::new(3, u64::MAX), Server::default());
        let mut world =
            Self { random, table, server, runs: Vec::new(), reports: VecDeque::new(), drained: false };
        world.set_routes(3);
        world
    }

    fn set_routes(&mut self, limit: usize) {
        self.table.set_routes(RouteMap::by_queue(&["q"]), [slots("q", limit)], 3);
    }

    fn step(&mut self) {
        match self.random.u32(..100) {
            0..30 => self.server.hands_out(self.random.u128(1..12)),
            30..50 => self.deliver(),
            50..70 => {
                let outcome = match self.random.u32(..4) {
                    0 => SUCCESS,
                    1 => Outcome::Failure(protocol::outcome::Failure::default()),
                    2 => Outcome::Release { reason: String::new(), pause: None },
                    _ => Outcome::Stopped,
                };
                self.end_a_run(outcome);
            }
            70..85 => self.answer(),
            85..89 => {
                // The server revokes a lease, and says so.
                if let Some(lease) = self.one_held() {
                    self.server.held.remove(&lease.id);
                    self.table.lost(lease);
                }
            }
            89..91 => self.table.give_back_waiting(&"q".into(), self.random.usize(..2)),
            91..94 => {
                let limit = self.random.usize(1..4);
                self.set_routes(limit);
            }
            94..97 => {
                if let Some(lease) = self.one_held() {
                    self.table.unreadable(lease, 5, "why".to_owned());
                }
            }
            97 if self.random.u32(..5) == 0 => {
                self.drained = true;
                self.table.drain();
            }
            _ if self.drained => _ = self.table.stop_all(),
            _ => {}
        }
        self.do_what_follows();
    }

    /// A job that the server believes to be here, with no delivery on its way.
    fn one_held(&mut self) -> Option<Lease> {
        let (&id, &token) = self.server.held.iter().next()?;
        self.server.sent.retain(|job| job.id != id);
        Some(Lease { id, token })
    }

    fn deliver(&mut self) {
        if let Some(job) = self.server.sent.pop_front() {
            self.table.delivered(job);
        }
    }

    fn end_a_run(&mut self, outcome: Outcome) {
        if !self.runs.is_empty() {
            let id = self.runs.swap_remove(self.random.usize(..self.runs.len()));
            self.table.finished(id, outcome, None);
        }
    }

    fn answer(&mut self) {
        if let Some(report) = self.reports.pop_front() {
            let accepted = self.server.hears(&report);
            self.table.settled(report.lease, accepted);
        }
    }

    fn do_what_follows(&mut self) {
        while !self.table.effects.is_empty() {
            for effect in self.table.take_effects() {
                match effect {
                    Effect::Start(job, _) => self.runs.push(job.id),
                    Effect::Stop(_) => {}
                    Effect::NoRoute(job) => self.table.give_back(job.id, 1, "no route".to_owned()),
                    Effect::Report(report) => self.reports.push_back(report),
                }
            }
        }
    }

    fn check(&self, seed: u64) {
        for lease in self.table.leases() {
            let held = &self.table.jobs[&lease.id];
            let is_cared_for = match &held.state {
                State::Waiting(_) => self.table.lanes["q"].waiting.contains(&lease.id),
                State::Running | State::Stopping(_) => self.runs.contains(&lease.id),
                State::Reporting { .. } => self.reports.iter().any(|report| report.lease.id == lease.id),
            };
            assert!(is_cared_for, "seed {seed}: {lease:?} is renewed, and is {held:?}");
        }
        // Every job that the server believes to be here is on its way here, in the table, or on its way back.
        for (&id, &token) in &self.server.held {
            let comes = self.server.sent.iter().any(|job| job.lease == token);
            let goes = self.reports.iter().any(|report| report.lease == Lease { id, token });
            let is_here = self.table.jobs.get(&id).is_some_and(|held| held.newest_token() == token);
            assert!(comes || goes || is_here, "seed {seed}: nobody cares for {id} {token}");
        }
    }

    /// Without new events, everything settles.
    fn finish(mut self, seed: u64) {
        for _ in 0..1_000 {
            self.deliver();
            self.end_a_run(SUCCESS);
            self.answer();
            self.do_what_follows();
        }
        let Self { table, server, .. } = self;
        assert!(table.is_empty() && server.held.is_empty(), "seed {seed}: {table:?} {server:?}");
    }
}

#[test]
fn no_job_is_held_that_neither_runs_nor_is_about_to_be_reported() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
            world.check(seed);
        }
        world.finish(seed);
    }
}
