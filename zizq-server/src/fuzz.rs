//! Entry points for the fuzz targets in `tests/fuzz` only.

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
    drop(query.read("priority", |text| crate::job::filter::Span::parse(text, 65_535)));
    drop(query.number("limit", 1, 2_000));
    drop(query.flag("dry_run"));
    drop(query.finish());
}

/// Finds the end of a journal. The intact part is a prefix of it.
pub fn journal(bytes: &[u8]) {
    assert!(torn::whole_batches(bytes) <= bytes.len());
}
