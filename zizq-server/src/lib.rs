//! A job queue server that pushes ready jobs to workers over streams, with leases and acknowledgements, on an embedded
//! store. See ARCHITECTURE.md for the design.

mod access;
mod admission;
mod api;
mod batching;
mod board;
mod caller;
pub mod cert;
mod clock;
pub mod config;
pub mod control;
mod engine;
#[doc(hidden)]
pub mod fuzz;
mod hash;
pub mod health;
mod histogram;
mod http;
mod job;
mod jq;
mod listeners;
pub mod logging;
mod logs;
mod meter;
pub mod notify;
mod open_files;
mod reader;
mod run;
pub mod serve;
#[cfg(test)]
mod simulation;
mod store;
pub mod top;

/// The routes of the server, for tests that cover all of them.
#[doc(hidden)]
pub use api::route::{Reach, Right, Route, all as routes};

/// The name and version of this server, as clients see it.
pub const SERVER: &str = concat!("zizq-server/", env!("CARGO_PKG_VERSION"));

/// The other role of the program: it runs jq expressions for a server.
pub use jq::helper::run as run_jq_helper;
