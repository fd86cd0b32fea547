//! Proofs through the real programs: what opens is recorded, what changed alone costs anything, and nothing is shown.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_fve::RecoveryPassword;
use lifeboat_prove::Proofs;
use lifeboat_schema::{ProofEntry, ProofOutcome};
use lifeboat_tests::testfabric::AgeOptions;
use lifeboat_vault::seal::{Identities, NoCallbacks};
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::{Memory, Vault};
use serde_json::Value;

use super::desk::Desk;
use super::escrow::{desk, import, in_order, ledger_length, passwords};
use crate::told;

/// Imports every recovery password of the fabric.
fn import_all(desk: &Desk) -> BTreeMap<String, (String, String)> {
    let known = passwords(desk);
    let list: String = known.iter().map(|(id, (_, password))| format!("{id},{password}\n")).collect();
    desk.write("list.csv", list);
    import(desk, &["list.csv"]).ends(0);
    known
}

/// What a vault says of proofs to one identity.
fn proofs(desk: &Desk, role: &str) -> Proofs {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(&desk.store_url(), &StoreOptions::default(), &|_| None).expect("the store");
        let id = desk.vault_id().parse().expect("a vault id");
        let vault = Vault::open(store, &id).await.expect("the vault");
        let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
        let identity = desk.read(&format!("kit/{role}.identity"));
        let identities = Identities::parse(identity.as_bytes(), None, NoCallbacks).expect("an identity");
        let proofs = Proofs::read(&vault, &ledgers, &identities).await.expect("proofs");
        assert!(proofs.findings.is_empty(), "{:?}", proofs.findings);
        proofs
    })
}

fn outcome_of<'p>(proofs: &'p Proofs, protector: &str) -> Vec<&'p ProofEntry> {
    proofs.newest.values().filter(|entry| entry.protector == protector).collect()
}

fn prove(desk: &Desk, exit: i32) -> Value {
    desk.lifeboat(&["escrow", "prove", "--json"]).ends(exit).json()["counts"].clone()
}

fn number(counts: &Value, name: &str) -> u64 {
    counts[name].as_u64().unwrap_or_else(|| panic!("{name} in {counts}"))
}

/// BitLocker volumes that exist now, by id, with the digest of their metadata and whether a clear key stands on them.
fn volumes(desk: &Desk) -> BTreeMap<String, (String, bool)> {
    let files = desk.fabric.answers().vms.iter().flat_map(|vm| &vm.disk_files);
    files
        .filter_map(|file| file.volume.as_ref())
        .filter_map(|volume| {
            let metadata = volume.fve_metadata?.to_string();
            Some((volume.volume_id.clone()?, (metadata, volume.is_suspended)))
        })
        .collect()
}

#[test]
fn every_secret_is_proved_once_and_only_what_changed_again() {
    let mut desk = desk();
    desk.lifeboat(&["escrow", "prove"]).ends(0).says("Nothing new to record");
    let known = import_all(&desk);
    // The auditor cannot prove, and the vault is as it was.
    let before = desk.digests("vault");
    desk.lifeboat(&["escrow", "prove", "--identity", "kit/audit.identity"]).ends(5).says("escrow identity");
    desk.lifeboat(&["escrow", "prove", "--vm", "nobody"]).ends(1).says("no VM \"nobody\"");
    assert_eq!(desk.digests("vault"), before);

    let answer = desk.lifeboat(&["escrow", "prove"]).ends(0).says("stretches").says("Record ");
    assert!(!answer.shown().contains("refused"), "{}", answer.shown());
    assert_eq!(ledger_length(&desk, "op-"), 1);
    // The audit identity reads them, and each is proved on data.
    let first = proofs(&desk, "audit");
    let now = volumes(&desk);
    for id in known.keys() {
        let entries = outcome_of(&first, id);
        assert!(!entries.is_empty(), "{id}");
        for entry in entries {
            assert_eq!(entry.outcome, ProofOutcome::Data, "{id}");
            assert_eq!(now[&entry.volume].0, entry.metadata.to_string());
        }
    }
    // Once more there is nothing to do, and nothing is written.
    let before = desk.digests("vault");
    let counts = prove(&desk, 0);
    assert_eq!((number(&counts, "stretches"), number(&counts, "changed")), (0, 0));
    assert_eq!(number(&counts, "known"), first.newest.len() as u64);
    assert_eq!(desk.digests("vault"), before);

    // Time passes: other metadata, other volume master keys, some suspended.
    let old: BTreeSet<String> = now.values().map(|(metadata, _)| metadata.clone()).collect();
    desk.fabric.age(&AgeOptions::change(1, 100.0)).expect("time passes");
    desk.run();
    let now = volumes(&desk);
    let changed = now.values().filter(|(metadata, _)| !old.contains(metadata)).count() as u64;
    assert!(changed > 0, "the fabric changes metadata");
    let counts = prove(&desk, 0);
    assert!(number(&counts, "changed") <= changed, "{counts} for {changed} changed volumes");
    assert!(number(&counts, "data") > 0);
    assert!(
        number(&counts, "stretches") * 10 <= number(&counts, "changed") * 11,
        "at most 1.1 stretches for each: {counts}"
    );
    let second = proofs(&desk, "audit");
    assert!(second.newest.len() > first.newest.len());
    for id in known.keys() {
        assert!(outcome_of(&second, id).iter().all(|entry| entry.outcome == ProofOutcome::Data), "{id}");
    }
    told(&format!(
        "prove: {} volumes changed, {} stretches for {} proofs",
        number(&counts, "changed"),
        number(&counts, "stretches"),
        number(&counts, "data")
    ));
    in_order(&desk);
}

#[test]
fn what_does_not_open_is_told_with_its_volume() {
    let desk = desk();
    let known = passwords(&desk);
    let (id, (vm, password)) = known.first_key_value().expect("there are some");
    let wrong = RecoveryPassword::from_recovery_key(&[7; 16]).expose().to_string();
    desk.write("wrong.csv", format!("{id},{wrong}\n"));
    import(&desk, &["wrong.csv"]).ends(0);
    let answer = desk.lifeboat(&["escrow", "prove", "--vm", vm]).ends(3).says("escrow-refused").says(vm);
    assert!(!answer.shown().contains(&wrong[..20]), "{}", answer.shown());
    let entries = proofs(&desk, "audit");
    let refused = outcome_of(&entries, id);
    assert!(!refused.is_empty() && refused.iter().all(|entry| entry.outcome == ProofOutcome::Refused));
    // The right one settles it: the wrong one is only old, and is not tried again.
    desk.write("right.csv", format!("{id},{password}\n"));
    import(&desk, &["right.csv"]).ends(3).says("escrow-conflict");
    let counts = desk.lifeboat(&["escrow", "prove", "--vm", vm, "--json"]).ends(3).json()["counts"].clone();
    assert_eq!((number(&counts, "data"), number(&counts, "refused")), (1, 0), "{counts}");
    // A password without an id finds its volume.
    let right = password;
    let is_other = |(_, (_, password)): &(&String, &(String, String))| password != right;
    let (other, (_, password)) = known.iter().find(is_other).expect("there are several");
    desk.write("lone.txt", format!("{password}\n"));
    import(&desk, &["lone.txt"]).ends(0);
    desk.lifeboat(&["escrow", "prove", "--json"]).ends(3);
    let entries = proofs(&desk, "audit");
    assert!(outcome_of(&entries, other).iter().any(|entry| entry.outcome == ProofOutcome::Data), "{other}");
    in_order(&desk);
}

#[test]
fn one_key_gives_every_other_secret_of_a_volume_to_escrow() {
    let desk = desk();
    let known = passwords(&desk);
    let of_source = |source: &str| -> BTreeSet<String> {
        let listed = desk.lifeboat(&["escrow", "list", "--json"]).ends(0).json();
        let secrets = listed["secrets"].as_array().expect("secrets").clone();
        let from =
            |one: &Value| one["entries"].as_array().expect("entries").iter().any(|e| e["source"] == source);
        secrets
            .iter()
            .filter(|one| from(one))
            .map(|one| one["protector"].as_str().expect("an id").to_owned())
            .collect()
    };
    // Nothing is escrowed: clear keys alone open volumes.
    let suspended: BTreeSet<String> = desk
        .fabric
        .answers()
        .vms
        .iter()
        .flat_map(|vm| &vm.disk_files)
        .filter_map(|file| file.volume.as_ref())
        .filter(|volume| volume.is_suspended)
        .flat_map(|volume| &volume.protectors)
        .filter(|one| known.contains_key(&one.id))
        .map(|one| one.id.clone())
        .collect();
    assert!(!suspended.is_empty(), "the fabric has a suspended volume");
    let harvest =
        |exit| desk.lifeboat(&["escrow", "harvest", "--importer", "importer", "--json"]).ends(exit).json();
    harvest(0);
    let harvested = of_source("read-back");
    assert!(harvested.is_superset(&suspended), "{suspended:?} in {harvested:?}");
    // With the recovery passwords the external keys of data volumes come too, and nothing twice.
    import_all(&desk);
    let report = harvest(0);
    let keys: BTreeSet<String> = of_source("read-back").difference(&harvested).cloned().collect();
    assert!(report["sealed"].as_u64() > Some(0) && keys.iter().all(|id| !known.contains_key(id)), "{keys:?}");
    let before = desk.digests("vault");
    assert_eq!(harvest(0)["record"], Value::Null);
    assert_eq!(desk.digests("vault"), before);
    desk.lifeboat(&["escrow", "harvest", "--importer", "importer", "--vm", "nobody"]).ends(1).says("no VM");

    // What came back is right: it is proved, and opens the volume from outside.
    prove(&desk, 0);
    let proved = proofs(&desk, "audit");
    for id in keys.iter().chain(&suspended) {
        assert!(outcome_of(&proved, id).iter().all(|entry| entry.outcome == ProofOutcome::Data), "{id}");
    }
    for id in &suspended {
        let revealed = desk.lifeboat(&["escrow", "reveal", id, "--reason", "compare"]).ends(0);
        assert_eq!(revealed.out.trim(), known[id].1);
    }
    in_order(&desk);
}

#[test]
fn a_disk_gives_its_other_secrets_with_any_one_key() {
    let desk = desk();
    let known = passwords(&desk);
    let file = desk.fabric.answers().vms.iter().flat_map(|vm| {
        let places = vm.files.iter().map(|file| (file.path.clone(), file.place.clone())).collect::<Vec<_>>();
        vm.disk_files.iter().filter_map(move |disk| {
            let volume = disk.volume.as_ref()?;
            let has_key =
                volume.protectors.iter().any(|one| one.kind == lifeboat_schema::ProtectorKind::ExternalKey);
            let place = places.iter().find(|(path, _)| *path == disk.path)?.1.clone();
            (has_key && volume.recovery_password.is_some()).then_some((place, volume.clone()))
        })
    });
    let (place, volume) = file.into_iter().next().expect("the fabric has a data volume with an external key");
    let disk = desk.fabric.dir().join(&place).display().to_string();
    desk.write("key.txt", format!("{}\n", volume.recovery_password.as_ref().expect("one")));
    let run = |keys: &[&str]| {
        let all = [&["escrow", "harvest", disk.as_str(), "--importer", "importer"][..], keys].concat();
        desk.lifeboat(&all)
    };
    run(&[]).ends(2).says("give a key");
    let wrong = RecoveryPassword::from_recovery_key(&[9; 16]).expose().to_string();
    desk.write("wrong.txt", format!("{wrong}\n"));
    let before = desk.digests("vault");
    run(&["--recovery-password-file", "wrong.txt"]).ends(5);
    assert_eq!(desk.digests("vault"), before);
    let report = run(&["--recovery-password-file", "key.txt", "--json"]).ends(0).json();
    assert_eq!(report["sealed"], 2, "the key that opened it, and the external key");
    let external = volume.protectors.iter().find(|one| !known.contains_key(&one.id)).expect("a key");
    desk.lifeboat(&["escrow", "reveal", &external.id, "--reason", "to use", "--out", "back.bek"]).ends(0);
    desk.lifeboat(&["recover", &disk, "--bek", "back.bek", "--verify-only"]).ends(0);
    run(&["--recovery-password-file", "key.txt"]).ends(0).says("Nothing to escrow");
    in_order(&desk);
}

#[test]
fn reveals_wait_for_the_store_and_come_in_order() {
    let desk = desk();
    let known = import_all(&desk);
    let ids: Vec<&String> = known.keys().collect();
    let reveal = |kit: &str, id: &str| {
        desk.lifeboat(&["escrow", "reveal", id, "--reason", "ticket 1", "--kit", kit]).ends(0)
    };
    reveal("kit", ids[0]);
    desk.copy_kit("other");
    // The store takes nothing more of this operator.
    let objects = std::fs::read_dir(desk.path("vault/objects")).expect("objects").flatten();
    let mine = objects
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with("op-"))
        .expect("the operator's");
    let (place, aside) = (format!("vault/objects/{mine}"), "aside");
    let block = || {
        std::fs::rename(desk.path(&place), desk.path(aside)).expect("moved");
        desk.write(&place, "in the way");
    };
    let unblock = || {
        std::fs::remove_file(desk.path(&place)).expect("removed");
        std::fs::rename(desk.path(aside), desk.path(&place)).expect("moved back");
    };
    block();
    for id in &ids[..2] {
        let answer = reveal("kit", id).says("waits in the kit");
        assert_eq!(answer.out.trim(), known[*id].1);
    }
    let waiting = || std::fs::read_dir(desk.path("kit/spool")).expect("the spool").count();
    assert_eq!((ledger_length(&desk, "op-"), waiting()), (1, 2));
    // Nothing of it is readable.
    for path in desk.digests("kit/spool").into_keys() {
        let bytes = std::fs::read(&path).expect("readable");
        assert!(!String::from_utf8_lossy(&bytes).contains("ticket"), "{}", path.display());
    }
    unblock();
    // The next command that reaches the store puts them there.
    desk.lifeboat(&["vms"]).says("2 records of reveals that waited are in the vault now");
    assert_eq!((ledger_length(&desk, "op-"), waiting()), (3, 0));
    in_order(&desk);

    // Another record comes between: only the operator's key puts it in order.
    block();
    reveal("kit", ids[2]).says("waits in the kit");
    unblock();
    reveal("other", ids[0]);
    desk.lifeboat(&["vms"]).says("came between");
    assert_eq!((ledger_length(&desk, "op-"), waiting()), (4, 1));
    reveal("kit", ids[1]);
    assert_eq!((ledger_length(&desk, "op-"), waiting()), (6, 0));
    in_order(&desk);
}
