//! The plan: every way into every volume, which are open, and why better ones are closed.

use lifeboat_disk::{Encryption, ReadAt, inspect};
use lifeboat_fve as fve;
use lifeboat_fve::{ProtectionType, Protector};
use lifeboat_schema::{
    Grade, RecoverDisk, RecoverPlan, RecoverVolume, RecoverWay, Statement, WayKind, WayStanding,
};

use crate::matching::OpenedDisk;
use crate::source::{LockedVolume, SourceDisk};

/// Plans the recovery of disks. `locked` are their BitLocker volumes with usable metadata, `opened` what the keys at
/// hand did, in the same order; empty where none was tried.
#[must_use]
pub fn plan<F: ReadAt + Sync>(
    disks: &[SourceDisk<F>],
    locked: &[LockedVolume<'_, F>],
    opened: &[OpenedDisk],
) -> RecoverPlan {
    let disks = disks
        .iter()
        .enumerate()
        .map(|(index, source)| {
            let report = inspect(&source.disk, &source.layout);
            let volumes = report
                .volumes
                .into_iter()
                .zip(&source.layout.volumes)
                .map(|(info, volume)| {
                    let found = locked
                        .iter()
                        .position(|one| one.place.disk == index && one.place.number == volume.number);
                    let (ways, mut statements, description) = match (found, volume.encryption) {
                        (Some(found), _) => {
                            let one = &locked[found];
                            let (ways, statements) = ways(one, opened.get(found));
                            (ways, statements, one.fve().metadata().description.clone())
                        }
                        (None, Encryption::BitLocker) => (
                            destroyed(),
                            vec![known(
                                "no metadata copy on this volume can be used: no key opens it as it is",
                            )],
                            None,
                        ),
                        (None, _) => (Vec::new(), Vec::new(), None),
                    };
                    if volume.offset_bytes + volume.size_bytes > source.disk.size_bytes() {
                        statements
                            .push(known("the image ends before this volume does: what is there can be had"));
                    }
                    RecoverVolume { volume: info, description, ways, statements }
                })
                .collect();
            RecoverDisk {
                path: source.path.display().to_string(),
                container: report.container,
                parents: source.disk.files()[1..].iter().map(|path| path.display().to_string()).collect(),
                volumes,
            }
        })
        .collect();
    RecoverPlan { disks }
}

fn known(text: impl Into<String>) -> Statement {
    Statement { grade: Grade::Known, text: text.into() }
}

fn likely(text: impl Into<String>) -> Statement {
    Statement { grade: Grade::Likely, text: text.into() }
}

fn unknown(text: impl Into<String>) -> Statement {
    Statement { grade: Grade::UnknownHere, text: text.into() }
}

fn way(way: WayKind, standing: WayStanding, why: impl Into<String>, protectors: &[&Protector]) -> RecoverWay {
    RecoverWay {
        way,
        standing,
        why: why.into(),
        protectors: protectors.iter().map(|protector| protector.id.to_string()).collect(),
    }
}

/// The ways into a volume whose metadata is gone.
fn destroyed() -> Vec<RecoverWay> {
    vec![
        way(
            WayKind::RestoreWithVtpm,
            WayStanding::UnknownHere,
            "needs a backup of the disk from before the damage, beside the VM's vTPM state",
            &[],
        ),
        way(
            WayKind::CapturedMetadata,
            WayStanding::NeedsSecret,
            "metadata captured earlier (--captured FILE) takes the place of the destroyed copies; then any key of that time opens it",
            &[],
        ),
        way(
            WayKind::KeyPackage,
            WayStanding::Closed,
            "a key package holds the key, but not where sectors were moved: not supported without metadata",
            &[],
        ),
    ]
}

/// The ways into a volume, the best first.
fn ways<F: ReadAt + Sync>(
    locked: &LockedVolume<'_, F>,
    opened: Option<&OpenedDisk>,
) -> (Vec<RecoverWay>, Vec<Statement>) {
    let volume = locked.fve();
    let metadata = volume.metadata();
    let of = |kind: ProtectionType| -> Vec<&Protector> {
        metadata.protectors().iter().filter(|protector| protector.protection == kind).collect()
    };
    let success = opened.and_then(|opened| opened.result.as_ref().ok());
    let mut statements = facts(locked);
    if locked.is_decrypted() {
        let why = "BitLocker's metadata is there, but nothing is encrypted: --to copies the volume";
        return (vec![way(WayKind::NotEncrypted, WayStanding::Open, why, &[])], statements);
    }
    if metadata.is_hardware_encrypted() {
        let why = "the drive encrypted it itself; no key that exists here decrypts it";
        return (vec![way(WayKind::RecoveryPassword, WayStanding::Closed, why, &[])], statements);
    }
    let is_open = |kind: &'static str, protectors: &[&Protector]| {
        success.is_some_and(|opened| {
            opened.opened_by == Some(kind)
                && protectors.iter().any(|protector| Some(protector.id) == opened.protector)
        })
    };
    let by_secret =
        |kind: WayKind, name: &'static str, protectors: &[&Protector], needs: &str, flag: &str| {
            if protectors.is_empty() {
                let why = format!("the volume has no BitLocker protector that a {name} opens");
                way(kind, WayStanding::Closed, why, &[])
            } else if is_open(name, protectors) {
                way(kind, WayStanding::Open, format!("the {name} given was proved"), protectors)
            } else if protectors
                .iter()
                .all(|one| one.stretch.as_ref().is_some_and(|stretch| stretch.is_pbkdf2()))
            {
                let why = "its key derivation is PBKDF2 (FIPS), which is not supported here";
                way(kind, WayStanding::Closed, why, protectors)
            } else {
                way(kind, WayStanding::NeedsSecret, format!("{needs}: give it with {flag}"), protectors)
            }
        };
    let [passwords, recovery, external, clear, public] = [
        ProtectionType::PASSWORD,
        ProtectionType::RECOVERY_PASSWORD,
        ProtectionType::EXTERNAL_KEY,
        ProtectionType::CLEAR_KEY,
        ProtectionType::PUBLIC_KEY,
    ]
    .map(of);
    let tpm: Vec<&Protector> =
        metadata.protectors().iter().filter(|protector| protector.protection.needs_tpm()).collect();
    let mut ways = vec![if tpm.is_empty() {
        let why = "no TPM is among the BitLocker protectors: the vTPM would not open it";
        way(WayKind::RestoreWithVtpm, WayStanding::Closed, why, &[])
    } else {
        let why = "the best way, if a vault or an export has the VM's vTPM state: `lifeboat restore VM`; no vault was asked here";
        way(WayKind::RestoreWithVtpm, WayStanding::UnknownHere, why, &tpm)
    }];
    ways.push(by_secret(
        WayKind::RecoveryPassword,
        "recovery password",
        &recovery,
        "the 48 digits that escrow has under this id",
        "--recovery-password-file FILE",
    ));
    ways.push(match success.and_then(|opened| opened.generation) {
        Some(_) => {
            let why = "a secret of another time opened metadata captured then, and its key opens this disk";
            way(WayKind::CapturedMetadata, WayStanding::Open, why, &[])
        }
        None => {
            let why = "a secret of another time may still open the disk with metadata captured then: --captured FILE";
            way(WayKind::CapturedMetadata, WayStanding::UnknownHere, why, &[])
        }
    });
    let matched = opened.and_then(|opened| opened.key_from);
    ways.push(match matched {
        Some(place) if is_open("recovery key (BEK)", &external) => {
            let why =
                format!("the key was read back from volume {} of disk {}", place.number, place.disk + 1);
            way(WayKind::ExternalKey, WayStanding::Open, why, &external)
        }
        _ => by_secret(
            WayKind::ExternalKey,
            "recovery key (BEK)",
            &external,
            "the .BEK file with this id in its name",
            "--bek FILE",
        ),
    });
    if !external.is_empty() {
        let why = "an .ebek of Save-ShieldedVMRecoveryKey needs its shielding data file and the owner's key; its format is unpublished and not read here: unwrap it with Unprotect-ShieldedVMRecoveryKey, then --bek";
        ways.push(way(WayKind::EncryptedExternalKey, WayStanding::Closed, why, &external));
    }
    ways.push(if clear.is_empty() {
        way(
            WayKind::ClearKey,
            WayStanding::Closed,
            "protection is not suspended: no clear key stands on the volume",
            &[],
        )
    } else {
        let why = "protection is suspended: the key lies open on the disk; --clear-key uses it";
        way(WayKind::ClearKey, WayStanding::Open, why, &clear)
    });
    ways.push(by_secret(
        WayKind::Password,
        "password",
        &passwords,
        "the password that people type to unlock the drive",
        "--password-file FILE",
    ));
    ways.push(match success.is_some_and(|opened| opened.opened_by == Some("key package and recovery password")) {
        true => way(WayKind::KeyPackage, WayStanding::Open, "package and recovery password were proved", &recovery),
        false if recovery.is_empty() => {
            way(WayKind::KeyPackage, WayStanding::Closed, "a key package needs a recovery password", &[])
        }
        false => {
            let why = "the metadata is usable, so a recovery password alone does; a package (--key-package FILE) helps with that of another time";
            way(WayKind::KeyPackage, WayStanding::UnknownHere, why, &recovery)
        }
    });
    if !tpm.is_empty() {
        let why = "only the VM's own vTPM opens it, by booting with the vTPM state and boot files that it was sealed to";
        ways.push(way(WayKind::Tpm, WayStanding::Closed, why, &tpm));
    }
    if !public.is_empty() {
        let thumbprints: Vec<String> = public
            .iter()
            .filter_map(|one| one.certificate_thumbprint)
            .map(|print| crate::journal::hex(&print))
            .collect();
        let why = format!(
            "needs the private key of certificate {}, on Windows: manage-bde -unlock X: -certificate -ct THUMBPRINT",
            if thumbprints.is_empty() { "(thumbprint unknown)".to_owned() } else { thumbprints.join(", ") }
        );
        ways.push(way(WayKind::PublicKey, WayStanding::Closed, why, &public));
    }
    if success.is_none() {
        let only_external = recovery.is_empty() && passwords.is_empty() && clear.is_empty();
        if only_external && !external.is_empty() && tpm.is_empty() {
            statements.push(likely(
                "only an external key opens this volume: as a rule it is one that the VM's own OS volume unlocks by itself \
                 (auto-unlock). The key lies in that volume's registry (SYSTEM hive, FVEAutoUnlock), which is not searched \
                 here. Give the OS disk together with this one, or boot the VM first",
            ));
        } else if only_external && external.is_empty() {
            statements.push(known("no recovery protector stands on this volume: only the vTPM opens it"));
        }
    }
    (ways, statements)
}

/// What the metadata says that a person should know.
fn facts<F: ReadAt>(locked: &LockedVolume<'_, F>) -> Vec<Statement> {
    let volume = locked.fve();
    let mut statements = Vec::new();
    if locked.uses_capture {
        statements
            .push(known("sector 0 or all metadata copies of this volume are destroyed; metadata captured or searched for takes their place, and counts when a key is proved with it on this disk"));
    }
    let (copies, good) = (volume.copies().len(), volume.good_copies());
    if good < copies {
        let reports: Vec<String> = volume
            .copies()
            .iter()
            .filter(|copy| !copy.is_good())
            .map(|copy| format!("at byte {}: {}", copy.offset, copy.status))
            .collect();
        statements.push(known(format!(
            "{good} of {copies} metadata copies are whole, and one is enough ({})",
            reports.join("; ")
        )));
    }
    if volume.distinct_metadata().len() > 1 {
        statements.push(known(
            "whole metadata copies differ from each other: a change was interrupted, or someone altered one; the key tells which is genuine",
        ));
    }
    match volume.state() {
        fve::VolumeState::Suspended => statements.push(known(
            "protection is suspended: whoever has this disk reads it, and reads its recovery passwords back",
        )),
        fve::VolumeState::Converting => statements
            .push(known("encryption or decryption was under way: what was not converted yet lies in plain")),
        _ => {}
    }
    let metadata = volume.metadata();
    if metadata.current_state == fve::ConversionState::SWITCHING_DIRTY && metadata.state_size_bytes > 0 {
        statements.push(unknown(
            "the part that was being converted lies in a log that is not replayed here; it reads as zeros",
        ));
    }
    if metadata.protectors().iter().any(|one| one.protection.name() == "unknown") {
        statements.push(unknown("a BitLocker protector of an unknown kind stands on the volume"));
    }
    let present = fve::ReadAt::size_bytes(volume.reader());
    if locked.stated_bytes() > present {
        statements.push(known(format!(
            "{} bytes of {} are there: the rest is cut off",
            present,
            locked.stated_bytes()
        )));
    }
    statements
}
