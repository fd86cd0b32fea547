//! What `lifeboat-agent doctor` finds out about a host's agent and its store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Exit, Time, VaultId, WriterId};

/// What keeps objects from this host's own credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreProtection {
    /// A policy: the store refuses to replace and to delete.
    Refused,
    /// A lock: what is replaced or deleted stays as a version that is locked.
    Locked,
    /// Versions: what is replaced or deleted stays as a version that these credentials cannot delete.
    Versioned,
    /// Nothing: who has these credentials can destroy what this host wrote.
    Unprotected,
    /// Not found out.
    Unknown,
}

impl StoreProtection {
    /// All, in the order of metrics.
    pub const ALL: [Self; 5] =
        [Self::Refused, Self::Locked, Self::Versioned, Self::Unprotected, Self::Unknown];

    /// What people and metrics read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Locked => "locked",
            Self::Versioned => "versioned",
            Self::Unprotected => "unprotected",
            Self::Unknown => "unknown",
        }
    }
}

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// As it should be.
    Works,
    /// Worth knowing, nothing to do.
    Note,
    /// Works, and someone should act.
    Finding,
    /// Does not work: runs will fail.
    Fails,
    /// Not looked at, because something before it fails or the store has no answer.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorCheck {
    /// Stable name for programs, such as `conditional-writes`.
    pub check: String,
    /// How it went.
    pub outcome: CheckOutcome,
    /// What was found.
    pub what: String,
    /// What to do, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Exit code of a check that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// `lifeboat-agent doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorReport {
    /// The vault.
    pub vault: VaultId,
    /// The host's writer id.
    pub writer: WriterId,
    /// URL of the store.
    pub store: String,
    /// When it was looked at, by this host's clock.
    pub examined: Time,
    /// What keeps objects from this host's own credentials.
    pub protection: StoreProtection,
    /// Everything that was looked at, in that order.
    pub checks: Vec<DoctorCheck>,
}

impl DoctorReport {
    /// How the command ends: by what fails, tampering first, then access, then configuration; else by findings.
    pub fn exit(&self) -> Exit {
        let failed = |exit: Exit| {
            self.checks
                .iter()
                .any(|check| check.outcome == CheckOutcome::Fails && check.exit_code == Some(exit.code()))
        };
        for exit in [Exit::Damage, Exit::NoAccess, Exit::Usage] {
            if failed(exit) {
                return exit;
            }
        }
        if self.checks.iter().any(|check| check.outcome == CheckOutcome::Fails) {
            return Exit::Failed;
        }
        match self.checks.iter().any(|check| check.outcome == CheckOutcome::Finding) {
            true => Exit::Findings,
            false => Exit::Done,
        }
    }
}
