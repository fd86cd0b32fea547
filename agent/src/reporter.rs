//! What a service does, told to those who watch: log, metrics, people, and the service manager.
//!
//! Sits between the service's loop and [`Watchers`]; decides nothing of what is worth a message.

use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_schema::{Exit, Time};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::metrics::SpoolDepth;
use crate::outcome::{RunFailure, RunOutcome};
use crate::service::{JobEnded, ServiceObserver};
use crate::supervisor::{Notice, Supervisor};
use crate::watchers::{WatchClock, Watchers};

/// Tells everybody.
pub struct Reporter {
    watchers: Mutex<Watchers>,
    supervisor: Arc<Supervisor>,
    alive: JoinHandle<()>,
    /// Since when runs wait in the spool.
    waiting_since: Mutex<Option<Time>>,
}

impl Reporter {
    /// Tells the service manager that the agent is ready, and from then on that it lives. Must be called within a runtime.
    pub fn begin(watchers: Watchers, supervisor: Supervisor, clock: WatchClock) -> Self {
        let supervisor = Arc::new(supervisor);
        supervisor.tell(&Notice::Ready);
        let metrics = Arc::clone(watchers.metrics());
        metrics.show_alive(clock());
        let often = supervisor.watchdog().unwrap_or(std::time::Duration::from_secs(30));
        let told = Arc::clone(&supervisor);
        // A run may take longer than the manager waits; what must go on meanwhile is the runtime.
        let alive = tokio::spawn(async move {
            loop {
                tokio::time::sleep(often).await;
                told.tell(&Notice::Alive);
                metrics.show_alive(clock());
            }
        });
        Self { watchers: Mutex::new(watchers), supervisor, alive, waiting_since: Mutex::default() }
    }

    /// How a job went, as those who watch take it; none for a job that committed nothing because nothing was to be.
    fn outcome(ended: &JobEnded) -> Option<RunOutcome> {
        let result = match (&ended.snapshot, ended.exit) {
            (Some(report), _) => Ok(report.clone()),
            (None, Exit::Done | Exit::Findings) => return None,
            (None, exit) => Err(RunFailure::of_exit(exit, ended.summary.clone())),
        };
        let seconds = i64::try_from(ended.took.as_secs()).unwrap_or(i64::MAX);
        let finished = Time::from_unix_seconds(ended.started.unix_seconds().saturating_add(seconds));
        Some(RunOutcome { job: ended.name, started: ended.started, finished, result })
    }
}

impl ServiceObserver for Reporter {
    fn began(&self, name: &'static str) {
        self.supervisor.tell(&Notice::Status(&format!("{name} is under way")));
    }

    fn ended(&self, ended: &JobEnded, agent: &Agent) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        match Self::outcome(ended) {
            Some(outcome) => watchers.run_ended(&outcome),
            None => {
                let milliseconds = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(job = ended.name, milliseconds, exit = ended.exit.code(), "{}", ended.summary);
            }
        }
        for finding in &ended.findings {
            tracing::warn!(job = ended.name, code = %finding.code, place = %finding.place, next = %finding.next, "{}", finding.what);
        }
        let runs = agent.spooled_runs().map_or(0, |runs| u64::try_from(runs).unwrap_or(u64::MAX));
        let mut since = self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (runs > 0).then(|| since.unwrap_or(ended.started));
        let oldest = *since;
        watchers.metrics().set_spool(SpoolDepth { runs, bytes: agent.spooled_bytes(), oldest });
        for job in agent.catalog.jobs().unwrap_or_default() {
            watchers.metrics().set_next_run(&job.name, job.next);
        }
        self.supervisor.tell(&Notice::Status(&ended.summary));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.alive.abort();
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).metrics().stopping();
        self.supervisor.tell(&Notice::Stopping);
    }
}
