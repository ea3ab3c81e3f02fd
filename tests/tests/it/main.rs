//! The black-box tests: the real binaries, over real sockets, held against the contract.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod batches;
mod budgets;
mod bulk;
mod change;
mod crons;
mod errors;
mod events;
mod examples;
mod folds;
mod formats;
mod fuzz;
mod jq;
mod large_bulk;
mod leases;
mod lifecycle;
mod load;
mod log;
mod official_client;
mod ops;
mod order;
mod poll;
mod pressure;
mod query;
mod queues;
mod readers;
mod restart;
mod retention;
mod retries;
mod schedule;
mod space;
mod sse;
mod stream;
mod timeouts;
mod unique;
mod worker;
