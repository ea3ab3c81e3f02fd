//! The screen without a terminal and without a server: what it shows, and what keys make it do.

mod canned;
mod keys;
mod snapshots;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::app::App;
use super::event::{Effect, Event, Problem};
use super::feeds::Source;
use super::frame;

/// 2026-11-29 12:00:00 UTC
const NOW: u64 = 1_795_953_600_000;

/// What a server says to a path.
type Server = fn(&str) -> Result<Value, Problem>;

struct Screen {
    app: App,
    server: Server,
    now: u64,
}

impl Screen {
    /// Not yet connected.
    fn new(server: Server) -> Self {
        let app = App::new("http://127.0.0.1:7890".to_owned(), NOW, TimeZone::UTC);
        let mut screen = Self { app, server, now: NOW };
        screen.settle();
        screen
    }

    /// Connected, with all that this server says.
    fn of(server: Server) -> Self {
        let mut screen = Self::new(server);
        screen.hear();
        screen
    }

    /// Takes a message of the live view.
    fn hear(&mut self) {
        let path = self.app.live.path.clone();
        let event = match (self.server)(&path) {
            Ok(news) => Event::Live(news),
            Err(problem) => Event::Lost(problem),
        };
        self.app.take(event);
        self.settle();
    }

    /// Answers all that is asked. Returns what else is to be done.
    fn settle(&mut self) -> Vec<Effect> {
        let mut others = Vec::new();
        loop {
            self.app.tick(self.now);
            let effects = std::mem::take(&mut self.app.effects);
            if effects.is_empty() {
                return others;
            }
            for effect in effects {
                let Effect::Ask(question) = effect else {
                    others.push(effect);
                    continue;
                };
                let result = match &question.source {
                    Source::Path(path) => (self.server)(path),
                    Source::Crons => (self.server)("crons and entries"),
                    Source::Budgets => (self.server)("budgets and counts"),
                };
                self.app.take(Event::Answer { slot: question.slot, turn: question.turn, result });
            }
        }
    }

    /// Presses keys, as text: a character each, and words in angle brackets for others. Returns what is to be done then.
    fn press(&mut self, keys: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut rest = keys;
        while let Some(first) = rest.chars().next() {
            let (code, length) = match rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
                Some((name, _)) => (named(name), name.len() + 2),
                None => (KeyCode::Char(first), first.len_utf8()),
            };
            rest = rest.get(length..).unwrap_or_default();
            self.app.take(Event::Input(Input::Key(KeyEvent::new(code, KeyModifiers::NONE))));
            let path = self.app.live.path.clone();
            effects.extend(self.settle());
            if self.app.live.path != path && self.app.live.stats().is_some() {
                self.hear();
            }
        }
        effects
    }

    fn buffer(&mut self, columns: u16, lines: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|screen| frame::draw(&mut self.app, screen)).unwrap();
        self.settle();
        // What the cursor is on may have been asked for only now.
        terminal.draw(|screen| frame::draw(&mut self.app, screen)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(&mut self, columns: u16, lines: u16) -> String {
        super::once::text(&self.buffer(columns, lines))
    }
}

fn named(name: &str) -> KeyCode {
    match name {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        "down" => KeyCode::Down,
        "space" => KeyCode::Char(' '),
        other => panic!("{other} is no key of these tests"),
    }
}
