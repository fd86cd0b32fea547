//! The run: state, sources, one record.

use std::path::{Path, PathBuf};

use lifeboat_config::ImporterConfig;
use lifeboat_escrow::{Importer, NamedImport, State};
use lifeboat_schema::{EscrowImportReport, Exit, Finding, Severity, Time};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::Vault;
use lifeboat_vault::writer::Writer;

use crate::error::ImporterError;
use crate::{files, sources};

/// What to import.
pub enum What<'w> {
    /// Files, or folders whose files are taken.
    Files(&'w [PathBuf]),
    /// Every source that the configuration names.
    Sources,
    /// What was read already, and what there is to say of it.
    Given(Vec<NamedImport>, Vec<Finding>),
}

/// What the process brings.
pub struct World<'w> {
    /// Looks up one variable of the environment.
    pub environment: &'w (dyn Fn(&str) -> Option<String> + Sync),
    /// The clock.
    pub clock: &'w (dyn Fn() -> Time + Sync),
}

/// Name of the file that remembers what is sealed.
const STATE_FILE: &str = "escrow.json";

/// Runs an importer once.
///
/// # Errors
/// [`ImporterError`]; nothing was committed. A source that fails beside others is a finding.
pub async fn run(
    config: ImporterConfig,
    key: SigningKey,
    what: What<'_>,
    world: &World<'_>,
) -> Result<EscrowImportReport, ImporterError> {
    let started = (world.clock)();
    let mut gathered = Gathered::default();
    let mut asks_services = false;
    match what {
        What::Files([]) => return Err(ImporterError::NothingToRead),
        What::Files(named) => gathered.files(named),
        What::Sources if !config.has_sources() => return Err(ImporterError::NothingToRead),
        What::Sources => {
            for folder in &config.folders {
                gathered.files(std::slice::from_ref(&folder.path));
            }
            asks_services = !config.directories.is_empty() || !config.tenants.is_empty();
        }
        What::Given(imports, findings) => gathered = Gathered { imports, findings, ..Gathered::default() },
    }
    if !asks_services {
        gathered.refuse_if_all_failed()?;
    }

    let writer = Writer { id: config.writer.clone(), key };
    let store = Store::open(&config.store.url, &config.store.options, world.environment)?;
    let vault = Vault::open(store, &config.vault).await?;
    std::fs::create_dir_all(&config.state_folder)
        .map_err(|error| ImporterError::file(&config.state_folder, "made", error))?;
    let _lock = lock(&config.state_folder)?;
    let mut state = State::open(&config.state_folder.join(STATE_FILE), &config.vault, &config.writer)?;
    state.pin(&config.policy);
    let importer = Importer {
        vault: &vault,
        writer: &writer,
        name: &config.name,
        owner: &config.owner,
        started,
        clock: world.clock,
    };
    let start = importer.begin(&mut state).await?;
    if asks_services {
        sources::ask(&config, &state, &mut gathered).await;
        gathered.refuse_if_all_failed()?;
    }
    let mut done = importer.seal(start, &gathered.imports, &mut state).await?;
    done.findings.append(&mut gathered.into_findings());
    Ok(EscrowImportReport {
        vault: config.vault,
        writer: config.writer,
        record: done.record.map(|name| name.id),
        sources: done.sources,
        sealed: done.sealed,
        findings: done.findings,
    })
}

/// How a run that ended ends the process: a run that could not read what it was given is no success.
#[must_use]
pub fn exit_of(report: &EscrowImportReport) -> Exit {
    Exit::of(&report.findings)
}

/// What the sources of a run gave.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) imports: Vec<NamedImport>,
    pub(crate) findings: Vec<Finding>,
    /// Sources that gave nothing, and why.
    pub(crate) failed: Vec<(String, ImporterError)>,
}

impl Gathered {
    fn files(&mut self, named: &[PathBuf]) {
        for path in files::list(named, &mut self.findings) {
            match path.and_then(|path| files::read(&path)) {
                Ok(import) => self.imports.push(import),
                // It names the file itself.
                Err(error) => self.failed.push((String::new(), error)),
            }
        }
    }

    /// One source that fails stops no other; when all do, there is nothing to tell but that.
    fn refuse_if_all_failed(&mut self) -> Result<(), ImporterError> {
        if self.failed.is_empty() || !self.imports.is_empty() {
            return Ok(());
        }
        let exit = self.failed[0].1.exit();
        let text: Vec<String> = self.failed.iter().map(told).collect();
        Err(ImporterError::Sources { text: text.join("; "), exit })
    }

    fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings;
        findings.extend(self.failed.into_iter().map(|(name, error)| {
            let place = match &error {
                ImporterError::File { path, .. } => path.display().to_string(),
                _ => name,
            };
            Finding::new(
                Severity::Warning,
                "escrow-source-failed",
                place,
                error.to_string(),
                "the other sources were imported; mend this one and run the import again",
            )
        }));
        findings
    }
}

fn told((name, error): &(String, ImporterError)) -> String {
    if name.is_empty() { error.to_string() } else { format!("{name}: {error}") }
}

/// One run of an importer at a time.
fn lock(folder: &Path) -> Result<std::fs::File, ImporterError> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| ImporterError::file(&path, "opened", error))?;
    file.try_lock().map_err(|_| ImporterError::Locked { lock: path })?;
    Ok(file)
}
