//! What is told in one line: what was done, what went wrong, and which right is missing.

use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::event::Problem;

/// How something that is told is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
}

/// How long something that is told stays, in milliseconds.
const TOLD_MS: u64 = 6_000;

impl App {
    pub(super) fn tell(&mut self, text: impl Into<String>, tone: Tone) {
        self.told = Some((text.into(), tone, self.now + TOLD_MS));
    }

    pub(super) fn told(&self) -> Option<(&str, Tone)> {
        self.told.as_ref().map(|(text, tone, _)| (text.as_str(), *tone))
    }

    /// Why this may not be done, as far as it is known before the server is asked.
    pub(super) fn lacks(&self, right: &str) -> Option<String> {
        let me = self.me()?;
        if me.is("read_only") {
            return Some("the server is read-only: it changes nothing".to_owned());
        }
        let verb =
            |grant: &Value| grant.as_str().and_then(|grant| grant.split(':').next()).map(str::to_owned);
        let has: Vec<String> = me.list("grants").iter().filter_map(verb).collect();
        if has.iter().any(|verb| verb == right) {
            return None;
        }
        let who = me
            .text("role")
            .map_or_else(|| "your access token".to_owned(), |role| format!("your role, {role},"));
        Some(format!("this takes the right `{right}`, which {who} does not have"))
    }

    pub(super) fn complain(&mut self, problem: &Problem) {
        let says = match problem.status {
            0 => format!("not sent: {}", problem.says),
            _ => format!("refused ({}): {}", problem.status, problem.says),
        };
        self.tell(says, Tone::Bad);
    }
}
