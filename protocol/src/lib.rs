//! The wire protocol between a Zizq server and its clients: names and their limits, the job object, requests and
//! answers, and the codecs of the three job streams.
//!
//! This crate does no I/O, reads no clock and starts no task, so that both ends can test it to the byte.
#![warn(missing_docs)]

pub mod access;
pub mod body;
pub mod budget;
pub mod certificate;
pub mod cron;
pub mod encode;
pub mod enqueue;
pub mod error;
pub mod flow;
pub mod frame;
pub mod given;
pub mod id;
pub mod job;
#[cfg(feature = "jq")]
pub mod jq;
mod json;
pub mod lease;
pub mod log;
pub mod malformed;
pub mod media;
mod msgpack;
pub mod name;
mod nullable;
pub mod number;
pub mod object;
pub mod outcome;
pub mod page;
pub mod patch;
pub mod pattern;
pub mod pause;
pub mod payload;
pub mod plural;
pub mod stream;
pub mod synonyms;
pub mod take;
pub mod time;
pub mod trace;
pub mod unit;

/// The version of the HTTP contract that this crate speaks.
pub const CONTRACT_VERSION: &str = "0.7.0";
