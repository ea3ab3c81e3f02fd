//! Starts the real server and worker on free ports and temporary folders, and speaks the contract to them.
//!
//! Every wait ends: with the signal it is for, or after [`wait::PATIENCE`] with a panic that says what was awaited.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

pub mod binaries;
pub mod client;
pub mod crowd;
pub mod demo;
pub mod endpoint;
pub mod events;
pub mod load;
pub mod process;
pub mod raw;
pub mod server;
pub mod stream;
pub mod usage;
pub mod wait;
pub mod worker;

pub use client::{Answer, Client, Http, Wire, id, lease};
pub use server::Server;
pub use stream::{Item, Stream};
pub use worker::Worker;
