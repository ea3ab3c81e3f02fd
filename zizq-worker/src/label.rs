//! What a job is about, in a few words: what people know it by.

use std::sync::Arc;

use protocol::job::DeliveredJob;
use serde_json::Value;

use crate::template::{Input, Template};

/// The longest label, in characters.
const MAX_LABEL: usize = 60;
/// The longest payload that is looked into without being asked.
const MAX_PAYLOAD: usize = 16 << 10;

/// What jobs are called. Without a template that is the first text in their payload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels(Option<Arc<Template>>);

impl Labels {
    pub(crate) fn new(template: Option<Arc<Template>>) -> Self {
        Self(template)
    }

    /// The label of a job, without anything that a terminal would take for more than text.
    pub(crate) fn of(&self, job: &DeliveredJob) -> String {
        let label = match &self.0 {
            Some(template) => Input::of(job).and_then(|input| template.render(&input)).unwrap_or_default(),
            None => first_text(job.payload.get()),
        };
        label.chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect()
    }
}

/// The first text in some JSON; where there is none, its beginning.
fn first_text(json: &str) -> String {
    let value: Option<Value> = if json.len() <= MAX_PAYLOAD { serde_json::from_str(json).ok() } else { None };
    let text = value.as_ref().and_then(text_in);
    text.map_or_else(|| json.chars().take(MAX_LABEL).collect(), str::to_owned)
}

fn text_in(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(all) => all.iter().find_map(text_in),
        Value::Object(members) => members.values().find_map(text_in),
        Value::Null => Some(""),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_known_by_the_first_text_in_its_payload() {
        for (payload, label) in [
            (r#""photo.jpg""#, "photo.jpg"),
            (r#"{"width": 200, "image": "photo.jpg"}"#, "photo.jpg"),
            (r#"[5, ["a", "b"]]"#, "a"),
            ("null", ""),
            ("17", "17"),
            (r#"{"n":17}"#, r#"{"n":17}"#),
        ] {
            assert_eq!(first_text(payload), label, "{payload}");
        }
        let large = format!("[\"{}\"]", "x".repeat(MAX_PAYLOAD));
        assert_eq!(first_text(&large).len(), MAX_LABEL);
    }
}
