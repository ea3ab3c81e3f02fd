//! Rate limiting of log messages per call site: passes a few per period and counts the others.

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

/// How many messages of a kind pass per period.
pub(crate) const MOST: u64 = 20;
/// The first period. It doubles while the limit is exceeded.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(64);
/// How many characters of a message are repeated.
const EXCERPT: usize = 200;

/// Passes a few messages of each kind; a kind is one call site. Levels `debug` and `trace` are not limited.
#[derive(Debug, Clone)]
pub struct Few {
    log: Log,
    bounded: &'static [&'static str],
}

/// The call sites that have logged.
#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<HashMap<Identifier, Site>>);

#[derive(Debug)]
struct Site {
    level: Level,
    since: Instant,
    length: Duration,
    /// How many messages came in this period.
    n: u64,
    /// The first message that was left out.
    message: String,
}

/// Whether a message passes.
#[derive(Debug, Clone, Copy)]
enum Admission {
    Yes,
    No,
    /// It is the first that does not pass.
    NoMore,
}

/// The messages of a kind that were left out.
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
                // Wake the writer, which reports it when the period is over.
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
        // A site with unreported messages keeps its period until they are reported.
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

    /// When the next report about left-out messages is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sites = self.lock();
        sites.values().filter(|site| site.n > MOST).map(|site| site.since + site.length).min()
    }

    /// Takes the reports of periods that are over, or at exit of all, and begins new periods.
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
