//! jq's numbers: doubles, and literals that keep their digits until an expression calculates with them.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

/// A number. What was written is compared digit by digit with what was written, anything else as doubles.
#[derive(Debug, Clone)]
pub(super) enum Num {
    /// A result of a calculation.
    Made(f64),
    /// It was written, and a double holds all of it.
    Plain(f64),
    /// It was written with more digits than a double holds, or in a way that printing a double would not give again.
    Written(Arc<Decimal>),
}

/// A number of any length: digits without leading zeros, times ten to the power of the exponent.
#[derive(Debug)]
pub(super) struct Decimal {
    value: f64,
    negative: bool,
    digits: Box<str>,
    exponent: i64,
}

/// So many digits a double holds for sure.
const SAFE_DIGITS: usize = 15;
/// To so many digits a literal is rounded before it becomes a double.
const DOUBLE_DIGITS: usize = 17;
/// Beyond this no exponent is told from another.
const MAX_EXPONENT: i64 = 999_999_999;

impl Num {
    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Made(value) | Self::Plain(value) => *value,
            Self::Written(decimal) => decimal.value,
        }
    }

    pub(super) fn is_nan(&self) -> bool {
        self.value().is_nan()
    }

    /// Reads a literal: digits, perhaps with a sign, a point and an exponent.
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Some(short) = Self::read_short(text) {
            return Some(short);
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(part) || whole.len() + part.len() == 0 {
            return special(rest, negative);
        }
        let digits = format!("{whole}{part}");
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let exponent = exponent - i64::try_from(part.len()).unwrap_or(i64::MAX);
        Some(Self::of_decimal(negative, digits, exponent))
    }

    /// The usual case, without a detour: a few digits, perhaps with a point among them.
    fn read_short(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let bytes = digits.as_bytes();
        let (first, last) = (*bytes.first()?, *bytes.last()?);
        if bytes.len() > SAFE_DIGITS || !first.is_ascii_digit() {
            return None;
        }
        if bytes.iter().all(u8::is_ascii_digit) {
            let one_spelling = first != b'0' || bytes.len() == 1;
            return one_spelling
                .then(|| digits.parse().ok())
                .flatten()
                .map(|value: f64| Self::Plain(if digits.len() == text.len() { value } else { -value }));
        }
        // With a zero at its end, or many in front, a double would be printed in another way.
        let (whole, part) = digits.split_once('.')?;
        let fits = whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit())
            && !part.is_empty()
            && last != b'0'
            && (first != b'0' || (whole.len() == 1 && !part.starts_with("00")));
        fits.then(|| text.parse().ok().map(Self::Plain)).flatten()
    }

    fn of_decimal(negative: bool, digits: &str, exponent: i64) -> Self {
        let value = to_double(negative, digits, exponent);
        Self::Written(Arc::new(Decimal { value, negative, digits: digits.into(), exponent }))
    }

    pub(super) fn of_integer(n: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "few enough digits")]
        match n.unsigned_abs() < 1_000_000_000_000_000 {
            true => Self::Plain(n as f64),
            false => Self::of_decimal(n < 0, &n.unsigned_abs().to_string(), 0),
        }
    }

    /// As jq orders: what is no number is less than all that are, and than itself.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        if self.is_nan() {
            return Ordering::Less;
        }
        if other.is_nan() {
            return Ordering::Greater;
        }
        match (self, other) {
            (Self::Written(a), Self::Written(b)) => a.compare(b),
            (Self::Written(a), Self::Plain(b)) => a.compare(&Decimal::of_double(*b)),
            (Self::Plain(a), Self::Written(b)) => Decimal::of_double(*a).compare(b),
            _ => self.value().partial_cmp(&other.value()).unwrap_or(Ordering::Less),
        }
    }

    /// Whether it is the very same one, not just one of the same value.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Written(a), Self::Written(b)) => Arc::ptr_eq(a, b),
            (Self::Made(a), Self::Made(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }

    /// Appends it as jq prints it.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            _ if self.is_nan() => out.push_str("null"),
            Self::Written(decimal) => decimal.write(out),
            Self::Made(value) | Self::Plain(value) => write_double(*value, out),
        }
    }
}

fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = digits.parse().unwrap_or(MAX_EXPONENT).min(MAX_EXPONENT);
    Some(if text.starts_with('-') { -exponent } else { exponent })
}

/// What is no number, or beyond all of them, by its names.
fn special(text: &str, negative: bool) -> Option<Num> {
    let text = text.to_ascii_lowercase();
    if text == "inf" || text == "infinity" {
        return Some(Num::Made(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    let digits = text.strip_prefix("nan")?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(Num::Made(f64::NAN))
}

/// The nearest double, by way of [`DOUBLE_DIGITS`] digits.
fn to_double(negative: bool, digits: &str, exponent: i64) -> f64 {
    let (kept, rest) = digits.split_at_checked(DOUBLE_DIGITS).unwrap_or((digits, ""));
    let mut mantissa: u128 = kept.parse().unwrap_or_default();
    let dropped = i64::try_from(rest.len()).unwrap_or_default();
    let half = rest.strip_prefix('5').map(|rest| rest.bytes().any(|b| b != b'0'));
    let up = match half {
        Some(more) => more || mantissa % 2 == 1,
        None => rest.bytes().next().is_some_and(|digit| digit > b'5'),
    };
    mantissa += u128::from(up);
    let value: f64 = format!("{mantissa}e{}", exponent + dropped).parse().unwrap_or(f64::NAN);
    if negative { -value } else { value }
}

impl Decimal {
    fn of_double(value: f64) -> Self {
        let text = format!("{:e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let part = i64::try_from(digits.len()).unwrap_or(1) - 1;
        let exponent = exponent.parse::<i64>().unwrap_or_default() - part;
        Self { value, negative: value < 0.0, digits: digits.into(), exponent }
    }

    fn is_zero(&self) -> bool {
        self.digits.bytes().all(|b| b == b'0')
    }

    /// The exponent of its first digit.
    fn magnitude(&self) -> i64 {
        self.exponent + i64::try_from(self.digits.len()).unwrap_or(i64::MAX) - 1
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sign = |n: &Self| match (n.is_zero(), n.negative) {
            (true, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        let by_size = || {
            let length = self.digits.len().max(other.digits.len());
            let padded = |n: &Self| {
                let zeros = std::iter::repeat_n(b'0', length - n.digits.len());
                n.digits.bytes().chain(zeros).collect::<Vec<u8>>()
            };
            self.magnitude().cmp(&other.magnitude()).then_with(|| padded(self).cmp(&padded(other)))
        };
        match (sign(self), sign(other)) {
            (a, b) if a != b => a.cmp(&b),
            (1, _) => by_size(),
            (-1, _) => by_size().reverse(),
            _ => Ordering::Equal,
        }
    }

    /// The "scientific string" of the General Decimal Arithmetic Specification.
    fn write(&self, out: &mut String) {
        if self.negative {
            out.push('-');
        }
        let magnitude = self.magnitude();
        if self.exponent <= 0 && magnitude >= -6 {
            let point = i64::try_from(self.digits.len()).unwrap_or_default() + self.exponent;
            write_fixed(&self.digits, point, out);
        } else {
            let (first, rest) = self.digits.split_at_checked(1).unwrap_or((&self.digits, ""));
            out.push_str(first);
            if !rest.is_empty() {
                out.push('.');
                out.push_str(rest);
            }
            push_formatted(out, format_args!("E{magnitude:+}"));
        }
    }
}

fn push_formatted(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "text can always be appended");
}

/// Digits with a point behind the first `point` of them.
fn write_fixed(digits: &str, point: i64, out: &mut String) {
    match usize::try_from(point) {
        Ok(point) if point >= digits.len() => {
            out.push_str(digits);
            out.extend(std::iter::repeat_n('0', point - digits.len()));
        }
        Ok(point) if point > 0 => {
            let (whole, part) = digits.split_at_checked(point).unwrap_or((digits, ""));
            push_formatted(out, format_args!("{whole}.{part}"));
        }
        _ => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', usize::try_from(-point).unwrap_or_default()));
            out.push_str(digits);
        }
    }
}

/// The shortest digits that give the double again, in jq's layout. What is beyond all doubles is the greatest.
pub(super) fn write_double(value: f64, out: &mut String) {
    let value = value.clamp(f64::MIN, f64::MAX);
    if value.fract() == 0.0 && value.abs() < 1e15 {
        if value == 0.0 && value.is_sign_negative() {
            out.push('-');
        }
        #[expect(clippy::cast_possible_truncation, reason = "small enough")]
        return push_formatted(out, format_args!("{}", value as i64));
    }
    let decimal = Decimal::of_double(value);
    if value < 0.0 {
        out.push('-');
    }
    let length = i64::try_from(decimal.digits.len()).unwrap_or_default();
    let point = decimal.magnitude() + 1;
    if point > -4 && point <= length + 15 {
        return write_fixed(&decimal.digits, point, out);
    }
    let (first, rest) = decimal.digits.split_at_checked(1).unwrap_or((&decimal.digits, ""));
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    let exponent = point - 1;
    let sign = if exponent < 0 { '-' } else { '+' };
    push_formatted(out, format_args!("e{sign}{:02}", exponent.abs()));
}
