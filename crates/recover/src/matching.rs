//! All disks of a VM together: what opens one volume may open another.
//!
//! External keys are matched across disks: a data volume that Windows unlocks by itself has an external-key protector
//! whose key another volume's read-back may give. Copies of one volume in different states share recovery passwords.
//! The keys in the registry of an OS volume (auto-unlock) are not looked for: their sealing is unverified, and no
//! well-kept reader of registry hives has a licence that fits.

use lifeboat_disk::ReadAt;
use lifeboat_fve::{Credential, KeyPackage, Metadata};

use crate::read_back::recovered_keys;
use crate::source::{LockedVolume, VolumePlace};
use crate::unlock::{OpenFailure, Opened, open_volume};

/// A volume that was tried.
pub struct OpenedDisk {
    /// The keys, or what happened with each.
    pub result: Result<Opened, OpenFailure>,
    /// The volume whose read-back gave the key.
    pub key_from: Option<VolumePlace>,
}

/// Opens volumes with the keys given, and the rest with what the opened ones give back.
#[must_use]
pub fn open_together<F: ReadAt + Sync>(
    volumes: &[LockedVolume<'_, F>],
    keys: &[Credential],
    packages: &[KeyPackage],
    generations: &[Metadata],
) -> Vec<OpenedDisk> {
    let mut opened: Vec<OpenedDisk> = volumes
        .iter()
        .map(|volume| OpenedDisk { result: open_volume(volume, keys, packages, generations), key_from: None })
        .collect();
    let mut asked = vec![false; volumes.len()];
    // Each turn asks one volume that was opened since; there are no more turns than volumes.
    while let Some(giver) = (0..volumes.len()).find(|&index| !asked[index] && opened[index].result.is_ok()) {
        asked[giver] = true;
        let Ok(source) = &opened[giver].result else { continue };
        let given = recovered_keys(&volumes[giver], source);
        let giver_id = volumes[giver].fve().metadata().volume_id;
        for (index, volume) in volumes.iter().enumerate() {
            if opened[index].result.is_ok() {
                continue;
            }
            let metadata = volume.fve().metadata();
            let fitting: Vec<Credential> = given
                .iter()
                .filter(|key| match key {
                    Credential::ExternalKey(key) => metadata.protector(key.id).is_some(),
                    // Each costs a stretch: only for another state of the same volume.
                    _ => metadata.volume_id == giver_id,
                })
                .filter_map(again)
                .collect();
            if let Ok(result) = open_volume(volume, &fitting, &[], &[]) {
                opened[index] = OpenedDisk { result: Ok(result), key_from: Some(volumes[giver].place) };
            }
        }
    }
    opened
}

/// The same key once more.
fn again(key: &Credential) -> Option<Credential> {
    Some(match key {
        Credential::RecoveryPassword(password) => Credential::RecoveryPassword(
            lifeboat_fve::RecoveryPassword::from_recovery_key(&password.recovery_key()),
        ),
        Credential::ExternalKey(key) => Credential::ExternalKey(lifeboat_fve::ExternalKey {
            id: key.id,
            created: key.created,
            saved: key.saved,
            volume_id: key.volume_id,
            key: lifeboat_fve::Key256::new(*key.key.expose()),
        }),
        _ => return None,
    })
}
