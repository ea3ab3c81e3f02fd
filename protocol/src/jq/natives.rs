//! The native functions for jaq, including the few that take expressions as arguments.

use std::cell::RefCell;
use std::rc::Rc;

use jaq_core::box_iter::box_once;
use jaq_core::native::{Fun, v};
use jaq_core::{Bind, Exn, ValXs};

use super::tracked::{self, listed};
use super::value::{MAX_DEPTH, Outcome, TOO_DEEP, Value, failure};
use super::{dates, matching, math, order, parse_json, paths, text, write};

/// What expressions run over: our values, and nothing from outside.
pub(super) type Data = jaq_core::data::JustLut<Value>;
pub(super) type Native = jaq_core::Native<Data>;
pub(super) type Cv<'a> = jaq_core::Cv<'a, Data>;
type Values<'a> = ValXs<'a, Value>;
type Results<'a> = Box<dyn Iterator<Item = Result<Value, Exn<'a, Value>>> + 'a>;

/// A function of a value and the values of its arguments.
macro_rules! native {
    ($name:literal, 0, $f:expr) => {
        (concat!("n_", $name), v(0), Native::new(|cv| once($f(cv.1))))
    };
    ($name:literal, 1, $f:expr) => {
        (
            concat!("n_", $name),
            v(1),
            Native::new(|mut cv| {
                let a = cv.0.pop_var();
                once($f(cv.1, a))
            }),
        )
    };
    ($name:literal, 2, $f:expr) => {
        (
            concat!("n_", $name),
            v(2),
            Native::new(|mut cv| {
                let b = cv.0.pop_var();
                let a = cv.0.pop_var();
                once($f(cv.1, a, b))
            }),
        )
    };
    ($name:literal, 3, $f:expr) => {
        (
            concat!("n_", $name),
            v(3),
            Native::new(|mut cv| {
                let c = cv.0.pop_var();
                let b = cv.0.pop_var();
                let a = cv.0.pop_var();
                once($f(cv.1, a, b, c))
            }),
        )
    };
}

macro_rules! natives {
    ($(($name:literal, $arity:tt, $f:expr)),* $(,)?) => {
        /// Those that expressions may call.
        const KNOWN: &[(&str, usize)] = &[$(($name, $arity)),*];

        fn plain() -> Vec<Fun<Data>> {
            vec![$(native!($name, $arity, $f)),*]
        }
    };
}

pub(super) fn once<'a>(result: Outcome) -> Values<'a> {
    box_once(result.map_err(Exn::from))
}

fn type_of(value: Value) -> Outcome {
    Ok(Value::text(value.kind()))
}

fn to_json(value: Value) -> Outcome {
    Ok(Value::text(write::to_json(&value)))
}

fn from_json(value: Value) -> Outcome {
    match value.as_text() {
        Some(text) => parse_json::parse(text),
        None => Err(failure(format!("{} only strings can be parsed", value.told()))),
    }
}

fn byte_length(value: Value) -> Outcome {
    match value.as_text() {
        Some(text) => Ok(Value::count(text.len())),
        None => Err(failure(format!("{} only strings have UTF-8 byte length", value.told()))),
    }
}

natives! {
    ("length", 0, math::length),
    ("utf8bytelength", 0, byte_length),
    ("keys", 0, paths::keys),
    ("keys_unsorted", 0, paths::keys_unsorted),
    ("tojson", 0, to_json),
    ("fromjson", 0, from_json),
    ("tonumber", 0, parse_json::to_number),
    ("tostring", 0, |value| Ok(write::to_text(value))),
    ("type", 0, type_of),
    ("explode", 0, text::explode),
    ("implode", 0, text::implode),
    ("ascii_downcase", 0, text::lower),
    ("ascii_upcase", 0, text::upper),
    ("startswith", 1, text::starts_with),
    ("endswith", 1, text::ends_with),
    ("ltrimstr", 1, text::trim_start),
    ("rtrimstr", 1, text::trim_end),
    ("split", 1, text::split_by),
    ("format", 1, text::format),
    ("_strindices", 1, text::places),
    ("_match", 3, matching::run),
    ("has", 1, paths::has),
    ("contains", 1, paths::contains),
    ("setpath", 2, paths::set_path),
    ("delpaths", 1, paths::delete_paths),
    ("sort", 0, order::sort),
    ("_sort_by", 1, order::sort_by),
    ("_group_by", 1, order::group_by),
    ("min", 0, order::min),
    ("max", 0, order::max),
    ("_min_by", 1, order::min_by),
    ("_max_by", 1, order::max_by),
    ("infinite", 0, |_| Ok(Value::number(f64::INFINITY))),
    ("nan", 0, |_| Ok(Value::number(f64::NAN))),
    ("isinfinite", 0, math::is_infinite),
    ("isnan", 0, math::is_nan),
    ("isnormal", 0, math::is_normal),
    ("gmtime", 0, dates::gm_time),
    ("mktime", 0, dates::mk_time),
    ("strftime", 1, dates::format_time),
    ("strptime", 1, dates::parse_time),
    ("floor", 0, math::floor),
    ("ceil", 0, math::ceil),
    ("round", 0, math::round),
    ("trunc", 0, math::trunc),
    ("rint", 0, math::rint),
    ("nearbyint", 0, math::rint),
    ("sqrt", 0, math::sqrt),
    ("fabs", 0, math::fabs),
    ("exp", 0, math::exp),
    ("exp2", 0, math::exp2),
    ("expm1", 0, math::expm1),
    ("log", 0, math::log),
    ("log2", 0, math::log2),
    ("log10", 0, math::log10),
    ("log1p", 0, math::log1p),
    ("sin", 0, math::sin),
    ("cos", 0, math::cos),
    ("tan", 0, math::tan),
    ("asin", 0, math::asin),
    ("acos", 0, math::acos),
    ("atan", 0, math::atan),
    ("sinh", 0, math::sinh),
    ("cosh", 0, math::cosh),
    ("tanh", 0, math::tanh),
    ("significand", 0, math::significand),
    ("logb", 0, math::logb),
    ("frexp", 0, math::frexp),
    ("modf", 0, math::modf),
    ("pow", 2, math::pow),
    ("atan2", 2, math::atan2),
    ("hypot", 2, math::hypot),
    ("copysign", 2, math::copysign),
    ("fmod", 2, math::fmod),
    ("drem", 2, math::remainder),
    ("remainder", 2, math::remainder),
    ("fdim", 2, math::fdim),
    ("fmin", 2, math::fmin),
    ("fmax", 2, math::fmax),
    ("nextafter", 2, math::nextafter),
    ("nexttoward", 2, math::nextafter),
    ("ldexp", 2, math::ldexp),
    ("scalb", 2, math::scalb),
    ("scalbln", 2, math::ldexp),
    ("fma", 3, math::fma),
}

/// Those that only what an expression was turned into calls.
fn inner() -> Vec<Fun<Data>> {
    vec![
        native!("null", 0, |_| Ok(Value::NULL)),
        native!("true", 0, |_| Ok(Value::bool(true))),
        native!("false", 0, |_| Ok(Value::bool(false))),
        native!("not", 0, |value: Value| Ok(Value::bool(!value.is_truthy()))),
        native!("slice", 2, |_, from, to| Ok(paths::slice(from, to))),
        native!("first", 0, |pair: Value| pair.get(&Value::count(0))),
        native!("second", 0, |pair: Value| pair.get(&Value::count(1))),
        native!("format_text", 0, |value| Ok(write::to_text(value))),
        native!("format_json", 0, to_json),
        native!("format_csv", 0, text::csv),
        native!("format_tsv", 0, text::tsv),
        native!("format_html", 0, text::html),
        native!("format_uri", 0, text::uri),
        native!("format_sh", 0, text::sh),
        native!("format_base64", 0, text::base64),
        native!("format_base64d", 0, text::base64_decoded),
        ("n_empty", v(0), Native::new(|_| none()).with_paths(|_| Box::new(std::iter::empty()))),
        (
            "n_error",
            v(0),
            Native::new(|cv| box_once(Err(thrown(cv.1)))).with_paths(|cv| box_once(Err(thrown(cv.1.0)))),
        ),
        ("n_range", v(2), Native::new(range)),
        ("n_collect", fun(), Native::new(collect)),
        ("n_last", fun(), Native::new(last)),
        ("n_foreach", [Bind::Var(()), Bind::Fun(()), Bind::Fun(())].into(), Native::new(foreach)),
        ("n_path", fun(), Native::new(path)),
        ("n_assign", [Bind::Fun(()), Bind::Var(())].into(), Native::new(assign)),
        ("n_modify", [Bind::Fun(()), Bind::Fun(())].into(), Native::new(modify)),
    ]
}

pub(super) fn all() -> impl Iterator<Item = Fun<Data>> {
    plain().into_iter().chain(inner()).chain(tracked::all())
}

pub(super) fn is_known(name: &str, arity: usize) -> bool {
    KNOWN.contains(&(name, arity))
}

pub(super) fn fun() -> Box<[Bind]> {
    [Bind::Fun(())].into()
}

fn none<'a>() -> Values<'a> {
    Box::new(std::iter::empty())
}

fn thrown<'a>(value: Value) -> Exn<'a, Value> {
    jaq_core::Error::new(value).into()
}

fn range(mut cv: Cv<'_>) -> Values<'_> {
    let to = cv.0.pop_var();
    let from = cv.0.pop_var();
    let (Some(start), Some(to)) = (from.as_number(), to.as_number()) else {
        return once(Err(failure("Range bounds must be numeric")));
    };
    let mut next = start;
    let mut first = Some(from);
    Box::new(std::iter::from_fn(move || {
        if next >= to {
            return None;
        }
        let here = first.take().unwrap_or_else(|| Value::number(next));
        next += 1.0;
        Some(Ok(here))
    }))
}

fn collect(mut cv: Cv<'_>) -> Values<'_> {
    let (f, context) = cv.0.pop_fun();
    let items: Result<Vec<Value>, _> = f.run((context, cv.1)).collect();
    box_once(items.and_then(|items| Value::array(items).map_err(Exn::from)))
}

fn last(mut cv: Cv<'_>) -> Values<'_> {
    let (f, context) = cv.0.pop_fun();
    let mut last = Value::NULL;
    for made in f.run((context, cv.1)) {
        match made {
            Ok(made) => last = made,
            Err(error) => return box_once(Err(error)),
        }
    }
    box_once(Ok(last))
}

/// Of what comes, each goes with the state into the update, whose every output is the state from then on.
fn foreach(mut cv: Cv<'_>) -> Values<'_> {
    let (update, of_update) = cv.0.pop_fun();
    let (source, of_source) = cv.0.pop_fun();
    let state = Rc::new(RefCell::new(cv.0.pop_var()));
    let pairs = source.run((of_source, cv.1)).flat_map(move |item| -> Results<'_> {
        let item = match item {
            Ok(item) => item,
            Err(error) => return box_once(Err(error)),
        };
        let pair = Value::flat(vec![state.take(), item.clone()]);
        let state = state.clone();
        Box::new(update.run((of_update.clone(), pair)).map(move |made| {
            let made = made?;
            if made.depth() > MAX_DEPTH {
                return Err(failure(TOO_DEEP).into());
            }
            state.replace(made.clone());
            Ok(Value::flat(vec![made, item.clone()]))
        }))
    });
    Box::new(pairs)
}

fn path(mut cv: Cv<'_>) -> Values<'_> {
    let (f, context) = cv.0.pop_fun();
    Box::new(f.paths((context, (cv.1, Default::default()))).map(|found| {
        let (value, path) = found?;
        listed(&value, path.iter().cloned().collect())
    }))
}

fn assign(mut cv: Cv<'_>) -> Values<'_> {
    let new = cv.0.pop_var();
    let (target, context) = cv.0.pop_fun();
    let mut whole = cv.1.clone();
    for found in target.paths((context, (cv.1, Default::default()))) {
        let path = match found.and_then(|(value, path)| listed(&value, path.iter().cloned().collect())) {
            Ok(path) => path,
            Err(error) => return box_once(Err(error)),
        };
        match paths::set_path(whole, path, new.clone()) {
            Ok(changed) => whole = changed,
            Err(error) => return once(Err(error)),
        }
    }
    box_once(Ok(whole))
}

/// What an update has no output for is deleted in the end.
fn modify(mut cv: Cv<'_>) -> Values<'_> {
    let (update, of_update) = cv.0.pop_fun();
    let (target, context) = cv.0.pop_fun();
    let (mut whole, mut gone) = (cv.1.clone(), Vec::new());
    for found in target.paths((context, (cv.1, Default::default()))) {
        let path = match found.and_then(|(value, path)| listed(&value, path.iter().cloned().collect())) {
            Ok(path) => path,
            Err(error) => return box_once(Err(error)),
        };
        let here = match paths::get_path(whole.clone(), path.clone()) {
            Ok(here) => here,
            Err(error) => return once(Err(error)),
        };
        match update.run((of_update.clone(), here)).next() {
            None => gone.push(path),
            Some(Err(error)) => return box_once(Err(error)),
            Some(Ok(made)) => match paths::set_path(whole, path, made) {
                Ok(changed) => whole = changed,
                Err(error) => return once(Err(error)),
            },
        }
    }
    once(paths::delete_paths(whole, Value::flat(gone)))
}
