//! Runs the engine through random histories, beside a model that is obviously right.
//!
//! A seed makes a history: commands, time that passes, a clock that is set, readers that do not read, crashes, calls of
//! the store that fail in the middle of a turn ([`disk`]), losses of power, clean stops. After every turn the laws of
//! the contract are checked ([`model`], [`deliveries`], [`outcomes`]), and every now and then the whole store
//! ([`ledger`]). At the end of a history all jobs are worked off, and the store must be empty.
//!
//! ```text
//! cargo test -p zizq-server simulation                     # a few seconds of seeds
//! ZIZQ_SEEDS=1000000 cargo test --release -p zizq-server simulation
//! ZIZQ_SEED=4711 cargo test -p zizq-server simulation      # one of them, told step by step
//! ```

mod access;
mod act;
mod adoption;
mod answers;
mod batches;
mod budgets;
mod bulks;
mod changes;
mod crons;
mod crowds;
mod deliveries;
mod disk;
mod failures;
mod heard;
mod hour;
mod ledger;
mod mirror;
mod model;
mod outcomes;
mod profile;
mod runs;
mod scenarios;
mod streams;
mod times;
mod watchers;
mod world;
