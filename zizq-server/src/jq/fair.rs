//! A semaphore that is fair to callers: those that wait take turns, however often each of them waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::caller::Caller;
use crate::hash::HashMap;

/// A number of permits. Waiting callers get them in round robin; within a caller, the first to ask is the first served.
#[derive(Debug)]
pub(super) struct FairSemaphore {
    state: Mutex<State>,
    /// The most permits that one caller may hold.
    most: usize,
}

#[derive(Debug)]
struct State {
    /// While some are free, nobody waits who may have one.
    free: usize,
    /// Who holds permits or waits for some.
    shares: HashMap<Caller, Share>,
    /// The callers that wait, the next one to be served first.
    ring: VecDeque<Caller>,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Share {
    held: usize,
    /// By ticket, in the order in which they asked.
    waiting: BTreeMap<u64, oneshot::Sender<Permit>>,
}

/// One permit; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    semaphore: Arc<FairSemaphore>,
    caller: Caller,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.give_back(self.caller);
    }
}

/// A place in the queue; dropping it gives it up.
struct Waiting<'a> {
    semaphore: &'a FairSemaphore,
    caller: Caller,
    ticket: u64,
    // Dropped last: if the permit has arrived already, it is given back.
    permit: oneshot::Receiver<Permit>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.semaphore.lock().forget(self.caller, self.ticket);
    }
}

impl FairSemaphore {
    /// `most` is how many of the permits one caller may hold.
    pub(super) fn new(permits: usize, most: usize) -> Arc<Self> {
        let state =
            State { free: permits, shares: HashMap::default(), ring: VecDeque::new(), next_ticket: 0 };
        Arc::new(Self { state: Mutex::new(state), most })
    }

    /// Waits for a permit. To give up waiting, drop the future: no permit is lost.
    pub(super) async fn acquire(self: Arc<Self>, caller: Caller) -> Permit {
        let mut waiting = {
            let mut state = self.lock();
            if state.free > 0 && state.held_by(caller) < self.most {
                state.take(caller);
                drop(state);
                return Permit { semaphore: self, caller };
            }
            let (ticket, permit) = state.wait(caller);
            Waiting { semaphore: &self, caller, ticket, permit }
        };
        (&mut waiting.permit).await.expect("its sender is kept until a permit is sent")
    }

    fn give_back(self: &Arc<Self>, caller: Caller) {
        let granted = {
            let mut state = self.lock();
            state.release(caller);
            state.grant(self.most)
        };
        // Outside of the lock: a permit that nobody receives any more comes back here at once.
        if let Some((caller, sender)) = granted {
            drop(sender.send(Permit { semaphore: self.clone(), caller }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held_by(&self, caller: Caller) -> usize {
        self.shares.get(&caller).map_or(0, |share| share.held)
    }

    fn take(&mut self, caller: Caller) {
        self.free -= 1;
        self.shares.entry(caller).or_default().held += 1;
    }

    fn release(&mut self, caller: Caller) {
        self.free += 1;
        if let Some(share) = self.shares.get_mut(&caller) {
            share.held -= 1;
        }
        self.tidy(caller);
    }

    fn wait(&mut self, caller: Caller) -> (u64, oneshot::Receiver<Permit>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (sender, receiver) = oneshot::channel();
        let share = self.shares.entry(caller).or_default();
        if share.waiting.is_empty() {
            self.ring.push_back(caller);
        }
        share.waiting.insert(ticket, sender);
        (ticket, receiver)
    }

    /// Takes a permit for the next that may have one. At most one can: while more are free, nobody waits for them.
    fn grant(&mut self, most: usize) -> Option<(Caller, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        let at = self.ring.iter().position(|caller| self.held_by(*caller) < most)?;
        let caller = self.ring.remove(at)?;
        let share = self.shares.get_mut(&caller)?;
        let (_, sender) = share.waiting.pop_first()?;
        if !share.waiting.is_empty() {
            self.ring.push_back(caller);
        }
        self.take(caller);
        Some((caller, sender))
    }

    /// Forgets one that waits, if it still does.
    fn forget(&mut self, caller: Caller, ticket: u64) {
        let Some(share) = self.shares.get_mut(&caller) else { return };
        if share.waiting.remove(&ticket).is_some() && share.waiting.is_empty() {
            self.ring.retain(|other| *other != caller);
        }
        self.tidy(caller);
    }

    /// Forgets a caller that neither holds a permit nor waits.
    fn tidy(&mut self, caller: Caller) {
        if self.shares.get(&caller).is_some_and(|share| share.held == 0 && share.waiting.is_empty()) {
            self.shares.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::Pin;

    type Acquire = Pin<Box<dyn Future<Output = Permit>>>;

    fn caller(n: u8) -> Caller {
        Caller::at([10, 0, 0, n].into())
    }

    /// Asks, and waits if need be.
    fn ask(semaphore: &Arc<FairSemaphore>, n: u8) -> Acquire {
        Box::pin(semaphore.clone().acquire(caller(n)))
    }

    fn at_once(semaphore: &Arc<FairSemaphore>, n: u8) -> Option<Permit> {
        ask(semaphore, n).now_or_never()
    }

    /// Asks for each of these callers, and notes that they wait.
    fn queue(semaphore: &Arc<FairSemaphore>, callers: &[u8]) -> Vec<(usize, Acquire)> {
        let mut waiting: Vec<_> = callers.iter().map(|n| ask(semaphore, *n)).enumerate().collect();
        for (n, acquire) in &mut waiting {
            assert!(acquire.now_or_never().is_none(), "{n} does not wait");
        }
        waiting
    }

    /// Which of those that wait has got a permit.
    fn served(waiting: &mut Vec<(usize, Acquire)>) -> Option<(usize, Permit)> {
        let found = waiting
            .iter_mut()
            .enumerate()
            .find_map(|(at, (n, acquire))| Some((at, *n, acquire.now_or_never()?)));
        let (at, n, permit) = found?;
        // A future that has ended must not be polled again.
        drop(waiting.remove(at));
        Some((n, permit))
    }

    /// Serves all that wait, one after the other, and returns their order.
    fn order(waiting: &mut Vec<(usize, Acquire)>, first: Permit) -> Vec<usize> {
        let mut order = Vec::new();
        let mut permit = Some(first);
        while let Some(last) = permit.take() {
            drop(last);
            if let Some((n, next)) = served(waiting) {
                order.push(n);
                permit = Some(next);
            }
        }
        order
    }

    fn is_as_new(semaphore: &FairSemaphore, permits: usize) -> bool {
        let state = semaphore.lock();
        state.free == permits && state.shares.is_empty() && state.ring.is_empty()
    }

    #[test]
    fn callers_take_turns_and_each_is_served_in_order() {
        for (callers, expected) in [
            (&[1, 1, 1, 1][..], &[0, 1, 2, 3][..]),
            (&[1, 1, 1, 2], &[0, 3, 1, 2]),
            (&[1, 1, 2, 2, 3], &[0, 2, 4, 1, 3]),
            (&[2, 1, 1, 2, 1, 3, 1], &[0, 1, 5, 3, 2, 4, 6]),
        ] {
            let semaphore = FairSemaphore::new(1, 1);
            let first = at_once(&semaphore, 9).unwrap();
            let mut waiting = queue(&semaphore, callers);
            assert_eq!(order(&mut waiting, first), expected, "{callers:?}");
            assert!(is_as_new(&semaphore, 1), "{semaphore:?}");
        }
    }

    #[test]
    fn one_caller_holds_no_more_than_its_share() {
        let semaphore = FairSemaphore::new(4, 3);
        let mut held: Vec<_> = (0..3).map(|_| at_once(&semaphore, 1).unwrap()).collect();
        let mut waiting = queue(&semaphore, &[1, 1]);
        let other = at_once(&semaphore, 2).expect("the last one is for others");
        let mut more = queue(&semaphore, &[2]);
        drop(other);
        assert!(served(&mut waiting).is_none(), "it has its share");
        let (_, other) = served(&mut more).expect("the first in the queue may have none, the second may");
        drop(held.pop());
        let (n, third) = served(&mut waiting).unwrap();
        assert_eq!(n, 0);
        drop(other);
        assert!(served(&mut waiting).is_none());
        drop((held, third));
        assert!(served(&mut waiting).is_some());
        assert!(is_as_new(&semaphore, 4), "{semaphore:?}");
    }

    #[test]
    fn a_caller_may_have_all_where_the_share_allows_it() {
        let semaphore = FairSemaphore::new(2, 2);
        let held: Vec<_> = (0..2).map(|_| at_once(&semaphore, 1).unwrap()).collect();
        assert!(at_once(&semaphore, 2).is_none());
        drop(held);
        assert!(is_as_new(&semaphore, 2), "{semaphore:?}");
    }

    #[test]
    fn who_gives_up_leaves_the_queue_and_loses_no_permit() {
        let semaphore = FairSemaphore::new(1, 1);
        let first = at_once(&semaphore, 1).unwrap();
        let mut waiting = queue(&semaphore, &[2, 2, 3, 3]);
        // The only one of its caller that is first, and one in the middle.
        drop((waiting.remove(2), waiting.remove(0)));
        drop(first);
        let (n, second) = served(&mut waiting).unwrap();
        assert_eq!(n, 1);
        drop(second);
        // The permit has been sent, and was not received.
        drop(waiting);
        assert!(is_as_new(&semaphore, 1), "{semaphore:?}");
        assert!(at_once(&semaphore, 4).is_some());
    }

    #[test]
    fn a_permit_that_was_not_received_goes_to_the_next() {
        let semaphore = FairSemaphore::new(1, 1);
        let first = at_once(&semaphore, 1).unwrap();
        let mut waiting = queue(&semaphore, &[2, 3, 4]);
        drop(first);
        drop(waiting.remove(0));
        let (n, second) = served(&mut waiting).unwrap();
        assert_eq!(n, 1);
        assert_eq!(order(&mut waiting, second), [2]);
        assert!(is_as_new(&semaphore, 1), "{semaphore:?}");
    }

    /// Many threads ask and give up at any moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_permit_is_lost_or_made() {
        let semaphore = FairSemaphore::new(3, 2);
        let tasks = (0..64_u8).map(|n| {
            let semaphore = semaphore.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(n.into());
                for _ in 0..200 {
                    let acquire = semaphore.clone().acquire(caller(n % 5));
                    let patience = async {
                        for _ in 0..random.u8(..20) {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        permit = acquire => {
                            assert!(semaphore.lock().held_by(caller(n % 5)) <= 2);
                            tokio::task::yield_now().await;
                            drop(permit);
                        }
                        () = patience => {}
                    }
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(is_as_new(&semaphore, 3), "{semaphore:?}");
    }
}
