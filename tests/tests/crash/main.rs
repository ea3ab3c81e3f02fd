//! Nothing that was acknowledged is lost, whatever ends the server.
//!
//! [`kill`], [`flow`] and [`reset`] end the process with `kill -9`; what it wrote is still in the page cache. [`powercut`] takes the page
//! cache away as well.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod fate;
mod flow;
mod kill;
mod ledger;
mod link;
mod outcome;
mod powercut;
mod producer;
mod reset;
mod soak;
mod sync_error;
mod worker;
mod world;
