//! The official Rust client of Zizq, unchanged, against this server: everything it can do.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tests::Server;
use tests::wait::until;
use tokio::sync::{Mutex, oneshot};
use zizq::{
    BackoffConfig, BatchConfig, BudgetBindingInput, BudgetPatch, BudgetPolicy, BudgetStrategy, Client,
    CronEntry, Format, JobKind, JobPatch, JobStatus, Order, RetentionConfig, Router, State, UniqueKey,
    UniqueScope, Worker,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JobKind)]
#[zizq(name = "send_email", queue = "emails")]
pub(crate) struct SendEmail {
    pub(crate) to: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JobKind)]
#[zizq(name = "process_report", queue = "reports")]
pub(crate) struct ProcessReport {
    pub(crate) pages: u32,
}

fn email(to: &str) -> SendEmail {
    SendEmail { to: to.to_owned() }
}

fn clients(server: &Server) -> [Client; 2] {
    [Format::MessagePack, Format::Json]
        .map(|format| Client::builder().url(server.url()).format(format).build().unwrap())
}

#[tokio::test]
async fn enqueue_look_change_and_delete() {
    let server = Server::start().await;
    for client in clients(&server) {
        client.health().await.unwrap();
        assert_eq!(client.server_version().await.unwrap(), protocol::CONTRACT_VERSION);
        let job = client
            .enqueue(email("ada"))
            .priority(7)
            .retry_limit(3)
            .backoff(BackoffConfig { base_ms: 10, exponent: 1.5, jitter_ms: 0 })
            .retention(RetentionConfig { completed_ms: Some(60_000), dead_ms: None })
            .delay(Duration::from_secs(3_600))
            .await
            .unwrap();
        assert_eq!((job.status, job.priority, job.retry_limit), (JobStatus::Scheduled, 7, Some(3)));
        assert_eq!((job.duplicate, job.folded), (Some(false), Some(false)));
        let seen = client.get_job(&job.id).await.unwrap();
        assert_eq!(seen.payload, Some(json!({"to": "ada"})));
        let mut bulk = client.enqueue_bulk();
        for n in 0..30 {
            bulk.push(client.enqueue(ProcessReport { pages: n }).priority(u16::try_from(n).unwrap()));
        }
        assert_eq!(bulk.await.unwrap().len(), 30);
        assert_eq!(client.list_queues().await.unwrap(), ["emails", "reports"]);
        assert_eq!(client.count_jobs().queue(["reports"]).priority(10..=19).await.unwrap(), 10);
        assert_eq!(
            client.count_jobs().job_type(["send_email"]).status([JobStatus::Scheduled]).await.unwrap(),
            1
        );
        let page = client.list_jobs().queue(["reports"]).order(Order::Desc).limit(20).await.unwrap();
        assert_eq!((page.jobs.len(), page.pages.next.is_some()), (20, true));
        let patched = client.patch_job(&job.id, JobPatch::new().priority(1).queue("other")).await.unwrap();
        assert_eq!((patched.priority, patched.queue.as_str()), (1, "other"));
        let all =
            client.patch_all_jobs().queue(["reports"]).patch(JobPatch::new().priority(5)).await.unwrap();
        assert_eq!(all, 30);
        client.delete_job(&job.id).await.unwrap();
        assert!(client.get_job(&job.id).await.unwrap_err().is_not_found());
        assert_eq!(client.delete_all_jobs().queue(["reports"]).await.unwrap(), 30);
        client.reset().await.unwrap();
    }
}

#[tokio::test]
async fn unique_jobs() {
    let server = Server::start().await;
    for client in clients(&server) {
        let key = || UniqueKey::hash_of(("user", 42)).scope(UniqueScope::Active);
        let first = client.enqueue(email("ada")).unique_key(key()).await.unwrap();
        let again = client.enqueue(email("bob")).unique_key(key()).await.unwrap();
        assert_eq!((again.id, again.duplicate), (first.id, Some(true)));
        assert_eq!(again.unique_key, Some(key()));
        client.reset().await.unwrap();
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Notify {
    ids: Vec<u32>,
}

impl JobKind for Notify {
    const NAME: &'static str = "notify";
    const QUEUE: &'static str = "push";

    fn batch(&self) -> Option<BatchConfig> {
        Some(BatchConfig::at(".ids", 3).dedup().keyed_by("push"))
    }
}

#[tokio::test]
async fn batched_jobs() {
    let server = Server::start().await;
    for client in clients(&server) {
        let notify = |ids: &[u32]| Notify { ids: ids.to_vec() };
        let first = client.enqueue(notify(&[2])).await.unwrap();
        assert_eq!((first.folded, &first.batch), (Some(false), &notify(&[]).batch()));
        let again = client.enqueue(notify(&[1, 2])).await.unwrap();
        assert_eq!((&again.id, again.folded, again.duplicate), (&first.id, Some(true), Some(false)));
        let seen = client.get_job(&first.id).await.unwrap();
        assert_eq!((seen.payload, seen.batch), (Some(json!({"ids": [1, 2]})), notify(&[]).batch()));
        // One more than there may be.
        let mut bulk = client.enqueue_bulk();
        bulk.push(client.enqueue(notify(&[3, 4])));
        bulk.push(client.enqueue(notify(&[5])));
        let own = BatchConfig { key: "own".into(), when: "false".into(), fold: "$existing".into() };
        bulk.push(client.enqueue(notify(&[6])).batch(own));
        let jobs = bulk.await.unwrap();
        assert_eq!(
            jobs.iter().map(|job| job.folded).collect::<Vec<_>>(),
            [Some(false), Some(true), Some(false)]
        );
        assert_eq!(jobs[1].id, jobs[0].id);
        assert_eq!(client.get_job(&jobs[0].id).await.unwrap().payload, Some(json!({"ids": [3, 4, 5]})));
        let bad = BatchConfig { key: "bad".into(), when: "true".into(), fold: "$nobody".into() };
        let refused = client.enqueue(notify(&[7])).batch(bad).await.unwrap_err();
        assert!(refused.to_string().contains("$nobody"), "{refused}");
        assert_eq!(client.count_jobs().queue(["push"]).await.unwrap(), 3);
        client.reset().await.unwrap();
    }
}

#[tokio::test]
async fn budgets() {
    let server = Server::start().await;
    for client in clients(&server) {
        let hourly = BudgetPolicy::new(100, BudgetStrategy::time_based(Duration::from_secs(3_600)));
        let made = client.create_budget("mails", hourly.clone()).await.unwrap();
        assert_eq!((made.allocation, &made.strategy), (100, &hourly.strategy));
        assert!(client.create_budget("mails", hourly.clone()).await.unwrap_err().is_conflict());
        let patched = client.update_budget("mails", BudgetPatch::new().burst(5)).await.unwrap();
        assert_eq!(
            patched.strategy,
            BudgetStrategy::TimeBased { duration: Duration::from_secs(3_600), burst: Some(5) }
        );
        let patched = client.update_budget("mails", BudgetPatch::new().clear_burst()).await.unwrap();
        assert_eq!(patched.strategy, hourly.strategy);
        let few = BudgetPolicy::new(4, BudgetStrategy::WhileInFlight);
        client.put_budget("mails", few.clone()).await.unwrap();
        assert_eq!(client.list_budgets().await.unwrap().len(), 1);

        let with_policy = BudgetBindingInput::from("reports".to_owned()).create_with(few);
        let job = client.enqueue(email("ada")).budget("mails").budget(with_policy.cost(2)).await.unwrap();
        let costs = |job: &zizq::Job| job.budgets.iter().map(|b| (b.key.clone(), b.cost)).collect::<Vec<_>>();
        assert_eq!(costs(&job), [("mails".to_owned(), 1), ("reports".to_owned(), 2)]);
        assert_eq!(client.count_jobs().budgets_key(["reports"]).await.unwrap(), 1);
        let other = client.enqueue(email("bob")).await.unwrap();
        client.bind_budget(&other.id, BudgetBindingInput::new("mails").cost(2)).await.unwrap();
        assert!(client.bind_budget(&other.id, "mails").await.unwrap_err().is_conflict());
        client.rebind_budget(&other.id, BudgetBindingInput::new("mails").cost(3)).await.unwrap();
        assert_eq!(
            costs(&client.set_budget_cost(&other.id, "mails", 4).await.unwrap()),
            [("mails".to_owned(), 4)]
        );
        assert_eq!(
            costs(&client.replace_budgets(&other.id, ["reports"]).await.unwrap()),
            [("reports".to_owned(), 1)]
        );
        assert_eq!(costs(&client.unbind_budget(&other.id, "reports").await.unwrap()), []);
        assert_eq!(costs(&client.unbind_all_budgets(&job.id).await.unwrap()), []);

        let bound = client.bind_all_jobs_budget("mails").queue(["emails"]).await.unwrap();
        assert_eq!((bound.changed, bound.blocked.len()), (2, 0));
        assert_eq!(client.set_all_jobs_budget_cost("mails", 2).await.unwrap().changed, 2);
        client.rebind_all_jobs_budget(BudgetBindingInput::new("mails").cost(1)).await.unwrap();
        assert!(client.delete_budget("mails").await.unwrap_err().is_conflict());
        assert_eq!(client.unbind_all_jobs_budget("mails").await.unwrap().changed, 2);
        // They draw on nothing already, and are not different now.
        assert_eq!(client.clear_all_jobs_budgets().await.unwrap().changed, 0);
        client.delete_budget("mails").await.unwrap();
        client.reset().await.unwrap();
    }
}

#[tokio::test]
async fn crons() {
    let server = Server::start().await;
    for client in clients(&server) {
        let daily = |name: &str| CronEntry::new(name, "0 4 * * *", client.enqueue(email(name)).priority(3));
        let group = client
            .replace_cron("nightly")
            .timezone("Australia/Melbourne")
            .entry(daily("a").timezone("Europe/Berlin"))
            .entry(daily("b").paused(true))
            .await
            .unwrap();
        assert_eq!((group.entries.len(), group.timezone.as_deref()), (2, Some("Australia/Melbourne")));
        assert!(group.entries[1].paused && group.entries[0].next_enqueue_at.is_some());
        assert_eq!(group.entries[0].job.priority, Some(3));
        client.add_cron_entry("nightly", daily("c")).await.unwrap();
        assert!(client.add_cron_entry("nightly", daily("c")).await.unwrap_err().is_conflict());
        client.put_cron_entry("nightly", daily("c").paused(true)).await.unwrap();
        client.resume_cron_entry("nightly", "c").await.unwrap();
        client.pause_cron_entry("nightly", "a").await.unwrap();
        assert!(client.get_cron_entry("nightly", "a").await.unwrap().paused);
        client.pause_cron("nightly").await.unwrap();
        assert!(client.get_cron("nightly").await.unwrap().paused);
        client.resume_cron("nightly").await.unwrap();
        client.delete_cron_entry("nightly", "b").await.unwrap();
        assert_eq!(client.list_crons().await.unwrap(), ["nightly"]);
        client.delete_cron("nightly").await.unwrap();
        client.replace_cron("x").entry(daily("a")).await.unwrap();
        assert_eq!(client.delete_all_crons().await.unwrap(), 1);
        client.erase_all_data().await.unwrap();
    }
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

#[tokio::test]
async fn a_worker_with_a_router() {
    let server = Server::with(["--default-completed-job-retention", "1h"]).await;
    for client in clients(&server) {
        let seen = Seen::default();
        let router = Router::with_state(seen.clone())
            .route(async |State(Seen(seen)): State<Seen>, job: SendEmail| {
                seen.lock().await.push(job.to.clone());
                if job.to == "nobody" { Err(std::io::Error::other("no such address")) } else { Ok(()) }
            })
            .route(async |State(Seen(seen)): State<Seen>, job: ProcessReport| {
                seen.lock().await.push(job.pages.to_string());
                Ok::<(), std::convert::Infallible>(())
            });
        let worker = Worker::builder()
            .client(client.clone())
            .concurrency(4)
            .prefetch(8)
            .queues(["emails", "reports"])
            .handler(router)
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(worker.run(async move { drop(stopped.await) }));
        for n in 0..100 {
            client.enqueue(ProcessReport { pages: n }).await.unwrap();
        }
        let policy = BudgetPolicy::new(1, BudgetStrategy::WhileInFlight);
        let binding = BudgetBindingInput::from("one at a time".to_owned()).create_with(policy);
        client.enqueue(email("ada")).budget(binding.clone()).await.unwrap();
        let failing = client.enqueue(email("nobody")).retry_limit(0).budget(binding).await.unwrap();
        until("the worker to be done", async || {
            let left = client.count_jobs().status([JobStatus::Ready, JobStatus::InFlight]).await.unwrap();
            (left == 0).then_some(())
        })
        .await;
        assert_eq!(client.get_job(&failing.id).await.unwrap().status, JobStatus::Dead);
        let errors = client.list_errors(&failing.id).await.unwrap();
        assert!(errors.errors[0].message.contains("no such address"), "{:?}", errors.errors);
        assert_eq!(client.count_jobs().status([JobStatus::Completed]).await.unwrap(), 101);
        assert_eq!(seen.0.lock().await.len(), 102);
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
        client.reset().await.unwrap();
    }
}
