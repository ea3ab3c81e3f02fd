//! Reads expressions by jq's own grammar.

use super::ast::{Definition, Key, Part, Pattern, Term};
use super::lex::{Piece, Tok, Token, lex};

/// Expressions written by people do not nest deeper than this.
const MAX_DEPTH: usize = 100;

const KEYWORDS: [&str; 19] = [
    "as", "def", "module", "import", "include", "if", "then", "else", "elif", "reduce", "foreach", "end",
    "and", "or", "try", "catch", "label", "break", "__loc__",
];

type Parsed<T> = Result<T, String>;

/// Reads an expression. One that is only definitions is `.`, as in jq.
///
/// # Errors
/// A sentence.
pub(super) fn parse(source: &str) -> Parsed<Term> {
    let tokens = lex(source)?;
    let mut parser = Parser { source, tokens: &tokens, at: 0, depth: 0, end: source.len() };
    if parser.is_word("module") || parser.is_word("import") || parser.is_word("include") {
        return Err("`include` and `import` are not supported".to_owned());
    }
    let term = parser.program()?;
    match parser.tokens.get(parser.at) {
        None => Ok(term),
        Some(_) => Err(parser.unexpected("the end of the expression")),
    }
}

/// Reads definitions.
///
/// # Errors
/// A sentence.
pub(super) fn parse_definitions(source: &str) -> Parsed<Vec<Definition>> {
    let tokens = lex(source)?;
    let mut parser = Parser { source, tokens: &tokens, at: 0, depth: 0, end: source.len() };
    let mut definitions = Vec::new();
    while parser.at < parser.tokens.len() {
        definitions.push(parser.definition()?);
    }
    Ok(definitions)
}

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// The byte behind the last token.
    end: usize,
}

/// How tightly an operator binds, and whether to the left, to the right, or not with its like.
fn operator(kind: &Tok) -> Option<(u8, Side, &'static str)> {
    let name = match kind {
        Tok::Op(op) => op,
        Tok::Word(word) if word == "and" => "and",
        Tok::Word(word) if word == "or" => "or",
        _ => return None,
    };
    let (level, side) = match name {
        "|" => (1, Side::Right),
        "," => (2, Side::Left),
        "//" => (3, Side::Right),
        "=" | "|=" | "+=" | "-=" | "*=" | "/=" | "%=" | "//=" => (4, Side::None),
        "or" => (5, Side::Left),
        "and" => (6, Side::Left),
        "==" | "!=" | "<" | ">" | "<=" | ">=" => (7, Side::None),
        "+" | "-" => (8, Side::Left),
        "*" | "/" | "%" => (9, Side::Left),
        _ => return None,
    };
    Some((level, side, name))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    None,
}

fn binary(left: Term, op: &'static str, right: Term) -> Term {
    let (left, right) = (Box::new(left), Box::new(right));
    match op {
        "|" => Term::Pipe(left, right),
        "," => Term::Comma(left, right),
        "//" => Term::Alternative(left, right),
        "and" => Term::And(left, right),
        "or" => Term::Or(left, right),
        "=" | "|=" | "+=" | "-=" | "*=" | "/=" | "%=" | "//=" => Term::Assign(left, op, right),
        _ => Term::Binary(left, op, right),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Tok> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Tok::Op(found)) if *found == op)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Tok::Word(found)) if found == word)
    }

    fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, op: &str) -> Parsed<()> {
        if self.take_op(op) { Ok(()) } else { Err(self.unexpected(&format!("`{op}`"))) }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        let begin = self.tokens.get(self.at).map_or(self.end, |token| token.at);
        let rest = self.source.get(begin..self.end.max(begin)).unwrap_or_default();
        if self.tokens.get(self.at).is_none() {
            return format!("{wanted} is expected, not the end of the expression");
        }
        format!("{wanted} is expected, not `{}`", crate::error::excerpt(rest))
    }

    /// Runs one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn program(&mut self) -> Parsed<Term> {
        let mut definitions = Vec::new();
        while self.is_word("def") {
            definitions.push(self.definition()?);
        }
        let body = if definitions.is_empty() || self.at < self.tokens.len() {
            self.expression(1)?
        } else {
            Term::Id
        };
        Ok(definitions.into_iter().rev().fold(body, |body, def| Term::Define(Box::new(def), Box::new(body))))
    }

    /// An expression whose operators all bind at least so tightly.
    fn expression(&mut self, least: u8) -> Parsed<Term> {
        self.nested(|p| p.operators(least))
    }

    fn operators(&mut self, least: u8) -> Parsed<Term> {
        let mut left = self.unary()?;
        let mut level_above = u8::MAX;
        loop {
            if self.take_op("?") {
                left = Term::Try(Box::new(left), None);
                continue;
            }
            let Some((level, side, op)) = self.peek().and_then(operator) else { return Ok(left) };
            if level < least {
                return Ok(left);
            }
            if side == Side::None && level_above == level {
                return Err(self.unexpected("no further operator of this kind"));
            }
            self.at += 1;
            let right = self.expression(if side == Side::Right { level } else { level + 1 })?;
            left = binary(left, op, right);
            level_above = level;
        }
    }

    fn unary(&mut self) -> Parsed<Term> {
        match self.peek() {
            Some(Tok::Op("-")) => {
                self.at += 1;
                Ok(Term::Neg(Box::new(self.expression(9)?)))
            }
            Some(Tok::Word(word)) => match word.as_str() {
                "def" => {
                    let definition = self.definition()?;
                    Ok(Term::Define(Box::new(definition), Box::new(self.expression(1)?)))
                }
                "try" => {
                    self.at += 1;
                    let body = self.nested(Self::unary)?;
                    let handler =
                        if self.take_word("catch") { Some(self.nested(Self::unary)?) } else { None };
                    Ok(Term::Try(Box::new(body), handler.map(Box::new)))
                }
                "reduce" => self.reduce(),
                "foreach" => self.foreach(),
                "if" => {
                    self.at += 1;
                    self.condition()
                }
                "label" => self.label(),
                _ => self.bound_term(),
            },
            _ => self.bound_term(),
        }
    }

    fn bound_term(&mut self) -> Parsed<Term> {
        let term = self.nested(Self::term)?;
        if !self.take_word("as") {
            return Ok(term);
        }
        let pattern = self.patterns()?;
        self.expect("|")?;
        Ok(Term::Bind(Box::new(term), pattern, Box::new(self.expression(1)?)))
    }

    fn label(&mut self) -> Parsed<Term> {
        self.at += 1;
        let name = self.variable()?;
        self.expect("|")?;
        Ok(Term::Label(name, Box::new(self.expression(1)?)))
    }

    fn reduce(&mut self) -> Parsed<Term> {
        self.at += 1;
        let (source, pattern) = self.source()?;
        let init = self.expression(1)?;
        self.expect(";")?;
        let update = self.expression(1)?;
        self.expect(")")?;
        Ok(Term::Reduce(Box::new(source), pattern, Box::new(init), Box::new(update)))
    }

    fn foreach(&mut self) -> Parsed<Term> {
        self.at += 1;
        let (source, pattern) = self.source()?;
        let init = self.expression(1)?;
        self.expect(";")?;
        let update = self.expression(1)?;
        let extract = if self.take_op(";") { Some(Box::new(self.expression(1)?)) } else { None };
        self.expect(")")?;
        Ok(Term::Foreach(Box::new(source), pattern, Box::new(init), Box::new(update), extract))
    }

    fn source(&mut self) -> Parsed<(Term, Pattern)> {
        let source = self.nested(Self::term)?;
        self.expect_word("as")?;
        let pattern = self.patterns()?;
        self.expect("(")?;
        Ok((source, pattern))
    }

    fn condition(&mut self) -> Parsed<Term> {
        let condition = self.expression(1)?;
        self.expect_word("then")?;
        let then = self.expression(1)?;
        let otherwise = if self.take_word("elif") {
            Some(self.nested(Self::condition)?)
        } else if self.take_word("else") {
            let otherwise = self.expression(1)?;
            self.expect_word("end")?;
            Some(otherwise)
        } else {
            self.expect_word("end")?;
            None
        };
        Ok(Term::If(Box::new(condition), Box::new(then), otherwise.map(Box::new)))
    }

    fn variable(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Tok::Var(name)) => {
                self.at += 1;
                Ok(name.clone())
            }
            _ => Err(self.unexpected("a variable")),
        }
    }

    fn definition(&mut self) -> Parsed<Definition> {
        self.expect_word("def")?;
        let name = self.name()?;
        let mut params = Vec::new();
        if self.take_op("(") {
            loop {
                params.push(match self.peek() {
                    Some(Tok::Var(_)) => format!("${}", self.variable()?),
                    _ => self.name()?,
                });
                if !self.take_op(";") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.expect(":")?;
        let body = self.expression(1)?;
        self.expect(";")?;
        Ok(Definition { name, params, body })
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Tok::Word(word)) if !KEYWORDS.contains(&word.as_str()) => {
                self.at += 1;
                Ok(word.clone())
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn patterns(&mut self) -> Parsed<Pattern> {
        let pattern = self.nested(Self::pattern)?;
        if self.is_op("?//") {
            return Err("`?//` is not known here".to_owned());
        }
        let mut names = pattern.variables();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(format!("`${}` is bound twice in one pattern", pair.first().unwrap_or(&""))),
            None => Ok(pattern),
        }
    }

    fn pattern(&mut self) -> Parsed<Pattern> {
        if self.take_op("[") {
            let mut patterns = vec![self.nested(Self::pattern)?];
            while self.take_op(",") {
                patterns.push(self.nested(Self::pattern)?);
            }
            self.expect("]")?;
            return Ok(Pattern::Array(patterns));
        }
        if self.take_op("{") {
            let mut members = vec![self.pattern_member()?];
            while self.take_op(",") {
                members.push(self.pattern_member()?);
            }
            self.expect("}")?;
            return Ok(Pattern::Object(members));
        }
        self.variable().map(Pattern::Var).map_err(|_| self.unexpected("a variable, `[` or `{`"))
    }

    fn pattern_member(&mut self) -> Parsed<(Term, Option<String>, Option<Pattern>)> {
        let (key, name) = match self.peek() {
            Some(Tok::Var(name)) => {
                self.at += 1;
                (Term::text(name), Some(name.clone()))
            }
            Some(Tok::Word(word)) => {
                self.at += 1;
                (Term::text(word), None)
            }
            Some(Tok::Text(_) | Tok::Format(_)) => (self.string()?, None),
            Some(Tok::Op("(")) => {
                self.at += 1;
                let key = self.expression(1)?;
                self.expect(")")?;
                (key, None)
            }
            _ => return Err(self.unexpected("a key")),
        };
        if key.as_text().is_none() && !matches!(key, Term::Var(_)) {
            return Err("in a pattern only names, strings and variables can be keys here".to_owned());
        }
        if self.take_op(":") {
            Ok((key, name, Some(self.nested(Self::pattern)?)))
        } else if name.is_some() {
            Ok((key, name, None))
        } else {
            Err(self.unexpected("`:`"))
        }
    }

    fn term(&mut self) -> Parsed<Term> {
        let mut term = self.primary()?;
        loop {
            let Some(token) = self.peek() else { return Ok(term) };
            term = match token {
                Tok::Field(name) => {
                    self.at += 1;
                    Term::Index(Box::new(term), Box::new(Term::text(name)), self.take_op("?"))
                }
                Tok::Op("[") => self.brackets(term)?,
                Tok::Op(".") => {
                    self.at += 1;
                    match self.peek() {
                        Some(Tok::Op("[")) => self.brackets(term)?,
                        Some(Tok::Text(_) | Tok::Format(_)) => self.text_index(term)?,
                        _ => return Err(self.unexpected("a name, a string or `[`")),
                    }
                }
                _ => return Ok(term),
            };
        }
    }

    fn text_index(&mut self, term: Term) -> Parsed<Term> {
        let key = self.string()?;
        Ok(Term::Index(Box::new(term), Box::new(key), self.take_op("?")))
    }

    /// What stands in brackets behind a term.
    fn brackets(&mut self, term: Term) -> Parsed<Term> {
        self.expect("[")?;
        let term = Box::new(term);
        if self.take_op("]") {
            return Ok(Term::Each(term, self.take_op("?")));
        }
        if self.take_op(":") {
            let to = Box::new(self.expression(1)?);
            self.expect("]")?;
            return Ok(Term::Slice(term, None, Some(to), self.take_op("?")));
        }
        let first = Box::new(self.expression(1)?);
        if !self.take_op(":") {
            self.expect("]")?;
            return Ok(Term::Index(term, first, self.take_op("?")));
        }
        let to = if self.is_op("]") { None } else { Some(Box::new(self.expression(1)?)) };
        self.expect("]")?;
        Ok(Term::Slice(term, Some(first), to, self.take_op("?")))
    }

    fn primary(&mut self) -> Parsed<Term> {
        let Some(token) = self.peek() else { return Err(self.unexpected("a term")) };
        match token {
            Tok::Text(_) => return self.string(),
            Tok::Op("[") => return self.array(),
            Tok::Op("{") => return self.object(),
            Tok::Word(word) if word == "break" => {
                self.at += 1;
                return Ok(Term::Break(self.variable()?));
            }
            Tok::Word(word) if KEYWORDS.contains(&word.as_str()) => return Err(self.unexpected("a term")),
            Tok::Word(word) => {
                self.at += 1;
                return self.call(word);
            }
            _ => {}
        }
        let at = self.tokens.get(self.at).map_or(0, |token| token.at);
        self.at += 1;
        match token {
            Tok::Op("..") => Ok(Term::Recurse),
            Tok::Op(".") => match self.peek() {
                Some(Tok::Text(_) | Tok::Format(_)) if self.begins_text() => self.text_index(Term::Id),
                _ => Ok(Term::Id),
            },
            Tok::Op("(") => {
                let term = self.expression(1)?;
                self.expect(")")?;
                Ok(term)
            }
            Tok::Field(name) => {
                Ok(Term::Index(Box::new(Term::Id), Box::new(Term::text(name)), self.take_op("?")))
            }
            Tok::Number(number) => Ok(Term::Number(number.clone())),
            Tok::Format(name) => {
                if matches!(self.peek(), Some(Tok::Text(_))) {
                    self.at -= 1;
                    return self.string();
                }
                Ok(Term::Format(name.clone()))
            }
            Tok::Var(name) if name == "__loc__" => {
                let before = self.source.get(..at).unwrap_or_default();
                Ok(Term::Location(1 + before.bytes().filter(|b| *b == b'\n').count()))
            }
            Tok::Var(name) => Ok(Term::Var(name.clone())),
            _ => {
                self.at -= 1;
                Err(self.unexpected("a term"))
            }
        }
    }

    /// Whether a string follows, rather than a format that stands for itself.
    fn begins_text(&self) -> bool {
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        matches!(self.peek(), Some(Tok::Text(_))) || matches!(next, Some(Tok::Text(_)))
    }

    fn array(&mut self) -> Parsed<Term> {
        self.at += 1;
        if self.take_op("]") {
            return Ok(Term::Array(None));
        }
        let items = self.expression(1)?;
        self.expect("]")?;
        Ok(Term::Array(Some(Box::new(items))))
    }

    fn call(&mut self, name: &str) -> Parsed<Term> {
        let mut arguments = Vec::new();
        if self.take_op("(") {
            loop {
                arguments.push(self.expression(1)?);
                if !self.take_op(";") {
                    break;
                }
            }
            self.expect(")")?;
        }
        Ok(Term::Call(name.to_owned(), arguments))
    }

    /// A string, perhaps behind a format.
    fn string(&mut self) -> Parsed<Term> {
        let format = match self.peek() {
            Some(Tok::Format(name)) => {
                self.at += 1;
                Some(name.clone())
            }
            _ => None,
        };
        let Some(Tok::Text(pieces)) = self.peek() else { return Err(self.unexpected("a string")) };
        self.at += 1;
        let mut parts = Vec::new();
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.clone()),
                Piece::Code(tokens) => Part::Term(self.inner(tokens)?),
            });
        }
        Ok(Term::Text(format, parts))
    }

    /// What is put into a string.
    fn inner(&mut self, tokens: &[Token]) -> Parsed<Term> {
        let end = self.tokens.get(self.at).map_or(self.end, |token| token.at);
        let mut inner = Parser { source: self.source, tokens, at: 0, depth: self.depth, end };
        let term = inner.expression(1)?;
        match inner.peek() {
            None => Ok(term),
            Some(_) => Err(inner.unexpected("`)`")),
        }
    }

    fn object(&mut self) -> Parsed<Term> {
        self.at += 1;
        let mut members = Vec::new();
        while !self.take_op("}") {
            members.push(self.member()?);
            if !self.take_op(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Term::Object(members))
    }

    fn member(&mut self) -> Parsed<(Key, Option<Term>)> {
        let (key, needs_value) = match self.peek() {
            Some(Tok::Var(name)) if name == "__loc__" => {
                let line = self.primary()?;
                return Ok((Key::Term(Term::text("__loc__")), Some(line)));
            }
            Some(Tok::Var(name)) => {
                self.at += 1;
                (Key::Var(name.clone()), false)
            }
            Some(Tok::Word(word)) => {
                self.at += 1;
                (Key::Term(Term::text(word)), false)
            }
            Some(Tok::Text(_)) => (Key::Term(self.string()?), false),
            Some(Tok::Format(_)) if self.begins_text() => (Key::Term(self.string()?), false),
            Some(Tok::Op("(")) => {
                self.at += 1;
                let key = self.expression(1)?;
                self.expect(")")?;
                (Key::Term(key), true)
            }
            _ => return Err(self.unexpected("a key (other expressions need parentheses)")),
        };
        if needs_value && !self.is_op(":") {
            return Err(self.unexpected("`:`"));
        }
        let value = if self.take_op(":") { Some(self.member_value()?) } else { None };
        Ok((key, value))
    }

    fn member_value(&mut self) -> Parsed<Term> {
        let value = if self.take_op("-") {
            Term::Neg(Box::new(self.nested(Self::negated_value)?))
        } else {
            self.nested(Self::term)?
        };
        if self.take_op("|") {
            return Ok(Term::Pipe(Box::new(value), Box::new(self.nested(Self::member_value)?)));
        }
        Ok(value)
    }

    fn negated_value(&mut self) -> Parsed<Term> {
        if self.take_op("-") {
            return Ok(Term::Neg(Box::new(self.nested(Self::negated_value)?)));
        }
        self.term()
    }
}
