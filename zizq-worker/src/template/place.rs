//! Refuses placeholders where a program treats the value as code: code must not come from a payload.
//!
//! This recognizes only what the command itself shows, not a script that runs its arguments as code.

const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"];
/// Programs whose first plain argument is a program.
const FILTERS: [&str; 6] = ["sed", "awk", "gawk", "mawk", "nawk", "jq"];
/// Programs that take code after an option.
const INTERPRETERS: [&str; 7] = ["perl", "python", "python3", "ruby", "node", "php", "lua"];
const CODE_OPTIONS: [&str; 7] = ["-e", "-c", "-E", "-r", "-p", "--expression", "--eval"];

/// The program that would run the next word, which begins with `partial`, as code, if there is one.
pub(super) fn taken_for_code(words: &[String], partial: &str) -> Option<String> {
    words.iter().enumerate().find_map(|(n, word)| {
        let name = word.rsplit('/').next().unwrap_or(word);
        let rest = words.get(n + 1..).unwrap_or_default();
        let takes = match name {
            "eval" | "let" => true,
            "ssh" => rest.iter().any(|word| !word.starts_with('-')),
            "su" => rest.last().is_some_and(|last| last == "-c" || last == "--command"),
            _ if SHELLS.contains(&name) => is_shell_code(rest),
            _ if FILTERS.contains(&name) => is_behind_option(rest, partial) || is_first_plain(rest, partial),
            _ if INTERPRETERS.contains(&name) => is_behind_option(rest, partial),
            _ => false,
        };
        takes.then(|| name.to_owned())
    })
}

/// Whether the next word is the first plain word after `-c`.
fn is_shell_code(words: &[String]) -> bool {
    let is_flag = |word: &String| word.starts_with(['-', '+']);
    let option = words.iter().position(|word| is_flag(word) && !word.starts_with("--") && word.contains('c'));
    option.is_some_and(|n| words.iter().skip(n + 1).all(is_flag))
}

fn is_behind_option(words: &[String], partial: &str) -> bool {
    let is_option = |word: &str| CODE_OPTIONS.contains(&word);
    words.last().is_some_and(|word| is_option(word))
        || CODE_OPTIONS.iter().any(|option| partial.starts_with(option))
}

fn is_first_plain(words: &[String], partial: &str) -> bool {
    // The program may come from a file, and these options take arguments.
    let arguments = |word: &String| match word.as_str() {
        "-v" | "-F" | "-l" => 1,
        "--arg" | "--argjson" | "--slurpfile" | "--rawfile" => 2,
        _ => 0,
    };
    let mut left = 0_u8;
    for word in words {
        if matches!(word.as_str(), "-f" | "--file" | "--from-file") || CODE_OPTIONS.contains(&word.as_str()) {
            return false;
        }
        if left > 0 {
            left -= 1;
        } else if word.starts_with('-') {
            left = arguments(word);
        } else {
            return false;
        }
    }
    left == 0 && !partial.starts_with('-')
}

/// Follows a shell line, to know where a placeholder is.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The words of the command so far, and the one that is being read.
    words: Vec<String>,
    word: Option<String>,
    quote: Option<char>,
    /// The commands around each open `$(`.
    outer: Vec<(Vec<String>, Option<String>, Option<char>)>,
    arithmetic: usize,
    in_backticks: bool,
}

impl Place {
    /// Reads on.
    pub(super) fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let step = self.step(c, rest);
            rest = rest.get(step..).unwrap_or_default();
        }
    }

    /// Reads one token. Returns its length in bytes.
    fn step(&mut self, c: char, rest: &str) -> usize {
        let length = c.len_utf8();
        match (self.quote, c) {
            (Some('\''), '\'') => self.quote = None,
            (Some('\''), _) => self.push(c),
            (_, '\\') => {
                let escaped = rest.chars().nth(1).unwrap_or_default();
                self.push(escaped);
                return length + escaped.len_utf8();
            }
            (_, '`') => self.in_backticks = !self.in_backticks,
            (_, '$') if rest.starts_with("$((") => {
                self.arithmetic += 1;
                return 3;
            }
            (_, '$') if rest.starts_with("$(") => {
                let outer = (std::mem::take(&mut self.words), self.word.take(), self.quote.take());
                self.outer.push(outer);
                return 2;
            }
            (_, ')') if self.arithmetic > 0 && rest.starts_with("))") => {
                self.arithmetic -= 1;
                return 2;
            }
            (Some('"'), '"') => self.quote = None,
            (Some(_), _) => self.push(c),
            (None, '"' | '\'') => {
                self.quote = Some(c);
                self.word.get_or_insert_default();
            }
            (None, '(') if rest.starts_with("((") && self.word.is_none() => {
                self.arithmetic += 1;
                return 2;
            }
            (None, ')') if !self.outer.is_empty() => {
                let (words, word, quote) = self.outer.pop().unwrap_or_default();
                (self.words, self.word, self.quote) = (words, word, quote);
                self.word.get_or_insert_default();
            }
            (None, ';' | '|' | '&' | '\n' | '(' | ')') => {
                self.words.clear();
                self.word = None;
            }
            (None, c) if c.is_whitespace() => self.end_word(),
            (None, c) => self.push(c),
        }
        length
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match word.as_str() {
            // Shell keywords after which a command begins.
            "then" | "do" | "else" | "elif" | "if" | "while" | "until" | "!" | "{" | "time" => {
                self.words.clear()
            }
            _ => self.words.push(word),
        }
    }

    /// Why no placeholder may be here, if none may.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.arithmetic > 0 {
            return Some("arithmetic, where the shell runs values as code".to_owned());
        }
        if self.in_backticks {
            return Some("backticks; write $(...) instead".to_owned());
        }
        let is_open = |words: &[String]| {
            let open = words.iter().rposition(|word| word == "[[");
            open.is_some_and(|n| !words.iter().skip(n).any(|word| word == "]]"))
        };
        if is_open(&self.words) {
            return Some("[[ ... ]], where the shell runs some values as code; use [ ... ]".to_owned());
        }
        let partial = self.word.as_deref().unwrap_or_default();
        let inner = taken_for_code(&self.words, partial);
        inner.map(|name| {
            format!(
                "what `{name}` runs as code; pass the value as an argument, or read the payload from standard input"
            )
        })
    }

    /// Reads a value, of which nothing is known.
    pub(super) fn read_value(&mut self) {
        self.push('x');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Script;

    #[test]
    fn a_value_in_the_place_of_code_is_refused() {
        for line in [
            "echo $(( {{.payload.n}} + 1 ))",
            "echo \"$(({{.payload.n}}))\"",
            "(( {{.payload.n}} > 1 )) && true",
            "if [[ {{.payload.n}} -eq 1 ]]; then true; fi",
            "[[ -v {{.payload.n}} ]]",
            "eval echo {{.payload.x}}",
            "eval \"echo {{.payload.x}}\"",
            "true; eval {{.payload.x}}",
            "sh -c \"echo {{.payload.x}}\"",
            "bash -ec {{.payload.x}}",
            "sudo /bin/bash -c \"{{.payload.x}}\" arg",
            "find . -exec sh -c \"rm {{.payload.x}}\" \\;",
            "echo \"$(sh -c {{.payload.x}})\"",
            "echo `echo {{.payload.x}}`",
            "sed s/a/{{.payload.x}}/ file",
            "sed -n \"s/a/{{.payload.x}}/p\" file",
            "cat file | sed -e \"s/a/{{.payload.x}}/\"",
            "awk \"{print {{.payload.x}}}\"",
            "awk -F : \"/{{.payload.x}}/\"",
            "perl -e \"print {{.payload.x}}\"",
            "python3 -c \"print({{.payload.x}})\"",
            "jq \".{{.payload.x}}\" file",
            "let x={{.payload.n}}",
            "ssh host ls {{.payload.x}}",
            "su user -c \"ls {{.payload.x}}\"",
            "while true; do eval {{.payload.x}}; done",
        ] {
            let error = Script::parse(line).err().unwrap_or_else(|| panic!("{line} is accepted"));
            assert!(error.contains("is part of"), "{line}: {error}");
        }
    }

    #[test]
    fn a_value_in_the_place_of_data_is_accepted() {
        for line in [
            "echo {{.payload.x}}",
            "echo \"$(basename {{.payload.x}})\"",
            "echo $((1 + 2)) {{.payload.x}}",
            "[ {{.payload.n}} -eq 1 ] && echo {{.payload.x}}",
            "[[ -n x ]] && echo {{.payload.x}}",
            "sh -c 'echo \"$1\"' sh {{.payload.x}}",
            "bash script.sh {{.payload.x}}",
            "sed -e s/a/b/ {{.payload.file}}",
            "sed s/a/b/ {{.payload.file}}",
            "awk -v x={{.payload.x}} '{print x}'",
            "awk -f prog.awk {{.payload.file}}",
            "perl script.pl {{.payload.x}}",
            "jq --arg x {{.payload.x}} '.a == $x' file",
            "jq . {{.payload.file}}",
            "eval true; echo {{.payload.x}}",
            "echo eval; printf %s {{.payload.x}}",
            "ssh {{.payload.host}}",
            "rm -- {{.payload.file}} | tee log",
        ] {
            assert!(Script::parse(line).is_ok(), "{line}: {:?}", Script::parse(line).err());
        }
    }
}
