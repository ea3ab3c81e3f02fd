//! Lists of named items. A list is complete, as clients expect, unless the request sets a limit or one response would
//! be too large.

use protocol::page::{MAX_PAGE, Pages};
use serde_json::{Map, Value, json};

use crate::http::memory::PAGE;
use crate::http::query::Query;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// The requested part of a list.
pub(super) struct Listing {
    from: Option<String>,
    limit: Option<u64>,
}

impl Listing {
    /// Reads `from` and `limit` from a query.
    pub(super) fn read(query: &mut Query<'_>) -> Result<Self, Refusal> {
        let from = query.text("from").filter(|from| !from.is_empty()).map(|from| from.into_owned());
        Ok(Self { from, limit: query.number("limit", 1, MAX_PAGE)? })
    }

    /// Answers with the part of a list, ordered by key. `path` is the list's path, including any parameter that belongs
    /// to it.
    pub(super) fn answer<T>(
        self,
        request: &Request,
        (path, member): (&str, &str),
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
        show: impl Fn(&T) -> Value,
    ) -> Answer {
        items.sort_by_cached_key(&key);
        let first = self.from.as_ref().map_or(0, |from| items.partition_point(|item| key(item) <= *from));
        let limit = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (mut shown, mut bytes, mut last, mut more) = (Vec::new(), 0, None, false);
        for item in items.iter().skip(first) {
            if shown.len() == limit || bytes > PAGE {
                more = true;
                break;
            }
            let value = show(item);
            bytes += weight(&value);
            shown.push(value);
            last = Some(item);
        }
        let next = last.filter(|_| more).map(|item| self.link(path, Some(&key(item))));
        let mut answer = Map::new();
        answer.insert(member.to_owned(), Value::Array(shown));
        if next.is_some() || self.limit.is_some() || self.from.is_some() {
            let this = self.link(path, self.from.as_deref());
            answer.insert("pages".to_owned(), json!(Pages { this, next, prev: None }));
        }
        Ok(reply::ok(request.format, &Value::Object(answer)))
    }

    fn link(&self, path: &str, from: Option<&str>) -> String {
        let link = from.map_or_else(|| path.to_owned(), |from| with_param(path, "from", from));
        self.limit.map_or_else(|| link.clone(), |limit| with_param(&link, "limit", &limit.to_string()))
    }
}

/// Adds a query parameter to a path.
pub(super) fn with_param(path: &str, name: &str, value: &str) -> String {
    let mut path = path.to_owned();
    path.push(if path.contains('?') { '&' } else { '?' });
    path.extend([name, "="]);
    path.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    path
}

/// The approximate size of a value, in bytes.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 3 + text.len(),
        Value::Array(list) => 2 + list.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| 4 + name.len() + weight(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}
