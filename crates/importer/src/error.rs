//! Why a run of an importer committed nothing.

use std::path::{Path, PathBuf};

use lifeboat_escrow::{SealingError, StateError};
use lifeboat_schema::Exit;
use lifeboat_vault::store::StoreError;
use lifeboat_vault::vault::VaultError;

/// Why a run of an importer committed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImporterError {
    /// A file or folder cannot be used.
    #[error("{path} cannot be {did}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Read, opened or made.
        did: &'static str,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Others can read a file with a secret.
    #[error(
        "others can read {path} (mode {mode:03o}); run `chmod 600` on it, and change what it holds if someone did"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file that should hold a secret in its first line is empty.
    #[error("{path} holds no password in its first line")]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// Another run of this importer is at work.
    #[error("another import is running for this importer (it holds {lock}); wait for it")]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// There is nothing to read.
    #[error(
        "give the files to import, or name a source under [[escrow]], [[ldap]] or [[entra]] in importer.toml"
    )]
    NothingToRead,
    /// No source gave anything.
    #[error("{text}")]
    Sources {
        /// What happened with each.
        text: String,
        /// How the process ends.
        exit: Exit,
    },
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Nothing was sealed.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// What the importer remembers cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<StoreError> for ImporterError {
    fn from(error: StoreError) -> Self {
        Self::Vault(error.into())
    }
}

impl ImporterError {
    /// A file that could not be read or written.
    pub(crate) fn file(path: &Path, did: &'static str, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), did, source }
    }

    /// The exit code that a process ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NothingToRead | Self::Sealing(SealingError::NoOwner(_)) => Exit::Usage,
            Self::State(StateError::Foreign { .. }) => Exit::Usage,
            Self::Exposed { .. } | Self::NoSecret { .. } => Exit::NoAccess,
            Self::Sources { exit, .. } => *exit,
            Self::Vault(error) | Self::Sealing(SealingError::Vault(error)) => error.exit(),
            _ => Exit::Failed,
        }
    }
}
