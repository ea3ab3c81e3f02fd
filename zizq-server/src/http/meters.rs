//! What the transport counts.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::error::Code;

use crate::meter::Counter;

#[derive(Debug, Default)]
pub(crate) struct Meters {
    connections: AtomicU64,
    /// Connections and calls that were refused whatever they asked for.
    refused: [Counter; 4],
}

impl Meters {
    /// Counts a connection until the result is dropped.
    pub(super) fn connect(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self)
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a refusal if its reason is not the call itself.
    pub(super) fn refuse(&self, code: Code) {
        let [connections, busy, origin, full] = &self.refused;
        match code {
            Code::TooManyConnections => connections.add(1),
            Code::Busy => busy.add(1),
            Code::ForeignOrigin | Code::ForeignHost => origin.add(1),
            Code::DiskFull => full.add(1),
            _ => {}
        }
    }

    /// How much was refused, by reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 4] {
        let [connections, busy, origin, full] = self.refused.each_ref().map(Counter::get);
        [("connections", connections), ("busy", busy), ("origin", origin), ("full", full)]
    }
}

/// A connection that is counted.
pub(super) struct Connected<'a>(&'a Meters);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
