//! Changes: asked about, counted, made, and what came of them.

use http::Method;
use serde_json::json;

use super::app::App;
use super::ask::{Ask, Phase};
use super::data::Look;
use super::event::{Call, ChangeNews, Effect};
use super::filter::query;
use super::format::plural;
use super::prompt::Field;
use super::told::Tone;

#[derive(Debug, Clone, Copy)]
pub(super) enum Bulk {
    Retry,
    Prioritise,
    Delete,
}

pub(super) fn of_ids(ids: &[String]) -> String {
    query([("id", ids.join(",").as_str())])
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

pub(super) const fn plain(says: String, calls: Vec<Call>) -> Ask {
    Ask {
        says,
        verb: "do it",
        danger: false,
        calls,
        bulk: None,
        jobs_of: None,
        number: None,
        phase: Phase::Ready,
        dry: None,
        confirm: Field::new_empty(),
        turn: 0,
        done: String::new(),
        problem: None,
    }
}

/// Asks about a change of all that match, after a dry run.
pub(super) fn bulk(app: &mut App, bulk: Bulk, query: &str, says: &str) {
    ask(app, "operate", of_bulk(bulk, query, says));
}

pub(super) fn of_bulk(bulk: Bulk, query: &str, says: &str) -> Ask {
    let with_query = |path: &str| if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let (call, counts, verb) = match bulk {
        Bulk::Retry => {
            (Call::new(Method::POST, with_query("/jobs/retry"), Some(json!({}))), "retried", "retry")
        }
        Bulk::Prioritise => {
            (Call::new(Method::PATCH, with_query("/jobs"), Some(json!({}))), "patched", "change")
        }
        Bulk::Delete => (Call::new(Method::DELETE, with_query("/jobs"), None), "deleted", "delete"),
    };
    let number = matches!(bulk, Bulk::Prioritise).then(|| ("priority", Field::default()));
    let danger = matches!(bulk, Bulk::Delete);
    let done = match bulk {
        Bulk::Retry => "will run again",
        Bulk::Prioritise => "have another priority",
        Bulk::Delete => "are deleted",
    };
    Ask {
        verb,
        danger,
        bulk: Some(counts),
        number,
        done: done.to_owned(),
        ..plain(says.to_owned(), vec![call])
    }
}

/// Opens the dialog, and counts.
pub(super) fn ask(app: &mut App, needs: &str, mut about: Ask) {
    if let Some(why) = app.lacks(needs) {
        app.tell(why, Tone::Bad);
        return;
    }
    about.turn = app.turn();
    if about.bulk.is_some() {
        about.phase = Phase::Counting { matched: 0, looked_at: 0 };
        let (turn, calls, jobs_of) = (about.turn, about.calls.clone(), about.jobs_of.clone());
        app.effects.push(Effect::Change { turn, calls, jobs_of, dry: true });
    }
    app.ask = Some(about);
}

/// Does it at once: what can be taken back, or does no harm.
pub(super) fn now(app: &mut App, calls: Vec<Call>, done: String) {
    if let Some(why) = app.lacks("operate") {
        app.tell(why, Tone::Bad);
        return;
    }
    app.done = done;
    let turn = app.turn();
    app.effects.push(Effect::Change { turn, calls, jobs_of: None, dry: false });
}

/// Carries out what is asked about.
pub(super) fn confirm(app: &mut App) {
    let Some(about) = app.ask.as_mut() else { return };
    if let Some(why) = about.waits_for() {
        about.problem = Some(why).filter(|why| !why.is_empty());
        return;
    }
    let (calls, turn) = (about.settled(), about.turn);
    (about.phase, about.problem) = (Phase::Running { changed: 0, looked_at: 0 }, None);
    app.effects.push(Effect::Change { turn, calls, jobs_of: None, dry: false });
}

/// Takes news of a change.
pub(super) fn take(app: &mut App, turn: u64, news: ChangeNews) {
    let Some(about) = app.ask.as_mut().filter(|about| about.turn == turn) else {
        return match news {
            ChangeNews::Done(answer) => {
                app.live.put(&answer);
                app.list_mut().unmark();
                app.feeds.refresh();
                let done = std::mem::take(&mut app.done);
                app.tell(done, Tone::Good);
            }
            ChangeNews::Failed(problem) => {
                app.feeds.refresh();
                app.complain(&problem);
            }
            ChangeNews::Named(_) | ChangeNews::Progress { .. } => {}
        };
    };
    match (news, &about.phase) {
        (ChangeNews::Named(ids), _) => {
            let filter = query([("status", "dead"), ("id", ids.join(",").as_str())]);
            for call in &mut about.calls {
                let path = call.path.split('?').next().unwrap_or_default().to_owned();
                call.path = format!("{path}?{filter}");
            }
        }
        (ChangeNews::Progress { looked_at, matched, .. }, Phase::Counting { .. }) => {
            about.phase = Phase::Counting { matched, looked_at };
        }
        (ChangeNews::Progress { looked_at, changed, .. }, _) => {
            about.phase = Phase::Running { changed, looked_at }
        }
        (ChangeNews::Done(answer), Phase::Counting { .. }) => {
            (about.dry, about.phase) = (Some(answer), Phase::Ready)
        }
        (ChangeNews::Done(answer), _) => {
            let n = about.bulk.and_then(|bulk| answer.num(bulk));
            let done =
                n.map_or_else(|| about.done.clone(), |n| format!("{} {}", plural(n, "job"), about.done));
            app.ask = None;
            app.list_mut().unmark();
            app.feeds.refresh();
            app.tell(done, Tone::Good);
        }
        (ChangeNews::Failed(problem), _) => {
            app.ask = None;
            app.feeds.refresh();
            app.complain(&problem);
        }
    }
}
