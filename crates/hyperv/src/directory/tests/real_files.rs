use lifeboat_schema::{Digest, Pairing};

use super::fixture::*;

#[test]
fn a_vm_of_hyper_v() {
    let (Some(vmcx), Some(vmrs)) = (test_data("dissect-test.vmcx"), test_data("dissect-test.vmrs")) else {
        return;
    };
    let host = Host::new();
    host.write(&format!("vm/Virtual Machines/{WEB}.vmcx"), &vmcx);
    host.write(&format!("vm/Virtual Machines/{WEB}.vmrs"), &vmrs);
    let (record, sink) = host.capture();
    let record = record.unwrap();
    check_exact(&sink, &host.only());
    assert_eq!(record.vm_id, lower(WEB));
    assert_eq!((record.generation, record.configuration_version.as_deref()), (Some(1), Some("9.0")));
    assert_eq!((record.pairing, &record.vtpm, &record.key_protector), (Pairing::None, &None, &None));
    assert_eq!(record.name, sink.name);
    assert_ne!(record.name, record.vm_id);
    assert!(record.remarks.is_empty(), "{:?}", record.remarks);
}

#[test]
fn a_shielded_vm_of_another_writer() {
    let (Some(vmcx), Some(vmrs)) =
        (test_data("synth-openvmm-shielded.vmcx"), test_data("synth-openvmm-shielded.vmrs"))
    else {
        return;
    };
    let host = Host::new();
    host.write(&format!("Virtual Machines/{WEB}.vmcx"), &vmcx);
    host.write(&format!("Virtual Machines/{WEB}.vmrs"), &vmrs);
    let (record, sink) = host.capture();
    let record = record.unwrap();
    check_exact(&sink, &host.only());
    assert_eq!(record.name, "synthetic-shielded");
    assert_eq!((record.generation, record.configuration_version.as_deref()), (Some(2), Some("10.0")));
    assert_eq!(record.security.tpm_enabled, Some(true));
    assert_eq!(record.security.shielding_requested, Some(true));
    assert_eq!(record.security.secure_boot_template.as_deref(), Some("1734c6e8-3154-4dda-ba5f-a874cc483422"));
    assert_eq!(record.pairing, Pairing::CapturedTogether);
    let pattern =
        |factor: usize, bytes: usize| (0..bytes).map(|at| (factor * at % 256) as u8).collect::<Vec<_>>();
    let vtpm = record.vtpm.unwrap();
    assert_eq!((vtpm.size, vtpm.digest), (40000, Digest::of(&pattern(13, 40000))));
    assert_eq!(vtpm.file, format!("Virtual Machines/{WEB}.vmrs"));
    let key_protector = record.key_protector.unwrap();
    assert_eq!((key_protector.size, key_protector.digest), (5000, Digest::of(&pattern(7, 5000))));
    assert_eq!(key_protector.key, KEY_PROTECTOR);
    assert_eq!(record.disks.len(), 1);
    assert_eq!(record.disks[0].path, r"C:\VMs\s\Virtual Hard Disks\os.vhdx");
    assert!(record.guest_state_path.unwrap().ends_with(".vmgs"));
    // Patterns, not XML: a remark, and no owner.
    assert_eq!(sink.owner_guardian, None);
    assert!(record.remarks.iter().any(|remark| remark.contains("is not understood")), "{:?}", record.remarks);
}
