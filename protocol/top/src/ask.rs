//! The one dialog for all changes: what will happen, to how many, and how far it is.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear};
use serde_json::Value;

use super::data::Look;
use super::event::{Call, JobsOf};
use super::format::{count, plural};
use super::look::{DEAD, WARN, status};
use super::prompt::Field;
use super::queue::put;
use super::text::{clean, wrap};

/// Beyond so many jobs, their number has to be typed before they are deleted.
const MANY: u64 = 100;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many were found so far.
    Counting {
        matched: u64,
        looked_at: u64,
    },
    Ready,
    Running {
        changed: u64,
        looked_at: u64,
    },
}

/// A change that is asked about.
#[derive(Debug)]
pub(super) struct Ask {
    /// What will happen, in one sentence.
    pub(super) says: String,
    pub(super) verb: &'static str,
    pub(super) danger: bool,
    pub(super) calls: Vec<Call>,
    /// Of a call about all that match: the member of the answer that counts.
    pub(super) bulk: Option<&'static str>,
    /// Jobs that have to be found first.
    pub(super) jobs_of: Option<JobsOf>,
    /// A number to be typed, and the member of the body that it becomes.
    pub(super) number: Option<(&'static str, Field)>,
    pub(super) phase: Phase,
    /// What a dry run has found.
    pub(super) dry: Option<Value>,
    /// The number of jobs, typed as a confirmation.
    pub(super) confirm: Field,
    pub(super) turn: u64,
    pub(super) done: String,
    /// Why it did not go on.
    pub(super) problem: Option<String>,
}

impl Ask {
    /// How many jobs will be changed, if that was counted.
    pub(super) fn n(&self) -> Option<u64> {
        self.dry.as_ref().num(self.bulk?).or(self.dry.as_ref().num("matched"))
    }

    /// Whether the number of jobs has to be typed.
    pub(super) fn must_confirm(&self) -> bool {
        self.danger && self.n() > Some(MANY)
    }

    /// Why it cannot be done yet.
    pub(super) fn waits_for(&self) -> Option<String> {
        if self.phase != Phase::Ready {
            return Some(String::new());
        }
        if self.bulk.is_some() && self.n() == Some(0) {
            return Some("there is nothing to do".to_owned());
        }
        if let Some((name, field)) = &self.number
            && field.text.parse::<u64>().is_err()
        {
            return Some(format!("type the {name}, a whole number"));
        }
        let digits: String = self.confirm.text.chars().filter(char::is_ascii_digit).collect();
        let n = self.n().unwrap_or_default();
        (self.must_confirm() && digits != n.to_string()).then(|| format!("type {n} to confirm"))
    }

    /// The calls as they will be made: with what was typed, and for the jobs that were counted alone.
    pub(super) fn settled(&self) -> Vec<Call> {
        let mut calls = self.calls.clone();
        let number =
            self.number.as_ref().and_then(|(name, field)| Some((*name, field.text.parse::<u64>().ok()?)));
        for call in &mut calls {
            if let (Some((name, n)), Some(Value::Object(body))) = (number, &mut call.body) {
                body.insert(name.to_owned(), n.into());
            }
            if let Some(until) = self.dry.as_ref().text("until").filter(|_| self.bulk.is_some()) {
                *call = call.and(&format!("until={until}"));
            }
        }
        calls
    }
}

pub(super) fn draw(ask: &Ask, frame: &mut Frame<'_>, screen: Rect) {
    let width = screen.width.saturating_sub(4).min(76);
    let inner = usize::from(width.saturating_sub(4));
    let lines = lines(ask, inner);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(screen.height);
    let area = screen.centered(Constraint::Length(width), Constraint::Length(height));
    let border = if ask.danger { DEAD } else { WARN };
    let block = Block::bordered().border_type(BorderType::Plain).border_style(border);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    let inside = Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: width.saturating_sub(4),
        height: height.saturating_sub(2),
    };
    put(frame, inside, &lines);
}

fn lines(ask: &Ask, columns: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> =
        wrap(&clean(&ask.says), columns).into_iter().map(Line::from).collect();
    lines.push(Line::default());
    if let Some((name, field)) = &ask.number {
        lines.push(Line::from(vec![
            Span::raw(format!("{name}: ")),
            Span::raw(field.text.clone()).reversed(),
            Span::raw("▌"),
        ]));
        lines.push(Line::from("0 to 65535; lower runs first; 32768 is usual").dim());
    }
    match &ask.phase {
        Phase::Counting { matched, looked_at } => {
            let found =
                if *matched > 0 { format!("at least {}", count(*matched)) } else { "counting".to_owned() };
            lines.push(Line::from(vec![Span::raw(found).bold(), looked(*looked_at)]));
        }
        Phase::Running { changed, looked_at } => {
            let of = ask.n().map(|n| format!(" of {}", count(n))).unwrap_or_default();
            lines.push(Line::from(vec![
                Span::raw(format!("{}{of} done", count(*changed))).bold(),
                looked(*looked_at),
            ]));
        }
        Phase::Ready => {
            let text = counted(ask).map(|text| wrap(&text, columns)).unwrap_or_default();
            lines.extend(text.into_iter().map(|line| Line::from(line).bold()));
        }
    }
    for job in ask.dry.as_ref().list("sample") {
        let mut line = status(job.text("status").unwrap_or_default());
        line.spans.push(Span::raw(format!(" {}", clean(job.text("type").unwrap_or_default()))));
        line.spans
            .push(Span::raw(format!("  {}", clean(job.text("payload_preview").unwrap_or_default()))).dim());
        lines.push(line);
    }
    if ask.must_confirm() && ask.phase == Phase::Ready {
        let n = ask.n().unwrap_or_default();
        lines.push(Line::from(vec![
            Span::raw(format!("These are many. Type {n} to confirm: ")).fg(WARN),
            Span::raw(ask.confirm.text.clone()).reversed(),
            Span::raw("▌"),
        ]));
    }
    if let Some(problem) = &ask.problem {
        lines.extend(wrap(&clean(problem), columns).into_iter().map(|line| Line::from(line.fg(DEAD))));
    }
    lines.push(Line::default());
    let keys = match ask.phase {
        Phase::Running { .. } => "Esc stops".to_owned(),
        Phase::Counting { .. } => "Esc cancels".to_owned(),
        Phase::Ready => {
            let n = ask.n().map(|n| format!(" {}", plural(n, "job"))).unwrap_or_default();
            let yes = if ask.must_confirm() || ask.number.is_some() { "Enter" } else { "y or Enter" };
            format!("{yes}: {}{n}   Esc: cancel   c: copy as curl", ask.verb)
        }
    };
    lines.push(Line::from(keys).bold());
    lines
}

fn looked(at: u64) -> Span<'static> {
    if at == 0 { Span::default() } else { Span::raw(format!("  looked at {}", count(at))).dim() }
}

/// What a dry run has found, if there was one.
fn counted(ask: &Ask) -> Option<String> {
    let n = ask.n()?;
    if n == 0 {
        return Some("Nothing matches: there is nothing to do.".to_owned());
    }
    let others = ask.dry.as_ref().num("matched").unwrap_or(n).saturating_sub(n);
    let others = if others > 0 {
        format!("; {} others match and stay as they are", count(others))
    } else {
        String::new()
    };
    Some(format!("{}: exactly these, not what is enqueued from now on{others}.", plural(n, "job")))
}
