//! A job queue server that pushes ready jobs to workers over streams, with leases and acknowledgements, on an embedded
//! store. See ARCHITECTURE.md for the design.

mod api;
pub mod clock;
pub mod config;
pub mod engine;

mod batching;
#[doc(hidden)]
pub mod fuzz;
pub mod hash;
mod http;
pub mod job;
pub mod jq;
pub mod logging;
mod logs;
pub mod notify;
mod open_files;
mod reader;
pub mod run;
pub mod serve;
#[cfg(test)]
mod simulation;
pub mod store;

/// The routes of the server, for tests that cover all of them.
#[doc(hidden)]
pub use api::route::{Right, Route, all as routes};

/// The name and version of this server, as clients see it.
pub const SERVER: &str = concat!("zizq-server/", env!("CARGO_PKG_VERSION"));
