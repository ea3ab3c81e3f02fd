//! What a call has changed about one thing, for the audit trail: its members as they were before and as they are after.
//!
//! What is told of a thing is what people set. Contents of jobs are never told: of a payload only its size, and that it is
//! another one.

use std::collections::{BTreeMap, BTreeSet};

use protocol::access::TokenId;
use protocol::budget::BudgetView;
use protocol::cron::{EntryView, GroupView};
use serde_json::{Map, Value, json};

use crate::access::TokenRecord;
use crate::clock;
use crate::engine::command::jobs::Seen;
use crate::engine::command::queues::QueueState;
use crate::http::request::Request;

/// How much of both sides is kept, in bytes, and of one text.
const MAX_BYTES: usize = 2_048;
const MAX_TEXT: usize = 256;

const OF_JOB: &[&str] = &[
    "type",
    "queue",
    "status",
    "priority",
    "ready_at",
    "attempts",
    "retry_limit",
    "backoff",
    "retention",
    "timeout_ms",
    "budgets",
];
const OF_BUDGET: &[&str] = &["allocation", "strategy"];
const OF_ENTRY: &[&str] = &["name", "expression", "timezone", "paused", "job"];
const OF_TOKEN: &[&str] = &["id", "name", "role", "grants", "certificate", "expires_at", "old_secret_until"];

pub(super) fn job(seen: &Seen) -> Value {
    chosen(json!(seen.job.view(&seen.queue, seen.status)), OF_JOB)
}

pub(super) fn budget(view: &BudgetView) -> Value {
    chosen(json!(view), OF_BUDGET)
}

pub(super) fn entry(view: &EntryView) -> Value {
    chosen(json!(view), OF_ENTRY)
}

pub(super) fn group(view: &GroupView) -> Value {
    let entries: Vec<Value> = view.entries.iter().map(entry).collect();
    json!({"paused": view.paused, "timezone": view.timezone, "entries": entries})
}

pub(super) fn queue(state: &QueueState) -> Value {
    json!({"paused": state.paused})
}

pub(super) fn token(id: &TokenId, record: &TokenRecord) -> Value {
    chosen(json!(record.view(id, clock::now().wall)), OF_TOKEN)
}

fn chosen(mut thing: Value, names: &[&str]) -> Value {
    if let Some(members) = thing.as_object_mut() {
        members.retain(|name, _| names.contains(&name.as_str()));
    }
    thing
}

/// Notes what has changed about a thing that was created if it has no `before`, and deleted if it has no `after`.
pub(super) fn note(request: &Request, before: Option<Value>, after: Option<Value>) {
    let mut found = Differences { room: MAX_BYTES, more: false };
    let [was, is] = [&before, &after].map(|side| side.as_ref().unwrap_or(&Value::Null));
    let sides = found.between(was, is, false);
    let notes = request.notes();
    if let Some((was, is)) = sides {
        for (name, told) in [("before", before.map(|_| was)), ("after", after.map(|_| is))] {
            told.into_iter().for_each(|told| notes.add(name, told));
        }
    }
    if found.more {
        notes.add("more", json!(true));
    }
}

/// Looks for differences until there is no more room for them.
struct Differences {
    room: usize,
    /// Whether there was none for one.
    more: bool,
}

impl Differences {
    /// Returns what differs on either side; both have the same members, and null stands for what is not there.
    fn between(&mut self, before: &Value, after: &Value, are_elements: bool) -> Option<(Value, Value)> {
        if before == after {
            return None;
        }
        let (Some(was), Some(is)) = (parts(before), parts(after)) else { return self.leaf(before, after) };
        let are_listed = before.is_array() || after.is_array();
        let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let (mut olds, mut news) = (Map::new(), Map::new());
        for name in names {
            if are_elements && NAMES.contains(&name) {
                // It is called by it already.
                continue;
            }
            let part = |parts: &BTreeMap<_, _>| parts.get(name).copied().unwrap_or(&Value::Null);
            let (was, is) = (part(&was), part(&is));
            let room = self.room;
            self.room = room.saturating_sub(2 * name.len());
            // What is listed is called as its owner likes.
            let found = if name == "payload" && !are_listed {
                (was != is).then(|| self.leaf(&size(was), &size(is))).flatten()
            } else {
                self.between(was, is, are_listed)
            };
            match found {
                Some((was, is)) => {
                    olds.insert(name.to_owned(), was);
                    news.insert(name.to_owned(), is);
                }
                None => self.room = room,
            }
        }
        (!olds.is_empty()).then(|| (olds.into(), news.into()))
    }

    fn leaf(&mut self, before: &Value, after: &Value) -> Option<(Value, Value)> {
        let [before, after] = [before, after].map(short);
        let bytes = before.to_string().len() + after.to_string().len();
        match self.room.checked_sub(bytes) {
            Some(room) => self.room = room,
            None => self.more = true,
        }
        (!self.more).then_some((before, after))
    }
}

/// What the elements of lists are called by.
const NAMES: [&str; 2] = ["name", "key"];

/// The members of an object, or the elements of a list by their names; none if it is neither.
fn parts(value: &Value) -> Option<BTreeMap<&str, &Value>> {
    match value {
        Value::Null => Some(BTreeMap::new()),
        Value::Object(members) => {
            Some(members.iter().map(|(name, member)| (name.as_str(), member)).collect())
        }
        Value::Array(elements) => elements
            .iter()
            .map(|element| {
                let name = NAMES.iter().find_map(|name| element.get(name)).and_then(Value::as_str);
                name.map(|name| (name, element))
            })
            .collect(),
        _ => None,
    }
}

/// What is told of a payload.
fn size(payload: &Value) -> Value {
    if payload.is_null() { Value::Null } else { json!({"bytes": payload.to_string().len()}) }
}

fn short(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_TEXT => {
            let end = text.floor_char_boundary(MAX_TEXT);
            json!(format!("{}…", text.get(..end).unwrap_or_default()))
        }
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(before: &Value, after: &Value) -> (Option<(Value, Value)>, bool) {
        let mut found = Differences { room: MAX_BYTES, more: false };
        (found.between(before, after, false), found.more)
    }

    #[track_caller]
    fn check(before: Value, after: Value, expected: (Value, Value)) {
        assert_eq!(differences(&before, &after), (Some(expected.clone()), false));
        assert_eq!(differences(&after, &before), (Some((expected.1, expected.0)), false));
    }

    #[test]
    fn only_what_differs_is_told_on_both_sides() {
        let same = json!({"a": 1, "b": {"c": [1, 2]}});
        assert_eq!(differences(&same, &same), (None, false));
        check(
            json!({"priority": 5, "queue": "a", "retention": {"dead_ms": 1, "completed_ms": 2}}),
            json!({"priority": 1, "queue": "a", "retention": {"dead_ms": 1, "completed_ms": 3}, "retry_limit": 0}),
            (
                json!({"priority": 5, "retention": {"completed_ms": 2}, "retry_limit": null}),
                json!({"priority": 1, "retention": {"completed_ms": 3}, "retry_limit": 0}),
            ),
        );
        // What is there on one side only has its members on both.
        check(
            json!({}),
            json!({"retention": {"dead_ms": 1}}),
            (json!({"retention": {"dead_ms": null}}), json!({"retention": {"dead_ms": 1}})),
        );
        check(json!(null), json!({"paused": false}), (json!({"paused": null}), json!({"paused": false})));
    }

    #[test]
    fn elements_of_lists_are_compared_by_their_names() {
        check(
            json!({"budgets": [{"key": "payload", "cost": 1}, {"key": "b", "cost": 2}]}),
            json!({"budgets": [{"key": "b", "cost": 2}, {"key": "payload", "cost": 3}, {"key": "c", "cost": 1}]}),
            (
                json!({"budgets": {"payload": {"cost": 1}, "c": {"cost": null}}}),
                json!({"budgets": {"payload": {"cost": 3}, "c": {"cost": 1}}}),
            ),
        );
        check(
            json!({"grants": ["read", "work"]}),
            json!({"grants": ["read"]}),
            (json!({"grants": ["read", "work"]}), json!({"grants": ["read"]})),
        );
        let order = |names: [&str; 2]| json!({"entries": names.map(|name| json!({"name": name}))});
        assert_eq!(differences(&order(["a", "b"]), &order(["b", "a"])), (None, false));
    }

    #[test]
    fn of_payloads_there_is_only_the_size() {
        let entry = |payload: Value| json!({"job": {"type": "t", "payload": payload}});
        check(
            entry(json!({"secret": {"payload": "a"}})),
            entry(json!({"secret": {"payload": "b"}})),
            (json!({"job": {"payload": {"bytes": 26}}}), json!({"job": {"payload": {"bytes": 26}}})),
        );
        check(
            json!({"entries": []}),
            json!({"entries": [{"name": "payload", "job": {"payload": "secret"}}]}),
            (
                json!({"entries": {"payload": {"job": {"payload": null}}}}),
                json!({"entries": {"payload": {"job": {"payload": {"bytes": 8}}}}}),
            ),
        );
    }

    #[test]
    fn there_is_a_bound_on_all_and_on_each_text() {
        let long = |letter: &str| json!({"queue": letter.repeat(MAX_TEXT + 1)});
        let (found, more) = differences(&long("ä"), &long("b"));
        let cut = |letter: &str, times: usize| json!({"queue": format!("{}…", letter.repeat(times))});
        assert_eq!((found, more), (Some((cut("ä", MAX_TEXT / 2), cut("b", MAX_TEXT))), false));

        let entries = |count: usize| {
            let entry = |n| json!({"name": format!("entry {n:03}"), "expression": "* * * * *"});
            json!({"entries": (0..count).map(entry).collect::<Vec<_>>()})
        };
        let (found, more) = differences(&entries(0), &entries(1_000));
        let (before, after) = found.unwrap();
        assert!(more && after["entries"].as_object().unwrap().len() > 20, "{after}");
        assert!(before.to_string().len() + after.to_string().len() < 2 * MAX_BYTES);
        let (found, more) = differences(&json!({}), &json!({"grants": vec!["read:mails"; 1_000]}));
        assert_eq!((found, more), (None, true));
    }
}
