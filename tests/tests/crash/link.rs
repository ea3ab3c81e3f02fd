//! Calls to a server that may be gone at any moment.

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use tests::client::{Call, decode};
use tests::wait::within;
use tests::{Client, Wire};

use crate::world::{PAUSE, World};

/// What a server that is there answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// Null where there is no body.
    pub(crate) body: Value,
    /// The server was not killed between the start of the call and its end.
    pub(crate) same_server: bool,
}

/// One participant's way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    client: Client,
}

impl Link {
    pub(crate) fn new(world: &World, wire: Wire) -> Self {
        Self { client: Client::new(&world.url, wire) }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Sends it; `None` where no answer came, so that nobody knows whether it was done.
    pub(crate) async fn send(&self, world: &World, call: Call<'_>) -> Option<Answered> {
        let generation = world.generation();
        let answer = async {
            let (head, body) = call.try_response().await.ok()?.into_parts();
            let body = within("the body of an answer", body.collect()).await.ok()?.to_bytes();
            Some((head.status, body))
        };
        let Some((status, body)) = answer.await else {
            tokio::time::sleep(PAUSE).await;
            let down = world.generation() > 0 || !world.working();
            world.ledger.law(down, || "no answer from a server that was never killed".to_owned());
            return None;
        };
        let ready = status != StatusCode::SERVICE_UNAVAILABLE;
        if !ready {
            tokio::time::sleep(PAUSE).await;
            return None;
        }
        world.ledger.law(!status.is_server_error(), || format!("an answer {status}: {body:?}"));
        let body = if body.is_empty() { Value::Null } else { decode(self.client.wire().format, &body) };
        Some(Answered { status, body, same_server: world.generation() == generation })
    }
}
