//! Translates jq into the subset of jaq that has the same meaning in both.
//!
//! The two differ in the order of outputs (jq evaluates the right side of `+` first), in what `reduce`, `foreach` and
//! updates do with no or several outputs, and in what a path is. So a tree becomes text for jaq that spells each of these
//! out: sides with several outputs are bound in jq's order, and the rest are functions of our own, whose names begin with
//! `n_`. Names in the expression get a prefix, so that they never collide with ours.

use std::collections::BTreeSet;

use super::ast::{Definition, Key, Part, Pattern, Term};
use super::names::refused;
use super::natives;
use super::number::Num;
use super::value::{Kind, Value};
use super::write;
use super::{library, matching};

type Lowered = Result<String, String>;

/// What an expression becomes.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub text: String,
    /// The values of `$k0`, `$k1` …
    pub constants: Vec<Value>,
    /// The definitions of the library that it needs, by their numbers.
    pub needs: BTreeSet<usize>,
}

/// Lowers one expression or definition.
#[derive(Debug, Default)]
pub(super) struct Lowering {
    /// None: constants stand in the text, as in the library.
    constants: Option<Vec<Value>>,
    needs: BTreeSet<usize>,
    /// Names of functions with the numbers of their parameters.
    functions: Vec<(String, usize)>,
    variables: Vec<String>,
    /// With the number of `try` around each.
    labels: Vec<(String, usize)>,
    tries: usize,
    /// Whether anything asks for the paths of anything: if not, nothing needs to know its path.
    has_paths: bool,
    /// Whether a definition catches errors, and with them what leaves by `break`.
    catches: bool,
    fresh: usize,
    is_library: bool,
}

impl Lowering {
    pub(super) fn of_expression(variables: &[&str]) -> Self {
        let variables = variables.iter().map(|name| (*name).to_owned()).collect();
        Self { constants: Some(Vec::new()), variables, ..Self::default() }
    }

    pub(super) fn of_library() -> Self {
        Self { is_library: true, has_paths: true, ..Self::default() }
    }

    /// # Errors
    /// A sentence: what is not known here.
    pub(super) fn run(mut self, term: &Term) -> Result<Code, String> {
        self.has_paths = asks_for_paths(term);
        self.catches = any(term, &mut |term| match term {
            Term::Define(definition, _) => any(&definition.body, &mut |t| matches!(t, Term::Try(..))),
            _ => false,
        });
        let text = self.term(term, false)?;
        Ok(Code { text, constants: self.constants.unwrap_or_default(), needs: self.needs })
    }

    /// A definition of the library.
    pub(super) fn run_definition(mut self, definition: &Definition) -> Result<Code, String> {
        let text = self.definition(definition)?;
        Ok(Code { text, constants: Vec::new(), needs: self.needs })
    }

    fn fresh(&mut self) -> String {
        self.fresh += 1;
        format!("$t{}", self.fresh)
    }

    fn constant(&mut self, value: Value) -> String {
        let Some(constants) = &mut self.constants else { return write::to_json(&value) };
        constants.push(value);
        format!("$k{}", constants.len() - 1)
    }

    fn text(&mut self, text: &str) -> String {
        self.constant(Value::text(text))
    }

    /// What is no path: where a path is asked for, it is one only if it gives what is there already.
    fn plain(&self, text: String, path: bool) -> String {
        if path { format!("n_same({text})") } else { text }
    }

    fn term(&mut self, term: &Term, path: bool) -> Lowered {
        Ok(match term {
            Term::Id => ".".to_owned(),
            Term::Recurse if path => self.call("recurse", &[], path)?,
            Term::Recurse => "(..)".to_owned(),
            Term::Pipe(a, b) => format!("({} | {})", self.term(a, path)?, self.term(b, path)?),
            Term::Comma(a, b) => format!("({}, {})", self.term(a, path)?, self.term(b, path)?),
            Term::Bind(source, pattern, body) => self.bind(source, pattern, body, path)?,
            Term::If(condition, then, otherwise) => {
                let condition = self.term(condition, false)?;
                let then = self.term(then, path)?;
                let otherwise =
                    otherwise.as_ref().map_or(Ok(".".to_owned()), |term| self.term(term, path))?;
                format!("(if {condition} then {then} else {otherwise} end)")
            }
            Term::Try(body, handler) => {
                self.tries += 1;
                let body = self.term(body, path);
                self.tries -= 1;
                let handler =
                    handler.as_ref().map_or(Ok("n_empty".to_owned()), |term| self.term(term, path))?;
                format!("(try ({}) catch ({handler}))", body?)
            }
            Term::Label(name, body) => {
                self.labels.push((name.clone(), self.tries));
                let body = self.term(body, path);
                self.labels.pop();
                format!("(label $l_{name} | {})", body?)
            }
            Term::Break(name) => self.leave(name)?,
            Term::Alternative(a, b) => {
                let (a, b) = (self.term(a, path)?, self.term(b, path)?);
                if path { format!("n_alternative({a}; {b})") } else { format!("({a} // {b})") }
            }
            Term::Define(definition, body) => {
                let text = self.definition(definition)?;
                let body = self.term(body, path);
                self.functions.pop();
                format!("({text} {})", body?)
            }
            Term::Call(name, arguments) => self.call(name, arguments, path)?,
            Term::Index(of, key, optional) => self.index(of, key, *optional, path)?,
            Term::Each(of, optional) => each(&self.term(of, path)?, *optional, path),
            Term::Slice(of, from, to, optional) => {
                self.slice(of, from.as_deref(), to.as_deref(), *optional, path)?
            }
            made => {
                let text = self.made(made)?;
                self.plain(text, path)
            }
        })
    }

    /// Terms that make something new, which no path leads to.
    fn made(&mut self, term: &Term) -> Lowered {
        match term {
            Term::Array(None) => Ok("[]".to_owned()),
            Term::Array(Some(items)) => Ok(format!("n_collect({})", self.term(items, false)?)),
            Term::Object(members) => self.object(members),
            Term::Neg(of) => Ok(format!("(-({}))", self.term(of, false)?)),
            Term::Reduce(source, pattern, init, update) => self.reduce(source, pattern, init, update),
            Term::Foreach(source, pattern, init, update, extract) => {
                self.foreach(source, pattern, init, update, extract.as_deref())
            }
            Term::Binary(a, op, b) => self.both(a, b, |a, b| format!("({a} {op} {b})")),
            Term::And(a, b) => Ok(format!("({} and {})", self.term(a, false)?, self.term(b, false)?)),
            Term::Or(a, b) => Ok(format!("({} or {})", self.term(a, false)?, self.term(b, false)?)),
            Term::Assign(target, op, value) => self.assign(target, op, value),
            scalar => self.scalar(scalar),
        }
    }

    /// Terms without parts that are paths.
    fn scalar(&mut self, term: &Term) -> Lowered {
        match term {
            Term::Number(number) => {
                let n = Num::read(number).ok_or_else(|| format!("`{number}` is no number"))?;
                Ok(self.constant(Value(Kind::Number(n))))
            }
            Term::Location(line) => {
                let place = [("file", Value::text("<top-level>")), ("line", Value::count(*line))];
                Ok(self.constant(Value::record(place)))
            }
            Term::Var(name) if self.variables.contains(name) => Ok(format!("$v_{name}")),
            Term::Var(name) if name == "ENV" || name == "__prog_args" => {
                Err(format!("`${name}` is not known here: an expression sees nothing of the environment"))
            }
            Term::Var(name) => Err(format!("`${name}` is not defined")),
            Term::Format(name) => format(name),
            Term::Text(format, parts) => self.interpolation(format.as_deref(), parts),
            _ => Err("it uses something that is not supported".to_owned()),
        }
    }

    fn interpolation(&mut self, name: Option<&str>, parts: &[Part]) -> Lowered {
        let format = format(name.unwrap_or("text"))?;
        let texts: Option<String> = parts.iter().map(|part| part.as_text()).collect();
        if let Some(text) = texts {
            return Ok(self.text(&text));
        }
        let mut bindings = Vec::new();
        let mut pieces = Vec::new();
        for part in parts {
            pieces.push(match part {
                Part::Text(text) => self.text(text),
                Part::Term(term) => {
                    let (text, name) = (self.term(term, false)?, self.fresh());
                    bindings.push(format!("{text} as {name} | "));
                    format!("({name} | {format})")
                }
            });
        }
        // The last one that is put in is the outermost loop.
        let bindings: String = bindings.into_iter().rev().collect();
        Ok(format!("({bindings}{})", pieces.join(" + ")))
    }

    fn object(&mut self, members: &[(Key, Option<Term>)]) -> Lowered {
        if members.is_empty() {
            return Ok("{}".to_owned());
        }
        let (mut bindings, mut pairs) = (String::new(), Vec::new());
        for (key, value) in members {
            let name = match key {
                Key::Var(name) if value.is_none() => Term::text(name),
                Key::Var(name) => Term::Var(name.clone()),
                Key::Term(Term::Number(_) | Term::Array(_) | Term::Object(_)) => {
                    return Err("the key of a member must be a string".to_owned());
                }
                Key::Term(term) => term.clone(),
            };
            let name = self.bound(&name, &mut bindings)?;
            let value = match (key, value) {
                (_, Some(value)) => self.bound(value, &mut bindings)?,
                (Key::Var(variable), None) => self.scalar(&Term::Var(variable.clone()))?,
                (Key::Term(_), None) => {
                    let fresh = self.fresh();
                    bindings.push_str(&format!(".[{name}] as {fresh} | "));
                    fresh
                }
            };
            pairs.push(format!("({name}): {value}"));
        }
        Ok(format!("({bindings}{{{}}})", pairs.join(", ")))
    }

    /// A name for each output of a term, in turn; a simple term is its own.
    fn bound(&mut self, term: &Term, bindings: &mut String) -> Lowered {
        let text = self.term(term, false)?;
        if is_simple(term) {
            return Ok(parenthesized(&text));
        }
        let fresh = self.fresh();
        bindings.push_str(&format!("{text} as {fresh} | "));
        Ok(fresh)
    }

    /// Both sides of an operator: jq goes through the outputs of the right one first.
    fn both(&mut self, a: &Term, b: &Term, text: impl Fn(&str, &str) -> String) -> Lowered {
        let is_free = is_simple(a) || is_simple(b);
        let (a, b) = (self.term(a, false)?, self.term(b, false)?);
        if is_free {
            return Ok(text(&a, &b));
        }
        let name = self.fresh();
        Ok(format!("({b} as {name} | {})", text(&a, &name)))
    }

    fn with_variables<T>(&mut self, pattern: &Pattern, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.variables.len();
        self.variables.extend(pattern.variables().into_iter().map(str::to_owned));
        let done = run(self);
        self.variables.truncate(before);
        done
    }

    /// The name that a value gets, and what binds the variables of the pattern to its parts.
    fn pattern(&mut self, pattern: &Pattern) -> Result<(String, String), String> {
        if let Pattern::Var(name) = pattern {
            return Ok((format!("$v_{name}"), String::new()));
        }
        let (name, mut bindings) = (self.fresh(), String::new());
        self.parts(&name, pattern, &mut bindings)?;
        Ok((name, bindings))
    }

    fn parts(&mut self, whole: &str, pattern: &Pattern, out: &mut String) -> Result<(), String> {
        match pattern {
            Pattern::Var(name) => out.push_str(&format!("{whole} as $v_{name} | ")),
            Pattern::Array(patterns) => {
                for (n, pattern) in patterns.iter().enumerate().rev() {
                    let key = self.constant(Value::count(n));
                    self.part(whole, &key, pattern, out)?;
                }
            }
            Pattern::Object(members) => {
                for (key, name, pattern) in members {
                    let key = self.scalar(key)?;
                    if let Some(name) = name {
                        self.part(whole, &key, &Pattern::Var(name.clone()), out)?;
                    }
                    if let Some(pattern) = pattern {
                        self.part(whole, &key, pattern, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, whole: &str, key: &str, pattern: &Pattern, out: &mut String) -> Result<(), String> {
        let name = match pattern {
            Pattern::Var(name) => format!("$v_{name}"),
            _ => self.fresh(),
        };
        out.push_str(&format!("{whole}[{key}] as {name} | "));
        match pattern {
            Pattern::Var(_) => Ok(()),
            _ => self.parts(&name, pattern, out),
        }
    }

    fn bind(&mut self, source: &Term, pattern: &Pattern, body: &Term, path: bool) -> Lowered {
        let source = self.term(source, false)?;
        let (name, parts) = self.pattern(pattern)?;
        let body = self.with_variables(pattern, |me| me.term(body, path))?;
        Ok(format!("({source} as {name} | {parts}{body})"))
    }

    /// Of many outputs the last one counts; of none, null.
    fn reduce(&mut self, source: &Term, pattern: &Pattern, init: &Term, update: &Term) -> Lowered {
        let source = self.term(source, false)?;
        let init = self.term(init, false)?;
        let (name, parts) = self.pattern(pattern)?;
        let update = self.with_variables(pattern, |me| me.term(update, false))?;
        Ok(format!("(reduce ({source}) as {name} ({init}; n_last({parts}{update})))"))
    }

    /// The state and what comes go as a pair into the update, and into what is extracted.
    fn foreach(
        &mut self,
        source: &Term,
        pattern: &Pattern,
        init: &Term,
        update: &Term,
        extract: Option<&Term>,
    ) -> Lowered {
        let source = self.term(source, false)?;
        let init = self.term(init, false)?;
        let (name, parts) = self.pattern(pattern)?;
        let update = self.with_variables(pattern, |me| me.term(update, false))?;
        let extract = match extract {
            None => "n_first".to_owned(),
            Some(term) => {
                let term = self.with_variables(pattern, |me| me.term(term, false))?;
                format!("(n_second as {name} | n_first | {parts}{term})")
            }
        };
        let init_name = self.fresh();
        let update = format!("n_second as {name} | n_first | {parts}{update}");
        Ok(format!("({init} as {init_name} | n_foreach({init_name}; {source}; {update}) | {extract})"))
    }

    fn leave(&self, name: &str) -> Lowered {
        let label = self.labels.iter().rev().find(|(label, _)| label == name);
        let (_, tries) =
            label.ok_or_else(|| format!("there is no `label ${name}` around `break ${name}`"))?;
        if self.tries > *tries {
            return Err(format!("`break ${name}` inside `try` or `?` is not known here; jq would catch it"));
        }
        Ok(format!("(break $l_{name})"))
    }

    fn assign(&mut self, target: &Term, op: &str, value: &Term) -> Lowered {
        let target = self.term(target, true)?;
        if op == "|=" {
            let update = self.term(value, false)?;
            return Ok(format!("n_modify({target}; {update})"));
        }
        let value = self.term(value, false)?;
        let name = self.fresh();
        let action = match op.strip_suffix('=') {
            Some("") | None => format!("n_assign({target}; {name})"),
            Some(op) => format!("n_modify({target}; (. {op} {name}))"),
        };
        Ok(format!("({value} as {name} | {action})"))
    }

    fn index(&mut self, of: &Term, key: &Term, optional: bool, path: bool) -> Lowered {
        let is_free = is_simple(key) && !matches!(key, Term::Id) || matches!(of, Term::Id);
        let key = self.term(key, false)?;
        let of = self.term(of, path)?;
        if is_free {
            return Ok(at(&of, &key, optional, path));
        }
        let name = self.fresh();
        Ok(format!("({key} as {name} | {})", at(&of, &name, optional, path)))
    }

    fn slice(
        &mut self,
        of: &Term,
        from: Option<&Term>,
        to: Option<&Term>,
        optional: bool,
        path: bool,
    ) -> Lowered {
        let (from_name, to_name) = (self.fresh(), self.fresh());
        let bound = |me: &mut Self, term: Option<&Term>| match term {
            Some(term) => me.term(term, false),
            None => Ok("n_null".to_owned()),
        };
        let (from, to) = (bound(self, from)?, bound(self, to)?);
        let of = self.term(of, path)?;
        let key = format!("n_slice({from_name}; {to_name})");
        Ok(format!("({from} as {from_name} | {to} as {to_name} | {})", at(&of, &key, optional, path)))
    }

    /// Leaves its name known.
    fn definition(&mut self, definition: &Definition) -> Lowered {
        let prefix = self.prefix();
        let Definition { name, params, body } = definition;
        self.functions.push((name.clone(), params.len()));
        let (functions, variables) = (self.functions.len(), self.variables.len());
        let (mut names, mut bindings) = (Vec::new(), String::new());
        for param in params {
            let plain = param.strip_prefix('$').unwrap_or(param);
            self.functions.push((plain.to_owned(), 0));
            names.push(format!("{prefix}{plain}"));
            if param.starts_with('$') {
                self.variables.push(plain.to_owned());
                bindings.push_str(&format!("{prefix}{plain} as $v_{plain} | "));
            }
        }
        // It may be called inside a `try`, which would catch what leaves it.
        let labels = std::mem::take(&mut self.labels);
        let body = self.term(body, self.has_paths);
        self.labels = labels;
        self.functions.truncate(functions);
        self.variables.truncate(variables);
        let names = if names.is_empty() { String::new() } else { format!("({})", names.join("; ")) };
        Ok(format!("def {prefix}{name}{names}: {bindings}{};", body?))
    }

    fn prefix(&self) -> &'static str {
        if self.is_library { "l_" } else { "f_" }
    }

    fn call(&mut self, name: &str, arguments: &[Term], path: bool) -> Lowered {
        let arity = arguments.len();
        // Words of the language rather than names.
        if arity == 0 && matches!(name, "null" | "true" | "false") {
            return Ok(self.plain(format!("n_{name}"), path));
        }
        let is_mine = self.functions.iter().rev().any(|(known, n)| known == name && *n == arity);
        if is_mine {
            return self.call_defined(&format!("{}{name}", self.prefix()), arguments, !self.is_library);
        }
        match (name, arguments) {
            ("empty", []) => return Ok("n_empty".to_owned()),
            ("error", []) => return Ok("n_error".to_owned()),
            ("not", []) => return Ok(self.plain("n_not".to_owned(), path)),
            ("now", []) => return Ok(self.plain("$now".to_owned(), path)),
            ("path", [of]) => {
                let of = self.term(of, true)?;
                return Ok(self.plain(format!("n_path({of})"), path));
            }
            ("range", [from, to]) => {
                let text = format!("n_range({}; {})", self.term(from, false)?, self.term(to, false)?);
                return Ok(self.plain(text, path));
            }
            ("getpath", [of]) => return Ok(format!("n_getpath({})", self.term(of, false)?)),
            ("_limit" | "_skip", [n, of]) if self.is_library => {
                let n = self.term(n, false)?;
                return Ok(format!("n{name}({n}; {})", self.term(of, true)?));
            }
            _ => {}
        }
        if natives::is_known(name, arity) && (self.is_library || !name.starts_with('_')) {
            return self.call_native(name, arguments, path);
        }
        check_pattern(name, arguments)?;
        if let Some(number) =
            library::number(name, arity).filter(|_| self.is_library || !name.starts_with('_'))
        {
            self.needs.insert(number);
            return self.call_defined(&format!("l_{name}"), arguments, false);
        }
        Err(match refused(name) {
            Some(why) => format!("`{name}` is not known here: {why}"),
            None => format!("`{name}/{arity}` is not defined in jq 1.7"),
        })
    }

    fn call_defined(&mut self, name: &str, arguments: &[Term], is_own: bool) -> Lowered {
        // What a definition catches would catch a `break` that it calls, too.
        let caught = usize::from(is_own && self.catches);
        self.tries += caught;
        let path = self.has_paths;
        let arguments: Result<Vec<String>, String> =
            arguments.iter().map(|term| self.term(term, path)).collect();
        self.tries -= caught;
        let arguments = arguments?;
        Ok(if arguments.is_empty() { name.to_owned() } else { format!("{name}({})", arguments.join("; ")) })
    }

    /// jq goes through the outputs of the last argument first.
    fn call_native(&mut self, name: &str, arguments: &[Term], path: bool) -> Lowered {
        let complex = arguments.iter().filter(|term| !is_simple(term)).count();
        let (mut bindings, mut texts) = (Vec::new(), Vec::new());
        for argument in arguments {
            let text = self.term(argument, false)?;
            if complex > 1 && !is_simple(argument) {
                let fresh = self.fresh();
                bindings.push(format!("{text} as {fresh} | "));
                texts.push(fresh);
            } else {
                texts.push(text);
            }
        }
        let arguments = if texts.is_empty() { String::new() } else { format!("({})", texts.join("; ")) };
        let bindings: String = bindings.into_iter().rev().collect();
        Ok(self.plain(format!("({bindings}n_{name}{arguments})"), path))
    }
}

fn each(of: &str, optional: bool, path: bool) -> String {
    match (path, optional) {
        (true, true) => format!("({of} | n_each_if_any)"),
        (true, false) => format!("({of} | n_each)"),
        (false, true) => format!("{}[]?", parenthesized(of)),
        (false, false) => format!("{}[]", parenthesized(of)),
    }
}

/// What is at a key, which says nothing of its input.
fn at(of: &str, key: &str, optional: bool, path: bool) -> String {
    match (path, optional) {
        (true, true) => format!("({of} | n_index_if_any({key}))"),
        (true, false) => format!("({of} | n_index({key}))"),
        (false, true) => format!("{}[{key}]?", parenthesized(of)),
        (false, false) => format!("{}[{key}]", parenthesized(of)),
    }
}

fn parenthesized(text: &str) -> String {
    if text == "." || text.starts_with('$') { text.to_owned() } else { format!("({text})") }
}

fn format(name: &str) -> Lowered {
    match name {
        "text" | "json" | "csv" | "tsv" | "html" | "uri" | "sh" | "base64" | "base64d" => {
            Ok(format!("n_format_{name}"))
        }
        _ => Err(format!("`@{name}` is no format of jq 1.7")),
    }
}

/// Looks at a regular expression that stands in an expression: what is wrong with it is said before it runs.
fn check_pattern(name: &str, arguments: &[Term]) -> Result<(), String> {
    let flags = match (name, arguments) {
        ("test" | "match" | "capture" | "scan", [_]) | ("splits", [_]) | ("sub" | "gsub", [_, _]) => None,
        ("test" | "match" | "capture" | "scan" | "splits" | "split", [_, flags]) => Some(flags),
        ("sub" | "gsub", [_, _, flags]) => Some(flags),
        _ => return Ok(()),
    };
    let flags = flags.map_or(Some(String::new()), Term::as_text).unwrap_or_default();
    match arguments.first().and_then(Term::as_text) {
        Some(source) => matching::check(&source, &flags),
        None => Ok(()),
    }
}

/// Whether a term has one output, whatever its input, and never fails.
fn is_simple(term: &Term) -> bool {
    match term {
        Term::Id | Term::Number(_) | Term::Var(_) | Term::Location(_) | Term::Array(None) => true,
        Term::Text(_, parts) => parts.iter().all(|part| matches!(part, Part::Text(_))),
        Term::Call(name, arguments) => {
            arguments.is_empty() && matches!(name.as_str(), "null" | "true" | "false")
        }
        _ => false,
    }
}

/// Whether anything in a term asks for paths.
fn asks_for_paths(term: &Term) -> bool {
    const ASKING: [&str; 3] = ["path", "del", "pick"];
    any(term, &mut |term| match term {
        Term::Assign(..) => true,
        Term::Call(name, _) => ASKING.contains(&name.as_str()),
        _ => false,
    })
}

/// Whether a term or any in it is so.
pub(super) fn any(term: &Term, is: &mut impl FnMut(&Term) -> bool) -> bool {
    if is(term) {
        return true;
    }
    let mut found = false;
    super::walk::children(term, &mut |child| found = found || any(child, is));
    found
}
