//! Values as jq has them: what jq does to them itself, with jq's words where it refuses.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Deref, Div, Mul, Neg, Range, Rem, Sub};
use std::sync::Arc;

use indexmap::IndexMap;
use jaq_core::box_iter::BoxIter;
use jaq_core::path::Opt;
use jaq_core::{ValR, ValT, ValX};

use super::number::Num;
use super::write;

/// Text, shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Text(pub Arc<String>);

/// The members of an object, in the order in which they came.
pub(super) type Members = IndexMap<Text, Value, foldhash::fast::RandomState>;

/// A JSON value, shared where it is large.
#[derive(Debug, Clone, Default)]
pub struct Value(pub(super) Kind);

#[derive(Debug, Clone, Default)]
pub(super) enum Kind {
    #[default]
    Null,
    Bool(bool),
    Number(Num),
    Text(Text),
    Array(Arc<Nest<Vec<Value>>>),
    Object(Arc<Nest<Members>>),
    /// No value, but a step of a path: from here on it leads nowhere any more, unless it comes back to this value.
    Astray(Arc<Value>),
}

/// What holds other values, and how deep they nest in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Nest<T> {
    pub depth: u32,
    pub items: T,
}

/// What an expression fails with, as `catch` sees it.
pub(super) type Failure = jaq_core::Error<Value>;
pub(super) type Outcome<T = Value> = Result<T, Failure>;

/// Deeper than this no expression may build: far beyond what can be a payload, and what jq prints.
pub(super) const MAX_DEPTH: u32 = 512;
/// Longer than this, in bytes, no text may become, and no array in elements.
pub(super) const MAX_LENGTH: usize = 512 * 1024 * 1024;

/// What an expression fails with that wants more than there may be. jq would go on.
pub(super) const TOO_DEEP: &str = "it builds a value that nests too deeply";
pub(super) const TOO_LONG: &str = "it builds a text or an array that is too long";

pub(super) fn failure(why: impl Into<String>) -> Failure {
    Failure::new(Value::text(why))
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Arc::new(text.to_owned()))
    }
}

impl Value {
    pub(super) const NULL: Self = Self(Kind::Null);

    pub(super) fn bool(value: bool) -> Self {
        Self(Kind::Bool(value))
    }

    pub(super) fn number(value: f64) -> Self {
        Self(Kind::Number(Num::Made(value)))
    }

    pub(super) fn count(n: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "nothing has so many")]
        Self::number(n as f64)
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self(Kind::Text(Text(Arc::new(text.into()))))
    }

    pub(super) fn array(items: Vec<Self>) -> Outcome {
        let depth = deepest(&items)?;
        Ok(Self(Kind::Array(Arc::new(Nest { depth, items }))))
    }

    /// An array of what nests in nothing: no deeper than any may be.
    pub(super) fn flat(items: Vec<Self>) -> Self {
        let depth = 1 + items.iter().map(Self::depth).max().unwrap_or_default();
        Self(Kind::Array(Arc::new(Nest { depth, items })))
    }

    pub(super) fn object(items: Members) -> Outcome {
        let depth = deepest(items.values())?;
        Ok(Self(Kind::Object(Arc::new(Nest { depth, items }))))
    }

    /// An object of members that nest in nothing.
    pub(super) fn record<const N: usize>(members: [(&str, Self); N]) -> Self {
        let items: Members = members.into_iter().map(|(name, value)| (Text::from(name), value)).collect();
        let depth = 1 + items.values().map(Self::depth).max().unwrap_or_default();
        Self(Kind::Object(Arc::new(Nest { depth, items })))
    }

    pub(super) fn depth(&self) -> u32 {
        match &self.0 {
            Kind::Array(array) => array.depth,
            Kind::Object(object) => object.depth,
            _ => 0,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Null | Kind::Astray(_) => "null",
            Kind::Bool(_) => "boolean",
            Kind::Number(_) => "number",
            Kind::Text(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }

    pub(super) fn as_number(&self) -> Option<f64> {
        match &self.0 {
            Kind::Number(n) => Some(n.value()),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Self]> {
        match &self.0 {
            Kind::Array(array) => Some(&array.items),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.0, Kind::Null)
    }

    /// Neither `null` nor `false`.
    pub(super) fn is_truthy(&self) -> bool {
        !matches!(self.0, Kind::Null | Kind::Bool(false))
    }

    /// `string ("abc...)`: the kind, and the beginning of the value.
    pub(super) fn told(&self) -> String {
        format!("{} ({})", self.kind(), self.excerpt(15))
    }

    /// The beginning of its JSON, in fewer bytes than `room`.
    pub(super) fn excerpt(&self, room: usize) -> String {
        let json = write::to_json(self);
        if json.len() < room {
            return json;
        }
        let kept = json.as_bytes().get(..room.saturating_sub(4)).unwrap_or_default();
        write::lossy(&[kept, b"..."].concat())
    }

    /// How jq orders values: by kind, then by what they hold.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match &value.0 {
            Kind::Null | Kind::Astray(_) => 0,
            Kind::Bool(false) => 1,
            Kind::Bool(true) => 2,
            Kind::Number(_) => 3,
            Kind::Text(_) => 4,
            Kind::Array(_) => 5,
            Kind::Object(_) => 6,
        };
        match (&self.0, &other.0) {
            (Kind::Number(a), Kind::Number(b)) => a.compare(b),
            (Kind::Text(a), Kind::Text(b)) => a.cmp(b),
            (Kind::Array(a), Kind::Array(b)) => {
                let pairs = a.items.iter().zip(&b.items).map(|(a, b)| a.compare(b));
                let first = pairs.into_iter().find(|order| order.is_ne());
                first.unwrap_or_else(|| a.items.len().cmp(&b.items.len()))
            }
            (Kind::Object(a), Kind::Object(b)) => compare_members(&a.items, &b.items),
            _ => rank(self).cmp(&rank(other)),
        }
    }

    /// Whether it is the very same one, which is how jq finds out that a path still leads to it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Bool(a), Kind::Bool(b)) => a == b,
            (Kind::Number(a), Kind::Number(b)) => a.is_same(b),
            (Kind::Text(a), Kind::Text(b)) => Arc::ptr_eq(&a.0, &b.0),
            (Kind::Array(a), Kind::Array(b)) => Arc::ptr_eq(a, b),
            (Kind::Object(a), Kind::Object(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// What `.[key]` is.
    pub(super) fn get(&self, key: &Self) -> Outcome {
        match (&self.0, &key.0) {
            (Kind::Object(object), Kind::Text(name)) => {
                Ok(object.items.get(name.as_str()).cloned().unwrap_or_default())
            }
            (Kind::Array(array), Kind::Number(n)) => {
                let place = place(n.value(), array.items.len());
                Ok(place.and_then(|place| array.items.get(place)).cloned().unwrap_or_default())
            }
            (Kind::Array(array), Kind::Object(_)) => {
                let range = self.slice(key)?;
                Self::array(array.items.get(range).unwrap_or_default().to_vec())
            }
            (Kind::Text(text), Kind::Object(_)) => {
                let range = self.slice(key)?;
                Ok(Self::text(text.chars().skip(range.start).take(range.len()).collect::<String>()))
            }
            (Kind::Array(array), Kind::Array(sought)) => Ok(places_of(&array.items, &sought.items)),
            (Kind::Null, Kind::Text(_) | Kind::Number(_) | Kind::Object(_)) => Ok(Self::NULL),
            (_, Kind::Text(name)) if name.len() < 30 => {
                Err(failure(format!("Cannot index {} with string \"{}\"", self.kind(), &**name)))
            }
            _ => Err(failure(format!("Cannot index {} with {}", self.kind(), key.kind()))),
        }
    }

    /// The elements that `{"start": …, "end": …}` means.
    pub(super) fn slice(&self, key: &Self) -> Outcome<Range<usize>> {
        let length = match &self.0 {
            Kind::Array(array) => array.items.len(),
            Kind::Text(text) => text.chars().count(),
            _ => return Err(failure("Only arrays and strings can be sliced")),
        };
        let bound = |name: &str, default: f64| match &key.0 {
            Kind::Object(bounds) => match &bounds.items.get(name)?.0 {
                Kind::Null => Some(default),
                Kind::Number(n) => Some(n.value()),
                _ => None,
            },
            _ => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "nothing is so long")]
        let len = length as f64;
        let (Some(start), Some(end)) = (bound("start", 0.0), bound("end", len)) else {
            return Err(failure("Array/string slice indices must be integers"));
        };
        let from_end = |n: f64| if n < 0.0 { n + len } else { n };
        let start = if start.is_nan() { 0.0 } else { from_end(start).clamp(0.0, len).floor() };
        let end = if end.is_nan() { len } else { from_end(end) };
        let end = if end < 0.0 { start } else { end.ceil().min(len) };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between nothing and a length"
        )]
        Ok(start as usize..end.max(start) as usize)
    }

    /// Its children with their keys, where it can have any.
    pub(super) fn entries(&self) -> Option<Box<dyn Iterator<Item = (Self, Self)>>> {
        match &self.0 {
            Kind::Array(array) => {
                let array = array.clone();
                let at = move |n| array.items.get(n).map(|value| (Self::count(n), value.clone()));
                Some(Box::new((0..).map_while(at)))
            }
            Kind::Object(object) => {
                let object = object.clone();
                let at =
                    move |n| object.items.get_index(n).map(|(k, v)| (Self(Kind::Text(k.clone())), v.clone()));
                Some(Box::new((0..).map_while(at)))
            }
            _ => None,
        }
    }

    fn not_iterable(&self) -> Failure {
        failure(format!("Cannot iterate over {}", self.told()))
    }
}

fn deepest<'a>(values: impl IntoIterator<Item = &'a Value>) -> Outcome<u32> {
    let depth = 1 + values.into_iter().map(Value::depth).max().unwrap_or_default();
    if depth > MAX_DEPTH {
        return Err(failure(TOO_DEEP));
    }
    Ok(depth)
}

/// The place of an element by its number, which counts from the end where it is negative.
fn place(n: f64, length: usize) -> Option<usize> {
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let place = n.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i64;
    match usize::try_from(place) {
        _ if n.is_nan() => None,
        Ok(place) => Some(place),
        Err(_) => length.checked_sub(usize::try_from(place.unsigned_abs()).ok()?),
    }
}

fn compare_members(a: &Members, b: &Members) -> Ordering {
    fn sorted(members: &Members) -> Vec<&Text> {
        let mut names: Vec<&Text> = members.keys().collect();
        names.sort_unstable();
        names
    }
    let (names, others) = (sorted(a), sorted(b));
    names.cmp(&others).then_with(|| {
        let orders =
            names.iter().filter_map(|name| Some(a.get(name.as_str())?.compare(b.get(name.as_str())?)));
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    })
}

/// Where a sequence of elements begins among others.
fn places_of(all: &[Value], sought: &[Value]) -> Value {
    let is_at = |n: usize| {
        let here = all.get(n..).unwrap_or_default();
        !sought.is_empty()
            && sought.iter().enumerate().all(|(n, value)| here.get(n).is_some_and(|here| here == value))
    };
    Value::flat((0..all.len()).filter(|n| is_at(*n)).map(Value::count).collect())
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Text(a), Kind::Text(b)) => a == b,
            (Kind::Array(a), Kind::Array(b)) if Arc::ptr_eq(a, b) => true,
            (Kind::Object(a), Kind::Object(b)) if Arc::ptr_eq(a, b) => true,
            _ => self.compare(other).is_eq(),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.compare(other))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some(text) => f.write_str(text),
            None => f.write_str(&write::to_json(self)),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::bool(value)
    }
}

impl From<isize> for Value {
    fn from(n: isize) -> Self {
        Self(Kind::Number(Num::of_integer(i64::try_from(n).unwrap_or_default())))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Range<Option<Self>>> for Value {
    /// As a key: slices are always asked for by such objects.
    fn from(range: Range<Option<Self>>) -> Self {
        Self::record([("start", range.start.unwrap_or_default()), ("end", range.end.unwrap_or_default())])
    }
}

impl FromIterator<Self> for Value {
    fn from_iter<T: IntoIterator<Item = Self>>(values: T) -> Self {
        Self::flat(values.into_iter().collect())
    }
}

fn refused(l: &Value, r: &Value, what: &str) -> Failure {
    failure(format!("{} and {} {what}", l.told(), r.told()))
}

impl Add for Value {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> ValR<Self> {
        match (self.0, other.0) {
            (Kind::Null, other) | (other, Kind::Null) => Ok(Self(other)),
            (Kind::Number(a), Kind::Number(b)) => Ok(Self::number(a.value() + b.value())),
            (Kind::Text(mut a), Kind::Text(b)) => {
                if a.len() + b.len() > MAX_LENGTH {
                    return Err(failure(TOO_LONG));
                }
                Arc::make_mut(&mut a.0).push_str(&b);
                Ok(Self(Kind::Text(a)))
            }
            (Kind::Array(mut a), Kind::Array(b)) => {
                let array = Arc::make_mut(&mut a);
                if array.items.len() + b.items.len() > MAX_LENGTH {
                    return Err(failure(TOO_LONG));
                }
                array.depth = array.depth.max(b.depth);
                array.items.extend(b.items.iter().cloned());
                Ok(Self(Kind::Array(a)))
            }
            (Kind::Object(mut a), Kind::Object(b)) => {
                let object = Arc::make_mut(&mut a);
                object.depth = object.depth.max(b.depth);
                object.items.extend(b.items.iter().map(|(name, value)| (name.clone(), value.clone())));
                Ok(Self(Kind::Object(a)))
            }
            (a, b) => Err(refused(&Self(a), &Self(b), "cannot be added")),
        }
    }
}

impl Sub for Value {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> ValR<Self> {
        match (&self.0, &other.0) {
            (Kind::Number(a), Kind::Number(b)) => Ok(Self::number(a.value() - b.value())),
            (Kind::Array(a), Kind::Array(b)) => {
                Self::array(a.items.iter().filter(|item| !b.items.contains(item)).cloned().collect())
            }
            _ => Err(refused(&self, &other, "cannot be subtracted")),
        }
    }
}

impl Mul for Value {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> ValR<Self> {
        match (&self.0, &other.0) {
            (Kind::Number(a), Kind::Number(b)) => Ok(Self::number(a.value() * b.value())),
            (Kind::Text(text), Kind::Number(n)) | (Kind::Number(n), Kind::Text(text)) => {
                repeat(text, n.value())
            }
            (Kind::Object(a), Kind::Object(b)) => {
                let mut merged = a.items.clone();
                merge(&mut merged, &b.items)?;
                Self::object(merged)
            }
            _ => Err(refused(&self, &other, "cannot be multiplied")),
        }
    }
}

fn repeat(text: &str, times: f64) -> Outcome {
    if times < 0.0 || times.is_nan() {
        return Ok(Value::NULL);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
    let times = times as usize;
    if text.len().saturating_mul(times) > MAX_LENGTH {
        return Err(failure(TOO_LONG));
    }
    Ok(Value::text(text.repeat(times)))
}

fn merge(into: &mut Members, from: &Members) -> Outcome<()> {
    for (name, value) in from {
        let merged = match (into.get(name.as_str()).map(|value| &value.0), &value.0) {
            (Some(Kind::Object(a)), Kind::Object(b)) => {
                let mut inner = a.items.clone();
                merge(&mut inner, &b.items)?;
                Value::object(inner)?
            }
            _ => value.clone(),
        };
        into.insert(name.clone(), merged);
    }
    Ok(())
}

impl Div for Value {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> ValR<Self> {
        match (&self.0, &other.0) {
            (Kind::Number(_), Kind::Number(b)) if b.value() == 0.0 => {
                Err(refused(&self, &other, "cannot be divided because the divisor is zero"))
            }
            (Kind::Number(a), Kind::Number(b)) => Ok(Self::number(a.value() / b.value())),
            (Kind::Text(text), Kind::Text(separator)) => Ok(super::text::split(text, separator)),
            _ => Err(refused(&self, &other, "cannot be divided")),
        }
    }
}

impl Rem for Value {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> ValR<Self> {
        let (Some(a), Some(b)) = (self.as_number(), other.as_number()) else {
            return Err(refused(&self, &other, "cannot be divided (remainder)"));
        };
        if a.is_nan() || b.is_nan() {
            return Ok(Self::number(f64::NAN));
        }
        #[expect(clippy::cast_possible_truncation, reason = "what is beyond is the greatest, as in jq")]
        let (a, b) = (a as i64, b as i64);
        if b == 0 {
            return Err(refused(&self, &other, "cannot be divided (remainder) because the divisor is zero"));
        }
        #[expect(clippy::cast_precision_loss, reason = "as in jq")]
        Ok(Self::number(a.wrapping_rem(b) as f64))
    }
}

impl Neg for Value {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        match self.as_number() {
            Some(n) => Ok(Self::number(-n)),
            None => Err(failure(format!("{} cannot be negated", self.told()))),
        }
    }
}

/// Updates do not go this way: they are made of paths, as in jq.
fn no_update<'a>() -> ValX<'a, Value> {
    Err(failure("it cannot be updated").into())
}

impl ValT for Value {
    fn from_num(text: &str) -> ValR<Self> {
        Num::read(text).map(|n| Self(Kind::Number(n))).ok_or_else(|| failure("it is no number"))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(members: I) -> ValR<Self> {
        let member = |(name, value): (Self, Self)| match name.0 {
            Kind::Text(name) => Ok((name, value)),
            _ => Err(failure(format!("Cannot use {} as object key", name.told()))),
        };
        Self::object(members.into_iter().map(member).collect::<Result<_, _>>()?)
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self.entries() {
            Some(entries) => Box::new(entries.map(Ok)),
            None => Box::new(std::iter::once(Err(self.not_iterable()))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self.entries() {
            Some(entries) => Box::new(entries.map(|(_, value)| Ok(value))),
            None => Box::new(std::iter::once(Err(self.not_iterable()))),
        }
    }

    fn index(self, key: &Self) -> ValR<Self> {
        self.get(key)
    }

    fn range(self, range: jaq_core::val::Range<&Self>) -> ValR<Self> {
        self.get(&Self::from(range.start.cloned()..range.end.cloned()))
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        no_update()
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: &Self,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        no_update()
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: jaq_core::val::Range<&Self>,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        no_update()
    }

    fn as_bool(&self) -> bool {
        self.is_truthy()
    }

    fn into_string(self) -> Self {
        write::to_text(self)
    }
}
