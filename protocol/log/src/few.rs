//! A few lines of each kind, and the number of the others.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::{Log, TARGET};

/// How many lines of a kind are let through in a while.
pub(crate) const MOST: u64 = 20;
/// How long a while is at first. It doubles as long as there were more.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(64);
/// How much of a message is said again, in characters.
const EXCERPT: usize = 200;

/// Lets a few lines of each kind through. A kind is what one place in the code says. What is asked for by `debug` and
/// `trace` is not counted.
#[derive(Debug, Clone)]
pub struct Few {
    log: Log,
    bounded: &'static [&'static str],
}

/// The places in the code that said something.
#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<HashMap<Identifier, Site>>);

#[derive(Debug)]
struct Site {
    level: Level,
    since: Instant,
    length: Duration,
    /// How many lines came in this while.
    n: u64,
    /// The first message that was left out.
    message: String,
}

/// Whether a line is let through.
#[derive(Debug, Clone, Copy)]
enum Admission {
    Yes,
    No,
    /// It is the first that is not.
    NoMore,
}

/// What is left out of a log.
#[derive(Debug)]
pub(crate) struct LeftOut {
    pub(crate) level: Level,
    pub(crate) n: u64,
    pub(crate) seconds: u64,
    pub(crate) message: String,
}

impl Few {
    pub(crate) const fn new(log: Log, bounded: &'static [&'static str]) -> Self {
        Self { log, bounded }
    }
}

impl<S> Filter<S> for Few {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let about = event.metadata();
        let is_free = *about.level() > Level::INFO || about.target() == TARGET;
        if is_free || self.bounded.contains(&about.target()) {
            return true;
        }
        match self.log.sites.admits(event, Instant::now()) {
            Admission::Yes => true,
            Admission::No => false,
            Admission::NoMore => {
                // Somebody is to tell of it when the while is over.
                self.log.queue.call();
                false
            }
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

impl Sites {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Site>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> Admission {
        let about = event.metadata();
        let mut sites = self.lock();
        let site = sites.entry(about.callsite()).or_insert_with(|| Site {
            level: *about.level(),
            since: now,
            length: FIRST,
            n: 0,
            message: String::new(),
        });
        // What was left out is told first.
        if site.n <= MOST && site.since + site.length <= now {
            (site.since, site.n, site.length) = (now, 0, FIRST);
        }
        site.n = site.n.saturating_add(1);
        if site.n == MOST + 1 {
            event.record(&mut Excerpt(&mut site.message));
            return Admission::NoMore;
        }
        if site.n <= MOST { Admission::Yes } else { Admission::No }
    }

    /// When there is something to tell next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sites = self.lock();
        sites.values().filter(|site| site.n > MOST).map(|site| site.since + site.length).min()
    }

    /// What was left out in the whiles that are over, or at last in all of them. New ones begin.
    pub(crate) fn left_out(&self, is_last: bool) -> Vec<LeftOut> {
        let now = Instant::now();
        let mut sites = self.lock();
        let over =
            sites.values_mut().filter(|site| site.n > MOST && (is_last || site.since + site.length <= now));
        over.map(|site| {
            let left = LeftOut {
                level: site.level,
                n: site.n - MOST,
                seconds: (now - site.since).as_secs().max(1),
                message: std::mem::take(&mut site.message),
            };
            (site.since, site.n, site.length) = (now, 0, (site.length * 2).min(LONGEST));
            left
        })
        .collect()
    }
}

/// Reads the start of the message of an event.
struct Excerpt<'a>(&'a mut String);

impl Visit for Excerpt<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let mut text = String::new();
            // Writing to a text cannot fail.
            write!(text, "{value:?}").unwrap_or_default();
            self.0.extend(text.chars().take(EXCERPT));
        }
    }
}
