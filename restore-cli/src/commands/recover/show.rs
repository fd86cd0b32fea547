//! What `lifeboat recover` shows a person.

use lifeboat_disk::ImageFile;
use lifeboat_fve::Witness;
use lifeboat_recover::{KeyProof, LockedVolume, OpenedDisk, SourceDisk};
use lifeboat_schema::{
    EncryptionKind, ProofLevel, RecoverPlan, RecoverReport, RecoveredVolume, WayKind, WayStanding,
};

use crate::commands::disk::{print_bitlocker, protector_name};
use crate::output;

pub(super) fn plan(plan: &RecoverPlan) {
    for (index, disk) in plan.disks.iter().enumerate() {
        if index > 0 {
            output::line("");
        }
        output::line(format!("Disk {}: {}", index + 1, output::plain(&disk.path)));
        for parent in &disk.parents {
            output::line(format!("  parent: {}", output::plain(parent)));
        }
        for volume in &disk.volumes {
            let info = &volume.volume;
            let size = output::bytes(info.size_bytes);
            match info.encryption {
                EncryptionKind::None if volume.ways.is_empty() => {
                    output::line(format!("  Volume {}: {size}, not encrypted", info.number));
                }
                EncryptionKind::Luks => output::line(format!(
                    "  Volume {}: {size}, LUKS: not BitLocker, cryptsetup opens it",
                    info.number
                )),
                EncryptionKind::Unknown if volume.ways.is_empty() => {
                    output::line(format!("  Volume {}: {size}, nothing known begins here", info.number));
                }
                _ => {
                    output::line("");
                    output::line(format!("  Volume {}: {size}, BitLocker", info.number));
                    if let Some(description) = &volume.description {
                        output::line(format!("  Windows called it:  {}", output::plain(description)));
                    }
                    if let Some(bitlocker) = &info.bitlocker {
                        print_bitlocker(bitlocker);
                    }
                    output::line("  Ways in, the best first:");
                    for way in &volume.ways {
                        output::line(format!(
                            "    [{}] {}: {}",
                            standing(way.standing),
                            way_name(way.way),
                            output::plain(&way.why)
                        ));
                        if way.standing == WayStanding::NeedsSecret {
                            for id in &way.protectors {
                                output::line(format!("                 {id}"));
                            }
                        }
                    }
                }
            }
            for statement in &volume.statements {
                output::line(format!("    {}: {}", statement.grade.word(), output::plain(&statement.text)));
            }
        }
    }
}

fn standing(standing: WayStanding) -> &'static str {
    match standing {
        WayStanding::Open => "OPEN        ",
        WayStanding::NeedsSecret => "needs secret",
        WayStanding::UnknownHere => "unknown here",
        WayStanding::Closed => "closed      ",
    }
}

fn way_name(way: WayKind) -> &'static str {
    match way {
        WayKind::RestoreWithVtpm => "restore the VM with its vTPM",
        WayKind::NotEncrypted => "no key needed",
        WayKind::RecoveryPassword => "recovery password",
        WayKind::CapturedMetadata => "captured metadata",
        WayKind::ExternalKey => "recovery key (.BEK)",
        WayKind::EncryptedExternalKey => "recovery key of a shielded VM (.ebek)",
        WayKind::ClearKey => "clear key",
        WayKind::Password => "password",
        WayKind::KeyPackage => "key package",
        WayKind::Tpm => "vTPM",
        WayKind::PublicKey => "certificate",
    }
}

/// What became of a volume, for the report.
pub(super) fn volume(locked: &LockedVolume<'_, ImageFile>, opened: &OpenedDisk) -> RecoveredVolume {
    let mut report = RecoveredVolume {
        disk: locked.source.path.display().to_string(),
        number: locked.place.number,
        volume_id: locked.fve().metadata().volume_id.to_string(),
        proof: None,
        proof_detail: String::new(),
        opened_by: None,
        protector: None,
        metadata_authenticated: false,
    };
    match &opened.result {
        Err(failure) => report.proof_detail = failure.to_string(),
        Ok(one) => {
            report.volume_id = locked.metadata_of(one).volume_id.to_string();
            report.opened_by = one.opened_by.map(str::to_owned);
            report.protector = one.protector.map(|id| id.to_string());
            report.metadata_authenticated = one.authentication.is_some_and(|proof| proof.is_proof());
            (report.proof, report.proof_detail) = match one.proof {
                KeyProof::NotNeeded => {
                    (Some(ProofLevel::NotNeeded), "the volume is not encrypted any more".to_owned())
                }
                KeyProof::Key => (
                    Some(ProofLevel::Key),
                    "the key opens the volume master key; nothing on the volume was recognised with it"
                        .to_owned(),
                ),
                KeyProof::Data(proof) => {
                    let what = match proof.witness {
                        Witness::BootSector(_) => "the boot sector of a file system",
                        Witness::MftRecord => "a record of the NTFS master file table",
                        Witness::BackupBootSector => "the copy of the NTFS boot sector",
                        Witness::ZeroSector => "a sector of zeros",
                        _ => "known content",
                    };
                    (
                        Some(ProofLevel::Data),
                        format!("the sector at byte {} decrypts to {what}", proof.offset),
                    )
                }
            };
        }
    }
    report
}

/// Says what became of a volume, in a line or two.
pub(super) fn proved(
    locked: &LockedVolume<'_, ImageFile>,
    opened: &OpenedDisk,
    disks: &[SourceDisk<ImageFile>],
) {
    let report = volume(locked, opened);
    let place = format!("Volume {} of {}", report.number, output::plain(&report.disk));
    let Some(proof) = report.proof else {
        output::line(format!("{place}: LOCKED. {}", output::plain(&report.proof_detail)));
        return;
    };
    let key = match (&report.opened_by, &report.protector) {
        (Some(key), Some(id)) => format!(" by {key} {id}"),
        _ => String::new(),
    };
    let level = match proof {
        ProofLevel::Data => "PROVED ON DATA",
        ProofLevel::Key => "KEY PROVED",
        ProofLevel::NotNeeded => "OPEN",
    };
    output::line(format!("{place}: {level}{key}"));
    output::line(format!("  {}", output::plain(&report.proof_detail)));
    if let Some(from) = opened.key_from {
        let path = disks.get(from.disk).map(|disk| output::path(&disk.path)).unwrap_or_default();
        output::line(format!("  the key was read back from volume {} of {path}", from.number));
    }
    if let Ok(one) = &opened.result {
        if let Some(generation) = one.generation {
            output::line(format!(
                "  through captured metadata {}, of another time than the disk",
                generation + 1
            ));
        }
        if let Some(authentication) = one.authentication {
            output::line(format!("  {authentication}"));
        }
    }
}

/// Prints a report.
pub(super) fn report(report: &RecoverReport) {
    if let Some(entries) = &report.entries {
        for entry in entries {
            let size = if entry.kind == "folder" { String::new() } else { output::bytes(entry.size_bytes) };
            let mark = match entry.kind.as_str() {
                "folder" => "/",
                "link" => " (link)",
                _ => "",
            };
            output::line(format!("{size:>12}  {}  {}{mark}", entry.modified, output::plain(&entry.name)));
        }
        if entries.is_empty() {
            output::note("the folder is empty");
        }
    }
    if let Some(extracted) = &report.extracted {
        output::line(format!(
            "Extracted {} files, {}, to {}",
            extracted.files,
            output::bytes(extracted.bytes),
            output::plain(&extracted.to)
        ));
        for left_out in &extracted.left_out {
            output::note(format!("  left out: {}", output::plain(left_out)));
        }
    }
    if let Some(file) = &report.read_back {
        output::line(format!(
            "Read back into {}: {} recovery passwords, {} external keys. The file opens the volume: escrow it, then remove it",
            output::plain(&file.path),
            file.recovery_passwords,
            file.external_keys
        ));
    }
    if let Some(written) = &report.written {
        output::line(format!(
            "Wrote {}: {} decrypted ({})",
            output::plain(&written.path),
            output::bytes(written.plain_bytes),
            written.form
        ));
        if written.resumed_bytes > 0 {
            output::line(format!(
                "  {} were there from an earlier run, each part compared with its digest",
                output::bytes(written.resumed_bytes)
            ));
        }
    }
    if let Some(overlay) = &report.overlay {
        let over = overlay.parent.as_deref().map(|parent| format!(", over {}", output::plain(parent)));
        output::line(format!(
            "Wrote {}{}: BitLocker is suspended in it by clear key {}",
            output::plain(&overlay.path),
            over.unwrap_or_default(),
            overlay.protector
        ));
    }
    if !report.next_steps.is_empty() {
        output::line("");
        output::line("Next:");
        for (step, number) in report.next_steps.iter().zip(1..) {
            output::line(format!("  {number}. {}", output::plain(step)));
        }
    }
    if let Some(script) = &report.powershell {
        output::line("");
        output::line("PowerShell:");
        for line in script.lines() {
            output::line(format!("  {}", output::plain(line)));
        }
    }
}

/// Lists the ids that a person may look for.
pub(super) fn wanted(locked: &LockedVolume<'_, ImageFile>) {
    let metadata = locked.fve().metadata();
    output::note(format!(
        "Volume {} of {} opens with one of these:",
        locked.place.number,
        output::path(&locked.source.path)
    ));
    let info = lifeboat_disk::inspect(&locked.source.disk, &locked.source.layout);
    let info = info.volumes.into_iter().find(|volume| volume.number == locked.place.number);
    match info.and_then(|volume| volume.bitlocker) {
        Some(bitlocker) => {
            for protector in bitlocker.protectors {
                output::note(format!("  {}  {}", protector.id, protector_name(protector.kind)));
            }
        }
        None => {
            for protector in metadata.summaries() {
                output::note(format!("  {}  {}", protector.id, protector.protection));
            }
        }
    }
}
