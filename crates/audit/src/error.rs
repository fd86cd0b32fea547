//! Why an audit could not be made.

use std::path::PathBuf;

use lifeboat_schema::Exit;
use lifeboat_vault::vault::VaultError;

/// Why an audit could not be made. Damage in the vault is a finding of it, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// SQLite refused.
    #[error(
        "the catalog {path} cannot be used: {source}. It is only a cache: remove it, or give --rebuild, and the next audit reads the vault anew"
    )]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The catalog's file cannot be made private.
    #[error(
        "the catalog {path} cannot be made for its owner alone: {source}. Name another place with --catalog"
    )]
    Private {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is no catalog of an audit of this vault.
    #[error(
        "{path} is {what}, and no catalog of audits of this vault; nothing was changed. Name another file with --catalog"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
}

impl AuditError {
    /// The exit code that a command ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Vault(error) => error.exit(),
            Self::Sqlite { .. } | Self::Private { .. } => Exit::Failed,
            Self::Foreign { .. } => Exit::Usage,
        }
    }
}

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no TOML of a policy.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A newer program's.
    #[error("it has version {0}, and this program reads version 1")]
    Version(u32),
    /// A word that stands for nothing.
    #[error(
        "`{word}` in {place} is no state and no code of an audit; `lifeboat audit --help` names where they are listed"
    )]
    Code {
        /// The word.
        word: String,
        /// Where it stands.
        place: &'static str,
    },
    /// A date that is none.
    #[error("the exception for {vm}: `{until}` is no date; write it as 2026-12-31")]
    Date {
        /// Whose exception.
        vm: String,
        /// The text.
        until: String,
    },
    /// Nobody answers for an exception.
    #[error("the exception for {vm}: `{field}` is empty; somebody has to answer for it, and to say why")]
    Empty {
        /// Whose exception.
        vm: String,
        /// The empty field.
        field: &'static str,
    },
}
