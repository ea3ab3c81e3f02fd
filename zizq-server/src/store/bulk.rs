//! The stored state of bulks that are being enqueued (`engine/jobs/bulks.rs`).

use bytes::Bytes;
use protocol::media::Format;
use protocol::trace::Trace;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::keys::{self, Area, Key, Parts};
use super::record::{Damaged, StoredTrace, decode, encode, put, take};
use super::{Entry, Snapshot, StoreError, view};
use crate::job::bulk::NewBulk;
use crate::job::id::Stamp;

/// An accepted bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkRecord {
    pub format: Format,
    /// The length of its body.
    pub bytes: usize,
    /// The number of parts of its stored body.
    pub parts: u32,
    /// How many of its jobs have been enqueued.
    pub done: usize,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    is_json: bool,
    bytes: usize,
    parts: u32,
    done: usize,
}

/// The format of a record that ends with the trace context of the call.
const FORMAT_WITH_TRACE: u8 = 2;

pub(crate) fn encode_bulk(record: BulkRecord, trace: Option<&Trace>, out: &mut Vec<u8>) {
    let BulkRecord { format, bytes, parts, done } = record;
    let stored = Stored { is_json: format == Format::Json, bytes, parts, done };
    match trace {
        None => encode(&stored, out),
        Some(trace) => {
            out.push(FORMAT_WITH_TRACE);
            put(&(stored, StoredTrace::of(trace)), out);
        }
    }
}

pub(crate) fn decode_bulk(record: &[u8]) -> Result<(BulkRecord, Option<Box<Trace>>), Damaged> {
    let (Stored { is_json, bytes, parts, done }, trace) = match record {
        [FORMAT_WITH_TRACE, rest @ ..] => {
            let ((stored, trace), _): ((Stored, StoredTrace<'_>), _) = take("bulk", rest)?;
            (stored, Some(Box::new(trace.read().ok_or(Damaged("bulk"))?)))
        }
        _ => (decode("bulk", record)?.0, None),
    };
    let format = if is_json { Format::Json } else { Format::MessagePack };
    Ok((BulkRecord { format, bytes, parts, done }, trace))
}

/// The kind of record under a key of the area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    Record(Stamp),
    Part(Stamp, u32),
}

impl Under {
    fn key(key: &[u8]) -> Option<Self> {
        let mut parts = Parts(key.strip_prefix(&[Area::Bulk as u8])?);
        let id = parts.stamp()?;
        match parts {
            Parts([]) => Some(Self::Record(id)),
            mut number => number.u32().filter(|_| number.0.is_empty()).map(|number| Self::Part(id, number)),
        }
    }
}

/// An accepted bulk that is not fully enqueued.
#[derive(Debug)]
pub struct StoredBulk {
    pub id: Stamp,
    pub record: BulkRecord,
    pub bulk: NewBulk,
}

/// The bulks that are found at a start.
#[derive(Debug, Default)]
pub struct StoredBulks {
    pub accepted: Vec<StoredBulk>,
    /// Parts of bulks that were not accepted.
    pub stray: Vec<(Stamp, u32)>,
}

/// Reads all bulks.
///
/// # Errors
/// When the store cannot be read, or a part of a bulk is missing.
pub(crate) fn bulks<S: Snapshot>(snapshot: &S) -> Result<StoredBulks, StoreError> {
    let mut bulks = StoredBulks::default();
    let mut entries = view::entries(snapshot, Area::Bulk);
    while let Some((key, value)) = entries.next().transpose()? {
        match Under::key(&key).ok_or_else(|| Damaged("bulk").at(&key))? {
            Under::Part(id, number) => bulks.stray.push((id, number)),
            Under::Record(id) => {
                let (record, trace) = decode_bulk(&value).map_err(|e| e.at(&key))?;
                let body = body(id, record, &mut entries)?;
                let bulk = body.and_then(|body| read(id, record, body, trace));
                bulks.accepted.push(StoredBulk {
                    id,
                    record,
                    bulk: bulk.ok_or_else(|| Damaged("bulk").at(&key))?,
                });
            }
        }
    }
    Ok(bulks)
}

/// Joins the parts of a bulk, which follow its record; `None` if one is missing.
fn body(
    id: Stamp,
    record: BulkRecord,
    entries: &mut impl Iterator<Item = Result<Entry, StoreError>>,
) -> Result<Option<Bytes>, StoreError> {
    let mut body = Vec::new();
    for number in 0..record.parts {
        match entries.next().transpose()? {
            Some((key, part)) if Under::key(&key) == Some(Under::Part(id, number)) => {
                body.extend_from_slice(&part);
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(body.into()))
}

fn read(id: Stamp, record: BulkRecord, body: Bytes, trace: Option<Box<Trace>>) -> Option<NewBulk> {
    if body.len() != record.bytes {
        return None;
    }
    let bulk = NewBulk::parse(record.format, body, id.millis(), trace).ok();
    bulk.filter(|bulk| record.done <= bulk.number())
}

/// Sets aside the parts of the bulk whose record is under this key.
pub(super) fn set_parts_aside<S: Snapshot>(
    snapshot: &S,
    key: &Key,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let Some(Under::Record(id)) = Under::key(key) else { return Ok(()) };
    for entry in snapshot.scan(&keys::bulk_part(id, 0), &keys::bulk(id.next()), false) {
        let (key, part) = entry?;
        batch.set_aside(key, &part);
    }
    Ok(())
}

/// The progress of the accepted bulks.
#[cfg(test)]
pub(crate) fn records<S: Snapshot>(
    snapshot: &S,
) -> Result<std::collections::BTreeMap<Stamp, BulkRecord>, StoreError> {
    let entries = view::entries(snapshot, Area::Bulk);
    let record = |entry: Result<Entry, StoreError>| {
        let (key, value) = entry.ok()?;
        let Some(Under::Record(id)) = Under::key(&key) else { return None };
        Some(decode_bulk(&value).map(|(record, _)| (id, record)).map_err(|e| e.at(&key)))
    };
    entries.filter_map(record).collect()
}
