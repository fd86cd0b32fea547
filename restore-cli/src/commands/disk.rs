//! `lifeboat disk inspect`.

use std::ffi::OsString;
use std::path::PathBuf;

use lifeboat_disk::DiskLayout;
use lifeboat_disk::{
    DiskVolume, Encryption, ImageFile, LocalFiles, ParentSearch, VirtualDisk, inspect, open_disk,
};
use lifeboat_schema::{
    BitLockerInfo, DiskInspectReport, EncryptionKind, Exit, Finding, ProtectorKind, Severity, VolumeInfo,
    VolumeState,
};

use super::Context;
use crate::error::CliError;
use crate::output;

/// Works with disk images.
#[derive(clap::Subcommand)]
pub(crate) enum Disk {
    /// Says what a disk image is: container, volumes, what encrypts each, and which BitLocker protectors it has.
    /// Reads a few hundred KiB, writes nothing.
    Inspect(Inspect),
}

/// Says what a disk image is.
#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// VHDX, AVHDX, VHD, raw disk or raw volume.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    #[command(flatten)]
    parents: Parents,
}

/// Where the parents of a differencing disk are looked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Parents {
    /// Folder in which parents of differencing disks may lie, beside that of the disk; may be given again.
    #[arg(long = "parents", value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Also open the absolute paths that a differencing disk names. Not for disks from strangers.
    #[arg(long)]
    absolute_parents: bool,
}

impl Parents {
    pub(crate) fn search(&self) -> ParentSearch {
        ParentSearch { folders: self.folders.clone(), absolute_paths: self.absolute_parents }
    }

    /// The flags that say the same.
    pub(crate) fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> =
            self.folders.iter().flat_map(|folder| ["--parents".into(), folder.into()]).collect();
        flags.extend(self.absolute_parents.then(|| "--absolute-parents".into()));
        flags
    }
}

pub(crate) fn run(context: &Context, command: &Disk) -> Result<Exit, CliError> {
    let Disk::Inspect(arguments) = command;
    let disk = open_disk(&LocalFiles, &arguments.image, &arguments.parents.search())?;
    let layout = DiskLayout::read(&disk)?;
    let report = inspect(&disk, &layout);
    let findings = findings(&report, &layout);
    if context.json {
        output::json(&report);
    } else {
        print(&disk, &layout, &report);
    }
    output::findings(&findings);
    // An inspection that could say everything is done, whatever it says.
    let is_damaged = findings.iter().any(|finding| finding.severity == Severity::Damage);
    Ok(if is_damaged { Exit::Damage } else { Exit::Done })
}

fn findings(report: &DiskInspectReport, layout: &DiskLayout) -> Vec<Finding> {
    let mut findings = Vec::new();
    if layout.is_cut_short {
        findings.push(Finding::new(
            Severity::Warning,
            "image-cut-short",
            "disk",
            "the partition table describes a larger disk than this file holds",
            "look for the rest of the image; what is there can be recovered",
        ));
    }
    for volume in &report.volumes {
        let place = format!("volume {}", volume.number);
        let Some(info) = &volume.bitlocker else {
            if volume.encryption == EncryptionKind::Bitlocker {
                findings.push(Finding::new(
                    Severity::Damage,
                    "metadata-destroyed",
                    place,
                    "it is a BitLocker volume, and none of its metadata copies can be used: no key opens it as it is",
                    "keep the disk; with metadata captured earlier (lifeboat recover --captured) any key of that time opens it",
                ));
            }
            continue;
        };
        // One does not hide the other.
        if info.metadata_copies_valid < info.metadata_copies {
            findings.push(Finding::new(
                Severity::Warning,
                "metadata-damaged",
                &place,
                format!(
                    "only {} of {} metadata copies are whole; one is enough",
                    info.metadata_copies_valid, info.metadata_copies
                ),
                "recover soon, and copy the disk before anything writes to it",
            ));
        }
        if info.state == VolumeState::Suspended {
            findings.push(Finding::new(
                Severity::Warning,
                "protection-suspended",
                place,
                "a clear key stands on the volume: whoever has this disk reads it, and its recovery passwords",
                "treat the disk as unencrypted; lifeboat recover --clear-key opens it",
            ));
        }
    }
    findings
}

fn print(disk: &VirtualDisk<ImageFile>, layout: &DiskLayout, report: &DiskInspectReport) {
    output::line(format!(
        "{}: {}, {}, sectors of {} bytes",
        output::path(&disk.files()[0]),
        disk.container().name().to_uppercase(),
        output::bytes(report.virtual_size_bytes),
        report.sector_size_bytes
    ));
    for parent in &disk.files()[1..] {
        output::line(format!("  parent:       {}", output::path(parent)));
    }
    let facts = disk.facts();
    if let Some(id) = facts.virtual_disk_id {
        output::line(format!("  disk id:      {id} (page 83)"));
    }
    if let Some(id) = layout.gpt_disk_id() {
        output::line(format!("  GPT disk id:  {id}"));
    }
    if facts.replayed_log {
        output::line(
            "  the disk was not closed properly: its log was replayed in memory, the file is untouched",
        );
    }
    if layout.tables.is_none() {
        output::line("  no partition table: the whole disk is one volume");
    }
    for (info, volume) in report.volumes.iter().zip(&layout.volumes) {
        output::line("");
        print_volume(disk, info, volume);
    }
}

fn print_volume(disk: &VirtualDisk<ImageFile>, info: &VolumeInfo, volume: &DiskVolume) {
    let name = volume.partition.as_ref().map(|partition| output::plain(&partition.name));
    let name = name.filter(|name| !name.is_empty()).map(|name| format!(" \"{name}\"")).unwrap_or_default();
    output::line(format!(
        "Volume {}{name}: {} at {}, {}",
        info.number,
        output::bytes(info.size_bytes),
        output::bytes(info.offset_bytes),
        what(volume)
    ));
    if let Some(bitlocker) = &info.bitlocker {
        let description = lifeboat_fve::Volume::open(volume.reader(disk)).ok();
        let description = description.and_then(|volume| volume.metadata().description.clone());
        if let Some(description) = description {
            output::line(format!("  Windows called it:  {}", output::plain(&description)));
        }
        print_bitlocker(bitlocker);
    }
}

fn what(volume: &DiskVolume) -> String {
    match volume.encryption {
        Encryption::BitLocker => "BitLocker".to_owned(),
        Encryption::Luks { version } => format!("LUKS{version}, not BitLocker: cryptsetup opens it"),
        Encryption::None(content) => format!("not encrypted ({})", content.name()),
        _ => "nothing known begins here: other encryption, another file system, or damage".to_owned(),
    }
}

/// Prints what BitLocker says of a volume.
pub(crate) fn print_bitlocker(info: &BitLockerInfo) {
    let state = match info.state {
        VolumeState::Encrypted => "encrypted and protected",
        VolumeState::Decrypted => "not encrypted any more (metadata left behind)",
        VolumeState::Converting => "partly encrypted: a conversion was under way",
        VolumeState::Suspended => "encrypted, protection SUSPENDED: open to anyone",
    };
    let cipher = serde_json::to_value(info.cipher).ok();
    let cipher = cipher.as_ref().and_then(|name| name.as_str()).unwrap_or("unknown").to_owned();
    output::line(format!("  state:              {state}, cipher {cipher}"));
    output::line(format!("  volume id:          {}", info.volume_id));
    output::line(format!(
        "  metadata:           {} of {} copies whole, version {}",
        info.metadata_copies_valid, info.metadata_copies, info.version
    ));
    for (number, protector) in info.protectors.iter().enumerate() {
        output::line(format!(
            "  {}  {}  {:<22}  changed {}",
            if number == 0 { "opens with:       " } else { "                  " },
            protector.id,
            protector_name(protector.kind),
            protector.modified
        ));
    }
    if info.protectors.is_empty() && info.state != VolumeState::Decrypted {
        output::line("  opens with:         nothing: no BitLocker protector stands on it");
    }
}

/// Name of a BitLocker protector for people.
pub(crate) fn protector_name(kind: ProtectorKind) -> &'static str {
    match kind {
        ProtectorKind::RecoveryPassword => "recovery password",
        ProtectorKind::Password => "password",
        ProtectorKind::Tpm => "TPM",
        ProtectorKind::TpmPin => "TPM + PIN",
        ProtectorKind::TpmStartupKey => "TPM + startup key",
        ProtectorKind::TpmPinStartupKey => "TPM + PIN + startup key",
        ProtectorKind::ExternalKey => "external key (.BEK)",
        ProtectorKind::ClearKey => "clear key: anyone",
        ProtectorKind::PublicKey => "certificate",
        ProtectorKind::Unknown => "unknown kind",
    }
}
