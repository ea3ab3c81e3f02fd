//! Publishes what happens to jobs to listeners. The engine hands over the events of a turn and goes on; each listener
//! does the rest on its own thread.

use crate::job::event::Event;
use crate::meter::Counter;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How many events wait for a listener. Later ones are dropped, and the listener is told how many.
const MAX_WAITING: usize = 10_000;

/// All listeners.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: Mutex<Vec<Arc<Listener>>>,
    count: AtomicUsize,
    /// Events that listeners have missed.
    lagged: Counter,
}

impl Hub {
    /// Whether anyone listens.
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Hands events to every listener that has room for them.
    pub fn publish(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let events: Arc<[Event]> = events.into();
        lock(&self.listeners).iter().for_each(|listener| self.lagged.add(listener.push(&events)));
    }

    /// Starts listening.
    pub fn listen(self: &Arc<Self>) -> Listening {
        let listener = Arc::<Listener>::default();
        let mut listeners = lock(&self.listeners);
        listeners.push(listener.clone());
        self.count.store(listeners.len(), Ordering::Relaxed);
        Listening { hub: self.clone(), listener }
    }

    /// How many events listeners have missed, each listener's by themselves.
    pub fn lagged(&self) -> u64 {
        self.lagged.get()
    }

    /// The number of listeners.
    pub fn listeners(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Ends the listening when dropped.
#[derive(Debug)]
pub struct Listening {
    hub: Arc<Hub>,
    pub listener: Arc<Listener>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = lock(&self.hub.listeners);
        listeners.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        self.hub.count.store(listeners.len(), Ordering::Relaxed);
        drop(listeners);
        lock(&self.listener.queue).closed = true;
        self.listener.ready.notify_all();
    }
}

/// The queue of one listener.
#[derive(Debug, Default)]
pub struct Listener {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Arc<[Event]>>,
    waiting: usize,
    missed: u64,
    closed: bool,
}

/// The next thing for a listener.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Events(Arc<[Event]>),
    /// This many events were dropped here.
    Lagged(u64),
}

impl Listener {
    /// Returns how many it has no room for.
    fn push(&self, events: &Arc<[Event]>) -> u64 {
        let mut queue = lock(&self.queue);
        let before = queue.missed;
        // After dropping events, queue no more until the listener has been told.
        if queue.missed > 0 || queue.waiting >= MAX_WAITING {
            queue.missed += events.len() as u64;
        } else {
            queue.waiting += events.len();
            queue.batches.push_back(events.clone());
        }
        let missed = queue.missed - before;
        drop(queue);
        self.ready.notify_one();
        missed
    }

    /// Returns what is queued now.
    #[cfg(test)]
    pub fn now(&self) -> Option<Heard> {
        lock(&self.queue).take()
    }

    /// Waits for the next event. Returns `None` when the listening is over.
    pub fn next(&self) -> Option<Heard> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(heard) = queue.take() {
                return Some(heard);
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn take(&mut self) -> Option<Heard> {
        if let Some(events) = self.batches.pop_front() {
            self.waiting -= events.len();
            return Some(Heard::Events(events));
        }
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then_some(Heard::Lagged(missed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::event::StatusChange;
    use protocol::id::JobId;
    use protocol::job::Status;
    use protocol::name::{JobType, QueueName};

    fn events(n: usize) -> Vec<Event> {
        let event = Event::Status(StatusChange {
            id: JobId::from_u128(1),
            queue: QueueName::new("q").unwrap(),
            job_type: JobType::new("t").unwrap(),
            from: None,
            to: Some(Status::Ready),
            at: 1,
            priority: 1,
            attempts: 0,
            error: None,
        });
        vec![event; n]
    }

    #[test]
    fn a_slow_listener_is_told_how_many_events_it_missed() {
        let hub = Arc::new(Hub::default());
        assert!(!hub.is_watched());
        let listening = hub.listen();
        assert!(hub.is_watched());
        hub.publish(events(MAX_WAITING));
        hub.publish(events(3));
        hub.publish(events(4));
        let next = || listening.listener.next();
        assert_eq!(hub.lagged(), 7);
        assert!(matches!(next(), Some(Heard::Events(all)) if all.len() == MAX_WAITING));
        assert_eq!(next(), Some(Heard::Lagged(7)));
        hub.publish(events(1));
        assert!(matches!(next(), Some(Heard::Events(one)) if one.len() == 1));
        let listener = listening.listener.clone();
        drop(listening);
        assert_eq!((listener.next(), hub.is_watched()), (None, false));
    }
}
