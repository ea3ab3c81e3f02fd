//! The parts of a term.

use super::ast::{Key, Part, Pattern, Term};

/// Calls with every term that is directly in another.
pub(super) fn children<'a>(term: &'a Term, see: &mut dyn FnMut(&'a Term)) {
    match term {
        Term::Id
        | Term::Recurse
        | Term::Number(_)
        | Term::Format(_)
        | Term::Array(None)
        | Term::Break(_)
        | Term::Var(_)
        | Term::Location(_) => {}
        Term::Text(_, parts) => parts.iter().for_each(|part| match part {
            Part::Text(_) => {}
            Part::Term(term) => see(term),
        }),
        Term::Array(Some(a)) | Term::Neg(a) | Term::Label(_, a) | Term::Each(a, _) | Term::Try(a, None) => {
            see(a)
        }
        Term::Object(members) => {
            for (key, value) in members {
                if let Key::Term(key) = key {
                    see(key);
                }
                value.iter().for_each(&mut *see);
            }
        }
        Term::Pipe(a, b)
        | Term::Comma(a, b)
        | Term::Binary(a, _, b)
        | Term::And(a, b)
        | Term::Or(a, b)
        | Term::Alternative(a, b)
        | Term::Assign(a, _, b)
        | Term::Index(a, b, _)
        | Term::Try(a, Some(b))
        | Term::If(a, b, None) => [a, b].into_iter().for_each(|term| see(term)),
        Term::Bind(a, pattern, b) => {
            see(a);
            keys(pattern, see);
            see(b);
        }
        Term::Reduce(a, pattern, b, c) | Term::Foreach(a, pattern, b, c, None) => {
            keys(pattern, see);
            [a, b, c].into_iter().for_each(|term| see(term));
        }
        Term::Foreach(a, pattern, b, c, Some(d)) => {
            keys(pattern, see);
            [a, b, c, d].into_iter().for_each(|term| see(term));
        }
        Term::If(a, b, Some(c)) => [a, b, c].into_iter().for_each(|term| see(term)),
        Term::Define(definition, body) => {
            see(&definition.body);
            see(body);
        }
        Term::Call(_, arguments) => arguments.iter().for_each(see),
        Term::Slice(a, from, to, _) => {
            see(a);
            from.iter().chain(to).for_each(|term| see(term));
        }
    }
}

fn keys<'a>(pattern: &'a Pattern, see: &mut dyn FnMut(&'a Term)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Array(patterns) => patterns.iter().for_each(|pattern| keys(pattern, see)),
        Pattern::Object(members) => {
            for (key, _, pattern) in members {
                see(key);
                pattern.iter().for_each(|pattern| keys(pattern, see));
            }
        }
    }
}
