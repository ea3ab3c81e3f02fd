//! Regular expressions: those of Oniguruma, which jq uses, that mean the same in Rust's `regex`, which needs no more time
//! than there is text. What has no counterpart there, or another meaning, is refused.

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

/// A pattern that jq reads in the same way.
#[derive(Debug)]
pub(super) struct Pattern {
    pub regex: Regex,
    /// Whether its empty matches are known between the bytes of a character, where jq looks for them, too.
    pub is_ascii: bool,
    /// Whether it asks for the ends of words.
    pub has_words: bool,
    pub ignores_case: bool,
}

/// A group of our own: what a `$` found in front of it is a newline at the very end.
pub(super) const END_GROUP: &str = "zqend";
/// What is a part of a word.
pub(super) const WORD: &str = r"\p{L}\p{M}\p{N}\p{Pc}";
const MAX_COMPILED: usize = 4 * 1024 * 1024;

/// The flags that mean anything to a pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub global: bool,
    pub ignore_case: bool,
    pub extended: bool,
    pub dot_all: bool,
}

impl Flags {
    /// # Errors
    /// `Err(None)`: they are no flags; otherwise which are not known here.
    pub(super) fn read(text: &str) -> Result<Self, Option<char>> {
        let mut flags = Self::default();
        for c in text.chars() {
            match c {
                'g' => flags.global = true,
                'i' => flags.ignore_case = true,
                'x' => flags.extended = true,
                'm' | 'p' => flags.dot_all = true,
                's' => {}
                'l' | 'n' => return Err(Some(c)),
                _ => return Err(None),
            }
        }
        Ok(flags)
    }
}

/// # Errors
/// A sentence.
pub(super) fn compile(source: &str, flags: Flags) -> Result<Pattern, String> {
    let refused = |why: String| format!("the regular expression `{}`: {why}", crate::error::excerpt(source));
    let mut translator = Translator { rest: source, flags, ..Translator::default() };
    translator.run().map_err(refused)?;
    let out = translator.out;
    let unknown = |_| refused("it is none, or not known here".to_owned());
    let regex = RegexBuilder::new(&out)
        .case_insensitive(flags.ignore_case)
        .dot_matches_new_line(flags.dot_all)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(unknown)?;
    let hir = regex_syntax::parse(&out).map_err(|_| refused("it is none".to_owned()))?;
    if loops_over_nothing(&hir) {
        return Err(refused("what may be empty is repeated in it, which is not known here".to_owned()));
    }
    let (has_words, ignores_case) = (translator.has_words, flags.ignore_case || translator.ignores_case);
    Ok(Pattern { regex, is_ascii: is_ascii(&hir), has_words, ignores_case })
}

/// Whether something that may match nothing is repeated: how often it does is told differently.
fn loops_over_nothing(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let may_be_empty = repetition.sub.properties().minimum_len() == Some(0);
            (may_be_empty && repetition.max != Some(1)) || loops_over_nothing(&repetition.sub)
        }
        HirKind::Capture(capture) => loops_over_nothing(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(loops_over_nothing),
        _ => false,
    }
}

fn is_ascii(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) => true,
        HirKind::Class(Class::Unicode(class)) => class.ranges().iter().all(|range| range.end().is_ascii()),
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => false,
        HirKind::Repetition(repetition) => is_ascii(&repetition.sub),
        HirKind::Capture(capture) => is_ascii(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(is_ascii),
    }
}

#[derive(Default)]
struct Translator<'a> {
    rest: &'a str,
    out: String,
    flags: Flags,
    /// For each group that is open, whether it captures.
    groups: Vec<bool>,
    ends: usize,
    has_words: bool,
    ignores_case: bool,
    /// Whether a `?`, `*`, `+` or `{}` may follow.
    repeatable: bool,
}

type Done = Result<(), String>;

fn not_known(what: &str) -> String {
    format!("`{what}` is not known here")
}

impl<'a> Translator<'a> {
    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        Some(c)
    }

    fn run(&mut self) -> Done {
        if self.take("(?i)") {
            self.ignores_case = true;
            self.out.push_str("(?i)");
        }
        while let Some(c) = self.next() {
            let repeatable = std::mem::take(&mut self.repeatable);
            match c {
                '(' => self.open()?,
                ')' => {
                    self.groups.pop().ok_or("a `)` closes nothing")?;
                    self.out.push(')');
                    self.repeatable = true;
                }
                '[' => {
                    self.class()?;
                    self.repeatable = true;
                }
                '|' => self.out.push('|'),
                '.' => {
                    self.out.push('.');
                    self.repeatable = true;
                }
                '^' => self.out.push_str("\\A"),
                '$' => self.end()?,
                '\\' => self.escape()?,
                '*' | '+' | '?' | '{' if repeatable => self.repetition(c)?,
                '*' | '+' | '?' | '{' | '}' | ']' => return Err(not_known(&c.to_string())),
                _ if self.flags.extended && c.is_ascii_whitespace() => self.repeatable = repeatable,
                '#' if self.flags.extended => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.rest = self.rest.get(end..).unwrap_or_default();
                    self.repeatable = repeatable;
                }
                _ => self.literal(c),
            }
        }
        if self.groups.is_empty() { Ok(()) } else { Err("a `(` has no end".to_owned()) }
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
        self.repeatable = true;
    }

    /// Flags of groups reach as far as the group, in both.
    fn open(&mut self) -> Done {
        if self.rest.starts_with('*') {
            return Err(not_known("(*"));
        }
        if !self.take("?") {
            self.groups.push(true);
            self.out.push('(');
        } else if self.take(":") {
            self.groups.push(false);
            self.out.push_str("(?:");
        } else if self.take("i:") {
            self.groups.push(false);
            self.ignores_case = true;
            self.out.push_str("(?i:");
        } else {
            let name = self.rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            let is_name = |name: &str| {
                name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && !name.starts_with(END_GROUP)
            };
            match name.filter(|(name, _)| is_name(name)) {
                Some((name, rest)) => {
                    self.out.push_str(&format!("(?<{name}>"));
                    (self.rest, _) = (rest, self.groups.push(true));
                }
                None => {
                    return Err(not_known(&format!("(?{}", self.rest.chars().next().unwrap_or(')'))));
                }
            }
        }
        Ok(())
    }

    /// The end of the text, or the newline there. Where nothing follows, that newline can be taken and given back.
    fn end(&mut self) -> Done {
        let is_last = self.rest.is_empty() || self.rest.starts_with(['|', ')']);
        let closes_all = self.groups.is_empty() || {
            let rest = self.rest.trim_start_matches(')');
            self.rest.len() - rest.len() >= self.groups.len() && (rest.is_empty() || rest.starts_with('|'))
        };
        if !is_last || self.groups.contains(&true) || !closes_all {
            return Err("`$` stands in the middle, which is not known here; `\\z` is the very end".to_owned());
        }
        self.out.push_str(&format!("(?:\\z|(?<{END_GROUP}{}>\\n)\\z)", self.ends));
        self.ends += 1;
        Ok(())
    }

    fn repetition(&mut self, c: char) -> Done {
        self.out.push(c);
        if c == '{' {
            let (range, rest) = self.rest.split_once('}').ok_or_else(|| not_known("{"))?;
            let (least, most) = range.split_once(',').unwrap_or((range, ""));
            let is_number =
                |text: &str| !text.is_empty() && text.len() < 5 && text.bytes().all(|b| b.is_ascii_digit());
            let in_order = most.is_empty() || most.parse::<u16>().ok() >= least.parse().ok();
            if !is_number(least) || !(most.is_empty() || is_number(most)) || !in_order {
                return Err(not_known(&format!("{{{range}}}")));
            }
            self.out.push_str(range);
            self.out.push('}');
            self.rest = rest;
        }
        if self.take("?") {
            self.out.push('?');
        }
        match self.rest.chars().next() {
            Some(next @ ('*' | '+' | '?' | '{')) => Err(not_known(&format!("{c}{next}"))),
            _ => Ok(()),
        }
    }

    fn escape(&mut self) -> Done {
        let c = self.next().ok_or("it ends with a `\\`")?;
        match c {
            'A' => self.out.push_str("\\A"),
            'z' => self.out.push_str("\\z"),
            'Z' => return self.end(),
            'b' | 'B' => {
                self.has_words = true;
                self.out.push('\\');
                self.out.push(c);
            }
            _ => {
                let class = self.class_escape(c)?;
                self.out.push_str(&class);
                self.repeatable = true;
            }
        }
        Ok(())
    }

    /// What means the same in brackets and outside.
    fn class_escape(&mut self, c: char) -> Result<String, String> {
        Ok(match c {
            'd' | 'D' | 's' | 'S' | 't' | 'n' | 'r' | 'f' | 'v' | 'a' => format!("\\{c}"),
            'w' => format!("[{WORD}]"),
            'W' => format!("[^{WORD}]"),
            'e' => "\\x1b".to_owned(),
            'p' | 'P' => {
                let (name, rest) = self
                    .rest
                    .strip_prefix('{')
                    .and_then(|rest| rest.split_once('}'))
                    .filter(|(name, _)| {
                        matches!(
                            *name,
                            "L" | "Lu" | "Ll" | "Lt" | "Lm" | "Lo" | "M" | "N" | "Nd" | "P" | "S" | "Z"
                        )
                    })
                    .ok_or_else(|| not_known(&format!("\\{c}")))?;
                self.rest = rest;
                format!("\\{c}{{{name}}}")
            }
            'x' => {
                let digits =
                    self.rest.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
                let code = code.ok_or_else(|| not_known("\\x"))?;
                self.rest = self.rest.get(2..).unwrap_or_default();
                format!("\\x{code:02x}")
            }
            _ if c.is_ascii_alphanumeric() => return Err(not_known(&format!("\\{c}"))),
            _ => regex_syntax::escape(c.encode_utf8(&mut [0; 4])),
        })
    }

    fn class(&mut self) -> Done {
        let mut out = String::from("[");
        if self.take("^") {
            out.push('^');
        }
        let mut is_first = true;
        loop {
            let c = self.next().ok_or("a `[` has no end")?;
            match c {
                ']' if is_first => return Err(not_known("[]")),
                ']' => break,
                '[' if self.rest.starts_with(':') => out.push_str(self.posix()?),
                '[' => return Err(not_known("[ in brackets")),
                '\\' => {
                    let escaped = self.next().ok_or("it ends with a `\\`")?;
                    let class = match escaped {
                        '-' => "\\-".to_owned(),
                        _ => self.class_escape(escaped)?,
                    };
                    out.push_str(&class);
                }
                '-' if is_first || self.rest.starts_with(']') => out.push_str("\\-"),
                '-' => out.push('-'),
                '&' if self.rest.starts_with('&') => return Err(not_known("&&")),
                _ => out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4]))),
            }
            is_first = false;
        }
        out.push(']');
        self.out.push_str(&out);
        Ok(())
    }

    fn posix(&mut self) -> Result<&'static str, String> {
        let known = [
            ("alpha", "\\p{Alphabetic}"),
            ("digit", "\\d"),
            ("space", "\\s"),
            ("upper", "\\p{Uppercase}"),
            ("lower", "\\p{Lowercase}"),
            ("xdigit", "0-9A-Fa-f"),
        ];
        for (name, class) in known {
            if self.take(&format!(":{name}:]")) {
                return Ok(class);
            }
        }
        Err(not_known("[:"))
    }
}
