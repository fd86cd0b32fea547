//! The vault that is tampered with: two hosts, five VMs, three rounds, policies between them, one moved VM.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_engine::inventory::Inventory;
use lifeboat_schema::{Digest, Role, Time};
use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::stage::{Stage, restore_all, tiny_fabric};
use lifeboat_tests::testfabric::{AgeOptions, Fabric, FabricOptions, Mix, VmKind, VmPlan, VmTrait};
use lifeboat_vault::check::CheckOptions;
use lifeboat_vault::record::RecordName;
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::{Ledgers, Memory, Vault};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};

/// Everything in a store, by path.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// Files of one capture of one VM, by path in its folder.
type Capture = BTreeMap<String, Digest>;

pub(super) struct Specimen {
    pub(super) stage: Stage,
    /// The store at the end.
    pub(super) files: Files,
    /// The store after each step before the last.
    pub(super) states: Vec<Files>,
    /// Its ledgers, verified.
    pub(super) ledgers: Ledgers,
    /// What a client remembers that saw the end.
    pub(super) memory: Memory,
    /// Every capture that there ever was, by VM id and time: from the answer sheet, not from the vault.
    pub(super) history: BTreeMap<(String, Time), Capture>,
    /// VMs and times of what an untouched vault restores.
    pub(super) newest: Vec<(String, Time)>,
}

/// A copy of the store that one tampering after the other works on.
pub(super) struct StoreCopy {
    objects: Arc<InMemory>,
    pub(super) vault: Vault,
}

impl StoreCopy {
    pub(super) async fn put(&self, path: &str, bytes: Bytes) {
        self.objects.put(&ObjectPath::from(path), bytes.into()).await.expect("a put into memory");
    }

    pub(super) async fn remove(&self, path: &str) {
        self.objects.delete(&ObjectPath::from(path)).await.expect("a deletion in memory");
    }
}

/// One VM of every kind that has something to lose.
fn fabric(hosts: u32) -> FabricOptions {
    let plans = vec![
        VmPlan::new(VmKind::Shielded, [VmTrait::Checkpoint]),
        VmPlan::new(VmKind::GenerationOne, []),
        VmPlan::new(VmKind::LocalMode, []),
        VmPlan::new(VmKind::WithoutVtpm, []),
    ];
    FabricOptions { hosts, mix: Mix::Only(plans), ..tiny_fabric(4, 11) }
}

impl Specimen {
    /// The specimen, made at the first call of the process.
    pub(super) async fn get() -> &'static Self {
        static SPECIMEN: OnceLock<Specimen> = OnceLock::new();
        static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _making = MAKING.lock().await;
        if SPECIMEN.get().is_none() {
            let made = Self::make().await;
            assert!(SPECIMEN.set(made).is_ok(), "made under a lock");
        }
        SPECIMEN.get().expect("just made")
    }

    async fn make() -> Self {
        let store = Store::open("memory://", &StoreOptions::default(), &|_| None).expect("memory");
        let mut stage = Stage::set(store, "memory://", &fabric(2)).await;
        let mut states = vec![files_of(&stage.vault.store).await];
        let mut history = BTreeMap::new();

        let first = stage.enroll("host-1").await.expect("enrolled");
        states.push(files_of(&stage.vault.store).await);
        stage.run(first).await.expect("a run");
        note_captures(&stage, &mut history).await;
        states.push(files_of(&stage.vault.store).await);

        let second = stage.enroll("host-2").await.expect("enrolled");
        states.push(files_of(&stage.vault.store).await);
        age(&mut stage.fabric, &AgeOptions::change(1, 50.0));
        for host in [first, second] {
            stage.run(host).await.expect("a run");
            note_captures(&stage, &mut history).await;
            states.push(files_of(&stage.vault.store).await);
        }
        stage
            .change_policy(|terms| terms.writers[0].max_silence_seconds = Some(3600))
            .await
            .expect("a policy");
        states.push(files_of(&stage.vault.store).await);
        age(&mut stage.fabric, &AgeOptions { move_between_hosts: 1, roll: 1, ..AgeOptions::change(2, 25.0) });
        for host in [first, second] {
            stage.run(host).await.expect("a run");
            note_captures(&stage, &mut history).await;
            states.push(files_of(&stage.vault.store).await);
        }
        let files = states.pop().expect("the last state");

        let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
        let memory = ledgers.remember(&Memory::default());
        let identities = Arc::new(stage.identity(Role::Restore));
        let to = stage.new_folder();
        let restored = restore_all(&stage.vault, &memory, &identities, &to).await.expect("a restore");
        let newest = restored.vms.iter().map(|vm| (vm.vm_id.clone(), vm.captured)).collect();
        let specimen = Self { stage, files, states, ledgers, memory, history, newest };
        for vm in &restored.vms {
            specimen.assert_genuine(&vm.vm_id, vm.captured, Path::new(&vm.folder));
        }
        specimen
    }

    /// Compares a restored folder with the capture that it says to be.
    pub(super) fn assert_genuine(&self, vm_id: &str, captured: Time, folder: &Path) {
        let capture = self.history.get(&(vm_id.to_owned(), captured));
        let capture = capture.unwrap_or_else(|| panic!("{vm_id} was never captured at {captured}"));
        assert_eq!(&digests_below(folder), capture, "{vm_id} of {captured} came back as other bytes");
    }

    /// A copy of the store at the end.
    pub(super) async fn copy(&self) -> StoreCopy {
        let objects = Arc::new(InMemory::new());
        for (path, bytes) in &self.files {
            objects
                .put(&ObjectPath::from(path.as_str()), bytes.clone().into())
                .await
                .expect("a put into memory");
        }
        let options = StoreOptions::default();
        let inner: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&objects);
        let store = Store::from_object_store(inner, "", &options).expect("a store");
        StoreCopy { objects, vault: self.stage.vault_in(store) }
    }

    /// A check that reads everything, with all identities or with none.
    pub(super) fn check_options(&self, keyed: bool) -> CheckOptions {
        let identities = if keyed { self.stage.role_identities() } else { Vec::new() };
        CheckOptions { read_data: true, identities, ..CheckOptions::default() }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&String, &Bytes)> {
        self.files.iter().filter(|(path, _)| path.starts_with("ledger/"))
    }

    /// Folders of ledgers.
    pub(super) fn ledgers(&self) -> Vec<String> {
        let mut ledgers: Vec<String> = self.records().filter_map(|(path, _)| ledger_of(path)).collect();
        ledgers.dedup();
        ledgers
    }

    pub(super) fn last_seq(&self, ledger: &str) -> u64 {
        own_ledger(&self.files, ledger).map(|path| seq_of(path)).max().expect("a ledger with records")
    }

    /// Whether one of these records names the object at `path`.
    pub(super) fn is_named_by(&self, path: &str, records: &[String]) -> bool {
        let name =
            path.rsplit('/').next().and_then(|name| name.strip_suffix(".age")).expect("an object's path");
        let holds = |record: &String| {
            let line = &self.files[record];
            line.windows(name.len()).any(|window| window == name.as_bytes())
        };
        records.iter().any(holds)
    }
}

/// The folder of the ledger that a record lies in.
pub(super) fn ledger_of(path: &str) -> Option<String> {
    path.starts_with("ledger/").then(|| path.rsplit_once('/').expect("a folder").0.to_owned())
}

pub(super) fn own_ledger<'a>(files: &'a Files, ledger: &str) -> impl Iterator<Item = &'a String> {
    let prefix = format!("{ledger}/");
    files.keys().filter(move |path| path.starts_with(&prefix))
}

pub(super) fn seq_of(path: &str) -> u64 {
    let name: RecordName =
        path.rsplit('/').next().and_then(|name| name.parse().ok()).expect("a record's path");
    name.seq
}

/// Notes for each capture in the vault that is not known yet what the answer sheet says of the VM now.
async fn note_captures(stage: &Stage, history: &mut BTreeMap<(String, Time), Capture>) {
    let identities = stage.identity(Role::Audit);
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let found = Inventory::new(&stage.vault, &ledgers, &identities).newest().await.expect("an inventory");
    for found in found {
        let key = (found.entry.vm.vm_id.clone(), found.entry.captured);
        let vm = stage.fabric.answers().vm(&key.0).expect("a VM of the answer sheet");
        history
            .entry(key)
            .or_insert_with(|| vm.files.iter().map(|file| (file.path.clone(), file.digest)).collect());
    }
}

fn digests_below(folder: &Path) -> Capture {
    let mut digests = Capture::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a restored file");
            let place = path.strip_prefix(folder).expect("below it").to_string_lossy().replace('\\', "/");
            digests.insert(place, Digest::of(&bytes));
        }
    }
    digests
}

/// Everything in a store.
pub(crate) async fn files_of(store: &Store) -> Files {
    let objects = inner(store);
    let metas: Vec<_> = objects.list(None).try_collect().await.expect("a listing");
    let mut files = Files::new();
    for meta in metas {
        let bytes = objects.get(&meta.location).await.expect("a read").bytes().await.expect("its bytes");
        files.insert(meta.location.to_string(), bytes);
    }
    files
}

/// Brings a store back to an older state.
pub(super) async fn put_back(store: &Store, state: &Files) {
    let objects = inner(store);
    for path in files_of(store).await.keys() {
        objects.delete(&ObjectPath::from(path.as_str())).await.expect("a deletion");
    }
    for (path, bytes) in state {
        objects.put(&ObjectPath::from(path.as_str()), bytes.clone().into()).await.expect("a put");
    }
}

/// What carries out a store's requests.
fn inner(store: &Store) -> Arc<dyn ObjectStore> {
    let mut inner = None;
    let _ = store.decorated(|objects| {
        inner = Some(Arc::clone(&objects));
        objects
    });
    inner.expect("it was handed over")
}

pub(super) async fn small_stage() -> Stage {
    let store = Store::open("memory://", &StoreOptions::default(), &|_| None).expect("memory");
    Stage::set(store, "memory://", &small_fabric()).await
}

pub(super) async fn faulty_stage() -> (Stage, FaultStore<Arc<dyn ObjectStore>>) {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let faults = FaultStore::new(memory, 1);
    let store =
        Store::from_object_store(Arc::new(faults.clone()), "", &StoreOptions::default()).expect("a store");
    (Stage::set(store, "memory://", &small_fabric()).await, faults)
}

fn small_fabric() -> FabricOptions {
    FabricOptions { mix: Mix::Only(vec![VmPlan::new(VmKind::Shielded, [])]), ..tiny_fabric(2, 12) }
}

/// Lets every VM run for a while.
pub(super) fn change_everything(fabric: &mut Fabric, round: u32) {
    age(fabric, &AgeOptions::change(round, 100.0));
}

fn age(fabric: &mut Fabric, options: &AgeOptions) {
    fabric.age(options).expect("time passes");
}
