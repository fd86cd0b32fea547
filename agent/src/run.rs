//! One run of an agent: configuration to record.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_config::{ArtefactConfig, Config, ConfigError, HgsConfig, SourceConfig};
use lifeboat_engine::catalog::{Catalog, CatalogError};
use lifeboat_engine::snapshot::{
    Clock, SnapshotContext, SnapshotError, SnapshotObserver, SnapshotOptions, SnapshotReport, snapshot,
};
use lifeboat_engine::source::HostSource;
use lifeboat_hyperv::{CompanionFolder, CompanionSource, DirectoryOptions, DirectorySource, HgsSource};
use lifeboat_schema::{Exit, Finding, RunReport, Severity, Tip, WriterId};
use lifeboat_vault::key::{KeyError, SigningKey};
use lifeboat_vault::outbox::{Outbox, Spool, Standby};
use lifeboat_vault::seal::SealOptions;
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::{Vault, VaultError};
use lifeboat_vault::writer::Writer;

use crate::credentials::{Credentials, CredentialsError};
use crate::schedule::BadSchedule;
use crate::spooling;
use crate::upload::BadWindow;

/// Why a run did not commit a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another agent runs in this folder.
    #[error("another agent is running with this configuration (it holds {lock}); wait for it, or stop it")]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// A file or folder of the agent cannot be used.
    #[error("{path} cannot be used: {source}. Give the agent its own folder, and the right to write there")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The log cannot be begun.
    #[error("the log cannot be begun: {error}; mend [log] in the configuration, or LIFEBOAT_LOG")]
    Log {
        /// Why.
        error: String,
    },
    /// Others can read the signing key.
    #[error(
        "others can read the signing key {path} (mode {mode:03o}); run `chmod 600` on it, and have the host enrolled anew if someone did"
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The signing key cannot be read.
    #[error(
        "the signing key {path} cannot be read: {source}. `lifeboat host enroll` wrote it into the agent's folder: bring it back, or have the host enrolled anew"
    )]
    KeyUnreadable {
        /// The key file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The signing key cannot be used.
    #[error("the signing key {path} cannot be used: {source}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The run ended without a record.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Credentials of the store cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A schedule is refused.
    #[error("the configuration is refused: schedule.{job}: {source}")]
    Schedule {
        /// The job.
        job: &'static str,
        /// What is wrong.
        #[source]
        source: BadSchedule,
    },
    /// A job is scheduled that this program does not have.
    #[error("the configuration is refused: schedule.{job} is given, and this program has no such job")]
    NoSuchJob {
        /// The job.
        job: &'static str,
    },
    /// The upload window is refused.
    #[error("the configuration is refused: {0}")]
    Window(#[from] BadWindow),
    /// Sealed runs wait in the spool, and cannot be sent.
    #[error("sealed runs wait in the spool, and nothing can follow them before they are sent: {cause}")]
    Waiting {
        /// Why they cannot be sent.
        cause: String,
    },
    /// The changed configuration belongs to another agent.
    #[error("{what} cannot change while the agent runs; stop it, and start it anew")]
    Reload {
        /// What was changed.
        what: &'static str,
    },
}

impl RunError {
    /// The exit code of the process.
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Config(_)
            | RunError::Log { .. }
            | RunError::Schedule { .. }
            | RunError::NoSuchJob { .. }
            | RunError::Window(_)
            | RunError::Reload { .. } => Exit::Usage,
            RunError::Credentials(_)
            | RunError::KeyExposed { .. }
            | RunError::KeyUnreadable { .. }
            | RunError::Key { .. } => Exit::NoAccess,
            RunError::Vault(error) | RunError::Snapshot(SnapshotError::Vault(error)) => error.exit(),
            _ => Exit::Failed,
        }
    }
}

/// What the process brings: the outside world of a run.
pub struct World<'a> {
    /// Looks up one variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The clock.
    pub clock: Clock,
    /// Who watches.
    pub observer: Arc<dyn SnapshotObserver>,
}

/// Runs all sources into the vault once. What waits in the spool is sent first; the spool takes nothing new.
///
/// # Errors
/// [`RunError`]; nothing was committed.
pub async fn run_once(config: &Config, world: World<'_>) -> Result<RunReport, RunError> {
    create_private_folder(&config.state_folder)?;
    let _lock = lock(config)?;
    let writer = Writer { id: config.writer.clone(), key: read_key(config)? };
    let store = open_store(config, world.environment)?;
    let vault = Vault::open(store, &config.vault).await?;
    let mut catalog = open_catalog(config)?;
    let sources = sources(config);
    let findings = send_what_waits(config, &vault, &writer, &mut catalog).await?;
    let report = snapshot(SnapshotContext {
        vault: &vault,
        writer: &writer,
        host: &config.host,
        sources: &sources,
        catalog: &mut catalog,
        options: &options(config),
        only: None,
        clock: world.clock,
        observer: world.observer,
    })
    .await?;
    let mut report = run_report(config, report);
    report.findings.extend(findings);
    Ok(report)
}

async fn send_what_waits(
    config: &Config,
    vault: &Vault,
    writer: &Writer,
    catalog: &mut Catalog,
) -> Result<Vec<Finding>, RunError> {
    if !config.spool.folder.is_dir() {
        return Ok(Vec::new());
    }
    let spool = Arc::new(open_spool(config)?);
    let mut findings = spooling::settle(catalog, &spool)?;
    let outbox = Outbox::new(vault.clone(), Arc::clone(&spool), standby(config), None);
    let sent = spooling::send(&outbox, &spool, writer, catalog).await?;
    findings.extend(sent.findings);
    match sent.stopped {
        Some(cause) => Err(RunError::Waiting { cause }),
        None => Ok(findings),
    }
}

/// Opens the store of a configuration, with its credentials.
pub(crate) fn open_store(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Store, RunError> {
    let credentials = match &config.store.credentials_file {
        Some(path) => Credentials::read(path)?,
        None => Credentials::default(),
    };
    let look_up = |name: &str| credentials.get(name).map(str::to_owned).or_else(|| environment(name));
    Ok(Store::open(&config.store.url, &config.store.options, &look_up).map_err(VaultError::from)?)
}

pub(crate) fn open_spool(config: &Config) -> Result<Spool, RunError> {
    let bytes = config.spool.max_mebibytes << 20;
    Ok(Spool::open(&config.spool.folder, bytes).map_err(VaultError::from)?)
}

pub(crate) fn standby(config: &Config) -> Standby {
    Standby::new(config.state_folder.join("standby"))
}

/// What a snapshot of this host did, as the document that leaves the process.
pub fn run_report(config: &Config, report: SnapshotReport) -> RunReport {
    RunReport {
        vault: config.vault.clone(),
        writer: config.writer.clone(),
        seq: report.record.seq,
        record: report.record.id,
        started: report.started,
        finished: report.finished,
        found: report.found,
        captured: report.captured,
        unchanged: report.unchanged,
        companions: report.companions,
        carried: report.carried,
        failed: report.failed,
        stored_objects: report.stored_objects,
        stored_bytes: report.stored_bytes,
        live_objects: report.live_objects,
        findings: report.findings,
    }
}

/// How a run that committed a record ends: VMs without a fresh capture are findings.
pub fn exit_of(report: &RunReport) -> Exit {
    let of_findings = Exit::of(&report.findings);
    let failed = report.carried.iter().any(|vm| vm.why == lifeboat_schema::CarriedWhy::Failed);
    if report.findings.iter().any(|finding| finding.severity == Severity::Damage) {
        of_findings
    } else if !report.failed.is_empty() || failed {
        Exit::Findings
    } else {
        of_findings
    }
}

/// Opens the catalog; a new one starts with the policy that was pinned at enrolment.
pub(crate) fn open_catalog(config: &Config) -> Result<Catalog, RunError> {
    let mut catalog =
        Catalog::open(&config.state_folder.join("catalog.sqlite"), &config.vault, &config.writer)?;
    let admin = WriterId::admin();
    if !catalog.seen()?.iter().any(|tip| tip.writer == admin) {
        catalog.remember_seen(&[Tip { writer: admin, seq: config.policy.seq, id: config.policy.id }])?;
    }
    Ok(catalog)
}

pub(crate) fn options(config: &Config) -> SnapshotOptions {
    let defaults = SnapshotOptions::default();
    SnapshotOptions {
        bundle_bytes: config.snapshot.bundle_mebibytes << 20,
        seal: SealOptions { compression_level: config.snapshot.compression_level },
        threads: if config.snapshot.threads == 0 { defaults.threads } else { config.snapshot.threads },
        uploads: config.snapshot.uploads,
    }
}

/// Everything that a configuration names: VMs, then companions.
pub(crate) fn sources(config: &Config) -> Vec<Arc<dyn HostSource>> {
    let beside = config.artefacts.iter().map(companions).chain(config.hgs.iter().map(hgs));
    config.sources.iter().map(source).chain(beside).collect()
}

fn source(config: &SourceConfig) -> Arc<dyn HostSource> {
    match config {
        SourceConfig::Directory { name, roots, attempts, retry_delay_milliseconds } => {
            let options = DirectoryOptions {
                attempts: *attempts,
                retry_delay_milliseconds: *retry_delay_milliseconds,
                ..DirectoryOptions::default()
            };
            Arc::new(DirectorySource::new(name.clone(), roots.clone(), options))
        }
    }
}

fn companions(config: &ArtefactConfig) -> Arc<dyn HostSource> {
    let defaults = DirectoryOptions::default();
    Arc::new(CompanionSource::new(CompanionFolder {
        name: config.name.clone(),
        kind: config.kind,
        folder: config.folder.clone(),
        ingredients: config.ingredients.clone(),
        vms: config.vms.clone(),
        owner_guardian: config.owner_guardian,
        attempts: defaults.attempts,
        retry_delay_milliseconds: defaults.retry_delay_milliseconds,
    }))
}

fn hgs(config: &HgsConfig) -> Arc<dyn HostSource> {
    Arc::new(HgsSource::new(
        config.name.clone(),
        config.url.clone(),
        config.signing_certificate,
        config.owner_guardian,
    ))
}

pub(crate) fn create_private_folder(path: &Path) -> Result<(), RunError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| RunError::Folder { path: path.to_owned(), source })
}

/// Held until the run ends; the operating system lets go of it when the process dies.
pub(crate) fn lock(config: &Config) -> Result<File, RunError> {
    let path = config.state_folder.join("lock");
    let failed = |source| RunError::Folder { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::Locked { lock: path }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

pub(crate) fn read_key(config: &Config) -> Result<SigningKey, RunError> {
    read_signing_key(&config.signing_key)
}

/// Reads a signing key that only its owner may read.
pub(crate) fn read_signing_key(path: &Path) -> Result<SigningKey, RunError> {
    let failed = |source| RunError::KeyUnreadable { path: path.to_owned(), source };
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(RunError::KeyExposed { path: path.to_owned(), mode });
        }
    }
    let text = std::fs::read(path).map_err(failed)?;
    let parsed = SigningKey::parse(&text, None);
    wipe(text);
    parsed.map_err(|source| RunError::Key { path: path.to_owned(), source })
}

fn wipe(mut text: Vec<u8>) {
    text.fill(0);
    std::hint::black_box(&text);
}
