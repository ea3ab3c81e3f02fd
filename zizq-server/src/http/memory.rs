//! Bounds the memory that peers can make this server hold: one account, per connection and in total, counted from the
//! arrival of bytes until they have gone.
//!
//! | Kind | From | To | At the limit |
//! |---|---|---|---|
//! | a call: its head, and what it costs to have it open | its head | its answer has been sent | 503 |
//! | a body | each piece as it comes | the call is done | larger bodies come in one at a time, slow ones are refused |
//! | an answer | before it is made | all of it has been sent | the connection's next calls wait, pages get short, 503 |
//!
//! A connection that does not read what waits for it is closed.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::pace::{Manners, Pace};
use crate::hash::HashMap;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// An answer counts as this many bytes while it is made.
pub(crate) const SMALL: usize = 64 * KIB;
/// The largest body that does not wait for larger ones, in bytes: a job with the largest default payload, and more than
/// almost all bulks.
const MODEST: usize = 2 * MIB;
/// The approximate cost of an open call, in bytes.
const CALL: usize = 8 * KIB;
/// The bytes of calls, bodies and answers that every connection may use without counting them in the total: one usual
/// call. It is part of the cost of a connection, and keeps usual calls from contending for one counter.
const OWN: usize = 4 * KIB;
const OWN_CALL: usize = CALL + OWN;
/// The most that the calls of one connection may use, in bytes: mostly their heads.
const PEER_CALLS: usize = 8 * MIB;
/// The most open calls besides one usual call per connection.
const MORE_CALLS: usize = 16 * KIB;
/// A connection with this many unread bytes gets no further long answers.
pub(crate) const ROOM: usize = MIB;
/// The size at which a page of large jobs ends before its limit, in bytes.
pub(crate) const PAGE: usize = 16 * MIB;
/// Above this many unread bytes in total, pages end at [`SMALL`], and slow readers are no longer tolerated.
const MANY: usize = 64 * MIB;
/// Above this many unread bytes in total, long answers are refused.
const TOO_MANY: usize = 128 * MIB;
/// The most that all modest bodies may use besides the large ones, in bytes.
const ALL_MODEST: usize = 64 * MIB;
/// The most bodies that wait for memory: in total, and per connection, which must have the window (HTTP/2) for the
/// bytes in transit.
const MAX_WAITING: usize = 64;
const MAX_PEER_WAITING: usize = 2;
/// How long a body may wait for memory.
const WAITING: Duration = Duration::from_secs(10);
/// How often connections that do not read are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What a number of bytes is counted as.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Call,
    Body,
    /// An answer that is being made.
    Making,
    /// An answer that has not been sent.
    Answer,
}

impl Kind {
    /// The bytes that a connection may use before they count in the total.
    const fn own(self) -> usize {
        match self {
            Self::Call => OWN_CALL,
            Self::Body | Self::Answer => OWN,
            Self::Making => 0,
        }
    }

    /// The part of a connection's bytes that counts in the total.
    const fn shared(self, bytes: usize) -> usize {
        bytes.saturating_sub(self.own())
    }
}

#[derive(Debug, Default)]
struct Sums([AtomicUsize; 4]);

impl Sums {
    fn sum(&self, kind: Kind) -> &AtomicUsize {
        let [call, body, making, answer] = &self.0;
        match kind {
            Kind::Call => call,
            Kind::Body => body,
            Kind::Making => making,
            Kind::Answer => answer,
        }
    }

    fn of(&self, kind: Kind) -> usize {
        self.sum(kind).load(Ordering::SeqCst)
    }

    fn answers(&self) -> usize {
        self.of(Kind::Making) + self.of(Kind::Answer)
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many calls are open; try again in a moment")]
    Calls,
    #[error("too many large bodies arrive at once; try again in a moment")]
    Bodies,
    #[error("too many answers are still unread; try again in a moment")]
    Answers,
}

/// The account of all connections.
#[derive(Debug)]
pub(crate) struct Memory {
    sums: Sums,
    max_calls: usize,
    /// The most that large bodies may use, except the one that holds the lane.
    max_large: usize,
    max_body: usize,
    /// When memory is exhausted, the body that holds the lane continues alone.
    lane: Arc<AsyncMutex<()>>,
    waiting: AtomicUsize,
    freed: Notify,
    peers: Mutex<(u64, HashMap<u64, Arc<Peer>>)>,
}

impl Memory {
    pub(crate) fn new(max_body: usize) -> Arc<Self> {
        Arc::new(Self {
            sums: Sums::default(),
            max_calls: MORE_CALLS * CALL,
            max_large: max_body.max(64 * MIB),
            max_body,
            lane: Arc::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            peers: Mutex::default(),
        })
    }

    /// Opens the account of a new connection.
    pub(crate) fn connect(self: &Arc<Self>) -> Connection {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, peers) = &mut *peers;
        *next += 1;
        let peer = Arc::new(Peer {
            memory: self.clone(),
            key: *next,
            sums: Sums::default(),
            waiting: AtomicUsize::new(0),
            stalled: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            pace: Mutex::new(Pace::new()),
            read: Notify::new(),
            cut: Notify::new(),
        });
        peers.insert(peer.key, peer.clone());
        Connection(peer)
    }

    /// Closes connections that do not read what waits for them. Runs forever.
    pub(crate) async fn watch(&self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let manners = if self.sums.of(Kind::Answer) > MANY { Manners::Pressed } else { Manners::Calm };
            let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            for peer in peers.1.values().filter(|peer| !peer.keeps_pace(manners)) {
                peer.cut.notify_one();
            }
        }
    }

    /// How fast senders of bodies must be.
    fn manners(&self) -> Manners {
        if self.sums.of(Kind::Body) > self.max_large / 2 { Manners::Pressed } else { Manners::Calm }
    }
}

/// An open connection.
pub(crate) struct Connection(Arc<Peer>);

impl Deref for Connection {
    type Target = Arc<Peer>;

    fn deref(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut peers = self.memory.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.1.remove(&self.key);
    }
}

/// The account of one connection, with the signal that closes it.
#[derive(Debug)]
pub(crate) struct Peer {
    memory: Arc<Memory>,
    key: u64,
    sums: Sums,
    /// How many of its bodies wait for memory, and how many of its calls wait for it to read.
    waiting: AtomicUsize,
    stalled: AtomicUsize,
    /// The bytes that its socket has taken since the last look.
    written: AtomicUsize,
    pace: Mutex<Pace>,
    read: Notify,
    cut: Notify,
}

impl Peer {
    /// Counts what its socket has taken.
    pub(crate) fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written.fetch_add(bytes, Ordering::Relaxed);
        }
        written
    }

    /// Returns when the connection must be closed.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
    }

    fn keeps_pace(&self, manners: Manners) -> bool {
        let written = self.written.swap(0, Ordering::Relaxed);
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sums.of(Kind::Answer) == 0 {
            *pace = Pace::new();
            return true;
        }
        pace.count(written, manners);
        pace.wait(LOOK, manners)
    }

    /// Whether the peer reads its answers.
    pub(crate) fn has_room(&self) -> bool {
        self.sums.answers() < ROOM
    }

    /// Waits until the peer has read enough of its answers.
    pub(crate) async fn room(&self) {
        self.wait_for_less_than(ROOM).await;
    }

    /// Waits until a short call can be answered. A page may be under way.
    pub(crate) async fn room_for_little(&self) {
        self.wait_for_less_than(ROOM + PAGE).await;
    }

    async fn wait_for_less_than(&self, bytes: usize) {
        if self.sums.answers() < bytes {
            return;
        }
        let _waiting = Waiting::new(&self.stalled);
        while self.sums.answers() >= bytes {
            let mut read = std::pin::pin!(self.read.notified());
            read.as_mut().enable();
            if self.sums.answers() >= bytes {
                read.await;
            }
        }
    }

    /// A piece of a stream, which counts until it has been sent.
    pub(crate) fn piece(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        let mut held = Held::new(self.clone());
        held.add(Kind::Answer, bytes.len());
        held.until_sent(bytes)
    }
}

/// The memory of one call, released on drop.
#[derive(Debug)]
pub(crate) struct Held {
    peer: Arc<Peer>,
    bytes: [usize; 4],
    lane: Option<OwnedMutexGuard<()>>,
}

impl Held {
    fn new(peer: Arc<Peer>) -> Self {
        Self { peer, bytes: [0; 4], lane: None }
    }

    /// Opens the account of a call with a head of this many bytes.
    pub(crate) fn open(peer: &Arc<Peer>, head: usize) -> Self {
        let mut held = Self::new(peer.clone());
        held.add(Kind::Call, CALL + head);
        held
    }

    /// How fast the sender of its body must be.
    pub(crate) fn manners(&self) -> Manners {
        self.peer.memory.manners()
    }

    /// Checks that one more call fits.
    ///
    /// # Errors
    /// [`Full::Calls`].
    pub(crate) fn check(&self) -> Result<(), Full> {
        let (peer, all) = (&self.peer.sums, &self.peer.memory.sums);
        let fits = peer.of(Kind::Call) <= PEER_CALLS && all.of(Kind::Call) <= self.peer.memory.max_calls;
        if fits { Ok(()) } else { Err(Full::Calls) }
    }

    /// Counts a piece of its body, and returns when the next one may arrive.
    ///
    /// # Errors
    /// [`Full::Bodies`].
    pub(crate) async fn take_in(&mut self, bytes: usize) -> Result<(), Full> {
        self.add(Kind::Body, bytes);
        if self.lane.is_some() || self.fits() {
            return Ok(());
        }
        let (peer, memory) = (self.peer.clone(), self.peer.memory.clone());
        let _waiting = (Waiting::new(&peer.waiting), Waiting::new(&memory.waiting));
        if peer.waiting.load(Ordering::Relaxed) > MAX_PEER_WAITING
            || memory.waiting.load(Ordering::Relaxed) > MAX_WAITING
        {
            return Err(Full::Bodies);
        }
        let mut lane = std::pin::pin!(memory.lane.clone().lock_owned());
        let room = async {
            while !self.fits() {
                let mut freed = std::pin::pin!(memory.freed.notified());
                freed.as_mut().enable();
                if !self.fits() {
                    freed.await;
                }
            }
        };
        let lane = timeout(WAITING, async {
            tokio::select! {
                lane = &mut lane => Some(lane),
                () = room => None,
            }
        });
        self.lane = lane.await.map_err(|_| Full::Bodies)?;
        Ok(())
    }

    fn fits(&self) -> bool {
        let memory = &self.peer.memory;
        let [_, body, ..] = self.bytes;
        let modest = if body > MODEST { 0 } else { memory.max_body + ALL_MODEST };
        memory.sums.of(Kind::Body) <= memory.max_large + modest
    }

    /// Releases the body, which is no longer needed.
    pub(crate) fn forget_body(&mut self) {
        self.clear(Kind::Body);
        self.lane = None;
    }

    /// Counts an answer that may be long and is about to be made.
    ///
    /// # Errors
    /// [`Full::Answers`].
    pub(crate) fn make(&mut self) -> Result<(), Full> {
        self.add(Kind::Making, SMALL);
        if self.peer.memory.sums.answers() > TOO_MANY { Err(Full::Answers) } else { Ok(()) }
    }

    /// Reserves a page and returns its size in bytes. It is short while other peers, or this one, have much unread.
    pub(crate) fn page(&mut self) -> usize {
        let alone = self.peer.sums.answers() <= SMALL;
        if !alone || self.peer.memory.sums.answers() + PAGE > MANY + SMALL {
            return SMALL;
        }
        self.add(Kind::Making, PAGE);
        PAGE
    }

    /// Replaces the estimate by the actual size of the answer.
    pub(crate) fn made(&mut self, bytes: usize) {
        self.add(Kind::Answer, bytes);
        self.clear(Kind::Making);
        self.forget_body();
    }

    /// Returns bytes that hold their memory until they have been sent.
    pub(crate) fn until_sent(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Unsent { bytes, _held: self })
    }

    fn add(&mut self, kind: Kind, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let [call, body, making, answer] = &mut self.bytes;
        *match kind {
            Kind::Call => call,
            Kind::Body => body,
            Kind::Making => making,
            Kind::Answer => answer,
        } += bytes;
        let before = self.peer.sums.sum(kind).fetch_add(bytes, Ordering::Relaxed);
        let shared = kind.shared(before + bytes) - kind.shared(before);
        if shared > 0 {
            self.peer.memory.sums.sum(kind).fetch_add(shared, Ordering::Relaxed);
        }
    }

    fn clear(&mut self, kind: Kind) {
        let [call, body, making, answer] = &mut self.bytes;
        let bytes = std::mem::take(match kind {
            Kind::Call => call,
            Kind::Body => body,
            Kind::Making => making,
            Kind::Answer => answer,
        });
        if bytes == 0 {
            return;
        }
        let (peer, memory) = (&self.peer, &self.peer.memory);
        let before = peer.sums.sum(kind).fetch_sub(bytes, Ordering::SeqCst);
        let shared = kind.shared(before) - kind.shared(before - bytes);
        if shared > 0 {
            memory.sums.sum(kind).fetch_sub(shared, Ordering::SeqCst);
        }
        match kind {
            Kind::Call => {}
            Kind::Body if memory.waiting.load(Ordering::SeqCst) > 0 => memory.freed.notify_waiters(),
            Kind::Making | Kind::Answer if peer.stalled.load(Ordering::SeqCst) > 0 => {
                peer.read.notify_waiters();
            }
            Kind::Body | Kind::Making | Kind::Answer => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for kind in [Kind::Call, Kind::Body, Kind::Making, Kind::Answer] {
            self.clear(kind);
        }
    }
}

struct Unsent {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts a body or a call that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(sum: &'a AtomicUsize) -> Self {
        sum.fetch_add(1, Ordering::SeqCst);
        Self(sum)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    fn memory() -> Arc<Memory> {
        Memory::new(32 * MIB)
    }

    fn unread(peer: &Arc<Peer>, bytes: usize) -> Bytes {
        let mut held = Held::open(peer, 100);
        held.make().unwrap();
        held.made(bytes);
        held.until_sent(vec![7; bytes])
    }

    #[tokio::test]
    async fn everything_is_released_in_the_end() {
        let memory = memory();
        let connection = memory.connect();
        let mut held = Held::open(&connection, 100);
        held.take_in(1_000).await.unwrap();
        held.make().unwrap();
        assert_eq!(held.page(), PAGE);
        let piece = connection.piece(vec![1; 10]);
        assert_eq!(connection.sums.of(Kind::Call), CALL + 100);
        assert_eq!(connection.sums.of(Kind::Body), 1_000);
        assert_eq!(connection.sums.answers(), SMALL + PAGE + 10);
        assert_eq!([Kind::Call, Kind::Body, Kind::Answer].map(|kind| memory.sums.of(kind)), [0; 3]);
        assert_eq!(memory.sums.answers(), SMALL + PAGE);
        let second = Held::open(&connection, OWN);
        held.take_in(OWN).await.unwrap();
        let large = connection.piece(vec![1; OWN]);
        assert_eq!(memory.sums.of(Kind::Call), CALL + 100);
        assert_eq!(memory.sums.of(Kind::Body), 1_000);
        assert_eq!(memory.sums.of(Kind::Answer), 10);
        held.made(5);
        assert_eq!(connection.sums.of(Kind::Body), 0);
        let sent = held.until_sent(vec![2; 5]);
        assert_eq!((connection.sums.answers(), memory.sums.answers()), (OWN + 15, 15));
        let part = sent.slice(1..2);
        drop((sent, piece, second));
        assert_eq!((connection.sums.answers(), memory.sums.answers()), (OWN + 5, 5), "a part is still there");
        drop(large);
        drop(part);
        for kind in [Kind::Call, Kind::Body, Kind::Making, Kind::Answer] {
            assert_eq!((connection.sums.of(kind), memory.sums.of(kind)), (0, 0), "{kind:?}");
        }
        drop(connection);
        assert!(memory.peers.lock().unwrap().1.is_empty());
    }

    #[tokio::test]
    async fn large_bodies_wait_for_memory_and_small_ones_do_not() {
        let memory = memory();
        let [a, b, c] = [memory.connect(), memory.connect(), memory.connect()];
        let [mut first, mut second, mut third] = [&a, &b, &c].map(|peer| Held::open(peer, 0));
        first.take_in(40 * MIB).await.unwrap();
        second.take_in(20 * MIB).await.unwrap();
        // One continues although there is no memory for it.
        second.take_in(10 * MIB).await.unwrap();
        second.take_in(MIB).await.unwrap();
        assert!(second.lane.is_some());
        let mut small = Held::open(&c, 0);
        small.take_in(MODEST).now_or_never().unwrap().unwrap();
        {
            let mut waits = std::pin::pin!(third.take_in(MODEST + 1));
            assert!(waits.as_mut().now_or_never().is_none());
            first.forget_body();
            waits.await.unwrap();
        }
        assert!(third.lane.is_none(), "there was room again");
        third.take_in(40 * MIB).now_or_never();
        let waits = first.take_in(MODEST + 1).now_or_never();
        assert!(waits.is_none());
        drop(second);
        first.take_in(1).now_or_never().unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_have_few_waiting_bodies() {
        let memory = memory();
        let [full, peer] = [memory.connect(), memory.connect()];
        let mut most = Held::open(&full, 0);
        most.take_in(80 * MIB).await.unwrap();
        let mut waiting = [(); 3].map(|()| Held::open(&peer, 0));
        let [a, b, c] = &mut waiting;
        assert!(most.lane.is_some());
        let (mut a, mut b) = (Box::pin(a.take_in(MODEST + 1)), Box::pin(b.take_in(MODEST + 1)));
        assert!((&mut a).now_or_never().is_none() && (&mut b).now_or_never().is_none());
        assert_eq!(c.take_in(MODEST + 1).await, Err(Full::Bodies));
        assert_eq!((a.await, b.await), (Err(Full::Bodies), Err(Full::Bodies)), "they wait forever");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_gets_no_further_answers() {
        let memory = memory();
        let connection = memory.connect();
        let small = unread(&connection, ROOM - 1);
        assert!(connection.room().now_or_never().is_some());
        let more = unread(&connection, 1);
        let mut room = std::pin::pin!(connection.room());
        assert!(room.as_mut().now_or_never().is_none());
        assert!(connection.room_for_little().now_or_never().is_some());
        assert!(memory.connect().room().now_or_never().is_some(), "others do");
        drop(more);
        room.await;
        drop(small);
    }

    #[tokio::test]
    async fn pages_shrink_and_long_answers_are_refused_while_too_much_is_unread() {
        let memory = memory();
        let mut kept = Vec::new();
        let mut pages = Vec::new();
        loop {
            let connection = memory.connect();
            let mut held = Held::open(&connection, 0);
            if let Err(full) = held.make() {
                assert_eq!(full, Full::Answers);
                break;
            }
            pages.push(held.page());
            held.made(PAGE);
            kept.push((connection, held));
        }
        assert_eq!(pages, [[PAGE; 4].as_slice(), &[SMALL; 4]].concat());
        kept.clear();
        let connection = memory.connect();
        let _other = unread(&connection, 1);
        let mut held = Held::open(&connection, 0);
        held.make().unwrap();
        assert_eq!(held.page(), SMALL, "it has another answer to read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_closed() {
        let memory = memory();
        let watch = memory.clone();
        let watch = tokio::spawn(async move { watch.watch().await });
        let [idle, slow, deaf] = [memory.connect(), memory.connect(), memory.connect()];
        let since = Instant::now();
        let _unread = (unread(&slow, MIB), unread(&deaf, 10));
        let reads = async {
            loop {
                tokio::time::sleep(LOOK).await;
                drop(slow.count(Poll::Ready(Ok(32 * KIB))));
            }
        };
        tokio::select! {
            () = deaf.cut() => {}
            () = idle.cut() => panic!("there is nothing to read"),
            () = slow.cut() => panic!("it reads"),
            () = reads => {}
        }
        assert_eq!(since.elapsed().as_secs(), 29);
        // When others need the memory, it is closed sooner.
        let _more = unread(&idle, MANY);
        let since = Instant::now();
        slow.cut().await;
        assert!(since.elapsed() <= Duration::from_secs(3), "{:?}", since.elapsed());
        watch.abort();
    }
}
