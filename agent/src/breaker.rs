//! Leaves a store alone that has just failed: longer after each failure, and at most a quarter of an hour.
//!
//! A run that meets a dead store waits for every timeout of it. While the breaker is open runs go to the spool at
//! once; then one attempt is let through, and its end decides. Pure: the time is handed in.

use std::time::Duration;

/// How long the store is left alone after the first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Remembers how the store did.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    until: Duration,
}

impl Breaker {
    /// Whether the store may be asked.
    pub fn allows(&self, elapsed: Duration) -> bool {
        elapsed >= self.until
    }

    /// When it may be asked again; in the past if it may.
    pub fn until(&self) -> Duration {
        self.until
    }

    /// How often in a row it failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed.
    pub fn failed(&mut self, elapsed: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.until = elapsed + pause;
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_an_answer() {
        let (mut breaker, mut now, mut pauses) = (Breaker::default(), Duration::from_secs(100), Vec::new());
        assert!(breaker.allows(now));
        for _ in 0..40 {
            breaker.failed(now);
            assert!(!breaker.allows(now));
            pauses.push((breaker.until() - now).as_secs());
            now = breaker.until();
            assert!(breaker.allows(now));
        }
        assert_eq!(pauses[..7], [30, 60, 120, 240, 480, 900, 900]);
        assert!(pauses[7..].iter().all(|seconds| *seconds == 900));
        breaker.succeeded();
        assert!(breaker.allows(Duration::ZERO) && breaker.failures() == 0);
    }
}
