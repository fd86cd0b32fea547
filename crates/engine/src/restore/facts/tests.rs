use lifeboat_schema::Digest;

use super::super::fixture::{DISK, guardian, head, shielded};
use super::*;

fn given(heads: &[DiskHeadEntry]) -> Vec<GivenDisk> {
    let disk = |head: &DiskHeadEntry| GivenDisk { path: "disk".to_owned(), head: Ok(Box::new(head.clone())) };
    heads.iter().map(disk).collect()
}

#[test]
fn a_disk_is_recognised_by_its_surest_identity_and_told_by_its_metadata() {
    let kept = head("a", "one", "tpm-1", 100);
    let vm = shielded(1_000, kept.clone()).entry.vm.clone();
    let check = |change: &dyn Fn(&mut DiskHeadEntry), matched_by, fit| {
        let mut now = kept.clone();
        change(&mut now);
        let planned = planned_disks(&vm, &given(&[now])).remove(0);
        assert_eq!((planned.matched_by, planned.fit), (matched_by, fit), "{planned:?}");
        assert_eq!(planned.is_disk.as_deref(), matched_by.map(|_| DISK));
    };
    let by_id = Some(DiskMatch::VirtualDiskId);
    check(&|_| {}, by_id, DiskFit::SameGeneration);
    check(&|now| now.virtual_disk_id = None, Some(DiskMatch::GptDiskId), DiskFit::SameGeneration);
    check(
        &|now| (now.virtual_disk_id, now.gpt_disk_id) = (Some("b".into()), None),
        Some(DiskMatch::FveVolumeId),
        DiskFit::SameGeneration,
    );
    check(&|now| *now = head("b", "one", "tpm-1", 100), None, DiskFit::NotOfThisVm);
    check(&|now| *now = head("a", "two", "tpm-1", 90), by_id, DiskFit::Older);
    check(&|now| *now = head("a", "two", "tpm-1", 110), by_id, DiskFit::Newer);
    check(&|now| *now = head("a", "two", "tpm-2", 110), by_id, DiskFit::OtherTpm);
    // Decrypted since, or made anew below the same identity.
    check(&|now| now.volumes.clear(), by_id, DiskFit::OtherTpm);
    // Nothing equal by being absent.
    check(
        &|now| (now.virtual_disk_id, now.gpt_disk_id, now.volumes) = (None, None, vec![]),
        None,
        DiskFit::NotOfThisVm,
    );
    let unread = GivenDisk { path: "x".to_owned(), head: Err("is gone".to_owned()) };
    assert_eq!(planned_disks(&vm, &[unread])[0].fit, DiskFit::Unreadable);
}

#[test]
fn a_parent_below_a_checkpoint_is_not_taken_for_the_disk() {
    let file = |name: &str| DiskFileEntry {
        name: name.to_owned(),
        data_write_guid: Some(format!("data of {name}")),
        vhd_id: None,
    };
    let mut kept = head("a", "one", "tpm-1", 100);
    kept.chain = vec![file("checkpoint.avhdx"), file("os.vhdx")];
    let vm = shielded(1_000, kept.clone()).entry.vm.clone();
    let plan_of = |chain: Vec<DiskFileEntry>| {
        let mut now = kept.clone();
        now.chain = chain;
        planned_disks(&vm, &given(&[now])).remove(0)
    };
    let whole = plan_of(vec![file("checkpoint.avhdx"), file("os.vhdx")]);
    assert_eq!((whole.is_disk.as_deref(), whole.fit), (Some(DISK), DiskFit::SameGeneration));
    // The guest has written since, or the chain was copied as one more file.
    let later = plan_of(vec![file("later.avhdx"), file("checkpoint.avhdx"), file("os.vhdx")]);
    assert_eq!(later.is_disk.as_deref(), Some(DISK));
    for (chain, why) in
        [(vec![file("os.vhdx")], "is a parent"), (vec![file("merged.vhdx")], "perhaps only a parent")]
    {
        let below = plan_of(chain);
        assert_eq!((below.is_disk, below.fit), (None, DiskFit::NotOfThisVm));
        assert!(below.problem.expect("it says why").contains(why));
    }
}

#[test]
fn the_worst_disk_of_the_vm_counts_and_a_stranger_does_not() {
    let kept = head("a", "one", "tpm-1", 100);
    let found = shielded(1_000, kept.clone());
    let of = |heads: &[DiskHeadEntry]| {
        let given = Circumstances { disks: given(heads), ..Circumstances::default() };
        facts(&found.entry, &given).disks
    };
    assert_eq!(of(&[]), Disks::NotGiven);
    assert_eq!(of(std::slice::from_ref(&kept)), Disks::Given(DiskFit::SameGeneration));
    assert_eq!(of(&[kept.clone(), head("a", "two", "tpm-1", 110)]), Disks::Given(DiskFit::Newer));
    assert_eq!(of(&[kept, head("b", "x", "y", 1)]), Disks::Given(DiskFit::SameGeneration));
    assert_eq!(of(&[head("b", "x", "y", 1)]), Disks::Given(DiskFit::NotOfThisVm));
}

#[test]
fn who_opens_the_key_protector() {
    let found = shielded(1_000, head("a", "one", "tpm", 1));
    let mut vm = found.entry.vm.clone();
    let of = |vm: &VmRecord, given: Circumstances| {
        facts(&VmEntry { vm: vm.clone(), ..(*found.entry).clone() }, &given).key
    };
    let fabric = |guardians: Vec<GuardianEntry>| Circumstances {
        fabric: Some(guardians),
        now: Some(Time::from_unix_seconds(4_000)),
        ..Circumstances::default()
    };
    assert_eq!(of(&vm, Circumstances::default()), Key::TargetNotGiven);
    let there = fabric(vec![guardian("Another", 1), guardian("Fabric", 5_000)]);
    assert_eq!(of(&vm, there.clone()), Key::Guardian { is_expired: false });
    let later = Circumstances { now: Some(Time::from_unix_seconds(6_000)), ..there };
    assert_eq!(of(&vm, later), Key::Guardian { is_expired: true });
    // Where no target is given, what the vault knows; a fabric that it does not know says nothing.
    let known = |guardians: &[GuardianEntry]| Circumstances {
        known_fabrics: guardians
            .iter()
            .map(|guardian| KnownFabric {
                guardian: guardian.clone(),
                place: "http://hgs".to_owned(),
                captured: Time::from_unix_seconds(3_000),
            })
            .collect(),
        now: Some(Time::from_unix_seconds(4_000)),
        ..Circumstances::default()
    };
    assert_eq!(of(&vm, known(&[guardian("Fabric", 5_000)])), Key::Guardian { is_expired: false });
    assert_eq!(of(&vm, known(&[guardian("Another", 5_000)])), Key::TargetNotGiven);
    let given = Circumstances { fabric: Some(vec![]), ..known(&[guardian("Fabric", 5_000)]) };
    assert_eq!(of(&vm, given), Key::NoneOfTarget);
    // A renewed certificate of the same key.
    let mut renewed = guardian("Fabric", 9_000);
    renewed.encryption.sha256 = Digest::of(b"renewed");
    assert_eq!(of(&vm, fabric(vec![renewed.clone()])), Key::Guardian { is_expired: false });
    // The same name says nothing.
    renewed.encryption.public_key = None;
    assert_eq!(of(&vm, fabric(vec![renewed])), Key::NoneOfTarget);
    let thumbprint = guardian("Owner", 1).signing.sha1.to_lowercase();
    let spaced =
        thumbprint.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two)).collect::<Vec<_>>().join(" ");
    let mut owner = fabric(vec![]);
    owner.owner_keys = vec![spaced];
    assert_eq!(of(&vm, owner.clone()), Key::OwnerKeysOnly);
    owner.owner_keys = vec![guardian("Fabric", 1).signing.sha1];
    assert_eq!(of(&vm, owner.clone()), Key::NoneOfTarget, "those are a guardian's");
    owner.owner_keys = vec![String::new()];
    assert_eq!(of(&vm, owner), Key::NoneOfTarget);
    // Local mode: an owner and no guardian.
    vm.addressed_to.as_mut().unwrap().guardians.clear();
    assert_eq!(of(&vm, fabric(vec![])), Key::LocalGuardian);
    assert_eq!(of(&vm, fabric(vec![guardian("Owner", 5_000)])), Key::Guardian { is_expired: false });
    vm.addressed_to = None;
    assert_eq!(of(&vm, fabric(vec![])), Key::NotUnderstood);
    vm.key_protector = None;
    assert_eq!(of(&vm, fabric(vec![])), Key::NotNeeded);
}

#[test]
fn originals_count_only_whole_and_no_older_than_the_snapshot() {
    let found = shielded(1_000, head("a", "one", "tpm", 1));
    let entry = &found.entry;
    let of = |found: Vec<Original>| {
        let survey = Survey { found, ..Survey::default() };
        facts(entry, &Circumstances { survey: Some(survey), ..Circumstances::default() }).originals
    };
    let original = |written: Option<i64>, state| Original {
        place: "D:".to_owned(),
        configuration: None,
        written: written.map(Time::from_unix_seconds),
        files: vec![],
        state,
    };
    let whole = |at: i64| Ok(Box::new(shielded(at, head("a", "one", "tpm", 1)).entry.vm.clone()));
    assert_eq!(facts(entry, &Circumstances::default()).originals, Originals::NotSurveyed);
    assert_eq!(of(vec![]), Originals::NotFound);
    assert_eq!(of(vec![original(Some(2_000), Err("is torn".to_owned()))]), Originals::NotUsable);
    assert_eq!(of(vec![original(Some(2_000), whole(2_000))]), Originals::Whole);
    // The very values that were captured, whenever they were copied; and an older copy is no original.
    assert_eq!(of(vec![original(None, whole(1_000))]), Originals::Whole);
    assert_eq!(of(vec![original(Some(900), whole(900))]), Originals::NotUsable);
    assert_eq!(of(vec![original(None, whole(900))]), Originals::NotUsable);
    assert_eq!(
        of(vec![original(Some(900), whole(900)), original(Some(2_000), whole(2_000))]),
        Originals::Whole
    );
    // Files that rest since before the capture are what was captured, byte for byte.
    let mut resting = original(Some(900), whole(900));
    resting.files = vec![("virtual machines/0a1b.VMCX".to_owned(), Digest::of(b""))];
    assert_eq!(of(vec![resting.clone()]), Originals::Whole);
    resting.files[0].1 = Digest::of(b"another");
    assert_eq!(of(vec![resting]), Originals::NotUsable);
}

#[test]
fn what_was_captured_and_what_the_target_runs() {
    let found = shielded(1_000, head("a", "one", "tpm", 1));
    let mut vm = found.entry.vm.clone();
    for (pairing, wanted) in [
        (Pairing::CapturedTogether, Capture::Together),
        (Pairing::Opens, Capture::Together),
        (Pairing::Mixed, Capture::Mixed),
        (Pairing::Torn, Capture::Torn),
        (Pairing::KeyProtectorMissing, Capture::KeyProtectorMissing),
    ] {
        vm.pairing = pairing;
        assert_eq!(capture(&vm), wanted);
    }
    (vm.pairing, vm.vtpm) = (Pairing::None, None);
    assert_eq!(capture(&vm), Capture::NotSeen);
    (vm.key_protector, vm.security.tpm_enabled) = (None, Some(false));
    assert_eq!(capture(&vm), Capture::NoVtpm);
    let on = |name: &str| lifeboat_schema::HOST_VERSIONS.iter().find(|host| host.name == name);
    assert_eq!(version(&vm, on("Windows Server 2022")), Version::Runs);
    assert_eq!(version(&vm, on("Windows Server 2016")), Version::DoesNotRun);
    assert_eq!(version(&vm, None), Version::NotKnown);
    vm.runs_on.clear();
    assert_eq!(version(&vm, on("Windows Server 2022")), Version::NotKnown);
}
