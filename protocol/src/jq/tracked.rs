//! Functions that know what they do to paths.
//!
//! As in jq, a path goes along with a value. What is no path, such as a calculation, leads astray: it may end nowhere, and
//! nothing can be looked up in it, unless it gives the very value that is there already.

use std::sync::Arc;

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::native::{Fun, v};
use jaq_core::{Bind, Exn, ValT as _};

use super::natives::{Cv, Data, Native, fun, once};
use super::paths;
use super::value::{Kind, Value, failure};

pub(super) fn all() -> [Fun<Data>; 9] {
    [same(), getpath(), index(), index_if_any(), each(), each_if_any(), alternative(), limited(), skipped()]
}

fn same() -> Fun<Data> {
    (
        "n_same",
        fun(),
        Native::new(|mut cv: Cv<'_>| {
            let (f, context) = cv.0.pop_fun();
            f.run((context, cv.1))
        })
        .with_paths(|mut cv| {
            let (f, context) = cv.0.pop_fun();
            let (here, path) = cv.1;
            let astray = path.head().and_then(|step| left_at(step).cloned());
            let (value, path) = match astray {
                Some(value) => (value, path.pop().map_or_else(Default::default, |(_, rest)| rest)),
                None => (here.clone(), path),
            };
            Box::new(f.run((context, here)).map(move |made| {
                let made = made?;
                if made.is_same(&value) {
                    return Ok((made, path.clone()));
                }
                let astray = Value(Kind::Astray(Arc::new(value.clone())));
                Ok((made, path.clone().cons(astray)))
            }))
        }),
    )
}

fn getpath() -> Fun<Data> {
    (
        "n_getpath",
        v(1),
        Native::new(|mut cv| {
            let path = cv.0.pop_var();
            once(paths::get_path(cv.1, path))
        })
        .with_paths(|mut cv| {
            let steps = cv.0.pop_var();
            let (here, path) = cv.1;
            let is_astray = path.head().is_some_and(|step| left_at(step).is_some());
            box_once(paths::get_path(here, steps.clone()).map_err(Exn::from).map(|found| {
                let steps = if is_astray { &[] } else { steps.as_array().unwrap_or_default() };
                (found, steps.iter().fold(path, |path, step| path.cons(step.clone())))
            }))
        }),
    )
}

fn index() -> Fun<Data> {
    (
        "n_index",
        v(1),
        Native::new(|mut cv| {
            let key = cv.0.pop_var();
            once(cv.1.get(&key))
        })
        .with_paths(|mut cv| {
            let key = cv.0.pop_var();
            let (here, path) = cv.1;
            box_once(
                on_the_way(path.head(), || access(&key, &here))
                    .and_then(|()| Ok(here.get(&key)?))
                    .map(|found| (found, path.cons(key))),
            )
        }),
    )
}

fn index_if_any() -> Fun<Data> {
    (
        "n_index_if_any",
        v(1),
        Native::new(|mut cv| {
            let key = cv.0.pop_var();
            Box::new(cv.1.get(&key).ok().into_iter().map(Ok))
        })
        .with_paths(|mut cv| {
            let key = cv.0.pop_var();
            let (here, path) = cv.1;
            match on_the_way(path.head(), || access(&key, &here)) {
                Ok(()) => Box::new(
                    here.get(&key)
                        .ok()
                        .into_iter()
                        .map(move |found| Ok((found, path.clone().cons(key.clone())))),
                ),
                Err(error) => box_once(Err(error)),
            }
        }),
    )
}

fn each() -> Fun<Data> {
    (
        "n_each",
        v(0),
        Native::new(|cv| Box::new(cv.1.values().map(|value| value.map_err(Exn::from)))).with_paths(|cv| {
            let (here, path) = cv.1;
            match on_the_way(path.head(), || iterate(&here)) {
                Ok(()) => Box::new(here.key_values().map(move |entry| {
                    let (key, value) = entry?;
                    Ok((value, path.clone().cons(key)))
                })),
                Err(error) => box_once(Err(error)),
            }
        }),
    )
}

fn each_if_any() -> Fun<Data> {
    (
        "n_each_if_any",
        v(0),
        Native::new(|cv| Box::new(cv.1.entries().into_iter().flatten().map(|(_, value)| Ok(value))))
            .with_paths(|cv| {
                let (here, path) = cv.1;
                match on_the_way(path.head(), || iterate(&here)) {
                    Ok(()) => Box::new(
                        here.entries()
                            .into_iter()
                            .flatten()
                            .map(move |(key, value)| Ok((value, path.clone().cons(key)))),
                    ),
                    Err(error) => box_once(Err(error)),
                }
            }),
    )
}

fn alternative() -> Fun<Data> {
    (
        "n_alternative",
        [Bind::Fun(()), Bind::Fun(())].into(),
        Native::new(|mut cv: Cv<'_>| {
            let (b, of_b) = cv.0.pop_fun();
            let (a, of_a) = cv.0.pop_fun();
            let mut truthy =
                a.run((of_a, cv.1.clone())).filter(|made| made.as_ref().map_or(true, Value::is_truthy));
            match truthy.next() {
                Some(first) => Box::new(std::iter::once(first).chain(truthy)),
                None => b.run((of_b, cv.1)),
            }
        })
        .with_paths(|mut cv| {
            let (b, of_b) = cv.0.pop_fun();
            let (a, of_a) = cv.0.pop_fun();
            let mut truthy = a
                .paths((of_a, cv.1.clone()))
                .filter(|made| made.as_ref().map_or(true, |(made, _)| made.is_truthy()));
            match truthy.next() {
                Some(first) => Box::new(std::iter::once(first).chain(truthy)),
                None => b.paths((of_b, cv.1)),
            }
        }),
    )
}

fn limited() -> Fun<Data> {
    (
        "n_limit",
        [Bind::Var(()), Bind::Fun(())].into(),
        Native::new(|mut cv| {
            let (f, context) = cv.0.pop_fun();
            limit(&cv.0.pop_var(), f.run((context, cv.1)))
        })
        .with_paths(|mut cv| {
            let (f, context) = cv.0.pop_fun();
            limit(&cv.0.pop_var(), f.paths((context, cv.1)))
        }),
    )
}

fn skipped() -> Fun<Data> {
    (
        "n_skip",
        [Bind::Var(()), Bind::Fun(())].into(),
        Native::new(|mut cv| {
            let (f, context) = cv.0.pop_fun();
            let n = whole(&cv.0.pop_var());
            Box::new(skip(n, f.run((context, cv.1))))
        })
        .with_paths(|mut cv| {
            let (f, context) = cv.0.pop_fun();
            let n = whole(&cv.0.pop_var());
            Box::new(skip(n, f.paths((context, cv.1))))
        }),
    )
}

/// Where a path went astray, if this is such a step.
fn left_at(step: &Value) -> Option<&Value> {
    match &step.0 {
        Kind::Astray(value) => Some(value),
        _ => None,
    }
}

/// What goes astray may end nowhere, but not go on.
fn on_the_way<'a>(last: Option<&Value>, what: impl FnOnce() -> String) -> Result<(), Exn<'a, Value>> {
    match last.and_then(left_at) {
        None => Ok(()),
        Some(_) => Err(failure(format!("Invalid path expression near attempt to {}", what())).into()),
    }
}

fn access(key: &Value, of: &Value) -> String {
    format!("access element {} of {}", key.excerpt(15), of.excerpt(30))
}

fn iterate(through: &Value) -> String {
    format!("iterate through {}", through.excerpt(15))
}

/// How many: a part of one is one more.
fn whole(n: &Value) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    n.as_number().map_or(usize::MAX, |n| n.ceil() as usize)
}

/// The first few; who asks for so many that are no number is told so with the first.
fn limit<'a, T: 'a>(
    n: &Value,
    of: BoxIter<'a, Result<T, Exn<'a, Value>>>,
) -> BoxIter<'a, Result<T, Exn<'a, Value>>> {
    if n.as_number().is_some() {
        return Box::new(of.take(whole(n)));
    }
    let refused = n.clone() - Value::count(1);
    Box::new(of.take(1).map(move |first| match (first, refused.clone()) {
        (Ok(_), Err(why)) => Err(why.into()),
        (first, _) => first,
    }))
}

/// Errors are not skipped.
fn skip<T, E>(n: usize, of: impl Iterator<Item = Result<T, E>>) -> impl Iterator<Item = Result<T, E>> {
    let mut left = n;
    of.filter(move |made| {
        let is_skipped = left > 0 && made.is_ok();
        left -= usize::from(is_skipped);
        !is_skipped
    })
}

/// A path from its end, which leads to a value if it did not go astray.
pub(super) fn listed<'a>(value: &Value, mut steps: Vec<Value>) -> Result<Value, Exn<'a, Value>> {
    if steps.first().is_some_and(|step| left_at(step).is_some()) {
        return Err(failure(format!("Invalid path expression with result {}", value.excerpt(30))).into());
    }
    steps.reverse();
    Ok(Value::flat(steps))
}
