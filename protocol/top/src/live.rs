//! What `GET /live` has said: totals and a list of queues.

use std::collections::HashMap;

use serde_json::Value;

use super::data::Look;
use super::event::Problem;

/// After so long without news they are stale: the server sends some every second.
const STALE_MS: u64 = 3_000;

#[derive(Debug, Default, Clone)]
struct Known {
    stats: Option<Value>,
    order: Option<Vec<String>>,
    rows: HashMap<String, Value>,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    /// What is followed.
    pub(super) path: String,
    known: Known,
    /// What is shown instead, while it must not change.
    frozen: Option<Known>,
    /// When the last news came.
    at: Option<u64>,
    /// By how much the clock of the server is ahead.
    pub(super) ahead: i64,
    problem: Option<Problem>,
}

/// How it stands with the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Connecting,
    Live,
    /// Nothing has come for so many milliseconds.
    Stale(u64),
    /// Nothing has ever come.
    Never(Problem),
}

impl Live {
    /// Takes news. Returns whether they are the first after a loss.
    pub(super) fn take(&mut self, news: Value, now: u64) -> bool {
        if let Some(theirs) = news.num("now") {
            self.ahead = i64::try_from(theirs).unwrap_or_default().saturating_sub_unsigned(now);
        }
        let Value::Object(mut news) = news else { return false };
        if let Some(stats) = news.remove("totals") {
            self.known.stats = Some(stats);
        }
        if let Some(queues) = news.remove("queues") {
            for row in queues.list("rows") {
                self.known.rows.insert(row.text("name").unwrap_or_default().to_owned(), row.clone());
            }
            if queues.at("order").is_some() {
                let names = queues.list("order").iter().filter_map(Value::as_str).map(str::to_owned);
                let order: Vec<String> = names.collect();
                self.known.rows.retain(|name, _| order.contains(name));
                self.known.order = Some(order);
            }
        }
        self.at = Some(now);
        self.problem.take().is_some()
    }

    /// Takes over what an answer says of a queue, before the next news do.
    pub(super) fn put(&mut self, row: &Value) {
        let known = row.text("name").and_then(|name| self.known.rows.get_mut(name));
        if let (Some(Value::Object(known)), Value::Object(new)) = (known, row) {
            known.extend(new.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    pub(super) fn lost(&mut self, problem: Problem) {
        self.problem = Some(problem);
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen.then(|| self.known.clone());
    }

    fn shown(&self) -> &Known {
        self.frozen.as_ref().unwrap_or(&self.known)
    }

    pub(super) fn stats(&self) -> Option<&Value> {
        self.shown().stats.as_ref()
    }

    /// The queues in their order; none before the first news.
    pub(super) fn queues(&self) -> Option<Vec<&Value>> {
        let Known { order, rows, .. } = self.shown();
        Some(order.as_ref()?.iter().filter_map(|name| rows.get(name)).collect())
    }

    pub(super) fn connection(&self, now: u64) -> Connection {
        match (self.at, &self.problem) {
            (None, None) => Connection::Connecting,
            (None, Some(problem)) => Connection::Never(problem.clone()),
            (Some(at), problem) => match now.saturating_sub(at) {
                silence if silence > STALE_MS || problem.is_some() => Connection::Stale(silence),
                _ => Connection::Live,
            },
        }
    }

    /// What came instead of news.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(live: &Live) -> Vec<String> {
        let queues = live.queues().unwrap_or_default();
        queues.iter().map(|row| row.text("name").unwrap().to_owned()).collect()
    }

    #[test]
    fn news_are_put_together() {
        let mut live = Live::default();
        assert_eq!(live.connection(0), Connection::Connecting);
        let rows = json!([{"name": "a", "n": 1}, {"name": "b", "n": 1}]);
        live.take(
            json!({"now": 5_000, "totals": {"queues": 2}, "queues": {"order": ["b", "a"], "rows": rows}}),
            1_000,
        );
        assert_eq!((names(&live), live.ahead), (vec!["b".to_owned(), "a".to_owned()], 4_000));
        live.take(json!({"now": 6_000, "queues": {"rows": [{"name": "a", "n": 2}]}}), 2_000);
        assert_eq!(live.queues().unwrap()[1]["n"], 2);
        assert_eq!(live.stats().unwrap()["queues"], 2, "what is not mentioned has not changed");
        live.take(json!({"now": 7_000, "queues": {"order": ["a"], "rows": []}}), 3_000);
        assert_eq!(names(&live), ["a"]);
    }

    #[test]
    fn what_is_frozen_is_shown_until_it_thaws() {
        let mut live = Live::default();
        live.take(json!({"totals": {"queues": 1}}), 0);
        live.freeze(true);
        live.take(json!({"totals": {"queues": 2}}), 1_000);
        assert_eq!(live.stats().unwrap()["queues"], 1);
        live.freeze(false);
        assert_eq!(live.stats().unwrap()["queues"], 2);
    }

    #[test]
    fn silence_and_loss_are_told() {
        let mut live = Live::default();
        live.lost(Problem::new(0, "refused"));
        assert_eq!(live.connection(0), Connection::Never(Problem::new(0, "refused")));
        assert!(live.take(json!({"totals": {}}), 1_000), "it is back");
        assert_eq!(live.connection(4_000), Connection::Live);
        assert_eq!(live.connection(4_001), Connection::Stale(3_001));
        live.lost(Problem::new(0, "refused"));
        assert_eq!(live.connection(1_500), Connection::Stale(500));
        assert!(live.take(json!({"totals": {}}), 5_000));
        assert!(!live.take(json!({"totals": {}}), 6_000));
    }
}
