//! The real worker against a server that each test scripts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod commands;
mod fake;
mod flags;
mod http;
mod leases;
mod outbox;
mod shutdown;
mod streams;
mod worker;
