//! Pausing and resuming.

use serde::Deserialize;

use crate::nullable::not_null;

/// `PATCH /queues`, `PATCH /crons/{group}/entries/{entry}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PausePatch {
    #[serde(deserialize_with = "Option::deserialize")]
    paused: Option<bool>,
}

impl PausePatch {
    /// Whether it is paused from now on.
    ///
    /// # Errors
    /// A sentence for a `null` (422).
    pub fn paused(&self) -> Result<bool, String> {
        not_null("paused", Some(self.paused)).map(Option::unwrap_or_default)
    }
}
