//! A job queue server that pushes ready jobs to workers over streams, with leases and acknowledgements, on an
//! embedded store. See ARCHITECTURE.md for the shape.

pub mod clock;
pub mod config;
pub mod engine;
pub mod events;

mod folder;
#[doc(hidden)]
pub mod fuzz;
pub mod handle;
mod handlers;
pub mod hash;
mod http;
pub mod job;
pub mod jq;
pub mod logging;
mod logs;
pub mod notify;
mod open_files;
mod reader;
pub mod serve;
#[cfg(test)]
mod simulation;
pub mod store;
mod syncer;
pub mod turn;
pub mod writer;

/// What can be called, for tests that go through all of it.
#[doc(hidden)]
pub use http::route::all as routes;

/// The name and version of this server, as clients see it.
pub const SERVER: &str = concat!("zizq-server/", env!("CARGO_PKG_VERSION"));
