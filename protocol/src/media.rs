//! Media types: the format of a body, and content negotiation for answers.

/// The two formats of request and response bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json` ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)).
    Json,
    /// `application/msgpack` ([specification](https://github.com/msgpack/msgpack/blob/master/spec.md)).
    MessagePack,
}

impl Format {
    /// The media types of both formats.
    pub const SUPPORTED: [&'static str; 2] = ["application/json", "application/msgpack"];

    /// The media type of this format.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Reads a `Content-Type`. Absent or empty means JSON; parameters such as `charset` are ignored.
    #[must_use]
    pub fn from_content_type(header: Option<&str>) -> Option<Self> {
        let essence = header.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if essence.is_empty() || essence.eq_ignore_ascii_case(Self::Json.media_type()) {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case(Self::MessagePack.media_type()) {
            Some(Self::MessagePack)
        } else {
            None
        }
    }

    /// As [`Self::from_content_type`], for a given body: one that begins like JSON is JSON even if the type is that of
    /// forms, which `curl -d` sends by default.
    #[must_use]
    pub fn of_body(header: Option<&str>, body: &[u8]) -> Option<Self> {
        let format = Self::from_content_type(header);
        let begins_like_json = || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        format.or_else(|| (is_form(header) && begins_like_json()).then_some(Self::Json))
    }

    /// Chooses the format of an answer by the request's `Accept`; see [`negotiate`].
    #[must_use]
    pub fn from_accept(header: Option<&str>) -> Option<Self> {
        let offers = [("application/msgpack", Self::MessagePack), ("application/json", Self::Json)];
        negotiate(header, &offers, Self::Json)
    }
}

/// Whether this is the media type of forms, the default of `curl -d`.
#[must_use]
pub fn is_form(header: Option<&str>) -> bool {
    const FORM: &str = "application/x-www-form-urlencoded";
    let essence = header.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(FORM)
}

/// Picks one of `offers` by an `Accept` header (RFC 9110, section 12.5.1): the most specific range that matches an offer
/// sets its quality, the highest quality wins, quality 0 refuses. Among equals the more specifically named offer wins,
/// then the earlier one. No header, an empty one, or a match by `*/*` only means `default`.
#[must_use]
pub fn negotiate<T: Copy>(accept: Option<&str>, offers: &[(&str, T)], default: T) -> Option<T> {
    let ranges: Vec<Range<'_>> = accept.unwrap_or_default().split(',').filter_map(Range::parse).collect();
    if ranges.is_empty() {
        return Some(default);
    }
    let mut best: Option<((u16, Specificity), T)> = None;
    for (media_type, offer) in offers {
        let Some(range) = ranges.iter().filter(|r| r.matches(media_type)).max_by_key(|r| r.specificity)
        else {
            continue;
        };
        let rank = (range.quality, range.specificity);
        if range.quality > 0 && best.is_none_or(|(best_rank, _)| rank > best_rank) {
            best = Some((rank, *offer));
        }
    }
    best.map(|((_, specificity), offer)| if specificity == Specificity::Any { default } else { offer })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Any,
    Type,
    Exact,
}

struct Range<'a> {
    essence: &'a str,
    specificity: Specificity,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().filter(|e| !e.is_empty())?;
        let specificity = match essence {
            "*/*" | "*" => Specificity::Any,
            _ if essence.ends_with("/*") => Specificity::Type,
            _ => Specificity::Exact,
        };
        let quality = parts
            .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
            .map_or(1000, thousandths);
        Some(Self { essence, specificity, quality })
    }

    fn matches(&self, media_type: &str) -> bool {
        match self.specificity {
            Specificity::Any => true,
            Specificity::Exact => self.essence.eq_ignore_ascii_case(media_type),
            Specificity::Type => {
                let kind = |t: &str| t.split('/').next().unwrap_or_default().to_ascii_lowercase();
                kind(self.essence) == kind(media_type)
            }
        }
    }
}

/// A quality such as `0.25`; a malformed one counts as 1, as if it were absent.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000 before")]
fn thousandths(quality: &str) -> u16 {
    quality.trim().parse::<f32>().map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept() {
        use Format::{Json, MessagePack};
        for (header, expected) in [
            (None, Some(Json)),
            (Some(""), Some(Json)),
            (Some(" , "), Some(Json)),
            (Some("*/*"), Some(Json)),
            (Some("APPLICATION/JSON; charset=utf-8"), Some(Json)),
            (Some("application/msgpack"), Some(MessagePack)),
            (Some("application/json, application/msgpack"), Some(MessagePack)),
            (Some("application/json, application/msgpack;q=0.9"), Some(Json)),
            (Some("application/*"), Some(MessagePack)),
            (Some("application/*, application/msgpack;q=0"), Some(Json)),
            (Some("application/json, */*"), Some(Json)),
            (Some("text/html, */*;q=0.1"), Some(Json)),
            (Some("text/html"), None),
            (Some("application/json;q=0"), None),
            (Some("application/jsonx"), None),
        ] {
            assert_eq!(Format::from_accept(header), expected, "{header:?}");
        }
    }

    #[test]
    fn content_type() {
        assert_eq!(Format::from_content_type(None), Some(Format::Json));
        assert_eq!(Format::from_content_type(Some(" ")), Some(Format::Json));
        assert_eq!(Format::from_content_type(Some("Application/MsgPack; v=1")), Some(Format::MessagePack));
        assert_eq!(Format::from_content_type(Some("text/plain")), None);
    }
}
