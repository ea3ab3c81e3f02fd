//! What the screen knows: the tab, what is open in it, and what the server has said. It reads no clock and does no I/O, so a
//! test can be anybody.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use ratatui::layout::Rect;
use serde_json::Value;

use super::ask::Ask;
use super::event::{Effect, Event};
use super::feeds::Feeds;
use super::list::List;
use super::live::Live;
use super::log::Log;
use super::place::{Tab, View};
use super::prompt::Prompt;
use super::table::Table;
use super::told::Tone;
use super::{change, edit, wants};

/// Where things are on the screen, for the mouse.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) tabs: Vec<(Rect, Tab)>,
    /// The rows of the table, and the number of the first.
    pub(super) rows: Option<(Rect, usize)>,
    /// How many lines fit, for keys that turn pages.
    pub(super) height: usize,
}

#[derive(Debug)]
pub(super) struct App {
    /// The wall clock, in milliseconds since 1970.
    pub(super) now: u64,
    pub(super) zone: TimeZone,
    /// Where the server is.
    pub(super) server: String,
    /// The options of curl that reach it, and the URL before a path.
    pub(super) curl: (String, String),
    pub(super) ascii: bool,
    pub(super) colours: bool,
    pub(super) tab: Tab,
    /// What is open in the tab, the innermost last.
    pub(super) open: Vec<View>,
    /// By tab and by how deep in it.
    lists: BTreeMap<(Tab, usize), List>,
    pub(super) feeds: Feeds,
    pub(super) live: Live,
    pub(super) log: Option<Log>,
    pub(super) ask: Option<Ask>,
    pub(super) prompt: Option<Prompt>,
    pub(super) help: bool,
    pub(super) frozen: bool,
    pub(super) range: usize,
    /// How far the text of a view is scrolled.
    pub(super) scroll: usize,
    pub(super) told: Option<(String, Tone, u64)>,
    pub(super) places: Places,
    pub(super) effects: Vec<Effect>,
    /// What is told when the change that was just sent is done.
    pub(super) done: String,
    /// Numbers changes and logs.
    turns: u64,
}

impl App {
    pub(super) fn new(server: String, now: u64, zone: TimeZone) -> Self {
        Self {
            now,
            zone,
            curl: (String::new(), server.clone()),
            server,
            ascii: false,
            colours: true,
            tab: Tab::Overview,
            open: Vec::new(),
            lists: BTreeMap::new(),
            feeds: Feeds::default(),
            live: Live::default(),
            log: None,
            ask: None,
            prompt: None,
            help: false,
            frozen: false,
            range: 0,
            scroll: 0,
            told: None,
            places: Places::default(),
            effects: Vec::new(),
            done: String::new(),
            turns: 0,
        }
    }

    /// Takes what has happened.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.input(&input),
            Event::Live(news) => {
                if self.live.take(news, self.now) {
                    self.feeds.refresh();
                }
            }
            Event::Lost(problem) => self.live.lost(problem),
            Event::Answer { slot, turn, result } => self.feeds.take(slot, turn, result, self.now),
            Event::Log { turn, news } => {
                if let Some(log) = self.log.as_mut().filter(|log| log.turn == turn) {
                    log.take(news);
                }
            }
            Event::Change { turn, news } => change::take(self, turn, news),
            Event::Edited(edit, text) => edit::edited(self, &edit, text),
            Event::Told(text) => self.tell(text, Tone::Bad),
            Event::End => self.effects.push(Effect::Quit),
        }
    }

    /// Asks for what the view needs by now.
    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        self.told.take_if(|(.., until)| *until <= now);
        let live = wants::live(self);
        if self.live.path != live {
            self.live.path.clone_from(&live);
            self.effects.push(Effect::Live(live));
        }
        if !self.frozen || self.feeds.get(super::feeds::Slot::WhoAmI).is_none() {
            let wanted = wants::of(self);
            let questions = self.feeds.ask(wanted, now);
            self.effects.extend(questions.into_iter().map(Effect::Ask));
        }
        self.follow_log();
    }

    /// Opens the output of the job whose log is shown, and closes the one before.
    fn follow_log(&mut self) {
        let wanted = match self.open.last() {
            Some(View::Log(id)) => Some(id.clone()),
            _ => None,
        };
        if self.log.as_ref().map(|log| &log.id) == wanted.as_ref() {
            return;
        }
        self.log = wanted.map(|id| Log::new(id, self.turn()));
        self.effects.push(match &self.log {
            Some(log) => Effect::Log { turn: log.turn, id: log.id.clone(), attempt: None },
            None => Effect::StopLog,
        });
    }

    pub(super) fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// The state of the list that is shown, or that would be.
    pub(super) fn list(&self) -> &List {
        static EMPTY: List = List::new();
        self.lists.get(&(self.tab, self.open.len())).unwrap_or(&EMPTY)
    }

    pub(super) fn list_mut(&mut self) -> &mut List {
        self.lists.entry((self.tab, self.open.len())).or_default()
    }

    /// The state of the list of a tab itself.
    pub(super) fn list_of(&self, tab: Tab) -> &List {
        static EMPTY: List = List::new();
        self.lists.get(&(tab, 0)).unwrap_or(&EMPTY)
    }

    pub(super) fn show(&mut self, tab: Tab) {
        if self.tab != tab || !self.open.is_empty() {
            (self.tab, self.scroll, self.told) = (tab, 0, None);
            self.open.clear();
        }
    }

    /// Opens something in the tab.
    pub(super) fn enter(&mut self, view: View) {
        use super::feeds::Slot;
        let stale: &[Slot] = match &view {
            View::Queue(_) => {
                &[Slot::Queue, Slot::QueueTypes, Slot::QueueJobs, Slot::QueueWorkers, Slot::QueueHistory]
            }
            View::Group(_) => &[Slot::GroupJobs],
            View::Job(_) => &[Slot::Job, Slot::Errors],
            View::Log(_) => &[],
        };
        for slot in stale {
            self.feeds.forget(*slot);
        }
        self.open.push(view);
        self.scroll = 0;
        *self.list_mut() = List::default();
    }

    /// Goes back by one step: from a selection, from what was opened, from a filter.
    pub(super) fn back(&mut self) {
        self.scroll = 0;
        if self.list_mut().unmark() || self.open.pop().is_some() {
            return;
        }
        self.list_mut().filter("");
    }

    /// The table that is shown, if one is.
    pub(super) fn table(&self) -> Option<Table> {
        match (self.open.last(), self.tab) {
            (Some(View::Group(key)), _) => Some(super::dead::jobs(self, key.as_deref())),
            (Some(_), _) | (None, Tab::Overview) => None,
            (None, Tab::Queues) => Some(super::queues::table(self)),
            (None, Tab::Jobs) => Some(super::jobs::table(self)),
            (None, Tab::Running) => Some(super::running::table(self)),
            (None, Tab::Dead) => Some(super::dead::groups(self)),
            (None, Tab::Workers) => Some(super::workers::table(self)),
            (None, Tab::Crons) => Some(super::crons::table(self)),
            (None, Tab::Budgets) => Some(super::budgets::table(self)),
        }
    }

    /// The row with the cursor.
    pub(super) fn cursor(&self) -> Option<String> {
        let table = self.table()?;
        let at = self.list().position(table.ids())?;
        table.ids().nth(at).map(str::to_owned)
    }

    /// The clock of the server, whose times are shown.
    pub(super) fn server_now(&self) -> u64 {
        self.now.saturating_add_signed(self.live.ahead)
    }

    /// Who this is for the server.
    pub(super) fn me(&self) -> Option<&Value> {
        self.feeds.get(super::feeds::Slot::WhoAmI)
    }

    /// Another server.
    pub(super) fn connect(&mut self, url: &str) {
        self.live = Live::default();
        self.feeds.clear();
        self.lists.clear();
        self.open.clear();
        self.effects.push(Effect::Connect(url.to_owned()));
    }

    /// Whether an answer is waited for that the view is made of.
    pub(super) fn is_waiting(&self) -> bool {
        super::frame::slot(self).is_some_and(|slot| self.feeds.waiting(slot, self.now).is_some())
    }
}
