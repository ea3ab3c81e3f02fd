//! Turns the error messages of libraries into sentences for the author of a configuration file.

/// Keys less similar than this are not suggested.
const LIKE: f64 = 0.7;

/// The line number of a position in a text.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.get(..at.min(text.len())).unwrap_or_default().matches('\n').count() + 1
}

/// Rewords a message of a library.
pub(super) fn in_words(message: &str) -> String {
    let message = message.trim();
    unknown_key(message).or_else(|| unknown_value(message)).unwrap_or_else(|| plain(message))
}

/// Replaces the names of types.
fn plain(message: &str) -> String {
    let mut said = message.replace('\n', "; ");
    for (type_name, words) in [
        ("a nonzero u16", "a number from 1 to 65535"),
        ("a nonzero u64", "a number from 1"),
        ("expected i32", "expected a number"),
        ("expected a sequence", "expected an array"),
    ] {
        said = said.replace(type_name, words);
    }
    said
}

/// The sentence about an unknown key, if that is what the message is about.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(match nearest(key, &known) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; known keys are {}", known.join(", ")),
    })
}

/// The sentence about a value that is none of a fixed set.
fn unknown_value(message: &str) -> Option<String> {
    let (value, rest) = message.strip_prefix("unknown variant `")?.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(format!("`{value}` is none of {}", known.join(", ")))
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let like = |name: &&str| strsim::jaro_winkler(&key.to_lowercase().replace('-', "_"), name);
    let best = known.iter().copied().max_by(|a, b| like(a).total_cmp(&like(b)))?;
    (like(&best) >= LIKE).then_some(best)
}
