//! Times in UTC: seconds since 1970, and broken-down time as in C.

use super::value::{Outcome, Value, failure};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY: i64 = 86_400;
/// Beyond these years, before and after 1970, nothing is said of a time.
const MAX_SECONDS: f64 = 67_767_976_233_532_799.0;

/// C's `struct tm`, with the year as people count it.
#[derive(Debug, Clone, Copy, Default)]
struct Broken {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    weekday: i64,
    yearday: i64,
}

/// The days from 1970 to a date; months may be beyond a year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + month.div_euclid(12), month.rem_euclid(12));
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

impl Broken {
    fn of_seconds(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + i64::from(month >= 10);
        let month = if month < 10 { month + 2 } else { month - 10 };
        Self {
            year,
            month,
            day,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
            yearday: days - days_from_civil(year, 0, 1),
        }
    }

    fn seconds(&self) -> i64 {
        let days = days_from_civil(self.year, self.month, self.day);
        days * DAY + self.hour * 3_600 + self.minute * 60 + self.second
    }

    fn read(value: &Value) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "as in jq, which takes the whole part")]
        let field = |n: usize| {
            let n = value.as_array()?.get(n)?.as_number()?;
            Some(i64::from(n as i32))
        };
        Some(Self {
            year: field(0)?,
            month: field(1)?,
            day: field(2)?,
            hour: field(3)?,
            minute: field(4)?,
            second: field(5)?,
            weekday: field(6)?,
            yearday: field(7)?,
        })
    }

    fn value(&self, second: f64) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let number = |n: i64| Value::number(n as f64);
        let [year, month, day] = [self.year, self.month, self.day].map(number);
        let [hour, minute, weekday, yearday] =
            [self.hour, self.minute, self.weekday, self.yearday].map(number);
        Value::flat(vec![year, month, day, hour, minute, Value::number(second), weekday, yearday])
    }
}

pub(super) fn gm_time(value: Value) -> Outcome {
    let seconds = value.as_number().ok_or_else(|| failure("gmtime() requires numeric inputs"))?;
    if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
        return Err(failure("error converting number of seconds since epoch to datetime"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    let broken = Broken::of_seconds(seconds as i64);
    #[expect(clippy::cast_precision_loss, reason = "less than a minute")]
    let second = broken.second as f64 + (seconds - seconds.floor());
    Ok(broken.value(second))
}

pub(super) fn mk_time(value: Value) -> Outcome {
    let items = value.as_array().ok_or_else(|| failure("mktime requires array inputs"))?;
    let broken = if items.len() < 6 { None } else { Broken::read(&value) };
    let broken = broken.ok_or_else(|| failure("mktime requires parsed datetime inputs"))?;
    let seconds = broken.seconds();
    if seconds == -1 {
        return Err(failure("invalid gmtime representation"));
    }
    #[expect(clippy::cast_precision_loss, reason = "as in jq")]
    Ok(Value::number(seconds as f64))
}

pub(super) fn format_time(value: Value, format: Value) -> Outcome {
    let value = match (value.as_number(), value.as_array()) {
        (Some(_), _) => gm_time(value)?,
        (None, None) => return Err(failure("strftime/1 requires parsed datetime inputs")),
        (None, Some(_)) => value,
    };
    let format = format.as_text().ok_or_else(|| failure("strftime/1 requires a string format"))?;
    let broken = Broken::read(&value).ok_or_else(|| failure("strftime/1 requires parsed datetime inputs"))?;
    let mut out = String::new();
    write_format(&broken, format, &mut out)?;
    if out.is_empty() {
        return Err(failure("strftime/1: unknown system failure"));
    }
    Ok(Value::text(out))
}

fn name(names: &[&'static str], n: i64) -> &'static str {
    usize::try_from(n).ok().and_then(|n| names.get(n)).copied().unwrap_or("?")
}

fn short(names: &[&'static str], n: i64) -> &'static str {
    let name = name(names, n);
    name.get(..3).unwrap_or(name)
}

fn hour12(hour: i64) -> i64 {
    if hour % 12 == 0 { 12 } else { hour % 12 }
}

fn write_format(t: &Broken, format: &str, out: &mut String) -> Outcome<()> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(directive) => directive_text(t, directive, out)?,
            None => out.push('%'),
        }
    }
    Ok(())
}

fn directive_text(t: &Broken, directive: char, out: &mut String) -> Outcome<()> {
    let text = match directive {
        'Y' => t.year.to_string(),
        'C' => format!("{:02}", t.year.div_euclid(100)),
        'y' => format!("{:02}", t.year.rem_euclid(100)),
        'm' => format!("{:02}", t.month + 1),
        'd' => format!("{:02}", t.day),
        'e' => format!("{:2}", t.day),
        'H' => format!("{:02}", t.hour),
        'k' => format!("{:2}", t.hour),
        'I' => format!("{:02}", hour12(t.hour)),
        'l' => format!("{:2}", hour12(t.hour)),
        'M' => format!("{:02}", t.minute),
        'S' => format!("{:02}", t.second),
        'p' => if t.hour >= 12 { "PM" } else { "AM" }.to_owned(),
        'P' => if t.hour >= 12 { "pm" } else { "am" }.to_owned(),
        'j' => format!("{:03}", t.yearday + 1),
        'a' => short(&DAYS, t.weekday).to_owned(),
        'A' => name(&DAYS, t.weekday).to_owned(),
        'b' | 'h' => short(&MONTHS, t.month).to_owned(),
        'B' => name(&MONTHS, t.month).to_owned(),
        'u' => (if t.weekday == 0 { 7 } else { t.weekday }).to_string(),
        'w' => t.weekday.to_string(),
        'U' => format!("{:02}", (t.yearday + 7 - t.weekday) / 7),
        'W' => format!("{:02}", (t.yearday + 7 - (t.weekday + 6) % 7) / 7),
        'G' => iso_week(t).0.to_string(),
        'g' => format!("{:02}", iso_week(t).0.rem_euclid(100)),
        'V' => format!("{:02}", iso_week(t).1),
        's' => t.seconds().to_string(),
        'Z' => "UTC".to_owned(),
        'z' => "+0000".to_owned(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        '%' => "%".to_owned(),
        'F' => return write_format(t, "%Y-%m-%d", out),
        'T' | 'X' => return write_format(t, "%H:%M:%S", out),
        'R' => return write_format(t, "%H:%M", out),
        'r' => return write_format(t, "%I:%M:%S %p", out),
        'D' | 'x' => return write_format(t, "%m/%d/%y", out),
        'c' => return write_format(t, "%a %b %e %H:%M:%S %Y", out),
        _ => return Err(failure(format!("strftime/1: `%{directive}` is not known here"))),
    };
    out.push_str(&text);
    Ok(())
}

/// The year and week of ISO 8601.
fn iso_week(t: &Broken) -> (i64, i64) {
    let weeks = |yearday: i64| {
        let monday = (t.weekday + 6).rem_euclid(7);
        (yearday - monday + 10).div_euclid(7)
    };
    let has_53 = |year: i64| {
        let first = (days_from_civil(year, 0, 1) + 4).rem_euclid(7);
        first == 4 || (first == 3 && is_leap(year))
    };
    match weeks(t.yearday + 1) {
        0 => (t.year - 1, if has_53(t.year - 1) { 53 } else { 52 }),
        53 if !has_53(t.year) => (t.year + 1, 1),
        week => (t.year, week),
    }
}

pub(super) fn parse_time(value: Value, format: Value) -> Outcome {
    let (Some(text), Some(format)) = (value.as_text(), format.as_text()) else {
        return Err(failure("strptime/1 requires string inputs and arguments"));
    };
    let refused = || failure(format!("date \"{text}\" does not match format \"{format}\""));
    let mut scan = Scan { rest: text, t: Broken { year: 1900, ..Broken::default() }, ..Scan::default() };
    scan.run(format)?.ok_or_else(refused)?;
    if scan.rest.starts_with(|c: char| !c.is_ascii_whitespace()) {
        return Err(refused());
    }
    let t = scan.finished();
    #[expect(clippy::cast_precision_loss, reason = "less than a minute")]
    let parsed = t.value(t.second as f64);
    if scan.rest.is_empty() {
        return Ok(parsed);
    }
    Value::array(parsed.as_array().into_iter().flatten().cloned().chain([Value::text(scan.rest)]).collect())
}

/// What C's `strptime` has read so far.
#[derive(Default)]
struct Scan<'a> {
    rest: &'a str,
    t: Broken,
    has_day: bool,
    has_month: bool,
    has_year: bool,
    has_weekday: bool,
    has_yearday: bool,
    is_12: bool,
    is_pm: bool,
    century: Option<i64>,
}

type Read = Option<()>;

impl Scan<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    }

    /// None inside: it does not match.
    fn run(&mut self, format: &str) -> Outcome<Option<()>> {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            let matched = if c.is_ascii_whitespace() || c == '\x0b' {
                self.skip_space();
                Some(())
            } else if c == '%' {
                match chars.next() {
                    Some(directive) => self.directive(directive)?,
                    None => None,
                }
            } else {
                self.literal(c)
            };
            if matched.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn literal(&mut self, c: char) -> Read {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    fn number(&mut self, least: i64, most: i64, digits: usize) -> Option<i64> {
        self.rest = self.rest.trim_start_matches(' ');
        let length = self.rest.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at_checked(length)?;
        let n: i64 = number.parse().ok()?;
        self.rest = rest;
        (least..=most).contains(&n).then_some(n)
    }

    /// The number of a name, in full or its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        for (n, name) in names.iter().enumerate() {
            for length in [name.len(), 3] {
                let head = self
                    .rest
                    .get(..length)
                    .filter(|head| name.get(..length).is_some_and(|n| n.eq_ignore_ascii_case(head)));
                if head.is_some() {
                    self.rest = self.rest.get(length..)?;
                    return i64::try_from(n).ok();
                }
            }
        }
        None
    }

    fn directive(&mut self, directive: char) -> Outcome<Option<()>> {
        let nested = match directive {
            'F' => Some("%Y-%m-%d"),
            'T' => Some("%H:%M:%S"),
            'R' => Some("%H:%M"),
            'D' => Some("%m/%d/%y"),
            'r' => Some("%I:%M:%S %p"),
            'c' => Some("%a %b %e %H:%M:%S %Y"),
            _ => None,
        };
        if let Some(nested) = nested {
            return self.run(nested);
        }
        const KNOWN: &str = "YmdeHkIlMSpjyCbBhaAnt%ZzuwsT";
        if !KNOWN.contains(directive) {
            return Err(failure(format!("strptime/1: `%{directive}` is not known here")));
        }
        Ok(self.field(directive))
    }

    fn field(&mut self, directive: char) -> Read {
        match directive {
            'Y' => {
                self.t.year = self.number(0, 9_999, 4)?;
                (self.has_year, self.century) = (true, None);
            }
            'y' => {
                let year = self.number(0, 99, 2)?;
                self.t.year = year + if year >= 69 { 1_900 } else { 2_000 };
                self.has_year = true;
            }
            'C' => self.century = Some(self.number(0, 99, 2)?),
            'm' => {
                self.t.month = self.number(1, 12, 2)? - 1;
                self.has_month = true;
            }
            'b' | 'B' | 'h' => {
                self.t.month = self.name(&MONTHS)?;
                self.has_month = true;
            }
            'd' | 'e' => {
                self.t.day = self.number(1, 31, 2)?;
                self.has_day = true;
            }
            'H' | 'k' => (self.t.hour, self.is_12) = (self.number(0, 23, 2)?, false),
            'I' | 'l' => (self.t.hour, self.is_12) = (self.number(1, 12, 2)? % 12, true),
            'M' => self.t.minute = self.number(0, 59, 2)?,
            'S' => self.t.second = self.number(0, 61, 2)?,
            'p' => self.is_pm = self.name(&["AM", "PM"])? == 1,
            'j' => {
                self.t.yearday = self.number(1, 366, 3)? - 1;
                self.has_yearday = true;
            }
            'a' | 'A' => {
                self.t.weekday = self.name(&DAYS)?;
                self.has_weekday = true;
            }
            'u' => {
                self.t.weekday = self.number(1, 7, 1)? % 7;
                self.has_weekday = true;
            }
            'w' => {
                self.t.weekday = self.number(0, 6, 1)?;
                self.has_weekday = true;
            }
            's' => {
                let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
                let (number, rest) = self.rest.split_at_checked(length)?;
                self.t = Broken::of_seconds(number.parse().ok()?);
                self.rest = rest;
                (self.has_weekday, self.has_yearday) = (true, true);
            }
            'n' | 't' => self.skip_space(),
            'z' => self.zone()?,
            '%' => self.literal('%')?,
            // Names of zones are not read, as in C.
            _ => {}
        }
        Some(())
    }

    /// An offset, which jq does not look at any further.
    fn zone(&mut self) -> Read {
        self.skip_space();
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(());
        }
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        let hours = self.rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        self.rest = self.rest.get(hours..)?;
        if hours != 2 {
            return None;
        }
        let rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        let minutes = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        match minutes {
            2 => self.rest = rest.get(2..)?,
            0 => {}
            _ => return None,
        }
        Some(())
    }

    /// With the days of the week and of the year, where they follow.
    fn finished(&self) -> Broken {
        let mut t = self.t;
        if self.is_12 && self.is_pm {
            t.hour += 12;
        }
        if let Some(century) = self.century {
            t.year = century * 100 + if self.has_year { t.year % 100 } else { 0 };
        }
        if self.has_yearday && !(self.has_month && self.has_day) && self.has_year {
            let from_seconds = Broken::of_seconds((days_from_civil(t.year, 0, 1) + t.yearday) * DAY);
            (t.month, t.day) = (from_seconds.month, from_seconds.day);
        }
        let has_date = self.has_year && (self.has_month || self.has_day);
        if !self.has_weekday {
            let knows = has_date || t.day != 0;
            t.weekday = if knows { (days_from_civil(t.year, t.month, t.day) + 4).rem_euclid(7) } else { 8 };
        }
        if !self.has_yearday {
            let knows = has_date || t.day != 0;
            t.yearday = if knows {
                days_from_civil(t.year, t.month, t.day) - days_from_civil(t.year, 0, 1)
            } else {
                367
            };
        }
        t
    }
}
