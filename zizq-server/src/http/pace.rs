//! How long one waits for bytes, whichever way they go: they may pause, but not for long, and beyond that they come at
//! some pace.

use std::time::Duration;

/// What is asked of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// There is memory enough.
    Calm,
    /// Others need the memory.
    Pressed,
}

impl Manners {
    /// How long bytes may pause.
    const fn pause(self) -> Duration {
        match self {
            Self::Calm => Duration::from_secs(30),
            Self::Pressed => Duration::from_secs(2),
        }
    }

    /// How fast they come beyond that, in bytes a second.
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

    /// So many bytes have come, or gone.
    pub(crate) fn count(&mut self, bytes: usize, manners: Manners) {
        let gained = Duration::from_secs_f64(bytes as f64 / manners.pace() as f64);
        self.0 = (self.0 + gained).min(manners.pause());
    }

    /// How long the next ones may take, as things are.
    pub(crate) fn left(&mut self, manners: Manners) -> Duration {
        self.0 = self.0.min(manners.pause());
        self.0
    }

    /// So much time has passed. False where it was too much.
    pub(crate) fn wait(&mut self, time: Duration, manners: Manners) -> bool {
        self.0 = self.left(manners).saturating_sub(time);
        !self.0.is_zero()
    }
}
