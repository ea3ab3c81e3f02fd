//! What is typed: filters, commands, searches, answers in the dialog; and what is copied.

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::app::App;
use super::ask::Phase;
use super::data::Look;
use super::event::{Call, Effect};
use super::filter::{Filter, is_id};
use super::place::{Tab, View};
use super::prompt::{Prompt, Purpose};
use super::told::Tone;
use super::{change, jobs, wants};

/// A key while something is typed.
pub(super) fn in_prompt(app: &mut App, key: KeyEvent) {
    let words = completions(app);
    let Some(prompt) = app.prompt.as_mut() else { return };
    match key.code {
        KeyCode::Esc => {
            if let Some(prompt) = app.prompt.take() {
                typed(app, prompt.purpose, &prompt.before);
            }
            return;
        }
        KeyCode::Enter => {
            if let Some(Prompt { purpose, field, .. }) = app.prompt.take() {
                entered(app, purpose, field.text.trim());
            }
            return;
        }
        KeyCode::Tab => prompt.field.complete(&words),
        KeyCode::Backspace if prompt.field.text.is_empty() => {
            app.prompt = None;
            return;
        }
        _ => drop(prompt.field.key(key)),
    }
    let (purpose, text) = (prompt.purpose, prompt.field.text.clone());
    typed(app, purpose, &text);
}

/// What the words of a filter may be.
fn completions(app: &App) -> Vec<String> {
    let mut words: Vec<String> =
        ["status:", "queue:", "type:", "id:", "attempts:", "priority:", "age:", "budget:"]
            .map(str::to_owned)
            .into();
    words.extend(
        jobs::STATUSES.iter().filter(|status| !status.is_empty()).map(|status| format!("status:{status}")),
    );
    let queues = app.live.queues().unwrap_or_default();
    words.extend(queues.iter().filter_map(|row| row.text("name")).map(|name| format!("queue:{name}")));
    words
}

/// Whether the filter of the list is part of a name, so that it counts while it is typed.
fn is_part_of_name(app: &App) -> bool {
    app.open.is_empty() && matches!(app.tab, Tab::Queues | Tab::Workers | Tab::Crons | Tab::Budgets)
}

fn typed(app: &mut App, purpose: Purpose, text: &str) {
    match purpose {
        Purpose::Filter if is_part_of_name(app) => app.list_mut().filter(text),
        Purpose::Search => {
            if let Some(log) = app.log.as_mut() {
                text.clone_into(&mut log.search);
            }
        }
        _ => {}
    }
}

fn entered(app: &mut App, purpose: Purpose, text: &str) {
    match purpose {
        Purpose::Search => {
            typed(app, purpose, text);
            let hit = app.log.as_mut().is_some_and(|log| log.go_to_hit(false, usize::from(u16::MAX)));
            if !hit && !text.is_empty() {
                app.tell("nothing is found", Tone::Bad);
            }
        }
        Purpose::Filter if is_part_of_name(app) => app.list_mut().filter(text),
        Purpose::Filter => match Filter::read(text, app.server_now()) {
            Ok(Filter { job: Some(id), .. }) => app.enter(View::Job(id)),
            Ok(_) => app.list_mut().filter(text),
            Err(why) => app.tell(why, Tone::Bad),
        },
        Purpose::Command => command(app, text),
    }
}

fn command(app: &mut App, text: &str) {
    let (word, rest) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
    match (word, rest) {
        ("", _) => {}
        ("q" | "quit", _) => app.effects.push(Effect::Quit),
        ("help" | "?", _) => app.help = true,
        ("queue", name) if !name.is_empty() => {
            app.show(Tab::Queues);
            app.enter(View::Queue(name.to_owned()));
        }
        ("job", id) if is_id(id) => {
            app.show(Tab::Jobs);
            app.enter(View::Job(id.to_owned()));
        }
        ("job", id) => {
            app.tell(format!("`{id}` is no id of a job: those have 25 letters and digits"), Tone::Bad)
        }
        ("log", id) if is_id(id) => {
            app.show(Tab::Running);
            app.enter(View::Log(id.to_owned()));
        }
        ("url", url) if !url.is_empty() => app.connect(url),
        (word, _) => match Tab::named(word) {
            Some(tab) => app.show(tab),
            None => {
                let says = format!(
                    "`{word}` is no command; there are :queue NAME, :job ID, :log ID, :url URL, :quit and the names of the tabs"
                );
                app.tell(says, Tone::Bad);
            }
        },
    }
}

/// A key while something is asked.
pub(super) fn in_dialog(app: &mut App, key: KeyEvent) {
    let Some(about) = app.ask.as_mut() else { return };
    match (key.code, &about.phase) {
        (KeyCode::Esc, Phase::Running { .. }) => {
            app.effects.push(Effect::StopChange);
            app.ask = None;
            app.feeds.refresh();
            app.tell("stopped; what was changed until then stays changed", Tone::Bad);
        }
        (KeyCode::Esc | KeyCode::Char('n' | 'q'), _) => {
            app.effects.push(Effect::StopChange);
            app.ask = None;
        }
        (KeyCode::Enter, _) => change::confirm(app),
        (KeyCode::Char('c'), _) => {
            let text = about.settled().iter().map(|call| curl(app, call)).collect::<Vec<_>>().join("\n");
            copy(app, text, "the command");
        }
        (_, Phase::Ready) => {
            let must_confirm = about.must_confirm();
            let is_digit =
                matches!(key.code, KeyCode::Char('0'..='9') | KeyCode::Backspace | KeyCode::Delete);
            match (&mut about.number, key.code) {
                (Some((_, field)), _) if is_digit => drop(field.key(key)),
                (None, _) if must_confirm && is_digit => drop(about.confirm.key(key)),
                (None, KeyCode::Char('y')) if !must_confirm => change::confirm(app),
                _ => {}
            }
        }
        _ => {}
    }
}

/// Copies text, as far as the terminal lets programs do that (OSC 52).
fn copy(app: &mut App, text: String, what: &str) {
    app.effects.push(Effect::Copy(text));
    app.tell(format!("copied {what}"), Tone::Good);
}

pub(super) fn copy_id(app: &mut App) {
    let id = match app.open.last() {
        Some(View::Job(id) | View::Log(id) | View::Queue(id)) => Some(id.clone()),
        _ => app.cursor().map(|id| id.replace('\u{0}', "/")),
    };
    match id {
        Some(id) => copy(app, id.clone(), &super::text::clean(&id)),
        None => app.tell("there is nothing to copy here", Tone::Bad),
    }
}

/// Copies the call that gives what is shown.
pub(super) fn copy_curl(app: &mut App) {
    let wanted = wants::of(app).into_iter().nth(1).map(|want| match want.source {
        super::feeds::Source::Path(path) => path,
        super::feeds::Source::Crons => "/crons".to_owned(),
        super::feeds::Source::Budgets => "/budgets".to_owned(),
    });
    let path = match (app.open.is_empty(), app.tab) {
        (true, Tab::Overview) => "/stats".to_owned(),
        (true, Tab::Queues) => {
            wants::live(app).replace("/live?topics=totals,queues&", "/queues?details=true&")
        }
        _ => wanted.unwrap_or_else(|| "/stats".to_owned()),
    };
    let text = curl(app, &Call::new(http::Method::GET, path, None));
    copy(app, text, "the command");
}

/// The same call for a shell.
pub(super) fn curl(app: &App, call: &Call) -> String {
    let (options, url) = &app.curl;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let usual = if call.body.is_some() { http::Method::POST } else { http::Method::GET };
    let method = if call.method == usual { String::new() } else { format!("-X {} ", call.method) };
    let body =
        call.body.as_ref().map(|body| format!("--json {} ", quoted(&body.to_string()))).unwrap_or_default();
    format!("curl {options}{method}{body}{}", quoted(&format!("{url}{}", call.path)))
}
