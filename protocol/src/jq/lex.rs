//! The lexer: splits an expression into tokens.

use super::parse_json::unescape;

/// A token, and the byte where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Tok,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tok {
    /// An operator or bracket.
    Op(&'static str),
    /// A name or a keyword.
    Word(String),
    /// `.name`
    Field(String),
    /// `$name`, without the sign
    Var(String),
    /// `@name`, without the sign
    Format(String),
    Number(String),
    /// The pieces of a string: text, and the tokens of what is put in.
    Text(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Code(Vec<Token>),
}

const OPERATORS: [&str; 39] = [
    "?//", "//=", "!=", "==", "//", "|=", "+=", "-=", "*=", "/=", "%=", "<=", ">=", "..", ".", "?", "=", ";",
    ",", ":", "|", "+", "-", "*", "/", "%", "$", "<", ">", "[", "]", "{", "}", "(", ")", "\"", "@", "\\",
    "'",
];
/// Strings in strings in strings …
const MAX_DEPTH: usize = 32;

/// Splits an expression into tokens.
///
/// # Errors
/// A sentence, with the place in bytes.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, String> {
    let mut lexer = Lexer { source, at: 0 };
    let tokens = lexer.tokens(0)?;
    match lexer.rest().chars().next() {
        None => Ok(tokens),
        Some(_) => Err(format!("`)` at byte {} closes nothing", lexer.at)),
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\n' | '\t'));
            if !self.rest().starts_with('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// Until the end, or a parenthesis that was not opened here.
    fn tokens(&mut self, depth: usize) -> Result<Vec<Token>, String> {
        let (mut tokens, mut open) = (Vec::new(), 0_usize);
        loop {
            self.skip_space();
            let rest = self.rest();
            if rest.is_empty() || (open == 0 && rest.starts_with(')')) {
                return Ok(tokens);
            }
            let at = self.at;
            let kind = self.token(depth)?;
            match kind {
                Tok::Op("(") => open += 1,
                Tok::Op(")") => open -= 1,
                _ => {}
            }
            tokens.push(Token { kind, at });
        }
    }

    fn token(&mut self, depth: usize) -> Result<Tok, String> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next().unwrap_or_default());
        let is_head = |c: char| c.is_ascii_alphabetic() || c == '_';
        match first {
            '"' => return self.string(depth).map(Tok::Text),
            '.' if is_head(second) => {
                self.at += 1;
                return Ok(Tok::Field(self.name().to_owned()));
            }
            '$' if is_head(second) => {
                self.at += 1;
                return self.qualified().map(Tok::Var);
            }
            '@' if is_head(second) || second.is_ascii_digit() => {
                self.at += 1;
                return Ok(Tok::Format(self.name().to_owned()));
            }
            _ if is_head(first) => return self.qualified().map(Tok::Word),
            _ if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) => {
                return Ok(Tok::Number(self.number().to_owned()));
            }
            _ => {}
        }
        match OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            Some(op) if !matches!(*op, "@" | "\\" | "'" | "\"") => {
                self.at += op.len();
                Ok(Tok::Op(op))
            }
            _ => Err(format!("`{first}` at byte {} means nothing in jq", self.at)),
        }
    }

    fn name(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn qualified(&mut self) -> Result<String, String> {
        let name = self.name();
        if self.rest().starts_with("::") {
            return Err(format!("`{name}::` names a module, and modules are not supported"));
        }
        Ok(name.to_owned())
    }

    fn number(&mut self) -> &'a str {
        let begin = self.at;
        self.take_while(|c| c.is_ascii_digit());
        if self.rest().starts_with('.') {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let rest = self.rest();
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                self.at += rest.len() - digits.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        self.source.get(begin..self.at).unwrap_or_default()
    }

    fn string(&mut self, depth: usize) -> Result<Vec<Piece>, String> {
        let begin = self.at;
        self.at += 1;
        if depth > MAX_DEPTH {
            return Err("its strings nest too deeply".to_owned());
        }
        let mut pieces = Vec::new();
        loop {
            let text = self.take_while(|c| c != '"' && c != '\\');
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            let rest = self.rest();
            if rest.is_empty() {
                return Err(format!("the string at byte {begin} has no end"));
            }
            if rest.starts_with('"') {
                self.at += 1;
                return Ok(pieces);
            }
            if rest.starts_with("\\(") {
                self.at += 2;
                let code = self.tokens(depth + 1)?;
                if !self.rest().starts_with(')') {
                    return Err(format!("a `\\(` has no end in the string at byte {begin}"));
                }
                self.at += 1;
                pieces.push(Piece::Code(code));
            } else {
                pieces.push(Piece::Text(self.escapes()?));
            }
        }
    }

    /// All escapes that follow each other, for two of them may be one character.
    fn escapes(&mut self) -> Result<String, String> {
        let begin = self.at;
        while self.rest().starts_with('\\') && !self.rest().starts_with("\\(") {
            let escaped = self.rest().chars().nth(1).unwrap_or_default();
            self.at += 1 + escaped.len_utf8();
            if escaped == 'u' {
                let digits = self.rest().bytes().take(4).take_while(u8::is_ascii_alphanumeric).count();
                self.at += digits;
            }
        }
        let escapes = self.source.get(begin..self.at).unwrap_or_default();
        unescape(escapes).map_err(|why| format!("`{escapes}` at byte {begin}: {why}"))
    }
}
