//! The syntax of cron expressions, field by field. An expression is parsed here and rewritten in plain numbers, so that
//! the library that searches for times never sees a name, a range that wraps, or anything that it would read
//! differently than people do.

use protocol::error::excerpt;
use protocol::plural::plural;

/// One field of an expression.
#[derive(Debug)]
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// The names of its values, from `min` on.
    names: &'static [&'static str],
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    DayOfMonth,
    Month,
    DayOfWeek,
}

const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
/// The most days each month can have.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const fn plain(name: &'static str, max: u32) -> Field {
    Field { name, min: 0, max, names: &[], kind: Kind::Plain }
}

const FIELDS: [Field; 6] = [
    plain("second", 59),
    plain("minute", 59),
    plain("hour", 23),
    Field { name: "day of month", min: 1, max: 31, names: &[], kind: Kind::DayOfMonth },
    Field { name: "month", min: 1, max: 12, names: &MONTHS, kind: Kind::Month },
    // Sunday is 0 and 7.
    Field { name: "day of week", min: 0, max: 7, names: &DAYS, kind: Kind::DayOfWeek },
];

/// The values that a field asks for.
#[derive(Debug, Default)]
struct Asked {
    /// Whether the field is `*`.
    all: bool,
    values: Vec<u32>,
    /// `L`, `LW`, `15W`, `5L`, `5#2`, in the form that the library expects.
    special: Vec<String>,
}

/// Rewrites an expression in plain numbers, with six fields.
///
/// # Errors
/// Says what is wrong, beginning with the name of the field if the error is in one.
pub(super) fn normal(expression: &str) -> Result<String, String> {
    let expression = expression.trim().to_ascii_uppercase();
    let expression = if expression.starts_with('@') { nickname(&expression)? } else { &expression };
    let mut texts: Vec<&str> = expression.split_whitespace().collect();
    if !(5..=6).contains(&texts.len()) {
        let n = texts.len();
        return Err(format!(
            "it has {n} {}; 5 are expected (minute, hour, day of month, month, day of week), or 6 with the second first",
            plural(n, "field", "fields")
        ));
    }
    if texts.len() == 5 {
        texts.insert(0, "0");
    }
    let read = |(text, field): (&&str, &Field)| field.read(text).map_err(|e| format!("{}: {e}", field.name));
    let asked = texts.iter().zip(&FIELDS).map(read).collect::<Result<Vec<_>, _>>()?;
    if let [_, _, _, days, months, weekdays] = &asked[..] {
        comes(days, months, weekdays)?;
    }
    Ok(asked.iter().map(Asked::text).collect::<Vec<_>>().join(" "))
}

fn nickname(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "@YEARLY" | "@ANNUALLY" => "0 0 1 1 *",
        "@MONTHLY" => "0 0 1 * *",
        "@WEEKLY" => "0 0 * * 0",
        "@DAILY" | "@MIDNIGHT" => "0 0 * * *",
        "@HOURLY" => "0 * * * *",
        _ => {
            let known = "@yearly, @monthly, @weekly, @daily, @midnight, @hourly";
            return Err(format!(
                "`{}` is not a known schedule; use one of {known}",
                excerpt(&name.to_lowercase())
            ));
        }
    })
}

/// Checks that the expression matches any day at all.
fn comes(days: &Asked, months: &Asked, weekdays: &Asked) -> Result<(), String> {
    // If both kinds of days are given, one match is enough.
    if days.all || !weekdays.all || days.special.iter().any(|day| day.starts_with('L')) {
        return Ok(());
    }
    let longest = LENGTHS.iter().zip(1..).filter(|(_, month)| months.all || months.values.contains(month));
    let longest = longest.map(|(length, _)| *length).max().unwrap_or_default();
    let near = days.special.iter().filter_map(|day| day.strip_suffix('W')?.parse().ok());
    if days.values.iter().copied().chain(near).any(|day: u32| day <= longest) {
        return Ok(());
    }
    Err(format!("day of month: no such day exists; the months given have at most {longest} days"))
}

impl Field {
    fn read(&self, text: &str) -> Result<Asked, String> {
        let has_days = matches!(self.kind, Kind::DayOfMonth | Kind::DayOfWeek);
        if text == "*" || text == "*/1" || text == "?" && has_days {
            return Ok(Asked { all: true, ..Asked::default() });
        }
        let mut asked = Asked::default();
        for item in text.split(',') {
            if item.is_empty() {
                return Err(format!("`{}` has an empty item", excerpt(text)));
            }
            self.read_item(item, &mut asked)?;
        }
        if self.kind == Kind::DayOfWeek {
            asked.values.iter_mut().for_each(|day| *day %= 7);
        }
        asked.values.sort_unstable();
        asked.values.dedup();
        if asked.special.iter().any(|day| day == "L") && asked.special.iter().any(|day| day == "LW") {
            return Err("`L` and `LW` cannot be combined".to_owned());
        }
        Ok(asked)
    }

    fn read_item(&self, item: &str, asked: &mut Asked) -> Result<(), String> {
        if let Some(special) = self.special(item)? {
            asked.special.push(special);
            return Ok(());
        }
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(step)?)),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, if self.kind == Kind::DayOfWeek { 6 } else { self.max }),
            None if step.is_some() => {
                let (min, max) = (range, self.max);
                return Err(format!(
                    "`{}`: a step needs a range, such as `{min}-{max}/…` or `*/…`",
                    excerpt(item)
                ));
            }
            None => {
                asked.values.push(self.value(range)?);
                return Ok(());
            }
            Some((from, to)) => (self.value(from)?, self.value(to)?),
        };
        // A range that ends before it begins goes on at the start of the field.
        let size = self.size();
        let length = if from <= to { to - from } else { to + size - from };
        let values = (0..=length).step_by(step.unwrap_or(1) as usize);
        asked.values.extend(values.map(|n| (from - self.min + n) % size + self.min));
        Ok(())
    }

    /// The number of different values.
    const fn size(&self) -> u32 {
        if matches!(self.kind, Kind::DayOfWeek) { 7 } else { self.max - self.min + 1 }
    }

    fn step(&self, text: &str) -> Result<u32, String> {
        let most = self.max;
        let step = text.parse().ok().filter(|step| (1..=most).contains(step));
        step.ok_or_else(|| format!("`{}` is not a step from 1 to {most}", excerpt(text)))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if let Some(at) = self.names.iter().position(|name| *name == text) {
            return Ok(self.min + u32::try_from(at).unwrap_or_default());
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.no_value(text));
        }
        let value = text.parse().ok().filter(|value| (self.min..=self.max).contains(value));
        value.ok_or_else(|| format!("`{}` is out of range {} to {}", excerpt(text), self.min, self.max))
    }

    /// Explains that a text is neither a number nor one of the names.
    fn no_value(&self, text: &str) -> String {
        let shown = excerpt(text);
        if let Some(other) = FIELDS.iter().find(|field| field.names.contains(&text)) {
            return format!("`{shown}` belongs in the field `{}`", other.name);
        }
        let last = format!(
            "`{shown}` counts back from the end of the month, which is not supported; `L` is its last day"
        );
        match self.kind {
            Kind::DayOfMonth if text.starts_with('L') => last,
            Kind::Plain | Kind::DayOfMonth => format!("`{shown}` is not a number"),
            Kind::Month => format!("`{shown}` is neither a number nor one of JAN to DEC"),
            Kind::DayOfWeek => format!("`{shown}` is neither a number nor one of SUN to SAT"),
        }
    }

    /// Parses the forms that only days have; none if the item is not such a form.
    fn special(&self, item: &str) -> Result<Option<String>, String> {
        match self.kind {
            Kind::DayOfMonth if item == "L" || item == "LW" => Ok(Some(item.to_owned())),
            Kind::DayOfMonth if item.starts_with("L-") => Err(self.no_value(item)),
            Kind::DayOfMonth => match item.strip_suffix('W') {
                None => Ok(None),
                Some(day) => Ok(Some(format!("{}W", self.value(day)?))),
            },
            Kind::DayOfWeek if item == "L" => {
                Err("`L` needs a day here, such as `5L` for the last Friday of the month".to_owned())
            }
            Kind::DayOfWeek => {
                let Some((day, nth)) = item.split_once('#') else {
                    let day = item.strip_suffix('L').map(|day| self.value(day)).transpose()?;
                    return Ok(day.map(|day| format!("{}L", day % 7)));
                };
                let nth = match nth {
                    "1" | "2" | "3" | "4" | "5" | "L" => nth,
                    _ => return Err(format!("`{}`: the number after `#` must be 1 to 5", excerpt(item))),
                };
                Ok(Some(format!("{}#{nth}", self.value(day)? % 7)))
            }
            Kind::Plain | Kind::Month => Ok(None),
        }
    }
}

impl Asked {
    /// Formats the field as the library reads it.
    fn text(&self) -> String {
        if self.all {
            return "*".to_owned();
        }
        let values = self.values.iter().map(u32::to_string);
        values.chain(self.special.iter().cloned()).collect::<Vec<_>>().join(",")
    }
}
