//! When a cron expression comes true next, in the wall time of a zone.
//!
//! The expression is about the clock on the wall, so it is searched there, and what is found is brought to the zone: a
//! time that the clock jumps over is the instant after the jump, and one that it shows twice is the first of the two.

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
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression);
        cron.map(Self)
            .map_err(|e| format!("expression: `{}` is no cron expression: {e}", excerpt(expression)))
    }
}

/// The zone of this name.
///
/// # Errors
/// A sentence, where there is none.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("timezone: `{}` is no time zone of the IANA database", excerpt(name)))
}

impl Recurrence {
    /// The next time after `now`, both in milliseconds since the Unix epoch; none: never again.
    #[must_use]
    pub fn next(&self, zone: &TimeZone, now: u64) -> Option<u64> {
        let now = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
        let mut wall = zone.to_datetime(now);
        loop {
            wall = self.0.find_next_occurrence(&wall, false).ok()?;
            let at = instant(zone, wall)?;
            // What the clock shows a second time has been.
            if at > now {
                return u64::try_from(at.as_millisecond()).ok();
            }
        }
    }
}

/// The instant at which a clock shows this time, or has just jumped over it.
fn instant(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(wall).ok()
        }
        AmbiguousOffset::Gap { after, .. } => {
            // By the time after the jump it lies before it.
            zone.following(after.to_timestamp(wall).ok()?).next().map(|jump| jump.timestamp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first few times after a moment, as UTC.
    fn times(expression: &str, name: &str, after: &str, n: usize) -> Vec<String> {
        let recurrence: Recurrence = expression.parse().unwrap();
        let zone = zone(name).unwrap();
        let start = after.parse::<Timestamp>().unwrap().as_millisecond();
        let next = |at: &u64| recurrence.next(&zone, *at);
        std::iter::successors(next(&start.try_into().unwrap()), next)
            .take(n)
            .map(|at| Timestamp::from_millisecond(at.try_into().unwrap()).unwrap().to_string())
            .collect()
    }

    #[test]
    fn five_and_six_fields_lists_steps_names_l_and_nth() {
        for (expression, expected) in [
            ("0 9 * * MON-FRI", ["2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"]),
            ("30 0 12 1,15 * *", ["2026-01-01T12:00:30Z", "2026-01-15T12:00:30Z", "2026-02-01T12:00:30Z"]),
            ("*/20 * * * *", ["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"]),
            ("*/20 * * * * *", ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"]),
            ("0 0 L * *", ["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]),
            ("0 0 * * FRI#2", ["2026-01-09T00:00:00Z", "2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]),
            ("0 0 * * 5L", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"]),
            ("0 0 29 FEB *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]),
            ("0 0 * * 7", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
        ] {
            assert_eq!(times(expression, "UTC", "2026-01-01T00:00:00Z", 3), expected, "{expression}");
        }
        for bad in ["", "* * * *", "* * * * * * *", "61 * * * *", "0 25 * * *", "0 0 * * XYZ", "a b c d e"] {
            let error = bad.parse::<Recurrence>().unwrap_err();
            assert!(error.starts_with(&format!("expression: `{bad}` is no cron expression")), "{error}");
        }
        assert!(zone("Mars/Olympus").unwrap_err().contains("`Mars/Olympus`"));
    }

    #[test]
    fn a_time_that_is_jumped_over_comes_right_after_the_jump() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00, which is 01:00 UTC.
        let berlin = |expression, n| times(expression, "Europe/Berlin", "2026-03-28T12:00:00Z", n);
        assert_eq!(berlin("30 2 * * *", 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // All that is jumped over comes once.
        assert_eq!(berlin("0,20,40 2 * * *", 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
        let quarters = times("*/15 * * * *", "Europe/Berlin", "2026-03-29T00:40:00Z", 3);
        assert_eq!(quarters, ["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]);
        // New York, 2026-03-08: 02:00 becomes 03:00, which is 07:00 UTC.
        let new_york = times("15 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 2);
        assert_eq!(new_york, ["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"]);
        // Lord Howe, 2026-10-04: 02:00 becomes 02:30, which is 15:30 UTC of the day before.
        let lord_howe = |expression| times(expression, "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2);
        assert_eq!(lord_howe("10 2 * * *"), ["2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"]);
        assert_eq!(lord_howe("40 2 * * *"), ["2026-10-03T15:40:00Z", "2026-10-04T15:40:00Z"]);
    }

    #[test]
    fn a_time_that_is_shown_twice_comes_once() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00; 02:30 is 00:30 UTC and 01:30 UTC.
        let berlin = |expression, after, n| times(expression, "Europe/Berlin", after, n);
        let daily = berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2);
        assert_eq!(daily, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let hourly = berlin("30 * * * *", "2026-10-24T23:00:00Z", 3);
        assert_eq!(hourly, ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]);
        // Also for who asks in between.
        assert_eq!(berlin("30 2 * * *", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
        // New York, 2026-11-01: 02:00 becomes 01:00; 01:30 is 05:30 UTC and 06:30 UTC.
        let new_york = times("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2);
        assert_eq!(new_york, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
        // Lord Howe, 2026-04-05: 02:00 becomes 01:30; 01:45 is 14:45 UTC and 15:15 UTC of the day before.
        let lord_howe = times("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", 2);
        assert_eq!(lord_howe, ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
    }

    #[test]
    fn every_second_of_an_hour() {
        assert_eq!(
            times("* * * * * *", "UTC", "2026-01-01T00:00:00Z", 3_600).last().unwrap(),
            "2026-01-01T01:00:00Z"
        );
    }
}
