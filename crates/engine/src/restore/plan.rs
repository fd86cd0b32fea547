//! What a restore will do, said before anything is done; each statement with its grade.
//!
//! Puts together what the parts say: `facts` about the snapshot and what a person brought, the verdict of `decide`, its
//! words, the concerns about the capture.

use lifeboat_schema::{
    CarriedWhy, DiskFit, DiskMatch, Grade, IdentityNeed, Layout, PlanVerdict, PlannedDisk, PlannedFile,
    RestorePlan, Role, Severity, Statement, Verdict, VmRecord, VtpmSight,
};

use super::decide::{Capture, Decision, Disks, Facts, Key, Originals, Version, decide};
use super::facts::{self, Circumstances};
use super::words;
use crate::concern::{concerns, why_not_known};
use crate::inventory::Found;

/// Concerns of which a plan speaks in its own words.
const SAID_OTHERWISE: [&str; 5] = [
    "vtpm-state-not-seen",
    "vtpm-state-not-known",
    "key-protector-mixed",
    "key-protector-missing",
    "key-protector-torn",
];

/// The plan for one chosen snapshot, with what a person brought.
pub fn plan(found: &Found, chosen_because: &str, given: &Circumstances) -> RestorePlan {
    let vm = &found.entry.vm;
    let facts = facts::facts(&found.entry, given);
    let decision = decide(&facts);
    let disks = facts::planned_disks(vm, &given.disks);
    let ways = match (decision.verdict, facts.key) {
        (Verdict::OnlyWithOwnerKeys, _) | (Verdict::Cannot, Key::NoneOfTarget) => words::owner_ways(vm),
        _ => Vec::new(),
    };
    let local_guardians =
        if facts.key == Key::LocalGuardian { words::local_guardians(vm) } else { Vec::new() };
    RestorePlan {
        verdict: words::verdict(&decision, vm, Some(&found.entry), given),
        identities: vec![
            IdentityNeed {
                role: Role::Restore,
                what_for: "opens configuration, vTPM state and VM key protector".into(),
                here: given.has_restore_identity,
            },
            IdentityNeed {
                role: Role::Escrow,
                what_for: "only if the disk asks for its recovery password; not needed for this restore"
                    .into(),
                here: false,
            },
        ],
        first: words::first(&facts, &found.entry, &found.host, given),
        snapshot: found.summary(),
        chosen_because: chosen_because.to_owned(),
        vm: vm.clone(),
        files: found
            .entry
            .artefacts
            .iter()
            .filter(|artefact| artefact.kind.is_vm_file())
            .map(|artefact| PlannedFile {
                path: artefact.path.clone(),
                kind: artefact.kind,
                class: artefact.class,
                size: artefact.size,
                digest: artefact.digest,
            })
            .collect(),
        statements: statements(found, &facts, &decision, &disks, given),
        ways,
        needed_from_elsewhere: needed(vm, &disks),
        disks,
        local_guardians,
    }
}

/// The answer when no capture holds the VM.
pub fn plan_without_capture(name: &str, given: &Circumstances) -> PlanVerdict {
    let vm = VmRecord::unexplored("", name, Layout::Export, "");
    let is_whole = given.survey.iter().flat_map(|survey| &survey.found).any(|one| one.state.is_ok());
    let facts = Facts {
        originals: if is_whole { Originals::Whole } else { Originals::NotFound },
        capture: Capture::NotSeen,
        key: Key::NotNeeded,
        version: Version::NotKnown,
        disks: Disks::Only,
    };
    words::verdict(&decide(&facts), &vm, None, given)
}

/// Disks that nobody gave yet, and keys that no snapshot holds.
fn needed(vm: &VmRecord, disks: &[PlannedDisk]) -> Vec<String> {
    let is_given = |path: &str| disks.iter().any(|disk| disk.is_disk.as_deref() == Some(path));
    vm.disks
        .iter()
        .filter(|disk| !is_given(&disk.path))
        .map(|disk| {
            format!(
                "the disk at {} {}:{}, which lay at {}: Lifeboat keeps no disk contents; bring it from your disk backup of the same time",
                disk.controller, disk.controller_number, disk.drive, disk.path
            )
        })
        .collect()
}

fn statements(
    found: &Found,
    facts: &Facts,
    decision: &Decision,
    disks: &[PlannedDisk],
    given: &Circumstances,
) -> Vec<Statement> {
    let vm = &found.entry.vm;
    let mut all = Vec::new();
    let mut say = |grade, text: String| all.push(Statement { grade, text });
    if let Some(why) = found.carried {
        let why = match why {
            CarriedWhy::Vanished => "the VM was no longer found on that host",
            CarriedWhy::Failed => "the VM's files could not be read whole",
        };
        say(
            Grade::Known,
            format!(
                "The newest record only carries this capture forward, because {why}; the VM may have run elsewhere since."
            ),
        );
    }
    let (grade, text) = of_capture(facts.capture, vm);
    say(grade, text);
    words::of_key(facts, vm, given, &mut say);
    words::of_target(facts, vm, given, &mut say);
    for disk in disks {
        let (grade, text) = of_disk(disk);
        say(grade, text);
    }
    say(decision.boot_grade, words::of_boot(decision));
    if !vm.checkpoints.is_empty() {
        let ids: Vec<&str> = vm.checkpoints.iter().map(|checkpoint| checkpoint.id.as_str()).collect();
        say(
            Grade::Likely,
            format!(
                "Its checkpoints ({}) are registered with it, and each needs its own AVHDX from your disk backup. The script names any that did not come.",
                ids.join(", ")
            ),
        );
    }
    for concern in concerns(vm).into_iter().filter(|concern| concern.severity > Severity::Note) {
        if !SAID_OTHERWISE.contains(&concern.code.as_str()) {
            say(Grade::Known, format!("When it was captured: {}; {}.", concern.what, concern.next));
        }
    }
    for remark in &vm.remarks {
        say(Grade::Known, format!("Remarked when it was captured: {remark}."));
    }
    say(
        Grade::UnknownHere,
        "How Hyper-V takes these files: Lifeboat has never run on a real Hyper-V host.".into(),
    );
    all
}

fn of_capture(capture: Capture, vm: &VmRecord) -> (Grade, String) {
    const PASSWORDS: &str = "Have the recovery passwords of its disks at hand.";
    let (grade, text) = match capture {
        Capture::Together => (Grade::Known, "VM key protector and vTPM state come from one copy of one file.".to_owned()),
        Capture::Mixed => (
            Grade::Known,
            format!("VM key protector and vTPM state stand in different files; whether they belong together is not proved. Keep an older snapshot. {PASSWORDS}"),
        ),
        Capture::Torn => (
            Grade::Known,
            format!("The VM key protector breaks off: it was torn before it was captured, and opens nothing. {PASSWORDS}"),
        ),
        Capture::KeyProtectorMissing => (
            Grade::Known,
            format!("There is vTPM state and no VM key protector for it: the vTPM will not open. {PASSWORDS}"),
        ),
        Capture::InGuestState => (
            Grade::Known,
            "The vTPM state lies in the guest state (VMGS), which must be restored with the disks; whether a VM key protector opens it is not known.".to_owned(),
        ),
        Capture::NotSeen => (
            Grade::UnknownHere,
            match vm.vtpm_sight() {
                VtpmSight::NotKnown => format!("Whether it has vTPM state: {}. {PASSWORDS}", why_not_known(vm)),
                _ => format!("Where its vTPM state is: the VM has a vTPM, and no captured file shows any. All files are restored as they were. {PASSWORDS}"),
            },
        ),
        Capture::NoVtpm if vm.vtpm_sight() == VtpmSight::Off => {
            (Grade::Known, "The VM has no vTPM state; nothing seals its disks to this configuration.".to_owned())
        }
        Capture::NoVtpm => {
            (Grade::Likely, "The VM has no vTPM: everything was read, and nothing speaks of one.".to_owned())
        }
    };
    (grade, text)
}

/// What is known of a given disk.
fn of_disk(disk: &PlannedDisk) -> (Grade, String) {
    let by = match disk.matched_by {
        Some(DiskMatch::VirtualDiskId) => "by its page-83 identity",
        Some(DiskMatch::GptDiskId) => "by the id of its partition table",
        Some(DiskMatch::FveVolumeId) => "by the volume id in its BitLocker metadata",
        None => "",
    };
    let is = match &disk.is_disk {
        Some(path) => format!("{} is the disk that lay at {path}, {by}", disk.path),
        None => disk.path.clone(),
    };
    match (disk.fit, &disk.problem) {
        (DiskFit::SameGeneration, _) => {
            (Grade::Known, format!("{is}; its BitLocker metadata is byte for byte that of the snapshot."))
        }
        (DiskFit::NotEncrypted, _) => (Grade::Known, format!("{is}; it has no BitLocker volume.")),
        (DiskFit::Older, _) => (
            Grade::Known,
            format!(
                "{is}; its BitLocker metadata is older than the snapshot's, with the same TPM protector."
            ),
        ),
        (DiskFit::Newer, _) => (
            Grade::Known,
            format!(
                "{is}; its BitLocker metadata is newer than the snapshot's, with the same TPM protector."
            ),
        ),
        (DiskFit::OtherTpm, _) => (
            Grade::Known,
            format!("{is}; its BitLocker metadata has no TPM protector in common with the snapshot's."),
        ),
        (DiskFit::NotOfThisVm, Some(problem)) => {
            (Grade::Likely, format!("{is} is not to be attached as it is: {problem}."))
        }
        (DiskFit::NotOfThisVm, _) if disk.is_disk.is_some() => {
            (Grade::UnknownHere, format!("{is}; what the snapshot keeps of it does not tell how it fits."))
        }
        (DiskFit::NotOfThisVm, _) => {
            (Grade::Known, format!("{is} is none of this VM's disks as far as they were captured."))
        }
        (DiskFit::Unreadable, problem) => (
            Grade::Known,
            format!("{is} cannot be read: {}.", problem.as_deref().unwrap_or("for an unknown reason")),
        ),
    }
}

#[cfg(test)]
mod tests;
