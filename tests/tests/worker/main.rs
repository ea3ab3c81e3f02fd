//! The real worker on the real server, where it takes longer: crashes of both, and the examples in other languages.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod examples;
mod killed;
mod once;
