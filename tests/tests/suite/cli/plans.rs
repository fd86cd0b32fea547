//! Restore plans for a VM that is lost: what survives, what fits, who can open it, and what to do next.

use std::path::PathBuf;

use lifeboat_tests::stage::tiny_fabric;
use lifeboat_tests::testfabric::{
    AgeOptions, DiskFiles, FabricOptions, Mix, Player, VmAnswer, VmKind, VmPlan, VmTrait,
};

use super::desk::Desk;

/// VMs of which the first ones have other encryption. With BitLocker: number 5 is shielded, 6 with a checkpoint, 7 of local mode.
fn options() -> FabricOptions {
    let plans = vec![
        VmPlan::new(VmKind::Shielded, [VmTrait::Checkpoint]),
        VmPlan::new(VmKind::LocalMode, []),
        VmPlan::new(VmKind::Shielded, []),
    ];
    FabricOptions { disks: DiskFiles::Sparse, mix: Mix::Only(plans), ..tiny_fabric(8, 47) }
}

fn desk() -> Desk {
    let desk = Desk::with_snapshot_of(&options());
    for (player, name) in [
        (Player::PrimaryFabric, "primary.xml"),
        (Player::RecoveryFabric, "recovery.xml"),
        (Player::OwnerB, "stranger.xml"),
    ] {
        desk.write(name, desk.fabric.cast().metadata(player).expect("metadata"));
    }
    desk
}

fn vm(desk: &Desk, number: u32) -> VmAnswer {
    let answers = desk.fabric.answers();
    answers.vms.iter().find(|vm| vm.number == number).expect("the VM").clone()
}

/// The file that a VM's first disk is written to now.
fn disk(desk: &Desk, vm: &VmAnswer) -> String {
    let name = vm.disks[0].path.rsplit('\\').next().expect("a name");
    let file = vm.files.iter().find(|file| file.path.ends_with(name)).expect("its file");
    let path = desk.fabric.path_of(file);
    path.strip_prefix(desk.path("")).expect("below the desk").display().to_string()
}

/// Loses a VM's own files, and leaves its disks.
fn lose(desk: &Desk, vm: &VmAnswer) {
    let own = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["vmcx", "vmrs", "vmgs"].iter().any(|own| end == *own))
    };
    for path in vm.files.iter().map(|file| desk.fabric.path_of(file)).filter(own) {
        std::fs::remove_file(path).expect("it was there");
    }
}

#[test]
fn a_lost_shielded_vm_is_planned_for_its_target() {
    let desk = desk();
    let lost = vm(&desk, 6);
    let disk = disk(&desk, &lost);
    let name = lost.name.as_str();

    // Whole originals are registered, and nothing is written over them.
    let whole = desk.lifeboat(&["restore", name, "--plan", "--survey", "fabric/host-1"]).ends(0);
    assert!(whole.out.contains("register them where they are"), "{}", whole.shown());
    let refused = desk.lifeboat(&["restore", name, "--to", "back", "--survey", "fabric/host-1"]).ends(3);
    assert!(!desk.path("back").exists());
    desk.snapshot("plan-originals-whole", &[whole, refused.says("nothing was written")]);

    lose(&desk, &lost);
    let search = ["--survey", "fabric/host-1", "--disk", &disk];
    let ask = |more: &[&str]| desk.lifeboat(&[&["restore", name, "--plan"], &search[..], more].concat());
    let fits = ask(&["--fabric", "primary.xml", "--target", "windows server 2025"]).ends(0);
    desk.snapshot("plan-guardian-present", &[fits.says("byte for byte that of the disk")]);
    let cannot = ask(&["--fabric", "stranger.xml", "--target", "Windows Server 2016"]).ends(3);
    desk.snapshot("plan-no-guardian", &[cannot.says("no guardian of the target is among those")]);
    let owner = lost.wrapped.expect("it is wrapped").owner;
    let thumbprint = desk.fabric.cast().keys(owner).signing_certificate().sha1().to_string();
    let owned = ask(&["--fabric", "stranger.xml", "--owner", &thumbprint]).ends(0);
    desk.snapshot("plan-owner-keys", &[owned.says("To a new HGS")]);

    // The disk alone names its VM, and for programs the answers have names.
    let json = desk.lifeboat(&["restore", "--plan", "--json", "--disk", &disk, "--fabric", "primary.xml"]);
    let json = json.ends(0).json();
    assert_eq!(json[0]["vm"]["name"], name);
    assert_eq!(json[0]["verdict"]["verdict"], "no-known-obstacle");
    assert_eq!(json[0]["disks"][0]["fit"], "same-generation");
    assert_eq!(json[0]["disks"][0]["matched_by"], "virtual-disk-id");
    assert!(
        json[0]["needed_from_elsewhere"].as_array().is_some_and(|rest| rest.len() + 1 == lost.disks.len())
    );

    // The files come with script and runbook for just this.
    desk.lifeboat(&["restore", name, "--to", "back", "--fabric", "stranger.xml"]).ends(3);
    let runbook = desk.read(&format!("back/{name}.md"));
    assert!(
        runbook.contains("in the way: no guardian of the target") && runbook.contains("To a new HGS"),
        "{runbook}"
    );
    let script = desk.read(&format!("back/{name}.ps1"));
    assert!(script.contains(&format!("Checkpoints = @('{}'", lost.checkpoints[0].id)), "{script}");
    assert!(script.contains("LocalGuardian = @();"), "{script}");
    assert_eq!(lost.compare_export(&desk.path("back").join(name)).expect("readable"), []);
}

#[test]
fn a_disk_that_went_on_and_a_vm_of_local_mode() {
    let mut desk = desk();
    desk.fabric.age(&AgeOptions::change(1, 100.0)).expect("time passes");
    let lost = vm(&desk, 5);
    let disk = disk(&desk, &lost);
    lose(&desk, &lost);
    let newer = desk.lifeboat(&[
        "restore",
        &lost.name,
        "--plan",
        "--disk",
        &disk,
        "--fabric",
        "primary.xml",
        "recovery.xml",
        "--target",
        "Windows Server 2025",
    ]);
    desk.snapshot("plan-disk-went-on", &[newer.ends(0).says("with the same TPM protector")]);

    let local = vm(&desk, 7);
    lose(&desk, &local);
    let plan = desk.lifeboat(&["restore", &local.name, "--plan", "--survey", "fabric/host-1"]).ends(0);
    desk.snapshot("plan-local-mode", &[plan.says("The VM was in local mode")]);
    desk.lifeboat(&["restore", &local.name, "--to", "back"]).ends(0);
    let script = desk.read(&format!("back/{}.ps1", local.name));
    let keys = desk.fabric.cast().keys(Player::LocalMode);
    let first = keys.encryption_certificate().sha1();
    assert!(script.contains(&format!("LocalGuardian = @('{first}', ")), "{script}");
}

#[test]
fn what_cannot_be_planned_says_what_is_left() {
    let desk = desk();
    let unknown = desk.lifeboat(&["restore", "nobody", "--plan", "--survey", "kit"]).ends(1);
    let metadata = desk.lifeboat(&["restore", "x", "--plan", "--fabric", "kit/vault.toml"]).ends(2);
    let host = desk.lifeboat(&["restore", "x", "--plan", "--target", "Windows 95"]).ends(2);
    desk.write("foreign.raw", vec![7; 1 << 20]);
    let foreign = desk.lifeboat(&["restore", "--plan", "--disk", "foreign.raw"]).ends(1);
    let unread = desk.lifeboat(&["restore", "--plan", "--disk", "nowhere.vhdx"]).ends(1);
    desk.snapshot("plan-refused", &[unknown.says("lifeboat recover"), metadata, host, foreign, unread]);
}
