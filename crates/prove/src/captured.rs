//! Which generations of which volumes a vault captured, and the bytes of one brought back.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_disk_head::DiskHead;
use lifeboat_engine::inventory::Found;
use lifeboat_schema::{
    ArtefactEntry, Digest, DiskHeadEntry, OwnerId, ProtectorInfo, ProtectorKind, Time, VolumeHeadEntry,
};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::Vault;
use zeroize::Zeroize as _;

use crate::sectors::Captured;

/// One generation of a volume, with the snapshots that hold it.
pub struct Generation {
    /// Digest of its metadata region.
    pub metadata: Digest,
    /// When it was captured last.
    pub captured: Time,
    /// Whether it is the newest that was captured of its volume on some VM.
    pub is_current: bool,
    /// Its BitLocker protectors, as the snapshot lists them.
    pub protectors: Vec<ProtectorInfo>,
    /// Snapshots that hold it, the newest first.
    places: Vec<Place>,
}

/// Snapshots of one generation that are kept in mind: where the newest cannot be read an older may.
const MAX_PLACES: usize = 4;

struct Place {
    found: Found,
    disk: usize,
    volume: usize,
}

impl Place {
    fn head(&self) -> Option<&DiskHeadEntry> {
        self.found.entry.vm.disks.get(self.disk)?.head.as_ref()
    }

    fn volume(&self) -> Option<&VolumeHeadEntry> {
        self.head()?.volumes.get(self.volume)
    }
}

#[cfg(test)]
impl Generation {
    /// One that no snapshot holds, with recovery passwords of these ids.
    pub(crate) fn made_up(metadata: u8, is_current: bool, protectors: &[&str]) -> Self {
        let protector = |id: &&str| ProtectorInfo {
            id: (*id).to_owned(),
            kind: ProtectorKind::RecoveryPassword,
            modified: Time::from_unix_seconds(0),
        };
        Self {
            metadata: Digest::from_bytes([metadata; 32]),
            captured: Time::from_unix_seconds(i64::from(metadata)),
            is_current,
            protectors: protectors.iter().map(protector).collect(),
            places: Vec::new(),
        }
    }
}

impl Generation {
    /// Returns the newest capture.
    #[must_use]
    pub fn newest(&self) -> &Found {
        &self.places[0].found
    }

    /// Tells whether the snapshot lists a BitLocker protector.
    #[must_use]
    pub fn has(&self, protector: &str) -> bool {
        self.protectors.iter().any(|one| one.id == protector)
    }

    /// Tells whether it has a recovery password.
    #[must_use]
    pub fn has_recovery_password(&self) -> bool {
        self.protectors.iter().any(|one| one.kind == ProtectorKind::RecoveryPassword)
    }

    /// Returns the owner to whom it is sealed.
    #[must_use]
    pub fn owner(&self) -> Option<&OwnerId> {
        let head = self.places[0].head()?;
        let path = head.artefact.as_ref().or(head.secret_artefact.as_ref())?;
        let found = self.newest();
        let artefact = found.entry.artefacts.iter().find(|artefact| artefact.path == *path)?;
        Some(&found.object(&artefact.parts.first()?.object)?.owner)
    }

    /// Brings it back from the first snapshot that gives it.
    ///
    /// # Errors
    /// The reason that the newest snapshot gives.
    pub async fn read(&self, vault: &Vault, identities: &Identities) -> Result<Captured, String> {
        let mut first = None;
        for place in &self.places {
            let (Some(head), Some(volume)) = (place.head(), place.volume()) else { continue };
            let read = match read_head(vault, identities, &place.found, head).await {
                Ok(mut heads) => {
                    let captured =
                        Captured::new(&heads, volume.offset_bytes, volume.size_bytes, &self.metadata);
                    // A clear key may stand in them.
                    heads.iter_mut().flat_map(|head| &mut head.pieces).for_each(|one| one.bytes.zeroize());
                    captured.map_err(|error| error.to_string())
                }
                Err(error) => Err(error),
            };
            match read {
                Ok(captured) => return Ok(captured),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(|| "no snapshot holds it".to_owned()))
    }
}

/// Sorts everything that was captured by volume id and generation, the newest first.
#[must_use]
pub fn by_volume(mut found: Vec<Found>) -> BTreeMap<String, Vec<Generation>> {
    found.sort_by_key(|one| {
        std::cmp::Reverse((one.entry.captured, one.carried.is_none(), one.record.finished, one.record.seq))
    });
    let mut volumes: BTreeMap<String, Vec<Generation>> = BTreeMap::new();
    // Of each VM, volumes of which a newer generation was seen.
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for one in found {
        let vm = one.entry.vm.vm_id.clone();
        let mut now: BTreeSet<(String, String)> = BTreeSet::new();
        for (disk, entry) in one.entry.vm.disks.iter().enumerate() {
            let Some(head) = &entry.head else { continue };
            for (volume, captured) in head.volumes.iter().enumerate() {
                let (Some(info), Some(metadata)) = (&captured.bitlocker, captured.fve_metadata) else {
                    continue;
                };
                let of_vm = (vm.clone(), info.volume_id.clone());
                let is_current = !seen.contains(&of_vm);
                now.insert(of_vm);
                let generations = volumes.entry(info.volume_id.clone()).or_default();
                let place = Place { found: one.clone(), disk, volume };
                match generations.iter_mut().find(|known| known.metadata == metadata) {
                    Some(known) => {
                        known.is_current |= is_current;
                        if known.places.len() < MAX_PLACES {
                            known.places.push(place);
                        }
                    }
                    None => generations.push(Generation {
                        metadata,
                        captured: one.entry.captured,
                        is_current,
                        protectors: info.protectors.clone(),
                        places: vec![place],
                    }),
                }
            }
        }
        seen.append(&mut now);
    }
    volumes
}

/// Reads what was captured of a disk: that for all, and with its clear keys that for escrow alone, as far as the
/// identities open it.
///
/// # Errors
/// Where nothing can be read, why.
pub async fn read_head(
    vault: &Vault,
    identities: &Identities,
    found: &Found,
    head: &DiskHeadEntry,
) -> Result<Vec<DiskHead>, String> {
    let mut heads = Vec::new();
    let mut failure = None;
    for path in [&head.artefact, &head.secret_artefact].into_iter().flatten() {
        let Some(artefact) = found.entry.artefacts.iter().find(|artefact| artefact.path == *path) else {
            continue;
        };
        match read_artefact(vault, identities, found, artefact).await {
            Ok(bytes) => match DiskHead::parse(&bytes) {
                Ok(part) => heads.push(part),
                Err(error) => failure = Some(error.to_string()),
            },
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(failure) if heads.is_empty() => Err(failure),
        _ => Ok(heads),
    }
}

async fn read_artefact(
    vault: &Vault,
    identities: &Identities,
    found: &Found,
    artefact: &ArtefactEntry,
) -> Result<Vec<u8>, String> {
    // Heads are small; a body that says otherwise is not believed.
    if artefact.size > lifeboat_disk_head::MAX_HEAD_BYTES as u64 {
        return Err(format!("{} has {} bytes, more than any head of a disk", artefact.path, artefact.size));
    }
    let mut bytes = Vec::new();
    for part in &artefact.parts {
        let object = found
            .object(&part.object)
            .ok_or_else(|| format!("{}: the record does not name its bundle", artefact.path))?;
        let part = vault.read_member(&found.record.writer, object, part, identities).await;
        bytes.extend(part.map_err(|error| error.to_string())?);
    }
    if Digest::of(&bytes) != artefact.digest {
        return Err(format!("{} is not what its digest says", artefact.path));
    }
    Ok(bytes)
}
