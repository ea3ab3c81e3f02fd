//! Transport: connections, TLS, requests and answers as bytes, and the bounds on all of them.
//!
//! It knows neither calls nor jobs. What answers a request is a [`Service`]; [`crate::api`] is the one there is.

pub(crate) mod connection;
mod exchange;
pub(crate) mod guard;
pub(crate) mod memory;
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

/// What answers requests that the guard has let pass.
pub(crate) trait Service: Send + Sync + 'static {
    /// The answer to a request. Its body is still on its way and is read, or not, by the service.
    fn answer(
        &self,
        request: &mut Request,
        body: &mut Upload<Incoming>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Returns when streams must end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone has nothing more to say: that is an end, too.
    drop(closing.wait_for(|closing| *closing).await);
}
