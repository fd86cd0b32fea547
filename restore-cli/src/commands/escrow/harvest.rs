//! `lifeboat escrow harvest`.

use std::path::PathBuf;

use lifeboat_disk::ImageFile;
use lifeboat_escrow::{Holdings, NamedImport};
use lifeboat_importer::{What, exit_of};
use lifeboat_prove::{Harvest as Harvested, Known, Origin, Reader, harvest};
use lifeboat_recover::{LockedVolume, SourceDisk, VolumePlace, open_together};
use lifeboat_schema::{Exit, Finding, Role, Severity};

use super::import::{print, run_importer};
use crate::commands::Context;
use crate::commands::disk::Parents;
use crate::commands::recover::keys::{self, KeyArguments};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Escrows every other recovery secret that one key of a volume gives back.
///
/// Each BitLocker protector keeps a copy of its own secret that any other key of the volume opens. With disks, the keys
/// given on the command line open them. Without, BitLocker metadata that snapshots captured is opened with what is
/// escrowed already, with a clear key that stood on any captured generation, and with the keys given. What is not
/// escrowed yet is sealed by an importer, as if it had been imported. Shows no secret.
#[derive(clap::Args)]
pub(crate) struct Harvest {
    /// VHDX, AVHDX, VHD, raw disk or raw volume; none for what snapshots captured.
    #[arg(value_name = "DISK")]
    disks: Vec<PathBuf>,
    /// Without disks: only volumes of this VM (name or id).
    #[arg(long, conflicts_with = "disks")]
    vm: Option<String>,
    /// Folder that `lifeboat escrow enroll` wrote.
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_IMPORTER", default_value = ".")]
    importer: PathBuf,
    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    parents: Parents,
}

/// Name of the source in records, where the metadata came from snapshots.
const SNAPSHOTS: &str = "captured metadata";

pub(super) async fn run(context: &Context, arguments: &Harvest) -> Result<Exit, CliError> {
    arguments.keys.check()?;
    let (imports, mut findings) = if arguments.disks.is_empty() {
        from_snapshots(context, arguments).await?
    } else {
        from_disks(context, arguments).await?
    };
    findings.retain(|finding| finding.severity > Severity::Note);
    let report = run_importer(context, &arguments.importer, What::Given(imports, findings)).await?;
    context.answer(&report, |report| {
        if report.sources.iter().all(|source| source.found == 0) {
            output::line(
                "Nothing to escrow: all that can be read back is escrowed already, or nothing opened.",
            );
            output::findings(&report.findings);
        } else {
            print(report);
        }
    });
    Ok(exit_of(&report))
}

async fn from_snapshots(
    context: &Context,
    arguments: &Harvest,
) -> Result<(Vec<NamedImport>, Vec<Finding>), CliError> {
    let given = keys::read(&arguments.keys, &[], &[])?;
    let kit = Kit::open(&context.kit).await?;
    let identity = super::escrow_identity(context, &kit)?;
    let reader = Reader { vault: &kit.vault, ledgers: &kit.ledgers, identities: &identity.identities };
    let harvested = harvest(&reader, arguments.vm.as_deref(), given.credentials).await?;
    kit.remember();
    if let Some(wanted) = arguments.vm.as_ref().filter(|_| !harvested.knows_vm) {
        return Err(super::no_such_vm(wanted));
    }
    output::note(format!(
        "{} of {} captured volumes opened; {} secrets that they give back are escrowed already",
        harvested.opened, harvested.volumes, harvested.held
    ));
    let Harvested { import, findings, .. } = harvested;
    Ok((vec![NamedImport { name: SNAPSHOTS.to_owned(), import, cursor: None }], findings))
}

async fn from_disks(
    context: &Context,
    arguments: &Harvest,
) -> Result<(Vec<NamedImport>, Vec<Finding>), CliError> {
    if !arguments.keys.is_given() {
        return Err(CliError::usage(
            "give a key of the volume: --recovery-password-file, --bek, --password-file or --clear-key",
        ));
    }
    let mut disks: Vec<SourceDisk<ImageFile>> = Vec::new();
    for path in &arguments.disks {
        disks.push(SourceDisk::open(path, &arguments.parents.search())?);
    }
    let (mut locked, mut findings) = (Vec::new(), Vec::new());
    for (index, source) in disks.iter().enumerate() {
        for volume in source.layout.bitlocker_volumes() {
            match LockedVolume::open(source, index, volume, None) {
                Ok(one) => locked.push(one),
                Err(error) => findings.push(not_harvested(source, volume.number, &error.to_string())),
            }
        }
    }
    if locked.is_empty() {
        return Err(CliError::new(
            Exit::Failed,
            "none of these disks has a BitLocker volume whose metadata can be read",
        ));
    }
    // Whoever holds an identity of the kit is told what is escrowed, by whichever importer; the importer itself knows
    // its own.
    let holdings = held(context).await?;
    let given = keys::read(&arguments.keys, &locked, &[])?;
    let opened =
        tokio::task::block_in_place(|| open_together(&locked, &given.credentials, &given.packages, &[]));
    let mut imports: Vec<NamedImport> = Vec::new();
    for (volume, opened) in locked.iter().zip(&opened) {
        let VolumePlace { disk, number } = volume.place;
        let vmk = match &opened.result {
            Ok(opened) => opened.vmk().map(|vmk| (opened, vmk)),
            Err(error) => {
                findings.push(not_harvested(&disks[disk], number, &error.to_string()));
                continue;
            }
        };
        let Some((opened, vmk)) = vmk else {
            findings.push(not_harvested(
                &disks[disk],
                number,
                "no key opened the metadata that stands on the disk, so nothing can be read back",
            ));
            continue;
        };
        let metadata = volume.metadata_of(opened);
        let mut harvested = Harvested::default();
        let known = Known { secrets: &holdings.secrets, ..Known::default() };
        let origin = Origin { vm: None, volume: Some(metadata.volume_id), place: format!("volume {number}") };
        harvested.take(metadata.read_back(vmk), &known, &origin);
        let name = disks[disk].path.display().to_string();
        match imports.iter_mut().find(|one| one.name == name) {
            Some(one) => one.import.found.append(&mut harvested.import.found),
            None => imports.push(NamedImport { name, import: harvested.import, cursor: None }),
        }
    }
    if imports.is_empty() {
        let told: Vec<String> = findings.iter().map(|one| format!("{}: {}", one.place, one.what)).collect();
        return Err(CliError::new(Exit::NoAccess, told.join("; ")));
    }
    Ok((imports, findings))
}

/// What the vault holds, where the kit is at hand.
async fn held(context: &Context) -> Result<Holdings, CliError> {
    if !context.kit.kit.join("vault.toml").exists() {
        return Ok(Holdings::default());
    }
    let kit = Kit::open(&context.kit).await?;
    match kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow]) {
        Ok(identity) => Ok(Holdings::read(&kit.vault, &kit.ledgers, &identity.identities).await?),
        Err(_) => Ok(Holdings::default()),
    }
}

fn not_harvested(source: &SourceDisk<ImageFile>, number: u32, why: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        "not-harvested",
        format!("volume {number} of {}", source.path.display()),
        why,
        "`lifeboat recover` tells which ways into it are open",
    )
}
