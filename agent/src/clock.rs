//! The clocks of a host: one that people set, and one that only goes on.
//!
//! A port. The service asks the first what is due and the second how long something took; a test brings clocks
//! of its own, and lives through a month in seconds.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use lifeboat_schema::Time;

/// What a host knows of time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// What the clock on the wall shows. It may jump, in both directions.
    fn now(&self) -> Time;

    /// Time since some beginning; never goes back.
    fn elapsed(&self) -> Duration;

    /// Lets so much time pass.
    async fn sleep(&self, pause: Duration);
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::from_unix_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}
