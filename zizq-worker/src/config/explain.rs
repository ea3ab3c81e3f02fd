//! Says in a sentence what is wrong with a key.

/// Below this likeness a key was hardly meant.
const LIKE: f64 = 0.7;

/// The number of the line that a place in a text is in.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.get(..at.min(text.len())).unwrap_or_default().matches('\n').count() + 1
}

/// What a message of a library means.
pub(super) fn in_words(message: &str) -> String {
    unknown_key(message.trim()).unwrap_or_else(|| plain(message.trim()))
}

/// Without the names that only programmers have for numbers.
fn plain(message: &str) -> String {
    let mut said = message.replace('\n', "; ");
    for (type_name, words) in [
        ("a nonzero u16", "a number from 1 to 65535"),
        ("a nonzero u64", "a number from 1"),
        ("expected i32", "expected a number"),
    ] {
        said = said.replace(type_name, words);
    }
    said
}

/// What to say about a key that is not known, if that is what the message is about.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(match nearest(key, &known) {
        Some(near) => format!("there is no key `{key}`; did you mean `{near}`?"),
        None => format!("there is no key `{key}`; there are {}", known.join(", ")),
    })
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let like = |name: &&str| strsim::jaro_winkler(&key.to_lowercase().replace('-', "_"), name);
    let best = known.iter().copied().max_by(|a, b| like(a).total_cmp(&like(b)))?;
    (like(&best) >= LIKE).then_some(best)
}
