//! The transport: connections, TLS, requests and answers as bytes, and the limits on all of them.
//!
//! It does not know calls or jobs. A [`Service`] answers requests; [`crate::api`] is the only one.

pub(crate) mod connection;
mod exchange;
pub(crate) mod guard;
pub(crate) mod memory;
pub(crate) mod meters;
mod pace;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
mod socket;
pub(crate) mod tls;
pub(crate) mod work;

use hyper::body::Incoming;
use tokio::sync::watch;

use reply::Answer;
use request::{Request, Upload};

/// Answers requests that passed the guard.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers a request. The body is still arriving; the service decides whether to read it.
    fn answer(
        &self,
        request: &mut Request,
        body: &mut Upload<Incoming>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Returns when streams must end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // A dropped sender also means the end.
    drop(closing.wait_for(|closing| *closing).await);
}
