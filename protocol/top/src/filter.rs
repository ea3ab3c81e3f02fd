//! The grammar of the filter bar: that of the dashboard (`ui/lib/filter.js`). Words with a key become parameters of the
//! API; all the rest is one jq expression.

use form_urlencoded::Serializer;

use super::format::read_duration;

/// The keys, and the parameters that they become.
const KEYS: [(&str, &str); 10] = [
    ("status", "status"),
    ("queue", "queue"),
    ("type", "type"),
    ("id", "id"),
    ("attempts", "attempts"),
    ("priority", "priority"),
    ("age", "ready_at"),
    ("ready_at", "ready_at"),
    ("budget", "budgets.key"),
    ("budgets.key", "budgets.key"),
];

/// The length of a job id.
const ID: usize = 25;

/// What a filter means.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// Parameters of the API.
    pub(super) params: Vec<(&'static str, String)>,
    /// An id that stands alone: the job itself.
    pub(super) job: Option<String>,
}

impl Filter {
    /// Reads the text of a filter bar.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub(super) fn read(text: &str, now: u64) -> Result<Self, String> {
        let mut filter = Self::default();
        if is_id(text.trim()) {
            filter.job = Some(text.trim().to_owned());
            return Ok(filter);
        }
        let mut rest = Vec::new();
        for word in words(text) {
            let known = word.split_once(':').filter(|(_, value)| !value.is_empty());
            let known = known.and_then(|(key, value)| {
                let (key, param) = KEYS.iter().find(|(name, _)| *name == key)?;
                Some((*key, *param, unquoted(value)))
            });
            match known {
                None => rest.push(word),
                Some(("age", param, value)) => {
                    let range = by_age(&value, now).ok_or_else(|| {
                        format!("age:{value} is not a length of time, such as >1h or 5m..2d")
                    })?;
                    filter.set(param, range);
                }
                Some((_, param, value)) => filter.add(param, value),
            }
        }
        if !rest.is_empty() {
            filter.set("filter", rest.join(" "));
        }
        Ok(filter)
    }

    pub(super) fn set(&mut self, name: &'static str, value: String) {
        self.params.retain(|(param, _)| *param != name);
        self.params.push((name, value));
    }

    /// Another value for a list.
    fn add(&mut self, name: &'static str, value: String) {
        match self.params.iter_mut().find(|(param, _)| *param == name) {
            Some((_, list)) => *list = format!("{list},{value}"),
            None => self.params.push((name, value)),
        }
    }

    /// The parameters as a query.
    pub(super) fn query(&self) -> String {
        query(self.params.iter().map(|(name, value)| (*name, value.as_str())))
    }
}

/// Whether a text has the form of a job id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
}

/// Parameters as a query, without those that are empty.
pub(super) fn query<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in params {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// Splits at spaces outside of quotes.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start, mut quoted, mut escaped) = (Vec::new(), None, false, false);
    for (at, char) in text.char_indices() {
        if char.is_whitespace() && !quoted {
            words.extend(start.take().and_then(|start| text.get(start..at)));
            continue;
        }
        start.get_or_insert(at);
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
    }
    words.extend(start.and_then(|start| text.get(start..)));
    words
}

fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut escaped = false;
    let keep = |char: &char| {
        escaped = *char == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(keep).collect()
}

/// "age:>1h" -> ready_at "..T"
fn by_age(text: &str, now: u64) -> Option<String> {
    let before = |text: &str| read_duration(text).map(|ms| now.saturating_sub(ms));
    if let Some(text) = text.strip_prefix('<') {
        return Some(format!("{}..", before(text)?));
    }
    let text = text.strip_prefix('>').unwrap_or(text);
    match text.split_once("..") {
        None | Some((_, "")) => Some(format!("..{}", before(text.trim_end_matches('.'))?)),
        Some(("", longest)) => Some(format!("{}..", before(longest)?)),
        Some((least, longest)) => Some(format!("{}..{}", before(longest)?, before(least)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_keys_are_parameters_and_the_rest_is_jq() {
        let now = 10_000_000;
        for (text, query) in [
            ("", ""),
            ("status:dead queue:mails", "status=dead&queue=mails"),
            ("queue:a queue:b", "queue=a%2Cb"),
            (r#"type:"send mail" .a == "x y" "#, "type=send+mail&filter=.a+%3D%3D+%22x+y%22"),
            ("attempts:3.. .user_id == 42", "attempts=3..&filter=.user_id+%3D%3D+42"),
            ("age:>1h", "ready_at=..6400000"),
            ("age:1h", "ready_at=..6400000"),
            ("age:<5m", "ready_at=9700000.."),
            ("age:5m..1h", "ready_at=6400000..9700000"),
            ("age:..1h", "ready_at=6400000.."),
            ("age:5m..", "ready_at=..9700000"),
            ("budget:smtp", "budgets.key=smtp"),
            ("foo:bar", "filter=foo%3Abar"),
            ("queue:", "filter=queue%3A"),
        ] {
            assert_eq!(Filter::read(text, now).unwrap().query(), query, "{text:?}");
        }
        assert!(Filter::read("age:soon", now).unwrap_err().contains("such as >1h"));
        let id = "03f5q9m2v8k1c7x4b6n0t3s5d";
        assert_eq!(Filter::read(&format!(" {id} "), now).unwrap().job.as_deref(), Some(id));
    }
}
