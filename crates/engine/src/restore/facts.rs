//! From what a person brought to the facts of a decision: originals, disks, guardians and host of the target.
//!
//! Everything here is compared by identity: thumbprints of certificates, ids of disks and volumes, digests of metadata.
//! Names are for people. Deliberately reads no file: whoever calls has read them.

use lifeboat_schema::{
    Addressees, ArtefactEntry, ArtefactKind, BitLockerInfo, Digest, DiskEntry, DiskFileEntry, DiskFit,
    DiskHeadEntry, DiskMatch, EncryptionKind, GuardianEntry, HostVersion, Pairing, PlannedDisk,
    ProtectorKind, StateValue, Time, VmEntry, VmRecord, VolumeHeadEntry, VtpmSight,
};

use super::decide::{Capture, Disks, Facts, Key, Originals, Version};
use crate::guardians::is_expired;

/// What a person brought to a plan.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Whether a restore identity is here.
    pub has_restore_identity: bool,
    /// What was found of the original files; none if nobody looked.
    pub survey: Option<Survey>,
    /// Disks.
    pub disks: Vec<GivenDisk>,
    /// Guardians of the target fabric; none if they were not given.
    pub fabric: Option<Vec<GuardianEntry>>,
    /// Fabrics whose guardian metadata the vault holds; looked at where no target was given.
    pub known_fabrics: Vec<KnownFabric>,
    /// Thumbprints, SHA-1 or SHA-256, of owners' certificates whose private keys are at hand.
    pub owner_keys: Vec<String>,
    /// The host that the VM shall run on.
    pub target: Option<&'static HostVersion>,
    /// Now, for the validity of certificates.
    pub now: Option<Time>,
}

/// A fabric whose guardian metadata the vault holds.
#[derive(Debug, Clone)]
pub struct KnownFabric {
    /// Its guardian; certificates that came without their partner stand for both.
    pub guardian: GuardianEntry,
    /// Where the metadata came from: a file of a host, or an address.
    pub place: String,
    /// When they were captured.
    pub captured: Time,
}

/// A look for original files.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Where was looked.
    pub searched: Vec<String>,
    /// What was found of the VM.
    pub found: Vec<Original>,
    /// Places that could not be read, with the reason.
    pub unread: Vec<String>,
}

/// Files of the VM that lie outside of the vault.
#[derive(Debug, Clone)]
pub struct Original {
    /// Their folder.
    pub place: String,
    /// Path of the configuration, as a command takes it.
    pub configuration: Option<String>,
    /// When the youngest of them was last written, where that is known.
    pub written: Option<Time>,
    /// Their paths in the VM's folder and their digests, as far as they were read.
    pub files: Vec<(String, Digest)>,
    /// What they say, or why they are not whole.
    pub state: Result<Box<VmRecord>, String>,
}

impl Original {
    /// Tells whether these are no older state than a capture: the very same values or bytes, or written after it.
    pub(crate) fn is_current(&self, entry: &VmEntry) -> bool {
        let Ok(here) = &self.state else { return false };
        let values = |vm: &VmRecord| {
            let digest = |value: &Option<StateValue>| value.as_ref().map(|value| value.digest);
            (digest(&vm.vtpm), digest(&vm.key_protector))
        };
        let has_values = here.vtpm.is_some() && values(here) == values(&entry.vm);
        has_values
            || self.has_bytes_of(entry)
            || self.written.is_some_and(|written| written >= entry.captured)
    }

    /// Tells whether configuration and states are byte for byte those of a capture.
    fn has_bytes_of(&self, entry: &VmEntry) -> bool {
        use ArtefactKind::{Configuration, GuestState, RuntimeState};
        let is_state =
            |artefact: &&ArtefactEntry| matches!(artefact.kind, Configuration | RuntimeState | GuestState);
        let is_here = |artefact: &ArtefactEntry| {
            let is_it = |path: &str| path.eq_ignore_ascii_case(&artefact.path);
            self.files.iter().any(|(path, digest)| is_it(path) && *digest == artefact.digest)
        };
        let mut states = entry.artefacts.iter().filter(is_state).peekable();
        states.peek().is_some() && states.all(is_here)
    }
}

/// A disk, by its file.
#[derive(Debug, Clone)]
pub struct GivenDisk {
    /// Its file, as it was given.
    pub path: String,
    /// What it says of itself, or why it cannot be read.
    pub head: Result<Box<DiskHeadEntry>, String>,
}

/// The facts about one snapshot.
#[must_use]
pub(crate) fn facts(entry: &VmEntry, circumstances: &Circumstances) -> Facts {
    let vm = &entry.vm;
    Facts {
        originals: originals(entry, circumstances.survey.as_ref()),
        capture: capture(vm),
        key: key(vm, circumstances),
        version: version(vm, circumstances.target),
        disks: disks(&planned_disks(vm, &circumstances.disks)),
    }
}

fn originals(entry: &VmEntry, survey: Option<&Survey>) -> Originals {
    match survey {
        None => Originals::NotSurveyed,
        Some(survey) if survey.found.iter().any(|one| one.is_current(entry)) => Originals::Whole,
        Some(survey) if survey.found.is_empty() => Originals::NotFound,
        Some(_) => Originals::NotUsable,
    }
}

/// What the record says of vTPM state and VM key protector.
pub(crate) fn capture(vm: &VmRecord) -> Capture {
    match (vm.pairing, vm.vtpm_sight()) {
        (Pairing::CapturedTogether | Pairing::Opens, _) => Capture::Together,
        (Pairing::Mixed, _) => Capture::Mixed,
        (Pairing::Torn, _) => Capture::Torn,
        (Pairing::KeyProtectorMissing, _) => Capture::KeyProtectorMissing,
        (Pairing::None, VtpmSight::InGuestState) => Capture::InGuestState,
        (Pairing::None, VtpmSight::Off | VtpmSight::NoSign) => Capture::NoVtpm,
        (Pairing::None, VtpmSight::Captured | VtpmSight::NotSeen | VtpmSight::NotKnown) => Capture::NotSeen,
    }
}

/// Who can open the VM key protector.
fn key(vm: &VmRecord, circumstances: &Circumstances) -> Key {
    if vm.key_protector.is_none() {
        return Key::NotNeeded;
    }
    let Some(addressees) = &vm.addressed_to else { return Key::NotUnderstood };
    let of_target = circumstances.fabric.as_deref().and_then(|fabric| addressed(addressees, fabric));
    let of_known = || addressed_known(addressees, circumstances).next().map(|(guardian, _)| guardian);
    if let Some(guardian) = of_target.or_else(of_known) {
        return Key::Guardian { is_expired: is_over(guardian, circumstances.now) };
    }
    if local_guardian(addressees).is_some() {
        return Key::LocalGuardian;
    }
    if owner_at_hand(addressees, &circumstances.owner_keys).is_some() {
        return Key::OwnerKeysOnly;
    }
    match circumstances.fabric {
        Some(_) => Key::NoneOfTarget,
        None => Key::TargetNotGiven,
    }
}

/// The local guardian of a VM in local mode: its VM key protector has an owner and no guardian.
pub(crate) fn local_guardian(addressees: &Addressees) -> Option<&GuardianEntry> {
    addressees.owners.first().filter(|_| addressees.guardians.is_empty())
}

/// The guardian of a VM key protector that a fabric has: by the certificate that it is encrypted to, or by its key, which a
/// renewed certificate may share with the old one.
pub(crate) fn addressed<'a>(
    addressees: &'a Addressees,
    fabric: &[GuardianEntry],
) -> Option<&'a GuardianEntry> {
    let is_same = |one: &GuardianEntry, of: &GuardianEntry| {
        let (one, of) = (&one.encryption, &of.encryption);
        one.sha256 == of.sha256 || (one.public_key.is_some() && one.public_key == of.public_key)
    };
    addressees.all().find(|one| fabric.iter().any(|of| is_same(one, of)))
}

/// The guardians of a VM key protector that fabrics in the vault have, with the fabric; none where the target was given.
pub(crate) fn addressed_known<'a>(
    addressees: &'a Addressees,
    circumstances: &'a Circumstances,
) -> impl Iterator<Item = (&'a GuardianEntry, &'a KnownFabric)> {
    let known = circumstances.known_fabrics.iter().filter(|_| circumstances.fabric.is_none());
    known.filter_map(|fabric| Some((addressed(addressees, std::slice::from_ref(&fabric.guardian))?, fabric)))
}

/// Tells whether one of a guardian's certificates is no longer valid, where the time is known.
pub(crate) fn is_over(guardian: &GuardianEntry, now: Option<Time>) -> bool {
    now.is_some_and(|now| is_expired(guardian, now))
}

/// The owner whose keys are at hand.
pub(crate) fn owner_at_hand<'a>(addressees: &'a Addressees, keys: &[String]) -> Option<&'a GuardianEntry> {
    let is_key = |owner: &&GuardianEntry| {
        [&owner.signing, &owner.encryption].into_iter().any(|certificate| {
            let names = [certificate.sha256.to_string(), certificate.sha1.clone()];
            keys.iter().any(|key| names.iter().any(|name| name.eq_ignore_ascii_case(&plain(key))))
        })
    };
    addressees.owners.iter().find(is_key)
}

/// A thumbprint without what people put between its digits.
fn plain(thumbprint: &str) -> String {
    thumbprint.chars().filter(char::is_ascii_hexdigit).collect()
}

fn version(vm: &VmRecord, target: Option<&HostVersion>) -> Version {
    match target {
        Some(_) if vm.runs_on.is_empty() => Version::NotKnown,
        Some(target) if vm.runs_on.iter().any(|host| host == target.name) => Version::Runs,
        Some(_) => Version::DoesNotRun,
        None => Version::NotKnown,
    }
}

/// The worst of the disks that are this VM's; of others, that none is.
fn disks(planned: &[PlannedDisk]) -> Disks {
    let of_vm = planned.iter().map(|disk| disk.fit).filter(|fit| *fit < DiskFit::NotOfThisVm).max();
    match of_vm.or(planned.iter().map(|disk| disk.fit).max()) {
        Some(fit) => Disks::Given(fit),
        None => Disks::NotGiven,
    }
}

/// How the given disks stand to a snapshot.
pub(crate) fn planned_disks(vm: &VmRecord, given: &[GivenDisk]) -> Vec<PlannedDisk> {
    let planned = |given: &GivenDisk| {
        let mut planned = PlannedDisk {
            path: given.path.clone(),
            is_disk: None,
            matched_by: None,
            fit: DiskFit::NotOfThisVm,
            problem: None,
        };
        match &given.head {
            Err(problem) => {
                (planned.fit, planned.problem) = (DiskFit::Unreadable, Some(problem.clone()));
            }
            Ok(head) => {
                if let Some((disk, kept, by)) = find_disk(&vm.disks, head) {
                    planned.matched_by = Some(by);
                    match lies_below(kept, head) {
                        Some(below) => planned.problem = Some(format!("{below} ({})", disk.path)),
                        None => {
                            planned.is_disk = Some(disk.path.clone());
                            planned.fit = fit(kept, head);
                        }
                    }
                }
            }
        }
        planned
    };
    given.iter().map(planned).collect()
}

/// The disk of a VM that a head is of; the surest identity first.
fn find_disk<'a>(
    disks: &'a [DiskEntry],
    head: &DiskHeadEntry,
) -> Option<(&'a DiskEntry, &'a DiskHeadEntry, DiskMatch)> {
    let best = |disk: &'a DiskEntry| {
        let kept = disk.head.as_ref()?;
        Some((disk, kept, matched_by(kept, head)?))
    };
    disks.iter().filter_map(best).min_by_key(|(_, _, by)| *by)
}

/// Why a disk of the same identity is perhaps only what lay below the VM's disk: all files of a chain have one
/// identity, and a parent lacks everything since its checkpoint.
fn lies_below(kept: &DiskHeadEntry, head: &DiskHeadEntry) -> Option<&'static str> {
    let id = |file: &DiskFileEntry| file.data_write_guid.clone();
    let newest = head.chain.first().and_then(id);
    if newest.is_some() && kept.chain.iter().skip(1).any(|file| id(file) == newest) {
        return Some(
            "it is a parent of the VM's disk, below a checkpoint, and lacks all that was written since",
        );
    }
    (head.chain.len() < kept.chain.len()).then_some(
        "the VM's disk had checkpoints below it, and this has fewer files: it is perhaps only a parent, which lacks all that was written since; of a chain give the youngest file (AVHDX) with its parents beside it",
    )
}

/// By what two heads are of one disk.
pub(crate) fn matched_by(kept: &DiskHeadEntry, head: &DiskHeadEntry) -> Option<DiskMatch> {
    let is_equal = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    if is_equal(&kept.virtual_disk_id, &head.virtual_disk_id) {
        Some(DiskMatch::VirtualDiskId)
    } else if is_equal(&kept.gpt_disk_id, &head.gpt_disk_id) {
        Some(DiskMatch::GptDiskId)
    } else if volume_pairs(kept, head).next().is_some() {
        Some(DiskMatch::FveVolumeId)
    } else {
        None
    }
}

/// BitLocker volumes that both heads have, by volume id.
pub(crate) fn volume_pairs<'a>(
    kept: &'a DiskHeadEntry,
    head: &'a DiskHeadEntry,
) -> impl Iterator<Item = (&'a VolumeHeadEntry, &'a VolumeHeadEntry)> {
    let id = |volume: &'a VolumeHeadEntry| volume.bitlocker.as_ref().map(|info| info.volume_id.as_str());
    kept.volumes.iter().filter(move |one| id(one).is_some()).filter_map(move |one| {
        head.volumes.iter().find(|other| id(other) == id(one)).map(|other| (one, other))
    })
}

/// How a disk stands to what a snapshot keeps of it: the worst of its volumes.
pub(crate) fn fit(kept: &DiskHeadEntry, head: &DiskHeadEntry) -> DiskFit {
    let is_encrypted = |volume: &VolumeHeadEntry| volume.encryption == EncryptionKind::Bitlocker;
    let of_volumes = volume_pairs(kept, head).map(|(kept, now)| volume_fit(kept, now)).max();
    of_volumes.unwrap_or(if kept.volumes.iter().chain(&head.volumes).any(is_encrypted) {
        // It was encrypted, decrypted or made anew since, or its metadata cannot be read.
        DiskFit::OtherTpm
    } else {
        DiskFit::NotEncrypted
    })
}

fn volume_fit(kept: &VolumeHeadEntry, now: &VolumeHeadEntry) -> DiskFit {
    let (Some(old), Some(new)) = (&kept.bitlocker, &now.bitlocker) else { return DiskFit::OtherTpm };
    if kept.fve_metadata.is_some() && kept.fve_metadata == now.fve_metadata {
        return DiskFit::SameGeneration;
    }
    let has_tpm = |info: &BitLockerInfo| info.protectors.iter().any(|one| is_tpm(one.kind));
    if (has_tpm(old) || has_tpm(new)) && !shares_tpm(old, new) {
        return DiskFit::OtherTpm;
    }
    if changed(new) < changed(old) { DiskFit::Older } else { DiskFit::Newer }
}

/// Tells whether two generations have a TPM protector in common.
pub(crate) fn shares_tpm(one: &BitLockerInfo, other: &BitLockerInfo) -> bool {
    let tpm = |info: &BitLockerInfo| -> Vec<String> {
        info.protectors.iter().filter(|one| is_tpm(one.kind)).map(|one| one.id.clone()).collect()
    };
    let others = tpm(other);
    tpm(one).iter().any(|id| others.contains(id))
}

fn is_tpm(kind: ProtectorKind) -> bool {
    matches!(
        kind,
        ProtectorKind::Tpm
            | ProtectorKind::TpmPin
            | ProtectorKind::TpmStartupKey
            | ProtectorKind::TpmPinStartupKey
    )
}

/// When the BitLocker protectors of a volume last changed.
pub(crate) fn changed(info: &BitLockerInfo) -> Option<Time> {
    info.protectors.iter().map(|one| one.modified).max()
}

#[cfg(test)]
mod tests;
