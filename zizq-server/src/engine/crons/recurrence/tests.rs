//! Tests of expressions and of the times that match them.

use super::*;

/// The next three times after the beginning of 2026, a Thursday, counted out day by day by another program.
const RIGHT: [(&str, [&str; 3]); 74] = [
    ("* * * * *", ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z"]),
    ("* * * * * *", ["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"]),
    ("*/20 * * * *", ["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"]),
    ("*/20 * * * * *", ["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"]),
    ("7 * * * *", ["2026-01-01T00:07:00Z", "2026-01-01T01:07:00Z", "2026-01-01T02:07:00Z"]),
    ("5-59/15 * * * *", ["2026-01-01T00:05:00Z", "2026-01-01T00:20:00Z", "2026-01-01T00:35:00Z"]),
    ("1,2,3,30-32 * * * *", ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z"]),
    ("50-10/10 * * * *", ["2026-01-01T00:10:00Z", "2026-01-01T00:50:00Z", "2026-01-01T01:00:00Z"]),
    ("0 9 * * MON-FRI", ["2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"]),
    ("0 9 * * mon-fri", ["2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"]),
    ("0 9 * * Mon,Wed", ["2026-01-05T09:00:00Z", "2026-01-07T09:00:00Z", "2026-01-12T09:00:00Z"]),
    ("30 0 12 1,15 * *", ["2026-01-01T12:00:30Z", "2026-01-15T12:00:30Z", "2026-02-01T12:00:30Z"]),
    ("0 0 L * *", ["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]),
    ("0 0 LW * *", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-31T00:00:00Z"]),
    ("0 0 1,L * *", ["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"]),
    ("0 0 15W * *", ["2026-01-15T00:00:00Z", "2026-02-16T00:00:00Z", "2026-03-16T00:00:00Z"]),
    ("0 0 1W * *", ["2026-02-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-04-01T00:00:00Z"]),
    ("0 0 31W * *", ["2026-01-30T00:00:00Z", "2026-03-31T00:00:00Z", "2026-05-29T00:00:00Z"]),
    ("0 0 10,15W * *", ["2026-01-10T00:00:00Z", "2026-01-15T00:00:00Z", "2026-02-10T00:00:00Z"]),
    ("0 0 * * FRI#2", ["2026-01-09T00:00:00Z", "2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]),
    ("0 0 * * 5#2", ["2026-01-09T00:00:00Z", "2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]),
    ("0 0 * * 7#1", ["2026-01-04T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]),
    ("0 0 * * MON#5", ["2026-03-30T00:00:00Z", "2026-06-29T00:00:00Z", "2026-08-31T00:00:00Z"]),
    ("0 0 * 2 MON#5", ["2044-02-29T00:00:00Z", "2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z"]),
    ("0 0 * * 5L", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"]),
    ("0 0 * * FRI#L", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-27T00:00:00Z"]),
    ("0 0 * * SUNL", ["2026-01-25T00:00:00Z", "2026-02-22T00:00:00Z", "2026-03-29T00:00:00Z"]),
    ("0 0 * * MON,5L", ["2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-19T00:00:00Z"]),
    ("0 0 29 FEB *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]),
    ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]),
    ("0 0 30,29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]),
    ("0 0 30 2,3 *", ["2026-03-30T00:00:00Z", "2027-03-30T00:00:00Z", "2028-03-30T00:00:00Z"]),
    ("0 0 31 * *", ["2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]),
    ("0 0 31 FEB-APR *", ["2026-03-31T00:00:00Z", "2027-03-31T00:00:00Z", "2028-03-31T00:00:00Z"]),
    ("0 0 * * 7", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
    ("0 0 * * 0", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
    ("0 0 * * SUN", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
    ("0 0 * * 0,7", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
    ("0 0 * * 5-7", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("0 0 * * FRI-SUN", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("0 0 * * FRI-MON", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("0 0 * * 5-1", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("0 0 * * SAT-SUN", ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", "2026-01-10T00:00:00Z"]),
    ("0 0 * * SUN-TUE", ["2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"]),
    ("0 0 * * 7-2", ["2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"]),
    ("0 0 * * 1-5/2", ["2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-07T00:00:00Z"]),
    ("0 0 * * THU-WED/3", ["2026-01-04T00:00:00Z", "2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z"]),
    ("0 0 * * */2", ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", "2026-01-06T00:00:00Z"]),
    ("0 22-2 * * *", ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T22:00:00Z"]),
    ("0 22-2/2 * * *", ["2026-01-01T02:00:00Z", "2026-01-01T22:00:00Z", "2026-01-02T00:00:00Z"]),
    ("0 8-18/5 * * *", ["2026-01-01T08:00:00Z", "2026-01-01T13:00:00Z", "2026-01-01T18:00:00Z"]),
    ("0 0 28-3 * *", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-28T00:00:00Z"]),
    ("0 0 1 NOV-FEB *", ["2026-02-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]),
    ("0 0 1 nov-feb/2 *", ["2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-11-01T00:00:00Z"]),
    ("0 0 1 */3 *", ["2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-10-01T00:00:00Z"]),
    ("0 0 1 JAN,JUL *", ["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-07-01T00:00:00Z"]),
    ("0 9 1 1 *", ["2026-01-01T09:00:00Z", "2027-01-01T09:00:00Z", "2028-01-01T09:00:00Z"]),
    ("0 0 13 * FRI", ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"]),
    ("0 0 L * MON", ["2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-19T00:00:00Z"]),
    ("0 0 30 2 MON", ["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z", "2026-02-16T00:00:00Z"]),
    ("0 0 ? * 3", ["2026-01-07T00:00:00Z", "2026-01-14T00:00:00Z", "2026-01-21T00:00:00Z"]),
    ("0 0 1 * ?", ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"]),
    ("0 0 */1 * MON", ["2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-19T00:00:00Z"]),
    ("  0   9  *  *  1  ", ["2026-01-05T09:00:00Z", "2026-01-12T09:00:00Z", "2026-01-19T09:00:00Z"]),
    ("59 59 23 31 12 *", ["2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z", "2028-12-31T23:59:59Z"]),
    ("0 12 */10 * *", ["2026-01-01T12:00:00Z", "2026-01-11T12:00:00Z", "2026-01-21T12:00:00Z"]),
    ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"]),
    ("@annually", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"]),
    ("@monthly", ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"]),
    ("@weekly", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
    ("@daily", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("@midnight", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("@Midnight", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
    ("@hourly", ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"]),
];

/// Expressions that are refused, and the error for each.
const WRONG: [(&str, &str); 45] = [
    ("", "it has 0 fields; 5 are expected"),
    ("* * * *", "it has 4 fields"),
    ("* * * * * * *", "it has 7 fields"),
    ("61 * * * *", "minute: `61` is out of range 0 to 59"),
    ("60 * * * * *", "second: `60` is out of range 0 to 59"),
    ("0 25 * * *", "hour: `25` is out of range 0 to 23"),
    ("0 24 * * *", "hour: `24`"),
    ("0 0 0 * *", "day of month: `0` is out of range 1 to 31"),
    ("0 0 32 * *", "day of month: `32`"),
    ("0 0 1 13 *", "month: `13` is out of range 1 to 12"),
    ("0 0 1 0 *", "month: `0`"),
    ("0 0 * * 8", "day of week: `8` is out of range 0 to 7"),
    ("0 9 MON * *", "day of month: `MON` belongs in the field `day of week`"),
    ("0 9 1 * JAN", "day of week: `JAN` belongs in the field `month`"),
    ("MON 9 * * *", "minute: `MON` belongs in the field `day of week`"),
    ("0 9 * MON *", "month: `MON` belongs in the field `day of week`"),
    ("0 9 * 1-MON *", "month: `MON` belongs in the field `day of week`"),
    ("0 9 1,FEB * *", "day of month: `FEB` belongs in the field `month`"),
    ("0 0 * * XYZ", "day of week: `XYZ` is neither a number nor one of SUN to SAT"),
    ("0 0 * * MONDAY", "day of week: `MONDAY`"),
    ("0 0 * * SUNMON", "day of week: `SUNMON`"),
    ("0 0 * * MON1", "day of week: `MON1`"),
    ("0 0 1 JANUARY *", "month: `JANUARY` is neither a number nor one of JAN to DEC"),
    ("a b c d e", "minute: `A` is not a number"),
    ("-5 * * * *", "minute: `` is not a number"),
    ("1.5 * * * *", "minute: `1.5` is not a number"),
    ("1,,2 * * * *", "minute: `1,,2` has an empty item"),
    ("1, * * * *", "minute: `1,` has an empty item"),
    ("*/0 * * * *", "minute: `0` is not a step from 1 to 59"),
    ("*/60 * * * *", "minute: `60` is not a step from 1 to 59"),
    ("*/x * * * *", "minute: `X` is not a step"),
    ("5/15 * * * *", "minute: `5/15`: a step needs a range, such as `5-59/…`"),
    ("0 0 L-3 * *", "day of month: `L-3` counts back from the end of the month, which is not supported"),
    ("0 0 32W * *", "day of month: `32`"),
    ("0 0 L,LW * *", "day of month: `L` and `LW` cannot be combined"),
    ("0 0 * * L", "day of week: `L` needs a day here"),
    ("0 0 * * FRI#6", "day of week: `FRI#6`: the number after `#` must be 1 to 5"),
    ("0 0 * * FRI#", "day of week: `FRI#`"),
    ("? 0 * * *", "minute: `?` is not a number"),
    ("0 0 1 * +MON", "day of week: `+MON`"),
    ("0 0 30 2 *", "day of month: no such day exists; the months given have at most 29 days"),
    (
        "0 0 31 FEB,APR,JUN,SEP,NOV *",
        "day of month: no such day exists; the months given have at most 30 days",
    ),
    ("0 0 30W 2 ?", "day of month: no such day exists"),
    ("@reboot", "`@reboot` is not a known schedule; use one of @yearly"),
    ("@every 5m", "`@every 5m` is not a known schedule"),
];

/// Returns the first `n` times after a moment, as UTC.
fn times(expression: &str, name: &str, after: &str, n: usize) -> Vec<String> {
    let recurrence: Recurrence = expression.parse().unwrap_or_else(|e| panic!("{e}"));
    let zone = zone(name).unwrap();
    let start = after.parse::<Timestamp>().unwrap().as_millisecond();
    let next = |at: &u64| recurrence.next(&zone, *at);
    std::iter::successors(next(&start.try_into().unwrap()), next)
        .take(n)
        .map(|at| Timestamp::from_millisecond(at.try_into().unwrap()).unwrap().to_string())
        .collect()
}

#[test]
fn an_expression_matches_the_times_that_people_expect() {
    for (expression, expected) in RIGHT {
        assert_eq!(times(expression, "UTC", "2026-01-01T00:00:00Z", 3), expected, "{expression}");
    }
}

#[test]
fn wrong_expressions_are_refused_with_the_name_of_the_field() {
    for (expression, expected) in WRONG {
        let error = expression.parse::<Recurrence>().unwrap_err();
        let sentence = format!("expression: `{expression}` is not a cron expression: {expected}");
        assert!(error.starts_with(&sentence), "{error}");
    }
    assert!(zone("Mars/Olympus").unwrap_err().contains("`Mars/Olympus`"));
}

/// The rarest day comes every forty years, and finding it takes hardly any time.
#[test]
fn the_search_for_the_next_time_is_fast() {
    let began = std::time::Instant::now();
    for expression in ["59 59 23 29 2 *", "0 0 * 2 MON#5", "0 0 31 12 *"] {
        let recurrence: Recurrence = expression.parse().unwrap();
        (0..100).for_each(|n| assert!(recurrence.next(&TimeZone::UTC, n * 31_556_952_000).is_some()));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}

/// An expression that an earlier version accepted is read as that version read it.
#[test]
fn an_expression_stored_by_an_earlier_version_is_still_read() {
    for expression in ["0 9 MON * *", "0 0 1 * +MON", "1,,2 * * * *", "0 0 30 2 *"] {
        assert!(expression.parse::<Recurrence>().is_err(), "{expression}");
        assert!(Recurrence::stored(expression).is_ok(), "{expression}");
    }
    assert!(Recurrence::stored("nothing").is_err());
}

#[test]
fn a_skipped_time_comes_right_after_the_jump() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00, which is 01:00 UTC.
    let berlin = |expression, n| times(expression, "Europe/Berlin", "2026-03-28T12:00:00Z", n);
    assert_eq!(berlin("30 2 * * *", 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // Several times that are jumped over come once.
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
fn a_repeated_time_comes_once() {
    // Berlin, 2026-10-25: 03:00 becomes 02:00; 02:30 is 00:30 UTC and 01:30 UTC.
    let berlin = |expression, after, n| times(expression, "Europe/Berlin", after, n);
    let daily = berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2);
    assert_eq!(daily, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let hourly = berlin("30 * * * *", "2026-10-24T23:00:00Z", 3);
    assert_eq!(hourly, ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]);
    // Also if the search starts in between.
    assert_eq!(berlin("30 2 * * *", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
    // New York, 2026-11-01: 02:00 becomes 01:00; 01:30 is 05:30 UTC and 06:30 UTC.
    let new_york = times("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2);
    assert_eq!(new_york, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
    // Lord Howe, 2026-04-05: 02:00 becomes 01:30; 01:45 is 14:45 UTC and 15:15 UTC of the day before.
    let lord_howe = times("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", 2);
    assert_eq!(lord_howe, ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
}

#[test]
fn every_second_of_an_hour_matches() {
    assert_eq!(
        times("* * * * * *", "UTC", "2026-01-01T00:00:00Z", 3_600).last().unwrap(),
        "2026-01-01T01:00:00Z"
    );
}
