//! Exit codes: the same for every command, so that monitoring can act on them.

use crate::{Finding, Severity};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration is wrong; nothing was done.
    Usage = 2,
    /// Done, and someone should look at the findings.
    Findings = 3,
    /// Damage or tampering.
    Damage = 4,
    /// No access: credentials, identity or passphrase.
    NoAccess = 5,
    /// Interrupted by a person.
    Interrupted = 130,
}

impl Exit {
    /// The number that the process returns.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What the worst of `findings` asks for.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        match findings.into_iter().map(|finding| finding.severity).max() {
            None | Some(Severity::Note) => Exit::Done,
            Some(Severity::Warning) => Exit::Findings,
            Some(Severity::Damage) => Exit::Damage,
        }
    }
}
