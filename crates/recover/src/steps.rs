//! What to do with what came out: to boot and to seal again, for the case at hand, as text and as PowerShell.
//!
//! None of the scripts has run on Windows. Text from a disk never enters them: ids are parsed, names are not used.

use lifeboat_fve::{Guid, Metadata, ProtectionType};

use crate::target::OutputKind;

/// What a recovery ended in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole disk with decrypted volumes.
    Disk {
        /// The file.
        path: String,
        /// Its form.
        kind: OutputKind,
        /// BitLocker volumes in it that nothing opened.
        still_encrypted: usize,
    },
    /// One decrypted volume.
    Volume {
        /// The file.
        path: String,
        /// Its form.
        kind: OutputKind,
    },
    /// An overlay or copy of the disk in which BitLocker is suspended.
    Suspended {
        /// The file.
        path: String,
        /// The disk that it is laid over; none for a copy.
        parent: Option<String>,
    },
    /// A key that opens the volume, and nothing written.
    KeyProved,
}

/// Steps for a person, and the same for PowerShell where there is something to type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextSteps {
    /// Sentences, in order.
    pub steps: Vec<String>,
    /// A script, to be read before it is run.
    pub powershell: Option<String>,
}

/// Says what to do next. `used` is the BitLocker protector whose secret was used.
#[must_use]
pub fn next_steps(outcome: &Outcome, metadata: &Metadata, used: Option<Guid>) -> NextSteps {
    let has_tpm = metadata.protectors().iter().any(|one| one.protection.needs_tpm());
    match outcome {
        Outcome::Disk { path, kind: OutputKind::Vhdx, still_encrypted } => {
            boot_plain(path, has_tpm, *still_encrypted)
        }
        Outcome::Disk { path, kind: OutputKind::Raw, still_encrypted } => NextSteps {
            steps: vec![
                format!(
                    "{path} is the whole disk, {}, as raw bytes. Hyper-V wants a VHDX: run the command again with --whole-disk --to NAME.vhdx, or convert it: qemu-img convert -O vhdx.",
                    what_is_plain(*still_encrypted)
                ),
                guard_plain(),
            ],
            powershell: None,
        },
        Outcome::Volume { path, kind: OutputKind::Vhdx } => NextSteps {
            steps: vec![
                format!(
                    "{path} holds the decrypted volume alone, without a partition table: for reading files (7-Zip, or `lifeboat recover --list` on the encrypted disk). A VM does not boot from it; for that run the command again with --whole-disk."
                ),
                guard_plain(),
            ],
            powershell: None,
        },
        Outcome::Volume { path, kind: OutputKind::Raw } => NextSteps {
            steps: vec![
                format!(
                    "{path} holds the decrypted volume. On Linux: mount -o ro,loop. On Windows: 7-Zip opens it. To boot the VM from it run the command again with --whole-disk --to NAME.vhdx."
                ),
                guard_plain(),
            ],
            powershell: None,
        },
        Outcome::Suspended { path, parent } => {
            boot_suspended(path, parent.as_deref(), metadata, used, has_tpm)
        }
        Outcome::KeyProved => boot_and_reseal(metadata, used, has_tpm),
    }
}

/// What of a disk came out decrypted.
fn what_is_plain(still_encrypted: usize) -> String {
    match still_encrypted {
        0 => "decrypted".to_owned(),
        1 => "decrypted but for one BitLocker volume that stays encrypted".to_owned(),
        many => format!("decrypted but for {many} BitLocker volumes that stay encrypted"),
    }
}

fn guard_plain() -> String {
    "The output is not encrypted: keep it as you keep the data in it, and remove it when it is no longer needed."
        .to_owned()
}

/// Text in single quotes for PowerShell; a quote inside is doubled, of every kind that PowerShell takes for one.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        if matches!(character, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(character);
        }
        if !character.is_control() {
            quoted.push(character);
        }
    }
    quoted.push('\'');
    quoted
}

/// PowerShell for the host: a file in place of the encrypted disk.
fn attach(variable: &str, path: &str) -> String {
    format!(
        "# On the host, after reading every line. Not yet run on Windows.\n\
         $vm = Read-Host 'Name of the VM'\n\
         {variable} = {}\n\
         Get-VMHardDiskDrive -VMName $vm | Format-Table ControllerType, ControllerNumber, ControllerLocation, Path\n\
         # The drive that holds the encrypted disk, from the list above:\n\
         # Set-VMHardDiskDrive -VMName $vm -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 0 -Path {variable}\n\
         # Start-VM -Name $vm\n",
        quoted(path)
    )
}

fn boot_plain(path: &str, has_tpm: bool, still_encrypted: usize) -> NextSteps {
    let plain = what_is_plain(still_encrypted);
    let start = match still_encrypted {
        0 => "Start the VM. BitLocker does not ask: nothing is encrypted.",
        _ => {
            "Start the VM. BitLocker does not ask for a decrypted volume; for those that stay encrypted Windows may."
        }
    };
    let mut steps = vec![
        format!("{path} is the whole disk, {plain}. Copy it to the host beside the VM; keep the encrypted original until the end."),
        "Attach it in place of the encrypted disk, at the same controller and location. Generation 2 VMs keep their Secure Boot template.".to_owned(),
        format!("{start} If Windows does not start, attach the disk to another Windows machine and run chkdsk on it."),
        "In the guest turn BitLocker on again and let the new recovery password go to escrow before the old disk is removed.".to_owned(),
    ];
    if has_tpm {
        steps.push("The volume was sealed to a vTPM: see that the VM has one (Get-VMSecurity) before BitLocker is turned on. On a shielded VM this happens in the guest, as its owner.".to_owned());
    }
    steps.push(guard_plain());
    let powershell = format!(
        "{}\n\
         # In the guest, elevated:\n\
         # manage-bde -protectors -add C: -recoverypassword\n\
         {}# manage-bde -on C: -used\n\
         # manage-bde -protectors -get C:\n\
         # manage-bde -protectors -adbackup C: -id '{{ID of the new recovery password}}'\n",
        attach("$new", path),
        if has_tpm { "# manage-bde -protectors -add C: -tpm\n" } else { "" },
    );
    NextSteps { steps, powershell: Some(powershell) }
}

fn boot_suspended(
    path: &str,
    parent: Option<&str>,
    metadata: &Metadata,
    used: Option<Guid>,
    has_tpm: bool,
) -> NextSteps {
    let mut steps = vec![match parent {
        Some(parent) => format!(
            "{path} is open to anyone who also has {parent}, until protection is resumed: move both as you would move the decrypted disk. From now on nothing may write to {parent}: it is the parent. Keep another copy of it until the end."
        ),
        None => format!(
            "{path} is open to anyone until protection is resumed: move it as you would move the decrypted disk. Keep the disk that it is a copy of until the end. Hyper-V wants a VHDX: where it is raw, qemu-img convert -O vhdx makes one."
        ),
    }];
    steps.push(match parent {
        Some(_) => "On the host put both into one folder beside the VM, and attach the overlay in place of the disk, at the same controller and location. No Windows has booted such an overlay yet: where it does not start, decrypt the disk instead (--whole-disk --to NAME.vhdx).",
        None => "Attach it in place of the disk, at the same controller and location. No Windows has booted such a copy yet: where it does not start, decrypt the disk instead (--whole-disk --to NAME.vhdx).",
    }.to_owned());
    steps.push("Start the VM: BitLocker does not ask, because protection is suspended. At once, in the guest: add a new recovery password, replace the TPM's BitLocker protector, resume protection (which removes the clear key), escrow the new password, and last remove the recovery password that was used.".to_owned());
    if parent.is_some() {
        steps.push("When the guest is protected again and runs as it should, shut it down and merge the overlay into the disk (Merge-VHD), so that no file with the clear key is left.".to_owned());
    }
    steps.push("Who copied the overlay while it was open opens every later state of this volume: resuming changes the BitLocker protectors, not the volume key. If that may have happened, decrypt the volume in the guest and encrypt it anew.".to_owned());
    steps.push("The same without an overlay, on a Windows machine that the owner trusts: attach a copy of the disk there, then manage-bde -unlock X: -recoverypassword (the 48 digits), manage-bde -protectors -disable X: -rebootcount 1, and detach it.".to_owned());
    let mut script = attach("$overlay", path) + "\n";
    script.push_str(&reseal_script(metadata, used, has_tpm));
    if let Some(parent) = parent {
        script.push_str(&format!(
            "\n# On the host, when the guest is protected again and shut down. This writes to the disk itself:\n\
             # Merge-VHD -Path $overlay -DestinationPath {}\n",
            quoted(parent)
        ));
    }
    NextSteps { steps, powershell: Some(script) }
}

fn boot_and_reseal(metadata: &Metadata, used: Option<Guid>, has_tpm: bool) -> NextSteps {
    let kind_of_used = used.and_then(|id| metadata.protector(id)).map(|one| one.protection);
    let mut steps = Vec::new();
    match kind_of_used {
        Some(ProtectionType::RECOVERY_PASSWORD) => steps.push(
            "The recovery password opens this volume. At BitLocker's prompt type its 48 digits (Escape first, where another prompt stands before it)."
                .to_owned(),
        ),
        Some(ProtectionType::CLEAR_KEY) => {
            steps.push("Protection is suspended: the volume boots without asking.".to_owned());
        }
        Some(ProtectionType::PASSWORD) => {
            steps.push("The password opens this volume: type it at BitLocker's prompt.".to_owned());
        }
        Some(ProtectionType::EXTERNAL_KEY) => steps.push(
            "The external key opens this volume. A VM has no USB for it: attach the disk to a Windows machine and unlock it there (manage-bde -unlock X: -recoverykey FILE.BEK), or read its recovery password back with --read-back and type that."
                .to_owned(),
        ),
        _ => steps.push("A key opens this volume.".to_owned()),
    }
    steps.push(
        "A shielded VM shows no console: where nobody can type at the prompt, decrypt the disk instead (--whole-disk --to NAME.vhdx)."
            .to_owned(),
    );
    if has_tpm {
        steps.push(
            "After the boot seal the volume to the VM's new vTPM: add a new recovery password first, then replace the TPM's BitLocker protector, enable protection, escrow, and last remove the recovery password that was used."
                .to_owned(),
        );
    } else {
        steps.push(
            "After the boot change the secret that was used: add a new recovery password, escrow it, and last remove the old one."
                .to_owned(),
        );
    }
    NextSteps { steps, powershell: Some(reseal_script(metadata, used, has_tpm)) }
}

/// What to type in the guest to protect it again.
fn reseal_script(metadata: &Metadata, used: Option<Guid>, has_tpm: bool) -> String {
    let mut script = String::from(
        "# In the guest, elevated, after it booted. Read every line before. Not yet run on Windows.\n\
         $drive = 'C:'\n\
         manage-bde -protectors -get $drive\n\
         # A new recovery password first: never leave the volume without a BitLocker protector.\n\
         manage-bde -protectors -add $drive -recoverypassword\n",
    );
    if has_tpm {
        script.push_str(
            "manage-bde -protectors -delete $drive -type tpm\n\
             manage-bde -protectors -add $drive -tpm\n",
        );
    }
    script.push_str(
        "manage-bde -protectors -enable $drive\n\
         manage-bde -status $drive\n\
         # Escrow the new one (or -aadbackup):\n\
         # manage-bde -protectors -adbackup $drive -id '{ID of the new recovery password}'\n",
    );
    if let (Some(id), Some(ProtectionType::RECOVERY_PASSWORD)) =
        (used, used.and_then(|id| metadata.protector(id)).map(|one| one.protection))
    {
        let id = id.to_string().to_uppercase();
        script.push_str(&format!(
            "# Last, when the new one is in escrow, retire the one that was used:\n\
             # manage-bde -protectors -delete $drive -id '{{{id}}}'\n"
        ));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_a_path() {
        assert_eq!(quoted("a b.vhdx"), "'a b.vhdx'");
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted("x\u{2019}; Remove-Item\n"), "'x\u{2019}\u{2019}; Remove-Item'");
    }
}
