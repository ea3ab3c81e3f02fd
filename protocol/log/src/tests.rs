use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};

use tracing::subscriber::with_default;
use tracing_subscriber::Layer as _;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::few::MOST;
use crate::queue::MAX_BYTES;

/// Standard error as a test holds it: a write waits for the gate, and then can be received.
struct Out {
    gate: Arc<(Mutex<bool>, Condvar)>,
    begins: Sender<()>,
    written: Sender<String>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begins.send(()).ok();
        let (is_open, opened) = &*self.gate;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    log: Log,
    gate: Arc<(Mutex<bool>, Condvar)>,
    begins: Receiver<()>,
    written: Receiver<String>,
}

fn world() -> World {
    let gate = Arc::default();
    let ((begins_in, begins), (written_in, written)) = (channel(), channel());
    let log = Log::start(Out { gate: Arc::clone(&gate), begins: begins_in, written: written_in });
    World { log, gate, begins, written }
}

impl World {
    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    /// All that is written until this is there.
    fn until(&self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            text += &self.written.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{text}"));
        }
        text
    }

    fn subscriber(&self) -> impl tracing::Subscriber + use<> {
        let log = self.log.clone();
        let layer = layer().with_ansi(false).with_target(false).without_time().with_writer(log);
        tracing_subscriber::registry().with(layer.with_filter(self.log.few(&["free"])))
    }
}

#[test]
fn nobody_waits_for_who_reads_and_what_is_dropped_is_counted() {
    let world = world();
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    world.log.clone().write_all(b"first\n").unwrap();
    // The thread has it, and is stuck with it.
    world.begins.recv().unwrap();
    let fit = MAX_BYTES / line.len();
    for _ in 0..fit + 1_234 {
        world.log.clone().write_all(&line).unwrap();
    }
    assert!(!world.log.queue.wait_until_empty(Duration::from_millis(1)), "nobody reads");
    tracing::subscriber::set_global_default(world.subscriber()).unwrap();
    world.open();
    let text = world.until("1,234 log lines were dropped, because standard error was not read fast enough");
    assert!(text.starts_with("first\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("xxx")).count(), fit);
    assert!(world.log.finish(), "all is written");
}

#[test]
fn of_one_kind_a_few_are_let_through_and_the_others_are_counted() {
    let world = world();
    world.open();
    with_default(world.subscriber(), || {
        for n in 0..6_019 {
            tracing::warn!("a line cannot be read: {n}");
        }
        for _ in 0..100 {
            tracing::debug!("as many as wanted");
            tracing::info!(target: "free", "bounded elsewhere");
        }
        tracing::warn!("another kind");
        assert!(world.log.finish());
    });
    let text = world.until("and 5,999 more in");
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("WARN a line cannot be read"), usize::try_from(MOST).unwrap());
    assert!(text.contains("s like: a line cannot be read: 20 left_out=5999\n"), "{text}");
    assert_eq!(
        (count("as many as wanted"), count("bounded elsewhere"), count("another kind")),
        (100, 100, 1)
    );
}
