//! Findings: what a check or a run has to tell a person, each with its next step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a finding is; the worst of a command decides its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing, nothing to do.
    Note,
    /// Someone should act; exit code 3.
    Warning,
    /// Bytes are damaged, missing, rolled back or not what a key signed; exit code 4.
    Damage,
}

/// Code of the finding that a private key lies where only public material belongs.
pub const PRIVATE_KEY_EXPOSED: &str = "PRIVATE-KEY-EXPOSED";

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable name for programs, such as `object-damaged`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// Which object, record, writer or VM.
    pub place: String,
    /// What was found.
    pub what: String,
    /// What to do next.
    pub next: String,
}

impl Finding {
    /// A finding of the given severity.
    pub fn new(
        severity: Severity,
        code: &str,
        place: impl Into<String>,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { code: code.to_owned(), severity, place: place.into(), what: what.into(), next: next.into() }
    }
}
