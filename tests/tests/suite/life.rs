//! What the suites about runs share: what a vault says of each VM, and how it is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_engine::inventory::{Found, Inventory};
use lifeboat_engine::restore::{self, RestoreOptions};
use lifeboat_schema::{CarriedWhy, Digest, Finding, Role, Severity, VmEntry};
use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::stage::{Silent, Stage};
use lifeboat_vault::check::{CheckOptions, CheckReport, RoleIdentity};
use lifeboat_vault::record::RecordName;
use lifeboat_vault::seal::Identities;
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::{Memory, Vault};
use object_store::ObjectStore;

/// A store over `inner` that fails as told; it never waits and never tries again.
pub(crate) fn faulty(inner: Arc<dyn ObjectStore>) -> (Store, FaultStore<Arc<dyn ObjectStore>>) {
    let faults = FaultStore::new(inner, 1);
    let mut options = StoreOptions::default();
    options.retry.initial_backoff_milliseconds = 1;
    options.retry.max_retries = 0;
    let store = Store::from_object_store(Arc::new(faults.clone()), "", &options).expect("a store");
    (store, faults)
}

/// What one record says of one VM: the digest of each of its files, and whether it only carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Digest>,
    pub(crate) carried: Option<CarriedWhy>,
}

/// VMs by id. Two copies of a VM on one host have the same id; they get their places behind it.
pub(crate) type States = BTreeMap<String, State>;

fn state(found: &Found) -> State {
    let files = found.entry.artefacts.iter().map(|file| (file.path.clone(), file.digest)).collect();
    State { files, carried: found.carried }
}

/// What every record that counts says, by its name.
pub(crate) async fn states(vault: &Vault, identities: &Identities) -> BTreeMap<RecordName, States> {
    let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
    let mut inventory = Inventory::new(vault, &ledgers, identities);
    let mut states: BTreeMap<RecordName, States> = BTreeMap::new();
    for found in inventory.all().await.expect("bodies") {
        let name = RecordName { seq: found.record.seq, id: found.record_id };
        let vm = found.entry.vm.vm_id.clone();
        states.entry(name).or_default().insert(vm, state(&found));
    }
    assert_eq!(inventory.findings, [], "every body is read");
    states
}

/// The states in each writer's newest record.
pub(crate) async fn newest(vault: &Vault, identities: &Identities) -> Vec<Found> {
    let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
    let mut inventory = Inventory::new(vault, &ledgers, identities);
    let found = inventory.newest().await.expect("bodies");
    assert_eq!(inventory.findings, [], "every body is read");
    found
}

/// The newest record's entry of one VM.
pub(crate) async fn newest_entry(stage: &Stage, vm_id: &str) -> VmEntry {
    let found = newest(&stage.vault, &stage.identity(Role::Restore)).await;
    let found = found.into_iter().find(|found| found.entry.vm.vm_id == vm_id);
    (*found.expect("the newest record has the VM").entry).clone()
}

/// Checks everything with these identities, down to the last byte.
pub(crate) async fn check_with(vault: &Vault, identities: Vec<RoleIdentity>) -> CheckReport {
    let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
    let options = CheckOptions { read_data: true, identities, ..CheckOptions::default() };
    vault.check(&ledgers, options, &Silent).await.expect("a check that ends")
}

/// Says that a check found nothing but objects that no record names.
pub(crate) fn assert_clean(report: &CheckReport, when: &str) {
    let wrong: Vec<&Finding> = report.findings.iter().filter(|f| f.severity != Severity::Note).collect();
    assert!(wrong.is_empty(), "{when}: {wrong:#?}");
    assert!(report.records > 0, "{when}: something was checked");
}

/// Codes of findings, each once.
pub(crate) fn codes(findings: &[Finding]) -> BTreeSet<&str> {
    findings.iter().filter(|f| f.severity != Severity::Note).map(|f| f.code.as_str()).collect()
}

/// Restores every VM of every record, and compares each file with the digest that its body states; gives
/// the number of files.
pub(crate) async fn restore_history(vault: &Vault, identities: &Arc<Identities>, folder: &Path) -> usize {
    let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
    let mut inventory = Inventory::new(vault, &ledgers, identities);
    let mut by_record: BTreeMap<(String, RecordName), Vec<Found>> = BTreeMap::new();
    for found in inventory.all().await.expect("bodies") {
        let name = RecordName { seq: found.record.seq, id: found.record_id };
        by_record.entry((found.record.writer.to_string(), name)).or_default().push(found);
    }
    let mut files = 0;
    for ((writer, name), all) in by_record {
        let to: PathBuf = folder.join(format!("{writer}-{}", name.seq));
        let chosen: Vec<(Found, String)> =
            all.into_iter().map(|found| (found, "all are".to_owned())).collect();
        let options = RestoreOptions { to: to.clone(), threads: 2, given: restore::Circumstances::default() };
        let restored = restore::restore(vault, &chosen, identities, &options, &restore::Unobserved)
            .await
            .unwrap_or_else(|error| panic!("record {} of {writer}: {error}", name.seq));
        assert!(restored.failures.is_empty(), "{:?}", restored.failures);
        assert_eq!(restored.vms.len(), chosen.len());
        for ((found, _), vm) in chosen.iter().zip(&restored.vms) {
            assert_eq!(found.entry.vm.vm_id, vm.vm_id);
            for artefact in found.entry.artefacts.iter().filter(|artefact| artefact.kind.is_vm_file()) {
                let bytes =
                    std::fs::read(Path::new(&vm.folder).join(&artefact.path)).expect("a restored file");
                assert_eq!(Digest::of(&bytes), artefact.digest, "{} of record {}", artefact.path, name.seq);
                files += 1;
            }
        }
        std::fs::remove_dir_all(&to).expect("the restored files go");
    }
    files
}
