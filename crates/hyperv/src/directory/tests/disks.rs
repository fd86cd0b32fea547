//! Disks beside their VMs: found by the end of their paths, read for their heads, watched, and opened no more than needed.

use std::fs;
use std::time::{Duration, SystemTime};

use lifeboat_disk::fixtures::{differencing_vhdx, dynamic_vhdx, gpt_disk};
use lifeboat_disk_head::DiskHead;
use lifeboat_engine::source::{FoundVm, HostSource as _};
use lifeboat_fve::fixtures::{
    FormattedVolume, MIN_VOLUME_BYTES, ProtectorOptions, VolumeOptions, ntfs_plaintext,
};
use lifeboat_schema::{ArtefactKind, Class, Digest, VmRecord};
use lifeboat_vmcx::TreeBuilder;

use super::fixture::*;
use crate::directory::{DirectoryOptions, DirectorySource};

const PLACE: &str = r"D:\VMs\web\Virtual Hard Disks\os.vhdx";

/// A VM's configuration with one disk.
fn with_disk(path: &str) -> TreeBuilder {
    let controller = "_83f8638b-8dca-4152-9eda-2ca8b33039b4_";
    let drive = format!("/configuration/{controller}/controller0/drive0");
    vmcx(WEB, "web").set(&format!("{drive}/pathname"), path).set(&format!("{drive}/type"), "VHD")
}

fn bitlocker(protectors: Vec<ProtectorOptions>, seed: u64) -> FormattedVolume {
    let options = VolumeOptions { protectors, seed, ..VolumeOptions::default() };
    options.format(ntfs_plaintext(MIN_VOLUME_BYTES as usize, 512, 1))
}

fn vhdx(volume: &[u8]) -> Vec<u8> {
    let (parts, size) = gpt_disk(&[volume]);
    dynamic_vhdx(&parts, size).to_bytes()
}

/// A VM whose only disk has this volume.
fn host(volume: &[u8]) -> Host {
    let host = Host::new();
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&with_disk(PLACE)));
    host.write(&format!("web/Virtual Machines/{WEB}.vmrs"), &encode(&vmrs(&key_protector(), &[1; 900])));
    host.write("web/Virtual Hard Disks/os.vhdx", &vhdx(volume));
    host
}

fn capture(host: &Host) -> (VmRecord, Sink, DirectorySource, FoundVm) {
    let (source, vm, mut sink) = (host.source(), host.only(), Sink::default());
    let record = source.capture(&vm, &mut sink).unwrap();
    (record, sink, source, vm)
}

fn usual() -> Vec<ProtectorOptions> {
    vec![ProtectorOptions::recovery_password()]
}

/// Gives a file a time of its last write that is long ago, and differs for each `hours`.
fn age(host: &Host, path: &str, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(3600 * hours);
    fs::File::options().write(true).open(host.path(path)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_head_is_an_artefact_of_its_own_class() {
    let volume = bitlocker(usual(), 1);
    let (record, sink, ..) = capture(&host(&volume.image));
    let disk = &record.disks[0];
    assert_eq!(disk.problem, None);
    let head = disk.head.as_ref().unwrap();
    assert_eq!(head.artefact.as_deref(), Some("Disk Heads/ide-0-0.tar"));
    assert_eq!(head.secret_artefact, None);
    assert_eq!(head.volumes[0].fve_metadata, Some(Digest::of(&volume.metadata_region)));
    let taken = sink.file("ide-0-0.tar");
    assert_eq!((taken.kind, taken.class), (ArtefactKind::DiskHead, Class::DiskHead));
    assert!(DiskHead::parse(&taken.bytes).unwrap().pieces.len() > 5);
    assert_eq!(sink.files.iter().filter(|file| file.class != Class::Machine).count(), 1);
}

#[test]
fn a_clear_key_gives_an_artefact_for_escrow() {
    let volume = bitlocker([usual(), vec![ProtectorOptions::ClearKey]].concat(), 1);
    let (record, sink, ..) = capture(&host(&volume.image));
    let head = record.disks[0].head.as_ref().unwrap();
    assert_eq!(head.secret_artefact.as_deref(), Some("Disk Heads/ide-0-0.secret.tar"));
    let secret = sink.file(".secret.tar");
    assert_eq!((secret.kind, secret.class), (ArtefactKind::DiskSecret, Class::Secret));
    let metadata = lifeboat_fve::Metadata::parse(&volume.metadata_region).unwrap();
    let key = metadata.protectors()[1].clear_key().unwrap().expose();
    for file in &sink.files {
        let holds = file.bytes.windows(32).any(|window| window == key);
        assert_eq!(holds, file.class == Class::Secret, "{}", file.path);
    }
}

#[test]
fn a_disk_is_read_again_only_when_its_attributes_changed() {
    let volume = bitlocker(usual(), 1);
    let host = host(&volume.image);
    let os = "web/Virtual Hard Disks/os.vhdx";
    age(&host, os, 5);
    let (_, sink, source, vm) = capture(&host);
    // On systems with a time of change the file counts as just written.
    let watched = source.refresh(&vm, &sink.watched).unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let settled = source.refresh(&vm, &watched).unwrap();
    assert!(source.still_holds(&vm, &settled));
    // Other attributes, same head.
    age(&host, os, 4);
    assert!(!source.still_holds(&vm, &settled));
    assert!(source.refresh(&vm, &settled).is_some());
    // Another generation of FVE metadata.
    let next = volume.next_generation(usual(), 9, false);
    host.write(os, &vhdx(&next.image));
    assert!(!source.still_holds(&vm, &settled));
    assert_eq!(source.refresh(&vm, &settled), None);
    fs::remove_file(host.path(os)).unwrap();
    assert!(!source.still_holds(&vm, &settled));
    assert_eq!(source.refresh(&vm, &settled), None);
    // What another program wrote is no answer.
    assert!(!source.still_holds(&vm, b"\x07other"));
    assert_eq!(source.refresh(&vm, b"\x07other"), None);
}

#[test]
fn a_disk_that_was_missing_is_noticed_when_it_comes() {
    let host = host(&bitlocker(usual(), 1).image);
    let os = "web/Virtual Hard Disks/os.vhdx";
    let bytes = fs::read(host.path(os)).unwrap();
    fs::remove_file(host.path(os)).unwrap();
    let (record, sink, source, vm) = capture(&host);
    assert!(record.disks[0].problem.as_ref().unwrap().contains("was not found below the roots"));
    assert!(record.disks[0].head.is_none() && sink.files.len() == 2);
    assert!(source.still_holds(&vm, &sink.watched));
    host.write(os, &bytes);
    assert!(!source.still_holds(&vm, &sink.watched));
    assert_eq!(source.refresh(&vm, &sink.watched), None);
    // What is no disk at all is a problem of that disk, not of the VM.
    host.write(os, b"vhdxfile and nothing more");
    let (record, ..) = capture(&host);
    assert!(record.disks[0].problem.as_ref().unwrap().contains("cannot be opened as a VHDX"));
}

#[test]
fn disks_are_found_by_the_end_of_their_paths() {
    let image = vhdx(&bitlocker(usual(), 1).image);
    for (stated, lies, is_found) in [
        (PLACE, "web/Virtual Hard Disks/os.vhdx", true),
        (r"C:\ClusterStorage\v1\other\os.vhdx", "web/Virtual Hard Disks/os.vhdx", true),
        (r"\\?\D:\x\os.vhdx", "web/os.vhdx", true),
        (r"D:\VMs\Disks\Web\OS.vhdx", "Disks/web/os.vhdx", true),
        (r"D:\Library\os.vhdx", "Library/os.vhdx", true),
        // A name alone below a root may be any VM's.
        (r"D:\Library\os.vhdx", "os.vhdx", false),
        (r"D:\Library\os.vhdx", "Library/deeper/os.vhdx", false),
        (r"D:\..\Library\os.vhdx", "Library/os.vhdx", false),
        ("", "Library/os.vhdx", false),
    ] {
        let host = Host::new();
        host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&with_disk(stated)));
        host.write(lies, &image);
        let (record, ..) = capture(&host);
        let is = record.disks.first().is_some_and(|disk| disk.head.is_some());
        assert_eq!(is, is_found, "{stated} at {lies}: {:?}", record.disks);
    }
}

#[test]
fn a_disk_that_is_left_out_is_not_opened() {
    let host = host(&bitlocker(usual(), 1).image);
    for pattern in ["web/Virtual Hard Disks", "**/os.vhdx"] {
        let options = DirectoryOptions { exclude: vec![pattern.parse().unwrap()], ..quick() };
        let source = host.source_with(options);
        let record = source.capture(&host.only(), &mut Sink::default()).unwrap();
        assert!(record.disks[0].problem.as_ref().unwrap().contains("left out"), "{pattern}");
    }
}

#[test]
fn a_chain_is_followed_inside_the_roots_only() {
    let volume = bitlocker(usual(), 1);
    let (parts, size) = gpt_disk(&[&volume.image]);
    let parent = dynamic_vhdx(&parts, size).to_bytes();
    for (named, lies, is_found) in [
        ("base.vhdx", "web/Virtual Hard Disks/base.vhdx", true),
        (r"..\..\Library\base.vhdx", "Library/base.vhdx", true),
        (r"..\..\..\outside\base.vhdx", "", false),
    ] {
        let outside = Host::new();
        let host = Host::new();
        let child = differencing_vhdx(&[(size / 2, vec![0; 512])], size, 1, named).to_bytes();
        host.write("root/web/Virtual Hard Disks/os.vhdx", &child);
        host.write(&format!("root/web/Virtual Machines/{WEB}.vmcx"), &encode(&with_disk(PLACE)));
        match lies {
            "" => host.write("outside/base.vhdx", &parent),
            lies => host.write(&format!("root/{lies}"), &parent),
        };
        let source = DirectorySource::new("test", vec![host.path("root"), outside.path("")], quick());
        let vm = source.discover().unwrap().vms.remove(0);
        let record = source.capture(&vm, &mut Sink::default()).unwrap();
        let disk = &record.disks[0];
        if is_found {
            let chain: Vec<_> =
                disk.head.as_ref().unwrap().chain.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(chain, ["os.vhdx", "base.vhdx"]);
            assert_eq!(
                disk.head.as_ref().unwrap().volumes[0].fve_metadata,
                Some(Digest::of(&volume.metadata_region))
            );
        } else {
            let problem = disk.problem.as_ref().unwrap();
            assert!(problem.contains("it lies outside of the roots"), "{problem}");
        }
    }
}

/// Configurations of two VMs in one folder, with a disk each.
fn two_live(host: &Host, web: &str, sql: &str) {
    let controller = "/configuration/_83f8638b-8dca-4152-9eda-2ca8b33039b4_/controller0/drive0";
    for (id, name, path) in [(WEB, "web", web), (SQL, "sql", sql)] {
        let tree = vmcx(id, name)
            .set(&format!("{controller}/pathname"), path)
            .set(&format!("{controller}/type"), "VHD");
        host.write(&format!("hv/Virtual Machines/{id}.vmcx"), &encode(&tree));
    }
}

/// Which of the two VMs got a head, `web` first; and why the others did not.
fn heads(source: &DirectorySource) -> ([bool; 2], Vec<String>) {
    let vms = source.discover().unwrap().vms;
    assert_eq!(vms.len(), 2);
    let disk = |id: &str| {
        let vm = vms.iter().find(|vm| vm.vm_id == lower(id)).unwrap();
        source.capture(vm, &mut Sink::default()).unwrap().disks.remove(0)
    };
    let disks = [disk(WEB), disk(SQL)];
    let problems = disks.iter().filter_map(|disk| disk.problem.clone()).collect();
    (disks.map(|disk| disk.head.is_some()), problems)
}

#[test]
fn a_vm_never_gets_the_disk_of_another() {
    let image = vhdx(&bitlocker(usual(), 1).image);
    // Stated by both, where the one disk lies, and whose it is.
    for (web, sql, lies, expected) in [
        (r"D:\web\os.vhdx", r"E:\sql\os.vhdx", "hv/os.vhdx", [false, false]),
        (r"D:\web\os.vhdx", r"E:\sql\os.vhdx", "hv/sql/os.vhdx", [false, true]),
        (r"D:\web\os.vhdx", r"E:\sql\os.vhdx", "hv/Virtual Hard Disks/os.vhdx", [false, false]),
        (
            r"D:\web\Virtual Hard Disks\os.vhdx",
            r"D:\sql\Virtual Hard Disks\os.vhdx",
            "hv/Virtual Hard Disks/os.vhdx",
            [false, false],
        ),
        (
            r"D:\web\Virtual Hard Disks\os.vhdx",
            r"D:\sql\virtual hard disks\os.vhdx",
            "web/Virtual Hard Disks/os.vhdx",
            [true, false],
        ),
        // The usual folder of a host, named as its root is.
        (
            r"D:\HV\Virtual Hard Disks\os.vhdx",
            r"D:\HV\Virtual Hard Disks\sql.vhdx",
            "hv/Virtual Hard Disks/os.vhdx",
            [true, false],
        ),
    ] {
        let host = Host::new();
        two_live(&host, web, sql);
        host.write(lies, &image);
        let (is, problems) = heads(&host.source());
        assert_eq!(is, expected, "{lies}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("was not found below the roots")));
    }
}

#[test]
fn of_two_files_that_fit_equally_none_is_taken() {
    let image = vhdx(&bitlocker(usual(), 1).image);
    let host = Host::new();
    two_live(&host, r"D:\VMs\web\os.vhdx", r"D:\VMs\sql\os.vhdx");
    host.write("one/web/os.vhdx", &image).write("two/web/os.vhdx", &image).write("two/sql/os.vhdx", &image);
    let source = |roots: &[&str]| {
        let roots = roots.iter().map(|root| host.path(root)).collect();
        DirectorySource::new("test", roots, quick())
    };
    let (is, problems) = heads(&source(&["hv", "one", "two"]));
    assert_eq!(is, [false, true]);
    assert!(problems[0].contains("both fit its path"), "{problems:?}");
    // One file over two roots is one file, and the longer end says more.
    assert_eq!(heads(&source(&["hv", "two", "two/../two"])).0, [true, true]);
    host.write("three/VMs/web/os.vhdx", &image);
    assert_eq!(heads(&source(&["hv", "one", "two", "three"])).0, [true, true]);
}

#[test]
fn a_disk_with_a_problem_is_tried_again_in_each_run() {
    let host = host(&bitlocker(usual(), 1).image);
    let os = "web/Virtual Hard Disks/os.vhdx";
    let bytes = fs::read(host.path(os)).unwrap();
    // Elsewhere: nothing is opened, and nothing is captured anew, until its folder is a root.
    fs::remove_file(host.path(os)).unwrap();
    host.write("library/os.vhdx", &bytes);
    host.write(&format!("web/Virtual Machines/{WEB}.vmcx"), &encode(&with_disk(r"D:\Store\library\os.vhdx")));
    let source = |roots: &[&str]| {
        let roots = roots.iter().map(|root| host.path(root)).collect();
        DirectorySource::new("test", roots, quick())
    };
    let (narrow, wide) = (source(&["web/Virtual Machines"]), source(&["web/Virtual Machines", "library"]));
    let vm = narrow.discover().unwrap().vms.remove(0);
    let mut sink = Sink::default();
    assert!(narrow.capture(&vm, &mut sink).unwrap().disks[0].problem.is_some());
    assert!(narrow.still_holds(&vm, &sink.watched));
    assert!(!wide.still_holds(&vm, &sink.watched));
    assert_eq!(wide.refresh(&vm, &sink.watched), None);
    assert!(wide.capture(&vm, &mut sink).unwrap().disks[0].head.is_some());

    // There and not to be read: looked at each time, and the same answer costs no capture.
    host.write("library/os.vhdx", b"vhdxfile and nothing more");
    assert!(wide.capture(&vm, &mut sink).unwrap().disks[0].problem.is_some());
    assert!(!wide.still_holds(&vm, &sink.watched));
    assert_eq!(wide.refresh(&vm, &sink.watched), Some(sink.watched.clone()));
    host.write("library/os.vhdx", &bytes);
    assert_eq!(wide.refresh(&vm, &sink.watched), None);
}

#[cfg(unix)]
#[test]
fn a_link_leads_no_disk_out_of_the_roots() {
    let outside = Host::new();
    outside.write("os.vhdx", &vhdx(&bitlocker(usual(), 1).image));
    let host = host(&[]);
    fs::remove_dir_all(host.path("web/Virtual Hard Disks")).unwrap();
    std::os::unix::fs::symlink(outside.path(""), host.path("web/Virtual Hard Disks")).unwrap();
    let source = host.source();
    let vm = source.discover().unwrap().vms.remove(0);
    let record = source.capture(&vm, &mut Sink::default()).unwrap();
    let problem = record.disks[0].problem.as_ref().unwrap();
    assert!(problem.contains("outside of the roots"), "{problem}");
}
