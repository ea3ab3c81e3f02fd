//! What a stream still has to send: filled by the engine's thread after a commit, emptied by the connection.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::name::QueueName;
use protocol::stream::{CancelReason, DrainReason};

use crate::job::Job;

/// A stream with more than this unread gets no jobs until its reader has caught up, in bytes. Tests often cross it.
const MAX_UNREAD: usize = if cfg!(test) { 256 * 1024 } else { 1024 * 1024 };
/// With more than this unread in all outboxes together, a stream gets no job before it has read the one it has, in bytes.
const MAX_ALL_UNREAD: usize = 256 * 1024 * 1024;

/// The unread bytes of all outboxes that share it.
#[derive(Debug, Default)]
pub(crate) struct AllUnread(AtomicUsize);

/// A job on its way to a worker.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub job: Arc<Job>,
    pub queue: QueueName,
    pub token: LeaseToken,
    pub lease_expires_at: Option<u64>,
    /// The number of the event on its stream.
    pub event: u64,
}

/// A message of a stream to its worker.
#[derive(Debug, Clone)]
pub enum Item {
    Job(Delivery),
    Cancel {
        id: JobId,
        reason: CancelReason,
    },
    /// No more jobs come.
    Drain(DrainReason),
}

/// The items of one stream, from engine to connection. The engine bounds them: by the stream's credit, and by
/// [`Outbox::has_room`].
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    unread: AtomicUsize,
    all: Arc<AllUnread>,
    starved: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    closed: bool,
    reader: Option<Waker>,
}

impl Outbox {
    /// An outbox that shares its memory with others.
    pub(crate) fn within(all: &Arc<AllUnread>) -> Self {
        let (queue, unread, starved) = Default::default();
        Self { queue, unread, all: all.clone(), starved }
    }

    /// Whether the reader keeps up. If not, it is asked to report when it has caught up ([`Outbox::was_starved`]).
    pub fn has_room(&self) -> bool {
        if self.fits() {
            return true;
        }
        // Ask first, check again after: the reader may have emptied the outbox in between.
        self.starved.store(true, Ordering::SeqCst);
        self.fits()
    }

    /// An empty outbox always has room. So a stream that others keep from its jobs waits for its own reader alone, and goes
    /// on without being told that there is room again.
    fn fits(&self) -> bool {
        let unread = self.unread.load(Ordering::SeqCst);
        unread == 0 || (unread < MAX_UNREAD && self.all.0.load(Ordering::Relaxed) < MAX_ALL_UNREAD)
    }

    /// Reserves room for a job that is going to be pushed.
    pub fn reserve(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Ordering::SeqCst);
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Appends items and wakes the reader.
    pub fn push(&self, items: &mut Vec<Item>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.items.is_empty() {
            mem::swap(&mut queue.items, items);
        } else {
            queue.items.append(items);
        }
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Ends the stream once what is in the outbox has been read.
    pub fn close(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Returns everything there is, or none once the stream is closed.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Vec<Item>>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.items.is_empty() {
            if queue.closed {
                return Poll::Ready(None);
            }
            queue.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(mem::take(&mut queue.items)))
    }

    /// Waits until there is something to take, or the stream is closed.
    pub fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.items.is_empty() && !queue.closed {
            queue.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Returns everything there is now.
    pub fn take(&self) -> Vec<Item> {
        mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).items)
    }

    /// Notes that these items have been read. Returns true if the engine waits to hear of it.
    pub fn was_starved(&self, read: &[Item]) -> bool {
        let bytes: usize =
            read.iter().map(|item| if let Item::Job(d) = item { d.job.weight() } else { 0 }).sum();
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
        self.unread.fetch_sub(bytes, Ordering::SeqCst);
        self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.unread.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outboxes_together_hold_no_more_than_one_job_each_beyond_their_limit() {
        let all = Arc::default();
        let outbox = || Outbox::within(&all);
        let (small, other, empty) = (outbox(), outbox(), outbox());
        small.reserve(100);
        assert!(small.has_room());
        other.reserve(MAX_ALL_UNREAD);
        assert!(!small.has_room(), "the others have it all");
        assert!(!other.has_room());
        assert!(empty.has_room(), "or it would have to be told when there is room again");
        empty.reserve(1);
        assert!(!empty.has_room());
        // A reader that is gone has read all of it.
        drop(other);
        assert!(small.has_room() && empty.has_room());
        assert_eq!(all.0.load(Ordering::Relaxed), 101);
    }

    #[test]
    fn who_was_refused_is_asked_for_when_its_reader_has_caught_up() {
        let all = Arc::default();
        let (outbox, other) = (Outbox::within(&all), Outbox::within(&all));
        let job = Job::sample(1);
        let item = Item::Job(Delivery {
            queue: QueueName::new("q").unwrap(),
            token: LeaseToken::from_u64(1),
            lease_expires_at: None,
            event: 1,
            job: Arc::new(job),
        });
        let Item::Job(delivery) = &item else { unreachable!() };
        outbox.reserve(delivery.job.weight());
        other.reserve(MAX_ALL_UNREAD);
        assert!(!outbox.has_room());
        assert!(outbox.was_starved(std::slice::from_ref(&item)), "the engine waits to hear of it");
        assert!(outbox.has_room(), "it is empty");
    }
}
