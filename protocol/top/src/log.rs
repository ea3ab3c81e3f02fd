//! The output of a job, while it prints it.

use std::collections::VecDeque;

use super::event::LogNews;
use super::format::plural;
use super::text::{clean, fold};

/// The most lines that are kept; older ones are dropped.
const MAX_LINES: usize = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Out,
    Error,
    /// Where output is missing.
    Gap,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Live,
    Ended(Option<String>),
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: String,
    /// The number of the follower whose news count.
    pub(super) turn: u64,
    pub(super) attempt: Option<u64>,
    lines: VecDeque<(Kind, String)>,
    pub(super) dropped: u64,
    pub(super) state: State,
    pub(super) follow: bool,
    pub(super) wrap: bool,
    /// Only this stream.
    pub(super) only: Option<Kind>,
    pub(super) search: String,
    /// The first row that is visible, and how many there were and fitted when it was last drawn.
    pub(super) top: usize,
    pub(super) drawn: (usize, usize),
    /// How many columns are left out at the left.
    pub(super) left: usize,
}

impl Log {
    pub(super) fn new(id: String, turn: u64) -> Self {
        Self {
            id,
            turn,
            attempt: None,
            lines: VecDeque::new(),
            dropped: 0,
            state: State::Connecting,
            follow: true,
            wrap: false,
            only: None,
            search: String::new(),
            top: 0,
            drawn: (0, 0),
            left: 0,
        }
    }

    pub(super) fn take(&mut self, news: LogNews) {
        match news {
            LogNews::Attempt(attempt) => {
                if self.attempt.is_some_and(|before| before != attempt) {
                    self.lines.clear();
                }
                (self.attempt, self.state) = (Some(attempt), State::Live);
            }
            LogNews::Line { is_error, line } => {
                self.push(if is_error { Kind::Error } else { Kind::Out }, clean(&line));
            }
            LogNews::Gap(missed) => {
                self.push(Kind::Gap, format!("… {} of output were dropped here", plural(missed, "byte")));
            }
            LogNews::End(status) => self.state = State::Ended(status),
            LogNews::Problem(problem) if problem.status == 404 => self.state = State::Ended(None),
            LogNews::Problem(problem) => self.state = State::Failed(problem.says),
        }
    }

    fn push(&mut self, kind: Kind, line: String) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.dropped += 1;
            self.top = self.top.saturating_sub(usize::from(!self.follow));
        }
        self.lines.push_back((kind, line));
    }

    /// The rows of so many columns: what they show, and whether they have what is searched for.
    pub(super) fn rows(&self, columns: usize) -> Vec<(Kind, String, bool)> {
        let needle = self.search.to_lowercase();
        let mut rows = Vec::with_capacity(self.lines.len());
        for (kind, line) in &self.lines {
            if self.only.is_some_and(|only| only != *kind && *kind != Kind::Gap) {
                continue;
            }
            let hit = !needle.is_empty() && line.to_lowercase().contains(&needle);
            if self.wrap {
                rows.extend(fold(line, columns).into_iter().map(|row| (*kind, row, hit)));
            } else {
                rows.push((*kind, line.clone(), hit));
            }
        }
        rows
    }

    pub(super) fn next_stream(&mut self) {
        self.only = match self.only {
            None => Some(Kind::Out),
            Some(Kind::Out) => Some(Kind::Error),
            Some(_) => None,
        };
    }

    /// Turns by so many rows. At the end it follows again.
    pub(super) fn turn_by(&mut self, rows: isize) {
        let (all, height) = self.drawn;
        let last = all.saturating_sub(height);
        self.top = self.top.min(last).saturating_add_signed(rows).min(last);
        self.follow = self.top == last && rows > 0;
    }

    pub(super) fn sideways(&mut self, columns: isize) {
        self.left = self.left.saturating_add_signed(columns);
    }

    pub(super) fn go_to_end(&mut self, end: bool) {
        (self.follow, self.top) = (end, 0);
    }

    /// Goes to the next row that has what is searched for, or to the one before.
    pub(super) fn go_to_hit(&mut self, forward: bool, columns: usize) -> bool {
        let rows = self.rows(columns);
        let hits = rows.iter().enumerate().filter(|(_, (_, _, hit))| *hit).map(|(at, _)| at);
        let found = if forward {
            hits.clone().find(|at| *at > self.top)
        } else {
            hits.clone().rfind(|at| *at < self.top)
        };
        // Behind the last one comes the first.
        let around = if forward { hits.clone().next() } else { hits.clone().next_back() };
        let Some(at) = found.or(around) else { return false };
        (self.top, self.follow) = (at, false);
        true
    }

    /// All of it, for a pager.
    pub(super) fn text(&self) -> String {
        self.rows(usize::MAX).into_iter().map(|(_, row, _)| row + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: &[&str]) -> Log {
        let mut log = Log::new("id".to_owned(), 1);
        log.take(LogNews::Attempt(1));
        for line in lines {
            log.take(LogNews::Line { is_error: line.starts_with('!'), line: (*line).to_owned() });
        }
        log
    }

    #[test]
    fn it_follows_until_it_is_turned_back_and_again_from_the_end() {
        let mut log = printed(&["a"; 30]);
        (log.drawn, log.top) = ((30, 10), 20);
        log.turn_by(-3);
        assert_eq!((log.top, log.follow), (17, false));
        log.turn_by(2);
        assert_eq!((log.top, log.follow), (19, false));
        log.turn_by(5);
        assert_eq!((log.top, log.follow), (20, true));
    }

    #[test]
    fn only_the_newest_lines_are_kept() {
        let mut log = printed(&[]);
        for n in 0..MAX_LINES + 3 {
            log.take(LogNews::Line { is_error: false, line: n.to_string() });
        }
        assert_eq!((log.lines.len(), log.dropped), (MAX_LINES, 3));
        assert_eq!(log.lines.front().unwrap().1, "3");
        log.take(LogNews::Attempt(2));
        assert!(log.lines.is_empty(), "another attempt begins anew");
    }

    #[test]
    fn one_stream_may_be_shown_and_hits_are_found_around_the_end() {
        let mut log = printed(&["one", "!two", "three", "one\x1b[31m more"]);
        assert_eq!(log.text(), "one\n!two\nthree\none more\n");
        log.next_stream();
        assert_eq!(log.text(), "one\nthree\none more\n");
        log.next_stream();
        assert_eq!(log.text(), "!two\n");
        log.next_stream();
        log.search = "ONE".to_owned();
        assert!(log.go_to_hit(true, 80) && log.top == 3);
        assert!(log.go_to_hit(true, 80) && log.top == 0);
        assert!(log.go_to_hit(false, 80) && log.top == 3);
        log.search = "none such".to_owned();
        assert!(!log.go_to_hit(true, 80));
    }
}
