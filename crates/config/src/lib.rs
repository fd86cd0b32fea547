//! The configurations of the agent and of an importer: one TOML file, every key checked, paths relative to the file.
//!
//! Below the two programs: `lifeboat host enroll` writes it and the agent reads it. It holds no secret (the
//! signing key is a file of its own, credentials of the store come from the environment or from files), reads no
//! environment but what it is handed, and knows nothing of what a run does with it.

mod importer;
mod overrides;
mod service;
mod watching;

use std::path::{Path, PathBuf};

use lifeboat_schema::{CompanionKind, Digest, PolicyRef, VaultId, WriterId};
use lifeboat_vault::store::StoreOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use importer::{EntraConfig, EscrowFolderConfig, ImporterConfig, LdapConfig};
pub use service::{JobSchedule, ScheduleConfig, ServiceConfig, SpoolConfig, UploadConfig, WatchConfig};
pub use watching::{
    DigestInterval, LogConfig, LogFormat, MailConfig, MailTls, MetricsConfig, NotifyConfig, WebhookConfig,
};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}. Give the right file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("the configuration {path} is refused:\n{text}\nAll keys are described in examples/agent.toml")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        text: String,
    },
    /// The configuration of an importer cannot be read.
    #[error(
        "{path} cannot be read: {source}. Name the folder that `lifeboat escrow enroll` wrote with --importer or LIFEBOAT_IMPORTER"
    )]
    Importer {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The text is not the configuration of an importer.
    #[error("{path} is refused:\n{text}")]
    ImporterParse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        text: String,
    },
    /// A value is out of its range.
    #[error("the configuration {path} is refused: {key} {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Variables of the environment that begin so stand for keys of the agent's configuration.
pub const OVERRIDE_PREFIX: &str = "LIFEBOAT_AGENT__";

/// Where systemd puts credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Configuration of one agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Id of the vault, pinned at enrolment: another vault at the same place is refused.
    pub vault: VaultId,
    /// Id of this host as a writer.
    pub writer: WriterId,
    /// Name of this host for people; stands only in sealed bodies.
    pub host: String,
    /// The policy at enrolment: an older one is refused.
    pub policy: PolicyRef,
    /// File with the key that signs this host's records.
    #[serde(default = "default_signing_key")]
    pub signing_key: PathBuf,
    /// Folder for the catalog and the lock.
    #[serde(default = "default_state_folder")]
    pub state_folder: PathBuf,
    /// Where the vault is.
    pub store: StoreConfig,
    /// How snapshots are made.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// Where VMs are.
    #[serde(default, rename = "source")]
    pub sources: Vec<SourceConfig>,
    /// Folders with what VMs depend on beside their own files.
    #[serde(default, rename = "artefact", skip_serializing_if = "Vec::is_empty")]
    pub artefacts: Vec<ArtefactConfig>,
    /// Host Guardian Services whose guardian metadata are fetched in every run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hgs: Vec<HgsConfig>,
    /// `/metrics`, `/healthz` and `/readyz`.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// Whom the agent tells of trouble, and that it is over.
    #[serde(default)]
    pub notify: NotifyConfig,
    /// When each job is due.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schedule: ScheduleConfig,
    /// Snapshots of VMs that change, between the scheduled ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub watch: WatchConfig,
    /// Where sealed runs wait while the store is down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spool: SpoolConfig,
    /// How much is sent, and when.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upload: UploadConfig,
    /// The process.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: ServiceConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where the vault is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:///path`, `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
    pub url: String,
    /// Endpoint, region, TLS, retries and the like.
    #[serde(default)]
    pub options: StoreOptions,
    /// File with credentials, a `NAME=value` on each line, that wins over the environment; `credential:NAME` is a
    /// credential that systemd hands over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

/// How snapshots are made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// A bundle is closed before it would have more MiB than this (1 to 64).
    pub bundle_mebibytes: u64,
    /// zstd level (1 to 19).
    pub compression_level: i32,
    /// Threads that read and seal; 0 takes as many as there are cores, up to 8.
    pub threads: usize,
    /// Objects on their way to the store at once (1 to 32).
    pub uploads: usize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { bundle_mebibytes: 2, compression_level: 1, threads: 0, uploads: 4 }
    }
}

/// One place where VMs are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Folders with the files of VMs: exports, a shadow copy, a mounted cluster volume.
    Directory {
        /// Name for messages; must be another one for each source.
        name: String,
        /// Folders that are searched.
        roots: Vec<PathBuf>,
        /// How often a VM is read before it counts as torn (1 to 20).
        #[serde(default = "default_attempts")]
        attempts: u32,
        /// Milliseconds between two attempts.
        #[serde(default = "default_retry_delay_milliseconds")]
        retry_delay_milliseconds: u64,
    },
}

/// A folder with artefacts of one kind that are no files of a VM.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtefactConfig {
    /// What its files are; every file in it is taken for that.
    pub kind: CompanionKind,
    /// Name for messages and ids; must be another one for each folder and source.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Folder with what shielding data are made from, or what an HGS export leaves out. Sealed to escrow only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingredients: Option<PathBuf>,
    /// VMs that they serve, by name or id, where the files do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<String>,
    /// SHA-256 thumbprint of the owner guardian by which the policy tells whose they are, where the files do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guardian: Option<Digest>,
}

/// A Host Guardian Service whose guardian metadata are fetched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HgsConfig {
    /// Name for messages and ids; must be another one for each folder, source and service.
    pub name: String,
    /// Address of the service, such as `http://hgs.example.com`, or of its metadata.xml.
    pub url: String,
    /// SHA-256 thumbprint of its primary signing certificate: others are refused. Without it the first one that answers is
    /// believed, and another pair than before is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificate: Option<Digest>,
    /// SHA-256 thumbprint of the owner guardian by which the policy tells whose the metadata are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guardian: Option<Digest>,
}

/// Tells whether a name can stand in ids, which people type.
fn is_plain_name(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

pub(crate) fn default_signing_key() -> PathBuf {
    "signing.key".into()
}

pub(crate) fn default_state_folder() -> PathBuf {
    "state".into()
}

fn default_attempts() -> u32 {
    3
}

fn default_retry_delay_milliseconds() -> u64 {
    500
}

impl Config {
    /// The configuration of a host that was just enrolled: whose it is and what it backs up, and everything else as it is unless
    /// someone says otherwise. Paths are relative to the agent's folder.
    pub fn new(
        vault: VaultId,
        writer: WriterId,
        host: String,
        policy: PolicyRef,
        store: StoreConfig,
        sources: Vec<SourceConfig>,
    ) -> Self {
        Self {
            vault,
            writer,
            host,
            policy,
            signing_key: default_signing_key(),
            state_folder: default_state_folder(),
            store,
            snapshot: SnapshotConfig::default(),
            sources,
            artefacts: Vec::new(),
            hgs: Vec::new(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            notify: NotifyConfig::default(),
            schedule: ScheduleConfig::default(),
            watch: WatchConfig::default(),
            spool: SpoolConfig::default(),
            upload: UploadConfig::default(),
            service: ServiceConfig::default(),
        }
    }

    /// Reads and checks the file at `path`; relative paths in it become relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with(path, &mut std::iter::empty())
    }

    /// As [`Config::read`], with variables of the environment: one that begins with [`OVERRIDE_PREFIX`] stands for a key
    /// of the file, with two underscores between tables, such as `LIFEBOAT_AGENT__STORE__OPTIONS__REGION`, and
    /// `CREDENTIALS_DIRECTORY` is where `credential:NAME` looks.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read_with(
        path: &Path,
        environment: &mut dyn Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut credentials = None;
        let mut changes = Vec::new();
        for (name, value) in environment {
            if name == CREDENTIALS_DIRECTORY {
                credentials = Some(PathBuf::from(value));
            } else if let Some(key) = name.strip_prefix(OVERRIDE_PREFIX) {
                changes.push((name.clone(), key.to_owned(), value));
            }
        }
        let refused = |text: String| ConfigError::Parse { path: path.to_owned(), text };
        let mut config: Config = if changes.is_empty() {
            toml::from_str(&text).map_err(|error| refused(overrides::with_nearest(&error.to_string())))?
        } else {
            overrides::parse(&text, changes).map_err(|text| refused(overrides::with_nearest(&text)))?
        };
        config.check(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let secret = |file: &Path| {
            match file.to_str().and_then(|text| text.strip_prefix("credential:")) {
            None => Ok(folder.join(file)),
            Some(name) if name.is_empty() || name.contains(['/', '\\']) => {
                Err(refused(format!("credential:{name} names no credential")))
            }
            Some(name) => credentials.as_ref().map(|folder| folder.join(name)).ok_or_else(|| {
                refused(format!(
                    "credential:{name} is handed over by systemd (LoadCredential=), and CREDENTIALS_DIRECTORY is not set"
                ))
            }),
        }
        };
        config.signing_key = secret(&config.signing_key)?;
        config.store.credentials_file = config.store.credentials_file.as_deref().map(secret).transpose()?;
        config.state_folder = folder.join(&config.state_folder);
        config.spool.folder = config.state_folder.join(&config.spool.folder);
        for SourceConfig::Directory { roots, .. } in &mut config.sources {
            for root in roots {
                *root = folder.join(&*root);
            }
        }
        for artefact in &mut config.artefacts {
            artefact.folder = folder.join(&artefact.folder);
            artefact.ingredients = artefact.ingredients.take().map(|path| folder.join(path));
        }
        watching::resolve(folder, &mut config.metrics, &mut config.notify);
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let bad = |key, why: &str| ConfigError::Value { path: path.to_owned(), key, why: why.to_owned() };
        if self.host.trim().is_empty() {
            return Err(bad("host", "is empty; name this host"));
        }
        if !(1..=64).contains(&self.snapshot.bundle_mebibytes) {
            return Err(bad("snapshot.bundle_mebibytes", "must be 1 to 64"));
        }
        if !(1..=19).contains(&self.snapshot.compression_level) {
            return Err(bad("snapshot.compression_level", "must be 1 to 19"));
        }
        if !(1..=32).contains(&self.snapshot.uploads) {
            return Err(bad("snapshot.uploads", "must be 1 to 32"));
        }
        if let Some((key, why)) =
            service::out_of_range(&self.schedule, &self.watch, &self.spool, &self.upload, &self.service)
                .or_else(|| watching::out_of_range(&self.metrics, &self.notify))
        {
            return Err(bad(key, why));
        }
        if self.sources.is_empty() {
            return Err(bad("source", "is missing: add at least one [[source]] with its roots"));
        }
        let mut names = std::collections::BTreeSet::new();
        for SourceConfig::Directory { name, roots, attempts, .. } in &self.sources {
            if !names.insert(name) {
                return Err(bad("source.name", "stands twice; name each source differently"));
            }
            if roots.is_empty() {
                return Err(bad("source.roots", "is empty; name the folders that hold VMs"));
            }
            if !(1..=20).contains(attempts) {
                return Err(bad("source.attempts", "must be 1 to 20"));
            }
        }
        for artefact in &self.artefacts {
            let takes_ingredients =
                matches!(artefact.kind, CompanionKind::ShieldingData | CompanionKind::HgsState);
            if !names.insert(&artefact.name) {
                return Err(bad("artefact.name", "stands twice; name each source and folder differently"));
            }
            if !is_plain_name(&artefact.name) {
                return Err(bad("artefact.name", "is empty or has a slash; use a word"));
            }
            if artefact.kind == CompanionKind::Ingredient {
                return Err(bad(
                    "artefact.kind",
                    "cannot be ingredient: name the folder as `ingredients` of what it is for",
                ));
            }
            if artefact.ingredients.is_some() && !takes_ingredients {
                return Err(bad(
                    "artefact.ingredients",
                    "goes with the kinds shielding-data and hgs-state only",
                ));
            }
        }
        for hgs in &self.hgs {
            if !names.insert(&hgs.name) {
                return Err(bad(
                    "hgs.name",
                    "stands twice; name each source, folder and service differently",
                ));
            }
            if !is_plain_name(&hgs.name) {
                return Err(bad("hgs.name", "is empty or has a slash; use a word"));
            }
            if !["http://", "https://"].iter().any(|scheme| hgs.url.starts_with(scheme)) {
                return Err(bad("hgs.url", "must begin with http:// or https://"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> String {
        format!(
            "vault = \"{}\"\nwriter = \"h-x\"\nhost = \"hv01\"\npolicy = {{ seq = 1, id = \"{}\" }}\n\n[store]\nurl = \"memory://\"\n\n[[source]]\nkind = \"directory\"\nname = \"vms\"\nroots = [\"vms\"]\n",
            VaultId::of(b"x"),
            lifeboat_schema::Digest::of(b"x"),
        )
    }

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = read(&minimal()).unwrap();
        assert!(config.signing_key.is_absolute() && config.signing_key.ends_with("signing.key"));
        let SourceConfig::Directory { roots, attempts, .. } = &config.sources[0];
        assert!(roots[0].is_absolute());
        assert_eq!(*attempts, 3);
    }

    #[test]
    fn artefact_folders_are_relative_too_and_checked() {
        let folder = "\n[[artefact]]\nkind = \"shielding-data\"\nname = \"pdks\"\nfolder = \"pdk\"\ningredients = \"in\"\n";
        let config = read(&(minimal() + folder)).unwrap();
        assert!(config.artefacts[0].folder.is_absolute());
        assert!(config.artefacts[0].ingredients.as_ref().unwrap().ends_with("in"));
        for (from, to, expected) in [
            ("shielding-data", "owner-keys", "artefact.ingredients"),
            ("shielding-data", "ingredient", "artefact.kind"),
            ("shielding-data", "pdk", "unknown variant `pdk`"),
            ("\"pdks\"", "\"vms\"", "artefact.name"),
            ("\"pdks\"", "\"a/b\"", "artefact.name"),
            ("folder =", "folders =", "unknown field `folders`"),
        ] {
            let error = read(&(minimal() + &folder.replace(from, to))).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_others_reach_is_protected_and_no_secret_is_a_value() {
        let with = |section: &str| read(&(minimal() + "\n" + section));
        let config = with("[metrics]\nlisten = \"\"\ntoken_file = \"token\"\n").unwrap();
        assert!(config.metrics.token_file.unwrap().is_absolute());
        let hook = "[[notify.webhook]]\nname = \"chat\"\nurl = \"URL\"\nsecret_file = \"s\"\n";
        let mail = "[[notify.mail]]\nname = \"a\"\nserver = \"mail\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n";
        assert!(with(&hook.replace("URL", "https://example.test/x")).is_ok());
        assert!(with(&hook.replace("URL", "http://127.0.0.1:1/x")).is_ok());
        assert!(with(mail).is_ok());
        for (section, expected) in [
            ("[metrics]\nlisten = \"0.0.0.0:9464\"\n".to_owned(), "metrics.listen is an address that others"),
            ("[metrics]\nlisten = \"here\"\n".to_owned(), "metrics.listen must be an address"),
            ("[metrics]\ntls_key = \"k\"\n".to_owned(), "metrics.tls_key"),
            ("[metrics]\ntoken = \"k\"\n".to_owned(), "unknown field `token`"),
            ("[notify]\nrepeat_hours = 0\n".to_owned(), "notify.repeat_hours"),
            (hook.replace("URL", "http://example.test/x"), "notify.webhook.url must begin"),
            (hook.replace("URL", "http://127.0.0.1.example.test/x"), "notify.webhook.url must begin"),
            (hook.replace("URL", "https://a:b@example.test/x"), "notify.webhook.url holds credentials"),
            (mail.replace("[\"c@d\"]", "[]"), "notify.mail.to"),
            (mail.to_owned() + "user = \"u\"\n", "notify.mail.password_file"),
            (mail.to_owned() + "tls = \"none\"\n", "notify.mail.tls"),
        ] {
            let error = with(&section).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn guardian_services_are_checked() {
        let service = "\n[[hgs]]\nname = \"primary\"\nurl = \"http://hgs.example.com\"\n";
        assert_eq!(read(&(minimal() + service)).unwrap().hgs[0].url, "http://hgs.example.com");
        for (from, to, expected) in [
            ("http://", "", "hgs.url"),
            ("\"primary\"", "\"vms\"", "stands twice"),
            ("\"primary\"", "\"a/b\"", "hgs.name"),
            ("url =", "uri =", "unknown field `uri`"),
        ] {
            let error = read(&(minimal() + &service.replace(from, to))).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused_with_their_place() {
        for (change, expected) in [("hots = \"a\"\n", "unknown field `hots`"), ("", "missing field `host`")] {
            let text = minimal().replace("host = \"hv01\"\n", change);
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = read(&minimal().replace("host =", "hsot =")).unwrap_err().to_string();
        assert!(error.contains("did you mean `host`?"), "{error}");
        let error = read(&(minimal() + "[watch]\nquite_seconds = 1\n")).unwrap_err().to_string();
        assert!(error.contains("did you mean `quiet_seconds`?"), "{error}");
        let error = read(&minimal().replace("roots = [\"vms\"]", "roots = []")).unwrap_err().to_string();
        assert!(error.contains("source.roots"), "{error}");
    }

    #[test]
    fn the_environment_stands_for_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, minimal()).unwrap();
        let read = |variables: &[(&str, &str)]| {
            let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Config::read_with(&path, &mut pairs.collect::<Vec<_>>().into_iter())
        };
        let config = read(&[
            ("LIFEBOAT_AGENT__HOST", "hv02"),
            ("LIFEBOAT_AGENT__STORE__OPTIONS__REGION", "eu-central-1"),
            ("LIFEBOAT_AGENT__SPOOL__MAX_MEBIBYTES", "7"),
            ("LIFEBOAT_AGENT__SCHEDULE__SNAPSHOT__CRON", "7 * * * *"),
            ("LIFEBOAT_AGENT_CONFIG", "is another thing"),
            ("LIFEBOAT_AGENT__SIGNING_KEY", "credential:signing"),
            ("LIFEBOAT_AGENT__STORE__CREDENTIALS_FILE", "credential:store"),
            ("CREDENTIALS_DIRECTORY", "/run/credentials/lifeboat-agent.service"),
        ])
        .unwrap();
        assert_eq!((config.host.as_str(), config.spool.max_mebibytes), ("hv02", 7));
        assert_eq!(config.store.options.region.as_deref(), Some("eu-central-1"));
        assert_eq!(config.schedule.snapshot.cron, "7 * * * *");
        assert_eq!(config.signing_key, Path::new("/run/credentials/lifeboat-agent.service/signing"));
        assert_eq!(
            config.store.credentials_file.as_deref(),
            Some(Path::new("/run/credentials/lifeboat-agent.service/store"))
        );
        for (variable, value, expected) in [
            ("LIFEBOAT_AGENT__HSOT", "x", "did you mean `host`?"),
            ("LIFEBOAT_AGENT__SPOOL__MAX_MEBIBYTES", "many", "max_mebibytes"),
            ("LIFEBOAT_AGENT__SPOOL__MAX_MEBIBYTES", "0", "must be 1 to 1048576"),
            ("LIFEBOAT_AGENT__HOST__NAME", "x", "LIFEBOAT_AGENT__HOST__NAME"),
            ("LIFEBOAT_AGENT__SIGNING_KEY", "credential:../x", "names no credential"),
            ("LIFEBOAT_AGENT__SIGNING_KEY", "credential:x", "CREDENTIALS_DIRECTORY is not set"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{variable}={value}: {error}");
        }
    }

    /// Names of all keys in a schema.
    fn keys(schema: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    if name == "properties" {
                        found.extend(value.as_object().unwrap().keys().cloned());
                    }
                    keys(value, found);
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|one| keys(one, found)),
            _ => {}
        }
    }

    #[test]
    fn the_example_is_read_and_names_every_key() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent.toml");
        let config = Config::read(&path).unwrap();
        assert!(config.sources.len() + config.artefacts.len() >= 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let words: std::collections::BTreeSet<&str> =
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let mut known = std::collections::BTreeSet::new();
        keys(&serde_json::to_value(schemars::schema_for!(Config)).unwrap(), &mut known);
        assert!(known.len() > 50, "{known:?}");
        let missing: Vec<&String> = known.iter().filter(|key| !words.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "examples/agent.toml does not name {missing:?}");
    }
}
