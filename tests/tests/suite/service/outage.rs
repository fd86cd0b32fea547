//! A store that is down, throttles, refuses, or comes back as another one; and a spool that is full, torn or gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_agent::service::JobEnded;
use lifeboat_schema::{Exit, Role};
use lifeboat_tests::fault_store::{Call, Fault, FaultStore, Rule, When};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::AgeOptions;
use lifeboat_vault::vault::Memory;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::{FakeClock, HOUR, MINUTE, Rig};
use crate::life::{assert_clean, faulty, restore_history, states};

type Faults = FaultStore<Arc<dyn ObjectStore>>;

/// A host that has run once, in a store that fails as told.
struct Scene {
    stage: Stage,
    faults: Faults,
    rig: Rig,
    round: u32,
}

impl Scene {
    async fn set(vms: u32, change: impl FnOnce(&mut lifeboat_config::Config)) -> Self {
        let (store, faults) = faulty(Arc::new(InMemory::new()));
        let mut stage = Stage::set(store.clone(), "memory://", &tiny_fabric(vms, 61)).await;
        let name = stage.fabric.answers().hosts[0].clone();
        stage.enroll(&name).await.expect("a host is let in");
        let clock = FakeClock::new("2026-03-01T00:00:00Z");
        let mut rig = Rig::new(&stage.hosts[0], store, &clock, change);
        let first = rig.live(MINUTE).await;
        assert_eq!(names(&first), ["snapshot"], "{first:#?}");
        assert_eq!(first[0].exit, Exit::Done, "{first:#?}");
        Self { stage, faults, rig, round: 0 }
    }

    fn down(&self, fault: Fault) {
        for call in [Call::Put, Call::Get, Call::Head, Call::List] {
            self.faults.inject(Rule::always(call, fault));
        }
    }

    fn change(&mut self) {
        self.round += 1;
        self.stage.fabric.age(&AgeOptions::change(self.round, 50.0)).expect("a change");
    }

    /// Lets an hour pass in which VMs change.
    async fn hour(&mut self) -> Vec<JobEnded> {
        self.change();
        self.rig.live(HOUR).await
    }

    fn spool(&self) -> PathBuf {
        self.stage.hosts[0].folder.join("state/spool")
    }

    /// Sequence numbers in the store.
    async fn seqs(&self) -> Vec<u64> {
        let ledgers = self.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
        let ledger = &ledgers.writers[&self.stage.hosts[0].id];
        assert_eq!(ledger.findings, []);
        ledger.records.iter().map(|record| record.signed.name.seq).collect()
    }

    /// Nothing is wrong, everything restores, and the last state is what is on the host.
    async fn assert_whole(&self, when: &str) {
        assert_clean(&self.stage.check().await.expect("a check"), when);
        let identities = Arc::new(self.stage.identity(Role::Restore));
        let files = restore_history(&self.stage.vault, &identities, &self.stage.new_folder()).await;
        assert!(files > 0, "{when}");
        self.stage.assert_all_come_back().await;
    }
}

fn names(ended: &[JobEnded]) -> Vec<&str> {
    ended.iter().map(|job| job.name).collect()
}

fn codes(ended: &[JobEnded]) -> BTreeSet<&str> {
    ended.iter().flat_map(|job| &job.findings).map(|finding| finding.code.as_str()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(self::files(&path)),
            path => files.push(path),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_without_the_store_and_go_up_in_order() {
    for fault in [Fault::Unavailable(When::Before), Fault::TimedOut(When::Before), Fault::Denied, Fault::Full]
    {
        let mut scene = Scene::set(4, |_| {}).await;
        scene.down(fault);
        for hour in 1..=3 {
            let ended = scene.hour().await;
            let run = ended.iter().find(|job| job.name == "snapshot").expect("the run is due");
            assert_eq!(run.exit, Exit::Findings, "{fault:?}: {run:#?}");
            assert!(run.summary.contains("sealed into the spool"), "{}", run.summary);
            assert!(codes(&ended).contains("spooled"), "{ended:#?}");
            assert_eq!(scene.rig.waiting(), hour);
        }
        // Nothing in the spool can be read, and no name stands there.
        let (mut objects, answers) = (0, scene.stage.fabric.answers());
        for path in files(&scene.spool()) {
            let bytes = std::fs::read(&path).expect("a spooled file");
            let text = String::from_utf8_lossy(&bytes);
            for name in
                answers.vms.iter().map(|vm| vm.name.as_str()).chain([scene.stage.hosts[0].name.as_str()])
            {
                assert!(!text.contains(name), "{} names {name}", path.display());
            }
            if path.extension().is_some_and(|end| end == "age") {
                assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
                objects += 1;
            }
        }
        assert!(objects >= 6, "{objects} objects wait");
        // The process ends in between.
        scene.rig.start();
        scene.faults.revive();
        assert_eq!(scene.seqs().await, [1]);
        let ended = scene.rig.live(MINUTE).await;
        assert_eq!((names(&ended), scene.rig.waiting()), (vec!["send"], 0), "{ended:#?}");
        assert_eq!(scene.seqs().await, [1, 2, 3, 4], "{fault:?}");
        let ended = scene.hour().await;
        assert!(ended.iter().all(|job| job.exit == Exit::Done), "{ended:#?}");
        let run = ended.last().and_then(|job| job.snapshot.as_ref()).expect("a run");
        assert!(run.unchanged > 0, "what was spooled is not sealed again");
        assert_eq!(scene.seqs().await, [1, 2, 3, 4, 5]);
        assert_eq!(files(&scene.spool()), Vec::<PathBuf>::new());
        scene.assert_whole("after an outage").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_dies_within_a_run_or_while_the_spool_is_sent_loses_and_doubles_nothing() {
    let mut stops = 0;
    // Within a run: the first writes arrive, the rest waits.
    for nth in 1..=4 {
        let mut scene = Scene::set(4, |_| {}).await;
        scene.change();
        scene.faults.inject(Rule {
            skip: nth - 1,
            ..Rule::always(
                Call::Put,
                Fault::Unavailable(if nth % 2 == 0 { When::After } else { When::Before }),
            )
        });
        scene.rig.live(HOUR).await;
        let waited = scene.rig.waiting();
        scene.faults.revive();
        scene.rig.live(20 * MINUTE).await;
        scene.hour().await;
        assert_eq!(scene.rig.waiting(), 0);
        assert_eq!(scene.seqs().await, [1, 2, 3], "write {nth}, {waited} waited");
        scene.assert_whole("a store that died within a run").await;
        stops += waited;
    }
    assert!(stops >= 2, "{stops}");
    // While three runs are sent, at every write, with the process that sends ending too.
    let mut sent = 0;
    for nth in 1.. {
        let mut scene = Scene::set(3, |_| {}).await;
        scene.down(Fault::Unavailable(When::Before));
        for _ in 0..3 {
            scene.hour().await;
        }
        let before = scene.rig.waiting();
        scene.faults.revive();
        scene.faults.crash_at(nth, if nth % 2 == 0 { When::After } else { When::Before });
        scene.rig.start();
        scene.rig.live(MINUTE).await;
        let died = scene.faults.is_dead();
        scene.faults.revive();
        scene.rig.start();
        scene.rig.live(MINUTE).await;
        assert_eq!((before, scene.rig.waiting()), (3, 0), "write {nth}");
        assert_eq!(scene.seqs().await, [1, 2, 3, 4], "write {nth}");
        scene.hour().await;
        scene.assert_whole("a store that died while the spool was sent").await;
        sent += 1;
        if !died {
            break;
        }
    }
    assert!(sent >= 8, "{sent}");
    crate::told(&format!("{sent} ends of a sending"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_as_another_one_gets_nothing_of_the_spool() {
    let mut scene = Scene::set(4, |_| {}).await;
    scene.hour().await;
    assert_eq!(scene.seqs().await, [1, 2]);
    let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let newest = ledgers.writers[&scene.stage.hosts[0].id].newest().expect("a record").signed.name;
    scene.down(Fault::Unavailable(When::Before));
    scene.hour().await;
    scene.hour().await;
    assert_eq!(scene.rig.waiting(), 2);
    // An older state of the store is put back.
    scene.faults.revive();
    scene.faults.remove(&format!("ledger/{}/{newest}", scene.stage.hosts[0].id)).await.expect("gone");
    let ended = scene.rig.live(2 * HOUR).await;
    let codes = codes(&ended);
    assert!(codes.contains("spool-given-up") && codes.contains("rollback"), "{ended:#?}");
    assert_eq!((scene.rig.waiting(), files(&scene.spool()).len()), (0, 0), "sealed files are destroyed");
    // The record that the store lost is there again, and what follows names nothing of the spool.
    assert_eq!(scene.seqs().await[..3], [1, 2, 3]);
    scene.assert_whole("after a rollback").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_lost_or_damaged_is_sealed_anew() {
    for what in ["lost", "the last one lost", "damaged", "the catalog lost"] {
        let mut scene = Scene::set(4, |_| {}).await;
        scene.down(Fault::Unavailable(When::Before));
        scene.hour().await;
        scene.hour().await;
        let state = scene.stage.hosts[0].folder.join("state");
        let mut runs: Vec<PathBuf> = std::fs::read_dir(scene.spool())
            .expect("the spool")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        runs.sort();
        match what {
            "lost" => std::fs::remove_dir_all(scene.spool()).expect("gone"),
            "the last one lost" => std::fs::remove_dir_all(&runs[1]).expect("gone"),
            "damaged" => {
                let object = files(&runs[1]).into_iter().find(|path| path.extension().is_some());
                std::fs::write(object.expect("an object"), b"something else").expect("damaged");
            }
            _ => {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(state.join(format!("catalog.sqlite{suffix}")));
                }
            }
        }
        scene.faults.revive();
        scene.rig.start();
        let ended = scene.rig.live(HOUR).await;
        let expected = match what {
            "damaged" => Some("spool-given-up"),
            "the catalog lost" => None,
            _ => Some("spool-lost"),
        };
        assert!(expected.is_none_or(|code| codes(&ended).contains(code)), "{what}: {ended:#?}");
        scene.hour().await;
        let seqs = scene.seqs().await;
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64) && seqs.len() >= 3, "{what}: {seqs:?}");
        assert_eq!(files(&scene.spool()), Vec::<PathBuf>::new(), "{what}");
        scene.assert_whole(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_fails_runs_and_keeps_what_it_has() {
    let mut scene = Scene::set(16, |config| config.spool.max_mebibytes = 1).await;
    scene.down(Fault::Unavailable(When::Before));
    let mut full = None;
    for _ in 0..60 {
        let ended = scene.hour().await;
        if let Some(job) = ended.into_iter().find(|job| job.summary.contains("is full")) {
            full = Some(job);
            break;
        }
    }
    let full = full.expect("the spool is full at some time");
    assert_eq!(full.exit, Exit::Failed);
    assert!(full.summary.contains("spool.max_mebibytes"), "{}", full.summary);
    let waiting = scene.rig.waiting();
    assert!(waiting >= 2, "{waiting} runs wait");
    assert!(scene.rig.service().agent().spooled_bytes() <= 1 << 20);
    scene.faults.revive();
    scene.rig.live(20 * MINUTE).await;
    scene.hour().await;
    assert_eq!(scene.rig.waiting(), 0);
    assert!(scene.seqs().await.len() > waiting, "all that waited is there, and what came after");
    scene.assert_whole("after a full spool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_its_window_the_store_is_not_asked() {
    let mut scene = Scene::set(3, |config| {
        config.upload.window = "22:00-06:00".to_owned();
        config.upload.time_zone = "UTC".to_owned();
    })
    .await;
    scene.rig.live(5 * HOUR).await;
    assert_eq!(scene.rig.waiting(), 0);
    scene.faults.reset_counts();
    for _ in 0..12 {
        scene.hour().await;
    }
    assert_eq!(scene.faults.counts(), Default::default(), "nothing was asked by day");
    assert!(scene.rig.waiting() >= 12);
    scene.rig.live(6 * HOUR).await;
    assert_eq!(scene.rig.waiting(), 0);
    scene.assert_whole("after a day without uploads").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_run_costs_at_most_three_writes() {
    for vms in [4, 60] {
        let mut scene = Scene::set(vms, |_| {}).await;
        for _ in 0..3 {
            scene.faults.reset_counts();
            let ended = scene.rig.live(HOUR).await;
            assert_eq!(names(&ended), ["snapshot"]);
            let counts = scene.faults.counts();
            assert!((1..=3).contains(&counts.puts), "{vms} VMs: {counts:?}");
            assert_eq!(counts.deletes, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_read_back_and_a_damaged_object_is_told() {
    let mut scene = Scene::set(4, |config| {
        config.schedule.check_sample = lifeboat_config::JobSchedule::at("*/10 * * * *");
        config.schedule.check_sample.jitter_seconds = 0;
        config.service.sample_objects = 1000;
    })
    .await;
    let ended = scene.rig.live(11 * MINUTE).await;
    let sample = ended.iter().find(|job| job.name == "check-sample").expect("it is due");
    assert_eq!((sample.exit, sample.findings.len()), (Exit::Done, 0), "{sample:#?}");
    assert!(!sample.summary.starts_with("0 objects"), "{}", sample.summary);
    let all = states(&scene.stage.vault, &scene.stage.identity(Role::Restore)).await;
    assert_eq!(all.len(), 1);
    let listing = scene
        .stage
        .vault
        .store
        .list(&format!("objects/{}", scene.stage.hosts[0].id), None)
        .await
        .expect("a listing");
    let (one, other) = (&listing.objects[0], &listing.objects[1]);
    scene.faults.replace(one.path.as_str(), vec![0; one.size_bytes as usize]).await.expect("replaced");
    scene.faults.remove(other.path.as_str()).await.expect("removed");
    let ended = scene.rig.live(10 * MINUTE).await;
    let sample = ended.iter().find(|job| job.name == "check-sample").expect("it is due");
    assert_eq!((sample.exit, sample.findings.len()), (Exit::Damage, 2), "{sample:#?}");
}
