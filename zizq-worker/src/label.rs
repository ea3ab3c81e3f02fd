//! A short label by which people recognize a job.

use std::sync::Arc;

use protocol::job::DeliveredJob;
use serde_json::Value;

use crate::template::{Input, Template};

/// The longest label, in characters.
const MAX_LABEL: usize = 60;
/// The longest payload that is searched for a label.
const MAX_PAYLOAD: usize = 16 << 10;

/// Makes the labels, from a template or from the first string of the payload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels(Option<Arc<Template>>);

impl Labels {
    pub(crate) fn new(template: Option<Arc<Template>>) -> Self {
        Self(template)
    }

    /// The label of a job, without control characters.
    pub(crate) fn of(&self, job: &DeliveredJob) -> String {
        let label = match &self.0 {
            Some(template) => Input::of(job).and_then(|input| template.render(&input)).unwrap_or_default(),
            None => first_text(job.payload.get()),
        };
        label.chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect()
    }
}

/// The first string in a JSON value; without one, its beginning.
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
    fn the_label_is_the_first_string_of_the_payload() {
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
