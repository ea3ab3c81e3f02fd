//! One line to type in: a filter, a command, a search.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Filter,
    Command,
    Search,
}

#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) field: Field,
    /// What it was before, for when it is given up.
    pub(super) before: String,
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: &str) -> Self {
        Self { purpose, field: Field::new(text), before: text.to_owned() }
    }

    pub(super) const fn sign(&self) -> &'static str {
        match self.purpose {
            Purpose::Filter => "filter: ",
            Purpose::Command => ":",
            Purpose::Search => "/",
        }
    }
}

/// Text with a cursor.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) text: String,
    /// Where the cursor is, in bytes.
    at: usize,
}

impl Field {
    pub(super) const fn new_empty() -> Self {
        Self { text: String::new(), at: 0 }
    }

    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), at: text.len() }
    }

    /// The text before the cursor.
    pub(super) fn before(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    pub(super) fn insert(&mut self, text: &str) {
        let text: String = text.chars().filter(|char| !char.is_control()).collect();
        self.text.insert_str(self.at, &text);
        self.at += text.len();
    }

    /// Takes a key. Returns whether it was one for typing.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let previous = self.before().char_indices().next_back().map_or(0, |(at, _)| at);
        let next = self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
            .map_or(self.at, |c| self.at + c.len_utf8());
        match key.code {
            KeyCode::Char('u') if control => self.remove(0, self.at),
            KeyCode::Char('w') if control => {
                let word = self.before().trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.remove(word, self.at);
            }
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.text.len(),
            KeyCode::Char(_) if control => return false,
            KeyCode::Char(char) => self.insert(char.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => self.remove(previous, self.at),
            KeyCode::Delete => self.remove(self.at, next),
            KeyCode::Left => self.at = previous,
            KeyCode::Right => self.at = next,
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            _ => return false,
        }
        true
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.at = from;
    }

    /// Completes the word before the cursor, if only one of these begins so.
    pub(super) fn complete(&mut self, words: &[String]) {
        let start = self.before().rfind(' ').map_or(0, |at| at + 1);
        let word = self.before().get(start..).unwrap_or_default().to_owned();
        let mut fitting = words.iter().filter(|whole| whole.starts_with(&word) && **whole != word);
        if let (Some(whole), None) = (fitting.next(), fitting.next())
            && !word.is_empty()
        {
            let whole = whole.clone();
            self.remove(start, self.at);
            self.insert(&whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(field: &mut Field, keys: &[KeyCode]) {
        for key in keys {
            assert!(field.key(KeyEvent::from(*key)));
        }
    }

    #[test]
    fn characters_are_typed_and_removed_whole() {
        let mut field = Field::new("aé");
        typed(&mut field, &[KeyCode::Left, KeyCode::Char('日'), KeyCode::Delete, KeyCode::Char('b')]);
        assert_eq!(field.text, "a日b");
        typed(&mut field, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Home, KeyCode::Char('x')]);
        assert_eq!(field.text, "xa");
        field.insert("y\nz\x1b");
        assert_eq!((field.text.as_str(), field.before()), ("xyza", "xyz"));
        let control = |char| KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL);
        let mut field = Field::new("one two  ");
        field.key(control('w'));
        assert_eq!(field.text, "one ");
        field.key(control('u'));
        assert_eq!(field.text, "");
    }

    #[test]
    fn a_word_is_completed_when_it_is_certain() {
        let words = ["status:".to_owned(), "status:dead".to_owned(), "queue:".to_owned()];
        let mut field = Field::new("x que");
        field.complete(&words);
        assert_eq!(field.text, "x queue:");
        let mut field = Field::new("sta");
        field.complete(&words);
        assert_eq!(field.text, "sta", "there are two");
        let mut field = Field::new("status:d");
        field.complete(&words);
        assert_eq!(field.text, "status:dead");
    }
}
