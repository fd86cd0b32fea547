//! The plan matrix: every combination of the facts that a lost VM comes with, against rules written for people.
//!
//! The rules are no restatement of the code: each cell must be named by exactly one of them, whatever their order.

use std::collections::BTreeMap;

use super::*;

const KEYS: [(&str, Key); 5] = [
    ("present", Key::Guardian { is_expired: false }),
    ("expired", Key::Guardian { is_expired: true }),
    ("absent", Key::NoneOfTarget),
    ("owner", Key::OwnerKeysOnly),
    ("local", Key::LocalGuardian),
];
const CAPTURES: [(&str, Capture); 3] =
    [("together", Capture::Together), ("mixed", Capture::Mixed), ("torn", Capture::Torn)];
const VERSIONS: [(&str, Version); 2] = [("runs", Version::Runs), ("not", Version::DoesNotRun)];
const DISKS: [(&str, Disks); 5] = [
    ("present", Disks::Given(DiskFit::SameGeneration)),
    ("absent", Disks::NotGiven),
    ("only", Disks::Only),
    ("older", Disks::Given(DiskFit::Older)),
    ("newer", Disks::Given(DiskFit::Newer)),
];
const ORIGINALS: [(&str, Originals); 3] =
    [("whole", Originals::Whole), ("damaged", Originals::NotUsable), ("gone", Originals::NotFound)];

/// Facts of a cell: guardian, capture, version, disk, originals. `*` is any, `|` separates.
///
/// The answer: verdict and grade, boot and grade, next step.
#[rustfmt::skip]
const RULES: &[([&str; 5], &str, &str, &str)] = &[
    // Whole originals are newer than every snapshot: nothing else matters.
    (["*",               "*",              "*",    "*",                         "whole"],        "RegisterOriginals Known",         "AsBefore Likely",            "RegisterInPlace"),
    // Without any capture there is nothing to restore.
    (["*",               "*",              "*",    "only",                      "damaged|gone"], "RecoverDisk Known",               "AsksForRecovery Likely",     "RecoverDisk"),
    // A torn VM key protector opens nothing, on any host, for anyone.
    (["*",               "torn",           "*",    "present|absent|older|newer", "damaged|gone"], "Cannot Known",                   "DoesNotStart Known",         "TakeAnotherSnapshot"),
    // No guardian of the target is addressed: no version helps.
    (["absent",          "together|mixed", "*",    "present|absent|older|newer", "damaged|gone"], "Cannot Known",                   "DoesNotStart Known",         "FindGuardianOrOwner"),
    // The key would be there, the host is too old. The host itself was not asked.
    (["present|expired|owner|local", "together|mixed", "not", "present|absent|older|newer", "damaged|gone"], "Cannot Likely",       "DoesNotStart Likely",        "TakeAnotherHost"),
    // A guardian of the target. That its certificate is over changes nothing.
    (["present|expired", "together",       "runs", "present",                   "damaged|gone"], "NoKnownObstacle Likely",          "AsBefore Likely",            "CompareAndRegister"),
    (["present|expired", "together",       "runs", "older|newer",               "damaged|gone"], "NoKnownObstacle Likely",          "MayAskOnce Likely",          "CompareAndRegister"),
    (["present|expired", "together",       "runs", "absent",                    "damaged|gone"], "NoKnownObstacle Likely",          "HangsOnDisk UnknownHere",    "BringDisk"),
    (["present|expired", "mixed",          "runs", "present",                   "damaged|gone"], "NoKnownObstacle UnknownHere",     "AsBefore UnknownHere",       "CompareAndRegister"),
    (["present|expired", "mixed",          "runs", "older|newer",               "damaged|gone"], "NoKnownObstacle UnknownHere",     "MayAskOnce UnknownHere",     "CompareAndRegister"),
    (["present|expired", "mixed",          "runs", "absent",                    "damaged|gone"], "NoKnownObstacle UnknownHere",     "HangsOnDisk UnknownHere",    "BringDisk"),
    // Only the owner's keys: first they, then the disk.
    (["owner",           "together",       "runs", "present",                   "damaged|gone"], "OnlyWithOwnerKeys Likely",        "AsBefore Likely",            "UseOwnerKeys"),
    (["owner",           "together",       "runs", "older|newer",               "damaged|gone"], "OnlyWithOwnerKeys Likely",        "MayAskOnce Likely",          "UseOwnerKeys"),
    (["owner",           "together",       "runs", "absent",                    "damaged|gone"], "OnlyWithOwnerKeys Likely",        "HangsOnDisk UnknownHere",    "UseOwnerKeys"),
    (["owner",           "mixed",          "runs", "present",                   "damaged|gone"], "OnlyWithOwnerKeys UnknownHere",   "AsBefore UnknownHere",       "UseOwnerKeys"),
    (["owner",           "mixed",          "runs", "older|newer",               "damaged|gone"], "OnlyWithOwnerKeys UnknownHere",   "MayAskOnce UnknownHere",     "UseOwnerKeys"),
    (["owner",           "mixed",          "runs", "absent",                    "damaged|gone"], "OnlyWithOwnerKeys UnknownHere",   "HangsOnDisk UnknownHere",    "UseOwnerKeys"),
    // Local mode: the keys of the host that is lost go before the VM.
    (["local",           "together",       "runs", "present",                   "damaged|gone"], "ImportGuardianFirst Likely",      "AsBefore Likely",            "ImportLocalGuardian"),
    (["local",           "together",       "runs", "older|newer",               "damaged|gone"], "ImportGuardianFirst Likely",      "MayAskOnce Likely",          "ImportLocalGuardian"),
    (["local",           "together",       "runs", "absent",                    "damaged|gone"], "ImportGuardianFirst Likely",      "HangsOnDisk UnknownHere",    "ImportLocalGuardian"),
    (["local",           "mixed",          "runs", "present",                   "damaged|gone"], "ImportGuardianFirst UnknownHere", "AsBefore UnknownHere",       "ImportLocalGuardian"),
    (["local",           "mixed",          "runs", "older|newer",               "damaged|gone"], "ImportGuardianFirst UnknownHere", "MayAskOnce UnknownHere",     "ImportLocalGuardian"),
    (["local",           "mixed",          "runs", "absent",                    "damaged|gone"], "ImportGuardianFirst UnknownHere", "HangsOnDisk UnknownHere",    "ImportLocalGuardian"),
];

fn is_of(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern.split('|').any(|one| one == value)
}

/// Every cell, with the names of its facts.
fn cells() -> Vec<([&'static str; 5], Facts)> {
    let mut cells = Vec::new();
    for (key_name, key) in KEYS {
        for (capture_name, capture) in CAPTURES {
            for (version_name, version) in VERSIONS {
                for (disk_name, disks) in DISKS {
                    for (originals_name, originals) in ORIGINALS {
                        let names = [key_name, capture_name, version_name, disk_name, originals_name];
                        cells.push((names, Facts { originals, capture, key, version, disks }));
                    }
                }
            }
        }
    }
    cells
}

#[test]
fn every_cell_has_the_answer_of_its_rule() {
    let cells = cells();
    assert_eq!(cells.len(), 450);
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    for (names, facts) in &cells {
        let mut rules = RULES.iter().enumerate().filter(|(_, (patterns, ..))| {
            patterns.iter().zip(names).all(|(pattern, name)| is_of(pattern, name))
        });
        let (number, (_, verdict, boot, next)) =
            rules.next().unwrap_or_else(|| panic!("no rule for {names:?}"));
        assert!(rules.next().is_none(), "two rules for {names:?}");
        let decision = decide(facts);
        assert_eq!(format!("{:?} {:?}", decision.verdict, decision.grade), *verdict, "{names:?}");
        assert_eq!(format!("{:?} {:?}", decision.boot, decision.boot_grade), *boot, "{names:?}");
        assert_eq!(format!("{:?}", decision.next), *next, "{names:?}");
        *used.entry(number).or_default() += 1;
    }
    assert_eq!(used.len(), RULES.len(), "a rule speaks of no cell: {used:?}");
}

#[test]
fn every_obstacle_of_a_cell_is_named() {
    for (names, facts) in cells() {
        let [key, capture, version, disk, originals] = names;
        let decision = decide(&facts);
        let counts = originals != "whole" && disk != "only";
        for (obstacle, is_there) in [
            (Obstacle::Torn, capture == "torn"),
            (Obstacle::NoGuardian, key == "absent"),
            (Obstacle::Version, version == "not"),
        ] {
            assert_eq!(decision.obstacles.contains(&obstacle), counts && is_there, "{names:?} {obstacle:?}");
        }
        assert_eq!(decision.obstacles.is_empty(), decision.verdict != Verdict::Cannot, "{names:?}");
    }
}

/// What the matrix leaves out: facts that are not known, and VMs without a vTPM.
#[test]
fn what_is_not_known_is_never_graded_as_likely() {
    let good = Facts {
        originals: Originals::NotFound,
        capture: Capture::Together,
        key: Key::Guardian { is_expired: false },
        version: Version::Runs,
        disks: Disks::Given(DiskFit::SameGeneration),
    };
    assert_eq!(decide(&good).grade, Grade::Likely);
    for facts in [
        Facts { key: Key::TargetNotGiven, ..good },
        Facts { key: Key::NotUnderstood, ..good },
        Facts { version: Version::NotKnown, ..good },
        Facts { capture: Capture::NotSeen, ..good },
        Facts { capture: Capture::InGuestState, ..good },
    ] {
        let decision = decide(&facts);
        assert_eq!(
            (decision.verdict, decision.grade),
            (Verdict::NoKnownObstacle, Grade::UnknownHere),
            "{facts:?}"
        );
        assert_eq!(decision.boot_grade, Grade::UnknownHere, "{facts:?}");
    }
    let check = |facts: Facts, boot, next| {
        let decision = decide(&facts);
        assert_eq!((decision.boot, decision.next), (boot, next), "{facts:?}");
    };
    let given = |fit| Facts { disks: Disks::Given(fit), ..good };
    use {BootExpectation as Boot, NextStep as Next};
    check(given(DiskFit::OtherTpm), Boot::AsksForRecovery, Next::CompareAndRegister);
    check(given(DiskFit::NotEncrypted), Boot::AsBefore, Next::CompareAndRegister);
    check(given(DiskFit::NotOfThisVm), Boot::HangsOnDisk, Next::BringDisk);
    check(given(DiskFit::Unreadable), Boot::HangsOnDisk, Next::BringDisk);
    // Nobody has looked for the originals: the plan says so first, and goes on.
    check(Facts { originals: Originals::NotSurveyed, ..good }, Boot::AsBefore, Next::CompareAndRegister);
    let missing = decide(&Facts { capture: Capture::KeyProtectorMissing, ..good });
    assert_eq!((missing.verdict, missing.next), (Verdict::Cannot, Next::TakeAnotherSnapshot));
    let plain = Facts { capture: Capture::NoVtpm, key: Key::NotNeeded, disks: Disks::NotGiven, ..good };
    let plain = decide(&plain);
    assert_eq!((plain.verdict, plain.grade), (Verdict::NoKnownObstacle, Grade::Likely));
    assert_eq!((plain.boot, plain.next), (Boot::AsBefore, Next::BringDisk));
}
