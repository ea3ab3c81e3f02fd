//! Finds the next time that matches a cron expression, in the wall time of a zone.
//!
//! The expression refers to the wall clock, so the search is in wall time, and the result is converted to the zone: a
//! time that the clock jumps over is the instant after the jump, and a time that it shows twice is the first of the
//! two.

mod fields;

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use protocol::error::excerpt;

/// A cron expression.
#[derive(Debug, Clone)]
pub struct Recurrence(Cron);

impl FromStr for Recurrence {
    type Err = String;

    fn from_str(expression: &str) -> Result<Self, String> {
        let wrong =
            |e: String| format!("expression: `{}` is not a cron expression: {e}", excerpt(expression));
        let normal = fields::normal(expression).map_err(wrong)?;
        Self::read(&normal).map_err(wrong)
    }
}

/// Returns the zone with this name.
///
/// # Errors
/// A sentence, if there is none.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!(
            "timezone: `{}` is not a time zone in the IANA database; write it like `Europe/Berlin`",
            excerpt(name)
        )
    })
}

impl Recurrence {
    /// Parses an expression that was accepted once, perhaps by an earlier version with other rules.
    ///
    /// # Errors
    /// A sentence, if it was never accepted.
    pub fn stored(expression: &str) -> Result<Self, String> {
        expression.parse().or_else(|error| Self::read(expression).map_err(|_| error))
    }

    fn read(expression: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        parser.parse(expression).map(Self).map_err(|e| e.to_string())
    }

    /// Returns the next time after `now`, both in milliseconds since the Unix epoch; none: never again.
    #[must_use]
    pub fn next(&self, zone: &TimeZone, now: u64) -> Option<u64> {
        let now = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
        let mut wall = zone.to_datetime(now);
        loop {
            wall = self.0.find_next_occurrence(&wall, false).ok()?;
            let at = instant(zone, wall)?;
            // A time that the clock shows twice has passed if its first instant has.
            if at > now {
                return u64::try_from(at.as_millisecond()).ok();
            }
        }
    }
}

/// Returns the instant at which a clock shows this time, or has just jumped over it.
fn instant(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(wall).ok()
        }
        AmbiguousOffset::Gap { after, .. } => {
            // With the offset of after the jump, the wall time is an instant before it.
            zone.following(after.to_timestamp(wall).ok()?).next().map(|jump| jump.timestamp())
        }
    }
}

#[cfg(test)]
mod tests;
