use std::sync::Arc;

use lifeboat_schema::{HOST_VERSIONS, NextStep, Pairing, Time};

use super::super::facts::{GivenDisk, Original, Survey};
use super::super::fixture::{guardian, head, shielded};
use super::*;

/// Every circumstance of the matrix, as a person would bring it.
fn all_circumstances() -> Vec<Circumstances> {
    let mut all = vec![Circumstances::default()];
    let now = Some(Time::from_unix_seconds(6_000));
    for fabric in [None, Some(vec![]), Some(vec![guardian("Fabric", 5_000)])] {
        for owner_keys in [vec![], vec![guardian("Owner", 1).signing.sha1]] {
            for target in [None, HOST_VERSIONS.first(), HOST_VERSIONS.last()] {
                for disks in [vec![], vec![head("a", "one", "tpm-1", 9)], vec![head("a", "two", "tpm-2", 9)]]
                {
                    for state in [None, Some(Err("is torn".to_owned())), Some(Ok(()))] {
                        let original = state.clone().map(|state| Original {
                            place: "E:\\it's".to_owned(),
                            configuration: Some("E:\\it's\\0A1B.vmcx".to_owned()),
                            written: Some(Time::from_unix_seconds(7_000)),
                            files: vec![],
                            state: state.map(|()| Box::new(found().entry.vm.clone())),
                        });
                        let survey = original.map(|original| Survey {
                            searched: vec!["E:".to_owned()],
                            found: vec![original],
                            unread: vec![],
                        });
                        let disk = |head: &lifeboat_schema::DiskHeadEntry| GivenDisk {
                            path: "disk.vhdx".to_owned(),
                            head: Ok(Box::new(head.clone())),
                        };
                        all.push(Circumstances {
                            has_restore_identity: true,
                            survey,
                            disks: disks.iter().map(disk).collect(),
                            fabric: fabric.clone(),
                            known_fabrics: Vec::new(),
                            owner_keys: owner_keys.clone(),
                            target,
                            now,
                        });
                    }
                }
            }
        }
    }
    all
}

fn found() -> Found {
    shielded(1_000, head("a", "one", "tpm-1", 9))
}

fn texts(plan: &RestorePlan) -> Vec<String> {
    let mut texts = vec![plan.verdict.text.clone(), plan.verdict.next_text.clone()];
    texts
        .extend(plan.verdict.obstacles.iter().chain(&plan.first).chain(&plan.needed_from_elsewhere).cloned());
    texts.extend(plan.statements.iter().map(|statement| statement.text.clone()));
    texts.extend(plan.ways.iter().flat_map(|way| way.steps.iter().chain([&way.title])).cloned());
    texts
}

#[test]
fn no_plan_advises_a_new_key_protector() {
    let mut seen = std::collections::BTreeSet::new();
    for given in all_circumstances() {
        for pairing in
            [Pairing::CapturedTogether, Pairing::Mixed, Pairing::Torn, Pairing::KeyProtectorMissing]
        {
            let mut found = found();
            Arc::make_mut(&mut found.entry).vm.pairing = pairing;
            let plan = plan(&found, "of a test", &given);
            seen.insert(format!("{:?}", plan.verdict.verdict));
            for text in texts(&plan) {
                for evil in ["New-HgsKeyProtector", "NewLocalKeyProtector", "Enable-VMTPM", "egenerat"] {
                    assert!(!text.contains(evil) || text.starts_with("Never "), "{text}");
                }
                // A VM key protector is set only where the owner granted into the old one, or to go back.
                let sets = text.contains("Set-VMKeyProtector") && !text.starts_with("Never ");
                assert!(
                    !sets || text.contains("kp-granted.bin") || text.contains("RestoreLastKnownGood"),
                    "{text}"
                );
            }
            assert!(texts(&plan).iter().any(|text| text.starts_with("Never make a new VM key protector")));
        }
    }
    let wanted = ["Cannot", "NoKnownObstacle", "OnlyWithOwnerKeys", "RegisterOriginals"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn identities_and_originals_come_first_and_every_statement_has_its_grade() {
    let plan = plan(&found(), "of a test", &Circumstances::default());
    assert_eq!(plan.identities[0].role, Role::Restore);
    assert!(plan.first[0].contains("--survey") && plan.first[0].contains("0a1b.vmcx"), "{:?}", plan.first);
    let grade = |text: &str| {
        let said = plan.statements.iter().find(|one| one.text.contains(text));
        said.unwrap_or_else(|| panic!("{text} is not said")).grade
    };
    assert_eq!(grade("from one copy of one file"), Grade::Known);
    assert_eq!(grade("is addressed to: owner Owner"), Grade::Known);
    assert_eq!(grade("Whether the target has one of these guardians"), Grade::UnknownHere);
    assert_eq!(grade("Configuration version 10.0 runs on"), Grade::Likely);
    assert_eq!(grade("MicrosoftWindows"), Grade::Likely);
    assert_eq!(grade("At boot"), Grade::UnknownHere);
    assert_eq!(grade("never run on a real Hyper-V host"), Grade::UnknownHere);
    assert_eq!(plan.needed_from_elsewhere.len(), 1);
}

#[test]
fn an_expired_guardian_is_a_warning_and_no_obstacle() {
    let given = Circumstances {
        fabric: Some(vec![guardian("Fabric", 5_000)]),
        now: Some(Time::from_unix_seconds(6_000)),
        ..Circumstances::default()
    };
    let plan = plan(&found(), "of a test", &given);
    assert_eq!((plan.verdict.verdict, plan.verdict.obstacles.len()), (Verdict::NoKnownObstacle, 0));
    assert!(texts(&plan).iter().any(|text| text.contains("That is a warning only")));
}

#[test]
fn an_owner_s_keys_give_both_ways_step_by_step() {
    let given = Circumstances {
        fabric: Some(vec![]),
        owner_keys: vec![guardian("Owner", 1).encryption.sha256.to_string()],
        ..Circumstances::default()
    };
    let mut hostile = found();
    Arc::make_mut(&mut hostile.entry).vm.name = "it's; calc".to_owned();
    let plan = plan(&hostile, "of a test", &given);
    assert_eq!(plan.verdict.verdict, Verdict::OnlyWithOwnerKeys);
    assert_eq!(plan.ways.len(), 2);
    let steps: Vec<&String> = plan.ways.iter().flat_map(|way| &way.steps).collect();
    assert!(steps.iter().any(|step| step.contains("-VMName 'it''s; calc'")), "{steps:?}");
    assert!(steps.iter().all(|step| !step.contains("'it's")));
    assert!(steps.iter().any(|step| step.contains("Grant-HgsKeyProtectorAccess")));
    assert!(steps.iter().any(|step| step.contains("local mode")));
}

#[test]
fn a_vm_of_local_mode_names_the_keys_that_go_first() {
    let mut local = found();
    Arc::make_mut(&mut local.entry).vm.addressed_to.as_mut().unwrap().guardians.clear();
    let plan = plan(&local, "of a test", &Circumstances::default());
    let owner = guardian("Owner", 1);
    assert_eq!(plan.verdict.next, NextStep::ImportLocalGuardian);
    assert_eq!(plan.local_guardians, [owner.encryption.sha1.clone(), owner.signing.sha1]);
    assert!(plan.verdict.next_text.contains(&owner.encryption.sha1));
}

#[test]
fn without_a_capture_the_disk_is_what_is_left() {
    let verdict = plan_without_capture("web", &Circumstances::default());
    assert_eq!((verdict.verdict, verdict.next), (Verdict::RecoverDisk, NextStep::RecoverDisk));
    assert!(verdict.next_text.contains("lifeboat recover"));
}
