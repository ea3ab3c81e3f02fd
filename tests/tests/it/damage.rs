//! A damaged data folder: a missing file is refused with a way to go on, a file that is damaged in part is set aside, and
//! a file that holds nothing is created anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tests::binaries::binary;
use tests::wait::{output, until};
use tests::{Client, Server, id};
use tokio::process::Command;

/// Starts a server in a folder where none can, and waits for its end.
async fn refused(root: &Path) -> String {
    let mut command = Command::new(binary("zizq-server"));
    command.args(["--port", "0", "--root-dir"]).arg(root);
    let Output { status, stdout, stderr } = output(command, "the refusal").await;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success() && stdout.is_empty(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Enqueues jobs with payloads of this size, which cannot be compressed.
async fn enqueue(client: &Client, jobs: usize, bytes: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for part in (0..jobs).collect::<Vec<_>>().chunks(20) {
        let jobs = part.iter().map(|_| {
            let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
            json!({"queue": "q", "type": "t", "payload": payload})
        });
        ids.extend(client.enqueue_all(jobs).await.iter().map(|job| id(job).to_owned()));
    }
    ids
}

async fn drain(client: &Client) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let jobs = client.poll(&json!({"queues": ["q"], "limit": 100})).await;
        if jobs.is_empty() {
            return ids;
        }
        for job in &jobs {
            client.succeed(job).await;
            ids.insert(id(job).to_owned());
        }
    }
}

fn tables(root: &Path) -> Vec<PathBuf> {
    let tables = fs::read_dir(root.join("keyspaces/1/tables")).unwrap();
    let tables: BTreeSet<PathBuf> = tables.map(|entry| entry.unwrap().path()).collect();
    tables.into_iter().collect()
}

fn lists(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("LOST"));
    entries.filter(|list| list.exists()).map(|list| fs::read_to_string(list).unwrap()).collect()
}

#[tokio::test]
async fn a_folder_copied_without_its_lock_file_is_opened() {
    let mut server = Server::start().await;
    let job = server.client().add("q").await;
    server.sigterm().await;
    fs::remove_file(server.root_dir().join("lock")).unwrap();
    server.restart().await;
    assert_eq!(server.client().status(id(&job)).await.as_deref(), Some("ready"));
    let said = refused(&server.root_dir()).await;
    assert!(said.contains("another server is using the folder"), "{said}");
}

#[tokio::test]
async fn every_error_of_opening_names_the_file() {
    for file in ["version", "0.jnl", "synced", "keyspaces/1/current"] {
        let mut server = Server::start().await;
        server.client().add("q").await;
        server.sigterm().await;
        let path = server.root_dir().join(file);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let said = refused(&server.root_dir()).await;
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
}

#[tokio::test]
async fn a_missing_journal_is_refused_and_its_loss_can_be_accepted() {
    let mut server = Server::with(["--memtable-size", "100kB"]).await;
    let all = enqueue(&server.client(), 60, 10_000).await;
    until("tables", async || (!tables(&server.root_dir()).is_empty()).then_some(())).await;
    server.sigterm().await;
    let journal = server.root_dir().join("0.jnl");
    let kept = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    let said = refused(&server.root_dir()).await;
    assert!(said.contains("no journal") && said.contains("--salvage"), "{said}");
    assert_eq!(lists(&server.root_dir()), Vec::<String>::new());
    // It comes back.
    fs::write(&journal, &kept).unwrap();
    server.restart().await;
    assert_eq!(server.client().count("queue=q").await, 60);
    server.sigterm().await;
    // It does not.
    fs::remove_file(&journal).unwrap();
    server.restart_with(["--salvage"]).await;
    assert!(lists(&server.root_dir()).concat().contains("no journal"));
    let left = server.client().count("queue=q").await;
    let drained = drain(&server.client()).await;
    assert!(drained.len() as u64 == left && drained.is_subset(&all), "{left} of {}", drained.len());
    let more = enqueue(&server.client(), 1, 10).await;
    server.sigterm().await;
    server.restart_with(Vec::<String>::new()).await;
    assert_eq!(drain(&server.client()).await, more);
}

#[tokio::test]
async fn a_journal_damaged_in_its_middle_is_refused_and_salvaged() {
    let mut server = Server::start().await;
    let all = enqueue(&server.client(), 100, 1_000).await;
    server.sigterm().await;
    let journal = server.root_dir().join("0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let said = refused(&server.root_dir()).await;
    assert!(said.contains("0.jnl is damaged at byte") && said.contains("--salvage"), "{said}");
    assert_eq!(fs::read(&journal).unwrap(), bytes, "nothing was changed");
    server.restart_with(["--salvage"]).await;
    // A bulk of twenty is a batch.
    let left = drain(&server.client()).await;
    assert!(left.len() == 80 && left.is_subset(&all), "{}", left.len());
    assert_eq!(fs::read(server.root_dir().join("damaged-1/0.jnl")).unwrap(), bytes);
    assert!(lists(&server.root_dir()).concat().contains("cannot be read"));
}

#[tokio::test]
async fn a_flipped_byte_in_a_table_costs_the_records_in_its_block_and_nothing_else() {
    let mut server = Server::with(["--memtable-size", "100kB", "--cache-size", "1MB"]).await;
    let all = enqueue(&server.client(), 100, 10_000).await;
    let client = server.client();
    until("tables", async || (tables(&server.root_dir()).len() > 1).then_some(())).await;
    // In the payload of a job.
    let payload = |job: &Value| job["payload"].as_str().unwrap().as_bytes()[..64].to_vec();
    let mut payloads = Vec::new();
    for job in &all {
        payloads.push((job.clone(), payload(&client.job(job).await)));
    }
    server.sigterm().await;
    // In every table that has it: one that was merged into another may still be there.
    let mut hit = None;
    for table in tables(&server.root_dir()) {
        let mut bytes = fs::read(&table).unwrap();
        let place = |payload: &[u8]| bytes.windows(64).position(|window| window == payload);
        let of =
            hit.take().or_else(|| payloads.iter().find(|(_, payload)| place(payload).is_some()).cloned());
        if let Some(at) = of.as_ref().and_then(|(_, payload)| place(payload)) {
            bytes[at + 7] ^= 1;
            fs::write(&table, bytes).unwrap();
        }
        hit = of;
    }
    let (job, _) = hit.expect("a job in a table");
    server.restart().await;
    let left = until("the jobs", async || {
        let answer = server.client().post("/jobs/take", &json!({"queues": ["q"], "limit": 100})).await;
        match answer.status {
            200 => Some(answer.value()["jobs"].as_array().unwrap().clone()),
            _ => None,
        }
    })
    .await;
    let left: BTreeSet<String> = left.iter().map(|job| id(job).to_owned()).collect();
    assert!(left.is_subset(&all) && !left.contains(&job), "{} left", left.len());
    assert!(left.len() >= 90, "{} left", left.len());
    let said = lists(&server.root_dir()).concat();
    assert!(said.contains("cannot be read; they held the keys between"), "{said}");
    assert_eq!(server.client().count("queue=q").await, left.len() as u64);
    server.kill9().await;
    server.restart().await;
    assert_eq!(server.client().count("queue=q").await, left.len() as u64);
}

/// Some of the places where something is.
type Which = fn(&[usize]) -> &[usize];

/// Flips a bit of a text in every table, at some of its places there, and says how many those were.
fn damage_text(root: &Path, text: &str, which: Which) -> usize {
    let mut damaged = 0;
    for table in tables(root) {
        let mut bytes = fs::read(&table).unwrap();
        let windows = bytes.windows(text.len()).enumerate();
        let places: Vec<usize> =
            windows.filter(|(_, window)| *window == text.as_bytes()).map(|(at, _)| at).collect();
        for &at in which(&places) {
            bytes[at + 3] ^= 1;
            damaged += 1;
        }
        fs::write(&table, bytes).unwrap();
    }
    damaged
}

/// The name of a queue is stored in its record and once apart, and neither is written again while nothing happens in the
/// queue.
#[tokio::test]
async fn a_damaged_name_of_an_idle_queue_loses_no_job_silently() {
    let cases: [(&str, Which); 3] = [
        ("the record", |places| places.get(..1).unwrap_or_default()),
        ("the name apart", |places| places.get(places.len().saturating_sub(1)..).unwrap_or_default()),
        ("both", |places| places),
    ];
    for (what, which) in cases {
        let mut server = Server::with(["--memtable-size", "100kB", "--cache-size", "1MB"]).await;
        let client = server.client();
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(40).collect();
        let jobs = (0..25).map(|_| {
            let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(3_000).collect();
            json!({"queue": name, "type": "t", "payload": payload})
        });
        let resting = client.enqueue_all(jobs).await;
        let resting: BTreeSet<&str> = resting.iter().map(id).collect();
        let others = enqueue(&client, 40, 10_000).await;
        until("tables", async || (tables(&server.root_dir()).len() > 1).then_some(())).await;
        server.sigterm().await;
        assert!(damage_text(&server.root_dir(), &name, which) > 0, "{what}: the name is in no table");

        server.restart().await;
        let client = server.client();
        let left = until("the jobs", async || {
            let answer = client.get("/jobs?limit=200").await;
            (answer.status == 200).then(|| answer.value()["jobs"].as_array().unwrap().clone())
        })
        .await;
        let of =
            |ids: &dyn Fn(&str) -> bool| left.iter().filter(|job| ids(id(job))).cloned().collect::<Vec<_>>();
        let (kept, rest) = (of(&|id| resting.contains(id)), of(&|id| others.contains(id)));
        assert_eq!(kept.len() + rest.len(), left.len(), "{what}: there are others");
        let lost = resting.len() + others.len() - left.len();
        let said = lists(&server.root_dir()).concat();
        assert!(lost <= 6, "{what}: {lost} lost: {said}");
        assert!(said.contains("cannot be read; they held the keys between"), "{what}: {said}");
        // They are all in one queue, which has a name by which it is found.
        let queue = kept[0]["queue"].as_str().unwrap().to_owned();
        assert!(kept.iter().all(|job| job["queue"] == *queue), "{what}");
        assert!(queue == name || what == "both" && queue.starts_with("damaged-"), "{what}: {queue}");
        for _ in 0..2 {
            let client = server.client();
            assert_eq!(client.count(&format!("queue={queue}")).await, kept.len() as u64, "{what}");
            assert_eq!(client.count("queue=q").await, rest.len() as u64, "{what}");
            server.kill9().await;
            server.restart().await;
        }
        let ran = server.client().poll(&json!({"queues": [queue], "limit": 100})).await;
        assert_eq!(ran.len(), kept.len(), "{what}");
    }
}
