use std::fs;

use lifeboat_engine::source::{Discovery, HostSource as _, SourceError};
use lifeboat_schema::{ArtefactKind, Layout};

use super::super::{DirectoryOptions, DirectorySource};
use super::fixture::*;

#[test]
fn a_live_root_has_many_vms() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql");
    let discovery = host.discover();
    assert!(discovery.problems.is_empty(), "{:?}", discovery.problems);
    let [sql, web] = discovery.vms.as_slice() else { panic!("{discovery:?}") };
    assert_eq!((sql.vm_id.as_str(), web.vm_id.as_str()), (lower(SQL).as_str(), lower(WEB).as_str()));
    assert_eq!(web.layout, Layout::Live);
    assert_eq!(web.place, host.path("").display().to_string());
    let kinds: Vec<_> = web.files.iter().map(|file| (file.path.clone(), file.kind)).collect();
    assert_eq!(
        kinds,
        [
            (format!("Virtual Machines/{WEB}.vmcx"), ArtefactKind::Configuration),
            (format!("Virtual Machines/{WEB}.vmrs"), ArtefactKind::RuntimeState),
            (format!("Virtual Machines/{WEB}.vmgs"), ArtefactKind::GuestState),
        ]
    );
    assert_eq!(web.files[2].stat.size, (64 << 10) + 512);
    assert_eq!(host.discover().vms, discovery.vms, "the order repeats");
}

#[test]
fn exports_have_a_folder_each() {
    let host = Host::new();
    for (folder, id) in [("exports/web01/", WEB), ("exports/2026/sql01/", SQL)] {
        host.add_vm(folder, id, "name").add_checkpoint(folder, BEFORE_UPDATE, "before", id);
        host.write(&format!("{folder}Virtual Hard Disks/os.vhdx"), b"disk");
    }
    let discovery = host.discover();
    assert!(discovery.problems.is_empty(), "{:?}", discovery.problems);
    assert_eq!(discovery.vms.len(), 2);
    for vm in &discovery.vms {
        assert_eq!(vm.layout, Layout::Export);
        assert!(vm.place.ends_with("01"), "{}", vm.place);
        assert_eq!(vm.files.len(), 5);
        let last = vm.files.last().unwrap();
        assert_eq!(last.path, format!("Snapshots/{BEFORE_UPDATE}.vmrs"));
        assert_eq!(last.kind, ArtefactKind::CheckpointRuntimeState);
    }
}

#[test]
fn names_count_in_any_case_and_are_kept() {
    let host = Host::new();
    let id = lower(WEB);
    host.write(&format!("web/VIRTUAL machines/{id}.VMCX"), b"");
    host.write(&format!("web/snapshots/{}.Vmrs", lower(BEFORE_UPDATE)), b"");
    let vm = host.only();
    assert_eq!(vm.vm_id, id);
    assert_eq!(
        paths(&vm),
        [format!("Virtual Machines/{id}.VMCX"), format!("Snapshots/{}.Vmrs", lower(BEFORE_UPDATE))]
    );
}

#[test]
fn a_root_may_be_the_folder_itself_and_hold_others() {
    let host = Host::new();
    host.add_vm("Virtual Machines/web01/", WEB, "web").add_vm("", SQL, "sql");
    for root in ["", "Virtual Machines"] {
        let source = DirectorySource::new("test", vec![host.path(root)], quick());
        let Discovery { vms, problems } = source.discover().unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            vms.iter().map(|vm| vm.vm_id.clone()).collect::<Vec<_>>(),
            [lower(SQL), lower(WEB)],
            "{root:?}"
        );
        assert!(vms[1].place.ends_with("web01"));
    }
}

#[test]
fn saved_state_and_unknown_files_belong_to_the_vm() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    let machines = "web/Virtual Machines";
    host.write(&format!("{machines}/{WEB}/{WEB}.bin"), b"memory");
    host.write(&format!("{machines}/{WEB}/deeper/{WEB}.vsv"), b"devices");
    host.write(&format!("{machines}/{WEB}.vmcx.bak"), b"copy");
    host.write(&format!("{machines}/notes.txt"), b"beside the only VM");
    host.write(&format!("{machines}/{WEB}.slp"), b"paging").write(&format!("{machines}/{WEB}.vhdx"), b"disk");
    host.write("web/readme.txt", b"not in a folder of VMs");
    host.write(&format!("web/Snapshots/{BEFORE_UPDATE}/{BEFORE_UPDATE}.bin"), b"memory");
    let vm = host.only();
    assert_eq!(
        paths(&vm)[3..],
        [
            format!("Virtual Machines/{WEB}.vmcx.bak"),
            format!("Virtual Machines/{WEB}/{WEB}.bin"),
            format!("Virtual Machines/{WEB}/deeper/{WEB}.vsv"),
            "Virtual Machines/notes.txt".to_owned(),
            format!("Snapshots/{BEFORE_UPDATE}/{BEFORE_UPDATE}.bin"),
        ]
    );
    assert!(vm.files[3..].iter().all(|file| file.kind == ArtefactKind::Other));
    let (record, sink) = host.capture();
    record.unwrap();
    check_exact(&sink, &vm);
}

#[test]
fn unknown_files_beside_several_vms_are_nobodys() {
    let host = Host::new();
    host.add_vm("", WEB, "web").add_vm("", SQL, "sql");
    host.write("Virtual Machines/desktop.ini", b"").write("Virtual Machines/old.vmcx", b"");
    let discovery = host.discover();
    assert!(discovery.vms.iter().all(|vm| vm.files.len() == 3));
    let problems = problems(&host, &discovery);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].0, "Virtual Machines/old.vmcx");
    assert!(problems[0].1.contains("does not begin with the id"), "{problems:?}");
}

#[test]
fn duplicate_ids_are_both_found() {
    let host = Host::new();
    host.add_vm("a/", WEB, "web").add_vm("b/", WEB, "web");
    let vms = host.discover().vms;
    assert_eq!(vms.iter().map(|vm| vm.vm_id.as_str()).collect::<Vec<_>>(), [lower(WEB), lower(WEB)]);
    assert_ne!(vms[0].place, vms[1].place);
}

#[test]
fn overlapping_roots_count_once() {
    let host = Host::new();
    host.add_vm("a/web/", WEB, "web").add_vm("b/", SQL, "sql");
    let roots = ["a", "", "a/web", "b/../a"].map(|root| host.path(root)).to_vec();
    let discovery = DirectorySource::new("test", roots, quick()).discover().unwrap();
    assert_eq!(discovery.vms.len(), 2, "{discovery:?}");
    assert!(discovery.problems.is_empty());
}

#[test]
fn what_looks_like_a_vm_and_is_none_is_a_problem() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    host.write(&format!("flat/{SQL}.vmcx"), b"");
    fs::create_dir_all(host.path(&format!("web/Virtual Machines/{SQL}.vmcx"))).unwrap();
    host.write(&format!("junk/Virtual Machines/{SQL}.txt"), b"");
    host.write(&format!("half/Virtual Machines/{SQL}.vmrs"), b"");
    let discovery = host.discover();
    let problems = problems(&host, &discovery);
    let check = |place: &str, text: &str| {
        let found = problems.iter().any(|problem| problem.0 == place && problem.1.contains(text));
        assert!(found, "{place}: {text} is not in {problems:#?}");
    };
    check(&format!("flat/{SQL}.vmcx"), "in none of the folders");
    check(&format!("web/Virtual Machines/{SQL}.vmcx"), "is a folder");
    check(&format!("junk/Virtual Machines/{SQL}.txt"), "no configuration or state with that id");
    check(&format!("half/Virtual Machines/{SQL}.vmrs"), "and no configuration");
    assert_eq!(problems.len(), 4, "{problems:#?}");
    // The runtime state may hold the only VM key protector, so it is captured all the same.
    assert_eq!(discovery.vms.iter().map(|vm| vm.files.len()).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn places_can_be_left_out() {
    let host = Host::new();
    host.add_vm("keep/web/", WEB, "web").add_vm("templates/gold/", SQL, "gold");
    host.write(&format!("keep/web/Virtual Machines/{WEB}.tmp"), b"");
    let exclude = ["TEMPLATES", "**/*.tmp"].map(|text| text.parse().unwrap()).to_vec();
    let discovery = host.source_with(DirectoryOptions { exclude, ..quick() }).discover().unwrap();
    assert_eq!(discovery.vms.len(), 1);
    assert_eq!(discovery.vms[0].files.len(), 3);
    let error = "a[".parse::<crate::ExcludePattern>().unwrap_err();
    assert_eq!(error.pattern, "a[");
}

#[test]
fn the_walk_ends_at_its_depth() {
    let host = Host::new();
    host.add_vm("1/2/3/", WEB, "web");
    let found = |max_depth| {
        let options = DirectoryOptions { max_depth, ..quick() };
        host.source_with(options).discover().unwrap().vms.len()
    };
    assert_eq!((found(2), found(3)), (0, 1));
}

#[test]
fn a_root_that_cannot_be_read_is_an_error() {
    let host = Host::new();
    host.add_vm("", WEB, "web").write("file", b"");
    let (missing, file) = (host.path("missing"), host.path("file"));
    for roots in [vec![missing.clone()], vec![file, missing.clone()]] {
        let error = DirectorySource::new("test", roots, quick()).discover().unwrap_err();
        assert!(matches!(error, SourceError::Unreadable { .. }), "{error}");
    }
    let discovery = DirectorySource::new("test", vec![missing, host.path("")], quick()).discover().unwrap();
    assert_eq!((discovery.vms.len(), discovery.problems.len()), (1, 1));
}

#[test]
fn the_fingerprint_follows_every_file() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web").add_checkpoint("web/", BEFORE_UPDATE, "before", WEB);
    let before = host.only().fingerprint();
    assert_eq!(host.only().fingerprint(), before);
    host.write(&format!("web/Snapshots/{BEFORE_UPDATE}.vmrs"), b"new");
    assert_ne!(host.only().fingerprint(), before);
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_if_wanted_and_inside_the_roots() {
    use std::os::unix::fs::symlink;
    let host = Host::new();
    let outside = Host::new();
    host.add_vm("store/web/", WEB, "web").add_vm("real/", SQL, "sql");
    outside.add_vm("", AFTER_UPDATE, "out");
    fs::create_dir(host.path("links")).unwrap();
    symlink(host.path("real/Virtual Machines"), host.path("links/Virtual Machines")).unwrap();
    symlink(outside.path(""), host.path("links/outside")).unwrap();
    symlink(host.path(""), host.path("links/loop")).unwrap();
    symlink(host.path("nothing"), host.path("links/dangling")).unwrap();
    symlink(
        outside.path(&format!("Virtual Machines/{AFTER_UPDATE}.vmcx")),
        host.path(&format!("store/web/Virtual Machines/{AFTER_UPDATE}.vmcx")),
    )
    .unwrap();
    for follow_links in [false, true] {
        let discovery = host.source_with(DirectoryOptions { follow_links, ..quick() }).discover().unwrap();
        let ids: Vec<_> = discovery.vms.iter().map(|vm| vm.vm_id.as_str()).collect();
        assert_eq!(ids, [lower(SQL), lower(WEB)], "{follow_links}");
        let problems = problems(&host, &discovery);
        let places: Vec<_> = problems.iter().map(|problem| problem.0.as_str()).collect();
        let file = format!("store/web/Virtual Machines/{AFTER_UPDATE}.vmcx");
        if follow_links {
            assert_eq!(places, ["links/outside", &file]);
            assert!(problems.iter().all(|problem| problem.1.contains("leaves the roots")), "{problems:?}");
        } else {
            assert_eq!(places, ["links/Virtual Machines", "links/loop", "links/outside", &file]);
        }
    }
    // Where the folder itself is found through its link only.
    let source = DirectorySource::new(
        "test",
        vec![host.path("links"), host.path("real/Virtual Machines")],
        DirectoryOptions { follow_links: true, ..quick() },
    );
    assert_eq!(source.discover().unwrap().vms.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_unicode_are_a_problem() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    let name = [WEB.as_bytes(), b"-\xFF.vmrs"].concat();
    fs::write(host.path("web/Virtual Machines").join(OsStr::from_bytes(&name)), b"").unwrap();
    let discovery = host.discover();
    assert_eq!((discovery.vms.len(), discovery.problems.len()), (1, 1), "{discovery:?}");
}
