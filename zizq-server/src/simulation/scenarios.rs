//! A few histories written by hand, for cases that chance would rarely reach.

use fastrand::Rng;
use protocol::flow::Flow;
use protocol::id::JobId;
use protocol::outcome::{Failure, LeasedJob};

use super::act::{Act, Opening};
use super::profile::Profile;
use super::world::World;
use crate::engine::Settings;
use crate::engine::command::jobs::Change;
use crate::engine::command::streams::StreamKind;

/// Makes a world in which nothing happens by chance: one queue, one priority, no limits.
pub(super) fn quiet() -> World {
    quiet_for(0)
}

/// The same, with dead jobs kept for this long, in milliseconds.
fn quiet_for(dead_ms: u64) -> World {
    let mut profile = Profile::of(0);
    let backoff = protocol::job::Backoff { base_ms: 0, exponent: 0.0, jitter_ms: 0 };
    profile.settings = Settings {
        retry_limit: 3,
        backoff,
        completed_ms: 0,
        dead_ms,
        max_deliveries: 100,
        in_flight_limit: 0,
        queue_histograms: false,
        timeout_ms: None,
        stream_renewal_ms: u64::MAX,
        max_budgets: 100,
    };
    let mut world = World::with(profile, 0).unwrap();
    world.check_every = 1;
    world
}

fn enqueue(world: &mut World, number: usize) -> Vec<JobId> {
    let jobs = (0..number).map(|_| world.plain_job()).collect();
    let before = world.model.last_id;
    world.turn(vec![Act::Enqueue(jobs)]).unwrap();
    world.model.jobs.keys().copied().filter(|id| before < Some(*id)).collect()
}

fn open(world: &mut World, prefetch: u32) {
    let id = u128::from(world.model.next_stream) + 1;
    world.turn(vec![Act::Open(Opening { prefetch, ..Opening::everything(id) })]).unwrap();
}

fn in_flight(world: &World) -> Vec<LeasedJob> {
    world.model.leases.values().map(super::model::Lease::as_held).collect()
}

/// Reports success for everything in flight, again and again. Returns the jobs in the order of their deliveries.
fn work_off(world: &mut World) -> Vec<JobId> {
    let mut order: Vec<JobId> = Vec::new();
    while !world.model.leases.is_empty() {
        let held = in_flight(world);
        let mut by_token = held.clone();
        by_token.sort_by_key(|job| job.lease);
        order.extend(by_token.iter().map(|job| job.id));
        world.turn(vec![Act::Succeed(held)]).unwrap();
    }
    order
}

#[test]
fn order_survives_a_restart_with_jobs_in_flight() {
    let mut world = quiet();
    let ids = enqueue(&mut world, 100);
    open(&mut world, 40);
    // The first ten are done, thirty are written down as leased, ten more are delivered just before the crash.
    let first: Vec<LeasedJob> = in_flight(&world).into_iter().take(10).collect();
    world.pass(1_500);
    world.turn(Vec::new()).unwrap();
    world.turn(vec![Act::Succeed(first)]).unwrap();
    world.crash_now().unwrap();
    assert_eq!(world.model.leases.len(), 30, "leases of more than a second survive");

    open(&mut world, 1);
    let expected: Vec<JobId> = ids[40..].to_vec();
    let of_stream = |world: &World| in_flight(world).into_iter().filter(|job| !ids[..40].contains(&job.id));
    let mut order = Vec::new();
    while let Some(job) = of_stream(&world).next() {
        order.push(job.id);
        world.turn(vec![Act::Succeed(vec![job])]).unwrap();
    }
    assert_eq!(order, expected);
    // Those from before the restart come back when their leases have run out, and none is lost.
    world.pass(30_000);
    world.turn(Vec::new()).unwrap();
    assert_eq!(work_off(&mut world), ids[10..40]);
    assert!(world.model.jobs.is_empty());
}

#[test]
fn a_job_that_returns_behind_the_cursor_of_its_lane_is_found_after_a_restart() {
    let mut world = quiet();
    let ids = enqueue(&mut world, 60);
    open(&mut world, 1);
    let oldest = in_flight(&world);
    // Its lease is written down, so the cursor may pass it.
    world.pass(1_500);
    world.turn(Vec::new()).unwrap();
    open(&mut world, 5);
    for _ in 0..10 {
        let others = in_flight(&world).into_iter().filter(|job| job.id != ids[0]).collect();
        world.turn(vec![Act::Succeed(others)]).unwrap();
    }
    world.crash_now().unwrap();
    world.turn(vec![Act::Fail { job: oldest[0], failure: super::profile::failed_at_once(&world) }]).unwrap();
    world.crash_now().unwrap();
    open(&mut world, 1);
    assert_eq!(in_flight(&world)[0].id, ids[0], "the oldest comes first");
    assert_eq!(work_off(&mut world).len(), 10);
    assert!(world.model.jobs.is_empty());
}

#[test]
fn many_timers_at_once_go_off_in_order_and_leave_nothing() {
    let mut world = quiet();
    let at = world.wall + 1_000;
    let jobs = (0..300).map(|n| {
        let mut job = world.plain_job();
        job.ready_at = Some(at + n % 7);
        job
    });
    let jobs = jobs.collect();
    world.turn(vec![Act::Enqueue(jobs)]).unwrap();
    world.crash_now().unwrap();
    open(&mut world, 0);
    world.pass(at - 1 - world.wall);
    world.turn(Vec::new()).unwrap();
    assert_eq!(world.model.leases.len(), 0);
    world.pass(at + 10 - world.wall);
    let mut turns = 0;
    while world.model.leases.len() < 300 {
        world.turn(Vec::new()).unwrap();
        turns += 1;
    }
    assert!(turns > 1, "not all of them in one turn");
    world.finish().unwrap();
}

fn events(id: u128, resume: Option<(u128, u64)>) -> Act {
    Act::Open(Opening {
        kind: StreamKind::Events,
        prefetch: 3,
        lease_ms: Some(30_000),
        resume_ms: 5_000,
        resume,
        ..Opening::everything(id)
    })
}

#[test]
fn a_returning_worker_gets_what_it_missed_and_nothing_else() {
    let mut world = quiet();
    let ids = enqueue(&mut world, 3);
    world.turn(vec![events(7, None)]).unwrap();
    let first = in_flight(&world);
    world.turn(vec![Act::Succeed(vec![first[1]])]).unwrap();
    world.turn(vec![Act::Close(world.connections[0].link)]).unwrap();
    world.pass(4_999);
    // The worker says that it has seen the first event; the second is done, so only the third comes again.
    world.turn(vec![events(8, Some((7, 1)))]).unwrap();
    assert_eq!(world.connections[0].unread_jobs(), [ids[2]]);
    assert_eq!(in_flight(&world), [first[0], first[2]], "with the same leases");
    world.finish().unwrap();
}

#[test]
fn a_cancellation_in_the_turn_of_a_disconnect_is_heard_when_the_worker_comes_back() {
    let mut world = quiet();
    let ids = enqueue(&mut world, 2);
    world.turn(vec![events(7, None)]).unwrap();
    let link = world.connections[0].link;
    let delete = |n: usize| Act::Change { ids: vec![ids[n]], only: None, change: Change::Delete };
    world.turn(vec![delete(0), Act::Close(link), delete(1)]).unwrap();
    world.turn(vec![events(8, Some((7, 2)))]).unwrap();
    assert_eq!(world.connections[0].unread_cancels(), ids);
    world.finish().unwrap();
}

#[test]
fn after_a_power_loss_a_delivered_batch_is_open_again_and_its_worker_too_late() {
    let (mut world, mut rng) = (quiet(), Rng::with_seed(0));
    let rng = &mut rng;
    world.profile.power = true;
    let batched = |world: &mut World, rng: &mut Rng| {
        let mut job = world.plain_job();
        job.flow = Flow { batch: Some(world.batch(rng)), ..Flow::default() }.boxed();
        let act = world.plan(vec![job], None, 100, rng);
        world.turn(vec![act]).unwrap();
    };
    batched(&mut world, rng);
    world.sync().unwrap();
    open(&mut world, 1);
    let held = in_flight(&world);
    assert_eq!((held.len(), world.model.batches.len()), (1, 0));
    world.lose_power(rng).unwrap();
    assert_eq!(world.model.batches.len(), 1);
    batched(&mut world, rng);
    // Its worker has done less than the job now asks for.
    world.turn(vec![Act::Succeed(held)]).unwrap();
    let payloads: Vec<_> = world.model.jobs.values().map(|entry| entry.job.payload.bytes().clone()).collect();
    assert_eq!(payloads, ["1+2"]);
    open(&mut world, 1);
    work_off(&mut world);
    assert!(world.model.jobs.is_empty());
}

#[test]
fn a_small_step_back_while_dates_are_corrected_leaves_new_dates_alone() {
    let mut world = quiet_for(3_600_000);
    enqueue(&mut world, 6);
    open(&mut world, 0);
    let failure = Failure { message: "m".to_owned(), kill: Some(true), ..Failure::default() };
    let fail = |job| Act::Fail { job, failure: failure.clone() };
    // More jobs die in the turn in which the clock is set back than are looked at in one turn.
    world.wall -= 60_000;
    world.turn(in_flight(&world).into_iter().map(fail).collect()).unwrap();
    let died = world.wall;
    world.wall -= 400;
    world.up += 1;
    world.turn(Vec::new()).unwrap();
    assert!(world.model.jobs.values().all(|entry| entry.job.failed_at == Some(died)));
}
