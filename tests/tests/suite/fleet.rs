//! The whole of a vault's life on each kind of store, and many hosts that write at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use lifeboat_schema::Role;
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::AgeOptions;
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::{Memory, Vault};
use tokio::runtime::Handle;

use crate::life::{assert_clean, restore_history};

/// First run, changes, an unchanged run; then everything is checked and comes back, of today and of before.
pub(crate) async fn a_life(store: Store, url: &str) {
    let mut options = tiny_fabric(12, 51);
    options.hosts = 2;
    let mut stage = Stage::set(store, url, &options).await;
    for name in stage.fabric.answers().hosts.clone() {
        stage.enroll(&name).await.expect("a host is let in");
    }
    for round in 0..4 {
        match round {
            1 => drop(stage.fabric.age(&AgeOptions::change(1, 30.0)).expect("changes")),
            2 => {
                let aging = AgeOptions {
                    round: 2,
                    roll: 2,
                    move_between_hosts: 1,
                    delete: 1,
                    add: 1,
                    ..Default::default()
                };
                stage.fabric.age(&aging).expect("a lively round");
            }
            _ => {}
        }
        for host in 0..2 {
            let report = stage.run(host).await.expect("a run");
            assert!(report.failed.is_empty() && report.findings.is_empty());
            assert_eq!(report.record.seq, round + 1);
            if round == 3 {
                assert_eq!((report.captured, report.stored_objects), (0, 1));
            }
        }
        assert_clean(&stage.check().await.expect("a check"), &format!("round {round}"));
        assert_eq!(stage.assert_all_come_back().await, 12);
    }
    let identities = Arc::new(stage.identity(Role::Restore));
    // Read by a client that has only the pinned id.
    let vault = Vault::open(stage.vault.store.clone(), &stage.vault.id).await.expect("the vault opens");
    let files = restore_history(&vault, &identities, &stage.new_folder()).await;
    assert!(files > 8 * 6 * 3, "{files} files of eight records");
    // Nobody makes a second vault there.
    let again = lifeboat_engine::admin::prepare(
        &stage.vault.store,
        lifeboat_engine::admin::NewVault {
            admins: &stage.admins,
            terms: stage.policies().await.newest().expect("a policy").terms.clone(),
            names: Default::default(),
            now: stage.now(),
            nonce: [1; 16],
        },
    );
    again.expect("good terms").write().await.err().expect("there is a vault already");
}

/// How many hosts write at once.
const AGENTS: u32 = 16;

/// Every host runs at the same time on a thread of its own, three times; then everything checks and restores.
pub(crate) async fn sixteen_agents_at_once(store: Store, url: &str) {
    let mut options = tiny_fabric(AGENTS * 2, 52);
    options.hosts = AGENTS;
    let mut stage = Stage::set(store, url, &options).await;
    for name in stage.fabric.answers().hosts.clone() {
        stage.enroll(&name).await.expect("a host is let in");
    }
    let mut stage = Arc::new(stage);
    let began = Instant::now();
    for round in 1..=3 {
        if round == 2 {
            let stage = Arc::get_mut(&mut stage).expect("no agent runs");
            stage.fabric.age(&AgeOptions::change(1, 25.0)).expect("changes");
        }
        let agents: Vec<_> = (0..AGENTS as usize)
            .map(|host| {
                let (stage, handle) = (Arc::clone(&stage), Handle::current());
                tokio::task::spawn_blocking(move || handle.block_on(stage.run(host)))
            })
            .collect();
        let mut captured = 0;
        for agent in agents {
            let report = agent.await.expect("no panic").expect("a run");
            assert!(report.failed.is_empty() && report.carried.is_empty() && report.findings.is_empty());
            assert_eq!((report.record.seq, report.found), (round, 2));
            captured += report.captured;
        }
        assert_eq!(captured, [32, 8, 0][round as usize - 1]);
    }
    let wrote = began.elapsed();
    let checked = stage.check().await.expect("a check");
    assert_clean(&checked, "after all agents");
    assert_eq!(checked.ledgers, u64::from(AGENTS) + 1);
    assert_eq!(checked.unreferenced, 0);
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let hosts: BTreeSet<_> = stage.hosts.iter().map(|host| host.id.clone()).collect();
    assert_eq!(ledgers.writers.keys().cloned().collect::<BTreeSet<_>>(), hosts);
    assert!(ledgers.writers.values().all(|ledger| ledger.counting().count() == 3));
    assert_eq!(stage.assert_all_come_back().await, 32);
    crate::told(&format!("{}: 48 runs of 16 agents took {wrote:.1?}", stage.vault.store.describe()));
}

fn memory() -> Store {
    Store::open("memory://", &StoreOptions::default(), &|_| None).expect("a store in memory")
}

/// A store in a new folder, with its URL.
fn folder() -> (tempfile::TempDir, Store, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = crate::store::file_url(folder.path());
    let store = Store::open(&url, &StoreOptions::default(), &|_| None).expect("a store in a folder");
    (folder, store, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_in_memory() {
    a_life(memory(), "memory://").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_in_a_folder() {
    let (_folder, store, url) = folder();
    a_life(store, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_agents_in_memory() {
    sixteen_agents_at_once(memory(), "memory://").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_agents_in_a_folder() {
    let (_folder, store, url) = folder();
    sixteen_agents_at_once(store, &url).await;
}
