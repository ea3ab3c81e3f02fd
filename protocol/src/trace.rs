//! The trace context of a job: to which distributed trace it belongs (W3C Trace Context).
//!
//! <https://www.w3.org/TR/trace-context/> is the specification. A context has two texts: `traceparent`, which names the
//! trace and the span that the job comes from, and `tracestate`, which tracing systems add for themselves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

use crate::error::excerpt;

/// The longest `tracestate`, in bytes. The specification asks to propagate at least this much.
pub const MAX_STATE_BYTES: usize = 512;
/// The most members of a `tracestate`.
pub const MAX_STATE_MEMBERS: usize = 32;
/// The names of the two headers, which are also the members of `trace`.
pub const PARENT: &str = "traceparent";
/// See [`PARENT`].
pub const STATE: &str = "tracestate";

/// Members of a `tracestate` longer than this are left out first if it is too long.
const LARGE_MEMBER_BYTES: usize = 128;
/// The length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;
/// The flag that says that spans of the trace are recorded.
const SAMPLED: u8 = 1;

/// A trace context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The trace and the span that the job comes from.
    pub parent: Parent,
    /// What tracing systems have added for themselves; empty: nothing.
    state: SmolStr,
}

/// The content of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parent {
    /// The trace; not zero.
    pub trace_id: u128,
    /// The span; not zero. The specification calls it `parent-id`.
    pub span_id: u64,
    /// The flags; the lowest bit: spans are recorded.
    pub flags: u8,
}

/// Why a text is no `traceparent` or `tracestate`, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTrace(String);

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidTrace> {
    Err(InvalidTrace(why.into()))
}

impl Parent {
    /// Whether spans of the trace are recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// A `traceparent` of version 00.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for Parent {
    type Err = InvalidTrace;

    /// Reads a `traceparent`. One of a later version is read as far as version 00 goes, of its flags the one that
    /// version 00 knows; it is passed on as version 00, as the specification asks.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let whole = || {
            let shown = excerpt(text);
            invalid(format!(
                "`{shown}` is no traceparent; expected VERSION-TRACE-PARENT-FLAGS in lower-case hexadecimal digits, such as \
                 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            ))
        };
        let Some((head, rest)) = text.split_at_checked(PARENT_BYTES) else { return whole() };
        let mut parts = head.split('-');
        let mut next = |digits: usize| parts.next().and_then(|part| hex(part, digits));
        let (Some(version), Some(trace_id), Some(span_id), Some(flags)) =
            (next(2), next(32), next(16), next(2))
        else {
            return whole();
        };
        let follows = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if !follows || parts.next().is_some() {
            return whole();
        }
        if version == 0xff {
            return invalid("version ff of traceparent is not allowed");
        }
        if trace_id == 0 || span_id == 0 {
            return invalid("a traceparent with only zeros for the trace or the parent means none");
        }
        let narrow = |number: u128| u8::try_from(number).unwrap_or_default();
        Ok(Self {
            trace_id,
            span_id: u64::try_from(span_id).unwrap_or_default(),
            flags: if version == 0 { narrow(flags) } else { narrow(flags) & SAMPLED },
        })
    }
}

/// A number of so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_lower_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == digits && is_lower_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

impl Trace {
    /// A context without a `tracestate`.
    #[must_use]
    pub const fn new(parent: Parent) -> Self {
        Self { parent, state: SmolStr::new_static("") }
    }

    /// Checks both texts; an empty `tracestate` is none.
    ///
    /// # Errors
    /// [`InvalidTrace`], without the name of the member.
    pub fn parse(parent: &str, state: Option<&str>) -> Result<Self, InvalidTrace> {
        let parent = parent.parse()?;
        let state = state.map(checked_state).transpose()?.unwrap_or_default();
        Ok(Self { parent, state })
    }

    /// A context that was checked before; `None` if it would not pass.
    #[must_use]
    pub fn restored(parent: Parent, state: &str) -> Option<Self> {
        let is_whole = parent.trace_id != 0 && parent.span_id != 0;
        let state = checked_state(state).ok().filter(|_| is_whole)?;
        Some(Self { parent, state })
    }

    /// The context in the headers of a request. As the specification demands, an invalid `traceparent`, or a second
    /// one, means that there is none; an invalid `tracestate` is left out, and one that is too long is shortened.
    pub fn of_headers<'a>(
        parents: impl IntoIterator<Item = &'a [u8]>,
        states: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut parents = parents.into_iter();
        let parent = text(parents.next()?)?.parse().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = states.into_iter().map(text).collect::<Option<Vec<_>>>();
        let state = states.and_then(|states| checked_state(&shortened(&states.join(","))).ok());
        Some(Self { parent, state: state.unwrap_or_default() })
    }

    /// What tracing systems have added for themselves.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        Some(&*self.state).filter(|state| !state.is_empty())
    }

    /// The same for a span below: it has another parent, and the state goes with it.
    #[must_use]
    pub fn below(&self, parent: Parent) -> Self {
        Self { parent, state: self.state.clone() }
    }

    /// The approximate memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.state.len()
    }
}

fn text(header: &[u8]) -> Option<&str> {
    std::str::from_utf8(header).ok().map(|text| text.trim_matches([' ', '\t']))
}

/// The members of a list, without those that are empty, which the specification allows.
fn members(state: &str) -> impl Iterator<Item = &str> {
    state.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
}

/// Leaves out members of a list that is too long: first the large ones, then those at the end.
fn shortened(state: &str) -> String {
    let mut kept: Vec<&str> = members(state).collect();
    let length = |kept: &[&str]| kept.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&kept) > MAX_STATE_BYTES {
        match kept.iter().rposition(|member| member.len() > LARGE_MEMBER_BYTES) {
            Some(large) => drop(kept.remove(large)),
            None => drop(kept.pop()),
        }
    }
    kept.join(",")
}

/// Checks a `tracestate`; gives it without blanks around its members.
fn checked_state(state: &str) -> Result<SmolStr, InvalidTrace> {
    if state.len() > MAX_STATE_BYTES {
        let length = state.len();
        return invalid(format!("a tracestate has at most {MAX_STATE_BYTES} bytes, this one has {length}"));
    }
    let all: Vec<&str> = members(state).collect();
    if all.len() > MAX_STATE_MEMBERS {
        let number = all.len();
        return invalid(format!(
            "a tracestate has at most {MAX_STATE_MEMBERS} members, this one has {number}"
        ));
    }
    for (i, member) in all.iter().enumerate() {
        let (key, value) = member.split_once('=').unwrap_or((member, ""));
        if !is_key(key) || !is_value(value) {
            let shown = excerpt(member);
            return invalid(format!("`{shown}` is no member of a tracestate; expected KEY=VALUE"));
        }
        let same = |other: &&str| other.split_once('=').is_some_and(|(other, _)| other == key);
        if all.iter().take(i).any(same) {
            return invalid(format!("the key `{key}` of a tracestate is there twice"));
        }
    }
    Ok(all.join(",").into())
}

/// Lower-case letters, digits and `_-*/`, up to 256; a tenant and a system are separated by `@`.
fn is_key(key: &str) -> bool {
    let is_plain = |part: &str, most: usize| {
        let first = part.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = part.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'));
        first && rest && part.len() <= most
    };
    match key.split_once('@') {
        None => is_plain(key, 256),
        Some((tenant, system)) => is_plain(tenant, 241) && is_plain(system, 14),
    }
}

/// Printable ASCII without `,` and `=`, up to 256, that does not end with a blank.
fn is_value(value: &str) -> bool {
    let is_printable = value.bytes().all(|c| matches!(c, b' '..=b'~') && !matches!(c, b',' | b'='));
    is_printable && (1..=256).contains(&value.len()) && !value.ends_with(' ')
}

/// As in a request and an answer: `{"traceparent": …, "tracestate": …}`.
impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            traceparent: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            tracestate: Option<&'a str>,
        }
        Members { traceparent: &self.parent.to_string(), tracestate: self.state() }.serialize(serializer)
    }
}

/// The member `trace` of a job to enqueue, and of a job in an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceMembers {
    traceparent: Text<Parent>,
    #[serde(default)]
    tracestate: Option<Text<State>>,
}

/// A member that is checked as it is read, so that a refusal names it.
#[derive(Debug, Clone)]
struct Text<T>(T);

impl<'de, T: FromStr<Err = InvalidTrace>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SmolStr::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone)]
struct State(SmolStr);

impl FromStr for State {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        checked_state(text).map(Self)
    }
}

impl From<TraceMembers> for Trace {
    fn from(TraceMembers { traceparent, tracestate }: TraceMembers) -> Self {
        Self { parent: traceparent.0, state: tracestate.map(|Text(State(state))| state).unwrap_or_default() }
    }
}

/// As a worker reads it: members that a later server adds are ignored.
impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            traceparent: Text<Parent>,
            #[serde(default)]
            tracestate: Option<Text<State>>,
        }
        let Members { traceparent, tracestate } = Members::deserialize(deserializer)?;
        Ok(TraceMembers { traceparent, tracestate }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What is read from a text, written as version 00; `None`: it is refused.
    fn read(text: &str) -> Option<String> {
        text.parse::<Parent>().ok().map(|parent| parent.to_string())
    }

    #[test]
    fn traceparents() {
        let later = |end: &str| format!("{}{end}", GOOD.replacen("00-", "cc-", 1));
        let kept = ["00", "01", "02", "03", "ff"].map(|flags| format!("{}{flags}", &GOOD[..53]));
        for same in &kept {
            assert_eq!(read(same).as_ref(), Some(same));
        }
        for (text, expected) in [
            (later(""), GOOD),
            (later("-what-the-future-will-be-like"), GOOD),
            (later("-"), GOOD),
            (later("").replace("-01", "-03"), GOOD),
            (later("").replace("-01", "-02"), &kept[0]),
        ] {
            assert_eq!(read(&text).as_deref(), Some(expected), "{text}");
        }
        let zeros = |digits: usize| "0".repeat(digits);
        for bad in [
            String::new(),
            "nonsense".to_owned(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            format!("{GOOD} "),
            GOOD.to_uppercase(),
            GOOD.replace("0a", "0A"),
            GOOD.replace("0a", "0g"),
            GOOD.replace("0a", "+a"),
            GOOD.replace('-', "_"),
            GOOD.replacen("00-", "ff-", 1),
            later("."),
            later("0"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &zeros(32)),
            GOOD.replace("b7ad6b7169203331", &zeros(16)),
            format!("00-{}-{}-01", "1".repeat(31), "1".repeat(17)),
            format!("{}é", &GOOD[..54]),
            "é".repeat(55),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
        assert!(GOOD.parse::<Parent>().unwrap().is_sampled());
        assert!(
            !kept[0].parse::<Parent>().unwrap().is_sampled()
                && !kept[2].parse::<Parent>().unwrap().is_sampled()
        );
    }

    #[test]
    fn tracestates() {
        let parse =
            |state: &str| Trace::parse(GOOD, Some(state)).map(|trace| trace.state().map(str::to_owned));
        let long = |bytes: usize| format!("{}={}", "k".repeat(256), "v".repeat(bytes - 257));
        let many = |number: usize| (0..number).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for (state, expected) in [
            ("", None),
            (" , ,\t", None),
            ("a=b", Some("a=b")),
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            (" a=b ,\t, c=d e ", Some("a=b,c=d e")),
            ("0a=b,fw529a3039@dt=FfAAAA,a_-*/=~!", Some("0a=b,fw529a3039@dt=FfAAAA,a_-*/=~!")),
            (&many(32), Some(&*many(32))),
            (&long(512), Some(&*long(512))),
        ] {
            assert_eq!(parse(state).as_ref().map(Option::as_deref), Ok(expected), "{state}");
        }
        for bad in [
            "a",
            "a=",
            "=b",
            "A=b",
            "a b=c",
            "a=b=c",
            "a=é",
            "é=a",
            "a=b,a=c",
            "a=b\nc",
            "a=\0",
            "@a=b",
            "a@=b",
            "a@b@c=d",
            "_a=b",
            &many(33),
            &long(513),
            &format!("{}=v", "k".repeat(257)),
            &format!("k={}", "v".repeat(257)),
            &format!("{}@s=v", "t".repeat(242)),
            &format!("t@{}=v", "s".repeat(15)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers() {
        let of = |parents: &[&str], states: &[&str]| {
            let bytes =
                |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
            let (parents, states) = (bytes(parents), bytes(states));
            let trace =
                Trace::of_headers(parents.iter().map(Vec::as_slice), states.iter().map(Vec::as_slice))?;
            Some((trace.parent.to_string(), trace.state().map(str::to_owned)))
        };
        let good = |state: Option<&str>| Some((GOOD.to_owned(), state.map(str::to_owned)));
        assert_eq!(of(&[], &["a=b"]), None, "a tracestate alone means nothing");
        assert_eq!(of(&["x"], &["a=b"]), None);
        assert_eq!(of(&[GOOD, GOOD], &[]), None, "one of two would be a guess");
        assert_eq!(of(&[GOOD], &[]), good(None));
        assert_eq!(of(&[&format!(" {GOOD}\t")], &["a=b", "", "c=d"]), good(Some("a=b,c=d")));
        assert_eq!(of(&[GOOD], &["a=b", "c"]), good(None), "an invalid tracestate is left out whole");
        let (large, small) = (format!("l={}", "x".repeat(200)), format!("s={}", "x".repeat(100)));
        let numbered = |n: usize| format!("{n}{small}");
        let many = [&*large, &numbered(1), &numbered(2), &numbered(3), &numbered(4)].join(",");
        let rest = [numbered(1), numbered(2), numbered(3), numbered(4)].join(",");
        assert_eq!(of(&[GOOD], &[&many]), good(Some(&rest)), "large members go first");
        let five = format!("{rest},{}", numbered(5));
        assert_eq!(of(&[GOOD], &[&five]), good(Some(&rest)), "then the last one");
    }
}
