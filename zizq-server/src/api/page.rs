//! The requested page of a list, and the links to its neighbors.

use percent_encoding::utf8_percent_encode;
use protocol::page::{DEFAULT_PAGE, MAX_PAGE, Pages};

use super::filters::VALUE;
use crate::http::query::Query;
use crate::http::reply::Refusal;

pub(super) struct Page {
    /// A position in the list. Any text has one, even if no item is there.
    pub from: Option<String>,
    pub descending: bool,
    pub limit: usize,
}

impl Page {
    /// Reads `from`, `order` and `limit` from a query.
    pub(super) fn read(query: &mut Query<'_>) -> Result<Self, Refusal> {
        let from = query.text("from").filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned);
        let descending = match query.text("order").as_deref() {
            None | Some("" | "asc") => false,
            Some("desc") => true,
            Some(other) => {
                let other = protocol::error::excerpt(other);
                return Err(Refusal::invalid(format!("order: `{other}` is neither asc nor desc")));
            }
        };
        let limit = query.number("limit", 1, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
        Ok(Self { from, descending, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    /// Builds the links of a page that begins with the element at `first`; the list goes on after the position `next`.
    pub(super) fn links(
        &self,
        path: &str,
        first: Option<String>,
        next: Option<String>,
        filters: &str,
    ) -> Pages {
        let link = |from: Option<&str>, descending: bool| {
            let mut link = format!("{path}?");
            if let Some(from) = from {
                link.push_str(&format!("from={}&", utf8_percent_encode(from, VALUE)));
            }
            let order = if descending { "desc" } else { "asc" };
            link.push_str(&format!("order={order}&limit={}{filters}", self.limit));
            link
        };
        Pages {
            this: link(self.from.as_deref(), self.descending),
            next: next.map(|next| link(Some(&next), self.descending)),
            prev: first.filter(|_| self.from.is_some()).map(|first| link(Some(&first), !self.descending)),
        }
    }
}
