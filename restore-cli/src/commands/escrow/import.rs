//! `lifeboat escrow import`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use lifeboat_config::ImporterConfig;
use lifeboat_escrow::{Importer, Input, MAX_INPUT_BYTES, NamedImport, State, import};
use lifeboat_schema::{EscrowImportReport, Exit, Time};
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::Vault;
use lifeboat_vault::writer::Writer;
use zeroize::Zeroizing;

use super::sources;
use crate::commands::{Context, now};
use crate::error::CliError;
use crate::output;
use crate::secrets::read_signing_key;

/// Seals the recovery secrets of files into the vault.
///
/// Takes whatever a tool wrote, in any language and encoding: recovery key files of Windows, manage-bde, PowerShell, AD
/// (LDIF, CSV, JSON), Entra ID, MBAM, lists, .BEK, .KPG, .ebek and .pdk. What cannot be read is told line by line, and
/// everything else is imported. Importing a file again adds nothing. Without FILE it asks the directories and tenants that
/// importer.toml names (AD DS over LDAPS, Entra ID through Microsoft Graph), for what is new since the last time.
#[derive(clap::Args)]
pub(crate) struct Import {
    /// Files, or folders whose files are taken; `-` is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder that `lifeboat escrow enroll` wrote.
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_IMPORTER", default_value = ".")]
    importer: PathBuf,
}

/// Folders within folders that are followed.
const MAX_FOLDER_DEPTH: usize = 16;

pub(super) async fn run(context: &Context, arguments: &Import) -> Result<Exit, CliError> {
    let started = now();
    let config =
        ImporterConfig::read(&arguments.importer).map_err(|error| CliError::usage(error.to_string()))?;
    if arguments.files.is_empty() && config.directories.is_empty() && config.tenants.is_empty() {
        return Err(CliError::usage(
            "give the files to import, or name a source under [[ldap]] or [[entra]] in importer.toml",
        ));
    }
    let mut imports = Vec::new();
    for path in files(&arguments.files)? {
        imports.push(read(&path)?);
    }

    let key = read_signing_key(&config.signing_key, &context.kit.passphrases)?;
    let writer = Writer { id: config.writer.clone(), key };
    let store = Store::open(&config.store.url, &config.store.options, &|name| std::env::var(name).ok())?;
    let vault = Vault::open(store, &config.vault).await?;
    std::fs::create_dir_all(&config.state_folder)
        .map_err(|error| CliError::file(&config.state_folder, "made", &error))?;
    let _lock = lock(&config.state_folder)?;
    let mut state = State::open(&config.state_folder.join("escrow.json"), &config.vault, &config.writer)?;
    state.pin(&config.policy);
    let importer = Importer {
        vault: &vault,
        writer: &writer,
        name: &config.name,
        owner: &config.owner,
        started,
        clock: &now,
    };
    let start = importer.begin(&mut state).await?;
    let mut failed = Vec::new();
    if arguments.files.is_empty() {
        sources::ask(&config, &state, &mut imports, &mut failed).await?;
    }
    let mut done = importer.seal(start, &imports, &mut state).await?;
    done.findings.append(&mut failed);

    let report = EscrowImportReport {
        vault: config.vault,
        writer: config.writer,
        record: done.record.map(|name| name.id),
        sources: done.sources,
        sealed: done.sealed,
        findings: done.findings,
    };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

/// One run of an importer at a time.
fn lock(folder: &Path) -> Result<std::fs::File, CliError> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| CliError::file(&path, "opened", &error))?;
    file.try_lock().map_err(|_| {
        CliError::new(
            Exit::Failed,
            format!("another import is running for this importer (it holds {}); wait for it", path.display()),
        )
    })?;
    Ok(file)
}

/// The files to read: those that are named, and those in folders that are named. Links in folders are not followed.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
        let wrap = |error: std::io::Error| CliError::file(folder, "read", &error);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(wrap)? {
            entries.push(entry.map_err(wrap)?);
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().map_err(wrap)?;
            if kind.is_file() {
                files.push(entry.path());
            } else if kind.is_dir() && depth < MAX_FOLDER_DEPTH {
                walk(&entry.path(), depth + 1, files)?;
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            walk(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<NamedImport, CliError> {
    let wrap = |error: std::io::Error| CliError::file(path, "read", &error);
    // In one piece where the size is known, so that no copy of a part is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::new());
    let mut modified = None;
    if path == Path::new("-") {
        std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(wrap)?;
    } else {
        let file = std::fs::File::open(path).map_err(wrap)?;
        let about = file.metadata().map_err(wrap)?;
        bytes.reserve_exact(usize::try_from(about.len().min(MAX_INPUT_BYTES)).unwrap_or_default() + 1);
        modified = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(wrap)?;
    }
    let modified =
        modified.and_then(|since| i64::try_from(since.as_secs()).ok()).map(Time::from_unix_seconds);
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let import = import(&Input { name: &name, bytes: &bytes, modified });
    Ok(NamedImport { name, import, cursor: None })
}

fn print(report: &EscrowImportReport) {
    let rows: Vec<Vec<String>> = report
        .sources
        .iter()
        .map(|source| {
            vec![
                output::plain(&source.name),
                source.source.name().to_owned(),
                source.found.to_string(),
                (source.found - source.known).to_string(),
                source.problems.to_string(),
            ]
        })
        .collect();
    output::table(&["SOURCE", "KIND", "FOUND", "NEW", "PROBLEMS"], &rows);
    match report.record {
        Some(record) => output::line(format!("{} recovery secrets sealed; record {record}", report.sealed)),
        None if report.sources.iter().any(|source| source.problems > 0) => {
            output::line("Nothing new was sealed; what could not be read is told below.");
        }
        None => output::line("Nothing new: the vault holds all that was found already."),
    }
    output::findings(&report.findings);
}
