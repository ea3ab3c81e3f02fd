//! What the fuzz targets in `tests/fuzz` need from inside the server. For nobody else: all of it may change.

pub use crate::access::Scope;
pub use crate::engine::Settings;
pub use crate::engine::command::jobs::{CountJobs, Succeed};
pub use crate::engine::command::streams::{OpenStream, StreamKind};
pub use crate::engine::outbox::{Item, Outbox};
pub use crate::job::draw::DrawId;
pub use crate::job::filter::Span;
pub use crate::job::id::{QueueId, Stamp};
pub use crate::job::place::Place;
pub use crate::run::turn::Core;
pub use crate::store::StoreError;
pub use crate::store::damage::job_key;
pub use crate::store::keys::log_parts;
pub use crate::store::memory::MemoryStore;
pub use crate::store::record::{
    decode_error, decode_holders, decode_job, decode_lease, decode_log, decode_queue, decode_queue_name,
    encode_error, encode_job, encode_lease, encode_log, encode_queue,
};
pub use crate::store::view::{moved_key, queue_key, timer_key};

use protocol::id::JobId;
use protocol::name::QueueName;

use crate::http::query::Query;
use crate::store::disk::torn;

/// Reads a query string with every reader.
pub fn query(text: &str) {
    let Ok(mut query) = Query::parse(Some(text)) else { return };
    drop(query.text("filter"));
    drop(query.list::<QueueName>("queue"));
    drop(query.list::<JobId>("id"));
    drop(query.read("priority", |text| Span::parse(text, 65_535)));
    drop(query.number("limit", 1, 2_000));
    drop(query.flag("dry_run"));
    drop(query.finish());
}

/// Finds the end of a journal. The intact part is a prefix of it.
pub fn journal(bytes: &[u8]) {
    assert!(torn::whole_batches(bytes) <= bytes.len());
}
