//! Tests of the keeper over stores on disk: what it reads again, what it removes, how it handles damage.

use std::path::Path;
use std::time::Duration;

use protocol::log::Output;
use tempfile::TempDir;

use super::*;
use crate::job::Job;
use crate::store::Store;
use crate::store::batch::Batch;
use crate::store::{Snapshot, keys};

fn job(n: u128) -> Job {
    Job { deliveries: 1, ..Job::sample(n) }
}

/// A folder with a store of these jobs.
fn jobs(folder: &Path, numbers: impl IntoIterator<Item = u128>) -> DiskStore {
    let mut store = DiskStore::open(&folder.join("jobs"), 1_000_000).unwrap();
    let mut batch = Batch::default();
    numbers.into_iter().for_each(|n| batch.put_job(&job(n)));
    store.commit(batch).unwrap();
    store
}

fn of(n: u128, number: u32) -> Attempt {
    Attempt { id: job(n).id, number }
}

fn text(lines: &str) -> Vec<u8> {
    let mut text = Vec::new();
    text::push(&mut text, Output::Stdout, lines);
    text
}

async fn read(logs: &Logs, of: Attempt) -> Vec<u8> {
    logs.read(of.id, Some(of.number), 0).await.unwrap().text
}

#[tokio::test]
async fn stored_output_is_read_again_and_continued() {
    let folder = TempDir::new().unwrap();
    let jobs = jobs(folder.path(), [1]);
    let shelf = folder.path().join("logs");
    for (printed, expected) in
        [("a", "a"), ("b", "a\nb"), (&*"x".repeat(5_000), &*("a\nb\n".to_owned() + &"x".repeat(5_000)))]
    {
        let logs = Logs::start(&shelf, jobs.clone()).unwrap();
        logs.append(of(1, 2), text(printed)).await.unwrap();
        assert_eq!(read(&logs, of(1, 2)).await, text(expected));
        assert_eq!(logs.read(of(1, 2).id, None, 0).await.unwrap().attempt, Some(2));
        logs.stop().await;
        assert!(matches!(logs.append(of(1, 2), text("late")).await, Err(LogError::Stopped)));
    }
}

#[tokio::test]
async fn the_output_of_deleted_jobs_is_removed() {
    let folder = TempDir::new().unwrap();
    let mut jobs = jobs(folder.path(), 1..=200);
    let shelf = folder.path().join("logs");
    let logs = Logs::start(&shelf, jobs.clone()).unwrap();
    for n in 1..=200 {
        logs.append(of(n, 1), text("one")).await.unwrap();
        logs.append(of(n, 2), text("two")).await.unwrap();
    }
    logs.forget(of(7, 1).id);
    assert!(read(&logs, of(7, 2)).await.is_empty());
    // This job never existed: its output is not even written.
    logs.append(of(1_000, 1), text("short")).await.unwrap();
    logs.stop().await;
    let mut batch = Batch::default();
    (1..=200).filter(|n| n % 2 == 0).for_each(|n| batch.remove_job(job(n).place(), None));
    jobs.commit(batch).unwrap();
    // A start sweeps.
    let logs = Logs::start(&shelf, jobs.clone()).unwrap();
    while !read(&logs, of(200, 2)).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for n in (1..=200).chain([1_000]) {
        let is_there = n % 2 == 1 && n != 7 && n != 1_000;
        assert_eq!(read(&logs, of(n, 1)).await.is_empty(), !is_there, "job {n}");
        assert_eq!(read(&logs, of(n, 2)).await.is_empty(), !is_there, "job {n}");
    }
    logs.stop().await;
}

/// A follower may be slower than the job, which is gone once it has succeeded.
#[tokio::test]
async fn the_last_lines_of_a_deleted_job_stay_for_those_who_follow_it() {
    let folder = TempDir::new().unwrap();
    let jobs = jobs(folder.path(), [1]);
    let logs = Logs::start(&folder.path().join("logs"), jobs).unwrap();
    let mut changes = logs.watch(of(1_000, 1)).await.unwrap();
    for n in 1_000..1_002 {
        logs.append(of(n, 1), text("last")).await.unwrap();
    }
    changes.changed().await.unwrap();
    // So much that it is written at once.
    for number in 1..=300 {
        logs.append(of(1, number), text(&"x".repeat(64 * 1024))).await.unwrap();
    }
    assert_eq!(read(&logs, of(1_000, 1)).await, text("last"));
    assert!(read(&logs, of(1_001, 1)).await.is_empty(), "it is not even written");
    logs.stop().await;
}

/// Changes a stored chunk.
type Damage = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn damage_costs_lines_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let jobs = jobs(folder.path(), [1]);
    let shelf = folder.path().join("logs");
    let line = "x".repeat(999);
    let damages: [Damage; 5] = [
        |_| Vec::new(),
        |_| vec![7],
        |whole| whole[..1].to_vec(),
        |whole| [whole, b"more"].concat(),
        |whole| [b"\x01\x03", &whole[2..]].concat(),
    ];
    for (damage, number) in damages.into_iter().zip(1..) {
        let logs = Logs::start(&shelf, jobs.clone()).unwrap();
        for _ in 0..12 {
            logs.append(of(1, number), text(&line)).await.unwrap();
        }
        logs.stop().await;
        let mut store = DiskStore::open(&shelf, 1_000_000).unwrap();
        let key = keys::log(of(1, number).id, number, 1);
        let whole = store.snapshot().get(&key).unwrap().unwrap();
        let mut batch = Batch::default();
        batch.put_raw(&key, &damage(&whole));
        batch.put_raw(&[keys::Area::Log as u8, 1, 2, 3], b"no key of ours");
        store.commit(batch).unwrap();
        drop(store);
        let logs = Logs::start(&shelf, jobs.clone()).unwrap();
        let kept = read(&logs, of(1, number)).await;
        assert_eq!(lines_of(&kept), [&*line; 3], "what follows damage {number}");
        logs.append(of(1, number), text("more")).await.unwrap();
        assert_eq!(lines_of(&read(&logs, of(1, number)).await), [&line, &line, &line, "more"]);
        logs.stop().await;
    }
}

fn lines_of(text: &[u8]) -> Vec<String> {
    text::lines(text).map(|(_, line)| line.into_owned()).collect()
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_moved_aside() {
    let folder = TempDir::new().unwrap();
    let jobs = jobs(folder.path(), [1]);
    let shelf = folder.path().join("logs");
    drop(DiskStore::open(&shelf, 1_000_000).unwrap());
    std::fs::write(shelf.join("no number.jnl"), b"?").unwrap();
    let logs = Logs::start(&shelf, jobs.clone()).unwrap();
    logs.append(of(1, 1), text("a")).await.unwrap();
    assert_eq!(read(&logs, of(1, 1)).await, text("a"));
    logs.stop().await;
    assert!(folder.path().join("logs.damaged").join("no number.jnl").exists());
}
