//! A stream of server-sent events.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::frame::sse::{Decoder, Item};
use serde_json::Value;

use crate::client::Call;
use crate::wait::within;

/// The longest line of a stream.
const MAX_LINE: usize = 1 << 20;

/// An open stream of events.
#[derive(Debug)]
pub struct Events {
    decoder: Decoder,
    body: Incoming,
}

impl Events {
    /// Calls, and expects a stream of events.
    ///
    /// # Panics
    /// When the answer is none.
    pub async fn open(call: Call<'_>) -> Self {
        let response = call.header("accept", "text/event-stream").response().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self { decoder: Decoder::new(MAX_LINE), body: response.into_body() }
    }

    /// The next event or comment; none at the end.
    ///
    /// # Panics
    /// When what arrives is no event.
    pub async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.decoder.next().unwrap() {
                return Some(item);
            }
            let frame = within("an event", self.body.frame()).await?.ok()?;
            self.decoder.push(frame.data_ref().unwrap());
        }
    }

    /// The name and the data of the next event; none at the end.
    ///
    /// # Panics
    /// When its data are not JSON.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Item::Event { event, data, .. } = self.item().await? {
                return Some((event, serde_json::from_str(&data).unwrap()));
            }
        }
    }
}
