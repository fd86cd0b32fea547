//! When a job is due: a cron expression in a time zone, and what a host adds to it.
//!
//! The rules, each with a test:
//!
//! - A time that the clock skips when it is put forward is kept at the instant at which it would have been, had
//!   the clock not been touched. Where the expression names every hour, the next one is near, and it is left out.
//! - A time that comes twice when the clock is put back counts the first time. Where the expression names every hour, it
//!   counts both times, so that there is no hole.
//! - Each host adds an offset of its own, always the same, so that the hosts of a fabric do not all begin at once.
//! - What was missed is caught up once, however much it was.
//! - A clock that was put back makes nothing wait until it has caught up: who was due at a time that is ahead now is due.
//!
//! Pure: the time is handed in.

pub mod cron;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};
use lifeboat_config::JobSchedule;
use lifeboat_schema::{Digest, Time, WriterId};

use self::cron::{BadExpression, Expression};

/// A planned time that lies further ahead than this is of a clock that was put back.
const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// Without catching up, what is later than this is missed.
const LATE_SECONDS: i64 = 120;

/// Days that are searched for the next time: eight years between two 29th of February, and some.
const MAX_DAYS: usize = 366 * 9;

/// Why a schedule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSchedule {
    /// The expression is none.
    #[error("the schedule {text:?}: {source}")]
    Expression {
        /// What was written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: BadExpression,
    },
    /// The expression never comes true.
    #[error("the schedule {text:?} is never due, such as on 30 February; write \"never\" if that is meant")]
    Never {
        /// What was written.
        text: String,
    },
    /// No time zone has this name.
    #[error(
        "the time zone {name:?} is not known; take \"system\", \"UTC\", a name such as \"Europe/Berlin\", or a POSIX rule"
    )]
    TimeZone {
        /// What was written.
        name: String,
    },
}

/// When one job is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
    offset_seconds: i64,
    catch_up: bool,
}

/// What a schedule says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whether the job is to be begun now.
    pub now: bool,
    /// Until when the schedule is dealt with, if the job is begun.
    pub planned: Time,
    /// When it is due after that.
    pub next: Option<Time>,
}

/// Finds a time zone.
///
/// # Errors
/// [`BadSchedule::TimeZone`].
pub fn time_zone(name: &str) -> Result<TimeZone, BadSchedule> {
    if name == "system" {
        return Ok(TimeZone::system());
    }
    TimeZone::get(name)
        .or_else(|_| TimeZone::posix(name))
        .map_err(|_| BadSchedule::TimeZone { name: name.to_owned() })
}

impl Schedule {
    /// The schedule of the job `name` on the host that writes as `writer`; nothing where it is never due.
    ///
    /// # Errors
    /// [`BadSchedule`].
    pub fn new(config: &JobSchedule, writer: &WriterId, name: &str) -> Result<Option<Self>, BadSchedule> {
        let zone = time_zone(&config.time_zone)?;
        if config.cron == "never" {
            return Ok(None);
        }
        let text = config.cron.clone();
        let expression: Expression =
            text.parse().map_err(|source| BadSchedule::Expression { text: text.clone(), source })?;
        let offset_seconds = offset(writer, name, config.jitter_seconds);
        let schedule = Self { expression, zone, offset_seconds, catch_up: config.catch_up };
        match schedule.next_after(Time::from_unix_seconds(0)) {
            Some(_) => Ok(Some(schedule)),
            None => Err(BadSchedule::Never { text }),
        }
    }

    /// The first time after `time` at which the job is due.
    pub fn next_after(&self, time: Time) -> Option<Time> {
        let shifted = Time::from_unix_seconds(time.unix_seconds().saturating_sub(self.offset_seconds));
        let next = self.next_of_expression(Timestamp::from_second(shifted.unix_seconds()).ok()?)?;
        Some(Time::from_unix_seconds(next.as_second() + self.offset_seconds))
    }

    /// Says whether the job is due at `now`, when the schedule was dealt with until `planned`.
    pub fn look(&self, planned: Option<Time>, now: Time) -> Due {
        let after = self.next_after(now);
        let ahead = planned.is_some_and(|p| p.unix_seconds() - now.unix_seconds() > CLOCK_TOLERANCE_SECONDS);
        let Some(planned) = planned else { return Due { now: false, planned: now, next: after } };
        if ahead {
            return Due { now: true, planned: now, next: after };
        }
        match self.next_after(planned) {
            Some(due) if due <= now => {
                let is_late = now.unix_seconds() - due.unix_seconds() > LATE_SECONDS;
                Due { now: self.catch_up || !is_late, planned: now, next: after }
            }
            next => Due { now: false, planned, next },
        }
    }

    fn next_of_expression(&self, after: Timestamp) -> Option<Timestamp> {
        // A day early: zones differ from each other by about that.
        let mut day = self.zone.to_datetime(after).date().yesterday().ok()?;
        let mut best: Option<Timestamp> = None;
        for _ in 0..MAX_DAYS {
            let had_one = best.is_some();
            for time in self.expression.times_of(day) {
                for instant in self.instants(day.to_datetime(time)) {
                    if instant > after && best.is_none_or(|best| instant < best) {
                        best = Some(instant);
                    }
                }
            }
            // One day more: a skipped time may fall behind one of the next day.
            if had_one {
                return best;
            }
            day = day.tomorrow().ok()?;
        }
        best
    }

    fn instants(&self, civil: jiff::civil::DateTime) -> Vec<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let every_hour = self.expression.is_every_hour();
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => ambiguous.earlier().into_iter().collect(),
            AmbiguousOffset::Gap { .. } if every_hour => Vec::new(),
            AmbiguousOffset::Gap { .. } => ambiguous.compatible().into_iter().collect(),
            AmbiguousOffset::Fold { .. } => {
                let both = [ambiguous.earlier(), ambiguous.later()];
                both.into_iter().take(if every_hour { 2 } else { 1 }).filter_map(Result::ok).collect()
            }
        }
    }
}

/// Seconds that a host adds to a job's times: below `jitter_seconds`, and always the same.
fn offset(writer: &WriterId, name: &str, jitter_seconds: u32) -> i64 {
    if jitter_seconds == 0 {
        return 0;
    }
    let digest = Digest::of(format!("lifeboat schedule\n{writer}\n{name}").as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest.as_bytes()[..8]);
    // A fraction of the range, so that a changed range shifts the hosts and does not shuffle them.
    ((u128::from(u64::from_be_bytes(number)) * u128::from(jitter_seconds)) >> 64) as i64
}

#[cfg(test)]
mod tests;
