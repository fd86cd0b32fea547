//! No log, answer, error text or file of the agent holds a secret.

use lifeboat_tests::testfabric::{AgeOptions, Planted};

use super::desk::Desk;
use crate::told;

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_agent_says_and_keeps_no_secret() {
    let mut desk = Desk::enrolled();
    let mut said = Vec::new();
    for round in 1..4 {
        desk.run().ends(if round == 3 { 3 } else { 0 });
        let config = ["run", "--once", "--config", "agent/agent.toml"];
        for arguments in [&config[..], &[&config[..], &["--json"]].concat()] {
            let answer = desk.program("lifeboat-agent", arguments, &[("LIFEBOAT_LOG", "trace")]);
            said.push(answer.shown());
        }
        let tear = u32::from(round == 2);
        desk.fabric.age(&AgeOptions { tear, ..AgeOptions::change(round, 50.0) }).expect("time passes");
    }
    // Every way to fail that has the agent look at its key or at the vault.
    let key = desk.read("agent/signing.key");
    desk.edit("agent/signing.key", |text| text.replacen('b', "c", 9));
    said.push(
        desk.program(
            "lifeboat-agent",
            &["run", "--once", "--config", "agent/agent.toml"],
            &[("LIFEBOAT_LOG", "trace")],
        )
        .shown(),
    );
    desk.write("agent/signing.key", &key);

    let markers: Vec<_> = desk.fabric.answers().markers().collect();
    let base64: Vec<&str> = key.lines().filter(|line| line.len() > 40 && !line.starts_with('-')).collect();
    assert!(base64.len() >= 4, "the key's private lines are searched for");
    // The first line names only format and cipher; all of the private half follows.
    let private = &base64[1..];
    let mut searched = 0;
    let mut search = |what: &str, bytes: &[u8], names_may_stand: bool| {
        searched += 1;
        assert!(!holds(bytes, b"AGE-SECRET-KEY"), "{what} holds an identity");
        for line in private {
            assert!(!holds(bytes, line.as_bytes()), "{what} holds the signing key");
        }
        for marker in &markers {
            if names_may_stand && marker.planted == Planted::Name {
                continue;
            }
            assert!(!holds(bytes, &marker.bytes), "{what} holds the marker {:?}", marker.planted);
        }
    };
    for text in &said {
        // What the agent says is for the host's admin, who knows the VMs' names.
        search("an answer or log", text.as_bytes(), true);
    }
    for path in desk.digests("agent").into_keys().filter(|path| !path.ends_with("signing.key")) {
        let bytes = std::fs::read(&path).expect("readable");
        // The catalog holds names too: they are the host's own.
        search(&path.display().to_string(), &bytes, true);
    }
    for path in desk.digests("vault").into_keys() {
        let bytes = std::fs::read(&path).expect("readable");
        search(&path.display().to_string(), &bytes, false);
        assert!(!holds(path.display().to_string().as_bytes(), desk.fabric.answers().vms[0].name.as_bytes()));
    }
    told(&format!("secrets: {searched} texts and files searched for {} markers", markers.len()));
}

#[test]
fn what_the_operator_sees_holds_no_content() {
    let desk = Desk::with_snapshot();
    let vm = desk.fabric.answers().vms[0].name.clone();
    let said = [
        desk.lifeboat(&["vms"]),
        desk.lifeboat(&["vms", "--json"]),
        desk.lifeboat(&["snapshots", &vm, "--json"]),
        desk.lifeboat(&["restore", &vm, "--plan", "--json"]),
        desk.lifeboat(&["restore", &vm, "--to", "back", "--json"]),
        desk.lifeboat(&["check", "--read-data", "--json"]),
    ];
    let kit: Vec<String> =
        ["audit", "restore", "escrow"].map(|role| desk.read(&format!("kit/{role}.identity"))).into();
    let secrets: Vec<&str> =
        kit.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("AGE-SECRET-KEY")).collect();
    assert_eq!(secrets.len(), 3);
    let mut texts: Vec<(String, Vec<u8>)> =
        said.iter().map(|answer| (answer.shown(), answer.shown().into_bytes())).collect();
    for name in [format!("{vm}.ps1"), format!("{vm}.md")] {
        let text = desk.read(&format!("back/{name}"));
        texts.push((name, text.into_bytes()));
    }
    for (what, bytes) in &texts {
        for secret in &secrets {
            assert!(!holds(bytes, secret.as_bytes()), "{what}");
        }
        let hidden = desk.fabric.answers().markers().filter(|marker| marker.planted != Planted::Name);
        for marker in hidden {
            assert!(!holds(bytes, &marker.bytes), "{:?} stands in {what}", marker.planted);
        }
    }
}
