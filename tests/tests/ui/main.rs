//! The dashboard in a real browser, against the real server and real workers.
//!
//! Without chromium these tests say that they were skipped; with `CI` set, they need it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod actions;
mod browser;
mod budgets;
mod keyboard;
mod login;
mod modules;
mod operator;
mod proxies;
mod screens;
mod seed;
mod serving;
mod session;
