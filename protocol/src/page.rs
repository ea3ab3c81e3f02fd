//! Pagination of lists.

use serde::{Deserialize, Serialize};

/// The default size of a page.
pub const DEFAULT_PAGE: u64 = 50;
/// The largest page.
pub const MAX_PAGE: u64 = 2_000;

/// Links to the pages of a list, as absolute paths. All three members are always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// This page.
    #[serde(rename = "self")]
    pub this: String,
    /// The next page, if there is one.
    pub next: Option<String>,
    /// The previous page; `None` on the first page and on an empty one.
    pub prev: Option<String>,
}
