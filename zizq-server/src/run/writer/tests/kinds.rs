//! Every command, in every commit mode, on a disk with space and on a full one.

use std::collections::HashSet;
use std::sync::Arc;

use protocol::access::TokenId;
use protocol::budget::{Policy, PolicyPatch, Strategy};
use protocol::cron::Template;
use protocol::id::JobId;
use protocol::lease::{JobHeartbeat, JobRelease};
use protocol::name::{BudgetKey, CronName, QueueName, TokenName};
use protocol::outcome::Failure;
use protocol::payload::Payload;
use serde_json::json;

use super::*;
use crate::access::{Credential, Digest, Scope};
use crate::engine::command::Reset;
use crate::engine::command::access::{
    CreateToken, ListTokens, NewToken, RevokeToken, RotateToken, UseTokens,
};
use crate::engine::command::batches::{Fold, OpenBatches, Plan};
use crate::engine::command::budgets::{
    BindingChange, CheckBinding, CreateBudget, DeleteBudget, GetBudget, ListBudgets, PatchBudget, PutBudget,
};
use crate::engine::command::crons::{
    AddEntry, DeleteCron, DeleteCrons, DeleteEntry, GetCron, GetEntry, ListCrons, NewEntry, PatchCron,
    PauseEntry, PutCron, PutEntry, RunEntry,
};
use crate::engine::command::jobs::{
    Change, ChangeJobs, EnqueueAndWait, Fail, FindHolders, FindInFlight, GetAttempt, Heartbeat, ListInFlight,
    Release, SucceedWith, Unwait, Wait, Waiter,
};
use crate::engine::command::once::Once;
use crate::engine::command::queues::{ForgetQueue, ListQueues, OldestReady, PauseQueue, QueueIds};
use crate::engine::command::report::{GetLevels, GetReport};
use crate::engine::command::streams::{
    CaughtUp, CutOff, DrainWorkers, FinishPoll, ListWorkers, RenewStream, StopTaking,
};
use crate::job::bulk::NewBulk;

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

fn bulk() -> NewBulk {
    let body = Bytes::from(json!({"jobs": [{"queue": "q", "type": "t", "payload": 1}]}).to_string());
    NewBulk::parse(Format::Json, body, 0, None).unwrap()
}

/// Commands that add jobs.
fn enqueues() -> Vec<Envelope> {
    let fold = || Fold { jobs: vec![new_job()], plan: Plan::default(), waiter: None, firing: None };
    let once = || Some(Once { key: "key".into(), fingerprint: 1 });
    vec![
        Enqueue(vec![new_job()]).into(),
        bulk().into(),
        EnqueueAndWait { jobs: vec![new_job()], waiter: waiter() }.into(),
        fold().into(),
        RunEntry { group: name("g"), name: name("e") }.into(),
        Envelope { command: Enqueue(vec![new_job()]).into(), once: once() },
        Envelope { command: Enqueue(vec![new_job()]).into(), once: once() },
    ]
}

/// Commands that change the store.
fn changes() -> Vec<Envelope> {
    let budget = || BudgetKey::new("b").unwrap();
    let policy = Policy { allocation: 5, strategy: Strategy::WhileInFlight };
    let queue = || QueueName::new("q").unwrap();
    let entries = vec![entry("e")];
    let given_back = JobRelease { id: JOB.id, lease: None, ready_at: None, delay_ms: None, reason: None };
    vec![
        Succeed(vec![JOB]).into(),
        SucceedWith { job: JOB, result: Payload::from_checked(Format::Json, Bytes::from_static(b"1")) }
            .into(),
        Fail { job: JOB, failure: Failure::default() }.into(),
        Release(vec![given_back]).into(),
        ChangeJobs { ids: vec![JOB.id], only: None, change: Change::Delete }.into(),
        PauseQueue { queue: queue(), paused: true }.into(),
        PauseQueue { queue: queue(), paused: false }.into(),
        ForgetQueue(queue()).into(),
        Reset.into(),
        CreateBudget(budget(), policy).into(),
        PutBudget(budget(), policy).into(),
        PatchBudget(budget(), PolicyPatch::default()).into(),
        DeleteBudget(budget()).into(),
        PutCron { group: name("h"), paused: None, timezone: None, entries }.into(),
        PatchCron { group: name("h"), paused: Some(true), timezone: None }.into(),
        AddEntry(name("h"), entry("f").into()).into(),
        PutEntry(name("h"), entry("f").into()).into(),
        PauseEntry { group: name("h"), name: name("f"), paused: true }.into(),
        DeleteEntry(name("h"), name("f")).into(),
        DeleteCron(name("h")).into(),
        DeleteCrons.into(),
        UseTokens(Vec::new()).into(),
    ]
}

/// Commands that change who may do what.
fn accesses() -> Vec<Envelope> {
    let id = TokenId::new(1);
    let new = NewToken {
        id: id.clone(),
        name: TokenName::new("n").unwrap(),
        role: None,
        grants: Vec::new(),
        credential: Credential::Secret { digest: Digest::of("a"), old: None },
        created_by: String::new(),
        expires_at: None,
        key: [1; 32],
    };
    vec![
        CreateToken(new.into()).into(),
        RotateToken { id: id.clone(), digest: Digest::of("b"), overlap_ms: 1 }.into(),
        RevokeToken(id).into(),
    ]
}

/// Commands that only link a stream or ask.
fn others() -> Vec<Envelope> {
    let beat = JobHeartbeat { id: JOB.id, lease: None, lease_ms: None, progress: None, message: None };
    vec![
        StopTaking(LINK).into(),
        FinishPoll(LINK).into(),
        CaughtUp(LINK).into(),
        RenewStream(LINK).into(),
        Heartbeat(vec![beat]).into(),
        CloseStream(LINK).into(),
        OpenBatches(Vec::new(), Scope::All).into(),
        GetAttempt(JOB).into(),
        FindInFlight { ids: vec![JOB.id], worker: None }.into(),
        FindHolders(vec![JOB.id]).into(),
        GetReport.into(),
        GetLevels.into(),
        OldestReady(Vec::new()).into(),
        DrainWorkers::Named("w".to_owned()).into(),
        CutOff("0".to_owned()).into(),
        ListInFlight { queues: None, worker: None, from: None, descending: false, limit: 1 }.into(),
        QueueIds(Vec::new()).into(),
        CountJobs { queues: None }.into(),
        Wait { id: JOB.id, waiter: waiter() }.into(),
        Unwait { id: JOB.id, key: 1 }.into(),
        ListQueues { names: None }.into(),
        ListWorkers.into(),
        ListBudgets.into(),
        GetBudget(BudgetKey::new("b").unwrap()).into(),
        CheckBinding(BindingChange::Remove(BudgetKey::new("b").unwrap()).into()).into(),
        ListCrons.into(),
        GetCron(name("g")).into(),
        GetEntry(name("g"), name("e")).into(),
        ListTokens.into(),
    ]
}

#[test]
fn every_command_is_in_the_table() {
    let all = enqueues().into_iter().chain(changes()).chain(accesses()).chain(others());
    let variants: HashSet<_> = all.map(|call| std::mem::discriminant(&call.command)).collect();
    // `OpenStream`, `Drain` and `Stop` are missing: each test begins with the first and ends with the others.
    assert_eq!(variants.len() + 3, Command::SIZES.len());
    assert!(enqueues().iter().all(|call| call.kind() == Kind::Enqueue));
    assert!(changes().iter().all(|call| call.kind() == Kind::Change));
    assert!(accesses().iter().all(|call| call.kind() == Kind::Access));
    assert!(others().iter().all(|call| matches!(call.kind(), Kind::Link | Kind::Ask)));
    let kind = |call: Envelope| call.kind();
    assert_eq!((kind(Drain.into()), kind(Stop.into())), (Kind::Link, Kind::Change));
    let begun = Envelope {
        once: Some(Once { key: "k".into(), fingerprint: 1 }),
        ..OpenBatches(Vec::new(), Scope::All).into()
    };
    assert_eq!(begun.kind(), Kind::Enqueue, "beginning an enqueue with a key is answered as an enqueue");
}

#[tokio::test]
async fn an_answer_waits_for_a_sync_if_its_commit_mode_says_so() {
    let modes = [CommitMode::Buffered, CommitMode::Fsync];
    for (enqueue, others_mode) in modes.into_iter().flat_map(|mode| modes.map(|other| (mode, other))) {
        let world = World::with(CommitModes { enqueue, others: others_mode });
        world.engine.ask(PutEntry(name("g"), entry("e").into())).await.unwrap();
        let table = [(enqueues(), enqueue), (changes(), others_mode), (others(), CommitMode::Buffered)];
        for (commands, mode) in table {
            for command in commands {
                let what = format!("{command:?} with {enqueue:?}, {others_mode:?}");
                // Executed or refused, the answer about the store must still be true after a power failure.
                let before = world.faults.syncs.load(Ordering::SeqCst);
                drop(world.engine.send(command).await);
                let synced = world.faults.syncs.load(Ordering::SeqCst) > before;
                assert_eq!(synced, mode == CommitMode::Fsync, "{what}");
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_jobs_and_nothing_else() {
    let world = World::start();
    world.engine.ask(PutEntry(name("g"), entry("e").into())).await.unwrap();
    world.fill(true);
    for command in enqueues() {
        let what = format!("{command:?}");
        assert_eq!(world.engine.send(command).await.unwrap_err(), CallError::DiskFull, "{what}");
    }
    for command in others().into_iter().chain(changes()) {
        let what = format!("{command:?}");
        assert_ne!(world.engine.send(command).await.err(), Some(CallError::DiskFull), "{what}");
    }
    world.engine.ask(PutEntry(name("g"), entry("e").into())).await.unwrap();
    world.fill(false);
    for command in enqueues() {
        world.engine.send(command).await.unwrap();
    }
    world.stop().await;
}
