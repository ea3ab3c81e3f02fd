//! Finds the members of its input that an expression uses, so that only those need to be parsed.

use std::collections::BTreeSet;

use super::ast::{Key, Pattern, Term};
use super::walk::children;

/// What is known of the members that an expression reads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Members {
    /// Those that it names.
    pub named: BTreeSet<String>,
    /// Whether it looks at the input in other ways, too, and so perhaps at all of them.
    pub whole: bool,
}

impl Members {
    pub(super) fn of(term: &Term) -> Self {
        let mut members = Self::default();
        if members.see(term, true) {
            members.whole = true;
        }
        members
    }

    /// Looks at a term whose input may be that of the whole expression, and says whether its outputs may be.
    fn see(&mut self, term: &Term, is_input: bool) -> bool {
        match term {
            Term::Id => is_input,
            Term::Index(of, key, _) => {
                self.index(of, key, is_input);
                false
            }
            Term::Pipe(a, b) => {
                let between = self.see(a, is_input);
                self.see(b, between)
            }
            Term::Comma(a, b) => {
                let first = self.see(a, is_input);
                self.see(b, is_input) || first
            }
            // Of an object it is known that it is neither null nor false, but not whether it is an object.
            Term::Alternative(a, b) | Term::Try(a, Some(b)) if !matches!(term, Term::Try(..)) => {
                let first = self.see(a, is_input);
                self.see(b, is_input) || first
            }
            Term::Try(a, None) => self.see(a, is_input),
            Term::If(condition, then, otherwise) => {
                self.use_up(condition, is_input);
                let then = self.see(then, is_input);
                let otherwise = otherwise.as_ref().map_or(is_input, |term| self.see(term, is_input));
                then || otherwise
            }
            Term::Bind(source, pattern, body) => {
                let is_bound = self.see(source, is_input);
                self.bind(pattern, is_bound);
                self.see(body, is_input)
            }
            Term::Label(_, body) => self.see(body, is_input),
            Term::Call(name, arguments) => self.call(name, arguments, is_input),
            Term::Object(members) => {
                members.iter().for_each(|(key, value)| self.member(key, value.as_ref(), is_input));
                false
            }
            Term::Recurse
            | Term::Format(_)
            | Term::Define(..)
            | Term::Assign(..)
            | Term::Reduce(..)
            | Term::Foreach(..) => {
                self.whole |= is_input;
                // The names are worth knowing all the same.
                if let Term::Assign(target, _, value) = term {
                    self.see(target, is_input);
                    self.use_up(value, is_input);
                }
                if let Term::Define(_, body) = term {
                    self.see(body, is_input);
                }
                false
            }
            _ => {
                children(term, &mut |child| self.use_up(child, is_input));
                false
            }
        }
    }

    fn index(&mut self, of: &Term, key: &Term, is_input: bool) {
        let is_input_of = self.see(of, is_input);
        match key.as_text() {
            Some(name) if is_input_of => drop(self.named.insert(name)),
            Some(_) => {}
            None => {
                self.whole |= is_input_of;
                self.use_up(key, is_input);
            }
        }
    }

    fn member(&mut self, key: &Key, value: Option<&Term>, is_input: bool) {
        if let Key::Term(key) = key {
            self.use_up(key, is_input);
            match key.as_text() {
                Some(name) if value.is_none() && is_input => drop(self.named.insert(name)),
                None if value.is_none() => self.whole |= is_input,
                _ => {}
            }
        }
        value.iter().for_each(|value| self.use_up(value, is_input));
    }

    /// Looks at a term whose outputs are used for something else.
    fn use_up(&mut self, term: &Term, is_input: bool) {
        if self.see(term, is_input) {
            self.whole = true;
        }
    }

    fn bind(&mut self, pattern: &Pattern, is_input: bool) {
        match pattern {
            Pattern::Object(members) if is_input => {
                for (key, _, pattern) in members {
                    match key.as_text() {
                        Some(name) => drop(self.named.insert(name)),
                        None => self.whole = true,
                    }
                    pattern.iter().for_each(|pattern| self.bind(pattern, false));
                }
            }
            Pattern::Var(_) | Pattern::Array(_) | Pattern::Object(_) => self.whole |= is_input,
        }
    }

    fn call(&mut self, name: &str, arguments: &[Term], is_input: bool) -> bool {
        match (name, arguments) {
            ("select", [condition]) => {
                self.use_up(condition, is_input);
                return is_input;
            }
            ("empty" | "null" | "true" | "false" | "now" | "infinite" | "nan", []) => return false,
            ("error", [message]) => self.use_up(message, is_input),
            _ => {
                self.whole |= is_input;
                for argument in arguments {
                    self.see(argument, false);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    #[test]
    fn the_members_that_an_expression_names() {
        for (expression, names, whole) in [
            (".to == \"x\"", "to", false),
            (".a.b.c", "a", false),
            (".a | .b", "a", false),
            (".payload.image", "payload", false),
            ("\"to \\(.to): \\(.n)\"", "n to", false),
            (".a // .b", "a b", false),
            (".a? // \"x\"", "a", false),
            ("if .a then .b else .c end", "a b c", false),
            ("if .a then .b end", "a b", true),
            ("select(.a) | .b", "a b", false),
            ("{a, b: .c}", "a c", false),
            (". as {a: $x} | $x + .b", "a b", false),
            (". as $x | $x.a", "", true),
            (".[\"a\"]", "a", false),
            (".[.a]", "a", true),
            (".", "", true),
            ("keys", "", true),
            (".a | keys", "a", false),
            (".a | test(\"x\")", "a", false),
            (".a |= 1", "a", true),
            ("[.a, .b[]]", "a b", false),
            ("..", "", true),
            ("now - .at > 5", "at", false),
            ("try .a catch .", "a", true),
            ("any(.a[]; . == 1)", "", true),
            ("del(.a)", "", true),
        ] {
            let members = Members::of(&parse(expression).unwrap());
            let named: Vec<&str> = members.named.iter().map(String::as_str).collect();
            assert_eq!((named.join(" ").as_str(), members.whole), (names, whole), "{expression}");
        }
    }
}
