//! Calls to a server that may be gone at any moment.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use serde_json::Value;
use tests::client::{Call, decode};
use tests::wait::within;
use tests::{Client, Wire};

use crate::world::{PAUSE, World};

/// How long a call may take, below [`tests::wait::PATIENCE`].
const ANSWER: Duration = Duration::from_secs(25);

/// What a server that is there answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// Null where there is no body.
    pub(crate) body: Value,
    /// The server was not killed between the start of the call and its end.
    pub(crate) same_server: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Nobody got the request, or nobody would have it.
    NotSent,
    /// Nobody knows whether it was done.
    Unanswered,
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

    /// Sends it.
    pub(crate) async fn send(&self, world: &World, call: Call<'_>) -> Result<Answered, Gone> {
        let (generation, serving) = (world.generation(), world.serving());
        let (status, body) = match exchange(call).await {
            Ok(answer) if answer.0 != StatusCode::SERVICE_UNAVAILABLE => answer,
            gone => {
                let excused = !world.serves_on(serving);
                world
                    .ledger
                    .law(excused, || format!("no answer from a server that was not killed: {gone:?}"));
                tokio::time::sleep(PAUSE).await;
                return Err(gone.map_or_else(|(gone, _)| gone, |_| Gone::NotSent));
            }
        };
        world.ledger.law(!status.is_server_error(), || format!("an answer {status}: {body:?}"));
        let body = if body.is_empty() { Value::Null } else { decode(self.client.wire().format, &body) };
        Ok(Answered { status, body, same_server: world.generation() == generation })
    }
}

/// The head of the answer; none where it does not come in time. Where the server was ended meanwhile that is a fault of the
/// client: seen once in a million calls, and that call outlived several servers.
pub(crate) async fn head(call: Call<'_>) -> Option<Result<Response<Incoming>, legacy::Error>> {
    tokio::time::timeout(ANSWER, call.try_response()).await.ok()
}

/// The answer, or why there is none, and what the client says of it.
async fn exchange(call: Call<'_>) -> Result<(StatusCode, Bytes), (Gone, String)> {
    let response = head(call).await.ok_or_else(|| (Gone::Unanswered, "none in time".to_owned()))?;
    let response = response.map_err(|error| {
        let gone = if error.is_connect() { Gone::NotSent } else { Gone::Unanswered };
        (gone, format!("{error:?}"))
    })?;
    let (head, body) = response.into_parts();
    let body = within("the body of an answer", body.collect()).await;
    let body = body.map_err(|error| (Gone::Unanswered, format!("{error:?}")))?;
    Ok((head.status, body.to_bytes()))
}
