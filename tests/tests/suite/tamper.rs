//! Every change of a vault behind its back is named by `check`, and no restore gives wrong bytes.
//!
//! A vault of two hosts is made once; each tampering works on a copy in memory. After each one a check down to
//! the last byte must find damage and name the place, and a restore of everything either ends in an error or
//! gives captures of the history byte for byte, and says so when one is not the newest.
//!
//! Every byte of every record, of `vault.json` and of every object below 4 KiB is flipped; of larger objects
//! the age header, the end and a sample. `LIFEBOAT_TAMPER=full` flips every byte of everything.

mod forge;
mod specimen;
mod trial;

use lifeboat_schema::Role;
use lifeboat_vault::record::RecordName;

pub(crate) use specimen::files_of;
use specimen::{Files, Specimen, ledger_of, own_ledger};
use trial::{Edit, Names, Report, Tampering, try_all};

/// Objects up to this size have each byte flipped.
const EVERY_BYTE_UP_TO: usize = 4096;

/// Bytes flipped of a larger object, beside its beginning and its end.
const SAMPLE: usize = 400;

fn everything() -> bool {
    std::env::var("LIFEBOAT_TAMPER").is_ok_and(|value| value == "full")
}

/// Positions to flip in a file of that size.
fn positions(size: usize) -> Vec<usize> {
    if size <= EVERY_BYTE_UP_TO || everything() {
        return (0..size).collect();
    }
    let (begin, end) = (600, size - 64);
    let stride = (end - begin) / SAMPLE + 1;
    (0..begin).chain((begin..end).step_by(stride)).chain(end..size).collect()
}

#[allow(clippy::print_stdout, reason = "the counts are what the suite is for")]
fn print(report: &Report) {
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_untouched_vault_is_in_order() {
    let specimen = Specimen::get().await;
    let report = specimen.stage.check().await.expect("a check");
    assert_eq!(report.findings, []);
    assert!(report.records >= 9 && report.objects >= 15, "the vault is worth tampering with: {report:?}");
    assert_eq!(specimen.stage.assert_all_come_back().await, specimen.stage.fabric.answers().vms.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    let mut sampled = Vec::new();
    for (path, bytes) in &specimen.files {
        let positions = positions(bytes.len());
        if positions.len() < bytes.len() {
            sampled.push(format!("{} of {} bytes", positions.len(), bytes.len()));
        }
        for at in positions {
            let edit = Edit::Flip { path: path.clone(), at };
            tamperings.push(Tampering::new(
                kind_of(path, "byte flipped"),
                vec![edit],
                Names::Path(path.clone()),
            ));
        }
    }
    // A restore costs as much as ten checks; flips of one file differ little in what it sees.
    let report = try_all(specimen, tamperings, if everything() { 1 } else { 24 });
    print(&report);
    print_sampled(&sampled);
    report.assert_all_named();
    assert!(report.tried("record, byte flipped") > 10_000);
    assert!(report.tried("object, byte flipped") > 10_000);
    assert!(report.tried("vault.json, byte flipped") > 250);
}

#[allow(clippy::print_stdout, reason = "what was left out must be said")]
fn print_sampled(sampled: &[String]) {
    println!("sampled objects (LIFEBOAT_TAMPER=full flips all): {}", sampled.join(", "));
}

/// `record`, `object` or `vault.json`, and what is done to it.
fn kind_of(path: &str, done: &str) -> String {
    let kind = match path.split('/').next() {
        Some("ledger") => "record",
        Some("objects") => "object",
        _ => "vault.json",
    };
    format!("{kind}, {done}")
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_extended_emptied_deleted() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    for (path, bytes) in &specimen.files {
        let size = bytes.len();
        let line_end = bytes.iter().position(|b| *b == b'\n').map_or(size / 3, |at| at + 1);
        for length in [0, 1, 100, line_end - 1, line_end, size / 2, size - 17, size - 1] {
            let edit = Edit::Put { path: path.clone(), bytes: bytes.slice(..length.min(size - 1)) };
            tamperings.push(Tampering::new(
                kind_of(path, "truncated"),
                vec![edit],
                Names::Path(path.clone()),
            ));
        }
        for tail in [&b"\0"[..], b"\n", b" ", bytes] {
            let edit = Edit::Put { path: path.clone(), bytes: [bytes, tail].concat().into() };
            tamperings.push(Tampering::new(kind_of(path, "extended"), vec![edit], Names::Path(path.clone())));
        }
        let zeros = Edit::Put { path: path.clone(), bytes: vec![0; size].into() };
        tamperings.push(Tampering::new(kind_of(path, "zeroed"), vec![zeros], Names::Path(path.clone())));
        let names = ledger_of(path).map_or(Names::Path(path.clone()), Names::Ledger);
        let edit = Edit::Remove { path: path.clone() };
        tamperings.push(Tampering::new(kind_of(path, "deleted"), vec![edit], names));
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
    assert!(report.tried("record, deleted") >= 9 && report.tried("object, deleted") >= 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_swapped() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    for top in ["ledger/", "objects/"] {
        let paths: Vec<&String> = specimen.files.keys().filter(|path| path.starts_with(top)).collect();
        for (index, a) in paths.iter().enumerate() {
            for b in &paths[index + 1..] {
                let swap = vec![
                    Edit::Put { path: (*a).clone(), bytes: specimen.files[*b].clone() },
                    Edit::Put { path: (*b).clone(), bytes: specimen.files[*a].clone() },
                ];
                tamperings.push(Tampering::new(kind_of(a, "pair swapped"), swap, Names::Path((*a).clone())));
            }
        }
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
    assert!(report.tried("record, pair swapped") >= 36 && report.tried("object, pair swapped") >= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_replayed() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    let mut add = |kind: &str, path: String, bytes: &bytes::Bytes| {
        let edit = Edit::Put { path: path.clone(), bytes: bytes.clone() };
        // A ledger of nobody is named as one thing.
        let nobody = path.starts_with("ledger/h-nobody").then(|| Names::Ledger("ledger/h-nobody".to_owned()));
        tamperings.push(Tampering::new(kind, vec![edit], nobody.unwrap_or(Names::Path(path))));
    };
    for (path, bytes) in specimen.records() {
        let (folder, name) = path.rsplit_once('/').expect("a record's path");
        let name: RecordName = name.parse().expect("a record's name");
        let last = specimen.last_seq(folder);
        for seq in [last + 1, last + 2, 9_999_999_999] {
            add("old record as a new one", format!("{folder}/{}", RecordName { seq, ..name }), bytes);
        }
        for other in specimen.ledgers().into_iter().filter(|other| other != folder) {
            add("record in another ledger", format!("{other}/{name}"), bytes);
        }
        add("record in a ledger of nobody", format!("ledger/h-nobody/{name}"), bytes);
        // Under a name that another record has: the newest is replaced by an older one.
        for (newest, _) in specimen.records().filter(|(other, _)| *other != path) {
            let of_this_ledger = specimen::ledger_of(newest).as_deref() == Some(folder);
            if of_this_ledger && specimen.last_seq(folder) == specimen::seq_of(newest) {
                add("newest record replaced by an old one", newest.clone(), bytes);
            }
        }
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
    assert!(report.tried("old record as a new one") >= 27);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_records_objects_and_writers() {
    let specimen = Specimen::get().await;
    let host = &specimen.stage.hosts[0].id;
    let digest = lifeboat_schema::Digest::of(b"foreign");
    let name = RecordName { seq: 1, id: digest };
    let mut tamperings = Vec::new();
    for path in [
        "ledger/note.txt".to_owned(),
        "ledger/UPPER/x".to_owned(),
        format!("ledger/{host}/note.txt"),
        format!("ledger/{host}/{name}.bak"),
        format!("ledger/{host}/deeper/{name}"),
        "objects/note.txt".to_owned(),
        format!("objects/{host}/note.txt"),
        format!("objects/{host}/{digest}"),
        format!("objects/{host}/deeper/{digest}.age"),
        format!("objects/h-nobody/{digest}.age"),
    ] {
        let edit = Edit::Put { path: path.clone(), bytes: "foreign".into() };
        tamperings.push(Tampering::new("foreign file", vec![edit], Names::Path(path)));
    }
    for path in [format!("ledger/h-nobody/{name}"), "ledger/h-nobody/note.txt".to_owned()] {
        let edit = Edit::Put { path, bytes: "foreign".into() };
        tamperings.push(Tampering::new(
            "foreign ledger",
            vec![edit],
            Names::Ledger("ledger/h-nobody".to_owned()),
        ));
    }
    for (kind, path, bytes) in forge::records(specimen).await {
        let edit = Edit::Put { path: path.clone(), bytes };
        tamperings.push(Tampering::new(kind, vec![edit], Names::Path(path)));
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_no_record_names_is_noted_and_harms_nothing() {
    let specimen = Specimen::get().await;
    let copy = specimen.copy().await;
    let host = &specimen.stage.hosts[0].id;
    let path = format!("objects/{host}/{}.age", lifeboat_schema::Digest::of(b"left behind"));
    copy.put(&path, "left behind".into()).await;
    let ledgers = copy.vault.ledgers(&specimen.memory).await.expect("ledgers");
    let report =
        copy.vault.check(&ledgers, specimen.check_options(true), &lifeboat_tests::stage::Silent).await;
    let report = report.expect("a check");
    assert_eq!(report.unreferenced, 1);
    assert_eq!(lifeboat_schema::Exit::of(&report.findings), lifeboat_schema::Exit::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_in_other_armour() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    for (path, bytes) in specimen.records() {
        for (kind, bytes) in forge::armours(bytes) {
            let edit = Edit::Put { path: path.clone(), bytes };
            tamperings.push(Tampering::new(kind, vec![edit], Names::Path(path.clone())));
        }
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
    assert!(report.total() >= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_keys_and_other_json() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    for (path, bytes) in specimen.records() {
        for (kind, path, bytes) in forge::lines(specimen, path, bytes) {
            let edit = Edit::Put { path: path.clone(), bytes };
            tamperings.push(Tampering::new(kind, vec![edit], Names::Path(path)));
        }
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
    assert!(report.tried("duplicate key, not signed again") >= 20);
    assert!(report.tried("duplicate key, signed by the writer") >= 5);
}

/// Puts a copy into exactly the state of `files`.
fn replace_all(specimen: &Specimen, files: &Files) -> Vec<Edit> {
    let gone = specimen.files.keys().filter(|path| !files.contains_key(*path));
    gone.map(|path| Edit::Remove { path: path.clone() })
        .chain(files.iter().map(|(path, bytes)| Edit::Put { path: path.clone(), bytes: bytes.clone() }))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_rolled_back() {
    let specimen = Specimen::get().await;
    let mut tamperings = Vec::new();
    for state in &specimen.states {
        let behind = specimen
            .ledgers()
            .into_iter()
            .find(|ledger| own_ledger(state, ledger).count() < own_ledger(&specimen.files, ledger).count());
        let behind = behind.expect("every older state lacks a record");
        tamperings.push(Tampering::new(
            "the whole store as it was",
            replace_all(specimen, state),
            Names::Ledger(behind),
        ));
    }
    // One ledger only, with and without its objects: the others look as ever.
    for ledger in specimen.ledgers() {
        let records: Vec<String> = own_ledger(&specimen.files, &ledger).cloned().collect();
        for keep in 0..records.len() {
            let mut edits: Vec<Edit> =
                records[keep..].iter().map(|path| Edit::Remove { path: path.clone() }).collect();
            tamperings.push(Tampering::new(
                "the end of a ledger",
                edits.clone(),
                Names::Ledger(ledger.clone()),
            ));
            let objects = ledger.replacen("ledger/", "objects/", 1);
            edits.extend(
                specimen
                    .files
                    .keys()
                    .filter(|path| {
                        path.starts_with(&objects) && !specimen.is_named_by(path, &records[..keep])
                    })
                    .map(|path| Edit::Remove { path: path.clone() }),
            );
            tamperings.push(Tampering::new(
                "the end of a ledger, objects too",
                edits,
                Names::Ledger(ledger.clone()),
            ));
        }
    }
    let report = try_all(specimen, tamperings, 1);
    print(&report);
    report.assert_all_named();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_notices_that_its_store_was_rolled_back() {
    let mut stage = specimen::small_stage().await;
    let host = stage.enroll("host-1").await.expect("enrolled");
    stage.run(host).await.expect("a run");
    let before = specimen::files_of(&stage.vault.store).await;
    specimen::change_everything(&mut stage.fabric, 1);
    let second = stage.run(host).await.expect("a run");
    assert_eq!(second.record.seq, 2);

    specimen::put_back(&stage.vault.store, &before).await;
    let third = stage.run(host).await.expect("the run goes on");
    let codes: Vec<_> = third.findings.iter().map(|f| (f.code.as_str(), f.severity)).collect();
    assert_eq!(codes, [("rollback", lifeboat_schema::Severity::Damage)]);
    assert_eq!(third.record.seq, 3, "it goes on from the record that it remembers, which it put back");
    assert_eq!(third.unchanged, 0, "and takes nothing for granted that the store may have lost");
    stage.assert_all_come_back().await;

    // The objects of record 2 are gone: a check says so as long as the record stands.
    let report = stage.check().await.expect("a check");
    assert!(report.findings.iter().all(|f| f.code == "object-missing"), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_refuses_a_store_whose_policy_was_rolled_back() {
    let mut stage = specimen::small_stage().await;
    let host = stage.enroll("host-1").await.expect("enrolled");
    stage.run(host).await.expect("a run");
    let before = specimen::files_of(&stage.vault.store).await;
    stage.change_policy(|terms| terms.writers[0].max_silence_seconds = Some(3600)).await.expect("a policy");
    stage.run(host).await.expect("a run that sees the policy");
    specimen::put_back(&stage.vault.store, &before).await;
    let error = stage.run(host).await.expect_err("an older policy");
    assert!(error.to_string().contains("no longer has policy 3"), "{error}");
    assert_eq!(specimen::files_of(&stage.vault.store).await, before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_forked_from_an_old_disk_image() {
    let (mut stage, faults) = specimen::faulty_stage().await;
    let host = stage.enroll("host-1").await.expect("enrolled");
    stage.run(host).await.expect("a run");
    let catalog = stage.hosts[host].catalog_path();
    let image = std::fs::read(&catalog).expect("the disk image");

    // The machine writes record 2; the one from the image does not see it yet, and writes its own.
    faults.hide_new_from_lists(true);
    specimen::change_everything(&mut stage.fabric, 1);
    let first = stage.run(host).await.expect("the machine runs");
    let of_the_machine = std::fs::read(&catalog).expect("its catalog");
    std::fs::write(&catalog, &image).expect("the image is started");
    specimen::change_everything(&mut stage.fabric, 2);
    let other = stage.run(host).await.expect("the image runs");
    assert_eq!((first.record.seq, other.record.seq), (2, 2));
    assert_ne!(first.record.id, other.record.id);
    faults.hide_new_from_lists(false);

    let forks = |findings: &[lifeboat_schema::Finding]| {
        findings
            .iter()
            .filter(|f| f.code == "fork" && f.severity == lifeboat_schema::Severity::Damage)
            .count()
    };
    let report = stage.check().await.expect("a check");
    assert_eq!(forks(&report.findings), 1, "{:?}", report.findings);

    // Nothing is restored from either side in silence: what comes back is the capture before the fork.
    let identities = std::sync::Arc::new(stage.identity(Role::Restore));
    let to = stage.new_folder();
    let restored =
        lifeboat_tests::stage::restore_all(&stage.vault, &Default::default(), &identities, &to).await;
    let restored = restored.expect("a restore");
    assert!(forks(&restored.findings) == 1 && !restored.vms.is_empty());
    let ledgers = stage.vault.ledgers(&Default::default()).await.expect("ledgers");
    let good = ledgers.writers[&stage.hosts[host].id].newest().expect("a record").signed.record.clone();
    assert_eq!(good.seq, 1);
    assert!(restored.vms.iter().all(|vm| vm.captured <= good.finished));

    // Both machines notice when they run again.
    for state in [None, Some(of_the_machine)] {
        if let Some(state) = state {
            std::fs::write(&catalog, state).expect("the machine again");
        }
        let report = stage.run(host).await.expect("a run");
        assert_eq!(forks(&report.findings), 1, "{:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_image_that_sees_the_store_goes_on_behind_its_tip() {
    let mut stage = specimen::small_stage().await;
    let host = stage.enroll("host-1").await.expect("enrolled");
    stage.run(host).await.expect("a run");
    let catalog = stage.hosts[host].catalog_path();
    let image = std::fs::read(&catalog).expect("the disk image");
    specimen::change_everything(&mut stage.fabric, 1);
    stage.run(host).await.expect("a run");
    std::fs::write(&catalog, image).expect("the image is started");
    let report = stage.run(host).await.expect("the image runs");
    assert_eq!(report.record.seq, 3);
    assert_eq!(report.unchanged, 0, "what an old catalog knows of objects is worth nothing");
    assert_eq!(stage.check().await.expect("a check").findings, []);
    stage.assert_all_come_back().await;
}
