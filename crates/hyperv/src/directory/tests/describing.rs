use lifeboat_engine::source::{HostSource as _, SourceError};
use lifeboat_schema::{Digest, Pairing, VmRecord, VtpmSight};
use lifeboat_vmcx::TreeBuilder;

use super::fixture::*;

/// The record and the owner of a VM with these two files.
fn describe(vmcx: &TreeBuilder, vmrs: &TreeBuilder) -> (VmRecord, Option<Digest>) {
    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(vmcx));
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &encode(vmrs));
    let (record, sink) = host.capture();
    (record.unwrap(), sink.owner_guardian)
}

fn has_remark(record: &VmRecord, text: &str) {
    assert!(
        record.remarks.iter().any(|remark| remark.contains(text)),
        "{text} is not in {:#?}",
        record.remarks
    );
}

#[test]
fn a_shielded_vm_has_no_remark() {
    let (record, owner) = describe(&vmcx(WEB, "web"), &vmrs(&key_protector(), &[1; 9000]));
    assert!(record.remarks.is_empty(), "{:?}", record.remarks);
    assert_eq!(owner, Some(Digest::from_bytes(OWNER.signing_certificate().sha256().0)));
    assert_eq!((record.generation, record.configuration_version.as_deref()), (Some(2), Some("10.0")));
    let newer = ["Windows Server 2022", "Windows 11 22H2", "Windows Server 2025", "Windows 11 24H2"];
    assert_eq!(record.runs_on, newer);
    let addressees = record.addressed_to.as_ref().unwrap();
    assert_eq!((addressees.owners.len(), addressees.guardians.len()), (1, 0));
    assert_eq!(Some(addressees.owners[0].signing.sha256), owner);
    assert_eq!(record.last_known_good_addressed_to, None);
    assert_eq!(record.security.tpm_enabled, Some(true));
    assert_eq!(record.security.shielding_requested, Some(true));
    assert_eq!(record.security.encrypt_state_and_migration, None);
    assert_eq!(record.security.secure_boot, Some(true));
    assert_eq!(record.security.secure_boot_template.as_deref(), Some("1734c6e8-3154-4dda-ba5f-a874cc483422"));
    let state = format!("Virtual Machines/{WEB}.vmrs");
    for (value, key, bytes) in [
        (&record.vtpm, VTPM, vec![1; 9000]),
        (&record.key_protector, KEY_PROTECTOR, key_protector()),
        (&record.last_known_good_key_protector, LAST_KNOWN_GOOD, key_protector()),
    ] {
        let value = value.as_ref().unwrap();
        assert_eq!((value.file.as_str(), value.key.as_str()), (state.as_str(), key));
        assert_eq!((value.size, value.digest), (bytes.len() as u64, Digest::of(&bytes)));
    }
}

#[test]
fn pairing_follows_the_file() {
    let state = || TreeBuilder::new().set("/configuration/properties/version", 0x0A00);
    let (kp, tpm) = (vec![1_u8; 3000], vec![2_u8; 3000]);
    let with = |tree: TreeBuilder, key, value: &[u8]| tree.set(key, value.to_vec());
    let both = |tree| with(with(tree, KEY_PROTECTOR, &kp), VTPM, &tpm);
    let check = |vmcx: TreeBuilder, vmrs: TreeBuilder, pairing, file: Option<&str>| {
        let (record, _) = describe(&vmcx, &vmrs);
        assert_eq!(record.pairing, pairing, "{record:#?}");
        let found = record.vtpm.as_ref().map(|value| value.file.rsplit('.').next().unwrap().to_owned());
        assert_eq!(found.as_deref(), file);
        record
    };
    let web = || vmcx(WEB, "web");
    check(web(), both(state()), Pairing::CapturedTogether, Some("vmrs"));
    check(both(web()), state(), Pairing::CapturedTogether, Some("vmcx"));
    check(both(web()), both(state()), Pairing::CapturedTogether, Some("vmrs"));
    // The file that has both wins, wherever the other value stands.
    check(both(web()), with(state(), VTPM, &tpm), Pairing::CapturedTogether, Some("vmcx"));
    check(both(web()), with(state(), KEY_PROTECTOR, &kp), Pairing::CapturedTogether, Some("vmcx"));
    let mixed =
        check(with(web(), KEY_PROTECTOR, &kp), with(state(), VTPM, &tpm), Pairing::Mixed, Some("vmrs"));
    has_remark(&mixed, "lie in different files");
    let differ =
        check(both(web()), with(both(state()), VTPM, &[7; 3000]), Pairing::CapturedTogether, Some("vmrs"));
    has_remark(&differ, "different values of its vTPM state");
    let lacking = check(web(), with(state(), VTPM, &tpm), Pairing::KeyProtectorMissing, Some("vmrs"));
    has_remark(&lacking, "it does not start");
    let empty = with(with(state(), VTPM, &tpm), KEY_PROTECTOR, &[0, 0, 0, 4]);
    let empty = check(web(), empty, Pairing::KeyProtectorMissing, Some("vmrs"));
    assert_eq!(empty.key_protector, None);
    let no_state = check(web(), with(state(), KEY_PROTECTOR, &kp), Pairing::None, None);
    has_remark(&no_state, "it may lie in the guest state");
    assert!(no_state.key_protector.is_some());
}

#[test]
fn a_key_protector_that_is_not_understood_is_a_remark() {
    for bytes in [vec![7; 5000], vec![b'<'; 3 << 20]] {
        let (record, owner) = describe(&vmcx(WEB, "web"), &vmrs(&bytes, &[1; 100]));
        assert_eq!(owner, None);
        has_remark(&record, "its VM key protector is not understood");
        assert_eq!(record.key_protector.unwrap().digest, Digest::of(&bytes));
    }
}

#[test]
fn a_key_protector_that_breaks_off_is_an_error_so_that_the_last_whole_one_stands() {
    let mut cut = key_protector();
    cut.truncate(900);
    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&vmcx(WEB, "web")));
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &encode(&vmrs(&cut, &[1; 100])));
    let (error, sink) = host.capture();
    let error = error.unwrap_err();
    let SourceError::Damaged { place, what } = &error else { panic!("{error}") };
    assert!(place.ends_with(".vmrs") && what.contains("its VM key protector is torn"), "{error}");
    assert_eq!(sink.begun, 0, "nothing was handed over");
    // Of a last known good one that breaks off the current one is independent.
    let state = vmrs(&key_protector(), &[1; 100]).set(LAST_KNOWN_GOOD, cut);
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &encode(&state));
    has_remark(&host.capture().0.unwrap(), "its last known good VM key protector is torn");
}

#[test]
fn what_was_not_read_is_not_said_to_hold_no_vtpm_state() {
    let quiet = |tpm: Option<bool>| {
        let tree = TreeBuilder::new()
            .set("/configuration/properties/global_id", WEB)
            .set("/configuration/properties/name", "web")
            .set("/configuration/properties/subtype", 1)
            .set("/configuration/properties/version", 0x0A00);
        match tpm {
            Some(tpm) => tree.set("/configuration/security/settings/tpm_enabled", tpm),
            None => tree,
        }
    };
    let state = TreeBuilder::new().set("/configuration/properties/version", 0x0A00);
    let sight = |vmcx: &TreeBuilder| describe(vmcx, &state).0.vtpm_sight();
    assert_eq!(sight(&quiet(None)), VtpmSight::NoSign);
    assert_eq!(sight(&quiet(Some(false))), VtpmSight::Off);
    assert_eq!(sight(&quiet(Some(true))), VtpmSight::NotSeen);
    // A guest state that is not understood may hold it.
    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&quiet(None)));
    host.write(&format!("web/Virtual Machines/{WEB}.vmgs"), b"something else");
    let record = host.capture().0.unwrap();
    assert_eq!(record.not_understood, [format!("Virtual Machines/{WEB}.vmgs")]);
    assert_eq!(record.vtpm_sight(), VtpmSight::NotKnown);
    // And so may a container of another format.
    let mut other = encode(&state);
    for copy in [0, 0x1000] {
        other[copy + 10..copy + 14].copy_from_slice(&0x0500_u32.to_le_bytes());
        other[copy + 4..copy + 8].fill(0);
        let sum = crc32fast::hash(&other[copy..copy + 46]);
        other[copy + 4..copy + 8].copy_from_slice(&sum.to_le_bytes());
    }
    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&quiet(None)));
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &other);
    let record = host.capture().0.unwrap();
    assert_eq!(record.not_understood, [format!("Virtual Machines/{WEB}.vmrs")]);
    assert_eq!(record.vtpm_sight(), VtpmSight::NotKnown);
    // Known is what was seen.
    let (record, _) = describe(&vmcx(WEB, "web"), &vmrs(&key_protector(), &[1; 100]));
    assert_eq!(record.vtpm_sight(), VtpmSight::Captured);
}

#[test]
fn a_last_known_good_key_protector_is_read_where_it_is_another_one() {
    let other = vmrs(&key_protector(), &[1; 100]).set(LAST_KNOWN_GOOD, vec![7_u8; 5000]);
    let (record, _) = describe(&vmcx(WEB, "web"), &other);
    assert!(record.addressed_to.is_some() && record.last_known_good_addressed_to.is_none());
    has_remark(&record, "its last known good VM key protector is not understood");
}

#[test]
fn settings_of_the_runtime_state_count_where_the_configuration_is_silent() {
    let settings = "/configuration/security/settings";
    let state = vmrs(&key_protector(), &[1; 100])
        .set(&format!("{settings}/tpm_enabled"), false)
        .set(&format!("{settings}/data_protection_requested"), true);
    let (record, _) = describe(&vmcx(WEB, "web"), &state);
    assert_eq!(record.security.tpm_enabled, Some(true));
    assert_eq!(record.security.encrypt_state_and_migration, Some(true));
}

#[test]
fn disks_are_numbered_as_hyper_v_counts_controllers() {
    let scsi = "d422512d-2bf2-4752-809d-7b82b5fcb1b4";
    let instances = ["aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"];
    let mut tree = vmcx(WEB, "web");
    // The second in the manifest comes first in the file, and has no disk besides.
    for (number, instance) in instances.iter().enumerate() {
        tree.put(&format!("/configuration/manifest/vdev00{number}/device"), scsi);
        tree.put(&format!("/configuration/manifest/vdev00{number}/instance"), *instance);
    }
    for (instance, drive, kind, path) in [
        (instances[1], 0, "VHD", r"C:\VMs\data.vhdx"),
        (instances[0], 1, "VHD", r"C:\VMs\os.vhdx"),
        (instances[0], 2, "ISO", r"C:\VMs\setup.iso"),
        (instances[0], 3, "VHD", ""),
    ] {
        tree.put(&format!("/configuration/_{instance}_/controller0/drive{drive}/type"), kind);
        tree.put(&format!("/configuration/_{instance}_/controller0/drive{drive}/pathname"), path);
    }
    let ide = "83f8638b-8dca-4152-9eda-2ca8b33039b4";
    tree.put(&format!("/configuration/_{ide}_/controller1/drive0/type"), "VHD");
    tree.put(&format!("/configuration/_{ide}_/controller1/drive0/pathname"), r"C:\VMs\old.vhd");
    let (record, _) = describe(&tree, &vmrs(&key_protector(), &[1; 100]));
    let disks: Vec<_> = record
        .disks
        .iter()
        .map(|disk| (disk.controller.as_str(), disk.controller_number, disk.drive, disk.path.as_str()))
        .collect();
    assert_eq!(
        disks,
        [
            ("scsi", 1, 0, r"C:\VMs\data.vhdx"),
            ("scsi", 0, 1, r"C:\VMs\os.vhdx"),
            ("ide", 1, 0, r"C:\VMs\old.vhd"),
        ]
    );
}

#[test]
fn checkpoints_have_their_own_state() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web").add_checkpoint("web/", BEFORE_UPDATE, "before", WEB);
    host.write(&format!("web/Snapshots/{AFTER_UPDATE}.vmcx"), &encode(&vmcx(WEB, "after")));
    host.write(
        &format!("web/Snapshots/{AFTER_UPDATE}.vmrs"),
        &encode(&TreeBuilder::new().set(VTPM, vec![1_u8; 9])),
    );
    let record = host.capture().0.unwrap();
    let [before, after] = record.checkpoints.as_slice() else { panic!("{:?}", record.checkpoints) };
    assert_eq!((before.id.as_str(), before.name.as_deref()), (BEFORE_UPDATE, Some("before")));
    assert_eq!(before.vtpm.as_ref().unwrap().digest, Digest::of(&[0x54; 3000]));
    assert_eq!(before.key_protector.as_ref().unwrap().file, format!("Snapshots/{BEFORE_UPDATE}.vmrs"));
    assert_eq!((after.id.clone(), after.name.as_deref()), (lower(AFTER_UPDATE), Some("after")));
    assert!(after.vtpm.is_some() && after.key_protector.is_none());
    assert_eq!(
        record.key_protector.unwrap().digest,
        Digest::of(&key_protector()),
        "the VM's own, not a checkpoint's"
    );
}

#[test]
fn what_is_odd_is_a_remark() {
    let odd = vmcx(SQL, "")
        .set("/configuration/properties/subtype", 7)
        .set("/configuration/properties/version", "x");
    let (record, _) = describe(&odd, &vmrs(&key_protector(), &[1; 100]));
    assert_eq!((record.vm_id.as_str(), record.name.as_str()), (lower(WEB).as_str(), lower(WEB).as_str()));
    has_remark(&record, &format!("carries the VM id {}", lower(SQL)));
    has_remark(&record, "carries no name");
    has_remark(&record, "subtype 7");
    has_remark(&record, "/configuration/properties/version");

    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &encode(&vmrs(&key_protector(), &[1; 100])));
    let vm = host.discover().vms.remove(0);
    let mut sink = Sink::default();
    let record = host.source().capture(&vm, &mut sink).unwrap();
    has_remark(&record, "no configuration that can be read");
    assert_eq!(record.pairing, Pairing::CapturedTogether);
    assert!(sink.owner_guardian.is_some());
}
