//! Every command, in every commit mode, on a disk with space and on a full one.

use std::collections::HashSet;
use std::sync::Arc;

use protocol::budget::{Policy, PolicyPatch, Strategy};
use protocol::cron::Template;
use protocol::id::JobId;
use protocol::lease::{JobHeartbeat, JobRelease};
use protocol::name::{BudgetKey, CronName, QueueName};
use protocol::outcome::Failure;
use protocol::payload::Payload;
use serde_json::json;

use super::*;
use crate::engine::answers;
use crate::engine::batches::{Fold, Plan};
use crate::engine::budget::BudgetCommand;
use crate::engine::bulk::NewBulk;
use crate::engine::command::{Change, Command::*};
use crate::engine::cron::CronCommand;
use crate::engine::crons::NewEntry;
use crate::engine::kind::Kind;
use crate::engine::notice::Waiter;

const JOB: LeasedJob = LeasedJob { id: JobId::from_u128(1), lease: None };
const LINK: Link = Link { stream: 1, number: 0 };

fn waiter() -> Waiter {
    Waiter { key: 1, wake: Box::new(|_| ()) }
}

fn name(text: &str) -> CronName {
    CronName::new(text).unwrap()
}

fn entry(text: &str) -> NewEntry {
    let job = json!({"queue": "q", "type": "t", "payload": 1});
    NewEntry {
        name: name(text),
        expression: "0 0 1 1 *".to_owned(),
        recurrence: "0 0 1 1 *".parse().unwrap(),
        timezone: None,
        paused: None,
        template: Arc::new(Template::parse(&job).unwrap()),
    }
}

fn once() -> answers::Once {
    answers::Once { key: "key".into(), fingerprint: 1 }
}

fn bulk() -> NewBulk {
    let body = Bytes::from(json!({"jobs": [{"queue": "q", "type": "t", "payload": 1}]}).to_string());
    NewBulk::parse(Format::Json, body, 0).unwrap()
}

/// Bring jobs.
fn enqueues() -> Vec<Command> {
    let fold = Fold { jobs: vec![new_job()], plan: Plan::default(), waiter: None, firing: None };
    vec![
        Enqueue(vec![new_job()]),
        EnqueueBulk(bulk()),
        EnqueueAndWait { jobs: vec![new_job()], waiter: waiter() },
        Fold(Box::new(fold)),
        RunEntry { group: name("g"), name: name("e") },
        Once { once: once(), command: Box::new(Enqueue(vec![new_job()])) },
        Once { once: once(), command: Box::new(Enqueue(vec![new_job()])) },
    ]
}

/// Change what is stored.
fn changes() -> Vec<Command> {
    let budget = || BudgetKey::new("b").unwrap();
    let policy = Policy { allocation: 5, strategy: Strategy::WhileInFlight };
    let queue = || QueueName::new("q").unwrap();
    let budgets = [
        BudgetCommand::Create(budget(), policy),
        BudgetCommand::Put(budget(), policy),
        BudgetCommand::Patch(budget(), PolicyPatch::default()),
        BudgetCommand::Delete(budget()),
    ];
    let crons = [
        CronCommand::Put { group: name("h"), paused: None, timezone: None, entries: vec![entry("e")] },
        CronCommand::Patch { group: name("h"), paused: Some(true), timezone: None },
        CronCommand::Add(name("h"), entry("f")),
        CronCommand::PutEntry(name("h"), entry("f")),
        CronCommand::PauseEntry(name("h"), name("f"), true),
        CronCommand::DeleteEntry(name("h"), name("f")),
        CronCommand::Delete(name("h")),
        CronCommand::DeleteAll,
    ];
    let mut all = vec![
        Succeed(vec![JOB]),
        SucceedWith { job: JOB, result: Payload::from_checked(Format::Json, Bytes::from_static(b"1")) },
        Fail { job: JOB, failure: Failure::default() },
        Release(vec![JobRelease { id: JOB.id, lease: None, ready_at: None, delay_ms: None, reason: None }]),
        Command::Change { ids: vec![JOB.id], only: None, change: Change::Delete },
        Pause { queue: queue(), paused: true },
        Pause { queue: queue(), paused: false },
        ForgetQueue(queue()),
        Reset,
    ];
    all.extend(budgets.map(Budget));
    all.extend(crons.map(|command| Cron(Box::new(command))));
    all
}

/// Only link a stream, or ask.
fn others() -> Vec<Command> {
    let beat = JobHeartbeat { id: JOB.id, lease: None, lease_ms: None, progress: None, message: None };
    let list = ListInFlight { queues: None, from: None, descending: false, limit: 1 };
    vec![
        Rest(LINK),
        Finish(LINK),
        Drained(LINK),
        Beat(LINK),
        Heartbeat(vec![beat]),
        Close(LINK),
        OpenBatches(Vec::new()),
        Attempt(JOB),
        Inspect(vec![JOB.id]),
        list,
        QueueIds(Vec::new()),
        Count { queues: None },
        Wait { id: JOB.id, waiter: waiter() },
        Unwait { id: JOB.id, key: 1 },
        Queues { names: None },
        Workers,
        Budget(BudgetCommand::List),
        Budget(BudgetCommand::Get(BudgetKey::new("b").unwrap())),
        Cron(Box::new(CronCommand::List)),
        Cron(Box::new(CronCommand::Get(name("g")))),
        Cron(Box::new(CronCommand::GetEntry(name("g"), name("e")))),
    ]
}

#[test]
fn every_command_is_in_the_table() {
    let all = enqueues().into_iter().chain(changes()).chain(others());
    let variants: HashSet<_> = all.map(|command| std::mem::discriminant(&command)).collect();
    // `Open`, `Drain` and `Stop` are not: the first is what each test begins with, the others end it.
    assert_eq!(variants.len(), 32);
    assert!(enqueues().iter().all(|command| command.kind() == Kind::Enqueue));
    assert!(changes().iter().all(|command| command.kind() == Kind::Change));
    assert!(others().iter().all(|command| matches!(command.kind(), Kind::Link | Kind::Ask)));
    assert_eq!((Drain.kind(), Stop.kind()), (Kind::Link, Kind::Change));
}

#[tokio::test]
async fn an_answer_waits_for_a_sync_where_its_commit_mode_says_so() {
    let modes = [CommitMode::Buffered, CommitMode::Fsync];
    for (enqueue, others_mode) in modes.into_iter().flat_map(|mode| modes.map(|other| (mode, other))) {
        let world = World::with(CommitModes { enqueue, others: others_mode });
        world.engine.call(Cron(Box::new(CronCommand::Add(name("g"), entry("e"))))).await.unwrap();
        let table = [(enqueues(), enqueue), (changes(), others_mode), (others(), CommitMode::Buffered)];
        for (commands, mode) in table {
            for command in commands {
                let what = format!("{command:?} with {enqueue:?}, {others_mode:?}");
                // Whether it is carried out or refused: what it says of the store must be so after a loss of power.
                let before = world.faults.syncs.load(Ordering::SeqCst);
                drop(world.engine.call(command).await);
                let synced = world.faults.syncs.load(Ordering::SeqCst) > before;
                assert_eq!(synced, mode == CommitMode::Fsync, "{what}");
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_brings_jobs_and_nothing_else() {
    let world = World::start();
    world.engine.call(Cron(Box::new(CronCommand::Add(name("g"), entry("e"))))).await.unwrap();
    world.fill(true);
    for command in enqueues() {
        let what = format!("{command:?}");
        assert_eq!(world.engine.call(command).await.unwrap_err(), CallError::DiskFull, "{what}");
    }
    for command in others().into_iter().chain(changes()) {
        let what = format!("{command:?}");
        assert_ne!(world.engine.call(command).await.err(), Some(CallError::DiskFull), "{what}");
    }
    world.engine.call(Cron(Box::new(CronCommand::Add(name("g"), entry("e"))))).await.unwrap();
    world.fill(false);
    for command in enqueues() {
        world.engine.call(command).await.unwrap();
    }
    world.stop().await;
}
