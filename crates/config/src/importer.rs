//! `importer.toml`: written by `lifeboat escrow enroll`, read by `lifeboat escrow import`.

use std::path::{Path, PathBuf};

use lifeboat_schema::{OwnerId, PolicyRef, VaultId, WriterId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, StoreConfig, default_signing_key, default_state_folder};

/// Configuration of one importer of recovery secrets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImporterConfig {
    /// Id of the vault, pinned at enrolment: another vault at the same place is refused.
    pub vault: VaultId,
    /// Id of this importer as a writer.
    pub writer: WriterId,
    /// Name of this importer for people; stands only in sealed bodies.
    pub name: String,
    /// Whose secrets it imports.
    pub owner: OwnerId,
    /// The policy at enrolment: an older one is refused.
    pub policy: PolicyRef,
    /// File with the key that signs this importer's records.
    #[serde(default = "default_signing_key")]
    pub signing_key: PathBuf,
    /// Folder for what it remembers.
    #[serde(default = "default_state_folder")]
    pub state_folder: PathBuf,
    /// Where the vault is.
    pub store: StoreConfig,
}

/// Name of the file in an importer's folder.
const FILE: &str = "importer.toml";

impl ImporterConfig {
    /// Reads the configuration of the importer in `folder`; relative paths in it become relative to it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Importer { path: path.clone(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::ImporterParse { path: path.clone(), text: error.to_string() })?;
        config.signing_key = folder.join(&config.signing_key);
        config.state_folder = folder.join(&config.state_folder);
        Ok(config)
    }

    /// Name of the file in an importer's folder.
    pub fn file_name() -> &'static str {
        FILE
    }
}
