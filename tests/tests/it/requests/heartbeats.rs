//! The signs of life on event streams.

use serde_json::json;
use tests::{Server, id};

use super::Live;

#[tokio::test]
async fn heartbeats_on_event_streams_are_single_lines() {
    let server = Server::with(["--heartbeat-interval", "50ms"]).await;
    let client = server.client();
    let job = client.add("q").await;
    let mut take = Live::open(&client, "/jobs/take?queue=q").await;
    let mut events = Live::open(&client, "/events").await;
    let mut log = Live::open(&client, &format!("/jobs/{}/log", id(&job))).await;
    for stream in [&mut take, &mut events, &mut log] {
        for _ in 0..3 {
            assert_eq!(stream.comment().await, "heartbeat");
        }
    }
    // After something was said, too.
    client.post(&format!("/jobs/{}/log", id(&job)), &json!({"line": "out"})).await.expect_nothing();
    client.poke(&format!("/jobs/{}/success", id(&job))).await.expect_nothing();
    client.add("q").await;
    for (name, stream, said) in
        [("take", take, "id: "), ("events", events, "event: job"), ("log", log, "event: end")]
    {
        let mut stream = stream;
        while !stream.received.contains(said) {
            stream.item().await;
        }
        if name != "log" {
            stream.comment().await;
            stream.comment().await;
        }
        let received = &stream.received;
        assert!(received.contains(": heartbeat\n: heartbeat\n"), "{name}: {received:?}");
        assert!(!received.contains(": heartbeat\n\n"), "{name}: {received:?}");
        assert!(!received.contains("\n\n\n"), "a blank line ends an event and nothing else: {received:?}");
    }
}
