//! The other secrets of an opened volume: as keys for other volumes, and as a file for escrow.

use std::fmt::Write as _;

use lifeboat_disk::ReadAt;
use lifeboat_fve::{Credential, ReadBackSecret};
use zeroize::Zeroizing;

use crate::journal::hex;
use crate::source::LockedVolume;
use crate::unlock::Opened;

/// Returns the recovery passwords and external keys that an opened volume gives back.
pub(crate) fn recovered_keys<F: ReadAt>(volume: &LockedVolume<'_, F>, opened: &Opened) -> Vec<Credential> {
    let Some(vmk) = opened.vmk() else { return Vec::new() };
    volume
        .metadata_of(opened)
        .read_back(vmk)
        .into_iter()
        .filter_map(|entry| match entry.outcome {
            Ok(ReadBackSecret::RecoveryPassword(password)) => Some(Credential::RecoveryPassword(password)),
            Ok(ReadBackSecret::ExternalKey(key)) => Some(Credential::ExternalKey(key)),
            _ => None,
        })
        .collect()
}

/// Writes the secrets of an opened volume as text, one per line, with the numbers of recovery passwords and external
/// keys in it. The text is a secret.
#[must_use]
pub fn read_back_text<F: ReadAt>(
    volume: &LockedVolume<'_, F>,
    opened: &Opened,
) -> (Zeroizing<String>, u64, u64) {
    let metadata = volume.metadata_of(opened);
    // Room for all, so that no copy is left behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(1024 + 1024 * metadata.protectors().len()));
    let (mut passwords, mut keys) = (0, 0);
    let _ = writeln!(text, "# Recovery secrets of BitLocker volume {}", metadata.volume_id);
    let _ = writeln!(text, "# Whoever has this file opens the volume. Escrow it, then remove it.");
    let Some(vmk) = opened.vmk() else {
        let _ =
            writeln!(text, "# Nothing can be read back: no key opened the metadata that stands on the disk.");
        return (text, 0, 0);
    };
    for entry in metadata.read_back(vmk) {
        let id = entry.protector.id;
        let _ = match &entry.outcome {
            Ok(ReadBackSecret::RecoveryPassword(password)) => {
                passwords += 1;
                writeln!(text, "recovery-password {id} {}", password.expose().as_str())
            }
            Ok(ReadBackSecret::ExternalKey(key)) => {
                keys += 1;
                let file = Zeroizing::new(hex(&key.encode()));
                writeln!(text, "external-key {id} {} {}", key.file_name(), file.as_str())
            }
            Ok(_) => writeln!(
                text,
                "# {} {id}: only a derived key is kept, not the secret itself",
                entry.protector.protection
            ),
            Err(failure) => writeln!(text, "# {} {id}: {failure}", entry.protector.protection),
        };
    }
    if keys > 0 {
        let _ = writeln!(
            text,
            "# An external key is the content of its .BEK file in hexadecimal: `xxd -r -p` makes the file."
        );
    }
    (text, passwords, keys)
}
