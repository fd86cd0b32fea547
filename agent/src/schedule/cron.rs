//! Cron expressions as crontabs have them: five fields, Sunday 0 or 7, either of the two days counts.
//!
//! Written here because crates for it count Sunday as 1, want seconds, or bring a second library for dates: an
//! administrator's `1-5` would mean Sunday to Thursday without a word.

use std::str::FromStr;

use jiff::civil::{Date, Time};

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadExpression {
    /// It has another number of fields.
    #[error("it has {found} fields and needs 5: minute, hour, day of the month, month, day of the week")]
    Fields {
        /// How many it has.
        found: usize,
    },
    /// A field has something that is no value of it.
    #[error("{part:?} is no {field}: these are {lowest} to {highest}")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there.
        part: String,
        /// Its lowest value.
        lowest: u8,
        /// Its highest value.
        highest: u8,
    },
    /// A range ends before it begins.
    #[error("the range {part:?} ends before it begins")]
    Range {
        /// The range.
        part: String,
    },
    /// A step is no number from 1.
    #[error("the step in {part:?} is no number from 1")]
    Step {
        /// What stands there.
        part: String,
    },
}

struct Field {
    name: &'static str,
    lowest: u8,
    highest: u8,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", lowest: 0, highest: 59, words: &[] },
    Field { name: "hour", lowest: 0, highest: 23, words: &[] },
    Field { name: "day of the month", lowest: 1, highest: 31, words: &[] },
    Field {
        name: "month",
        lowest: 1,
        highest: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field {
        name: "day of the week",
        lowest: 0,
        highest: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const EVERY_HOUR: u64 = (1 << 24) - 1;

/// A parsed expression: a bit for each value of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the day of the month says `*`, and so leaves it to the day of the week.
    any_day: bool,
    any_weekday: bool,
}

impl FromStr for Expression {
    type Err = BadExpression;

    fn from_str(text: &str) -> Result<Self, BadExpression> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(BadExpression::Fields { found: parts.len() });
        };
        let mut weekdays = FIELDS[4].parse(weekday)?;
        // Sunday has two numbers.
        weekdays = (weekdays | weekdays >> 7) & 0x7f;
        Ok(Self {
            minutes: FIELDS[0].parse(minute)?,
            hours: FIELDS[1].parse(hour)?,
            days: FIELDS[2].parse(day)?,
            months: FIELDS[3].parse(month)?,
            weekdays,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        })
    }
}

impl Expression {
    /// Whether it names every hour of the day.
    pub fn is_every_hour(&self) -> bool {
        self.hours == EVERY_HOUR
    }

    /// The times of a day at which it is due, in order; none on a day that it leaves out.
    pub fn times_of(&self, date: Date) -> impl Iterator<Item = Time> {
        let (hours, minutes) = if self.has_day(date) { (self.hours, self.minutes) } else { (0, 0) };
        let of = move |hour: i8| {
            (0..60i8).filter(move |minute| has(minutes, *minute)).map(move |minute| (hour, minute))
        };
        (0..24i8)
            .filter(move |hour| has(hours, *hour))
            .flat_map(of)
            .map(|(hour, minute)| Time::constant(hour, minute, 0, 0))
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = match (self.any_day, self.any_weekday) {
            // Where both are given, either counts.
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        fits && has(self.months, date.month())
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

impl Field {
    /// A bit for each value that a list names.
    fn parse(&self, text: &str) -> Result<u64, BadExpression> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, BadExpression> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => {
                let number = step.parse::<u8>().ok().filter(|step| *step > 0);
                (range, Some(number.ok_or_else(|| BadExpression::Step { part: part.to_owned() })?))
            }
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.lowest, self.highest),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None => {
                let from = self.value(range)?;
                // `5/10` goes on to the end.
                (from, if step.is_some() { self.highest } else { from })
            }
        };
        if to < from {
            return Err(BadExpression::Range { part: part.to_owned() });
        }
        Ok((from..=to).step_by(usize::from(step.unwrap_or(1))).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u8, BadExpression> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match word {
            Some(index) => u8::try_from(index).ok().map(|index| index + self.lowest),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number.filter(|value| (self.lowest..=self.highest).contains(value)).ok_or_else(|| {
            BadExpression::Value {
                field: self.name,
                part: text.to_owned(),
                lowest: self.lowest,
                highest: self.highest,
            }
        })
    }
}
