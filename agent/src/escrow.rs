//! One run of an importer of recovery secrets, on the owner's management server.
//!
//! The same program as on a host, with the configuration that `lifeboat escrow enroll` wrote: it asks the directories and
//! tenants and reads the folders that are named there. A host's agent never does this: it may write no secret.

use std::path::{Path, PathBuf};

use lifeboat_config::{ConfigError, ImporterConfig};
use lifeboat_importer::{ImporterError, What, World};
use lifeboat_schema::{EscrowImportReport, Exit};

use crate::run::{RunError, read_signing_key};

/// Why a run of an importer committed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EscrowError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(#[from] RunError),
    /// The run failed.
    #[error(transparent)]
    Importer(#[from] ImporterError),
}

impl EscrowError {
    /// The exit code of the process.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::Usage,
            Self::Key(error) => error.exit(),
            Self::Importer(error) => error.exit(),
        }
    }
}

/// Tells whether a configuration is that of an importer: by its name, which `lifeboat escrow enroll` gave it.
pub fn is_importer(config: &Path) -> bool {
    config.file_name().is_some_and(|name| name == ImporterConfig::file_name())
}

/// Runs every source of an importer once.
///
/// # Errors
/// [`EscrowError`]; nothing was committed. A source that fails beside others is a finding of the report.
pub async fn run_escrow_once(config: &Path, world: &World<'_>) -> Result<EscrowImportReport, EscrowError> {
    let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let config = ImporterConfig::read(&folder)?;
    let key = read_signing_key(&config.signing_key)?;
    Ok(lifeboat_importer::run(config, key, What::Sources, world).await?)
}
