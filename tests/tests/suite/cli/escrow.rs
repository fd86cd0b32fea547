//! Recovery secrets through the real program: imported, listed, revealed, and found nowhere else.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use lifeboat_fve::{ExternalKey, FileTime, Guid, Key256, RecoveryPassword};
use lifeboat_tests::stage::tiny_fabric;
use lifeboat_tests::testfabric::{DiskFiles, FabricOptions};

use super::desk::{Answer, Desk, programs};
use crate::told;

/// A host whose disks have recovery passwords, captured; an importer beside it.
pub(super) fn desk() -> Desk {
    let desk = Desk::of(&FabricOptions { disks: DiskFiles::Sparse, ..tiny_fabric(12, 77) });
    desk.init().ends(0);
    desk.enroll().ends(0);
    desk.run().ends(0);
    desk.lifeboat(&["escrow", "enroll", "management", "--out", "importer"]).ends(0);
    desk
}

/// Nothing of the vault is damaged. Some of the fabric's VMs are such that a check has a word to say of them.
pub(super) fn in_order(desk: &Desk) {
    desk.lifeboat(&["check", "--read-data"]).ends(3).says("The vault is in order");
}

/// Ids of the BitLocker protectors of recovery passwords on the fabric's disks, each with VM and password.
pub(super) fn passwords(desk: &Desk) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::new();
    for vm in &desk.fabric.answers().vms {
        for volume in vm.disk_files.iter().filter_map(|file| file.volume.as_ref()) {
            let Some(password) = &volume.recovery_password else { continue };
            for protector in &volume.protectors {
                if protector.kind == lifeboat_schema::ProtectorKind::RecoveryPassword {
                    all.insert(protector.id.clone(), (vm.name.clone(), password.clone()));
                }
            }
        }
    }
    assert!(all.len() >= 4, "the fabric has recovery passwords");
    all
}

pub(super) fn import(desk: &Desk, files: &[&str]) -> Answer {
    desk.lifeboat(&[&["escrow", "import", "--importer", "importer"], files].concat())
}

fn other_password(number: u8) -> String {
    RecoveryPassword::from_recovery_key(&[number; 16]).expose().to_string()
}

/// The last digit is another.
fn mistyped(password: &str) -> String {
    let (rest, last) = password.split_at(password.len() - 1);
    format!("{rest}{}", (last.parse::<u8>().expect("a digit") + 1) % 10)
}

pub(super) fn ledger_length(desk: &Desk, prefix: &str) -> usize {
    let folder = desk.path("vault").join("ledger");
    let mine = std::fs::read_dir(folder).expect("ledgers").flatten();
    let mine = mine.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    mine.map(|entry| std::fs::read_dir(entry.path()).expect("a ledger").count()).sum()
}

#[test]
fn imported_once_listed_by_the_auditor_and_revealed_with_a_record() {
    let desk = desk();
    desk.lifeboat(&["escrow", "list"]).ends(0).says("No recovery secret is escrowed");
    let known = passwords(&desk);
    let mut list = String::from("Computer;RecoveryKeyId;RecoveryKey\r\n");
    let mut text = String::new();
    for (number, (id, (_, password))) in known.iter().enumerate() {
        match number % 2 {
            0 => list += &format!("SVM{number:02};{id};{password}\r\n"),
            _ => {
                text += &format!(
                    "    Numerisches Kennwort:\r\n      ID: {{{id}}}\r\n      Kennwort:\r\n        {password}\r\n"
                )
            }
        }
    }
    desk.write("list.csv", list);
    let wide: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    desk.write("bde.txt", wide);

    let report = import(&desk, &["list.csv", "bde.txt", "--json"]).ends(0).json();
    assert_eq!(report["sealed"], known.len());
    assert_eq!(report["sources"][0]["source"], "csv");
    assert_eq!(report["sources"][1]["source"], "manage-bde");
    // Once more: nothing new, and nothing written.
    let before = desk.digests("vault");
    import(&desk, &["bde.txt", "list.csv"]).ends(0).says("Nothing new");
    assert_eq!(desk.digests("vault"), before);

    // The auditor's identity suffices to see what there is.
    std::fs::create_dir(desk.path("audit")).expect("a folder");
    for name in ["vault.toml", "audit.identity"] {
        std::fs::copy(desk.path("kit").join(name), desk.path("audit").join(name)).expect("a copy");
    }
    let listed = desk.lifeboat(&["escrow", "list", "--json", "--kit", "audit"]).ends(0).json();
    let secrets = listed["secrets"].as_array().expect("secrets");
    assert_eq!(secrets.len(), known.len());
    for one in secrets {
        let (vm, _) = &known[one["protector"].as_str().expect("an id")];
        assert_eq!(one["vms"], serde_json::json!([vm]));
    }
    let (id, (vm, password)) = known.first_key_value().expect("there are some");
    desk.lifeboat(&["escrow", "list", "--vm", vm]).ends(0).says(id).says(vm);
    desk.lifeboat(&["escrow", "reveal", id, "--reason", "curious", "--kit", "audit"]).ends(5);

    // A reveal names its reason in a record before anything is shown.
    assert_eq!(ledger_length(&desk, "op-"), 0);
    desk.lifeboat(&["escrow", "reveal", id, "--reason", " "]).ends(2);
    desk.lifeboat(&["escrow", "reveal", "00000000", "--reason", "x"]).ends(1);
    assert_eq!(ledger_length(&desk, "op-"), 0);
    let answer =
        desk.lifeboat(&["escrow", "reveal", &id[..8].to_uppercase(), "--reason", "disk moved, ticket 4711"]);
    assert_eq!(answer.ends(0).out.trim(), password);
    assert_eq!(ledger_length(&desk, "op-"), 1);
    let report = desk.lifeboat(&["escrow", "reveal", id, "--reason", "once more", "--json"]).ends(0).json();
    assert_eq!(
        (&report["recovery_password"], ledger_length(&desk, "op-")),
        (&serde_json::json!(password), 2)
    );
    in_order(&desk);
}

#[test]
fn a_reveal_leaves_its_record_even_when_the_terminal_dies() {
    let desk = desk();
    let known = passwords(&desk);
    let (id, (_, password)) = known.first_key_value().expect("there are some");
    desk.write("one.txt", format!("ID: {{{id}}}\n{password}\n"));
    import(&desk, &["one.txt"]).ends(0);
    let mut command =
        std::process::Command::new(programs().join(format!("lifeboat{}", std::env::consts::EXE_SUFFIX)));
    command.args(["escrow", "reveal", id, "--reason", "the terminal dies", "--kit"]).arg(desk.path("kit"));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    drop(child.stdout.take());
    child.wait().expect("it ends");
    assert_eq!(ledger_length(&desk, "op-"), 1);
    in_order(&desk);
}

#[test]
fn wrong_and_conflicting_secrets_are_findings_and_lose_nothing_else() {
    let desk = desk();
    let ids: Vec<String> = (1..5).map(|number| Guid([number; 16]).to_string()).collect();
    let wrong = mistyped(&other_password(3));
    desk.write(
        "list.csv",
        format!("{},{}\n{},{wrong}\n{},{}\n", ids[0], other_password(11), ids[1], ids[2], other_password(33)),
    );
    let answer = import(&desk, &["list.csv"]).ends(3).says("list.csv, line 2").says("block 8 of 8");
    assert!(answer.out.contains("2 recovery secrets sealed"), "{}", answer.shown());

    // The same id with another password: both are kept, and a person has to choose by digest.
    desk.write("other.txt", format!("ID: {{{}}}\n{}\n", ids[0], other_password(44)));
    import(&desk, &["other.txt"]).ends(3).says("escrow-conflict");
    desk.lifeboat(&["escrow", "list"]).ends(3).says("escrow-conflict");
    let answer =
        desk.lifeboat(&["escrow", "reveal", &ids[0], "--reason", "which"]).ends(2).says("2 secrets fit");
    assert!(!answer.shown().contains(&other_password(44)));
    let listed = desk.lifeboat(&["escrow", "list", "--json"]).ends(3).json();
    let mut revealed: Vec<String> = listed["secrets"]
        .as_array()
        .expect("secrets")
        .iter()
        .filter(|one| one["protector"] == ids[0])
        .map(|one| {
            let digest = one["secret"].as_str().expect("a digest");
            desk.lifeboat(&["escrow", "reveal", digest, "--reason", "compare"]).ends(0).out.trim().to_owned()
        })
        .collect();
    revealed.sort_unstable();
    let mut both = [other_password(11), other_password(44)];
    both.sort_unstable();
    assert_eq!(revealed, both);

    // What is no recovery secret at all is refused and writes nothing.
    let before = desk.digests("vault");
    desk.write("notes.txt", "nothing of interest\n");
    import(&desk, &["notes.txt"]).ends(3).says("no recovery secret of any kind");
    assert_eq!(desk.digests("vault"), before);
    in_order(&desk);
}

#[test]
fn files_come_back_byte_for_byte() {
    let desk = desk();
    let id = Guid([9; 16]);
    let key = ExternalKey {
        id,
        created: FileTime(133_000_000_000_000_000),
        saved: FileTime(133_000_000_000_000_000),
        volume_id: None,
        key: Key256::new([5; 32]),
    };
    std::fs::create_dir(desk.path("usb")).expect("a folder");
    desk.write(&format!("usb/{}", key.file_name()), key.encode().as_slice());
    desk.write("usb/os.ebek", "encrypted");
    desk.write("usb/tier1.pdk", "shielding data");
    let report = import(&desk, &["usb", "--json"]).ends(0).json();
    assert_eq!(report["sealed"], 3);
    desk.lifeboat(&["escrow", "reveal", &id.to_string(), "--reason", "test"]).ends(2).says("--out");
    desk.lifeboat(&["escrow", "reveal", &id.to_string(), "--reason", "test", "--out", "back.bek"]).ends(0);
    assert_eq!(std::fs::read(desk.path("back.bek")).expect("it is there"), key.encode().as_slice());
    desk.lifeboat(&["escrow", "reveal", &id.to_string(), "--reason", "test", "--out", "back.bek"]).ends(2);
    let listed = desk.lifeboat(&["escrow", "list", "--json"]).ends(0).json();
    let of_kind = |kind: &str| {
        let found = listed["secrets"].as_array().expect("secrets").iter().find(|one| one["kind"] == kind);
        found.expect("it is listed")["secret"].as_str().expect("a digest").to_owned()
    };
    desk.lifeboat(&["escrow", "reveal", &of_kind("encrypted-key"), "--reason", "t", "--out", "back.ebek"])
        .ends(0);
    assert_eq!(desk.read("back.ebek"), "encrypted");
    // Shielding data is sealed to restore, not to escrow.
    let pdk = of_kind("shielding-data");
    desk.lifeboat(&["escrow", "reveal", &pdk, "--reason", "t", "--out", "a.pdk"]).ends(5);
    let with_restore = ["--identity", "kit/restore.identity"];
    desk.lifeboat(
        &[&["escrow", "reveal", &pdk, "--reason", "t", "--out", "b.pdk"], &with_restore[..]].concat(),
    )
    .ends(0);
    assert_eq!(desk.read("b.pdk"), "shielding data");
    in_order(&desk);
}

#[test]
fn an_importer_goes_on_after_it_lost_its_memory_and_the_store_a_record() {
    let desk = desk();
    let line = |number: u8| format!("{},{}\n", Guid([number; 16]), other_password(number));
    desk.write("first.csv", line(1));
    desk.write("second.csv", [line(1), line(2)].concat());
    import(&desk, &["first.csv"]).ends(0);
    // Without its memory everything is sealed once more, and stands in the list once.
    std::fs::remove_file(desk.path("importer/state/escrow.json")).expect("it is there");
    let report = import(&desk, &["second.csv", "--json"]).ends(0).json();
    assert_eq!(report["sealed"], 2);
    let count =
        || desk.lifeboat(&["escrow", "list", "--json"]).json()["secrets"].as_array().expect("secrets").len();
    assert_eq!(count(), 2);
    // The store loses the newest record: it is put back, and said.
    let ledger = desk.path("vault").join("ledger");
    let mine = std::fs::read_dir(ledger)
        .expect("ledgers")
        .flatten()
        .find(|one| one.file_name().to_string_lossy().starts_with("e-"));
    let mut records: Vec<_> = std::fs::read_dir(mine.expect("the importer's").path())
        .expect("records")
        .flatten()
        .map(|one| one.path())
        .collect();
    records.sort();
    assert_eq!(records.len(), 2);
    std::fs::remove_file(&records[1]).expect("it is there");
    import(&desk, &["second.csv"]).ends(4).says("rollback");
    assert!(records[1].exists(), "it was put back");
    assert_eq!(count(), 2);
    in_order(&desk);
}

#[test]
fn no_answer_log_or_file_holds_a_secret() {
    let desk = desk();
    let known = passwords(&desk);
    let list: String = known.iter().map(|(id, (_, password))| format!("{id},{password}\n")).collect();
    let broken = mistyped(&other_password(77));
    desk.write("list.csv", format!("{list}{},{broken}\n", Guid([7; 16])));
    desk.write(
        "broken.json",
        format!("[{{\"id\": \"{}\", \"key\": \"{}\"", Guid([8; 16]), other_password(78)),
    );
    let mut said = Vec::new();
    for arguments in
        [vec!["list.csv", "broken.json"], vec!["list.csv", "broken.json", "--json"], vec!["missing"]]
    {
        let all = [&["escrow", "import", "--importer", "importer"], arguments.as_slice()].concat();
        said.push(
            desk.program("lifeboat", &all, &[("LIFEBOAT_LOG", "trace"), ("RUST_LOG", "trace")]).shown(),
        );
    }
    said.push(desk.lifeboat(&["escrow", "list"]).shown());
    said.push(desk.lifeboat(&["escrow", "list", "--json"]).shown());
    // A wrong one among them, so that a refusal is told; then everything else that can be read back.
    let (id, _) = known.first_key_value().expect("there are some");
    desk.write("wrong.csv", format!("{id},{}\n", other_password(79)));
    let trace = [("LIFEBOAT_KIT", "kit"), ("LIFEBOAT_LOG", "trace"), ("RUST_LOG", "trace")];
    for arguments in [
        &["escrow", "import", "--importer", "importer", "wrong.csv"][..],
        &["escrow", "prove"],
        &["escrow", "prove", "--again", "--json"],
        &["escrow", "harvest", "--importer", "importer"],
        &["escrow", "harvest", "--importer", "importer", "--json"],
        &["escrow", "reveal", id, "--reason", "which"],
        &["recover", "missing.vhdx", "--recovery-password-file", "list.csv", "--verify-only"],
    ] {
        said.push(desk.program("lifeboat", arguments, &trace).shown());
    }
    let run = ["run", "--once", "--config", "importer/importer.toml"];
    desk.edit("importer/importer.toml", |text| {
        format!("{text}\n[[escrow]]\nname = \"list\"\npath = \"../list.csv\"\n")
    });
    said.push(desk.program("lifeboat-agent", &run, &trace).shown());
    said.push(desk.program("lifeboat-agent", &[&run[..], &["--json"]].concat(), &trace).shown());
    said.push(desk.lifeboat(&["check", "--read-data", "--json"]).shown());
    let mut needles: Vec<String> = known.values().map(|(_, password)| password.clone()).collect();
    needles.extend([broken, other_password(78), other_password(79)]);
    // With and without dashes, and any half of one: no part may stand anywhere.
    let halves = |text: &String| [text[..27].to_owned(), text[28..].to_owned(), text.replace('-', "")];
    let needles: Vec<String> = needles.iter().flat_map(halves).collect();
    let mut searched = 0;
    let mut search = |what: &str, bytes: &[u8]| {
        searched += 1;
        for needle in &needles {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle.as_bytes()),
                "{what} holds a secret"
            );
        }
    };
    for text in &said {
        search("an answer or log", text.as_bytes());
    }
    for folder in ["importer", "vault", "kit"] {
        for path in desk.digests(folder).into_keys() {
            search(&path.display().to_string(), &std::fs::read(&path).expect("readable"));
        }
    }
    told(&format!("escrow: {searched} texts and files searched for {} parts of secrets", needles.len()));
}

/// A double of Entra ID with these keys; ends with the process.
fn graph(keys: BTreeMap<String, String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).expect("a request");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a header");
                match line.trim_end().to_ascii_lowercase().split_once(": ") {
                    Some(("content-length", value)) => length = value.parse().expect("a number"),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let path = first.split([' ', '?']).nth(1).unwrap_or_default();
            let of_key = path.rsplit('/').next().and_then(|id| Some((id, keys.get(id)?)));
            let is_right = String::from_utf8_lossy(&body).contains("client_secret=opensesame");
            let (status, text) = match (path, of_key) {
                ("/tenant/oauth2/v2.0/token", _) if is_right => (200, r#"{"access_token": "t"}"#.to_owned()),
                ("/tenant/oauth2/v2.0/token", _) => (401, r#"{"error": "invalid_client"}"#.to_owned()),
                (_, Some((id, key))) => (200, format!(r#"{{"id": "{id}", "key": "{key}"}}"#)),
                _ => {
                    let listed: Vec<String> = keys.keys().map(|id| format!(r#"{{"id": "{id}"}}"#)).collect();
                    (200, format!(r#"{{"value": [{}]}}"#, listed.join(",")))
                }
            };
            let length = text.len();
            // A client that is gone needs no answer.
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
            );
        }
    });
    format!("http://127.0.0.1:{port}")
}

#[cfg(unix)]
#[test]
fn a_tenant_is_asked_for_what_is_new() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = desk();
    import(&desk, &[]).ends(2).says("[[entra]]");
    let known = passwords(&desk);
    let url = graph(known.iter().map(|(id, (_, password))| (id.clone(), password.clone())).collect());
    desk.edit("importer/importer.toml", |text| {
        format!(
            "{text}\n[[entra]]\nname = \"contoso\"\ntenant = \"tenant\"\nclient_id = \"c\"\nsecret_file = \"entra.secret\"\nlogin_url = {url:?}\ngraph_url = \"{url}/v1.0\"\n"
        )
    });
    let allow = |mode| {
        let path = desk.path("importer/entra.secret");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    desk.write("importer/entra.secret", "wrong\n");
    allow(0o644);
    import(&desk, &[]).ends(5).says("others can read");
    allow(0o600);
    let refused = import(&desk, &[]).ends(5).says("invalid_client");
    assert!(!refused.shown().contains("wrong"), "{}", refused.shown());
    desk.write("importer/entra.secret", "opensesame\n");
    // What a file told of a key keeps no tenant from being asked for it.
    let (id, (_, password)) = known.first_key_value().expect("there are some");
    desk.write("one.csv", format!("{id},{password}\n"));
    import(&desk, &["one.csv"]).ends(0);
    let report = import(&desk, &["--json"]).ends(0).json();
    assert_eq!((&report["sealed"], &report["sources"][0]["source"]), (&known.len().into(), &"entra".into()));
    let report = import(&desk, &["--json"]).ends(0).json();
    assert_eq!((&report["record"], &report["sources"][0]["found"]), (&serde_json::Value::Null, &0.into()));
    in_order(&desk);
}

#[test]
fn the_agent_imports_what_lies_in_a_folder_and_nothing_twice() {
    let desk = desk();
    let known = passwords(&desk);
    let agent =
        |exit| desk.agent(&["run", "--once", "--config", "importer/importer.toml", "--json"]).ends(exit);
    agent(2).says("[[escrow]]");
    desk.edit("importer/importer.toml", |text| {
        format!("{text}\n[[escrow]]\nname = \"exports\"\npath = \"exports\"\n")
    });
    std::fs::create_dir(desk.path("importer/exports")).expect("a folder");
    // A folder without a file is no success.
    agent(3).says("escrow-folder-empty");
    let list: String = known.iter().map(|(id, (_, password))| format!("{id},{password}\n")).collect();
    desk.write("importer/exports/list.csv", &list);
    let report = agent(0).json();
    assert_eq!(report["sealed"], known.len());
    // Touched, and with the same in it: nothing is sealed again.
    let before = desk.digests("vault");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(desk.path("importer/exports/list.csv")).expect("it");
    file.set_modified(later).expect("a time");
    assert_eq!(agent(0).json()["record"], serde_json::Value::Null);
    assert_eq!(desk.digests("vault"), before);
    // One source that cannot be read stops no other.
    desk.edit("importer/importer.toml", |text| {
        format!("{text}\n[[escrow]]\nname = \"gone\"\npath = \"gone.csv\"\n")
    });
    desk.write("importer/exports/more.csv", format!("{},{}\n", Guid([3; 16]), other_password(3)));
    let report = agent(3).says("escrow-source-failed").json();
    assert_eq!(report["sealed"], 1);
    in_order(&desk);
}

#[test]
fn nothing_that_was_not_read_looks_like_success() {
    let desk = desk();
    desk.write("good.csv", format!("{},{}\n", Guid([3; 16]), other_password(3)));
    let report = import(&desk, &["missing.csv", "good.csv", "--json"]).ends(3).says("missing.csv").json();
    assert_eq!(report["sealed"], 1);
    import(&desk, &["missing.csv"]).ends(1).says("missing.csv");
    // A list of Graph holds no key.
    desk.write(
        "graph.json",
        format!(
            r#"{{"value": [{{"id": "{}", "createdDateTime": "2020-06-15T13:45:30Z", "deviceId": "x"}}]}}"#,
            Guid([4; 16])
        ),
    );
    import(&desk, &["graph.json"]).ends(3).says("only listed");
    desk.lifeboat(&["escrow", "list", "--vm", "typo"]).ends(1).says("no VM \"typo\"");

    // Lists that cannot be read are not the same as nothing that is escrowed.
    let importer = std::fs::read_dir(desk.path("vault/objects"))
        .expect("objects")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("e-"))
        .expect("the importer's");
    for object in std::fs::read_dir(importer.path()).expect("objects").flatten() {
        std::fs::write(object.path(), "spoilt").expect("written");
    }
    desk.lifeboat(&["escrow", "reveal", &Guid([3; 16]).to_string(), "--reason", "x"])
        .ends(4)
        .says("cannot be read");
}
