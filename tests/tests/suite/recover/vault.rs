//! `lifeboat recover` with a vault: a disk is found, and lives on metadata that the agent captured.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use lifeboat_schema::ProtectorKind;
use lifeboat_tests::stage::tiny_fabric;
use lifeboat_tests::testfabric::{
    DiskAnswer, DiskFiles, Fabric, FabricOptions, VmAnswer, VolumeAnswer, VolumeKind,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, lifeboat, sha256};
use crate::cli::desk::programs;

/// A host with encrypted disks, whose agent ran once.
struct Scene {
    folder: TempDir,
    fabric: Fabric,
}

/// A disk of the scene that a recovery password opens: the bytes of its file.
struct Subject<'s> {
    vm: &'s VmAnswer,
    volume: &'s VolumeAnswer,
    content: Vec<u8>,
}

impl Scene {
    fn set() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = FabricOptions { disks: DiskFiles::Sparse, ..tiny_fabric(20, 71) };
        let fabric = Fabric::generate(folder.path().join("fabric"), &options).expect("a fabric");
        let scene = Self { folder, fabric };
        let store = format!("file://{}", scene.path("vault").display());
        scene.lifeboat(&["init", "--store", &store, "--out", "kit", "--no-passphrase"]).ends(0);
        let root = scene.fabric.host_dir("host-1").display().to_string();
        scene
            .lifeboat(&["host", "enroll", "hv01", "--root", &root, "--out", "agent", "--kit", "kit"])
            .ends(0);
        let mut agent = std::process::Command::new(
            programs().join(format!("lifeboat-agent{}", std::env::consts::EXE_SUFFIX)),
        );
        agent.args(["run", "--once", "--config", "agent/agent.toml"]).current_dir(scene.folder.path());
        let output = agent.stdin(Stdio::null()).output().expect("the agent runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lifeboat(&self, arguments: &[&str]) -> Answer {
        lifeboat(self.folder.path(), arguments)
    }

    /// A VM with a vTPM and a disk that is encrypted with a recovery password, and no checkpoint of it.
    fn subject(&self) -> Subject<'_> {
        let fits = |disk: &&DiskAnswer| {
            disk.parent_data_write_guid.is_none()
                && disk.volume.as_ref().is_some_and(|volume| {
                    volume.encryption == VolumeKind::BitLocker
                        && volume.recovery_password.is_some()
                        && volume.protectors.iter().any(|one| one.kind == ProtectorKind::Tpm)
                })
        };
        let vms = self.fabric.answers().vms.iter().filter(|vm| vm.vtpm.is_some());
        let (vm, disk) = vms
            .filter_map(|vm| Some((vm, vm.disk_files.iter().find(fits)?)))
            .find(|(vm, _)| vm.disk_files.iter().all(|disk| disk.parent_data_write_guid.is_none()))
            .expect("one of twenty VMs has such a disk");
        let name = Path::new(&disk.path).file_name().expect("a name");
        let file = find(&self.fabric.host_dir("host-1"), name).expect("its file");
        let content = std::fs::read(file).expect("readable");
        let volume = disk.volume.as_ref().expect("it was asked for");
        let password = volume.recovery_password.as_ref().expect("it was asked for");
        std::fs::write(self.path("password.txt"), password).expect("written");
        Subject { vm, volume, content }
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("written");
    }
}

fn find(folder: &Path, name: &std::ffi::OsStr) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.is_dir() => find(&path, name),
        path => (path.file_name() == Some(name)).then_some(path),
    })
}

impl Subject<'_> {
    /// Where the metadata copies begin in the file.
    fn metadata(&self) -> Vec<usize> {
        let pages = (0..self.content.len()).step_by(4096);
        pages.filter(|&offset| self.content[offset..].starts_with(b"-FVE-FS-")).collect()
    }

    /// The disk with all metadata copies overwritten.
    fn destroyed(&self) -> Vec<u8> {
        let mut content = self.content.clone();
        let copies = self.metadata();
        assert_eq!(copies.len(), 3, "{copies:?}");
        for offset in copies {
            content[offset..offset + REGION_BYTES].fill(0x5a);
        }
        content
    }

    /// The same with the relocated boot sectors gone, which lie behind the first copy: no key can be proved on data.
    fn without_proof(&self) -> Vec<u8> {
        let mut content = self.destroyed();
        let moved = self.metadata()[0] + REGION_BYTES;
        content[moved..moved + (16 << 10)].fill(0x77);
        content
    }
}

fn finding<'r>(report: &'r Value, code: &str) -> Option<&'r Value> {
    report["findings"].as_array().expect("findings").iter().find(|finding| finding["code"] == code)
}

/// Bytes of a metadata copy.
const REGION_BYTES: usize = 64 << 10;

const KEY: [&str; 2] = ["--recovery-password-file", "password.txt"];

#[test]
fn a_disk_whose_metadata_is_destroyed_opens_with_what_the_vault_captured() {
    let scene = Scene::set();
    let subject = scene.subject();
    scene.write("whole.vhdx", &subject.content);
    scene.write("destroyed.vhdx", &subject.destroyed());
    let recover =
        |disk: &str, arguments: &[&str]| scene.lifeboat(&[&["recover", disk], arguments, &KEY].concat());

    // What is expected: the disk as it was, decrypted with no vault.
    recover("whole.vhdx", &["--to", "expected.raw"]).ends(0);
    recover("destroyed.vhdx", &["--to", "out.raw"]).ends(4).says("--captured");
    let answer = recover("destroyed.vhdx", &["--to", "out.raw", "--kit", "kit", "--json"]).ends(0);
    let report = answer.json();
    assert_eq!(sha256(&scene.path("out.raw")), sha256(&scene.path("expected.raw")));
    assert_eq!(report["volumes"][0]["proof"], "data");
    assert_eq!(report["volumes"][0]["volume_id"].as_str(), subject.volume.volume_id.as_deref());
    assert!(finding(&report, "metadata-from-vault").is_some(), "{report:#}");
    let told = finding(&report, "vm-in-vault").expect("its VM is named")["what"].as_str().unwrap_or_default();
    assert!(told.contains(&subject.vm.vm_id) && told.contains("the id of its disk"), "{told}");
    assert!(told.contains("vTPM state"), "{told}");

    // A key that opens captured metadata, and no sector of this disk, opens nothing.
    scene.write("foreign.vhdx", &subject.without_proof());
    recover("foreign.vhdx", &["--to", "never.raw", "--kit", "kit"]).ends(5);
    assert!(!scene.path("never.raw").exists() && !scene.path("never.raw.partial").exists());

    // The whole disk is found by what its own metadata says, and the plan tells the better way.
    let plan = scene.lifeboat(&["recover", "whole.vhdx", "--plan", "--kit", "kit", "--json"]).ends(0).json();
    let ways = plan["disks"][0]["volumes"].as_array().expect("volumes");
    let ways = ways.iter().find_map(|volume| volume["ways"].as_array().filter(|ways| !ways.is_empty()));
    let ways = ways.expect("an encrypted volume");
    let way = |kind: &str| ways.iter().find(|way| way["way"] == kind).expect(kind);
    assert_eq!(way("restore-with-vtpm")["standing"], "open");
    assert_eq!(way("captured-metadata")["standing"], "needs-secret");
    recover("whole.vhdx", &["--verify-only", "--kit", "kit"]).ends(0).says("its BitLocker volume id");
}

#[test]
fn a_vault_that_cannot_be_asked_ends_no_recovery() {
    let scene = Scene::set();
    let subject = scene.subject();
    scene.write("whole.vhdx", &subject.content);
    scene.write("destroyed.vhdx", &subject.destroyed());
    let verify = |disk: &str, arguments: &[&str]| {
        scene.lifeboat(&[&["recover", disk, "--verify-only"], arguments, &KEY].concat())
    };
    verify("whole.vhdx", &["--kit", "nowhere"]).ends(3).says("vault-not-used");
    // The audit identity tells the VM, and does not read heads.
    let audit = ["--kit", "kit", "--identity", "kit/audit.identity"];
    verify("destroyed.vhdx", &audit).ends(4).says("--captured");
    verify("whole.vhdx", &audit).ends(3).says("captured-metadata-unread");
    // Another VM's states do not open it, although a volume of theirs has the same place and size.
    let other = scene.fabric.answers().vms.iter().find(|vm| vm.vm_id != subject.vm.vm_id);
    let other = other.expect("twenty VMs").vm_id.as_str();
    verify("destroyed.vhdx", &["--kit", "kit", "--vm", other]).ends(5);
    verify("destroyed.vhdx", &["--kit", "kit", "--vm", &subject.vm.vm_id]).ends(0);
}
