//! Bytes from the disk.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use protocol::id::JobId;
use protocol::job::{Backoff, Status};
use protocol::outcome::LeasedJob;
use zizq_server::fuzz::{
    Core, CountJobs, DrawId, Item, MemoryStore, OpenStream, Outbox, Place, QueueId, Scope, Settings, Stamp,
    StoreError, StreamKind, Succeed, decode_error, decode_holders, decode_job, decode_lease, decode_log,
    decode_queue, decode_queue_name, encode_error, encode_job, encode_lease, encode_log, encode_queue,
    job_key, journal, log_parts, moved_key, queue_key, timer_key,
};

/// Stored records and keys: never a panic, and what can be read can be written.
pub fn records(data: &[u8]) {
    let place = Place {
        status: Status::Scheduled,
        queue: QueueId(1),
        priority: 5,
        draw: DrawId::NONE,
        stamp: Stamp::of(JobId::from_u128(7 << 64)),
    };
    if let Ok(job) = decode_job(place, &Bytes::copy_from_slice(data)) {
        let mut again = Vec::new();
        encode_job(&job, &mut again);
        // Not a number is not equal to itself.
        let same = decode_job(place, &again.into()).map(|again| format!("{again:?}"));
        assert_eq!(same, Ok(format!("{job:?}")));
    }
    let mut again = Vec::new();
    if let Ok(queue) = decode_queue(data) {
        encode_queue(&queue, &mut again);
        assert_eq!(decode_queue(&again), Ok(queue));
    }
    again.clear();
    if let Ok(error) = decode_error(data) {
        encode_error(&error, &mut again);
        assert_eq!(decode_error(&again), Ok(error));
    }
    again.clear();
    if let Ok(lease) = decode_lease(data) {
        encode_lease(&lease, &mut again);
        assert_eq!(decode_lease(&again), Ok(lease));
    }
    again.clear();
    if let Ok((number, text)) = decode_log(data) {
        encode_log(number, text, &mut again);
        assert_eq!(decode_log(&again), Ok((number, text)));
    }
    drop((decode_holders(data), decode_queue_name(data)));
    black_box((log_parts(data), job_key(data), queue_key(data), timer_key(data), moved_key(data)));
    journal(data);
}

/// A whole store of arbitrary entries: the engine opens it and works off what it can read.
pub fn store(data: &[u8]) {
    let store = MemoryStore::of(entries(data));
    let settings = Settings {
        retry_limit: 1,
        backoff: Backoff { base_ms: 0, exponent: 0.0, jitter_ms: 0 },
        completed_ms: 0,
        dead_ms: 0,
        max_deliveries: 2,
        in_flight_limit: 0,
        queue_histograms: false,
        timeout_ms: None,
        stream_renewal_ms: u64::MAX,
        max_budgets: 10,
    };
    let mut now: u64 = 1_900_000_000_000;
    let mut core = match Core::open(store, settings, now.into(), 1) {
        Ok(core) => core,
        Err(StoreError::UnknownFormat(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let outbox = Arc::new(Outbox::default());
    let open = OpenStream {
        within: Scope::All,
        kind: StreamKind::Bound,
        queues: None,
        prefetch: 4,
        lease_ms: None,
        resume_ms: 0,
        resume: None,
        id: 7,
        outbox: outbox.clone(),
        about: Box::default(),
    };
    core.turn(now.into(), [open.into(), CountJobs { queues: None }.into()].into_iter()).unwrap();
    for _ in 0..40 {
        let items = outbox.take();
        outbox.was_starved(&items);
        let jobs = items.iter().filter_map(|item| if let Item::Job(job) = item { Some(job) } else { None });
        let done: Vec<_> = jobs.map(|job| LeasedJob { id: job.job.id, lease: Some(job.token) }).collect();
        if done.is_empty() {
            now += core.engine().due_in(now.into()).unwrap_or(1).max(1);
        }
        core.turn(now.into(), [Succeed(done).into()].into_iter()).unwrap();
    }
}

/// Reads entries: length of the key, length of the value, key, value.
fn entries(mut data: &[u8]) -> BTreeMap<Vec<u8>, Bytes> {
    let mut entries = BTreeMap::new();
    while let [key_len, value_len, rest @ ..] = data {
        let Some((key, rest)) = rest.split_at_checked(usize::from(*key_len)) else { break };
        let Some((value, rest)) = rest.split_at_checked(usize::from(*value_len)) else { break };
        entries.insert(key.to_vec(), Bytes::copy_from_slice(value));
        data = rest;
    }
    entries
}
