//! Clients that do not read their answers: only they are affected.

use std::collections::BTreeSet;

use protocol::frame::StreamFormat;
use serde_json::{Value, json};
use tests::{Client, Server, id};

/// Far more than the buffers of a connection hold.
const MANY: usize = 80;

async fn add_big_jobs(client: &Client) -> BTreeSet<String> {
    let payload = "x".repeat(500_000);
    let mut ids = BTreeSet::new();
    for _ in 0..MANY / 20 {
        let jobs = (0..20).map(|_| json!({"queue": "q", "type": "t", "payload": payload}));
        ids.extend(client.enqueue_all(jobs).await.iter().map(|job| id(job).to_owned()));
    }
    ids
}

#[tokio::test]
async fn a_reader_that_reads_nothing_keeps_no_jobs_from_others() {
    for format in [StreamFormat::NdJson, StreamFormat::MessagePack, StreamFormat::EventStream] {
        let server = Server::start().await;
        let client = server.client();
        let _deaf = client.take(format, "queue=q,other&prefetch=0").await;
        let mut stream = client.lines("queue=other").await;
        add_big_jobs(&client).await;
        let mut left = client.lines("queue=q").await;
        left.next_job().await;
        let queued = client.add("other").await;
        assert_eq!(id(&stream.next_job().await), id(&queued));
    }
}

#[tokio::test]
async fn an_event_stream_that_takes_no_heartbeats_loses_its_leases() {
    let server = Server::start().await;
    let client = server.client();
    let _deaf = client.events("queue=q&prefetch=0&lease_ms=1000").await;
    let mut missing = add_big_jobs(&client).await;
    let mut stream = client.lines("queue=q&prefetch=0").await;
    while !missing.is_empty() {
        let job = stream.next_job().await;
        missing.remove(id(&job));
        client.succeed(&job).await;
    }
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_job_larger_than_all_buffers_arrives_whole() {
    let server = Server::with(["--max-payload-size", "12MB"]).await;
    let client = server.client();
    let payload = Value::from("0123456789abcdef".repeat(600_000));
    client.enqueue(&json!({"queue": "q", "type": "t", "payload": payload})).await;
    for format in [StreamFormat::NdJson, StreamFormat::MessagePack, StreamFormat::EventStream] {
        let mut stream = client.take(format, "queue=q").await;
        let job = stream.next_job().await;
        assert_eq!(job["payload"], payload);
        client.release(&job).await;
        drop(stream);
    }
}
