//! A stage for suites: a vault in any store, its keys and identities, a synthetic fabric, and hosts that write.
//!
//! Everything runs in this process and through the libraries, in the order and with the calls of the real
//! programs: what `lifeboat init`, `host enroll`, `lifeboat-agent run --once`, `check` and `restore --all` do.
//! Each host has a folder as `host enroll` writes it. The clock is the stage's own: it goes on by one second
//! each time somebody looks at it. Whatever fails unexpectedly panics, as in any test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lifeboat_config::{Config, SourceConfig, StoreConfig};
use lifeboat_engine::admin::{AdminError, Names, NewVault, add_writer, prepare};
use lifeboat_engine::catalog::{Catalog, HeldVm};
use lifeboat_engine::inventory::{Inventory, by_vm};
use lifeboat_engine::restore::{self, RestoreError, RestoreFailure, RestoreOptions};
use lifeboat_engine::snapshot::{
    Clock, SnapshotContext, SnapshotError, SnapshotOptions, SnapshotReport, Unobserved, snapshot,
};
use lifeboat_engine::source::HostSource;
use lifeboat_hyperv::{DirectoryOptions, DirectorySource};
use lifeboat_schema::{
    Finding, Kind, OwnerId, OwnerTerms, PolicyRef, PolicyTerms, Record, RestoredVm, Role, Time, VaultId,
    VmSelector, WriterId, WriterTerms,
};
use lifeboat_vault::check::{CheckObserver, CheckOptions, CheckReport, RoleIdentity};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::policy::PolicyChain;
use lifeboat_vault::record::SignedRecord;
use lifeboat_vault::seal::{Identities, NewIdentity, NoCallbacks};
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::{Ledgers, Memory, Vault, VaultError};
use lifeboat_vault::writer::Writer;
use tempfile::TempDir;

use crate::testfabric::{Fabric, FabricOptions, Sizes};

/// When every stage begins: 2026-01-01T00:00:00Z.
const BEGINNING_UNIX_SECONDS: i64 = 1_767_225_600;

/// Options of a fabric whose VMs are as small as their formats allow.
pub fn tiny_fabric(vms: u32, seed: u64) -> FabricOptions {
    FabricOptions {
        sizes: Sizes { configuration_random_bytes: 0, vtpm_state_bytes: 4096, guest_state_bytes: 65_536 },
        ..FabricOptions::new(vms, seed)
    }
}

/// One host of the fabric that was let into the vault.
pub struct StageHost {
    /// Its name, which is also that of its folder in the fabric.
    pub name: String,
    /// Its writer's id.
    pub id: WriterId,
    /// The agent's folder: `agent.toml`, `signing.key` and `state/`.
    pub folder: PathBuf,
    seed: [u8; 32],
}

impl StageHost {
    /// The host as a writer.
    pub fn writer(&self) -> Writer {
        Writer { id: self.id.clone(), key: self.key() }
    }

    /// The key that signs its records.
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(&self.seed)
    }

    /// Its seed: no file or text but `signing.key` may hold it.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Its catalog.
    pub fn catalog_path(&self) -> PathBuf {
        self.folder.join("state").join("catalog.sqlite")
    }

    /// JSON of every VM's entry in the catalog, where it is compressed: for searches.
    ///
    /// # Panics
    /// Where the catalog cannot be read.
    pub fn catalog_entries(&self, vault: &VaultId) -> Vec<Vec<u8>> {
        let catalog = Catalog::open(&self.catalog_path(), vault, &self.id).expect("the catalog");
        let entry = |vm: HeldVm| catalog.entry(&vm.key).expect("the catalog").expect("an entry").json();
        catalog.vms().expect("the catalog").into_iter().map(|vm| entry(vm).expect("packed JSON")).collect()
    }
}

/// A vault with everything around it.
pub struct Stage {
    /// The vault, in the store that the stage was set in.
    pub vault: Vault,
    /// The two admin keys.
    pub admins: [SigningKey; 2],
    /// The one owner of all VMs.
    pub owner: OwnerId,
    /// The hosts and their answer sheet.
    pub fabric: Fabric,
    /// Hosts that were enrolled, in that order.
    pub hosts: Vec<StageHost>,
    /// How hosts seal; bundles are small, so that small VMs have several.
    pub options: SnapshotOptions,
    url: String,
    identities: BTreeMap<Role, String>,
    clock: Arc<AtomicI64>,
    scratch: TempDir,
}

impl Stage {
    /// Makes a fabric and a vault without hosts in `store`. `url` only stands in the hosts' configurations.
    pub async fn set(store: Store, url: &str, fabric: &FabricOptions) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let fabric = Fabric::generate(scratch.path().join("fabric"), fabric).expect("a fabric");
        let clock = Arc::new(AtomicI64::new(BEGINNING_UNIX_SECONDS));
        let owner = OwnerId::random([7; 10]);
        let new: BTreeMap<Role, NewIdentity> =
            Role::ALL.iter().map(|role| (*role, NewIdentity::generate())).collect();
        let terms = PolicyTerms {
            owners: vec![OwnerTerms {
                id: owner.clone(),
                vms: vec![VmSelector::All],
                recipients: new.iter().map(|(role, one)| (*role, vec![one.recipient()])).collect(),
            }],
            writers: Vec::new(),
        };
        let admins = [SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32])];
        let names =
            Names { owners: BTreeMap::from([(owner.clone(), "the owner".to_owned())]), ..Names::default() };
        let now = tick(&clock);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&fabric.answers().options.seed.to_be_bytes());
        let prepared =
            prepare(&store, NewVault { admins: &admins, terms, names, now, nonce }).expect("good terms");
        let comments = |role: &Role| [format!("vault: {}", prepared.id()), format!("role: {role}")];
        let identities = new
            .iter()
            .map(|(role, one)| {
                let comments = comments(role);
                (*role, one.file(&[comments[0].as_str(), comments[1].as_str()]).expose().to_owned())
            })
            .collect();
        let (vault, _) = prepared.write().await.expect("a vault");
        let options = SnapshotOptions { bundle_bytes: 64 << 10, threads: 2, ..SnapshotOptions::default() };
        let url = url.to_owned();
        Self { vault, admins, owner, fabric, hosts: Vec::new(), options, url, identities, clock, scratch }
    }

    /// Makes a vault in memory, enrolls every host of the fabric, and lets each run once.
    pub async fn in_memory(fabric: &FabricOptions) -> Self {
        let store = Store::open("memory://", &Default::default(), &|_| None).expect("a store in memory");
        let mut stage = Self::set(store, "memory://", fabric).await;
        for name in stage.fabric.answers().hosts.clone() {
            let host = stage.enroll(&name).await.expect("a host is let in");
            stage.run(host).await.expect("a first run");
        }
        stage
    }

    /// Lets a host of the fabric write into the vault, and writes its agent's folder; gives its place in `hosts`.
    ///
    /// # Errors
    /// What the admin's side of it says, such as that the store failed.
    pub async fn enroll(&mut self, name: &str) -> Result<usize, AdminError> {
        let number = u8::try_from(self.hosts.len() + 1).expect("few hosts");
        let (id, seed) = (WriterId::random("h", [number; 10]), [100 + number; 32]);
        let terms = writer_terms(&id, &SigningKey::from_seed(&seed));
        let policy = add_writer(&self.vault, &self.admins[0], terms, name, self.now()).await?;
        let folder = self.scratch.path().join("agents").join(name);
        std::fs::create_dir_all(folder.join("state")).expect("a folder for the agent");
        let host = StageHost { name: name.to_owned(), id, folder, seed };
        let key = host.key().to_openssh(None).expect("a key's text");
        write_private(&host.folder.join("signing.key"), key.as_bytes());
        let text = toml::to_string_pretty(&self.config(&host, policy)).expect("a configuration's text");
        write_private(&host.folder.join("agent.toml"), text.as_bytes());
        self.hosts.push(host);
        Ok(self.hosts.len() - 1)
    }

    fn config(&self, host: &StageHost, policy: PolicyRef) -> Config {
        let store =
            StoreConfig { url: self.url.clone(), options: Default::default(), credentials_file: None };
        let source = SourceConfig::Directory {
            name: "vms".to_owned(),
            roots: self.roots(&host.name),
            attempts: 1,
            retry_delay_milliseconds: 1,
        };
        let (vault, writer) = (self.vault.id.clone(), host.id.clone());
        Config::new(vault, writer, host.name.clone(), policy, store, vec![source])
    }

    /// Every folder of a host that may come to have VMs.
    fn roots(&self, name: &str) -> Vec<PathBuf> {
        vec![self.fabric.host_dir(name)]
    }

    /// Runs the agent of a host once, with the catalog in its folder.
    ///
    /// # Errors
    /// What the run says; nothing was committed then, unless the store lost only its answer.
    pub async fn run(&self, host: usize) -> Result<SnapshotReport, SnapshotError> {
        self.run_on(&self.vault, host, |_| {}).await
    }

    /// Runs the agent of a host once into `vault`, which may be this one behind another store. `prepare` gets
    /// the open catalog before the run begins, to hook into its commits for example.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub async fn run_on(
        &self,
        vault: &Vault,
        host: usize,
        prepare: impl FnOnce(&mut Catalog),
    ) -> Result<SnapshotReport, SnapshotError> {
        let host = &self.hosts[host];
        let mut catalog = Catalog::open(&host.catalog_path(), &vault.id, &host.id)?;
        prepare(&mut catalog);
        let options = DirectoryOptions { attempts: 1, retry_delay_milliseconds: 1, ..Default::default() };
        let source: Arc<dyn HostSource> =
            Arc::new(DirectorySource::new("vms", self.roots(&host.name), options));
        snapshot(SnapshotContext {
            vault,
            writer: &host.writer(),
            host: &host.name,
            sources: &[source],
            catalog: &mut catalog,
            options: &self.options,
            only: None,
            clock: self.clock(),
            observer: Arc::new(Unobserved),
        })
        .await
    }

    /// Signs a policy that follows the newest one, with `change` made to its terms.
    ///
    /// # Errors
    /// [`VaultError`]; nothing counts then. Whether readers take the policy is theirs to say.
    pub async fn change_policy(
        &self,
        change: impl FnOnce(&mut PolicyTerms),
    ) -> Result<PolicyRef, VaultError> {
        let (ledger, policies) = self.vault.policies(None).await?;
        let newest = policies.newest().expect("policies were required");
        let last = ledger.newest().expect("the newest policy is a record").signed.clone();
        let mut terms = newest.terms.clone();
        change(&mut terms);
        let now = self.now();
        let record = Record {
            seq: last.name.seq + 1,
            prev: Some(last.name.id),
            policy: Some(newest.place),
            started: now,
            finished: now,
            terms: Some(terms),
            ..last.record
        };
        let signed = SignedRecord::sign(record, &self.admins[0])?;
        self.vault.put_record(&WriterId::admin(), &signed).await?;
        Ok(PolicyRef { seq: signed.name.seq, id: signed.name.id })
    }

    /// The policies that hold.
    pub async fn policies(&self) -> PolicyChain {
        self.vault.policies(None).await.expect("policies").1
    }

    /// The same vault behind another store.
    pub fn vault_in(&self, store: Store) -> Vault {
        let Vault { id, head, .. } = self.vault.clone();
        Vault::unwritten(store, id, head).expect("the keys were read before")
    }

    /// The text of an identity's file.
    pub fn identity_text(&self, role: Role) -> &str {
        &self.identities[&role]
    }

    /// An identity.
    pub fn identity(&self, role: Role) -> Identities {
        Identities::parse(self.identities[&role].as_bytes(), None, NoCallbacks).expect("an identity")
    }

    /// All identities, as a check takes them.
    pub fn role_identities(&self) -> Vec<RoleIdentity> {
        let of = |role: &Role| RoleIdentity {
            owner: self.owner.clone(),
            role: *role,
            identities: self.identity(*role),
        };
        Role::ALL.iter().map(of).collect()
    }

    /// What the stage's clock shows next.
    pub fn now(&self) -> Time {
        tick(&self.clock)
    }

    /// The stage's clock, for a run.
    pub fn clock(&self) -> Clock {
        let clock = Arc::clone(&self.clock);
        Arc::new(move || tick(&clock))
    }

    /// A new folder that lives as long as the stage.
    pub fn new_folder(&self) -> PathBuf {
        tempfile::tempdir_in(self.scratch.path()).expect("a temporary folder").keep()
    }

    /// Checks the vault with every identity, down to the last byte.
    ///
    /// # Errors
    /// What ends a check.
    pub async fn check(&self) -> Result<CheckReport, VaultError> {
        let ledgers = self.vault.ledgers(&Memory::default()).await?;
        let options =
            CheckOptions { read_data: true, identities: self.role_identities(), ..CheckOptions::default() };
        self.vault.check(&ledgers, options, &Silent).await
    }

    /// Restores everything and compares each VM with the fabric as it is now; gives how many there were.
    ///
    /// # Panics
    /// When a VM of the answer sheet does not come back byte for byte.
    pub async fn assert_all_come_back(&self) -> usize {
        let to = self.new_folder().join("restored");
        let identities = Arc::new(self.identity(Role::Restore));
        let restored =
            restore_all(&self.vault, &Memory::default(), &identities, &to).await.expect("a restore");
        assert_eq!(restored.findings, [], "the vault is in order");
        let answers = self.fabric.answers();
        for vm in &answers.vms {
            let found = restored.vms.iter().find(|one| one.vm_id == vm.vm_id);
            let folder = &found.unwrap_or_else(|| panic!("{} did not come back", vm.name)).folder;
            let differences = vm.compare_export(Path::new(folder)).expect("the files of a restored VM");
            assert_eq!(differences, [], "{} came back as it is", vm.name);
        }
        std::fs::remove_dir_all(&to).expect("the restored files go");
        answers.vms.len()
    }
}

/// What [`restore_all`] gave.
#[derive(Debug)]
pub struct RestoredAll {
    /// VMs that came back.
    pub vms: Vec<RestoredVm>,
    /// What kept others away.
    pub failures: Vec<RestoreFailure>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Restores the newest capture of every VM that `identities` show, as `lifeboat restore --all` does, where each of
/// them is to come back.
///
/// # Errors
/// [`RestoreError`], also if one VM does not.
pub async fn restore_all(
    vault: &Vault,
    memory: &Memory,
    identities: &Arc<Identities>,
    to: &Path,
) -> Result<RestoredAll, RestoreError> {
    let ledgers = vault.ledgers(memory).await?;
    let mut restored = restore_all_of(vault, &ledgers, identities, to).await?;
    match restored.failures.pop() {
        Some(failure) => Err(failure.error),
        None => Ok(restored),
    }
}

/// Restores what comes back, with ledgers that were read before.
///
/// # Errors
/// [`RestoreError`], as the command would end.
pub async fn restore_all_of(
    vault: &Vault,
    ledgers: &Ledgers,
    identities: &Arc<Identities>,
    to: &Path,
) -> Result<RestoredAll, RestoreError> {
    let mut inventory = Inventory::new(vault, ledgers, identities);
    let found = inventory.newest().await?;
    let mut findings: Vec<Finding> = ledgers.findings().cloned().collect();
    findings.append(&mut inventory.findings);
    let chosen: Vec<_> =
        by_vm(found).into_iter().map(|vm| (vm.newest, "it is the newest".to_owned())).collect();
    let options = RestoreOptions { to: to.to_owned(), threads: 1, given: restore::Circumstances::default() };
    let restored = restore::restore(vault, &chosen, identities, &options, &restore::Unobserved).await?;
    Ok(RestoredAll { vms: restored.vms, failures: restored.failures, findings })
}

/// Terms of a writer of snapshots.
pub fn writer_terms(id: &WriterId, key: &SigningKey) -> WriterTerms {
    WriterTerms {
        id: id.clone(),
        key: key.verifying_key().to_openssh(),
        kinds: vec![Kind::Snapshot],
        max_silence_seconds: None,
        cut: None,
    }
}

/// Watches a check without a word.
pub struct Silent;

impl CheckObserver for Silent {
    fn planned(&self, _: u64, _: u64) {}
    fn object_done(&self, _: u64) {}
}

fn tick(clock: &AtomicI64) -> Time {
    Time::from_unix_seconds(clock.fetch_add(1, Ordering::Relaxed))
}

fn write_private(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file for the agent");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).expect("its mode");
    }
}
