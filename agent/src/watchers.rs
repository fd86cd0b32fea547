//! Everybody who watches an agent, behind one call after each run.
//!
//! The service loop makes it once and hands it each [`RunOutcome`]; it writes the log's event, counts, and has messages sent
//! without waiting for them.

use std::net::SocketAddr;
use std::sync::Arc;

use lifeboat_config::Config;
use lifeboat_schema::Time;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::notify::{Notifier, Sender};
use crate::outcome::RunOutcome;

/// A clock for those who watch.
pub type WatchClock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The log, the metrics and the notifications of one agent.
pub struct Watchers {
    metrics: Arc<Metrics>,
    notifier: Notifier,
    sender: Arc<Sender>,
    runtime: Handle,
    clock: WatchClock,
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Watchers {
    /// Begins to answer on the configuration's address, if it has one. Must be called within a runtime, on which messages are
    /// sent too; the state folder must be there. Where it cannot answer it says so in the log, and the agent backs up unwatched.
    pub async fn start(config: &Config, clock: WatchClock) -> Self {
        let metrics = Arc::new(Metrics::new(config));
        let listening = match config.metrics.address() {
            None => None,
            Some(address) => match Listener::bind(&config.metrics, address).await {
                Ok(listener) => {
                    let bound = listener.address().unwrap_or(address);
                    let serving = listener.serve(Arc::clone(&metrics), Arc::clone(&clock));
                    Some((bound, tokio::spawn(serving)))
                }
                Err(error) => {
                    tracing::error!(%error, "no metrics are served; set metrics.listen to another address, or to \"\"");
                    None
                }
            },
        };
        let (notifier, sender) = (Notifier::open(config), Arc::new(Sender::new(&config.notify)));
        Self { metrics, notifier, sender, runtime: Handle::current(), clock, listening }
    }

    /// The metrics, to be told of the spool, of what is due, and that the loop goes round.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The address that is listened on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listening.as_ref().map(|(address, _)| *address)
    }

    /// Takes in how a run went: logs it, counts it, and has people told where that is due.
    pub fn run_ended(&mut self, outcome: &RunOutcome) {
        outcome.log();
        self.metrics.run_ended(outcome);
        for message in self.notifier.run_ended(outcome) {
            let (sender, now) = (Arc::clone(&self.sender), (self.clock)().unix_seconds());
            self.runtime.spawn(async move {
                for error in sender.send(&message, now).await {
                    tracing::warn!(%error, "a notification did not arrive");
                }
            });
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        if let Some((_, serving)) = &self.listening {
            serving.abort();
        }
    }
}
