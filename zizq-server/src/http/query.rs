//! Query strings: every parameter must be known, appear once, and have a valid value.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use protocol::error::excerpt;
use protocol::synonyms;

use super::reply::Refusal;

/// The parameters of a request that have not been read yet.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    params: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The names that were read while parameters were left.
    asked: Vec<&'static str>,
}

impl<'a> Query<'a> {
    /// Splits and decodes a query string: `+` and `%20` are spaces.
    ///
    /// # Errors
    /// 400 for a parameter that is repeated or cannot be decoded.
    pub(crate) fn parse(query: Option<&'a str>) -> Result<Self, Refusal> {
        let mut params: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if params.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::invalid(format!("query parameter `{}` is given twice", excerpt(&name))));
            }
            params.push((name, value));
        }
        Ok(Self { params, asked: Vec::new() })
    }

    /// Returns the value of a parameter without taking it.
    pub(crate) fn peek(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Takes a parameter as text.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        if self.params.is_empty() {
            return None;
        }
        self.asked.push(name);
        let at = self.params.iter().position(|(known, _)| known == name)?;
        Some(self.params.swap_remove(at).1)
    }

    /// Takes a parameter as a value; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 for an invalid value.
    pub(crate) fn value<T>(&mut self, name: &'static str) -> Result<Option<T>, Refusal>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.read(name, T::from_str)
    }

    /// Takes a parameter as the result of `read` on its text; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 if `read` fails.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refusal> {
        let text = self.text(name).filter(|text| !text.is_empty());
        text.map(|text| read(&text).map_err(|e| invalid(name, &text, e))).transpose()
    }

    /// Takes an integer from `lowest` to `highest`.
    ///
    /// # Errors
    /// 400 if it is not an integer, or out of range.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        lowest: u64,
        highest: u64,
    ) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse::<u64>().ok().filter(|n| (lowest..=highest).contains(n));
        number.map(Some).ok_or_else(|| {
            let text = excerpt(&text);
            Refusal::invalid(format!("{name}: `{text}` is not an integer between {lowest} and {highest}"))
        })
    }

    /// Takes a boolean; absent: false. An empty one is refused: it would turn a dry run into the real thing.
    ///
    /// # Errors
    /// 400 if it is neither `true` nor `false`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Refusal> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                let other = excerpt(other);
                Err(Refusal::invalid(format!("{name}: `{other}` is neither true nor false")))
            }
        }
    }

    /// Takes a comma-separated list; empty elements are skipped, and a list without others counts as absent.
    ///
    /// # Errors
    /// 400 for an invalid element.
    pub(crate) fn list<T>(&mut self, name: &'static str) -> Result<Option<Vec<T>>, Refusal>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let elements = text.split(',').filter(|element| !element.is_empty());
        let list = elements.map(|element| parse(name, element)).collect::<Result<Vec<T>, _>>()?;
        Ok(Some(list).filter(|list| !list.is_empty()))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 for a parameter that was not read.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.params.first() {
            None => Ok(()),
            Some((name, value)) => {
                let hint =
                    self.meant(name, value).map_or_else(String::new, |it| format!("; did you mean `{it}`?"));
                let name = excerpt(name);
                Err(Refusal::invalid(format!("query parameter `{name}` is unknown here{hint}")))
            }
        }
    }
}

impl Query<'_> {
    /// Suggests the intended parameter.
    fn meant(&self, name: &str, value: &str) -> Option<String> {
        // Splitting `attempts>=3` at `=` makes it a parameter `attempts>`.
        if let Some(at) = name.find(['<', '>']) {
            let (name, sign) = name.split_at(at);
            let comparison = if value.is_empty() { sign.to_owned() } else { format!("{sign}={value}") };
            let range = synonyms::range(&comparison).filter(|_| self.asked.contains(&name));
            return range.map(|range| format!("{name}={range}"));
        }
        let meant = synonyms::suggest(name, &self.asked)?;
        Some(if value.is_empty() { meant.to_owned() } else { format!("{meant}={}", excerpt(value)) })
    }
}

fn parse<T>(name: &str, text: &str) -> Result<T, Refusal>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|e| invalid(name, text, e))
}

fn invalid(name: &str, text: &str, error: impl Display) -> Refusal {
    Refusal::invalid(format!("{name}: `{}`: {error}", excerpt(text)))
}

fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let mut escapes = spaced.split('%').skip(1);
    let hex = |b: &u8| b.is_ascii_hexdigit();
    if !escapes.all(|escape| escape.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(hex))) {
        return Err(Refusal::invalid(format!("query: `{}` has a `%` without two hex digits", excerpt(text))));
    }
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(Cow::Owned(decoded.into_owned())),
        Err(_) => Err(Refusal::invalid(format!("query: `{}` is not UTF-8 when decoded", excerpt(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_decoded_before_they_are_split() {
        let mut query = Query::parse(Some("queue=a%2Cb+c,,%C3%A4&n=7&e=")).unwrap();
        assert_eq!(query.list::<String>("queue").unwrap().unwrap(), ["a", "b c", "ä"]);
        assert_eq!(query.number("n", 1, 7).unwrap(), Some(7));
        assert_eq!(query.value::<u64>("e").unwrap(), None);
        assert!(query.finish().is_ok());
    }

    #[test]
    fn invalid_queries_are_refused() {
        for bad in ["a=1&a=2", "a=%", "a=%f", "a=%zz", "a=%ff"] {
            assert!(Query::parse(Some(bad)).is_err(), "{bad}");
        }
        let mut query = Query::parse(Some("n=8&m=-1&x")).unwrap();
        assert!(query.number("n", 1, 7).is_err());
        assert!(query.number("m", 0, 7).is_err());
        assert!(query.finish().is_err());
    }
}
