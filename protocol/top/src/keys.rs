//! What keys do.

use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::App;
use super::data::Look;
use super::event::Effect;
use super::feeds::Slot;
use super::place::{Tab, View};
use super::prompt::{Prompt, Purpose};
use super::told::Tone;
use super::{actions, commands, dead, edit, jobs, queues, wants, workers};

impl App {
    pub(super) fn input(&mut self, input: &Input) {
        match input {
            Input::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Input::Mouse(mouse) => self.mouse(*mouse),
            Input::Paste(text) => {
                if let Some(prompt) = &mut self.prompt {
                    prompt.field.insert(text);
                }
            }
            _ => {}
        }
    }

    fn key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return self.effects.push(Effect::Quit),
                KeyCode::Char('z') => return self.effects.push(Effect::Suspend),
                _ => {}
            }
        }
        if self.help {
            self.help = false;
        } else if self.ask.is_some() {
            commands::in_dialog(self, key);
        } else if self.prompt.is_some() {
            commands::in_prompt(self, key);
        } else if self.log.is_none()
            || !matches!(self.open.last(), Some(View::Log(_)))
            || !self.key_of_log(key)
        {
            self.key_of_view(key);
        }
    }

    /// Keys of the output of a job. Returns whether it is one.
    fn key_of_log(&mut self, key: KeyEvent) -> bool {
        let page = isize::try_from(self.places.height.saturating_sub(1)).unwrap_or(isize::MAX);
        let Some(log) = self.log.as_mut() else { return false };
        match key.code {
            KeyCode::Char('j') | KeyCode::Down => log.turn_by(1),
            KeyCode::Char('k') | KeyCode::Up => log.turn_by(-1),
            KeyCode::PageDown => log.turn_by(page),
            KeyCode::PageUp => log.turn_by(-page),
            KeyCode::Char('h') | KeyCode::Left => log.sideways(-8),
            KeyCode::Char('l') | KeyCode::Right => log.sideways(8),
            KeyCode::Char('g') | KeyCode::Home => log.go_to_end(false),
            KeyCode::Char('G') | KeyCode::End => log.go_to_end(true),
            KeyCode::Char('f') => log.follow = !log.follow,
            KeyCode::Char('w') => log.wrap = !log.wrap,
            KeyCode::Char('s') => log.next_stream(),
            KeyCode::Char('e') => {
                let text = log.text();
                self.effects.push(Effect::Page(text));
            }
            KeyCode::Char('/') => self.prompt = Some(Prompt::new(Purpose::Search, &log.search)),
            KeyCode::Char(key @ ('n' | 'N')) => {
                if !log.go_to_hit(key == 'n', usize::from(u16::MAX)) {
                    self.tell("nothing is found; / searches", Tone::Bad);
                }
            }
            _ => return false,
        }
        true
    }

    fn key_of_view(&mut self, key: KeyEvent) {
        let page = isize::try_from(self.places.height.saturating_sub(1)).unwrap_or(isize::MAX);
        match key.code {
            KeyCode::Char('q') => self.effects.push(Effect::Quit),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char(digit @ '1'..='8') => {
                let at = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or_default();
                self.show(*Tab::ALL.get(at).unwrap_or(&Tab::Overview));
            }
            KeyCode::Tab | KeyCode::Right => self.neighbour(1),
            KeyCode::BackTab | KeyCode::Left => self.neighbour(Tab::ALL.len() - 1),
            KeyCode::Char('j') | KeyCode::Down => self.step(1),
            KeyCode::Char('k') | KeyCode::Up => self.step(-1),
            KeyCode::PageDown => self.step(page),
            KeyCode::PageUp => self.step(-page),
            KeyCode::Char('g') | KeyCode::Home => self.step(isize::MIN),
            KeyCode::Char('G') | KeyCode::End => self.step(isize::MAX),
            KeyCode::Enter | KeyCode::Char('l') => self.open_selected(),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Char('h') => self.back(),
            KeyCode::Char('/') if self.table().is_some() => {
                self.prompt = Some(Prompt::new(Purpose::Filter, &self.list().filter));
            }
            KeyCode::Char(':') => self.prompt = Some(Prompt::new(Purpose::Command, "")),
            KeyCode::Char(' ') => {
                self.frozen = !self.frozen;
                self.live.freeze(self.frozen);
            }
            KeyCode::Char('x') => self.mark(),
            KeyCode::Char('*') if self.table().is_some() => {
                let list = self.list_mut();
                list.marked.clear();
                list.all = !list.all;
            }
            KeyCode::Char('o') => self.order(),
            KeyCode::Char('O') => {
                let list = self.list_mut();
                list.reverse = !list.reverse;
            }
            KeyCode::Char('c') => commands::copy_id(self),
            KeyCode::Char('y') => commands::copy_curl(self),
            KeyCode::Char('e') => edit::edit(self),
            KeyCode::Char('s') if self.tab == Tab::Jobs && self.open.is_empty() => {
                let filter = &self.list().filter;
                let filter = jobs::with_status(filter, jobs::next_status(filter));
                self.list_mut().filter(&filter);
            }
            KeyCode::Char('S') if self.tab == Tab::Jobs && self.open.is_empty() => {
                let filter = jobs::with_status(&self.list().filter, "");
                self.prompt = Some(Prompt::new(Purpose::Filter, format!("{filter} status:").trim_start()));
            }
            KeyCode::Char(key) if !actions::key(self, key) => {
                self.tell("this key does nothing here; ? shows which do", Tone::Bad);
            }
            _ => {}
        }
    }

    fn neighbour(&mut self, by: usize) {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or_default();
        self.show(*Tab::ALL.get((at + by) % Tab::ALL.len()).unwrap_or(&Tab::Overview));
    }

    /// Moves the cursor, or scrolls where there is none.
    pub(super) fn step(&mut self, by: isize) {
        let Some(table) = self.table() else {
            self.scroll = self.scroll.saturating_add_signed(by);
            return;
        };
        let Some(at) = self.list().position(table.ids()) else { return };
        let last = table.rows.len() - 1;
        let to = at.saturating_add_signed(by).min(last);
        self.list_mut().select(table.ids(), to);
        // At the end more are asked for.
        if to == last && table.rows.len() >= wants::PAGE + self.list().more {
            self.list_mut().more += wants::PAGE;
        }
    }

    fn mark(&mut self) {
        let Some(table) = self.table() else { return };
        let at = self.list().position(table.ids());
        if let Some(id) = at.and_then(|at| table.ids().nth(at)) {
            self.list_mut().mark(id);
            self.step(1);
        }
    }

    fn order(&mut self) {
        let orders = match (self.open.is_empty(), self.tab) {
            (true, Tab::Overview) => {
                self.range = (self.range + 1) % wants::RANGES.len();
                return;
            }
            (true, Tab::Queues) => queues::ORDERS.len(),
            (true, Tab::Dead) => dead::BY.len(),
            (true, Tab::Workers) => workers::ORDERS.len(),
            (true, Tab::Crons) => 2,
            _ => return self.tell("there is one order here; O turns it round", Tone::Bad),
        };
        let list = self.list_mut();
        list.order = (list.order + 1) % orders;
        list.reverse = false;
    }

    /// Opens what the cursor is on.
    pub(super) fn open_selected(&mut self) {
        if let Some(View::Job(id)) = self.open.last() {
            let id = id.clone();
            return self.enter(View::Log(id));
        }
        let Some(table) = self.table() else { return };
        let Some(id) =
            self.list().position(table.ids()).and_then(|at| table.ids().nth(at)).map(str::to_owned)
        else {
            return;
        };
        match (self.open.is_empty(), self.tab) {
            (true, Tab::Queues) => self.enter(View::Queue(id)),
            (true, Tab::Running) => self.enter(View::Log(id)),
            (true, Tab::Dead) => self.enter(View::Group(Some(id).filter(|key| key != dead::NOTHING))),
            (true, Tab::Workers) => self.jobs_of_worker(&id),
            (true, Tab::Budgets) => {
                self.show(Tab::Jobs);
                self.list_mut().filter(&format!("budget:{id}"));
            }
            (true, Tab::Crons) => {
                let job = super::crons::entries(self).into_iter().find_map(|(group, entry)| {
                    let name =
                        format!("{}{}{}", group.text("name")?, super::crons::BETWEEN, entry.text("name")?);
                    (name == id).then(|| {
                        (
                            entry.text("/job/queue").map(str::to_owned),
                            entry.text("/job/type").map(str::to_owned),
                        )
                    })
                });
                if let Some((Some(queue), Some(kind))) = job {
                    self.show(Tab::Jobs);
                    self.list_mut().filter(&format!("queue:\"{queue}\" type:\"{kind}\""));
                }
            }
            _ => self.enter(View::Job(id)),
        }
    }

    /// Shows what the worker of a stream runs.
    fn jobs_of_worker(&mut self, stream: &str) {
        let workers = self.feeds.get(Slot::Workers).list("workers");
        let worker = workers.iter().find(|worker| worker.text("stream") == Some(stream));
        let name = worker.text("worker").unwrap_or(stream).to_owned();
        self.show(Tab::Running);
        self.list_mut().filter("");
        self.list_mut().worker = Some(name);
    }
}
