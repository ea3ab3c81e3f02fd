//! The `Prefer` header ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

use http::{HeaderName, HeaderValue};

use crate::http::reply::Answer;
use crate::http::request::Request;

/// How to treat a request with unknown members (RFC 7240, section 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    Strict,
    Lenient,
}

impl Handling {
    /// Returns `None` without a preference or with an unknown one.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let headers = request.parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        // The first of several counts.
        headers.flat_map(|value| value.split(',')).find_map(Self::said)?
    }

    /// Reads the handling from one preference, if that is its name.
    fn said(preference: &str) -> Option<Option<Self>> {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        let said = is("strict").then_some(Self::Strict).or_else(|| is("lenient").then_some(Self::Lenient));
        name.trim().eq_ignore_ascii_case("handling").then_some(said)
    }

    /// Adds the header that confirms the preference.
    pub(crate) fn applied(self, answer: Answer) -> Answer {
        const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
        let value = HeaderValue::from_static(match self {
            Self::Strict => "handling=strict",
            Self::Lenient => "handling=lenient",
        });
        match answer {
            Ok(mut response) => {
                response.headers_mut().insert(PREFERENCE_APPLIED, value);
                Ok(response)
            }
            Err(refusal) => Err(refusal.with_header(PREFERENCE_APPLIED, value)),
        }
    }
}
