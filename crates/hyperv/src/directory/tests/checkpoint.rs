use lifeboat_engine::source::{Discovery, HostSource as _, SourceError};

use super::fixture::*;

/// Which VM got which checkpoints.
fn owners(discovery: &Discovery) -> Vec<(String, Vec<String>)> {
    let checkpoints = |vm: &lifeboat_engine::source::FoundVm| {
        let of = vm.files.iter().filter_map(|file| file.path.strip_prefix("Snapshots/"));
        of.filter_map(|name| name.strip_suffix(".vmcx")).map(str::to_owned).collect()
    };
    discovery.vms.iter().map(|vm| (vm.vm_id.clone(), checkpoints(vm))).collect()
}

#[test]
fn beside_several_vms_its_own_configuration_tells() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql");
    host.add_checkpoint("", BEFORE_UPDATE, "before", WEB).add_checkpoint("", AFTER_UPDATE, "after", SQL);
    let discovery = host.discover();
    assert!(discovery.problems.is_empty(), "{:?}", discovery.problems);
    assert_eq!(
        owners(&discovery),
        [(lower(SQL), vec![AFTER_UPDATE.to_owned()]), (lower(WEB), vec![BEFORE_UPDATE.to_owned()])]
    );
}

#[test]
fn the_logical_id_tells_too() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql");
    let own = vmcx(BEFORE_UPDATE, "before").set("/configuration/settings/global/logical_id", SQL);
    host.write(&format!("Snapshots/{BEFORE_UPDATE}.vmcx"), &encode(&own));
    assert_eq!(owners(&host.discover())[0].1, [BEFORE_UPDATE]);
}

#[test]
fn the_list_of_a_vm_tells_when_the_checkpoint_does_not() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql").add_checkpoint("", BEFORE_UPDATE, "b", BEFORE_UPDATE);
    let list = "/configuration/global_settings/snapshots/list";
    let web = vmcx(WEB, "web")
        .set(&format!("{list}/size"), 2)
        .set(&format!("{list}/node0/id"), BEFORE_UPDATE)
        .set(&format!("{list}/node1/id"), AFTER_UPDATE);
    host.write(&format!("Virtual Machines/{WEB}.vmcx"), &encode(&web));
    let discovery = host.discover();
    assert!(discovery.problems.is_empty(), "{:?}", discovery.problems);
    assert_eq!(owners(&discovery)[1], (lower(WEB), vec![BEFORE_UPDATE.to_owned()]));

    let mut sink = Sink::default();
    let record = host.source().capture(&discovery.vms[1], &mut sink).unwrap();
    let remark =
        format!("its configuration lists checkpoint {}, and no file of it was found", lower(AFTER_UPDATE));
    assert_eq!(record.remarks, [remark]);
}

#[test]
fn a_vm_elsewhere_may_have_it() {
    let host = Host::new();
    host.add_vm("config/", WEB, "web").add_vm("config/", SQL, "sql");
    host.add_checkpoint("checkpoints/", BEFORE_UPDATE, "before", SQL);
    let discovery = host.discover();
    assert!(discovery.problems.is_empty(), "{:?}", discovery.problems);
    assert_eq!(owners(&discovery)[0], (lower(SQL), vec![BEFORE_UPDATE.to_owned()]));
}

#[test]
fn a_checkpoint_of_no_vm_is_captured_alone() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql").add_checkpoint(
        "",
        BEFORE_UPDATE,
        "before",
        AFTER_UPDATE,
    );
    let discovery = host.discover();
    let problems = problems(&host, &discovery);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].1.contains(&format!("it belongs to VM {}, which was not found", lower(AFTER_UPDATE)))
    );
    let alone = discovery.vms.iter().find(|vm| vm.vm_id == BEFORE_UPDATE).unwrap();
    assert_eq!(alone.files.len(), 2);
    let mut sink = Sink::default();
    let record = host.source().capture(alone, &mut sink).unwrap();
    check_exact(&sink, alone);
    assert_eq!((record.name.as_str(), sink.name.as_str()), ("before", "before"));
    assert_eq!(record.vm_id, BEFORE_UPDATE);
    assert!(record.vtpm.is_some() && record.key_protector.is_some());
    assert_eq!(record.checkpoints.len(), 1);
    assert!(record.remarks[0].contains("the files of a checkpoint alone"), "{:?}", record.remarks);
    assert!(record.remarks[0].contains(&lower(AFTER_UPDATE)), "{:?}", record.remarks);
}

#[test]
fn duplicate_vms_share_no_checkpoint_of_elsewhere() {
    let host = Host::new();
    host.add_vm("a/", WEB, "web").add_vm("b/", WEB, "web").add_checkpoint("c/", BEFORE_UPDATE, "before", WEB);
    host.add_checkpoint("a/", AFTER_UPDATE, "after", WEB);
    let discovery = host.discover();
    assert_eq!(discovery.vms.len(), 3);
    let problems = problems(&host, &discovery);
    assert!(problems[0].1.contains("several VMs"), "{problems:?}");
}

#[test]
fn an_unreadable_checkpoint_keeps_its_vm_and_fails_its_capture() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql").add_checkpoint("", BEFORE_UPDATE, "before", WEB);
    let source = host.source();
    let before = owners(&source.discover().unwrap());
    host.write(&format!("Snapshots/{BEFORE_UPDATE}.vmcx"), b"torn");
    let discovery = source.discover().unwrap();
    assert_eq!(owners(&discovery), before);
    let error = source.capture(&discovery.vms[1], &mut Sink::default()).unwrap_err();
    assert!(matches!(&error, SourceError::Damaged { place, .. } if place.contains(BEFORE_UPDATE)), "{error}");

    // A source without memory cannot know.
    let discovery = host.discover();
    let alone = discovery.vms.iter().find(|vm| vm.vm_id == BEFORE_UPDATE).unwrap();
    assert_eq!(alone.files.len(), 2);
    assert!(matches!(discovery.problems[0].error, SourceError::Torn { .. }), "{discovery:?}");
}
