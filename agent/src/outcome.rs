//! How one run of a job went, for everybody who watches: metrics, notifications, the log.
//!
//! Made by the service loop from what `run` gives; knows nothing of those who take it.

use lifeboat_engine::snapshot::SnapshotError;
use lifeboat_schema::{CarriedWhy, Exit, RunReport, Severity, Time};
use lifeboat_vault::store::StoreError;
use lifeboat_vault::vault::VaultError;

use crate::run::{RunError, exit_of};

/// One run.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// Which job, such as `snapshot`.
    pub job: &'static str,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub finished: Time,
    /// What it came to.
    pub result: Result<RunReport, RunFailure>,
}

/// Why a run committed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// The cause, for metrics.
    pub cause: FailureCause,
    /// The exit code that `run --once` would end with.
    pub exit: Exit,
    /// What happened, why, and what to do.
    pub error: String,
}

/// Causes of failed runs: a closed list, so that metrics stay small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureCause {
    /// The store did not answer.
    StoreUnreachable,
    /// The store refused access.
    StoreDenied,
    /// The store has no room.
    StoreFull,
    /// The store failed in another way.
    StoreOther,
    /// The vault is not the one that is pinned, was rolled back, or is damaged.
    Vault,
    /// The policies do not let this host write.
    NotAllowed,
    /// The signing key cannot be used.
    Key,
    /// The configuration is refused.
    Configuration,
    /// The catalog cannot be used.
    Catalog,
    /// Another run holds the state folder, or it cannot be used.
    StateFolder,
    /// Anything else.
    Other,
}

impl FailureCause {
    /// All causes, in the order of metrics.
    pub const ALL: [Self; 11] = [
        Self::StoreUnreachable,
        Self::StoreDenied,
        Self::StoreFull,
        Self::StoreOther,
        Self::Vault,
        Self::NotAllowed,
        Self::Key,
        Self::Configuration,
        Self::Catalog,
        Self::StateFolder,
        Self::Other,
    ];

    /// Its name in metrics and messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::StoreUnreachable => "store-unreachable",
            Self::StoreDenied => "store-denied",
            Self::StoreFull => "store-full",
            Self::StoreOther => "store-other",
            Self::Vault => "vault",
            Self::NotAllowed => "not-allowed",
            Self::Key => "key",
            Self::Configuration => "configuration",
            Self::Catalog => "catalog",
            Self::StateFolder => "state-folder",
            Self::Other => "other",
        }
    }
}

impl RunFailure {
    /// What a run's error is, for those who watch.
    pub fn of(error: &RunError) -> Self {
        let cause = match error {
            RunError::Config(_) => FailureCause::Configuration,
            RunError::Locked { .. } | RunError::Folder { .. } => FailureCause::StateFolder,
            RunError::KeyExposed { .. } | RunError::KeyUnreadable { .. } | RunError::Key { .. } => {
                FailureCause::Key
            }
            RunError::Catalog(_) | RunError::Snapshot(SnapshotError::Catalog(_)) => FailureCause::Catalog,
            RunError::Vault(error) | RunError::Snapshot(SnapshotError::Vault(error)) => of_vault(error),
            _ => FailureCause::Other,
        };
        Self { cause, exit: error.exit(), error: error.to_string() }
    }
}

impl RunFailure {
    /// For a job of which only its exit code and text are known.
    pub fn of_exit(exit: Exit, error: String) -> Self {
        let cause = match exit {
            Exit::Usage => FailureCause::Configuration,
            Exit::Damage => FailureCause::Vault,
            Exit::NoAccess => FailureCause::StoreDenied,
            _ => FailureCause::Other,
        };
        Self { cause, exit, error }
    }
}

fn of_vault(error: &VaultError) -> FailureCause {
    match error {
        VaultError::Store(StoreError::Unreachable { .. }) => FailureCause::StoreUnreachable,
        VaultError::Store(StoreError::Denied { .. }) => FailureCause::StoreDenied,
        VaultError::Store(StoreError::Full { .. }) => FailureCause::StoreFull,
        VaultError::Store(StoreError::Configuration { .. }) => FailureCause::Configuration,
        VaultError::Store(_) => FailureCause::StoreOther,
        VaultError::NotAllowed { .. } => FailureCause::NotAllowed,
        VaultError::Key(_) => FailureCause::Key,
        _ => FailureCause::Vault,
    }
}

impl RunOutcome {
    /// How the run would end as a command.
    pub fn exit(&self) -> Exit {
        match &self.result {
            Ok(report) => exit_of(report),
            Err(failure) => failure.exit,
        }
    }

    /// What someone has to look at, each on a line; empty where all is well.
    pub fn troubles(&self) -> Vec<String> {
        let report = match &self.result {
            Err(failure) => return vec![failure.error.clone()],
            Ok(report) => report,
        };
        let mut troubles = Vec::new();
        for vm in report.carried.iter().filter(|vm| vm.why == CarriedWhy::Failed) {
            let error = vm.error.as_deref().unwrap_or("it could not be read");
            troubles.push(format!("{}: {error}; its capture stands since {}", vm.name, vm.since));
        }
        troubles.extend(
            report.failed.iter().map(|vm| format!("{}: {}; nothing is kept of it", vm.place, vm.error)),
        );
        let findings = report.findings.iter().filter(|one| one.severity > Severity::Note);
        troubles.extend(findings.map(|one| format!("{}: {}; next: {}", one.place, one.what, one.next)));
        troubles
    }

    /// Writes the one event that sums a run up.
    pub fn log(&self) {
        let seconds = self.finished.unix_seconds().saturating_sub(self.started.unix_seconds());
        match &self.result {
            Ok(report) if self.exit() == Exit::Done => tracing::info!(
                job = self.job,
                seconds,
                seq = report.seq,
                found = report.found,
                captured = report.captured,
                unchanged = report.unchanged,
                carried = report.carried.len(),
                stored_objects = report.stored_objects,
                stored_bytes = report.stored_bytes,
                "run committed"
            ),
            Ok(report) => tracing::warn!(
                job = self.job,
                seconds,
                seq = report.seq,
                found = report.found,
                captured = report.captured,
                unchanged = report.unchanged,
                carried = report.carried.len(),
                failed = report.failed.len(),
                findings = report.findings.len(),
                stored_objects = report.stored_objects,
                stored_bytes = report.stored_bytes,
                exit = self.exit().code(),
                trouble = self.troubles().first().map(String::as_str).unwrap_or_default(),
                "run committed, with findings"
            ),
            Err(failure) => tracing::error!(
                job = self.job,
                seconds,
                cause = failure.cause.word(),
                exit = failure.exit.code(),
                error = failure.error,
                "run failed"
            ),
        }
    }
}
