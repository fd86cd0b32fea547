//! `lifeboat escrow import`.

use std::path::PathBuf;

use lifeboat_config::ImporterConfig;
use lifeboat_importer::{What, World, exit_of};
use lifeboat_schema::{EscrowImportReport, Exit};

use crate::commands::{Context, now};
use crate::error::CliError;
use crate::output;
use crate::secrets::read_signing_key;

/// Seals the recovery secrets of files into the vault.
///
/// Takes whatever a tool wrote, in any language and encoding: recovery key files of Windows, manage-bde, PowerShell, AD
/// (LDIF, CSV, JSON), Entra ID, MBAM, lists, .BEK, .KPG, .ebek and .pdk. What cannot be read is told line by line, and
/// everything else is imported. Importing a file again adds nothing. Without FILE it asks the directories and tenants that
/// importer.toml names (AD DS over LDAPS, Entra ID through Microsoft Graph), for what is new since the last time, and
/// reads the folders that it names.
#[derive(clap::Args)]
pub(crate) struct Import {
    /// Files, or folders whose files are taken; `-` is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder that `lifeboat escrow enroll` wrote.
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_IMPORTER", default_value = ".")]
    importer: PathBuf,
}

pub(super) async fn run(context: &Context, arguments: &Import) -> Result<Exit, CliError> {
    let what = match arguments.files.as_slice() {
        [] => What::Sources,
        files => What::Files(files),
    };
    let report = run_importer(context, &arguments.importer, what).await?;
    context.answer(&report, print);
    Ok(exit_of(&report))
}

/// Runs the importer in `folder` once.
pub(super) async fn run_importer(
    context: &Context,
    folder: &std::path::Path,
    what: What<'_>,
) -> Result<EscrowImportReport, CliError> {
    let config = ImporterConfig::read(folder).map_err(|error| CliError::usage(error.to_string()))?;
    let key = read_signing_key(&config.signing_key, &context.kit.passphrases)?;
    let world = World { environment: &|name| std::env::var(name).ok(), clock: &now };
    Ok(lifeboat_importer::run(config, key, what, &world).await?)
}

pub(super) fn print(report: &EscrowImportReport) {
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
        None if report.sources.iter().all(|source| source.found == 0) => {
            output::line("Nothing was sealed: no source held a recovery secret that is not sealed already.");
        }
        None => output::line("Nothing new: the vault holds all that was found already."),
    }
    output::findings(&report.findings);
}
