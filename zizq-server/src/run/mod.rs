//! Runs the engine: its thread, its turns, the answers that wait for the disk, and the handle for the rest of the
//! server.

pub mod commit;
pub mod events;
pub mod handle;
mod syncer;
pub mod turn;
pub mod writer;
