//! Time limits for bytes in either direction: they may pause briefly, and beyond that must keep a minimum rate.

use std::time::Duration;

/// How fast a peer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// There is enough memory.
    Calm,
    /// Others need the memory.
    Pressed,
}

impl Manners {
    /// The longest pause between bytes.
    const fn pause(self) -> Duration {
        match self {
            Self::Calm => Duration::from_secs(30),
            Self::Pressed => Duration::from_secs(2),
        }
    }

    /// The minimum rate beyond that, in bytes per second.
    const fn pace(self) -> usize {
        match self {
            Self::Calm => 32 * 1024,
            Self::Pressed => 1024 * 1024,
        }
    }
}

/// How long the next bytes may take.
#[derive(Debug)]
pub(crate) struct Pace(Duration);

impl Pace {
    pub(crate) const fn new() -> Self {
        Self(Manners::Calm.pause())
    }

    /// Counts bytes that were transferred.
    pub(crate) fn count(&mut self, bytes: usize, manners: Manners) {
        let gained = Duration::from_secs_f64(bytes as f64 / manners.pace() as f64);
        self.0 = (self.0 + gained).min(manners.pause());
    }

    /// How long the next bytes may take under the given manners.
    pub(crate) fn left(&mut self, manners: Manners) -> Duration {
        self.0 = self.0.min(manners.pause());
        self.0
    }

    /// Counts time that has passed. Returns false if it was too much.
    pub(crate) fn wait(&mut self, time: Duration, manners: Manners) -> bool {
        self.0 = self.left(manners).saturating_sub(time);
        !self.0.is_zero()
    }
}
