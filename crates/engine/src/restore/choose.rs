//! Which snapshot a restore takes: by its disks, else the newest with no known obstacle.

use lifeboat_schema::{DiskFit, DiskHeadEntry, Time};

use super::decide::decide;
use super::facts::{self, Circumstances};
use crate::inventory::Found;

/// The rule that chose a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Its BitLocker metadata is byte for byte that of the disk.
    SameMetadata,
    /// Its BitLocker metadata is the nearest in time among those with the TPM protector of the disk.
    NearestWithSameTpm,
    /// It is the newest that holds the disk, though none has its TPM protector.
    NewestWithDisk,
    /// It is the newest, and nothing is known against it.
    Newest,
    /// It is the newest against which nothing is known; a newer one has an obstacle.
    NewestWithoutObstacle,
    /// It is the newest; every one has an obstacle.
    NewestOfAll,
}

impl Rule {
    /// The rule in words, behind "because".
    pub fn because(self) -> &'static str {
        match self {
            Self::SameMetadata => {
                "its BitLocker metadata is byte for byte that of the disk: vTPM state and disk are of one time"
            }
            Self::NearestWithSameTpm => {
                "no snapshot has the disk's very BitLocker metadata, and of those with the same TPM protector its is the nearest in time"
            }
            Self::NewestWithDisk => {
                "it is the newest that holds this disk; no snapshot has a TPM protector of the disk"
            }
            Self::Newest => "it is the newest captured state in the vault, and nothing is known against it",
            Self::NewestWithoutObstacle => {
                "it is the newest captured state against which nothing is known; a newer one cannot be used"
            }
            Self::NewestOfAll => {
                "it is the newest captured state in the vault; every one has a known obstacle"
            }
        }
    }
}

/// Chooses among captures of one VM.
pub fn choose_for(found: &[Found], circumstances: &Circumstances) -> Option<(Found, Rule)> {
    let captures = captures(found);
    let heads: Vec<&DiskHeadEntry> =
        circumstances.disks.iter().filter_map(|disk| disk.head.as_deref().ok()).collect();
    if let Some(chosen) = by_disk(&captures, &heads) {
        return Some(chosen);
    }
    let is_free = |found: &&Found| {
        let facts = facts::facts(&found.entry, circumstances);
        decide(&facts).obstacles.is_empty()
    };
    let newest = captures.first()?;
    match captures.iter().find(is_free) {
        Some(free) if free.entry.captured == newest.entry.captured => Some((free.clone(), Rule::Newest)),
        Some(free) => Some((free.clone(), Rule::NewestWithoutObstacle)),
        None => Some((newest.clone(), Rule::NewestOfAll)),
    }
}

/// Ids of the VMs of which a capture holds one of these disks.
pub fn vms_of_disks(found: &[Found], circumstances: &Circumstances) -> Vec<String> {
    let heads = || circumstances.disks.iter().filter_map(|disk| disk.head.as_deref().ok());
    let holds = |found: &&Found| {
        let mut kept = found.entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref());
        kept.any(|kept| heads().any(|head| facts::matched_by(kept, head).is_some()))
    };
    let mut ids: Vec<String> = found.iter().filter(holds).map(|found| found.entry.vm.vm_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Each capture once, by the record that made it; the newest first.
fn captures(found: &[Found]) -> Vec<Found> {
    let mut captures: Vec<Found> = found.to_vec();
    let key = |one: &Found| (std::cmp::Reverse(one.entry.captured), std::cmp::Reverse(one.record.finished));
    captures.sort_by(|a, b| {
        (key(a).0, &a.record.writer, a.record.seq).cmp(&(key(b).0, &b.record.writer, b.record.seq))
    });
    captures
        .dedup_by(|later, first| later.record.writer == first.record.writer && later.entry == first.entry);
    // Times have whole seconds; of two captures within one the later record has the newer.
    captures.sort_by_key(key);
    captures
}

fn by_disk(captures: &[Found], heads: &[&DiskHeadEntry]) -> Option<(Found, Rule)> {
    // How the given disks stand to a capture: the worst of those that are in it.
    let fit_of = |found: &Found| {
        let kept: Vec<&DiskHeadEntry> =
            found.entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref()).collect();
        let fits = heads.iter().filter_map(|head| {
            let kept = kept.iter().filter_map(|kept| Some((facts::matched_by(kept, head)?, kept)));
            kept.min_by_key(|(by, _)| *by).map(|(_, kept)| facts::fit(kept, head))
        });
        fits.max()
    };
    let fits: Vec<(&Found, DiskFit)> =
        captures.iter().filter_map(|found| Some((found, fit_of(found)?))).collect();
    let newest_of =
        |wanted: &dyn Fn(DiskFit) -> bool| fits.iter().find(|(_, fit)| wanted(*fit)).map(|(found, _)| *found);
    if let Some(found) = newest_of(&|fit| fit == DiskFit::SameGeneration) {
        return Some((found.clone(), Rule::SameMetadata));
    }
    let nearest = fits
        .iter()
        .filter(|(_, fit)| matches!(fit, DiskFit::Older | DiskFit::Newer))
        .filter_map(|(found, _)| Some((distance(found, heads)?, *found)))
        // The first of equals is the newest.
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, found)) = nearest {
        return Some((found.clone(), Rule::NearestWithSameTpm));
    }
    if let Some(found) = newest_of(&|fit| fit == DiskFit::OtherTpm) {
        return Some((found.clone(), Rule::NewestWithDisk));
    }
    None
}

/// Seconds between the last changes of a disk's BitLocker protectors, there and in a capture; the largest of its volumes.
fn distance(found: &Found, heads: &[&DiskHeadEntry]) -> Option<u64> {
    let kept = || found.entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref());
    let pairs = heads.iter().flat_map(|head| kept().flat_map(|kept| facts::volume_pairs(kept, head)));
    let seconds = |time: Time| time.unix_seconds();
    pairs
        .filter_map(|(kept, now)| {
            let (kept, now) =
                (facts::changed(kept.bitlocker.as_ref()?)?, facts::changed(now.bitlocker.as_ref()?)?);
            Some(seconds(kept).abs_diff(seconds(now)))
        })
        .max()
}

#[cfg(test)]
mod tests;
