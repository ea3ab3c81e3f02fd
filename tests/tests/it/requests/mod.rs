//! What the server accepts in calls, and what it says about the rest.

mod filters;
mod heartbeats;
mod hints;
mod last_error;
mod members;
mod times;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::frame::sse::{Decoder, Item};
use serde_json::Value;
use tests::Client;
use tests::wait::within;

/// An event stream of any kind, read to the byte.
struct Live {
    decoder: Decoder,
    body: Incoming,
    received: String,
}

impl Live {
    async fn open(client: &Client, path: &str) -> Self {
        let response = client.get(path).header("accept", "text/event-stream").response().await;
        assert_eq!(response.status(), 200, "{path}");
        Self { decoder: Decoder::new(1 << 20), body: response.into_body(), received: String::new() }
    }

    async fn item(&mut self) -> Item {
        loop {
            if let Some(item) = self.decoder.next().unwrap() {
                return item;
            }
            let frame = within("an event", self.body.frame()).await.unwrap().unwrap();
            let bytes = frame.data_ref().unwrap();
            self.received.push_str(std::str::from_utf8(bytes).unwrap());
            self.decoder.push(bytes);
        }
    }

    /// The data of the next event.
    async fn next(&mut self) -> Value {
        loop {
            if let Item::Event { data, .. } = self.item().await {
                return serde_json::from_str(&data).unwrap();
            }
        }
    }

    async fn comment(&mut self) -> String {
        loop {
            if let Item::Comment(text) = self.item().await {
                return text;
            }
        }
    }
}

/// Listens to what happens to jobs, from now on.
async fn events(client: &Client, filters: &str) -> Live {
    let mut events = Live::open(client, &format!("/events?{filters}")).await;
    events.comment().await;
    events
}
