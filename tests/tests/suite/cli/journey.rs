//! The way that things go when nothing goes wrong, and its answers.

use lifeboat_tests::testfabric::AgeOptions;

use super::desk::Desk;

#[test]
fn from_nothing_to_a_vm_that_is_back() {
    let mut desk = Desk::new();
    desk.snapshot("init", &[desk.init().ends(0)]);
    desk.snapshot("nothing-yet", &[desk.lifeboat(&["vms"]).ends(0), desk.lifeboat(&["snapshots"]).ends(0)]);
    desk.snapshot("host-enroll", &[desk.enroll().ends(0)]);
    desk.snapshot(
        "config-check",
        &[desk.agent(&["config", "check", "--config", "agent/agent.toml"]).ends(0)],
    );

    // One thread, so that the number of objects is the same in each run.
    desk.edit("agent/agent.toml", |text| text.replace("threads = 0", "threads = 1"));
    let first = desk.run().ends(0);
    let unchanged = desk.run().ends(0);
    assert!(unchanged.out.contains("0 captured, 3 unchanged"), "{}", unchanged.shown());
    desk.snapshot("run", &[first, unchanged]);

    desk.snapshot("vms", &[desk.lifeboat(&["vms"]).ends(0)]);
    let vm = desk.fabric.answers().vms[0].name.clone();
    desk.snapshot("snapshots", &[desk.lifeboat(&["snapshots", &vm]).ends(0)]);
    desk.snapshot("restore-plan", &[desk.lifeboat(&["restore", &vm, "--plan"]).ends(0)]);
    desk.snapshot("restore", &[desk.lifeboat(&["restore", &vm, "--to", "back"]).ends(0)]);
    let answer = &desk.fabric.answers().vms[0];
    assert_eq!(answer.compare_export(&desk.path("back").join(&vm)).expect("readable"), []);
    let all = desk.lifeboat(&["restore", "--all", "--to", "all"]).ends(0);
    for answer in &desk.fabric.answers().vms {
        let folder = desk.path("all").join(&answer.name);
        assert_eq!(answer.compare_export(&folder).expect("readable"), [], "{}", answer.name);
    }
    desk.snapshot("restore-all", &[all]);
    desk.snapshot(
        "check",
        &[
            desk.lifeboat(&["check"]).ends(0),
            desk.lifeboat(&["check", "--read-data"]).ends(0),
            desk.lifeboat(&["check", "--keyless", "--read-data"]).ends(0),
        ],
    );

    // A VM is lost, another cannot be read whole.
    desk.fabric
        .age(&AgeOptions { round: 1, delete: 1, tear: 1, ..AgeOptions::default() })
        .expect("time passes");
    let run = desk.run().ends(3);
    desk.snapshot("run-with-findings", &[run, desk.lifeboat(&["vms"]).ends(0)]);
    // Both come back as they were captured.
    let lost = desk.fabric.answers().deleted[0].clone();
    desk.lifeboat(&["restore", &lost.name, "--to", "lost"]).ends(0);
    assert_eq!(lost.compare_export(&desk.path("lost").join(&lost.name)).expect("readable"), []);
}

#[test]
fn every_answer_has_a_form_for_programs() {
    let desk = Desk::enrolled();
    let vm = desk.fabric.answers().vms[0].name.clone();
    desk.run().ends(0);
    let run = desk.agent(&["run", "--once", "--config", "agent/agent.toml", "--json"]).ends(0).json();
    assert_eq!((run["seq"].as_u64(), run["unchanged"].as_u64()), (Some(2), Some(3)));
    assert_eq!(run["vault"], desk.vault_id());
    let vms = desk.lifeboat(&["vms", "--json"]).ends(0).json();
    assert_eq!(vms["vms"].as_array().map(Vec::len), Some(3));
    let snapshots = desk.lifeboat(&["snapshots", &vm, "--json"]).ends(0).json();
    assert!(snapshots["vault"] == desk.vault_id(), "{snapshots}");
    let plan = desk.lifeboat(&["restore", &vm, "--plan", "--json"]).ends(0).json();
    assert_eq!(plan[0]["vm"]["name"], vm.as_str());
    let restored = desk.lifeboat(&["restore", &vm, "--to", "back", "--json"]).ends(0).json();
    assert_eq!(restored["restored"][0]["name"], vm.as_str());
    let check = desk.lifeboat(&["check", "--read-data", "--json"]).ends(0).json();
    // Its disks lie elsewhere, which is worth a note.
    assert_eq!((&check["worst"], &check["records"]), (&"note".into(), &4.into()));
    let error = desk.lifeboat(&["restore", "nobody", "--to", "x", "--json"]).ends(1).json();
    assert_eq!(error["exit_code"], 1);
    assert!(error["error"].as_str().is_some_and(|text| text.contains("nobody")), "{error}");
    let error = desk.agent(&["run", "--once", "--config", "nowhere.toml", "--json"]).ends(2).json();
    assert_eq!(error["exit_code"], 2);
}

#[test]
fn an_older_state_comes_back_by_its_time() {
    let mut desk = Desk::with_snapshot();
    let before = desk.fabric.answers().vms[1].clone();
    let captured = desk.lifeboat(&["vms", "--json"]).ends(0).json()["vms"]
        .as_array()
        .expect("VMs")
        .iter()
        .find(|vm| vm["vm"]["name"] == before.name.as_str())
        .expect("the VM")["newest"]["captured"]
        .clone();
    // The clock of records has seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    desk.fabric.age(&AgeOptions::change(1, 100.0)).expect("time passes");
    desk.run().ends(0);
    let at = captured.as_str().expect("a time");
    desk.lifeboat(&["restore", &before.name, "--at", at, "--to", "old"]).ends(0);
    assert_eq!(before.compare_export(&desk.path("old").join(&before.name)).expect("readable"), []);
    let now = desk.fabric.answers().vms[1].clone();
    desk.lifeboat(&["restore", &now.name, "--to", "new"]).ends(0);
    assert_eq!(now.compare_export(&desk.path("new").join(&now.name)).expect("readable"), []);
    assert_ne!(now.files, before.files);
    desk.lifeboat(&["restore", &now.name, "--at", "2020-01-01T00:00:00Z", "--to", "none"])
        .ends(1)
        .says("no snapshot at 2020-01-01T00:00:00Z or before");
}
