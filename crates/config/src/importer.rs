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
    /// Files and folders whose exports are read at every run.
    #[serde(default, rename = "escrow", skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<EscrowFolderConfig>,
    /// Directories that are asked for recovery secrets.
    #[serde(default, rename = "ldap", skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<LdapConfig>,
    /// Tenants of Entra ID that are asked for recovery secrets.
    #[serde(default, rename = "entra", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<EntraConfig>,
}

/// A file, or a folder of files, that a tool exports recovery secrets to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowFolderConfig {
    /// Name for messages; must be another one for each source.
    pub name: String,
    /// The file, or the folder with everything below it.
    pub path: PathBuf,
}

/// A directory: AD DS, or another one with its attributes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Name for messages; must be another one for each source.
    pub name: String,
    /// `ldaps://host[:port]`, or `ldap://host[:port]` with `start_tls`.
    pub url: String,
    /// Whether TLS is begun on a plain connection.
    #[serde(default)]
    pub start_tls: bool,
    /// Where the search begins, such as `DC=example,DC=test`.
    pub base: String,
    /// Name for the simple bind: a distinguished name, or `user@domain` for AD DS.
    pub user: String,
    /// File whose first line is its password; only its owner may read it.
    pub password_file: PathBuf,
    /// Certificates (PEM) that the directory's own must come from [default: those of the system].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// A tenant of Entra ID, asked through Microsoft Graph.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntraConfig {
    /// Name for messages; must be another one for each source.
    pub name: String,
    /// Id or name of the tenant.
    pub tenant: String,
    /// Id of the registered application; it needs the permission `BitlockerKey.Read.All`.
    pub client_id: String,
    /// File whose first line is its secret; only its owner may read it.
    pub secret_file: PathBuf,
    /// Where tokens come from.
    #[serde(default = "default_login_url")]
    pub login_url: String,
    /// Where Graph is.
    #[serde(default = "default_graph_url")]
    pub graph_url: String,
}

fn default_login_url() -> String {
    "https://login.microsoftonline.com".into()
}

fn default_graph_url() -> String {
    "https://graph.microsoft.com/v1.0".into()
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
        if config.store.credentials_file.is_some() {
            let why = "is the agent's alone; give an importer its credentials in the environment".to_owned();
            return Err(ConfigError::Value { path, key: "store.credentials_file", why });
        }
        config.signing_key = folder.join(&config.signing_key);
        config.state_folder = folder.join(&config.state_folder);
        let mut names = std::collections::BTreeSet::new();
        let folders = config.folders.iter().map(|one| &one.name);
        let directories = config.directories.iter().map(|one| &one.name);
        let all = folders.chain(directories).chain(config.tenants.iter().map(|one| &one.name));
        for name in all {
            if name.trim().is_empty() || !names.insert(name) {
                let why = "is empty or stands twice; name each source differently".to_owned();
                return Err(ConfigError::Value { path, key: "name", why });
            }
        }
        for one in &mut config.folders {
            one.path = folder.join(&one.path);
        }
        for one in &mut config.directories {
            one.password_file = folder.join(&one.password_file);
            one.ca_file = one.ca_file.take().map(|file| folder.join(file));
        }
        for one in &mut config.tenants {
            one.secret_file = folder.join(&one.secret_file);
        }
        Ok(config)
    }

    /// Tells whether any source is named.
    pub fn has_sources(&self) -> bool {
        !self.folders.is_empty() || !self.directories.is_empty() || !self.tenants.is_empty()
    }

    /// Name of the file in an importer's folder.
    pub fn file_name() -> &'static str {
        FILE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImporterConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        ImporterConfig::read(folder.path())
    }

    #[test]
    fn the_example_is_read_and_its_paths_are_relative_to_it() {
        let text = include_str!("../../../examples/importer.toml");
        let config = read(text).unwrap();
        assert!(config.directories[0].password_file.is_absolute());
        assert!(config.folders[0].path.is_absolute() && config.has_sources());
        assert!(config.tenants[0].graph_url.starts_with("https://graph"));
        for (from, to, expected) in [
            ("name = \"contoso\"", "name = \"example.test\"", "stands twice"),
            ("base =", "bass =", "unknown field `bass`"),
        ] {
            let error = read(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
