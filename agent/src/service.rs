//! The agent as a service: what is due is done, one thing after the other.
//!
//! [`Service::step`] does what is due at this moment and says when something will be next; whoever calls it brings the
//! time, which a test makes go by as it likes. [`serve`] is the caller in a real process: it waits, takes signals, and
//! lets a job that is under way end. No job runs beside another, so none overlaps itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_config::Config;
use lifeboat_engine::catalog::JobState;
use lifeboat_engine::changes::{LastSeen, look};
use lifeboat_schema::{Exit, Finding, RunReport, Time};

use crate::agent::{Agent, Outside};
use crate::jobs::{self, Entry, JobEnd, OPTIONAL};
use crate::run::RunError;
use crate::schedule::Schedule;
use crate::watch::{self, Feed, Watch};

/// The longest that a service sleeps: a clock that was set, or a host that slept, is noticed then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A clock that is put back by less was corrected.
const CLOCK_STEP_SECONDS: i64 = 60;

/// How long a failed job waits at first; twice as long after each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// And at most.
const LONGEST_RETRY: Duration = Duration::from_secs(15 * 60);

/// A job that ended, well or not.
#[derive(Debug)]
pub struct JobEnded {
    /// Its name.
    pub name: &'static str,
    /// When it began.
    pub started: Time,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub exit: Exit,
    /// What it did, or why it failed.
    pub summary: String,
    /// What someone should know.
    pub findings: Vec<Finding>,
    /// The report of a snapshot.
    pub snapshot: Option<RunReport>,
}

/// Is told what a service does.
pub trait ServiceObserver: Send {
    /// A job begins.
    fn began(&self, name: &'static str) {
        let _ = name;
    }

    /// A job ended.
    fn ended(&self, ended: &JobEnded, agent: &Agent) {
        let _ = (ended, agent);
    }
}

/// Looks away.
pub struct Unwatched;

impl ServiceObserver for Unwatched {}

/// What a step did.
#[derive(Debug)]
pub struct Step {
    /// Jobs that ended.
    pub ended: Vec<JobEnded>,
    /// How long nothing is due.
    pub pause: Duration,
}

struct Scheduled {
    entry: Entry,
    schedule: Option<Schedule>,
    state: JobState,
    failures: u32,
    /// When a job that failed is tried again.
    retry_at: Option<Duration>,
}

/// An agent with its schedules.
pub struct Service {
    agent: Agent,
    jobs: Vec<Scheduled>,
    watch: Option<Watch>,
    observer: Box<dyn ServiceObserver>,
    stopping: Arc<AtomicBool>,
    /// Both clocks at the last step.
    last_clocks: (Time, Duration),
}

impl Service {
    /// Takes the lock of the agent's folder, and reads what its jobs are due.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn open(
        config: Config,
        outside: Outside,
        entries: Vec<Entry>,
        observer: Box<dyn ServiceObserver>,
    ) -> Result<Self, RunError> {
        let schedules = schedules(&config, &entries)?;
        let agent = Agent::open(config, outside)?;
        let known = agent.catalog.jobs()?;
        let state = |name: &str| {
            let known = known.iter().find(|job| job.name == name).cloned();
            known.unwrap_or_else(|| JobState { name: name.to_owned(), ..JobState::default() })
        };
        let jobs = entries
            .into_iter()
            .zip(schedules)
            .map(|(entry, schedule)| Scheduled {
                state: state(entry.job.name()),
                entry,
                schedule,
                failures: 0,
                retry_at: None,
            })
            .collect();
        let watch = watch_of(&agent);
        let last_clocks = (agent.outside.clock.now(), agent.outside.clock.elapsed());
        Ok(Self { agent, jobs, watch, observer, stopping: Arc::default(), last_clocks })
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Keeps a step that is under way from beginning another job, when set.
    pub fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }

    /// Goes on with another configuration.
    ///
    /// # Errors
    /// [`RunError`]; the old one stays.
    pub fn reload(&mut self, config: Config) -> Result<(), RunError> {
        let entries: Vec<&Entry> = self.jobs.iter().map(|job| &job.entry).collect();
        let schedules = schedules(&config, entries)?;
        self.agent.reload(config)?;
        for (job, schedule) in self.jobs.iter_mut().zip(schedules) {
            (job.schedule, job.retry_at, job.failures) = (schedule, None, 0);
        }
        self.watch = watch_of(&self.agent);
        Ok(())
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// Only the catalog's: without it nothing is known of what is due. What a job fails of is its own.
    pub async fn step(&mut self) -> Result<Step, RunError> {
        self.follow_clock();
        let mut ended = Vec::new();
        ended.extend(self.send_spool().await);
        for index in 0..self.jobs.len() {
            if !self.is_stopping() {
                ended.extend(self.scheduled(index).await?);
            }
        }
        if !self.is_stopping() {
            ended.extend(self.watched().await?);
        }
        Ok(Step { ended, pause: self.pause()? })
    }

    /// A clock that was put back takes the schedules with it: what was done an hour ago is still an hour old. Put
    /// forward it makes jobs due, as sleep does.
    fn follow_clock(&mut self) {
        let (wall, elapsed) = self.clocks();
        let (last_wall, last_elapsed) = self.last_clocks;
        let passed = elapsed.saturating_sub(last_elapsed).as_secs();
        let back =
            i64::try_from(passed).unwrap_or(i64::MAX) - (wall.unix_seconds() - last_wall.unix_seconds());
        if back > CLOCK_STEP_SECONDS {
            tracing::warn!(seconds = back, "the clock was put back");
            for job in &mut self.jobs {
                let earlier = |time: Time| Time::from_unix_seconds(time.unix_seconds() - back);
                job.state.planned = job.state.planned.map(earlier);
            }
        }
        self.last_clocks = (wall, elapsed);
    }

    /// Sends what waits, as soon as the store may be asked.
    async fn send_spool(&mut self) -> Option<JobEnded> {
        let (started, began) = self.clocks();
        let (exit, summary, findings) = match self.agent.send_spool().await {
            Ok(None) => return None,
            Ok(Some(sent)) => {
                let exit = Exit::of(&sent.findings);
                let (done, lost) = (sent.records.len(), sent.given_up.len());
                let mut summary = format!("{done} sealed runs sent, {lost} given up");
                if let Some(cause) = sent.stopped {
                    summary += &format!("; {cause}");
                }
                (exit, summary, sent.findings)
            }
            Err(error) => (error.exit(), error.to_string(), Vec::new()),
        };
        Some(self.ended("send", started, began, exit, summary, findings, None))
    }

    async fn scheduled(&mut self, index: usize) -> Result<Option<JobEnded>, RunError> {
        let (now, elapsed) = self.clocks();
        let job = &mut self.jobs[index];
        let Some(schedule) = &job.schedule else { return Ok(None) };
        let look = schedule.look(job.state.planned, now);
        let is_first = job.state.planned.is_none() && job.entry.job.is_due_at_first();
        let is_retry = job.retry_at.is_some_and(|at| elapsed >= at);
        let is_news = job.state.planned != Some(look.planned) || job.state.next != look.next;
        if !(look.now || is_first || is_retry) {
            if is_news {
                (job.state.planned, job.state.next) = (Some(look.planned), look.next);
                self.agent.catalog.remember_job(&job.state)?;
            }
            return Ok(None);
        }
        self.observer.began(job.entry.job.name());
        let result = job.entry.job.run(&mut self.agent).await;
        let (exit, summary, findings, snapshot) = match result {
            Ok(JobEnd { exit, summary, findings, snapshot }) => {
                (job.failures, job.retry_at) = (0, None);
                (exit, summary, findings, snapshot)
            }
            Err(error) => {
                let pause = FIRST_RETRY.saturating_mul(1 << job.failures.min(8)).min(LONGEST_RETRY);
                job.failures = job.failures.saturating_add(1);
                job.retry_at = Some(self.agent.outside.clock.elapsed() + pause);
                (error.exit(), error.to_string(), Vec::new(), None)
            }
        };
        // Only now: what a process that died had begun is begun anew.
        let next = schedule.next_after(now);
        let ended = Some(self.agent.outside.clock.now());
        job.state = JobState {
            name: job.state.name.clone(),
            planned: Some(now),
            started: Some(now),
            ended,
            exit: Some(exit.code()),
            next,
        };
        self.agent.catalog.remember_job(&job.state)?;
        let name = job.entry.job.name();
        Ok(Some(self.ended(name, now, elapsed, exit, summary, findings, snapshot)))
    }

    /// Looks whether VMs changed, and captures those.
    async fn watched(&mut self) -> Result<Option<JobEnded>, RunError> {
        let (wall, now) = self.clocks();
        let Some(watch) =
            self.watch.as_mut().filter(|watch| watch.feed().is_some() || watch.next_look() <= now)
        else {
            return Ok(None);
        };
        // Before the first snapshot everything is a change, which is the schedule's.
        if !watch.is_look_due(now) || self.agent.catalog.tip()?.is_none() {
            return Ok(None);
        }
        let last = LastSeen::new(&self.agent.catalog.vms()?);
        let sources = self.agent.sources().to_vec();
        let found = tokio::task::spawn_blocking(move || look(&sources, &last)).await.unwrap_or_default();
        let due = watch.looked(&found, now, wall);
        if due.is_empty() {
            return Ok(None);
        }
        self.observer.began("watch");
        let (exit, summary, findings, snapshot) = match self.agent.snapshot(Some(&due)).await {
            Ok((report, placed)) => {
                let JobEnd { exit, summary, findings, snapshot } = jobs::end_of_snapshot(report, placed);
                (exit, summary, findings, snapshot)
            }
            Err(error) => (error.exit(), error.to_string(), Vec::new(), None),
        };
        Ok(Some(self.ended("watch", wall, now, exit, summary, findings, snapshot)))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of what is told, in one place")]
    fn ended(
        &self,
        name: &'static str,
        started: Time,
        began: Duration,
        exit: Exit,
        summary: String,
        findings: Vec<Finding>,
        snapshot: Option<RunReport>,
    ) -> JobEnded {
        let took = self.agent.outside.clock.elapsed().saturating_sub(began);
        let ended = JobEnded { name, started, took, exit, summary, findings, snapshot };
        self.observer.ended(&ended, &self.agent);
        ended
    }

    /// How long nothing is due.
    fn pause(&self) -> Result<Duration, RunError> {
        let (now, elapsed) = self.clocks();
        let mut pause = Duration::from_secs(86_400);
        for job in self.jobs.iter().filter(|job| job.schedule.is_some()) {
            if let Some(next) = job.state.next {
                let seconds = (next.unix_seconds() - now.unix_seconds()).max(0).unsigned_abs();
                pause = pause.min(Duration::from_secs(seconds));
            }
            if let Some(at) = job.retry_at {
                pause = pause.min(at.saturating_sub(elapsed));
            }
        }
        if let Some(watch) = &self.watch {
            pause = pause.min(watch.next_look().saturating_sub(elapsed));
        }
        if self.agent.spooled_runs()? > 0 {
            let until = self.agent.breaker.until().saturating_sub(elapsed);
            // The window has no moment of its own: it is looked at every minute.
            pause = pause.min(if until.is_zero() { LONGEST_SLEEP } else { until });
        }
        Ok(pause.max(Duration::from_millis(10)))
    }

    fn clocks(&self) -> (Time, Duration) {
        (self.agent.outside.clock.now(), self.agent.outside.clock.elapsed())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn schedules<'a>(
    config: &Config,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<Vec<Option<Schedule>>, RunError> {
    let mut names = Vec::new();
    let mut schedules = Vec::new();
    for entry in entries {
        let job = entry.job.name();
        names.push(job);
        let schedule = match (entry.schedule)(&config.schedule) {
            Some(schedule) => Schedule::new(schedule, &config.writer, job)
                .map_err(|source| RunError::Schedule { job, source })?,
            None => None,
        };
        schedules.push(schedule);
    }
    let lacking = OPTIONAL.iter().find(|(job, of)| of(&config.schedule).is_some() && !names.contains(job));
    match lacking {
        Some((job, _)) => Err(RunError::NoSuchJob { job }),
        None => Ok(schedules),
    }
}

/// Says whether a configuration could be served; nothing is opened.
///
/// # Errors
/// [`RunError`].
pub fn check(config: &Config, entries: &[Entry]) -> Result<Vec<(&'static str, Option<Schedule>)>, RunError> {
    crate::upload::Window::new(&config.upload)?;
    let schedules = schedules(config, entries)?;
    Ok(entries.iter().map(|entry| entry.job.name()).zip(schedules).collect())
}

fn watch_of(agent: &Agent) -> Option<Watch> {
    let config = &agent.config;
    if !config.watch.enabled {
        return None;
    }
    let feed = Feed::open(&watch::roots(config));
    if let Err(error) = &feed {
        let seconds = config.watch.poll_seconds;
        tracing::warn!(%error, "the system does not tell of changes; folders are looked at every {seconds} s");
    }
    Watch::new(&config.watch, feed.ok(), agent.outside.clock.elapsed())
}

/// What a person or the system asks of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// End, after the job that is under way.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Where requests come from.
#[async_trait::async_trait(?Send)]
pub trait Requests {
    /// Waits for the next one.
    async fn next(&mut self) -> Asked;
}

/// Runs until it is asked to stop. `read` reads the configuration again.
///
/// # Errors
/// The catalog's.
pub async fn serve(
    mut service: Service,
    requests: &mut dyn Requests,
    read: &dyn Fn() -> Result<Config, RunError>,
) -> Result<Exit, RunError> {
    loop {
        let mut reload = false;
        let pause = {
            let (stopping, clock) = (service.stopping(), Arc::clone(&service.agent.outside.clock));
            let grace = Duration::from_secs(u64::from(service.agent.config.service.stop_grace_seconds));
            let mut step = std::pin::pin!(service.step());
            loop {
                let asked = tokio::select! {
                    biased;
                    done = &mut step => break done?.pause,
                    asked = requests.next() => asked,
                };
                if asked == Asked::Reload {
                    reload = true;
                    continue;
                }
                // What is under way ends, or is left where it is: without its record it is nothing.
                stopping.store(true, Ordering::Relaxed);
                tracing::info!(grace_seconds = grace.as_secs(), "asked to stop");
                return tokio::select! {
                    biased;
                    done = &mut step => done.map(|_| Exit::Done),
                    () = clock.sleep(grace) => Ok(Exit::Interrupted),
                };
            }
        };
        if !reload {
            let clock = Arc::clone(&service.agent.outside.clock);
            let feed = service.watch.as_ref().and_then(Watch::feed);
            let stirred = async {
                match feed {
                    Some(feed) => feed.changed().await,
                    None => std::future::pending().await,
                }
            };
            match sleep_or(&*clock, pause.min(LONGEST_SLEEP), stirred, requests).await {
                Some(Asked::Stop) => return Ok(Exit::Done),
                Some(Asked::Reload) => reload = true,
                None => {}
            }
        }
        if reload {
            match read().and_then(|config| service.reload(config)) {
                Ok(()) => tracing::info!("the configuration was read again"),
                Err(error) => tracing::error!(%error, "the configuration is refused, and the old one stays"),
            }
        }
    }
}

async fn sleep_or(
    clock: &dyn crate::clock::Clock,
    pause: Duration,
    stirred: impl Future<Output = ()>,
    requests: &mut dyn Requests,
) -> Option<Asked> {
    tokio::select! {
        asked = requests.next() => Some(asked),
        () = clock.sleep(pause) => None,
        () = async {
            stirred.await;
            // Files come in crowds: one look a second is enough.
            clock.sleep(Duration::from_secs(1)).await;
        } => None,
    }
}
