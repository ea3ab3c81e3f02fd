//! Counts calls and how long they take, by route.

use std::time::Instant;

use super::route::{ROUTES, Route};
use crate::meter::{Counter, Timed, Timing};

/// The calls of one route.
#[derive(Debug, Default)]
struct Calls {
    /// By the first digit of the status, from 2 on.
    classes: [Counter; CLASSES.len()],
    times: Timing,
}

/// Classes of statuses. Informational ones are never final, and nothing is redirected.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The calls of all routes, each at the position of its route, and those that no route matched.
#[derive(Debug)]
pub(crate) struct CallMeters {
    routes: [Calls; ROUTES.len()],
    unmatched: Calls,
}

/// How the calls of a route went.
#[derive(Debug)]
pub(super) struct Called {
    /// None: no route matched.
    pub route: Option<&'static Route>,
    pub classes: [(&'static str, u64); CLASSES.len()],
    pub times: Timed,
}

impl CallMeters {
    pub(crate) fn new() -> Self {
        Self { routes: std::array::from_fn(|_| Calls::default()), unmatched: Calls::default() }
    }

    /// Counts a call that has just been answered. `route`: the position of its route.
    pub(super) fn count(&self, route: Option<usize>, status: u16, started: Instant) {
        let Calls { classes, times } = route.and_then(|at| self.routes.get(at)).unwrap_or(&self.unmatched);
        let [fine, wrong, failed] = classes;
        let class = match status {
            0..400 => fine,
            400..500 => wrong,
            _ => failed,
        };
        class.add(1);
        times.since(started);
    }

    /// How it went with each route that was called.
    pub(super) fn get(&self) -> Vec<Called> {
        let routes = ROUTES.iter().map(Some).zip(&self.routes);
        let all = routes.chain(std::iter::once((None, &self.unmatched)));
        let called = |(route, calls): (Option<&'static Route>, &Calls)| {
            let mut classes = CLASSES.map(|class| (class, 0));
            classes.iter_mut().zip(&calls.classes).for_each(|((_, count), counter)| *count = counter.get());
            Called { route, classes, times: calls.times.get() }
        };
        all.map(called).filter(|called| called.times.count() > 0).collect()
    }
}
