//! Ordinary calls that are measured while a test attacks the server.

use tests::{Client, Stream, id};

/// The queue of the probe.
pub(crate) const QUEUE: &str = "queue=probe";

/// One job from its enqueue to its end. `stream` takes from [`QUEUE`].
pub(crate) async fn round(client: &Client, stream: &mut Stream) {
    let queued = client.add("probe").await;
    let taken = stream.next_job().await;
    assert_eq!(id(&taken), id(&queued));
    client.succeed(&taken).await;
    assert_eq!(client.count(QUEUE).await, 0);
}
