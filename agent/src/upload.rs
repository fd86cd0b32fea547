//! How much is sent, and when: a limit of bytes a second, and the hours of the day at which the store is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Time as Civil;
use jiff::tz::TimeZone;
use lifeboat_config::UploadConfig;
use lifeboat_schema::Time;
use lifeboat_vault::outbox::Pace;

use crate::clock::Clock;
use crate::schedule::{BadSchedule, time_zone};

/// Why a window is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadWindow {
    /// It is no window.
    #[error("upload.window {text:?} is none: write it as 22:00-06:00, with different ends")]
    Text {
        /// What was written.
        text: String,
    },
    /// Its time zone is unknown.
    #[error(transparent)]
    TimeZone(#[from] BadSchedule),
}

/// The hours at which the store is asked.
#[derive(Debug, Clone)]
pub struct Window {
    from: Civil,
    to: Civil,
    zone: TimeZone,
    text: String,
}

impl Window {
    /// The window of a configuration; nothing where the store may always be asked.
    ///
    /// # Errors
    /// [`BadWindow`].
    pub fn new(config: &UploadConfig) -> Result<Option<Self>, BadWindow> {
        let zone = time_zone(&config.time_zone)?;
        if config.window.is_empty() {
            return Ok(None);
        }
        let text = config.window.clone();
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            Civil::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
        match ends.filter(|(from, to)| from != to) {
            Some((from, to)) => Ok(Some(Self { from, to, zone, text })),
            None => Err(BadWindow::Text { text }),
        }
    }

    /// Whether the store may be asked at `now`.
    pub fn is_open(&self, now: Time) -> bool {
        let now = Timestamp::from_second(now.unix_seconds()).unwrap_or_default();
        let time = self.zone.to_datetime(now).time();
        match self.from < self.to {
            true => (self.from..self.to).contains(&time),
            false => time >= self.from || time < self.to,
        }
    }

    /// The window as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Lets so many bytes pass a second: an object goes when those before it have had their time.
pub struct Throttle {
    clock: Arc<dyn Clock>,
    bytes_per_second: u64,
    /// When what was let through will have had its time.
    free_at: Mutex<Duration>,
}

impl Throttle {
    /// The limit of a configuration, if it has one.
    pub fn of(config: &UploadConfig, clock: &Arc<dyn Clock>) -> Option<Arc<dyn Pace>> {
        let bytes_per_second = config.max_kibibytes_per_second.saturating_mul(1024);
        (bytes_per_second > 0).then(|| {
            let (clock, free_at) = (Arc::clone(clock), Mutex::new(Duration::ZERO));
            Arc::new(Self { clock, bytes_per_second, free_at }) as Arc<dyn Pace>
        })
    }
}

#[async_trait]
impl Pace for Throttle {
    async fn before(&self, bytes: u64) {
        let now = self.clock.elapsed();
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free_at).max(now);
            let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
            *free_at = begin + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
            begin
        };
        if begin > now {
            self.clock.sleep(begin - now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Result<Option<Window>, BadWindow> {
        let config = UploadConfig {
            window: text.to_owned(),
            time_zone: "CET-1CEST,M3.5.0,M10.5.0/3".to_owned(),
            ..UploadConfig::default()
        };
        Window::new(&config)
    }

    #[test]
    fn windows_have_two_ends_and_may_go_over_midnight() {
        let open = |text: &str, at: &str| window(text).unwrap().unwrap().is_open(at.parse().unwrap());
        for (at, night, day) in [
            ("2026-01-01T20:59:59Z", false, true),
            ("2026-01-01T21:00:00Z", true, false),
            ("2026-01-02T04:59:59Z", true, false),
            ("2026-01-02T05:00:00Z", false, true),
            ("2026-07-01T20:00:00Z", true, false),
        ] {
            assert_eq!((open("22:00-06:00", at), open("06:00-22:00", at)), (night, day), "{at}");
        }
        assert!(window("").unwrap().is_none());
        for bad in ["22:00", "22-6", "22:00-22:00", "25:00-06:00", "a:b-c:d"] {
            assert!(window(bad).unwrap_err().to_string().contains("22:00-06:00"), "{bad}");
        }
    }

    /// A clock on which only sleeping takes time.
    struct Slept(Mutex<Duration>);

    #[async_trait]
    impl Clock for Slept {
        fn now(&self) -> Time {
            Time::from_unix_seconds(0)
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        async fn sleep(&self, pause: Duration) {
            *self.0.lock().unwrap() += pause;
        }
    }

    #[tokio::test]
    async fn bytes_take_their_time() {
        let clock: Arc<dyn Clock> = Arc::new(Slept(Mutex::new(Duration::ZERO)));
        let config = UploadConfig { max_kibibytes_per_second: 100, ..UploadConfig::default() };
        let throttle = Throttle::of(&config, &clock).unwrap();
        for _ in 0..11 {
            throttle.before(200 * 1024).await;
        }
        // Ten objects of two seconds each went before the last one.
        assert_eq!(clock.elapsed(), Duration::from_secs(20));
        assert!(Throttle::of(&UploadConfig::default(), &clock).is_none());
    }
}
