//! What is edited in an editor: jobs, budgets and cron entries, as the API takes them.

use http::Method;
use serde_json::{Value, json};

use super::actions::{Subject, subject};
use super::app::App;
use super::change;
use super::crons;
use super::data::Look;
use super::event::{Call, Edit, Effect};
use super::feeds::Slot;
use super::told::Tone;
use super::wants::path;

/// Opens an editor for what the cursor is on.
pub(super) fn edit(app: &mut App) {
    let Some(edit) = editable(app) else {
        app.tell("there is nothing to edit here", Tone::Bad);
        return;
    };
    match app.lacks(edit.needs) {
        Some(why) => app.tell(why, Tone::Bad),
        None => app.effects.push(Effect::Edit(edit)),
    }
}

/// The object that an editor is for, if there is one here.
fn editable(app: &App) -> Option<Edit> {
    let member = |value: &Value, names: &[&str]| -> Value {
        let members = names.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone())));
        Value::Object(members.collect())
    };
    let edit = match subject(app) {
        Some(Subject::Jobs(ids)) => {
            let id = ids.first()?;
            let job = app.feeds.get(Slot::Job).filter(|job| job.text("id") == Some(id))?;
            let before =
                member(job, &["queue", "priority", "ready_at", "retry_limit", "backoff", "retention"]);
            Edit { method: Method::PATCH, path: path(&["jobs", id]), before, needs: "operate" }
        }
        Some(Subject::Budget(key)) => {
            let budgets = app.feeds.get(Slot::Budgets).list("budgets");
            let budget = budgets.iter().find(|budget| budget.text("key") == Some(&key))?;
            let before = member(budget, &["allocation", "strategy"]);
            Edit { method: Method::PATCH, path: path(&["budgets", &key]), before, needs: "configure" }
        }
        Some(Subject::Crons(ids)) => {
            let entries = crons::entries(app);
            let id = |group: &Value, entry: &Value| {
                format!(
                    "{}{}{}",
                    group.text("name").unwrap_or_default(),
                    crons::BETWEEN,
                    entry.text("name").unwrap_or_default()
                )
            };
            let found = entries.into_iter().find(|(group, entry)| ids.first() == Some(&id(group, entry)));
            let (group, entry) = found?;
            let (group, name) =
                (group.text("name").unwrap_or_default(), entry.text("name").unwrap_or_default());
            let before = member(entry, &["expression", "timezone", "paused", "job"]);
            let path = path(&["crons", group, "entries", name]);
            Edit { method: Method::PUT, path, before, needs: "configure" }
        }
        _ => return None,
    };
    Some(edit)
}

/// Sends what an editor has left.
pub(super) fn edited(app: &mut App, edit: &Edit, text: Option<String>) {
    let Some(text) = text else {
        app.tell("nothing was changed", Tone::Good);
        return;
    };
    let after: Value = match serde_json::from_str(&text) {
        Ok(after @ Value::Object(_)) => after,
        Ok(_) => return app.tell("not sent: this is not a JSON object", Tone::Bad),
        Err(error) => return app.tell(format!("not sent: this is not JSON: {error}"), Tone::Bad),
    };
    let body = if edit.method == Method::PATCH { merge_patch(&edit.before, &after) } else { after };
    if body == json!({}) || body == edit.before {
        app.tell("nothing was changed", Tone::Good);
        return;
    }
    change::now(app, vec![Call::new(edit.method.clone(), edit.path.clone(), Some(body))], "saved".to_owned());
}

/// What makes one object of another (RFC 7396): members that differ, and null for those that are gone.
fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let changed = changed.map(|(name, value)| (name.clone(), value.clone()));
    Value::Object(changed.chain(gone.map(|name| (name.clone(), Value::Null))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_has_what_differs() {
        let before = json!({"a": 1, "b": {"x": 1}, "c": 3});
        assert_eq!(
            merge_patch(&before, &json!({"a": 1, "b": {"x": 2}, "d": 4})),
            json!({"b": {"x": 2}, "c": null, "d": 4})
        );
        assert_eq!(merge_patch(&before, &before), json!({}));
    }
}
