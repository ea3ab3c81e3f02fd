//! Many queues whose jobs all draw on one budget: the cost of a token must not depend on the number of queues.

use protocol::budget::{Binding, Policy, Strategy};
use protocol::enqueue::NewJob;
use protocol::flow::Flow;
use protocol::name::{BudgetKey, QueueName};
use protocol::patch::Patch;

use super::act::{Act, Opening};
use super::model::Lease;
use super::scenarios::quiet;
use super::world::World;
use crate::engine::command::jobs::Change;

const QUEUES: usize = 100;
/// The most steps that a job may cost.
const STEPS: usize = 8;

fn queue(n: usize) -> QueueName {
    QueueName::new(&format!("q{n}")).unwrap()
}

fn crowd(strategy: Strategy) -> World {
    let mut world = quiet();
    world.check_every = 50;
    let policy = Policy { allocation: 1, strategy };
    let create = super::act::BudgetAct::Create(key(), policy);
    world.turn(vec![Act::Budget(create)]).unwrap();
    world
}

fn key() -> BudgetKey {
    BudgetKey::new("shared").unwrap()
}

fn jobs(world: &mut World, queues: impl IntoIterator<Item = usize>) {
    let jobs: Vec<NewJob> = queues
        .into_iter()
        .map(|n| {
            let budgets = vec![Binding { key: key(), cost: 1 }];
            NewJob { queue: queue(n), flow: Flow { budgets, ..Flow::default() }.boxed(), ..world.plain_job() }
        })
        .collect();
    world.turn(vec![Act::Enqueue(jobs)]).unwrap();
}

/// Opens a worker for some queues, or for all of them.
fn open(world: &mut World, queues: Option<Vec<usize>>, prefetch: u32) {
    let id = u128::from(world.model.next_stream) + 1;
    let queues = queues.map(|queues| queues.into_iter().map(queue).collect());
    world.turn(vec![Act::Open(Opening { queues, prefetch, ..Opening::everything(id) })]).unwrap();
}

fn steps(world: &World) -> usize {
    world.core.engine().steps_at_gates()
}

/// Ends this many jobs that have the token, one after the other. Returns what that costs.
fn work_off(world: &mut World, jobs: usize) -> usize {
    let before = steps(world);
    for left in (0..jobs).rev() {
        let draws = |lease: &&Lease| lease.job.flow.is_some();
        let held: Vec<_> = world.model.leases.values().filter(draws).map(Lease::as_held).collect();
        assert_eq!(held.len(), 1, "with {left} left");
        world.turn(vec![Act::Succeed(held)]).unwrap();
    }
    steps(world) - before
}

#[test]
fn a_token_costs_the_same_for_any_number_of_queues_with_workers_for_all() {
    let mut world = crowd(Strategy::WhileInFlight);
    jobs(&mut world, (0..QUEUES).chain(0..QUEUES));
    for prefetch in [1, 1, 0, 0] {
        open(&mut world, None, prefetch);
    }
    let cost = work_off(&mut world, 2 * QUEUES);
    assert!(cost <= STEPS * 2 * QUEUES, "{cost} steps");
    world.finish().unwrap();
}

#[test]
fn a_token_costs_the_same_for_any_number_of_queues_with_their_own_workers() {
    let mut world = crowd(Strategy::WhileInFlight);
    jobs(&mut world, (0..QUEUES).chain(0..QUEUES));
    for n in 0..QUEUES {
        open(&mut world, Some(vec![n]), 1);
    }
    let cost = work_off(&mut world, 2 * QUEUES);
    assert!(cost <= STEPS * 2 * QUEUES, "{cost} steps");
    world.finish().unwrap();
}

#[test]
fn queues_without_workers_neither_keep_the_token_nor_cost_anything() {
    let mut world = crowd(Strategy::WhileInFlight);
    jobs(&mut world, 0..QUEUES);
    jobs(&mut world, std::iter::repeat_n(QUEUES, 2 * QUEUES));
    // One worker could take from all but is busy; one takes from the last queue, another waits for something else.
    let plain = world.plain_job();
    world.turn(vec![Act::Enqueue(vec![plain])]).unwrap();
    open(&mut world, Some(vec![QUEUES]), 1);
    open(&mut world, None, 1);
    open(&mut world, Some(vec![QUEUES + 1]), 1);
    assert_eq!(world.model.leases.len(), 2);
    let cost = work_off(&mut world, 2 * QUEUES - 1);
    assert!(cost <= STEPS * 2 * QUEUES, "{cost} steps");
    world.finish().unwrap();
}

#[test]
fn tokens_refilled_by_time_cost_the_same_for_any_number_of_queues() {
    let mut world = crowd(Strategy::TimeBased { duration_ms: 10, burst: None });
    jobs(&mut world, (0..QUEUES).chain(0..QUEUES));
    for queues in [None, Some(vec![7]), None] {
        open(&mut world, queues, 0);
    }
    let before = steps(&world);
    let mut turns = 0;
    while world.model.leases.len() < 2 * QUEUES {
        world.pass(world.core.engine().due_in(world.time()).unwrap());
        world.turn(Vec::new()).unwrap();
        turns += 1;
    }
    assert!(turns < 2 * QUEUES + 20, "it wakes for each token, and to write down leases: {turns} times");
    let cost = steps(&world) - before;
    assert!(cost <= STEPS * 2 * QUEUES, "{cost} steps");
    world.finish().unwrap();
}

#[test]
fn a_worker_that_waits_for_something_else_adds_no_cost_to_tokens() {
    let mut world = crowd(Strategy::TimeBased { duration_ms: 10, burst: None });
    open(&mut world, Some(vec![QUEUES]), 0);
    jobs(&mut world, 0..QUEUES);
    open(&mut world, None, 1);
    let before = steps(&world);
    let held = |world: &World| world.model.leases.values().map(Lease::as_held).collect::<Vec<_>>();
    for _ in 1..QUEUES / 2 {
        // One token comes while its worker is still busy, the next while the worker waits for it.
        world.pass(10);
        world.turn(Vec::new()).unwrap();
        for _ in 0..2 {
            let done = held(&world);
            assert_eq!(done.len(), 1);
            world.turn(vec![Act::Succeed(done)]).unwrap();
        }
        assert_eq!(held(&world).len(), 0);
        world.pass(10);
        world.turn(Vec::new()).unwrap();
    }
    let cost = steps(&world) - before;
    assert!(cost <= STEPS * QUEUES, "{cost} steps");
    world.finish().unwrap();
}

#[test]
fn a_queue_forgotten_while_it_sleeps_keeps_no_token_from_others() {
    let mut world = crowd(Strategy::TimeBased { duration_ms: 3_000, burst: None });
    // More than are kept in memory.
    jobs(&mut world, std::iter::repeat_n(0, 40));
    open(&mut world, None, 0);
    let held: Vec<_> = world.model.leases.values().map(Lease::as_held).collect();
    assert_eq!(held.len(), 1);
    let ids = world.model.jobs.keys().copied().filter(|id| *id != held[0].id).collect();
    let change = Change::Patch(Patch { queue: Some(queue(1)), ..Patch::default() }.into());
    world.turn(vec![Act::Succeed(held), Act::Change { ids, only: None, change }]).unwrap();
    world.pass(1_500);
    world.turn(Vec::new()).unwrap();
    for left in (0..39).rev() {
        world.pass(3_000);
        world.turn(Vec::new()).unwrap();
        let held: Vec<_> = world.model.leases.values().map(Lease::as_held).collect();
        assert_eq!(held.len(), 1, "with {left} left");
        world.turn(vec![Act::Succeed(held)]).unwrap();
    }
    world.finish().unwrap();
}
