//! Bad input and bad surroundings: what is wrong, why, what to do, with which exit code; and nothing is lost.

use std::sync::Arc;

use lifeboat_schema::{Severity, VaultId};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::{AgeOptions, Fabric, FabricOptions, Mix, VmKind, VmPlan};
use lifeboat_vault::store::{ConditionalCreate, StorePath};
use object_store::memory::InMemory;

use super::desk::{Desk, file_url};
use crate::life;

/// Options under which a store that is down is given up soon.
const SOON: &str = "\nconnect_timeout_seconds = 2\nrequest_timeout_seconds = 2\n\
                    [store.options.retry]\nmax_retries = 1\ninitial_backoff_milliseconds = 10\n\
                    max_backoff_seconds = 1\ntotal_timeout_seconds = 8\n";

/// Text of a configuration whose `[store]` is an S3 service that nobody serves.
fn closed_port(text: &str) -> String {
    let (before, after) = text.split_once("[store]").expect("a store");
    // What follows the store's own tables: the agent's configuration goes on.
    let rest = after.find("\n[snapshot]").map_or("", |at| &after[at..]);
    format!(
        "{before}[store]\nurl = \"s3://bucket/prefix\"\n[store.options]\nendpoint = \"http://127.0.0.1:9\"{SOON}{rest}"
    )
}

#[test]
fn a_store_that_cannot_be_reached() {
    let desk = Desk::with_snapshot();
    desk.copy_kit("far");
    desk.edit("far/vault.toml", closed_port);
    desk.write("agent/far.toml", closed_port(&desk.read("agent/agent.toml")));
    let credentials = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-store")];
    desk.loses_nothing(|| {
        let kit = [credentials[0], credentials[1], ("LIFEBOAT_KIT", "far")];
        for arguments in [&["vms"][..], &["check"], &["restore", "x", "--to", "x"]] {
            let answer = desk.program("lifeboat", arguments, &kit).ends(1).says("could not be reached");
            assert!(!answer.shown().contains("a-secret-of-the-store"));
        }
        let catalog = desk.digests("agent/state");
        let answer =
            desk.program("lifeboat-agent", &["run", "--once", "--config", "agent/far.toml"], &credentials);
        let answer = answer.ends(1).says("could not be reached");
        assert!(!answer.shown().contains("a-secret-of-the-store"));
        assert_eq!(desk.digests("agent/state"), catalog, "the agent's memory is as it was");
    });
    // It goes on where it was as soon as the store is back.
    desk.run().ends(0).says("Record 2 committed: 3 VMs found, 0 captured, 3 unchanged");
}

#[test]
fn a_folder_that_is_not_mounted() {
    let desk = Desk::with_snapshot();
    std::fs::rename(desk.path("vault"), desk.path("elsewhere")).expect("unmounted");
    let answers = [
        desk.lifeboat(&["vms"]).ends(2).says("Check that its disk or share is mounted"),
        desk.run().ends(2).says("Check that its disk or share is mounted"),
    ];
    assert!(!desk.path("vault").exists(), "no new vault begins there");
    desk.snapshot("error-folder-missing", &answers);
    // Mounted, but the wrong one: an empty folder.
    std::fs::create_dir(desk.path("vault")).expect("an empty folder");
    desk.lifeboat(&["vms"]).ends(2).says("holds no vault");
    desk.run().ends(2).says("holds no vault");
    std::fs::remove_dir(desk.path("vault")).expect("still empty");
    std::fs::rename(desk.path("elsewhere"), desk.path("vault")).expect("mounted");
    desk.lifeboat(&["check", "--read-data"]).ends(0);
}

#[test]
fn wrong_identities_and_keys() {
    let desk = Desk::with_snapshot();
    let store = file_url(&desk.path("other-vault"));
    desk.lifeboat(&["init", "--store", &store, "--out", "other", "--no-passphrase"]).ends(0);
    let vm = desk.fabric.answers().vms[0].name.clone();
    let bare = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    desk.write("bare.identity", bare(&desk.read("other/restore.identity")));
    desk.write("empty.identity", "# nothing\n");
    desk.loses_nothing(|| {
        let restore = |identity: &str| desk.lifeboat(&["restore", &vm, "--to", "x", "--identity", identity]);
        let answers = [
            // It says to which vault it belongs.
            restore("other/restore.identity").ends(4).says("belongs to the vault"),
            // It does not say, and opens nothing.
            restore("bare.identity").ends(5),
            desk.lifeboat(&["vms", "--identity", "bare.identity"]).ends(5).says("opens nothing"),
            desk.lifeboat(&["check", "--identity", "bare.identity"]).ends(5).says("opens nothing"),
            // Another role of this vault.
            restore("kit/audit.identity").ends(5).says("not a restore identity"),
            restore("kit/escrow.identity").ends(5).says("not a restore identity"),
            restore("empty.identity").ends(2).says("age-keygen"),
            restore("missing.identity").ends(1).says("missing.identity"),
            desk.lifeboat(&["vms", "--identity", "kit/admin-1.key"]).ends(2).says("age-keygen"),
        ];
        assert!(!desk.path("x").exists(), "nothing was written");
        desk.snapshot("error-identities", &answers);
        // The audit identity lists and plans.
        desk.lifeboat(&["vms", "--identity", "kit/audit.identity"]).ends(0);
        desk.lifeboat(&["restore", &vm, "--plan", "--identity", "kit/audit.identity"]).ends(0);
        // Another vault's admin key signs nothing here.
        let enroll = ["host", "enroll", "hv02", "--out", "agent-2", "--admin-key", "other/admin-1.key"];
        let answer = desk.lifeboat(&enroll).ends(5).says("none of this vault's admin keys");
        assert!(!desk.path("agent-2").exists() && !desk.path("agent-2.partial").exists());
        desk.snapshot("error-admin-key", &[answer]);
    });
}

#[test]
fn identities_that_are_not_in_the_kit() {
    let desk = Desk::with_snapshot();
    desk.copy_kit("auditor");
    for name in ["restore.identity", "escrow.identity"] {
        std::fs::remove_file(desk.path("auditor").join(name)).expect("not the auditor's");
    }
    let auditor = |arguments: &[&str]| desk.program("lifeboat", arguments, &[("LIFEBOAT_KIT", "auditor")]);
    desk.loses_nothing(|| {
        auditor(&["vms"]).ends(0);
        auditor(&["check", "--read-data"]).ends(0);
        auditor(&["restore", "--all", "--to", "x"]).ends(5).says("restore.identity");
        auditor(&["host", "enroll", "hv02", "--out", "agent-2"]).ends(5).says("nothing is enrolled");
        assert!(!desk.path("agent-2").exists() && !desk.path("agent-2.partial").exists());
    });
}

#[test]
fn passphrases() {
    let desk = Desk::new();
    let store = desk.store_url();
    desk.write("right", "correct horse battery staple\n");
    desk.write("wrong", "incorrect horse\n");
    desk.write("empty", "\n");
    desk.lifeboat(&["init", "--store", &store, "--out", "kit"]).ends(2).says("--passphrase-file");
    assert!(desk.digests("vault").is_empty() && !desk.path("kit").exists());
    desk.lifeboat(&["init", "--store", &store, "--out", "kit", "--passphrase-file", "right"]).ends(0);
    desk.loses_nothing_with(&["--passphrase-file", "right"], || {
        let answers = [
            desk.lifeboat(&["check", "--passphrase-file", "wrong"]).ends(5),
            desk.lifeboat(&["check"]).ends(5).says("--passphrase-file"),
            desk.lifeboat(&["check", "--passphrase-file", "empty"]).ends(5).says("holds no passphrase"),
            desk.lifeboat(&["check", "--passphrase-file", "missing"]).ends(1),
            desk.lifeboat(&["host", "enroll", "hv01", "--out", "agent", "--passphrase-file", "wrong"])
                .ends(5),
        ];
        for answer in &answers {
            assert!(!answer.shown().contains("horse"), "a passphrase is in {}", answer.shown());
        }
        desk.snapshot("error-passphrase", &answers);
    });
    let root = desk.root();
    let enroll = ["host", "enroll", "hv01", "--root", &root, "--out", "agent", "--passphrase-file", "right"];
    desk.lifeboat(&enroll).ends(0);
    desk.run().ends(0);
    desk.lifeboat(&["restore", "--all", "--to", "back", "--passphrase-file", "right"]).ends(0);
}

#[test]
fn a_pinned_id_that_is_not_the_vaults() {
    let desk = Desk::with_snapshot();
    let (id, other) = (desk.vault_id(), VaultId::of(b"another vault").to_string());
    desk.copy_kit("wrong");
    desk.edit("wrong/vault.toml", |text| text.replace(&id, &other));
    desk.write("agent/wrong.toml", desk.read("agent/agent.toml").replace(&id, &other));
    desk.loses_nothing(|| {
        let answers = [
            desk.program("lifeboat", &["vms"], &[("LIFEBOAT_KIT", "wrong")]).ends(4).says(&other),
            desk.agent(&["run", "--once", "--config", "agent/wrong.toml"]).ends(4).says(&other),
        ];
        desk.snapshot("error-vault-id", &answers);
    });
}

#[test]
fn a_vault_of_a_newer_format() {
    let desk = Desk::with_snapshot();
    let head = desk.read("vault/vault.json");
    let newer = head.replace("\"v\":1", "\"v\":2");
    assert_ne!(newer, head);
    let (id, other) = (desk.vault_id(), VaultId::of(newer.as_bytes()).to_string());
    desk.copy_kit("newer");
    desk.edit("newer/vault.toml", |text| text.replace(&id, &other));
    desk.write("agent/newer.toml", desk.read("agent/agent.toml").replace(&id, &other));
    desk.loses_nothing(|| {
        desk.write("vault/vault.json", &newer);
        let answers = [
            desk.program("lifeboat", &["vms"], &[("LIFEBOAT_KIT", "newer")])
                .ends(1)
                .says("use a newer Lifeboat"),
            desk.agent(&["run", "--once", "--config", "agent/newer.toml"])
                .ends(1)
                .says("use a newer Lifeboat"),
        ];
        desk.write("vault/vault.json", &head);
        desk.snapshot("error-newer-format", &answers);
    });
}

#[test]
fn configurations_that_are_refused() {
    let desk = Desk::with_snapshot();
    let good = desk.read("agent/agent.toml");
    let run = |name: &str, text: String| {
        desk.write(&format!("agent/{name}.toml"), text);
        let config = format!("agent/{name}.toml");
        let checked = desk.agent(&["config", "check", "--config", &config]).ends(2);
        let answer = desk.agent(&["run", "--once", "--config", &config]).ends(2);
        assert_eq!(checked.err, answer.err, "both refuse it with the same words");
        answer
    };
    desk.copy_kit("odd");
    desk.edit("odd/vault.toml", |text| format!("colour = \"red\"\n{text}"));
    desk.loses_nothing(|| {
        let answers = [
            run("unknown-key", format!("colour = \"red\"\n{good}")).says("colour"),
            run("unknown-nested-key", good.replace("[snapshot]", "[snapshot]\ncolour = 1")).says("colour"),
            run("out-of-range", good.replace("compression_level = 1", "compression_level = 77"))
                .says("1 to 19"),
            run("no-toml", "this is no configuration".to_owned()),
            run("bad-id", good.replace("writer = \"h-", "writer = \"H ")),
            desk.agent(&["run", "--once", "--config", "agent/missing.toml"]).ends(2).says("--config"),
            desk.program("lifeboat", &["vms"], &[("LIFEBOAT_KIT", "odd")]).ends(2).says("colour"),
            desk.program("lifeboat", &["vms"], &[("LIFEBOAT_KIT", "nowhere")]).ends(2).says("--kit"),
        ];
        desk.snapshot("error-configuration", &answers);
    });
}

#[test]
fn places_that_are_taken_already() {
    let desk = Desk::with_snapshot();
    let vm = desk.fabric.answers().vms[0].name.clone();
    std::fs::create_dir_all(desk.path("back").join(&vm)).expect("a folder");
    desk.write(&format!("back/{vm}/precious"), "mine");
    let store = desk.store_url();
    desk.loses_nothing(|| {
        let keys = || {
            let mut kit = desk.digests("kit");
            kit.remove(&desk.path("kit/seen.json"));
            kit
        };
        let before = keys();
        let answers = [
            desk.lifeboat(&["restore", &vm, "--to", "back"]).ends(2).says("nothing is overwritten"),
            desk.lifeboat(&["restore", "--all", "--to", "back"]).ends(2).says("nothing is overwritten"),
            desk.lifeboat(&["init", "--store", &store, "--out", "kit-2", "--no-passphrase"])
                .ends(2)
                .says("holds a vault already"),
            desk.lifeboat(&["init", "--store", &store, "--out", "kit", "--no-passphrase"])
                .ends(2)
                .says("nothing is overwritten"),
            desk.lifeboat(&["host", "enroll", "hv02", "--out", "agent"])
                .ends(2)
                .says("nothing is overwritten"),
        ];
        assert_eq!(desk.read(&format!("back/{vm}/precious")), "mine");
        assert_eq!(desk.digests("back").len(), 1, "nothing was put beside it");
        assert!(!desk.path("kit-2").exists());
        assert_eq!(keys(), before);
        desk.snapshot("error-exists", &answers);
    });
}

#[test]
fn a_destination_that_cannot_be_written() {
    let desk = Desk::with_snapshot();
    let vm = desk.fabric.answers().vms[0].name.clone();
    desk.write("file", "a file, not a folder");
    desk.loses_nothing(|| {
        desk.lifeboat(&["restore", &vm, "--to", "file"]).ends(1).says("choose another with --to");
        assert_eq!(desk.read("file"), "a file, not a folder");
    });
}

#[test]
fn names_and_times_that_do_not_tell() {
    let desk = Desk::with_snapshot();
    // Another host with another VM of the same name.
    let name = desk.fabric.answers().vms[0].name.clone();
    let namesake = (100..400).find_map(|seed| {
        let mix = Mix::Only(vec![VmPlan::new(VmKind::WithoutVtpm, [])]);
        let folder = desk.path(&format!("namesake-{seed}"));
        let fabric =
            Fabric::generate(&folder, &FabricOptions { mix, ..tiny_fabric(1, seed) }).expect("a fabric");
        (fabric.answers().vms[0].name == name).then_some(fabric)
    });
    let namesake = namesake.expect("ten names and three hundred seeds");
    let root = namesake.host_dir("host-1").display().to_string();
    desk.lifeboat(&["host", "enroll", "hv02", "--root", &root, "--out", "agent-2"]).ends(0);
    desk.agent(&["run", "--once", "--config", "agent-2/agent.toml"]).ends(0);
    desk.loses_nothing(|| {
        let ambiguous = desk.lifeboat(&["restore", &name, "--to", "x"]).ends(2).says("give the id of one");
        let id = &namesake.answers().vms[0].vm_id;
        let ambiguous = ambiguous.says(id).says(&desk.fabric.answers().vms[0].vm_id);
        let answers = [
            ambiguous,
            desk.lifeboat(&["restore", "nobody", "--to", "x"]).ends(1).says("lifeboat snapshots"),
            desk.lifeboat(&["restore", &name, "--to", "x", "--at", "yesterday"]).ends(2).says("--at"),
            desk.lifeboat(&["restore", &name, "--to", "x", "--at", "2026-02-30T00:00:00Z"])
                .ends(2)
                .says("--at"),
            desk.lifeboat(&["restore", &name]).ends(2).says("--to"),
            desk.lifeboat(&["restore", "--to", "x"]).ends(2),
            desk.lifeboat(&["restore", &name, "--all", "--to", "x"]).ends(2),
            desk.lifeboat(&["check", "--keyless", "--identity", "kit/audit.identity"]).ends(2),
            desk.lifeboat(&["host", "enroll", " ", "--out", "agent-3"]).ends(2).says("host's name"),
        ];
        assert!(!desk.path("x").exists() && !desk.path("agent-3").exists());
        desk.snapshot("error-names", &answers);
        // By id and in any case it is one VM.
        desk.lifeboat(&["restore", &id.to_uppercase(), "--to", "by-id"]).ends(0);
    });
}

#[test]
fn a_second_agent_on_one_folder() {
    let desk = Desk::with_snapshot();
    let lock = std::fs::File::options().write(true).open(desk.path("agent/state/lock")).expect("the lock");
    lock.try_lock().expect("nobody holds it");
    desk.loses_nothing(|| {
        let answer = desk.run().ends(1).says("another agent is running");
        desk.snapshot("error-locked", &[answer]);
    });
    drop(lock);
    desk.run().ends(0);
}

#[cfg(unix)]
#[test]
fn a_signing_key_that_others_can_read_or_nobody_can() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::with_snapshot();
    let key = desk.path("agent/signing.key");
    let text = desk.read("agent/signing.key");
    let other = desk.read("kit/operator.key");
    desk.loses_nothing(|| {
        let mode =
            |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("its mode");
        mode(0o644);
        let exposed = desk.run().ends(5).says("chmod 600");
        mode(0o600);
        desk.write("agent/signing.key", "no key");
        let spoilt = desk.run().ends(5).says("not an OpenSSH key");
        desk.write("agent/signing.key", other);
        let foreign = desk.run().ends(5).says("another key");
        std::fs::remove_file(&key).expect("gone");
        let missing = desk.run().ends(5).says("bring it back");
        let answers = [exposed, spoilt, foreign, missing];
        for answer in &answers {
            assert!(!answer.shown().contains("PRIVATE KEY"), "{}", answer.shown());
        }
        desk.snapshot("error-signing-key", &answers);
    });
    desk.write("agent/signing.key", text);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    desk.run().ends(0);
}

#[test]
fn roots_that_are_not_there() {
    let desk = Desk::with_snapshot();
    std::fs::rename(desk.path("fabric"), desk.path("gone")).expect("unmounted");
    // VMs whose storage is away are not called vanished without a word.
    let answer = desk.run().ends(3);
    desk.snapshot("error-roots", &[answer]);
    desk.lifeboat(&["restore", "--all", "--to", "back"]).ends(0);
    std::fs::rename(desk.path("gone"), desk.path("fabric")).expect("mounted");
    desk.run().ends(0);
}

#[test]
fn roots_that_would_lie_beside_the_configuration() {
    let desk = Desk::new();
    desk.init().ends(0);
    desk.loses_nothing(|| {
        let enroll = ["host", "enroll", "hv01", "--root", "fabric/host-1", "--out", "agent"];
        desk.lifeboat(&enroll).ends(2).says("is no absolute path");
    });
    assert!(!desk.path("agent").exists());
}

#[test]
fn memories_that_are_spoilt() {
    let desk = Desk::with_snapshot();
    desk.lifeboat(&["vms"]).ends(0);
    desk.loses_nothing(|| {
        let seen = desk.read("kit/seen.json");
        desk.write("kit/seen.json", "{");
        desk.lifeboat(&["vms"]).ends(1).says("seen.json");
        desk.write("kit/seen.json", seen);
    });
    desk.write("agent/state/catalog.sqlite", "this is no database, however long it may be");
    let answer = desk.run();
    assert_ne!(answer.code, 0, "{}", answer.shown());
    std::fs::remove_file(desk.path("agent/state/catalog.sqlite")).expect("gone");
    desk.run().ends(0).says("3 captured");
    desk.lifeboat(&["check", "--read-data"]).ends(0);
}

#[test]
fn one_damaged_vm_keeps_no_other_away() {
    let mut desk = Desk::with_snapshot();
    let before = desk.digests("vault");
    let changed = desk.fabric.age(&AgeOptions::change(1, 34.0)).expect("a change");
    assert_eq!(changed.changed.len(), 1);
    desk.run().ends(0);
    // What the second run stored: a body, and bundles of the VM that changed, larger than it.
    let new = desk.digests("vault").into_keys().filter(|path| !before.contains_key(path));
    let new = new.filter(|path| path.extension().is_some_and(|extension| extension == "age"));
    let size = |path: &std::path::PathBuf| std::fs::metadata(path).expect("an object").len();
    let bundle = new.max_by_key(size).expect("a bundle");
    let whole = std::fs::read(&bundle).expect("readable");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("bytes") ^= 1;
    std::fs::write(&bundle, &damaged).expect("writable");

    let answer = desk.lifeboat(&["restore", "--all", "--to", "back"]).ends(4).says("[not-restored]");
    assert!(answer.shown().contains("2 VMs restored, each in its folder"), "{}", answer.shown());
    let vms = &desk.fabric.answers().vms;
    let back = vms.iter().filter(|vm| desk.path("back").join(&vm.name).is_dir()).count();
    assert_eq!((vms.len(), back), (3, 2));
    // Alone it is an error, and nothing is left of it.
    let name = vms.iter().map(|vm| &vm.name).find(|name| !desk.path("back").join(name).exists());
    desk.lifeboat(&["restore", name.expect("the damaged one"), "--to", "alone"]).ends(4);
    assert!(!desk.path("alone").exists());
    std::fs::write(&bundle, &whole).expect("writable");
    desk.lifeboat(&["restore", "--all", "--to", "again"]).ends(0).says("3 VMs restored");
}

#[test]
fn a_vault_that_was_tampered_with() {
    let desk = Desk::with_snapshot();
    desk.run().ends(0);
    desk.lifeboat(&["vms"]).ends(0);
    let all = desk.digests("vault");
    let record = all.keys().find(|path| path.display().to_string().contains("/0000000002-"));
    let record = record.filter(|path| path.display().to_string().contains("h-")).cloned();
    let host = |path: &&std::path::PathBuf| {
        let path = path.display().to_string();
        path.contains("/h-") && path.contains("/0000000002-")
    };
    let record = record.or_else(|| all.keys().find(host).cloned()).expect("the host's second record");
    let bytes = std::fs::read(&record).expect("readable");

    // Rolled back: the kit remembers.
    std::fs::remove_file(&record).expect("gone");
    let rolled_back = desk.lifeboat(&["check"]).ends(4).says("[rollback]");
    desk.lifeboat(&["vms"]).ends(4).says("[rollback]");
    std::fs::write(&record, &bytes).expect("back");

    // vault.json taken out: that is no missing vault.
    let head = desk.read("vault/vault.json");
    std::fs::remove_file(desk.path("vault/vault.json")).expect("gone");
    let headless = desk.lifeboat(&["check"]).ends(4).says("vault.json");
    desk.write("vault/vault.json", head);

    // An object spoilt: the check names it, the restore refuses it, `vms` still lists.
    let object =
        all.keys().find(|path| path.display().to_string().contains("objects/h-")).expect("an object");
    let mut spoilt = std::fs::read(object).expect("readable");
    let genuine = spoilt.clone();
    let at = spoilt.len() - 40;
    spoilt[at] ^= 1;
    std::fs::write(object, &spoilt).expect("spoilt");
    desk.lifeboat(&["check", "--read-data"]).ends(4).says("DAMAGE [object-damaged]");
    std::fs::write(object, &genuine).expect("back");

    // The body spoilt that says which VMs there are: that is no missing VM.
    let mut spoilt_bodies = 0;
    for path in all.keys().filter(|path| path.display().to_string().contains("objects/h-")) {
        let genuine = std::fs::read(path).expect("readable");
        std::fs::write(path, &genuine[..genuine.len() - 1]).expect("spoilt");
        let vm = &desk.fabric.answers().vms[0].name;
        let answer = desk.lifeboat(&["restore", vm, "--to", "x"]);
        if answer.shown().contains("no snapshot") {
            answer.ends(4).says("because of damage");
            spoilt_bodies += 1;
        } else {
            let _ = std::fs::remove_dir_all(desk.path("x"));
        }
        std::fs::write(path, &genuine).expect("back");
    }
    assert_eq!(spoilt_bodies, 1, "one body describes all VMs");
    desk.snapshot("error-tampered", &[rolled_back, headless]);
    desk.lifeboat(&["check", "--read-data"]).ends(0);
}

/// Some servers take a conditional create for an ordinary write. Nothing rests on conditions.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions() {
    let (store, faults) = life::faulty(Arc::new(InMemory::new()));
    faults.ignore_conditions(true);
    let probe = StorePath::parse("probe/one").expect("a good name");
    let answer = store.probe_conditional_create(&probe).await.expect("a probe");
    assert!(matches!(answer, ConditionalCreate::Ignored), "`init` warns of it: {answer:?}");
    let mut stage = Stage::set(store, "memory://", &tiny_fabric(2, 51)).await;
    let host = stage.enroll("host-1").await.expect("enrolled");
    for round in 1..4 {
        stage.run(host).await.expect("a run");
        let age = lifeboat_tests::testfabric::AgeOptions::change(round, 50.0);
        stage.fabric.age(&age).expect("time passes");
    }
    stage.run(host).await.expect("a run");
    stage.assert_all_come_back().await;
    let report = stage.check().await.expect("a check");
    assert!(report.findings.iter().all(|f| f.severity == Severity::Note), "{:?}", report.findings);
    // What such a store lets happen is noticed: a record is overwritten by another.
    let paths = crate::tamper::files_of(&stage.vault.store).await;
    let mut records = paths.iter().filter(|(path, _)| path.starts_with("ledger/h-"));
    let (first, second) = (records.next().expect("a record"), records.next().expect("another"));
    faults.replace(second.0, first.1.clone()).await.expect("overwritten");
    let report = stage.check().await.expect("a check");
    assert!(report.findings.iter().any(|f| f.severity == Severity::Damage && f.place == *second.0));
}
