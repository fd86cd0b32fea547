//! An agent that is stopped anywhere, and catalogs and stores that do not agree.
//!
//! A run dies before or after each of its writes to the store, and at each of its writes to the catalog. What
//! was committed stands, the vault checks clean, and the next run ends where it would have ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_engine::catalog::Catalog;
use lifeboat_engine::snapshot::SnapshotReport;
use lifeboat_schema::{CarriedWhy, Digest, Role, Severity};
use lifeboat_tests::fault_store::{FaultStore, When};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::AgeOptions;
use lifeboat_vault::record::RecordName;
use lifeboat_vault::vault::{Memory, object_path, record_path};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::life::{States, assert_clean, codes, faulty, newest, restore_history, states};

type Faults = FaultStore<Arc<dyn ObjectStore>>;

/// A stage with one host, not run yet, in a store whose content can be put back.
struct Scene {
    stage: Stage,
    faults: Faults,
}

impl Scene {
    async fn set(vms: u32, seed: u64) -> Self {
        let (store, faults) = faulty(Arc::new(InMemory::new()));
        let mut stage = Stage::set(store, "memory://", &tiny_fabric(vms, seed)).await;
        let name = stage.fabric.answers().hosts[0].clone();
        stage.enroll(&name).await.expect("a host is let in");
        Self { stage, faults }
    }

    /// Keeps what store and catalog have now.
    async fn keep(&self) -> Kept {
        Kept { store: copy(&self.faults).await, catalog: std::fs::read(self.catalog()).ok() }
    }

    /// Puts store and catalog back to what they were.
    fn put_back(&mut self, kept: &Kept) {
        let (store, faults) = faulty(Arc::new(kept.store.fork()));
        self.stage.vault = self.stage.vault_in(store);
        self.faults = faults;
        self.put_catalog_back(kept.catalog.as_deref());
    }

    fn put_catalog_back(&self, bytes: Option<&[u8]>) {
        let path = self.catalog();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(PathBuf::from(format!("{}{suffix}", path.display())));
        }
        if let Some(bytes) = bytes {
            std::fs::write(path, bytes).expect("the catalog");
        }
    }

    fn catalog(&self) -> PathBuf {
        self.stage.hosts[0].catalog_path()
    }

    async fn run(&self) -> SnapshotReport {
        self.stage.run(0).await.expect("a run")
    }

    /// Runs while every commit of the catalog from the `nth` on fails; says whether there were so many.
    async fn run_without_catalog_from(&self, nth: u64) -> bool {
        let commits = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&commits);
        let hook = move || seen.fetch_add(1, Ordering::Relaxed) + 1 >= nth;
        let prepare = |catalog: &mut Catalog| catalog.on_commit(Some(hook)).expect("a hook");
        let result = self.stage.run_on(&self.stage.vault, 0, prepare).await;
        let reached = commits.load(Ordering::Relaxed) >= nth;
        assert_eq!(result.is_err(), reached, "a run without catalog fails, and another one does not");
        reached
    }

    async fn states(&self) -> BTreeMap<RecordName, States> {
        states(&self.stage.vault, &self.stage.identity(Role::Restore)).await
    }

    /// What the newest record says.
    async fn newest(&self) -> States {
        self.states().await.into_values().next_back().unwrap_or_default()
    }

    /// Checks down to the last byte.
    async fn check(&self, when: &str) {
        assert_clean(&self.stage.check().await.expect("a check"), when);
    }
}

struct Kept {
    store: InMemory,
    catalog: Option<Vec<u8>>,
}

/// A copy of everything in the store.
async fn copy(faults: &Faults) -> InMemory {
    use futures::TryStreamExt as _;
    use object_store::ObjectStoreExt as _;
    let memory = InMemory::new();
    let all: Vec<_> = faults.list(None).try_collect().await.expect("a listing");
    for meta in all {
        let bytes = faults.peek(meta.location.as_ref()).await.expect("an object");
        memory.put(&meta.location, bytes.into()).await.expect("a copy");
    }
    memory
}

/// After a crash: the store is clean and has lost nothing, a second crash changes nothing of that, and the
/// next run ends as if nothing had been.
async fn survive(scene: &Scene, before: &BTreeMap<RecordName, States>, expected: &States, when: &str) {
    scene.faults.revive();
    scene.check(when).await;
    let after = scene.states().await;
    assert!(before.iter().all(|(name, state)| after.get(name) == Some(state)), "{when}: a record was lost");
    let report = scene.stage.run(0).await.unwrap_or_else(|error| panic!("{when}: the next run: {error}"));
    assert_eq!(report.findings, [], "{when}");
    scene.check(&format!("{when}, after the next run")).await;
    let after = scene.states().await;
    assert!(before.iter().all(|(name, state)| after.get(name) == Some(state)), "{when}: a record was lost");
    assert_eq!(after.values().next_back(), Some(expected), "{when}: the next run ends elsewhere");
    let committed = after.len() - before.len();
    assert!((1..=3).contains(&committed), "{when}: {committed} records");
    assert_eq!(report.record.seq, after.len() as u64, "{when}: the ledger has no gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_may_end_at_any_write() {
    let mut scene = Scene::set(6, 21).await;
    let (mut stops, mut catalog_stops) = (0, 0);
    for step in 0..4u32 {
        match step {
            1 => drop(scene.stage.fabric.age(&AgeOptions::change(1, 34.0)).expect("a change")),
            2 => {
                let options = AgeOptions { round: 2, delete: 1, roll: 1, ..Default::default() };
                scene.stage.fabric.age(&options).expect("a VM goes");
            }
            _ => {}
        }
        let kept = scene.keep().await;
        let before = scene.states().await;
        assert_eq!(before.len() as u32, step);

        // Without a crash.
        scene.put_back(&kept);
        let puts = scene.faults.counts().mutating();
        scene.run().await;
        let puts = scene.faults.counts().mutating() - puts;
        let expected = scene.newest().await;
        let vanished = expected.values().filter(|s| s.carried == Some(CarriedWhy::Vanished)).count();
        assert_eq!((expected.len(), vanished), (6, usize::from(step >= 2)));
        scene.check("without a crash").await;
        let done = scene.keep().await;

        assert!(puts >= if step == 3 { 2 } else { 3 }, "step {step} has {puts} writes");
        for nth in 1..=puts {
            for moment in [When::Before, When::After] {
                scene.put_back(&kept);
                scene.faults.crash_at(nth, moment);
                let when = format!("step {step}, write {nth} of {puts}, stopped {moment:?} it");
                scene.stage.run(0).await.expect_err(&when);
                assert!(scene.faults.is_dead(), "{when}");
                if nth % 3 == 1 {
                    // The agent comes up again and dies once more.
                    scene.faults.revive();
                    scene.faults.crash_at(nth.min(2), moment);
                    scene.stage.run(0).await.expect_err(&when);
                }
                survive(&scene, &before, &expected, &when).await;
                stops += 1;
            }
        }
        for nth in 1.. {
            scene.put_back(&kept);
            if !scene.run_without_catalog_from(nth).await {
                break;
            }
            survive(&scene, &before, &expected, &format!("step {step}, catalog write {nth}")).await;
            catalog_stops += 1;
        }
        scene.put_back(&done);
    }
    assert!(stops >= 20 && catalog_stops >= 8, "{stops} and {catalog_stops} stops");
    let (vault, identities) = (&scene.stage.vault, Arc::new(scene.stage.identity(Role::Restore)));
    let files = restore_history(vault, &identities, &scene.stage.new_folder()).await;
    assert!(files > 4 * 5 * 3, "{files} files of all records");
    assert_eq!(scene.stage.assert_all_come_back().await, 5);
    crate::told(&format!("stopped at {stops} writes to the store and {catalog_stops} to the catalog"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_record_is_promoted_and_not_sealed_again() {
    let mut scene = Scene::set(5, 22).await;
    let kept = scene.keep().await;
    let first = scene.run().await;
    let puts = first.stored_objects + 1;

    // The answer to the record's put is lost, or the catalog fails right after it.
    scene.put_back(&kept);
    scene.faults.crash_at(puts, When::After);
    scene.stage.run(0).await.expect_err("the answer is lost");
    scene.faults.revive();
    let by_store = scene.run().await;
    scene.put_back(&kept);
    // Its commits: what was seen, the pending record, and its promotion.
    assert!(scene.run_without_catalog_from(3).await);
    let by_catalog = scene.run().await;
    for report in [by_store, by_catalog] {
        assert_eq!((report.record.seq, report.captured, report.unchanged), (2, 0, 5));
        assert_eq!(report.stored_objects, 1, "only its own body");
        assert!(report.stored_bytes < 4096 && report.stored_bytes * 10 < first.stored_bytes);
    }

    // Stopped before it, the record is not there: what is pending is dropped, and everything sealed anew.
    scene.put_back(&kept);
    scene.faults.crash_at(puts, When::Before);
    scene.stage.run(0).await.expect_err("the record is not put");
    scene.faults.revive();
    let report = scene.run().await;
    assert_eq!((report.record.seq, report.captured), (1, 5));
    let checked = scene.stage.check().await.expect("a check");
    assert_eq!(checked.unreferenced, first.stored_objects, "what the stopped run left is not adopted");
}

/// Three runs: everything, two changes, and one VM gone; the state of the catalog after each.
async fn three_runs(seed: u64) -> (Scene, Vec<Kept>, Vec<SnapshotReport>) {
    let mut scene = Scene::set(6, seed).await;
    let (mut kept, mut reports) = (Vec::new(), Vec::new());
    for round in 0..3 {
        match round {
            1 => drop(scene.stage.fabric.age(&AgeOptions::change(1, 34.0)).expect("a change")),
            2 => {
                let options = AgeOptions { round: 2, change_percent: 1.0, delete: 1, ..Default::default() };
                scene.stage.fabric.age(&options).expect("a VM goes");
            }
            _ => {}
        }
        reports.push(scene.run().await);
        kept.push(scene.keep().await);
    }
    (scene, kept, reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_older_catalog_costs_one_full_run_and_nothing_else() {
    let (mut scene, kept, _) = three_runs(23).await;
    let before = scene.states().await;
    for (what, catalog) in
        [("lost", None), ("two runs old", kept[0].catalog.clone()), ("one run old", kept[1].catalog.clone())]
    {
        scene.put_back(&kept[2]);
        scene.put_catalog_back(catalog.as_deref());
        let catalog_knows = catalog.is_some();
        let report = scene.run().await;
        assert_eq!((report.record.seq, report.captured, report.unchanged), (4, 5, 0), "{what}");
        // The catalog that still knows the VM that went says that it is in no further record.
        let expected = if catalog_knows { ["vm-dropped"].into() } else { [].into() };
        assert_eq!(codes(&report.findings), expected, "{what}: nothing is wrong with the store");
        scene.check(what).await;
        let after = scene.states().await;
        assert!(before.iter().all(|(name, state)| after.get(name) == Some(state)), "{what}");
        assert_eq!(scene.stage.assert_all_come_back().await, 5);
        // From then on it knows again.
        let report = scene.run().await;
        assert_eq!((report.record.seq, report.captured, report.stored_objects), (5, 0, 1), "{what}");
        scene.check(what).await;
        let identities = Arc::new(scene.stage.identity(Role::Restore));
        restore_history(&scene.stage.vault, &identities, &scene.stage.new_folder()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_rolled_back_is_noticed_and_gets_its_records_again() {
    let (mut scene, kept, reports) = three_runs(24).await;
    for lost in [1usize, 2, 3] {
        let what = format!("{lost} runs lost");
        scene.put_back(&kept[2]);
        if lost < 3 {
            // Another, older state of the store under the catalog of now.
            let (store, faults) = faulty(Arc::new(kept[2 - lost].store.fork()));
            scene.stage.vault = scene.stage.vault_in(store);
            scene.faults = faults;
        } else {
            let writer = &scene.stage.hosts[0].id;
            for report in &reports {
                scene.faults.remove(record_path(writer, &report.record).as_str()).await.expect("a removal");
            }
        }
        let report = scene.run().await;
        assert_eq!(codes(&report.findings), ["rollback", "vm-dropped"].into(), "{what}");
        let rollback =
            report.findings.iter().find(|finding| finding.code == "rollback").expect("it is there");
        assert_eq!(rollback.severity, Severity::Damage);
        assert_eq!((report.record.seq, report.captured, report.unchanged), (4, 5, 0), "{what}: sealed anew");
        // The records are back; what they name and the store lost is named by the check.
        let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
        assert_eq!(ledgers.findings().count(), 0, "{what}: the ledger is whole again");
        let ledger = &ledgers.writers[&scene.stage.hosts[0].id];
        let names: Vec<RecordName> = ledger.counting().map(|record| record.signed.name).collect();
        assert_eq!(names[..3], reports.iter().map(|r| r.record).collect::<Vec<_>>(), "{what}");
        assert_eq!(names.len(), 4, "{what}");
        let checked = scene.stage.check().await.expect("a check");
        let expected = if lost < 3 { ["object-missing"].into() } else { [].into() };
        assert_eq!(codes(&checked.findings), expected, "{what}");
        let restorable = newest(&scene.stage.vault, &scene.stage.identity(Role::Restore)).await;
        assert_eq!(restorable.len(), 5, "{what}");
        assert_eq!(scene.stage.assert_all_come_back().await, 5);
        let report = scene.run().await;
        assert_eq!((report.findings.len(), report.captured, report.stored_objects), (0, 0, 1), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_missing_or_of_another_size_is_sealed_again() {
    let mut scene = Scene::set(5, 25).await;
    let report = scene.run().await;
    let kept = scene.keep().await;
    let writer = scene.stage.hosts[0].id.clone();
    let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let record = ledgers.writers[&writer].newest().expect("a record").signed.record.clone();
    assert_eq!(record.objects.len() as u64, report.stored_objects);
    let mut resealed = 0;
    for object in &record.objects {
        for keep_bytes in [None, Some(0), Some(object.size - 1), Some(object.size + 1)] {
            scene.put_back(&kept);
            let path = object_path(&writer, &object.name);
            let mut bytes = scene.faults.peek(path.as_str()).await.expect("the object").to_vec();
            match keep_bytes {
                None => scene.faults.remove(path.as_str()).await.expect("a removal"),
                Some(size) => {
                    bytes.resize(size as usize, 0);
                    scene.faults.replace(path.as_str(), bytes).await.expect("other bytes");
                }
            }
            let what = format!("{:?} of {} bytes: {keep_bytes:?}", object.content, object.size);
            let place =
                record.objects.iter().position(|o| o.name == object.name).expect("it is there") as u32;
            let users = record.subjects.values().filter(|places| places.contains(&place)).count() as u64;
            let report = scene.run().await;
            assert_eq!((report.captured, report.unchanged), (users, 5 - users), "{what}");
            resealed += users;
            let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
            let newest = &ledgers.writers[&writer].newest().expect("a record").signed;
            assert_eq!(newest.name, report.record);
            assert!(newest.record.objects.iter().all(|o| o.name != object.name), "{what}: not named again");
            scene.assert_restores(&object.name).await;
        }
    }
    assert!(resealed >= 20, "{resealed}");
}

impl Scene {
    /// The newest record restores; the check names the one bad object, which an older record still needs.
    async fn assert_restores(&self, bad: &Digest) {
        let checked = self.stage.check().await.expect("a check");
        let damage: Vec<_> = checked.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
        assert!(
            !damage.is_empty() && damage.iter().all(|f| f.place.contains(&bad.to_string())),
            "{damage:#?}"
        );
        let to = self.stage.new_folder().join("newest");
        let identities = Arc::new(self.stage.identity(Role::Restore));
        let restored =
            lifeboat_tests::stage::restore_all(&self.stage.vault, &Memory::default(), &identities, &to)
                .await
                .expect("a restore of the newest record");
        for vm in &self.stage.fabric.answers().vms {
            let found = restored.vms.iter().find(|one| one.vm_id == vm.vm_id).expect("every VM");
            assert_eq!(vm.compare_export(Path::new(&found.folder)).expect("its files"), []);
        }
        std::fs::remove_dir_all(&to).expect("the restored files go");
    }
}
