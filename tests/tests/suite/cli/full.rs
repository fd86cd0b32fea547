//! Disks that are full: a small file system of our own, where this process may mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::desk::{Desk, file_url};
use crate::told;

/// A file system in memory; it goes when this does.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of that size; nothing where only root of a whole machine may.
    fn mount(path: &Path, kibibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder to mount on");
        let size = format!("size={kibibytes}k");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            _ => {
                told("skipped: no file system can be mounted here, so none can be full");
                None
            }
        }
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status();
        assert!(grown.is_ok_and(|status| status.success()), "the disk grows");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as a failed test may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_disk_of_a_restore_is_full() {
    let desk = Desk::with_snapshot();
    let Some(disk) = SmallDisk::mount(&desk.path("small"), 128) else { return };
    desk.loses_nothing(|| {
        let answer = desk.lifeboat(&["restore", "--all", "--to", "small/back"]).ends(1).says("Free space");
        assert!(desk.digests("small").is_empty(), "nothing half restored is left");
        desk.snapshot("error-disk-full", &[answer]);
    });
    disk.grow();
    desk.lifeboat(&["restore", "--all", "--to", "small/back"]).ends(0);
    for vm in &desk.fabric.answers().vms {
        let folder = desk.path("small/back").join(&vm.name);
        assert_eq!(vm.compare_export(&folder).expect("readable"), []);
    }
}

#[test]
fn the_disk_of_the_vault_is_full() {
    let desk = Desk::new();
    let Some(disk) = SmallDisk::mount(&desk.path("vault"), 96) else { return };
    let store = file_url(&desk.path("vault"));
    desk.lifeboat(&["init", "--store", &store, "--out", "kit", "--no-passphrase"]).ends(0);
    desk.enroll().ends(0);
    let answer = desk.run().ends(1);
    desk.snapshot("error-vault-full", &[answer]);
    // What was there stands, and nothing counts that is not whole.
    desk.lifeboat(&["check", "--read-data"]).ends(0).says("2 records");
    // Again, as a timer would; then there is room.
    desk.run().ends(1);
    disk.grow();
    desk.run().ends(0).says("3 captured");
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    desk.lifeboat(&["restore", "--all", "--to", "back"]).ends(0);
    for vm in &desk.fabric.answers().vms {
        assert_eq!(vm.compare_export(&desk.path("back").join(&vm.name)).expect("readable"), []);
    }
}

#[test]
fn the_disk_of_the_agent_is_full() {
    let desk = Desk::with_snapshot();
    std::fs::rename(desk.path("agent"), desk.path("before")).expect("moved");
    let Some(disk) = SmallDisk::mount(&desk.path("agent"), 160) else { return };
    for name in ["agent.toml", "signing.key"] {
        // A copy keeps its mode.
        std::fs::copy(desk.path("before").join(name), desk.path("agent").join(name)).expect("copied");
    }
    // The catalog is new, and there is hardly room for it.
    desk.write("agent/ballast", vec![0u8; 100 << 10]);
    let answer = desk.run();
    assert!(answer.code == 1, "{}", answer.shown());
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    disk.grow();
    desk.run().ends(0).says("3 captured");
    desk.lifeboat(&["check", "--read-data"]).ends(0);
}
