//! Lists that are read a page at a time.

use serde::{Deserialize, Serialize};

/// The size of a page that does not say.
pub const DEFAULT_PAGE: u64 = 50;
/// The largest page.
pub const MAX_PAGE: u64 = 2_000;

/// Where the pages of a list are, as absolute paths. All three members are always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// This page.
    #[serde(rename = "self")]
    pub this: String,
    /// What follows, where something does.
    pub next: Option<String>,
    /// What came before: none on the first page, and none on an empty one.
    pub prev: Option<String>,
}
