//! Finds all mistakes in a configuration file, each with its line.
//!
//! Each key is tried alone, with just enough beside it to be a valid configuration: an error is then about that key, and
//! one mistake does not hide another.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{File, RouteTable};
use super::{Config, explain, routes, settle};
use crate::flags::Flags;
use crate::route::{Route, RouteFlag, RouteMap};

type Key<'i> = Spanned<Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// The mistakes in a file, in the order of its lines.
pub(super) fn mistakes(path: &Path, text: &str) -> Vec<String> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut found = Found { path, text, by_line: BTreeMap::new() };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        // A syntax error causes others in the same line.
        if !found.by_line.contains_key(&explain::line(text, at)) {
            found.add(at, explain::in_words(error.message()));
        }
    }
    if found.by_line.is_empty() {
        found.look(root.into_inner());
    }
    found.by_line.into_values().flatten().collect()
}

struct Found<'a> {
    path: &'a Path,
    text: &'a str,
    by_line: BTreeMap<usize, Vec<String>>,
}

impl Found<'_> {
    fn add(&mut self, at: usize, said: String) {
        let line = explain::line(self.text, at);
        self.by_line.entry(line).or_default().push(format!("{}:{line}: {said}", self.path.display()));
    }

    fn look(&mut self, root: DeTable<'_>) {
        let mut routes: Vec<Route> = Vec::new();
        let pair = root.get_key_value("client_key").filter(|_| root.contains_key("client_cert"));
        let pair = pair.map(|(key, value)| (key.clone(), value.clone()));
        for (key, value) in root {
            match value.get_ref() {
                DeValue::Array(tables)
                    if key.get_ref() == "route" && tables.iter().all(|one| one.get_ref().is_table()) =>
                {
                    for table in tables.iter() {
                        routes.extend(self.look_at_route(table));
                        if let Err(e) = RouteMap::new(&routes) {
                            self.add(table.span().start, e);
                            routes.pop();
                        }
                    }
                }
                _ => {
                    let at = key.span().start;
                    // A certificate is valid only together with its key.
                    let with = match key.get_ref().as_ref() {
                        "client_key" if pair.is_some() => continue,
                        "client_cert" => pair.clone(),
                        _ => None,
                    };
                    if let Err(e) = try_key(key, value, with) {
                        self.add(at, e);
                    }
                }
            }
        }
    }

    /// Records the mistakes in a route. Returns the route if it is valid.
    fn look_at_route(&mut self, table: &Value<'_>) -> Option<Route> {
        let DeValue::Table(keys) = table.get_ref() else { return None };
        let before = self.count();
        let has = |name: &str| keys.contains_key(name);
        let own = if has("url") && !has("run") { ("url", "http://probe.invalid/") } else { ("run", "true") };
        let mut base = Base::new(own);
        let first =
            |name: &str| ["queue", "name", "type", own.0].iter().position(|one| *one == name).unwrap_or(9);
        let mut ordered: Vec<(&Key<'_>, &Value<'_>)> = keys.iter().collect();
        ordered.sort_by_key(|(key, _)| first(key.get_ref()));
        let both = has("run") && has("url");
        for (key, value) in ordered.iter().filter(|(key, _)| !both || first(key.get_ref()) < 3) {
            if key.get_ref() == "key" && has("cert") {
                continue;
            }
            for (at, mut one) in alone(key, value) {
                // A certificate is valid only together with its key.
                if key.get_ref() == "cert"
                    && let Some((key, value)) = keys.get_key_value("key")
                {
                    one.insert(key.clone(), value.clone());
                }
                match base.try_with(&one) {
                    Ok(_) if first(key.get_ref()) < 9 => base.keep(one),
                    Ok(_) => {}
                    Err(e) => self.add(at.start, e),
                }
            }
        }
        if self.count() > before {
            return None;
        }
        let whole = try_route(keys.clone());
        whole.map_err(|e| self.add(table.span().start, e)).ok()
    }

    fn count(&self) -> usize {
        self.by_line.values().map(Vec::len).sum()
    }
}

/// The parts of a value that can be wrong independently: the place of each, and a table with that part alone.
fn alone<'i>(key: &Key<'i>, value: &Value<'i>) -> Vec<(Range<usize>, DeTable<'i>)> {
    let with = |value: Value<'i>| {
        let mut table = DeTable::new();
        table.insert(key.clone(), value);
        table
    };
    match value.get_ref() {
        DeValue::Table(inner) if !inner.is_empty() => {
            let each = |(name, one): (&Key<'i>, &Value<'i>)| {
                let mut table = DeTable::new();
                table.insert(name.clone(), one.clone());
                (name.span(), with(Spanned::new(value.span(), DeValue::Table(table))))
            };
            inner.iter().map(each).collect()
        }
        _ => vec![(key.span(), with(value.clone()))],
    }
}

/// A minimal valid route, to try a key with.
struct Base<'i>(DeTable<'i>);

impl<'i> Base<'i> {
    fn new((own, target): (&'static str, &'static str)) -> Self {
        let mut base = Self(DeTable::new());
        for (name, text) in [("queue", "probe"), (own, target)] {
            base.0.insert(
                Spanned::new(0..0, Cow::Borrowed(name)),
                Spanned::new(0..0, DeValue::String(Cow::Borrowed(text))),
            );
        }
        base
    }

    fn try_with(&self, more: &DeTable<'i>) -> Result<Route, String> {
        let mut table = Self(self.0.clone());
        table.keep(more.clone());
        try_route(table.0)
    }

    fn keep(&mut self, more: DeTable<'i>) {
        for (key, value) in more {
            self.0.remove(key.get_ref().as_ref());
            self.0.insert(key, value);
        }
    }
}

fn try_route(table: DeTable<'_>) -> Result<Route, String> {
    let read = RouteTable::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)));
    routes::route(read.map_err(|e| explain::in_words(e.message()))?, routes::Defaults::default())
}

/// Tries a top-level key.
fn try_key<'i>(key: Key<'i>, value: Value<'i>, with: Option<(Key<'i>, Value<'i>)>) -> Result<Config, String> {
    let mut table = DeTable::new();
    table.insert(key, value);
    table.extend(with);
    let read = File::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)));
    let file = read.map_err(|e| explain::in_words(e.message()))?;
    let flags = Flags { run: vec![RouteFlag::command("probe=true")?], ..Flags::default() };
    settle(&flags, file).map_err(|e| e.to_string())
}
