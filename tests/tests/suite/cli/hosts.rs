//! Hosts that are let in together, get another key, and leave.

use super::desk::Desk;

#[test]
fn hosts_are_let_in_together() {
    let desk = Desk::enrolled();
    desk.write("hosts.txt", "# of the cluster\nhv02\nhv03 # the new one\n\n");
    let before = desk.digests("vault").len();
    let root = desk.root();
    let enroll = ["host", "enroll", "hv04", "--from", "hosts.txt", "--root", &root, "--out", "agents"];
    let answer = desk.lifeboat(&[&enroll[..], &["--json"]].concat()).ends(0).json();
    assert_eq!(answer["hosts"].as_array().map(Vec::len), Some(3));
    // One policy lets all of them in: a record, and the names.
    assert_eq!(desk.digests("vault").len(), before + 2);
    for host in ["hv02", "hv03", "hv04"] {
        let config = format!("agents/{host}/agent.toml");
        desk.agent(&["run", "--once", "--config", &config]).ends(0);
    }
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    // Names that are no folders, that stand twice, that are there already.
    for (names, says) in [
        (&["a/b", "c"][..], "cannot be a folder's name"),
        (&["..", "c"], "cannot be a folder's name"),
        (&["HV9", "hv9"], "named twice"),
        (&["hv02", "hv9"], "is there already"),
    ] {
        let arguments = [&["host", "enroll", "--out", "agents"][..], names].concat();
        desk.lifeboat(&arguments).ends(2).says(says);
    }
    assert!(!desk.path("agents/hv9").exists() && !desk.path("agents/hv9.partial").exists());
}

#[test]
fn a_new_key_goes_on_with_the_ledger_and_the_old_one_writes_no_more() {
    let desk = Desk::with_snapshot();
    let rekeyed = desk.lifeboat(&["host", "rekey", "HV01", "--out", "new-key"]).ends(0);
    desk.run().ends(5).says("another key");
    let old = desk.read("agent/signing.key");
    std::fs::copy(desk.path("new-key/signing.key"), desk.path("agent/signing.key")).expect("a copy");
    let run = desk.run().ends(0);
    assert!(run.out.contains("Record 2 committed") && run.out.contains("3 unchanged"), "{}", run.shown());
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    desk.lifeboat(&["restore", "--all", "--to", "back"]).ends(0);

    let retired = desk.lifeboat(&["host", "retire", "hv01"]).ends(0);
    desk.run().ends(5);
    desk.write("agent/signing.key", old);
    desk.run().ends(5);
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    desk.lifeboat(&["restore", "--all", "--to", "again"]).ends(0);
    let twice = desk.lifeboat(&["host", "retire", "hv01"]).ends(2).says("retired already");
    let unknown = desk.lifeboat(&["host", "retire", "hv77"]).ends(2);
    desk.snapshot("host-changes", &[rekeyed, retired, twice, unknown]);
}

#[test]
fn silence_is_told_until_a_host_is_retired() {
    let desk = Desk::new();
    desk.init().ends(0);
    let root = desk.root();
    let out = ["--root", &root, "--out", "agent", "--max-silence", "0"];
    desk.lifeboat(&[&["host", "enroll", "hv01"][..], &out].concat()).ends(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    desk.lifeboat(&["vms"]).ends(3).says("it has written nothing since it was let in");
    desk.run().ends(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    desk.lifeboat(&["check"]).ends(3).says("silent-writer").says("lifeboat host retire");
    desk.lifeboat(&["host", "retire", "hv01"]).ends(0);
    desk.lifeboat(&["check"]).ends(0);
    desk.lifeboat(&["vms"]).ends(0);
}
