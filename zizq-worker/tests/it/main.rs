//! The real worker against a server that each test scripts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod certificates;
mod cgroups;
mod commands;
mod config;
mod control;
mod ending;
mod fake;
mod flags;
mod http;
mod http_routes;
mod https;
mod leases;
mod limits;
mod outbox;
mod routes;
mod rows;
mod secrets;
mod shutdown;
mod spool;
mod streams;
mod surroundings;
mod templates;
mod told;
mod worker;
