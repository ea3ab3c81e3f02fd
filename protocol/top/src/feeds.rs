//! What the views are made of: answers of the API, each asked for again some time after the last answer. So a slow server
//! gets fewer questions, and never two of a kind at once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::event::Problem;

/// A place for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    WhoAmI,
    History,
    Paused,
    Deaths,
    Jobs,
    Job,
    Errors,
    Running,
    Groups,
    GroupJobs,
    Workers,
    Crons,
    Budgets,
    Queue,
    QueueTypes,
    QueueJobs,
    QueueWorkers,
    QueueHistory,
}

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// One call, with its query.
    Path(String),
    /// All groups, with their entries.
    Crons,
    /// All budgets, and how many jobs draw on each.
    Budgets,
}

/// What a view wants to know, and after how many milliseconds again.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) slot: Slot,
    pub(super) source: Source,
    pub(super) every: u64,
}

pub(super) fn want(slot: Slot, path: impl Into<String>, every: u64) -> Want {
    Want { slot, source: Source::Path(path.into()), every }
}

/// A question that is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) slot: Slot,
    pub(super) turn: u64,
    pub(super) source: Source,
}

#[derive(Debug)]
struct Feed {
    source: Source,
    /// The number of the last question.
    turn: u64,
    /// Since when it has been waited for.
    asked: Option<u64>,
    due: u64,
    every: u64,
    value: Option<Value>,
    /// Whether the value is what the present source said.
    is_own: bool,
    problem: Option<Problem>,
}

#[derive(Debug, Default)]
pub(super) struct Feeds {
    feeds: BTreeMap<Slot, Feed>,
    turns: u64,
}

impl Feeds {
    /// The last answer, which may be that to an earlier filter or order.
    pub(super) fn get(&self, slot: Slot) -> Option<&Value> {
        self.feeds.get(&slot)?.value.as_ref()
    }

    /// The last answer to what is asked now.
    pub(super) fn own(&self, slot: Slot) -> Option<&Value> {
        self.feeds.get(&slot).filter(|feed| feed.is_own)?.value.as_ref()
    }

    /// Why there is no answer to what is asked now.
    pub(super) fn problem(&self, slot: Slot) -> Option<&Problem> {
        self.feeds.get(&slot)?.problem.as_ref()
    }

    /// Whether an answer to what is asked now has never come, and for how long it has been waited for.
    pub(super) fn waiting(&self, slot: Slot, now: u64) -> Option<u64> {
        let feed = self.feeds.get(&slot)?;
        feed.asked.filter(|_| !feed.is_own).map(|asked| now.saturating_sub(asked))
    }

    /// What to ask now, for views that want this.
    pub(super) fn ask(&mut self, wanted: Vec<Want>, now: u64) -> Vec<Question> {
        let mut questions = Vec::new();
        for Want { slot, source, every } in wanted {
            let feed = self.feeds.entry(slot).or_insert_with(|| Feed {
                source: source.clone(),
                turn: 0,
                asked: None,
                due: 0,
                every,
                value: None,
                is_own: false,
                problem: None,
            });
            if feed.source != source {
                (feed.source, feed.is_own, feed.asked, feed.due, feed.problem) =
                    (source, false, None, 0, None);
            }
            feed.every = every;
            if feed.asked.is_none() && now >= feed.due {
                self.turns += 1;
                (feed.turn, feed.asked) = (self.turns, Some(now));
                questions.push(Question { slot, turn: feed.turn, source: feed.source.clone() });
            }
        }
        questions
    }

    /// Takes an answer, unless something else has been asked since.
    pub(super) fn take(&mut self, slot: Slot, turn: u64, result: Result<Value, Problem>, now: u64) {
        let Some(feed) = self.feeds.get_mut(&slot).filter(|feed| feed.turn == turn && feed.asked.is_some())
        else {
            return;
        };
        (feed.asked, feed.due) = (None, now + feed.every);
        match result {
            Ok(value) => (feed.value, feed.is_own, feed.problem) = (Some(value), true, None),
            Err(problem) => {
                // Of what does not exist nothing is shown; what is unreachable may be as it was.
                if problem.status == 404 {
                    feed.value = None;
                }
                feed.problem = Some(problem);
            }
        }
    }

    /// Asks for everything anew.
    pub(super) fn refresh(&mut self) {
        for feed in self.feeds.values_mut() {
            feed.due = 0;
        }
    }

    /// Forgets one answer, as for another job.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.feeds.remove(&slot);
    }

    pub(super) fn clear(&mut self) {
        self.feeds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn jobs(path: &str) -> Vec<Want> {
        vec![want(Slot::Jobs, path, 1_000)]
    }

    #[test]
    fn the_next_question_comes_some_time_after_the_last_answer() {
        let mut feeds = Feeds::default();
        let first = feeds.ask(jobs("/jobs"), 0);
        assert_eq!(first.len(), 1);
        assert_eq!(feeds.ask(jobs("/jobs"), 60_000), [], "it is still waited for");
        assert_eq!(feeds.waiting(Slot::Jobs, 60_000), Some(60_000));
        feeds.take(Slot::Jobs, first[0].turn, Ok(json!(1)), 60_000);
        assert_eq!(feeds.get(Slot::Jobs), Some(&json!(1)));
        assert_eq!(feeds.ask(jobs("/jobs"), 60_999), []);
        assert_eq!(feeds.ask(jobs("/jobs"), 61_000).len(), 1);
        assert_eq!(feeds.waiting(Slot::Jobs, 62_000), None, "there is an answer to show");
    }

    #[test]
    fn a_late_answer_to_an_earlier_question_is_left() {
        let mut feeds = Feeds::default();
        let first = feeds.ask(jobs("/jobs?queue=a"), 0);
        let second = feeds.ask(jobs("/jobs?queue=b"), 1);
        assert_eq!(second.len(), 1, "another question does not wait");
        feeds.take(Slot::Jobs, first[0].turn, Ok(json!("a")), 2);
        assert_eq!(feeds.get(Slot::Jobs), None);
        feeds.take(Slot::Jobs, second[0].turn, Ok(json!("b")), 3);
        assert_eq!(feeds.get(Slot::Jobs), Some(&json!("b")));
    }

    #[test]
    fn what_was_known_stays_while_the_server_cannot_be_reached() {
        let mut feeds = Feeds::default();
        let answer = |feeds: &mut Feeds, result, now| {
            let asked = feeds.ask(jobs("/jobs"), now);
            feeds.take(Slot::Jobs, asked[0].turn, result, now);
        };
        answer(&mut feeds, Ok(json!(1)), 0);
        answer(&mut feeds, Err(Problem::new(0, "gone")), 2_000);
        assert_eq!(feeds.get(Slot::Jobs), Some(&json!(1)));
        assert_eq!(feeds.problem(Slot::Jobs), Some(&Problem::new(0, "gone")));
        answer(&mut feeds, Err(Problem::new(404, "no such job")), 4_000);
        assert_eq!(feeds.get(Slot::Jobs), None);
        answer(&mut feeds, Ok(json!(2)), 6_000);
        assert_eq!(feeds.problem(Slot::Jobs), None);
    }
}
