//! What a restore will do, said before anything is done; each statement with its grade.

use lifeboat_schema::{
    Grade, IdentityNeed, Pairing, PlannedFile, RestorePlan, Role, Severity, Statement, VmRecord, VtpmSight,
};

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

/// The plan for one chosen snapshot. `restore_identity` says whether one was given.
pub fn plan(found: &Found, chosen_because: &str, restore_identity: bool) -> RestorePlan {
    let vm = &found.entry.vm;
    RestorePlan {
        identities: vec![
            IdentityNeed { role: Role::Restore, what_for: "opens configuration, vTPM state and VM key protector".into(), here: restore_identity },
            IdentityNeed {
                role: Role::Escrow,
                what_for: "only if the disk asks for its recovery password; not needed for this restore".into(),
                here: false,
            },
        ],
        first: vec![
            format!(
                "Are the original files still there? Look for {} on the host {} and its storage. If they are whole, register them in place (Import-VM -Register): a restore puts an older vTPM state in their place, which is a loss.",
                configuration_file(found),
                found.host
            ),
            "Is the VM registered and running anywhere, such as on another node? Two copies of one vTPM must not run.".into(),
        ],
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
        statements: statements(found, vm),
        needed_from_elsewhere: vm
            .disks
            .iter()
            .map(|disk| {
                format!(
                    "the disk at {} {}:{}, which lay at {}: Lifeboat keeps no disk contents; bring it from your disk backup of the same time",
                    disk.controller, disk.controller_number, disk.drive, disk.path
                )
            })
            .collect(),
    }
}

fn configuration_file(found: &Found) -> String {
    let configuration = lifeboat_schema::ArtefactKind::Configuration;
    let named = found.entry.artefacts.iter().find(|artefact| artefact.kind == configuration);
    match named {
        Some(artefact) => format!("{} (last in {})", artefact.path, found.entry.vm.place),
        None => format!("its files (last in {})", found.entry.vm.place),
    }
}

fn statements(found: &Found, vm: &VmRecord) -> Vec<Statement> {
    let mut all = Vec::new();
    let mut say = |grade, text: String| all.push(Statement { grade, text });
    if let Some(why) = found.carried {
        let why = match why {
            lifeboat_schema::CarriedWhy::Vanished => "the VM was no longer found on that host",
            lifeboat_schema::CarriedWhy::Failed => "the VM's files could not be read whole",
        };
        say(
            Grade::Known,
            format!(
                "The newest record only carries this capture forward, because {why}; the VM may have run elsewhere since."
            ),
        );
    }
    match vm.vtpm_sight() {
        VtpmSight::Captured => {}
        VtpmSight::InGuestState => say(
            Grade::Known,
            "The vTPM state lies in the guest state (VMGS), which must be restored with the disks; whether a VM key protector opens it is not known.".into(),
        ),
        VtpmSight::NotSeen => say(
            Grade::UnknownHere,
            "Where its vTPM state is: the VM has a vTPM, and no captured file shows any. All files are restored as they were; have the recovery passwords of its disks at hand.".into(),
        ),
        VtpmSight::NotKnown => say(
            Grade::UnknownHere,
            format!("Whether it has vTPM state: {}. Have the recovery passwords of its disks at hand.", why_not_known(vm)),
        ),
        VtpmSight::Off => say(Grade::Known, "The VM has no vTPM state; nothing seals its disks to this configuration.".into()),
        VtpmSight::NoSign => say(Grade::Likely, "The VM has no vTPM: everything was read, and nothing speaks of one.".into()),
    }
    match vm.pairing {
        Pairing::CapturedTogether => say(
            Grade::Known,
            "VM key protector and vTPM state come from one copy of one file.".into(),
        ),
        Pairing::Mixed => say(
            Grade::Known,
            "VM key protector and vTPM state stand in different files; whether they belong together is not proved. Keep an older snapshot and the recovery password at hand.".into(),
        ),
        Pairing::KeyProtectorMissing => say(
            Grade::Known,
            "There is vTPM state and no VM key protector for it: the vTPM will not open, and the disk will ask for its recovery password.".into(),
        ),
        Pairing::Torn => say(
            Grade::Known,
            "The VM key protector breaks off: it was torn before it was captured, and opens nothing. Take an older snapshot, and keep the recovery password at hand.".into(),
        ),
        Pairing::Opens => say(
            Grade::Known,
            "VM key protector and vTPM state come from one copy of one file, and a key opened the VM key protector.".into(),
        ),
        Pairing::None => {}
    }
    for concern in concerns(vm).into_iter().filter(|concern| concern.severity > Severity::Note) {
        if !SAID_OTHERWISE.contains(&concern.code.as_str()) {
            say(Grade::Known, format!("{}; {}.", concern.what, concern.next));
        }
    }
    for remark in &vm.remarks {
        say(Grade::Known, format!("Remarked when it was captured: {remark}."));
    }
    if vm.key_protector.is_some() {
        say(
            Grade::Likely,
            "The VM starts on a host that holds a key of a guardian in its VM key protector: the fabric it ran on, or the host itself in local mode.".into(),
        );
        say(
            Grade::UnknownHere,
            "Whether the target host is trusted by one of these guardians: compare them with Get-HgsGuardian there. Never make a new VM key protector for it: that orphans the vTPM.".into(),
        );
    }
    match vm.configuration_version.as_deref() {
        Some(version) if vm.runs_on.is_empty() => say(
            Grade::UnknownHere,
            format!("Which hosts run configuration version {version}; Compare-VM on the target tells."),
        ),
        Some(version) => say(
            Grade::Likely,
            format!(
                "Configuration version {version} runs on {}; Compare-VM on the target tells for certain.",
                vm.runs_on.join(", ")
            ),
        ),
        None => say(Grade::UnknownHere, "The configuration version: its file does not say it.".into()),
    }
    if vm.security.secure_boot == Some(true) {
        let template = vm.security.secure_boot_template.as_deref().unwrap_or("not named");
        say(Grade::Known, format!("Secure Boot is on; its template is {template}. The target must have it."));
    }
    if vm.pairing != Pairing::None {
        say(
            Grade::Likely,
            "If the guest's BitLocker was resealed after this capture, the disk asks once for its recovery password.".into(),
        );
    }
    say(
        Grade::UnknownHere,
        "How Hyper-V takes these files: Lifeboat has never run on a real Hyper-V host.".into(),
    );
    all
}
