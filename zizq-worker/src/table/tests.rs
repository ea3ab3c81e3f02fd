use std::time::Duration;

use super::*;

pub(super) const SUCCESS: Outcome = Outcome::Success(None);

fn id(n: u128) -> JobId {
    JobId::from_u128(n)
}

fn lease(n: u128, token: u64) -> Lease {
    Lease { id: id(n), token: LeaseToken::from_u64(token) }
}

pub(super) fn job(n: u128, token: u64) -> Box<DeliveredJob> {
    let json = serde_json::json!({
        "id": id(n), "type": "t", "queue": "q", "priority": 1, "attempts": 0, "payload": null,
        "lease": LeaseToken::from_u64(token),
    });
    Box::new(serde_json::from_str(&json.to_string()).unwrap())
}

fn table(limit: usize) -> Table {
    let mut table = Table::new(usize::MAX, u64::MAX);
    table.set_routes(RouteMap::by_queue(&["q"]), [slots("q", limit)], usize::MAX);
    table
}

pub(super) fn slots(route: &str, limit: usize) -> Slots {
    Slots { route: route.into(), limit, room: limit }
}

fn job_of(queue: &str, n: u128) -> Box<DeliveredJob> {
    let mut job = job(n, 10);
    job.queue = protocol::name::QueueName::new(queue).unwrap();
    job
}

/// One word per effect: what, job, token.
fn effects(table: &mut Table) -> Vec<String> {
    let text = |effect| match effect {
        Effect::Start(job, _) => format!("start {} {}", job.id.to_u128(), job.lease.to_u64()),
        Effect::Stop(id) => format!("stop {}", id.to_u128()),
        Effect::NoRoute(job) => format!("no route {}", job.id.to_u128()),
        Effect::Report(Report { lease, verdict }) => {
            let verdict = match &*verdict {
                Verdict::Success { .. } => "success",
                Verdict::Failure { .. } => "failure",
                Verdict::Release { .. } => "release",
            };
            format!("{verdict} {} {}", lease.id.to_u128(), lease.token.to_u64())
        }
    };
    table.take_effects().into_iter().map(text).collect()
}

fn sorted(mut effects: Vec<String>) -> Vec<String> {
    effects.sort();
    effects
}

#[test]
fn a_job_runs_is_reported_and_forgotten() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    assert_eq!(effects(&mut table), ["start 1 10"]);
    assert_eq!(table.leases(), [lease(1, 10)]);
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 1 10"]);
    assert_eq!(table.leases(), [lease(1, 10)], "until the server knows, nobody else shall run it");
    table.settled(lease(1, 10), true);
    assert!(table.is_empty() && effects(&mut table).is_empty());
}

#[test]
fn slots_are_never_exceeded_and_what_waits_keeps_its_order() {
    let mut table = table(2);
    (1..=4).for_each(|n| table.delivered(job(n, 10)));
    assert_eq!(effects(&mut table), ["start 1 10", "start 2 10"]);
    assert_eq!(table.leases().len(), 4);
    table.finished(id(2), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 2 10", "start 3 10"]);
    table.delivered(job(5, 10));
    table.delivered(job(6, 10));
    assert_eq!(effects(&mut table), ["release 6 10"], "more than a stream may hold goes back");
}

#[test]
fn a_known_delivery_is_nothing_new() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.delivered(job(2, 11));
    effects(&mut table);
    table.delivered(job(1, 10));
    table.delivered(job(2, 11));
    table.finished(id(1), SUCCESS, None);
    table.delivered(job(1, 10));
    assert_eq!(effects(&mut table), ["success 1 10", "start 2 11"]);
}

#[test]
fn a_running_job_takes_over_a_new_lease() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.delivered(job(1, 20));
    assert_eq!(effects(&mut table), ["start 1 10"]);
    assert_eq!(table.leases(), [lease(1, 20)]);
    assert!(!table.lost(lease(1, 10)));
    assert!(effects(&mut table).is_empty(), "an answer about the old lease says nothing about the new one");
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 1 20"]);
}

#[test]
fn a_waiting_job_takes_over_a_new_lease() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.delivered(job(2, 10));
    table.delivered(job(2, 20));
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["start 1 10", "success 1 10", "start 2 20"]);
}

#[test]
fn finished_work_is_reported_under_the_new_lease() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.finished(id(1), SUCCESS, None);
    table.delivered(job(1, 20));
    assert_eq!(effects(&mut table), ["start 1 10", "success 1 10"]);
    assert_eq!(table.leases(), [lease(1, 20)]);
    assert!(table.settled(lease(1, 10), false), "by its later lease");
    assert_eq!(effects(&mut table), ["success 1 20"]);
    table.settled(lease(1, 20), true);
    assert!(table.is_empty());
}

#[test]
fn a_retry_that_overtakes_the_answer_is_a_new_run() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.finished(id(1), Outcome::Failure(protocol::outcome::Failure::default()), None);
    table.delivered(job(1, 20));
    effects(&mut table);
    table.settled(lease(1, 10), true);
    assert_eq!(effects(&mut table), ["start 1 20"]);
}

#[test]
fn a_lost_lease_or_a_cancel_ends_the_run_and_nothing_is_reported() {
    for by_heartbeat in [true, false] {
        let mut table = table(1);
        table.delivered(job(1, 10));
        table.delivered(job(2, 11));
        effects(&mut table);
        for (n, token) in [(1, 10), (2, 11)] {
            assert!(if by_heartbeat { table.lost(lease(n, token)) } else { table.cancelled(id(n)) });
        }
        assert_eq!(effects(&mut table), ["stop 1"]);
        assert!(table.leases().is_empty());
        table.finished(id(1), Outcome::Stopped, None);
        assert!(table.is_empty() && effects(&mut table).is_empty());
    }
}

#[test]
fn a_cancel_after_the_end_changes_nothing() {
    let mut table = table(1);
    assert!(!table.cancelled(id(1)));
    table.delivered(job(1, 10));
    table.finished(id(1), SUCCESS, None);
    assert!(!table.cancelled(id(1)));
    assert!(!table.settled(lease(1, 10), false));
    assert!(table.is_empty());
}

#[test]
fn a_job_that_comes_back_while_it_is_being_stopped_starts_when_it_has_ended() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.lost(lease(1, 10));
    table.delivered(job(1, 20));
    assert_eq!(effects(&mut table), ["start 1 10", "stop 1"]);
    assert_eq!(table.leases(), [lease(1, 20)]);
    table.finished(id(1), Outcome::Stopped, None);
    assert_eq!(effects(&mut table), ["start 1 20"]);
}

#[test]
fn a_job_that_ended_before_it_could_be_stopped_is_not_run_again() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.lost(lease(1, 10));
    table.delivered(job(1, 20));
    effects(&mut table);
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 1 20"]);
}

#[test]
fn draining_gives_back_what_waits_and_what_still_comes() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.delivered(job(2, 11));
    effects(&mut table);
    table.drain();
    table.delivered(job(3, 12));
    assert_eq!(effects(&mut table), ["release 2 11", "release 3 12"]);
    assert_eq!(table.leases(), [lease(1, 10)], "what is given back is not held");
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 1 10"]);
    for (n, token) in [(1, 10), (2, 11), (3, 12)] {
        table.settled(lease(n, token), true);
    }
    assert!(table.is_empty());
}

#[test]
fn what_is_ended_for_shutdown_is_given_back_unless_it_finished() {
    let mut table = table(2);
    table.delivered(job(1, 10));
    table.delivered(job(2, 11));
    effects(&mut table);
    table.drain();
    assert_eq!(table.stop_all(), 2);
    assert_eq!(sorted(effects(&mut table)), ["stop 1", "stop 2"]);
    assert_eq!(table.stop_all(), 0);
    table.finished(id(1), Outcome::Stopped, None);
    table.finished(id(2), SUCCESS, None);
    assert_eq!(effects(&mut table), ["release 1 10", "success 2 11"]);
}

#[test]
fn a_job_that_could_not_be_started_is_given_back_for_later() {
    let mut table = table(1);
    table.delivered(job(1, 10));
    table.finished(
        id(1),
        Outcome::Release { reason: "why".to_owned(), pause: Some(Duration::from_millis(5)) },
        None,
    );
    let reports = table.take_effects();
    let Some(Effect::Report(report)) = reports.last() else { panic!("{reports:?}") };
    assert_eq!(*report.verdict, Verdict::Release { delay_ms: Some(5), reason: Some("why".to_owned()) });
}

#[test]
fn the_slots_of_all_routes_together_are_shared_out() {
    let mut table = Table::new(3, u64::MAX);
    table.set_routes(RouteMap::by_queue(&["a", "b"]), [slots("a", 3), slots("b", 3)], 3);
    (1..=3).for_each(|n| table.delivered(job_of("a", n)));
    (4..=6).for_each(|n| table.delivered(job_of("b", n)));
    assert_eq!(effects(&mut table), ["start 1 10", "start 2 10", "start 3 10"]);
    assert!(table.is_full());
    assert_eq!(table.load(&["a".into(), "b".into()]), (3, 3));
    table.finished(id(1), SUCCESS, None);
    table.finished(id(2), SUCCESS, None);
    assert_eq!(effects(&mut table), ["success 1 10", "start 4 10", "success 2 10", "start 5 10"]);
    table.give_back_waiting(&"b".into(), 0);
    assert_eq!(effects(&mut table), ["release 6 10"]);
}

#[test]
fn a_job_without_a_route_is_its_owners_to_give_back() {
    let mut table = table(1);
    table.delivered(job_of("other", 1));
    assert_eq!(effects(&mut table), ["no route 1"]);
    table.give_back(id(1), 99, "no route".to_owned());
    assert_eq!(effects(&mut table), ["release 1 10"]);
    table.settled(lease(1, 10), true);
    assert!(table.is_empty());
}

#[test]
fn new_routes_leave_what_runs_alone_and_place_what_waits_anew() {
    let mut table = Table::new(usize::MAX, u64::MAX);
    table.set_routes(RouteMap::by_queue(&["a", "b"]), [slots("a", 1), slots("b", 1)], usize::MAX);
    table.delivered(job_of("a", 1));
    table.delivered(job_of("a", 2));
    table.delivered(job_of("b", 3));
    table.delivered(job_of("b", 4));
    assert_eq!(effects(&mut table), ["start 1 10", "start 3 10"]);
    table.set_routes(RouteMap::by_queue(&["a"]), [slots("a", 2)], usize::MAX);
    assert_eq!(sorted(effects(&mut table)), ["no route 4", "start 2 10"]);
    table.give_back(id(4), 5, "no route".to_owned());
    table.finished(id(3), SUCCESS, None);
    table.finished(id(1), SUCCESS, None);
    assert_eq!(effects(&mut table), ["release 4 10", "success 3 10", "success 1 10"]);
    assert_eq!(table.load(&["a".into()]), (1, 0));
}

#[test]
fn only_so_many_are_started() {
    let mut table = Table::new(usize::MAX, 2);
    table.set_routes(RouteMap::by_queue(&["q"]), [slots("q", 5)], usize::MAX);
    (1..=3).for_each(|n| table.delivered(job(n, 10)));
    assert_eq!(effects(&mut table), ["start 1 10", "start 2 10"]);
    assert!(table.is_spent());
    table.drain();
    assert_eq!(effects(&mut table), ["release 3 10"]);
}
