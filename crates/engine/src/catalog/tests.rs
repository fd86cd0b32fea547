use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_schema::{Class, Content, RecipientSetId};

use super::*;

fn vault() -> VaultId {
    VaultId::of(b"vault")
}

fn host() -> WriterId {
    "h-one".parse().unwrap()
}

fn catalog() -> Catalog {
    Catalog::in_memory(&vault(), &host()).unwrap()
}

fn own(seq: u64) -> OwnRecord {
    let text = format!("record {seq}");
    OwnRecord { name: RecordName { seq, id: Digest::of(text.as_bytes()) }, bytes: text.into_bytes().into() }
}

fn object(what: &str) -> ObjectEntry {
    ObjectEntry {
        name: Digest::of(what.as_bytes()),
        content: Content::Bundle,
        class: Class::Machine,
        owner: "o-one".parse().unwrap(),
        size: 10,
        header: 5,
        payload: Digest::of(b"payload"),
        recipients: "0".repeat(32).parse::<RecipientSetId>().unwrap(),
    }
}

fn vm(key: &str, revision: u8) -> (HeldVm, PackedEntry) {
    let held = HeldVm {
        key: key.to_owned(),
        subject: SubjectId::random([revision; 10]),
        vm_id: key.to_owned(),
        name: format!("VM {key}"),
        source: "vms".to_owned(),
        owner: "o-one".parse().unwrap(),
        owner_guardian: (revision % 2 == 1).then(|| Digest::of(b"guardian")),
        fingerprint: vec![revision],
        captured: Time::from_unix_seconds(1000 + i64::from(revision)),
        carried_since: (revision > 5).then(|| Time::from_unix_seconds(7)),
        body: Digest::of(b"body"),
        bundles: vec![Digest::of(b"a"), Digest::of(b"b")],
    };
    (held, entry(key, revision))
}

fn entry(key: &str, revision: u8) -> PackedEntry {
    let json = format!("{{\"{key}\":{revision}}}");
    EntryWriter::new().unwrap().pack_json(json.as_bytes()).unwrap()
}

fn encoded(changed: &[(HeldVm, PackedEntry)]) -> Vec<(&HeldVm, &PackedEntry)> {
    changed.iter().map(|(vm, entry)| (vm, entry)).collect()
}

/// Commits one record as a run does.
fn commit(
    catalog: &mut Catalog,
    seq: u64,
    changed: &[(HeldVm, PackedEntry)],
    gone: &[&str],
    objects: &[&str],
) {
    pend(catalog, seq, changed, gone, objects);
    catalog.promote(Placed::Stored).unwrap();
}

fn pend(catalog: &mut Catalog, seq: u64, changed: &[(HeldVm, PackedEntry)], gone: &[&str], objects: &[&str]) {
    let objects: Vec<ObjectEntry> = objects.iter().map(|what| object(what)).collect();
    let changed = encoded(changed);
    let gone: Vec<String> = gone.iter().map(|key| (*key).to_owned()).collect();
    catalog
        .set_pending(&Pending { record: &own(seq), objects: &objects, changed: &changed, gone: &gone })
        .unwrap();
}

/// Everything that a run reads of a catalog.
fn state(catalog: &Catalog) -> (Option<RecordName>, Vec<OwnRecord>, Vec<ObjectEntry>, Vec<HeldVm>) {
    (
        catalog.tip().unwrap(),
        catalog.kept_records().unwrap(),
        catalog.objects().unwrap(),
        catalog.vms().unwrap(),
    )
}

#[test]
fn a_new_catalog_knows_nothing() {
    let catalog = catalog();
    assert_eq!(state(&catalog), (None, vec![], vec![], vec![]));
    assert_eq!((catalog.pending().unwrap(), catalog.seen().unwrap()), (None, vec![]));
    assert_eq!(catalog.entry("a").unwrap(), None);
}

#[test]
fn pending_changes_nothing_until_it_is_promoted() {
    let mut catalog = catalog();
    let first = [vm("a", 1), vm("b", 2)];
    commit(&mut catalog, 1, &first, &[], &["a", "b"]);
    let before = state(&catalog);
    assert_eq!(before.0, Some(own(1).name));
    assert_eq!(before.3, [first[0].0.clone(), first[1].0.clone()]);

    pend(&mut catalog, 2, &[vm("b", 7), vm("c", 3)], &["a"], &["b", "c"]);
    assert_eq!(state(&catalog), before);
    assert_eq!(catalog.pending().unwrap(), Some(own(2)));
    assert_eq!(catalog.entry("b").unwrap().unwrap(), entry("b", 2));

    catalog.promote(Placed::Stored).unwrap();
    assert_eq!(catalog.pending().unwrap(), None);
    let mut objects = vec![object("b"), object("c")];
    objects.sort_by_key(|object| object.name.to_string());
    let vms = vec![vm("b", 7).0, vm("c", 3).0];
    assert_eq!(state(&catalog), (Some(own(2).name), vec![own(1), own(2)], objects, vms));
    assert_eq!(catalog.entry("b").unwrap().unwrap(), entry("b", 7));
    assert_eq!(catalog.entry("a").unwrap(), None);
}

#[test]
fn dropped_or_replaced_pending_leaves_no_trace() {
    let mut catalog = catalog();
    commit(&mut catalog, 1, &[vm("a", 1)], &[], &["a"]);
    let before = state(&catalog);
    pend(&mut catalog, 2, &[vm("b", 2)], &["a"], &["b"]);
    catalog.drop_pending().unwrap();
    assert_eq!((state(&catalog), catalog.pending().unwrap()), (before.clone(), None));
    // A run that ended is replaced whole, its VMs and objects too.
    pend(&mut catalog, 2, &[vm("b", 2)], &["a"], &["b"]);
    commit(&mut catalog, 2, &[], &[], &["a"]);
    assert_eq!((catalog.vms().unwrap(), catalog.objects().unwrap()), (before.3, before.2));
}

#[test]
fn a_write_that_cannot_commit_changes_nothing() {
    let mut catalog = catalog();
    commit(&mut catalog, 1, &[vm("a", 1)], &[], &["a"]);
    let before = state(&catalog);
    let refuse = Arc::new(AtomicBool::new(true));
    let hook = Arc::clone(&refuse);
    catalog.on_commit(Some(move || hook.load(Ordering::Relaxed))).unwrap();
    let refused = own(2);
    let objects = [object("b")];
    let changed = [vm("b", 2)];
    let changed = encoded(&changed);
    let pending = Pending { record: &refused, objects: &objects, changed: &changed, gone: &[] };
    catalog.set_pending(&pending).unwrap_err();
    assert_eq!((state(&catalog), catalog.pending().unwrap()), (before.clone(), None));
    refuse.store(false, Ordering::Relaxed);
    catalog.set_pending(&pending).unwrap();
    refuse.store(true, Ordering::Relaxed);
    catalog.promote(Placed::Stored).unwrap_err();
    assert_eq!((state(&catalog), catalog.pending().unwrap()), (before, Some(own(2))));
    refuse.store(false, Ordering::Relaxed);
    catalog.promote(Placed::Stored).unwrap();
    assert_eq!(catalog.tip().unwrap(), Some(own(2).name));
}

#[test]
fn the_newest_records_are_kept_and_no_more() {
    let mut catalog = catalog();
    for seq in 1..=KEPT_RECORDS + 10 {
        commit(&mut catalog, seq, &[], &[], &[]);
    }
    let kept: Vec<OwnRecord> = (11..=KEPT_RECORDS + 10).map(own).collect();
    assert_eq!(catalog.kept_records().unwrap(), kept);
}

#[test]
fn dropped_knowledge_keeps_subjects_and_records_and_nothing_to_reuse() {
    let mut catalog = catalog();
    commit(&mut catalog, 1, &[vm("a", 1), vm("b", 2)], &[], &["a", "b"]);
    pend(&mut catalog, 2, &[vm("c", 3)], &[], &["c"]);
    catalog.drop_knowledge(Some(own(9).name)).unwrap();
    assert_eq!((catalog.tip().unwrap(), catalog.pending().unwrap()), (Some(own(9).name), None));
    assert_eq!((catalog.objects().unwrap(), catalog.kept_records().unwrap()), (vec![], vec![own(1)]));
    let vms = catalog.vms().unwrap();
    assert_eq!(
        vms.iter().map(|vm| vm.subject.clone()).collect::<Vec<_>>(),
        [vm("a", 1).0.subject, vm("b", 2).0.subject]
    );
    assert!(vms.iter().all(|vm| vm.fingerprint.is_empty() && vm.bundles.is_empty()));
    catalog.drop_knowledge(None).unwrap();
    assert_eq!(catalog.tip().unwrap(), None);
}

#[test]
fn tips_of_others_are_remembered_by_writer() {
    let mut catalog = catalog();
    let tip = |writer: &str, seq| Tip { writer: writer.parse().unwrap(), seq, id: own(seq).name.id };
    catalog.remember_seen(&[tip("admin", 1), tip("m-one", 5)]).unwrap();
    catalog.remember_seen(&[tip("admin", 2)]).unwrap();
    assert_eq!(catalog.seen().unwrap(), [tip("admin", 2), tip("m-one", 5)]);
    catalog.remember_seen(&[]).unwrap();
    assert_eq!(catalog.seen().unwrap().len(), 2);
}

#[test]
fn a_catalog_on_disk_is_the_same_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite");
    let mut catalog = Catalog::open(&path, &vault(), &host()).unwrap();
    commit(&mut catalog, 1, &[vm("a", 1), vm("b", 6)], &[], &["a"]);
    pend(&mut catalog, 2, &[vm("c", 3)], &[], &["c"]);
    let before = state(&catalog);
    drop(catalog);
    let catalog = Catalog::open(&path, &vault(), &host()).unwrap();
    assert_eq!((state(&catalog), catalog.pending().unwrap()), (before, Some(own(2))));
}

#[test]
fn a_catalog_of_another_vault_or_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite");
    drop(Catalog::open(&path, &vault(), &host()).unwrap());
    let foreign = |vault: &VaultId, writer: &str| {
        let error = Catalog::open(&path, vault, &writer.parse().unwrap()).err().unwrap();
        assert!(matches!(&error, CatalogError::Foreign { writer, .. } if writer == "h-one"), "{error}");
    };
    foreign(&VaultId::of(b"another"), "h-one");
    foreign(&vault(), "h-two");
    Catalog::open(&path, &vault(), &host()).unwrap();
}

#[test]
fn a_newer_catalog_and_a_file_that_is_none_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite");
    drop(Catalog::open(&path, &vault(), &host()).unwrap());
    let set_version = |version: i64| {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    set_version(CATALOG_VERSION + 1);
    let error = Catalog::open(&path, &vault(), &host()).err().unwrap();
    assert!(
        matches!(error, CatalogError::Newer { found, known, .. } if (found, known) == (CATALOG_VERSION + 1, CATALOG_VERSION))
    );
    set_version(CATALOG_VERSION);
    Catalog::open(&path, &vault(), &host()).unwrap();

    let other = folder.path().join("other");
    let text = b"This is a text, and no database, whatever its name says.".repeat(100);
    std::fs::write(&other, &text).unwrap();
    let error = Catalog::open(&other, &vault(), &host()).err().unwrap();
    assert!(matches!(error, CatalogError::Sqlite { .. }), "{error}");
    assert_eq!(std::fs::read(&other).unwrap(), text);
}

#[test]
fn a_catalog_of_version_1_is_brought_up_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sqlite");
    let mut catalog = Catalog::open(&path, &vault(), &host()).unwrap();
    commit(&mut catalog, 1, &[vm("a", 1), vm("b", 2)], &[], &["a"]);
    pend(&mut catalog, 2, &[vm("b", 7)], &[], &["b"]);
    let before = state(&catalog);
    drop(catalog);
    // As version 1 had it: plain JSON in both tables.
    let connection = Connection::open(&path).unwrap();
    for (table, key, json) in
        [("vm", "a", r#"{"a":1}"#), ("vm", "b", r#"{"b":2}"#), ("pending_vm", "b", r#"{"b":7}"#)]
    {
        let update = format!("UPDATE {table} SET entry = ?2 WHERE key = ?1");
        assert_eq!(connection.execute(&update, params![key, json.as_bytes()]).unwrap(), 1);
    }
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);

    let mut catalog = Catalog::open(&path, &vault(), &host()).unwrap();
    assert_eq!(state(&catalog), before);
    let json = |catalog: &Catalog, key| catalog.entry(key).unwrap().unwrap().json().unwrap();
    assert_eq!(json(&catalog, "a"), br#"{"a":1}"#);
    assert_eq!(json(&catalog, "b"), br#"{"b":2}"#);
    catalog.promote(Placed::Stored).unwrap();
    assert_eq!(json(&catalog, "b"), br#"{"b":7}"#);
}

/// What the catalog may hold is a closed list: names, attributes, digests and signed records.
#[test]
fn no_column_is_for_a_secret() {
    let catalog = catalog();
    let columns: BTreeMap<String, Vec<String>> = catalog
        .read(|c| {
            c.prepare(
                "SELECT t.name, group_concat(i.name, ' ') FROM sqlite_master t, pragma_table_info(t.name) i
                 WHERE t.type = 'table' GROUP BY t.name",
            )?
            .query_map([], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?.split(' ').map(str::to_owned).collect()))
            })?
            .collect()
        })
        .unwrap();
    let vm = "key subject vm_id name source owner owner_guardian fingerprint captured carried_since body bundles entry";
    let expected = [
        ("identity", "vault writer"),
        ("tip", "only seq id"),
        ("record", "seq id bytes"),
        ("seen", "writer seq id"),
        ("object", "name entry"),
        ("vm", vm),
        ("pending_record", "seq id bytes"),
        ("pending_object", "name entry"),
        ("pending_vm", vm),
        ("pending_gone", "key"),
        ("unsent", "only seq id"),
        ("job", "name planned started ended exit next"),
    ];
    let expected: BTreeMap<String, Vec<String>> = expected
        .into_iter()
        .map(|(table, columns)| (table.to_owned(), columns.split(' ').map(str::to_owned).collect()))
        .collect();
    assert_eq!(columns, expected);
}
