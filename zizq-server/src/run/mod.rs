//! What drives an engine: its thread, its turns, what waits for the disk, and the way in for everybody else.

pub mod commit;
pub mod events;
pub mod handle;
mod syncer;
pub mod turn;
pub mod writer;
