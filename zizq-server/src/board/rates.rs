//! How often something happens, as averages over the last minute and five minutes. They cost nothing while nothing
//! happens.

use crate::engine::command::report::Tally;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Enqueued,
    Delivered,
    Completed,
    Failed,
    Dead,
}

impl Flow {
    pub(crate) const ALL: [Self; 5] =
        [Self::Enqueued, Self::Delivered, Self::Completed, Self::Failed, Self::Dead];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Delivered => "delivered",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }

    /// How often it happened.
    pub(crate) const fn of(self, tally: &Tally) -> u64 {
        match self {
            Self::Enqueued => tally.enqueued,
            Self::Delivered => tally.delivered,
            Self::Completed => tally.completed,
            Self::Failed => tally.failed(),
            Self::Dead => tally.dead,
        }
    }
}

/// The time over which a rate is an average, in milliseconds. Older events count less and less: the average is
/// exponential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Minute = 60_000,
    FiveMinutes = 300_000,
}

/// The rates of every [`Flow`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Up to when they are averages, by the clock that never steps.
    at: u64,
    minute: [f32; 5],
    five_minutes: [f32; 5],
}

impl Rates {
    /// Counts what has happened.
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    pub(super) fn add(&mut self, happened: &Tally, now: u64) {
        self.decay(now);
        for (flow, (minute, five)) in
            Flow::ALL.into_iter().zip(self.minute.iter_mut().zip(&mut self.five_minutes))
        {
            let events = flow.of(happened) as f32;
            *minute += events / (Window::Minute as u64 as f32 / 1_000.0);
            *five += events / (Window::FiveMinutes as u64 as f32 / 1_000.0);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an average")]
    fn decay(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at) as f32;
        self.at = self.at.max(now);
        let decay = |rates: &mut [f32; 5], window: Window| {
            let left = (-passed / window as u64 as f32).exp();
            rates.iter_mut().for_each(|rate| *rate *= left);
        };
        decay(&mut self.minute, Window::Minute);
        decay(&mut self.five_minutes, Window::FiveMinutes);
    }

    /// The rates as of now.
    pub(super) fn now(mut self, now: u64) -> Self {
        self.decay(now);
        self
    }

    /// Events per second over the last minute.
    pub(crate) fn minute(&self, flow: Flow) -> f64 {
        of(&self.minute, flow)
    }

    /// Events per second over the last five minutes.
    pub(crate) fn five_minutes(&self, flow: Flow) -> f64 {
        of(&self.five_minutes, flow)
    }
}

fn of(rates: &[f32; 5], flow: Flow) -> f64 {
    rates.get(flow as usize).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_fades_when_nothing_happens() {
        let mut rates = Rates::default();
        let happened = Tally { completed: 20, dead: 1, ..Tally::default() };
        (1..=600).for_each(|second| rates.add(&happened, second * 1_000));
        assert!((rates.minute(Flow::Completed) - 20.0).abs() < 1.0, "{rates:?}");
        assert!((17.0..=20.0).contains(&rates.five_minutes(Flow::Completed)), "{rates:?}");
        assert!((rates.minute(Flow::Failed) - 1.0).abs() < 0.1, "a death is a failure: {rates:?}");
        assert_eq!(rates.minute(Flow::Enqueued), 0.0);
        let later = rates.now(720_000);
        assert!((2.0..3.0).contains(&later.minute(Flow::Completed)), "{later:?}");
        assert_eq!(later.now(1_000).minute(Flow::Completed), later.minute(Flow::Completed));
    }
}
