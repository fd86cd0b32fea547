//! A decision in words: verdict, next step, ways, and what to expect, each with its grade.
//!
//! Steps that are lines for PowerShell are what Windows documents; none of them was run here. Text from a snapshot stands in
//! them only as a literal. Deliberately never names a way to make a VM key protector anew but to forbid it.

use lifeboat_schema::{
    BootExpectation, Grade, GuardianEntry, HostVersion, NextStep, PlanVerdict, PlanWay, Verdict, VmEntry,
    VmRecord,
};

use super::decide::{Decision, Facts, Key, Obstacle, Originals, Version};
use super::facts::{self, Circumstances, Original};
use super::runbook::within_quotes;

/// Secure Boot templates that Windows brings, by id.
const TEMPLATES: [(&str, &str); 3] = [
    ("1734c6e8-3154-4dda-ba5f-a874cc483422", "MicrosoftWindows"),
    ("272e7447-90a4-4563-a4b9-8e4ab00526ce", "MicrosoftUEFICertificateAuthority"),
    ("4292ae2b-ee2c-42b5-a969-dd8f8689f6f3", "OpenSourceShieldedVM"),
];

/// What forbids the one mistake that cannot be undone.
pub(super) const NEVER: &str = "Never make a new VM key protector for it (New-HgsKeyProtector, Set-VMKeyProtector -NewLocalKeyProtector): that orphans the vTPM state for good.";

/// The verdict with its words.
///
/// `entry` is the capture that the plan is for, if there is one.
pub(super) fn verdict(
    decision: &Decision,
    vm: &VmRecord,
    entry: Option<&VmEntry>,
    given: &Circumstances,
) -> PlanVerdict {
    PlanVerdict {
        verdict: decision.verdict,
        grade: decision.grade,
        text: verdict_text(decision.verdict),
        obstacles: decision.obstacles.iter().map(|one| obstacle_text(*one, vm, given.target)).collect(),
        boot: decision.boot,
        boot_grade: decision.boot_grade,
        next: decision.next,
        next_text: next_text(decision.next, vm, entry, given),
    }
}

fn verdict_text(verdict: Verdict) -> String {
    match verdict {
        Verdict::RegisterOriginals => {
            "The original files are whole: register them where they are, and restore nothing. A restore would put an older vTPM state in their place, which is a loss."
        }
        Verdict::RecoverDisk => "The vault holds no capture of this VM: what is left is to open its disks.",
        Verdict::Cannot => "This snapshot cannot bring the VM back on this target, because of a known obstacle.",
        Verdict::OnlyWithOwnerKeys => {
            "No guardian of the target opens the VM key protector; the keys of its owner, which are at hand, can."
        }
        Verdict::ImportGuardianFirst => {
            "The VM was in local mode: it starts on a host that has its local guardian's certificates with their private keys, and on no other."
        }
        Verdict::NoKnownObstacle => "No known obstacle.",
    }
    .to_owned()
}

/// An obstacle in words.
pub(super) fn obstacle_text(obstacle: Obstacle, vm: &VmRecord, target: Option<&HostVersion>) -> String {
    match obstacle {
        Obstacle::Torn => {
            "the VM key protector breaks off: it was torn before it was captured, and opens nothing"
                .to_owned()
        }
        Obstacle::KeyProtectorMissing => {
            "there is vTPM state and no VM key protector for it: the vTPM will not open".to_owned()
        }
        Obstacle::NoGuardian => {
            "no guardian of the target is among those that the VM key protector is addressed to".to_owned()
        }
        Obstacle::Version => format!(
            "configuration version {} is not run by {} (by the public table of versions; a configuration cannot be downgraded)",
            vm.configuration_version.as_deref().unwrap_or("unknown"),
            target.map_or("the target", |target| target.name)
        ),
    }
}

fn next_text(next: NextStep, vm: &VmRecord, entry: Option<&VmEntry>, given: &Circumstances) -> String {
    match next {
        NextStep::RegisterInPlace => register_in_place(vm, entry, given),
        NextStep::RecoverDisk => {
            "`lifeboat recover DISK` needs no vault: it says which recovery secret opens the disk, and where one may still be.".to_owned()
        }
        NextStep::TakeAnotherSnapshot => {
            "Take another snapshot (`lifeboat snapshots VM` lists them; --at chooses one). If none is better, the disk opens only with a recovery secret: `lifeboat recover DISK`.".to_owned()
        }
        NextStep::TakeAnotherHost => match vm.runs_on.as_slice() {
            [] => "Take a host that runs this configuration version.".to_owned(),
            hosts => format!("Take a host of one of these: {}.", hosts.join(", ")),
        },
        NextStep::FindGuardianOrOwner => {
            "Bring the VM to a fabric that has one of its guardians, or find its owner's private keys (then give their thumbprint with --owner). Without either the disk opens only with a recovery secret: `lifeboat recover DISK`.".to_owned()
        }
        NextStep::UseOwnerKeys => "Follow one of the two ways below that need the owner's keys.".to_owned(),
        NextStep::ImportLocalGuardian => format!(
            "Bring the certificates {} with their private keys, as PFX files, to the target, and give them to the script with -GuardianPfx; it imports them before it compares.",
            local_guardians(vm).join(" and ")
        ),
        NextStep::BringDisk => {
            "Bring the disks from your disk backup, as near in time to the capture as you have; give them to this plan with --disk to see how they fit.".to_owned()
        }
        NextStep::CompareAndRegister => {
            "Write the files (--to), bring them with the disks to the host, and run the script: first without, then with -Register.".to_owned()
        }
    }
}

/// SHA-1 thumbprints of the local guardian's certificates, encryption first.
pub(super) fn local_guardians(vm: &VmRecord) -> Vec<String> {
    let local = vm.addressed_to.as_ref().and_then(facts::local_guardian);
    local.map(|one| vec![one.encryption.sha1.clone(), one.signing.sha1.clone()]).unwrap_or_default()
}

/// For the files that the verdict is about: a whole copy that is older than the capture is none of them.
fn register_in_place(vm: &VmRecord, entry: Option<&VmEntry>, given: &Circumstances) -> String {
    let is_original = |one: &&Original| one.state.is_ok() && entry.is_none_or(|entry| one.is_current(entry));
    let whole = given.survey.iter().flat_map(|survey| &survey.found).find(is_original);
    match whole.and_then(|one| one.configuration.as_deref()) {
        Some(path) => format!(
            "On the host that has them, as administrator: Compare-VM -Path '{0}' -Register, and if nothing stands in the way Import-VM -Path '{0}' -Register.",
            within_quotes(path)
        ),
        None => format!("Register the VM {} with Import-VM -Register.", vm.vm_id),
    }
}

/// What to find out before anything is written.
pub(super) fn first(facts: &Facts, entry: &VmEntry, host: &str, given: &Circumstances) -> Vec<String> {
    let vm = &entry.vm;
    let mut all = Vec::new();
    let found = given.survey.iter().flat_map(|survey| &survey.found);
    for original in found {
        all.push(match &original.state {
            Ok(_) if original.is_current(entry) => {
                format!("The original files are whole in {}.", original.place)
            }
            Ok(_) => format!(
                "There is a whole copy of the VM in {}, last written {}: it is older than the snapshot, and not taken for the original.",
                original.place,
                original.written.map_or("at an unknown time".to_owned(), |time| time.to_string())
            ),
            Err(why) => format!(
                "Files of the VM are in {}, and are not whole: {why}. Keep them as they are; nothing here writes over them.",
                original.place
            ),
        });
    }
    for unread in given.survey.iter().flat_map(|survey| &survey.unread) {
        all.push(format!("Not all of it could be looked at: {unread}."));
    }
    match facts.originals {
        Originals::NotSurveyed => all.push(format!(
            "Are the original files still there? Look for {}.vmcx (last in {}) on the host {host} and its storage; --survey PATH... looks whether they are whole. If they are, register them in place (Import-VM -Register): a restore puts an older vTPM state in their place, which is a loss.",
            vm.vm_id, vm.place
        )),
        Originals::NotFound => all.push(format!(
            "No file of the VM was found in {}; they last lay in {} on the host {host}. Look there too, and in recycle bins and shadow copies.",
            given.survey.as_ref().map(|survey| survey.searched.join(", ")).unwrap_or_default(),
            vm.place
        )),
        Originals::NotUsable | Originals::Whole => {}
    }
    all.push(
        "Is the VM registered and running anywhere, such as on another node? Two copies of one vTPM must not run."
            .to_owned(),
    );
    all
}

/// To whom the VM key protector is addressed, and whether the target is one of them.
pub(super) fn of_key(
    facts: &Facts,
    vm: &VmRecord,
    given: &Circumstances,
    say: &mut impl FnMut(Grade, String),
) {
    if vm.key_protector.is_none() {
        return;
    }
    let Some(addressees) = &vm.addressed_to else {
        return say(
            Grade::UnknownHere,
            "To whom the VM key protector is addressed: its form is not understood here. Windows may understand it.".to_owned(),
        );
    };
    let list = |of: &[GuardianEntry]| of.iter().map(named).collect::<Vec<_>>().join(", ");
    let guardians = match addressees.guardians.as_slice() {
        [] => "no guardian".to_owned(),
        some => list(some),
    };
    say(
        Grade::Known,
        format!("The VM key protector is addressed to: owner {}; {guardians}.", list(&addressees.owners)),
    );
    let of_target = given.fabric.as_deref().and_then(|fabric| facts::addressed(addressees, fabric));
    if let Some(guardian) = of_target {
        say(
            Grade::Known,
            format!(
                "The target has the guardian {}: to it the VM key protector is addressed.",
                named(guardian)
            ),
        );
        of_guardian(guardian, given, say);
    }
    for (guardian, fabric) in facts::addressed_known(addressees, given) {
        say(
            Grade::Known,
            format!(
                "No target was given. Among the fabrics whose metadata the vault holds, one has the guardian {}, to which the VM key protector is addressed: that of {}, captured {}.",
                named(guardian),
                fabric.place,
                fabric.captured
            ),
        );
        of_guardian(guardian, given, say);
    }
    match facts.key {
        Key::NoneOfTarget => say(
            Grade::Known,
            "None of the guardians that were given for the target is among them, by certificate and by key."
                .to_owned(),
        ),
        Key::TargetNotGiven => {
            if !given.known_fabrics.is_empty() {
                let mut known: Vec<&str> =
                    given.known_fabrics.iter().map(|fabric| fabric.place.as_str()).collect();
                known.dedup();
                say(
                    Grade::Known,
                    format!(
                        "None of the fabrics whose metadata the vault holds has one of these guardians: {}.",
                        known.join(", ")
                    ),
                );
            }
            say(
                Grade::UnknownHere,
                "Whether the target has one of these guardians: give its guardian metadata with --fabric FILE, or compare with Get-HgsGuardian there.".to_owned(),
            );
        }
        Key::LocalGuardian => say(
            Grade::Likely,
            format!(
                "It was made in local mode: a host opens it if its store \"Shielded VM Local Certificates\" has {} with their private keys, and is not in HGS mode.{}",
                local_guardians(vm).join(" and "),
                match facts::owner_at_hand(addressees, &given.owner_keys) {
                    Some(_) => " They are at hand, as you say.",
                    None =>
                        " Where they are is not known here (`lifeboat artefacts list` tells what the vault has); without them the vTPM does not open.",
                }
            ),
        ),
        _ => {}
    }
    say(Grade::Known, NEVER.to_owned());
}

/// What is to be said of a guardian that a fabric has.
fn of_guardian(guardian: &GuardianEntry, given: &Circumstances, say: &mut impl FnMut(Grade, String)) {
    if facts::is_over(guardian, given.now) {
        say(
            Grade::Likely,
            format!(
                "A certificate of {} is no longer valid. That is a warning only: HGS checks no expiry, its certificates act as key pairs.",
                guardian.name
            ),
        );
    }
    say(
        Grade::UnknownHere,
        "Whether that fabric still has the guardian's private key, and attests the target host.".to_owned(),
    );
}

fn named(guardian: &GuardianEntry) -> String {
    let host = guardian.host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
    format!("{}{host} (encryption {})", guardian.name, guardian.encryption.sha1)
}

/// Configuration version and Secure Boot template against the target.
pub(super) fn of_target(
    facts: &Facts,
    vm: &VmRecord,
    given: &Circumstances,
    say: &mut impl FnMut(Grade, String),
) {
    match (vm.configuration_version.as_deref(), facts.version) {
        (None, _) => {
            say(Grade::UnknownHere, "The configuration version: its file does not say it.".to_owned())
        }
        (Some(version), Version::NotKnown) if vm.runs_on.is_empty() => say(
            Grade::UnknownHere,
            format!("Which hosts run configuration version {version}; Compare-VM on the target tells."),
        ),
        (Some(version), of_target) => {
            let target = match (of_target, given.target) {
                (Version::Runs, Some(target)) => format!("; {} is one of them", target.name),
                (Version::DoesNotRun, Some(target)) => format!("; {} is NOT one of them", target.name),
                _ => "; --target HOST compares".to_owned(),
            };
            say(
                Grade::Likely,
                format!(
                    "Configuration version {version} runs on {}{target}. Compare-VM on the target tells for certain.",
                    vm.runs_on.join(", ")
                ),
            );
        }
    }
    if vm.security.secure_boot == Some(true) {
        match vm.security.secure_boot_template.as_deref() {
            Some(id) => match TEMPLATES.iter().find(|(known, _)| *known == id) {
                Some((_, name)) => say(
                    Grade::Likely,
                    format!("Secure Boot is on, with the template {name} ({id}), which Windows brings."),
                ),
                None => say(
                    Grade::UnknownHere,
                    format!(
                        "Whether the target has the Secure Boot template {id}: it is none that Windows brings, as far as known; (Get-VMHost).SecureBootTemplates lists those of a host."
                    ),
                ),
            },
            None => say(
                Grade::UnknownHere,
                "Which Secure Boot template it has: Secure Boot is on, and its configuration names none."
                    .to_owned(),
            ),
        }
    }
}

/// What to expect at boot.
pub(super) fn of_boot(decision: &Decision) -> String {
    match decision.boot {
        BootExpectation::AsBefore => "At boot: the guest starts as it last did.",
        BootExpectation::MayAskOnce => {
            "At boot: the disk's BitLocker metadata is of another generation than the snapshot, with the same TPM protector. The guest starts, or asks once for its recovery password; then suspend and resume BitLocker in it."
        }
        BootExpectation::AsksForRecovery => {
            "At boot: the disk asks for its recovery password, since this vTPM does not open it. Have the recovery password at hand before you start."
        }
        BootExpectation::DoesNotStart => "At boot: it does not start from this snapshot on this target.",
        BootExpectation::HangsOnDisk => {
            "At boot: that hangs on the disk, which was not looked at. A disk of another time may ask once for its recovery password, or always."
        }
    }
    .to_owned()
}

/// The ways that need the owner's keys: to a new HGS, and to an isolated host in local mode.
pub(super) fn owner_ways(vm: &VmRecord) -> Vec<PlanWay> {
    let name = within_quotes(&vm.name);
    let owner = vm.addressed_to.as_ref().and_then(|one| one.owners.first());
    let thumbprints = owner.map_or_else(
        || "of the owner".to_owned(),
        |one| format!("{} (signing) and {} (encryption)", one.signing.sha1, one.encryption.sha1),
    );
    let import = "New-HgsGuardian -Name 'Owner' -SigningCertificate .\\owner-signing.pfx -SigningCertificatePassword (Read-Host -AsSecureString) -EncryptionCertificate .\\owner-encryption.pfx -EncryptionCertificatePassword (Read-Host -AsSecureString) -AllowUntrustedRoot -AllowExpired";
    vec![
        PlanWay {
            title: "To a new HGS: the owner grants its guardian access".to_owned(),
            grade: Grade::Likely,
            steps: vec![
                "Register the VM on a host of the new fabric, and leave it off.".to_owned(),
                "On the new HGS, or from its URL (http://HGS/KeyProtection/service/metadata/2014-07/metadata.xml), take its guardian metadata: hgs.xml.".to_owned(),
                format!(
                    "On that host keep the VM key protector as it is: [IO.File]::WriteAllBytes('C:\\kp-before.bin', (Get-VMKeyProtector -VMName '{name}'))"
                ),
                format!("On the owner's own machine, which is no host, with the certificates {thumbprints}: {import}"),
                "There: Import-HgsGuardian -Path .\\hgs.xml -Name 'New HGS' -AllowUntrustedRoot -AllowExpired".to_owned(),
                "There: $kp = Grant-HgsKeyProtectorAccess -KeyProtector (ConvertTo-HgsKeyProtector -Bytes ([IO.File]::ReadAllBytes('C:\\kp-before.bin'))) -GuardianFriendlyName 'New HGS' -AllowUntrustedRoot -AllowExpired".to_owned(),
                "There: [IO.File]::WriteAllBytes('C:\\kp-granted.bin', $kp.RawData)".to_owned(),
                format!(
                    "On the host, with that file: Set-VMKeyProtector -VMName '{name}' -KeyProtector ([IO.File]::ReadAllBytes('C:\\kp-granted.bin')). It holds the same transport key, so the vTPM state stays open."
                ),
                format!(
                    "Start it. If the VM key protector is refused: Set-VMKeyProtector -VMName '{name}' -RestoreLastKnownGoodKeyProtector, and look at what was granted."
                ),
                NEVER.to_owned(),
            ],
        },
        PlanWay {
            title: "On an isolated host in local mode: the owner's keys themselves open it".to_owned(),
            grade: Grade::Likely,
            steps: vec![
                "Take a host that belongs to the owner, is in no fabric and on no network that others reach: whoever administers it reads the VM while it runs.".to_owned(),
                "Make sure that it is in local mode: Get-HgsClientConfiguration says Mode Local; Set-HgsClientConfiguration -EnableLocalMode makes it so.".to_owned(),
                format!("Import the owner's certificates {thumbprints} with their private keys: {import}"),
                "The script does the same with -GuardianPfx .\\owner-signing.pfx, .\\owner-encryption.pfx.".to_owned(),
                "Register the VM there with the script and start it. Bring its data to safety, or grant a guardian from here by the other way.".to_owned(),
                "Afterwards remove the keys from that host, or destroy its disk.".to_owned(),
                NEVER.to_owned(),
            ],
        },
    ]
}
