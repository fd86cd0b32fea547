//! What about a captured VM someone should know: findings from its record, each with its next step.
//!
//! Read from a `VmRecord` alone, so that lists, checks and plans say the same. Deliberately judges no vault: damage of
//! objects and ledgers is said where they are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use lifeboat_schema::{
    BodyHead, CompanionEntry, DiskEntry, EncryptionKind, Finding, Kind, Pairing, PartitionScheme, Severity,
    SignatureState, SubjectId, Time, VmEntry, VmRecord, VtpmSight, WriterId,
};
use lifeboat_vault::vault::Ledgers;

/// Concerns about the newest captured state of each VM and companion, gathered while bodies are read one by one.
#[derive(Default)]
pub struct Concerns(Mutex<HashMap<(WriterId, SubjectId), Known>>);

/// What one body says of a VM or companion.
struct Known {
    seq: u64,
    captured: Time,
    /// Of a VM the same on every host.
    id: String,
    findings: Vec<Finding>,
}

impl Concerns {
    /// Takes in a VM's entry; the one in the body sealed last counts.
    pub fn add(&self, head: &BodyHead, entry: &VmEntry) {
        let (id, findings) = (entry.vm.vm_id.clone(), concerns(&entry.vm));
        self.take(head, &entry.subject, Known { seq: head.seq, captured: entry.captured, id, findings });
    }

    /// Takes in a companion's entry likewise. What it is called is its host's own affair: no two hosts have one together.
    pub fn add_companion(&self, head: &BodyHead, entry: &CompanionEntry) {
        let id = format!("{} of {}", entry.companion.id, head.writer);
        let findings = entry.companion.findings.clone();
        self.take(head, &entry.subject, Known { seq: head.seq, captured: entry.captured, id, findings });
    }

    fn take(&self, head: &BodyHead, subject: &SubjectId, known: Known) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (head.writer.clone(), subject.clone());
        if all.get(&key).is_none_or(|before| before.seq < known.seq) {
            all.insert(key, known);
        }
    }

    /// The findings of the VMs and companions that the newest snapshot of some host has, each in its newest captured state. By id.
    ///
    /// Takes them out: it has none afterwards.
    pub fn of_newest(&self, ledgers: &Ledgers) -> Vec<Finding> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut newest: BTreeMap<String, Known> = BTreeMap::new();
        for ledger in ledgers.writers.values() {
            let snapshot = ledger.counting().rev().map(|record| &record.signed.record);
            let Some(record) = snapshot.into_iter().find(|record| record.kind == Kind::Snapshot) else {
                continue;
            };
            for subject in record.subjects.keys() {
                let Some(known) = all.remove(&(ledger.writer.clone(), subject.clone())) else { continue };
                if newest.get(&known.id).is_none_or(|before| before.captured < known.captured) {
                    newest.insert(known.id.clone(), known);
                }
            }
        }
        newest.into_values().flat_map(|known| known.findings).collect()
    }
}

/// Everything about a captured VM that someone should know.
pub fn concerns(vm: &VmRecord) -> Vec<Finding> {
    let place = format!("{} ({})", vm.name, vm.vm_id);
    let mut all = Vec::new();
    let mut say = |severity, code, what: String, next: &str| {
        all.push(Finding::new(severity, code, place.clone(), what, next));
    };
    match vm.vtpm_sight() {
        VtpmSight::NotSeen => say(
            Severity::Warning,
            "vtpm-state-not-seen",
            "it has a vTPM, and no captured file shows vTPM state".to_owned(),
            "look at the remarks on its files; until its state is captured, keep the recovery passwords of its disks",
        ),
        VtpmSight::NotKnown => say(
            Severity::Warning,
            "vtpm-state-not-known",
            format!("whether it has vTPM state is not known: {}", why_not_known(vm)),
            "look at the remarks on its files; keep the recovery passwords of its disks",
        ),
        VtpmSight::Captured | VtpmSight::InGuestState | VtpmSight::Off | VtpmSight::NoSign => {}
    }
    const KEEP: &str =
        "keep older snapshots and the recovery passwords of its disks; never make a new VM key protector";
    match vm.pairing {
        Pairing::Mixed => say(
            Severity::Warning,
            "key-protector-mixed",
            "its VM key protector and its vTPM state lie in different files; nothing shows that they belong together".to_owned(),
            KEEP,
        ),
        Pairing::KeyProtectorMissing => say(
            Severity::Warning,
            "key-protector-missing",
            "there is vTPM state and no VM key protector that could open it".to_owned(),
            KEEP,
        ),
        Pairing::Torn => {
            say(Severity::Warning, "key-protector-torn", "its VM key protector breaks off".to_owned(), KEEP);
        }
        Pairing::None | Pairing::CapturedTogether | Pairing::Opens => {}
    }
    for (whose, addressees) in [
        ("its VM key protector", &vm.addressed_to),
        ("its last known good VM key protector", &vm.last_known_good_addressed_to),
    ] {
        if addressees.as_ref().is_some_and(|one| one.signatures == SignatureState::Invalid) {
            say(
                Severity::Warning,
                "key-protector-altered",
                format!("{whose} has a signature that does not verify: it was altered, or is damaged"),
                "compare it with older snapshots; ask who wrote to the host's files",
            );
        }
    }
    for disk in &vm.disks {
        of_disk(disk, &mut say);
    }
    if !vm.remarks.is_empty() {
        let next = "nothing has to be done at once; `lifeboat vms --json` has each remark";
        say(Severity::Note, "vm-remarks", vm.remarks.join("; "), next);
    }
    all
}

/// Why nothing can be said of vTPM state.
pub(crate) fn why_not_known(vm: &VmRecord) -> String {
    match vm.not_understood.as_slice() {
        [] if vm.guest_state_path.is_some() && vm.guest_state.is_none() => {
            "the guest state that its configuration names was not found".to_owned()
        }
        [] => "its configuration could not be read".to_owned(),
        files => format!("{} could not be read", files.join(" and ")),
    }
}

fn of_disk(disk: &DiskEntry, say: &mut impl FnMut(Severity, &'static str, String, &str)) {
    let at =
        format!("the disk at {} {}:{} ({})", disk.controller, disk.controller_number, disk.drive, disk.path);
    match &disk.problem {
        Some(problem) if disk.is_elsewhere() => say(
            Severity::Note,
            "disk-elsewhere",
            format!("{at}: {problem}"),
            "only needed for the disk's BitLocker metadata and for matching disks to snapshots",
        ),
        Some(problem) if disk.head.is_some() => say(
            Severity::Warning,
            "disk-head-cut",
            format!("{at}: {problem}"),
            "keep the disk's recovery passwords: what was left out is not in the vault",
        ),
        Some(problem) => say(
            Severity::Warning,
            "disk-not-captured",
            format!("{at}: {problem}"),
            "mend what stands in the way; the next run tries again",
        ),
        None => {}
    }
    let Some(head) = &disk.head else { return };
    if head.scheme == PartitionScheme::GptLost {
        say(
            Severity::Warning,
            "partition-table-lost",
            format!(
                "{at} had a GUID partition table, and neither copy can be used: its volumes are not known"
            ),
            "look at the disk from the guest, or restore its partition table from an older snapshot's head",
        );
    }
    for volume in head.volumes.iter().filter(|volume| volume.encryption == EncryptionKind::Bitlocker) {
        let volume_at = format!("volume {} of {at}", volume.number);
        match &volume.bitlocker {
            None => say(
                Severity::Warning,
                "bitlocker-metadata-unusable",
                format!("{volume_at} is a BitLocker volume, and no copy of its metadata can be used"),
                "no key opens it as it lies there; an older snapshot's head may hold metadata that does",
            ),
            Some(info) if info.metadata_copies_valid < info.metadata_copies => say(
                Severity::Warning,
                "bitlocker-metadata-damaged",
                format!(
                    "{volume_at}: of {} copies of its BitLocker metadata only {} are valid",
                    info.metadata_copies, info.metadata_copies_valid
                ),
                "have the guest write them anew (suspend and resume BitLocker), and look at the storage below the disk",
            ),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
