//! Errors of the command: what happened, why, what to do, and with which exit code the process ends.

use std::fmt;

use lifeboat_audit::AuditError;
use lifeboat_disk::DiskError;
use lifeboat_engine::admin::AdminError;
use lifeboat_engine::restore::RestoreError;
use lifeboat_escrow::{SealingError, StateError};
use lifeboat_importer::ImporterError;
use lifeboat_recover::RecoverError;
use lifeboat_schema::Exit;
use lifeboat_vault::key::KeyError;
use lifeboat_vault::seal::SealError;
use lifeboat_vault::store::StoreError;
use lifeboat_vault::vault::VaultError;

/// How a command failed.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) text: String,
    pub(crate) exit: Exit,
}

impl CliError {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { text: text.into(), exit }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// A file of this machine that could not be read or written.
    pub(crate) fn file(path: &std::path::Path, did: &str, source: &std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("{} cannot be {did}: {source}", path.display()))
    }

    /// The same error with the file or thing that it is about.
    pub(crate) fn about(self, place: impl fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text), ..self }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<VaultError> for CliError {
    fn from(error: VaultError) -> Self {
        let exit = error.exit();
        let hint = match &error {
            VaultError::Seal(SealError::NoMatch) => {
                ". Give the identity of the right role and owner with --identity; `lifeboat check` says which roles there are"
            }
            VaultError::Seal(
                SealError::BadIdentity { .. } | SealError::BadIdentityFile { .. } | SealError::NoIdentity,
            ) => ". Give a file that `lifeboat init` or `age-keygen` wrote, such as restore.identity",
            _ => "",
        };
        Self::new(exit, format!("{error}{hint}"))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        VaultError::from(error).into()
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::NoAccess, error.to_string())
    }
}

impl From<SealError> for CliError {
    fn from(error: SealError) -> Self {
        VaultError::from(error).into()
    }
}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Vault(error) => error.into(),
            AdminError::NotAnAdmin(_) => Self::new(Exit::NoAccess, error.to_string()),
            AdminError::LedgerDamaged(_) | AdminError::Collision { .. } => {
                Self::new(Exit::Damage, error.to_string())
            }
            AdminError::Seal(error) => error.into(),
            other => Self::new(Exit::Usage, other.to_string()),
        }
    }
}

impl From<AuditError> for CliError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Vault(error) => error.into(),
            other => Self::new(other.exit(), other.to_string()),
        }
    }
}

impl From<SealingError> for CliError {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::Vault(error) => error.into(),
            SealingError::State(error) => error.into(),
            SealingError::Seal(error) => error.into(),
            other => Self::usage(other.to_string()),
        }
    }
}

impl From<ImporterError> for CliError {
    fn from(error: ImporterError) -> Self {
        match error {
            ImporterError::Vault(error) => error.into(),
            ImporterError::Sealing(error) => error.into(),
            ImporterError::State(error) => error.into(),
            other => Self::new(other.exit(), other.to_string()),
        }
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let exit = match error {
            StateError::Foreign { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        let exit = match error.cause() {
            RestoreError::Vault(error) => error.exit(),
            RestoreError::Exists { .. } => Exit::Usage,
            RestoreError::BadPath { .. } | RestoreError::WrongDigest { .. } => Exit::Damage,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<DiskError> for CliError {
    fn from(error: DiskError) -> Self {
        let exit = match &error {
            DiskError::Vhdx { .. } | DiskError::Vhd { .. } | DiskError::ParentChanged { .. } => Exit::Damage,
            DiskError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Usage,
            DiskError::NotAFile { .. } | DiskError::Empty { .. } | DiskError::ParentNotFound { .. } => {
                Exit::Usage
            }
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<RecoverError> for CliError {
    fn from(error: RecoverError) -> Self {
        let exit = match &error {
            RecoverError::Exists { .. }
            | RecoverError::IsSource { .. }
            | RecoverError::Busy { .. }
            | RecoverError::NotSuspendable { .. }
            | RecoverError::NoRoom { .. }
            | RecoverError::OtherPartial { .. }
            | RecoverError::NoSuchPath { .. }
            | RecoverError::NotAFolder { .. } => Exit::Usage,
            RecoverError::FileSystem { .. } => Exit::Damage,
            RecoverError::Interrupted { .. } | RecoverError::ExtractInterrupted { .. } => Exit::Interrupted,
            _ => Exit::Failed,
        };
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let text = error.to_string();
        // Most messages tell their cause already.
        let cause = cause.filter(|cause| !text.contains(cause.trim_start_matches(": "))).unwrap_or_default();
        Self::new(exit, format!("{text}{cause}"))
    }
}
