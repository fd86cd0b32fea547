//! The agent as a service, under clocks and stores that do what a test wants.

mod outage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_agent::agent::Outside;
use lifeboat_agent::clock::Clock;
use lifeboat_agent::jobs;
use lifeboat_agent::service::{JobEnded, Service, Unwatched};
use lifeboat_config::{Config, JobSchedule};
use lifeboat_engine::snapshot::Unobserved;
use lifeboat_schema::Time;
use lifeboat_tests::stage::StageHost;
use lifeboat_vault::store::Store;

/// Clocks that stand still until somebody sleeps.
pub(crate) struct FakeClock {
    /// What the wall shows when nothing has passed.
    base: i64,
    elapsed_milliseconds: AtomicU64,
}

impl FakeClock {
    fn new(beginning: &str) -> Arc<Self> {
        let base = beginning.parse::<Time>().expect("a time").unix_seconds();
        Arc::new(Self { base, elapsed_milliseconds: AtomicU64::new(0) })
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        self.elapsed_milliseconds.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Time {
        let seconds = self.elapsed_milliseconds.load(Ordering::Relaxed) / 1000;
        Time::from_unix_seconds(self.base + seconds as i64)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_milliseconds.load(Ordering::Relaxed))
    }

    async fn sleep(&self, pause: Duration) {
        self.pass(pause);
    }
}

/// A host's agent as a service, with a clock of its own, which can be ended and started.
pub(crate) struct Rig {
    config: Config,
    store: Store,
    clock: Arc<FakeClock>,
    service: Option<Service>,
}

impl Rig {
    fn new(host: &StageHost, store: Store, clock: &Arc<FakeClock>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::read(&host.folder.join("agent.toml")).expect("a configuration");
        config.watch.enabled = false;
        config.schedule.check_sample = JobSchedule::at("never");
        config.schedule.snapshot =
            JobSchedule { time_zone: "UTC".to_owned(), jitter_seconds: 0, ..JobSchedule::at("0 * * * *") };
        config.snapshot.threads = 1;
        change(&mut config);
        let mut rig = Self { config, store, clock: Arc::clone(clock), service: None };
        rig.start();
        rig
    }

    /// Starts the process, after it ended.
    fn start(&mut self) {
        self.service = None;
        let store = self.store.clone();
        let outside = Outside {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            observer: Arc::new(Unobserved),
            open_store: Box::new(move |_| Ok(store.clone())),
        };
        let service = Service::open(self.config.clone(), outside, jobs::built_in(), Box::new(Unwatched));
        self.service = Some(service.expect("a service"));
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("it runs")
    }

    /// Lets the service live for so long; gives what ended.
    async fn live(&mut self, time: Duration) -> Vec<JobEnded> {
        self.live_timed(time).await.into_iter().map(|(_, ended)| ended).collect()
    }

    /// As [`Rig::live`], with the moment at which each job ended.
    async fn live_timed(&mut self, time: Duration) -> Vec<(Duration, JobEnded)> {
        let until = self.clock.elapsed() + time;
        let mut ended = Vec::new();
        loop {
            let step = self.service.as_mut().expect("it runs").step().await.expect("a step");
            let now = self.clock.elapsed();
            ended.extend(step.ended.into_iter().map(|one| (now, one)));
            let left = until.saturating_sub(self.clock.elapsed());
            if left.is_zero() {
                return ended;
            }
            self.clock.pass(step.pause.min(left));
        }
    }

    fn waiting(&self) -> usize {
        self.service().agent().spooled_runs().expect("the spool")
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
