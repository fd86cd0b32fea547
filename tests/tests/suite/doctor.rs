//! `doctor` against every kind of store, and what its probes leave behind.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lifeboat_agent::doctor::{DoctorWorld, examine_with};
use lifeboat_config::Config;
use lifeboat_schema::{CheckOutcome, DoctorReport, Exit, Severity, StoreProtection, Time};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_vault::store::{Store, StoreOptions};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::store::file_url;

/// Two hosts that ran once.
pub(crate) async fn two_hosts(store: Store, url: &str, seed: u64) -> Stage {
    let mut options = tiny_fabric(4, seed);
    options.hosts = 2;
    let mut stage = Stage::set(store, url, &options).await;
    for name in stage.fabric.answers().hosts.clone() {
        let host = stage.enroll(&name).await.expect("a host is let in");
        stage.run(host).await.expect("a first run");
    }
    stage
}

pub(crate) fn config_of(stage: &Stage, host: usize) -> Config {
    Config::read(&stage.hosts[host].folder.join("agent.toml")).expect("a configuration")
}

/// Has the doctor look at the first host, in `store`.
pub(crate) async fn examined(config: &Config, store: Store, now: Time) -> DoctorReport {
    let count = std::cell::Cell::new(0u8);
    let seed = stage_seed();
    let world = DoctorWorld {
        environment: &|_| None,
        now,
        random: &|| {
            count.set(count.get() + 1);
            let mut bytes = seed;
            bytes[31] ^= count.get();
            Some(bytes)
        },
    };
    examine_with(config, Ok(store), &world).await
}

/// Another name each time: what a probe leaves stays.
fn stage_seed() -> [u8; 32] {
    let mut bytes = [0; 32];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    bytes[..16].copy_from_slice(&now.as_nanos().to_le_bytes());
    bytes
}

#[track_caller]
pub(crate) fn outcome(report: &DoctorReport, check: &str) -> CheckOutcome {
    let found = report.checks.iter().find(|one| one.check == check);
    found.unwrap_or_else(|| panic!("{check} is not in {report:#?}")).outcome
}

/// Whatever a probe leaves is no trouble for the vault.
pub(crate) async fn assert_left_in_order(stage: &Stage) {
    let checked = stage.check().await.expect("a check");
    let bad: Vec<_> = checked.findings.iter().filter(|one| one.severity > Severity::Note).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(stage.assert_all_come_back().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_a_memory_work_and_are_unprotected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = file_url(folder.path());
    let open = |url: &str| Store::open(url, &StoreOptions::default(), &|_| None).expect("open");
    for (url, seed) in [(url.as_str(), 71), ("memory://", 72)] {
        let stage = two_hosts(open(url), url, seed).await;
        let report = examined(&config_of(&stage, 0), stage.vault.store.clone(), stage.now()).await;
        assert_eq!(report.protection, StoreProtection::Unprotected, "{report:#?}");
        for check in
            ["signing-key", "catalog", "source vms", "vault", "policy", "listing", "conditional-writes"]
        {
            assert_eq!(outcome(&report, check), CheckOutcome::Works, "{check} in {url}: {report:#?}");
        }
        assert_eq!(outcome(&report, "protection"), CheckOutcome::Finding);
        assert_eq!(report.exit(), Exit::Findings);
        assert_left_in_order(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_to_replace_and_delete_protects() {
    let memory = object_store::memory::InMemory::new();
    let store = Store::from_object_store(Arc::new(Refusing(memory)), "", &StoreOptions::default());
    let stage = two_hosts(store.expect("a store"), "memory://", 73).await;
    let report = examined(&config_of(&stage, 0), stage.vault.store.clone(), stage.now()).await;
    assert_eq!(report.protection, StoreProtection::Refused, "{report:#?}");
    assert_eq!(outcome(&report, "protection"), CheckOutcome::Works);
    assert_left_in_order(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_runs_fail_is_told_with_the_exit_code_of_a_run() {
    let stage = two_hosts(
        Store::open("memory://", &StoreOptions::default(), &|_| None).expect("open"),
        "memory://",
        74,
    )
    .await;
    let good = config_of(&stage, 0);
    let other = config_of(&stage, 1);
    let exit = async |config: &Config, store: Store, check: &str, expected: Exit| {
        let report = examined(config, store, stage.now()).await;
        let at = report.checks.iter().find(|one| one.check == check).expect(check);
        assert_eq!(at.outcome, CheckOutcome::Fails, "{check}: {report:#?}");
        assert_eq!(report.exit(), expected, "{check}: {report:#?}");
    };
    // The key of another host; one that is not there; no source.
    let swapped = Config { signing_key: other.signing_key.clone(), ..good.clone() };
    exit(&swapped, stage.vault.store.clone(), "policy", Exit::NoAccess).await;
    let missing = Config { signing_key: Path::new("/nowhere/signing.key").into(), ..good.clone() };
    exit(&missing, stage.vault.store.clone(), "signing-key", Exit::NoAccess).await;
    // Another host's catalog, another vault, none.
    let foreign = Config { state_folder: other.state_folder.clone(), ..good.clone() };
    exit(&foreign, stage.vault.store.clone(), "catalog", Exit::Failed).await;
    let pinned = Config { vault: lifeboat_schema::VaultId::of(b"another"), ..good.clone() };
    exit(&pinned, stage.vault.store.clone(), "vault", Exit::Damage).await;
    let empty = Store::open("memory://", &StoreOptions::default(), &|_| None).expect("open");
    exit(&good, empty, "vault", Exit::Usage).await;
    let nothing = Config {
        sources: vec![lifeboat_config::SourceConfig::Directory {
            name: "vms".to_owned(),
            roots: vec![stage.new_folder()],
            attempts: 1,
            retry_delay_milliseconds: 1,
        }],
        ..good.clone()
    };
    let report = examined(&nothing, stage.vault.store.clone(), stage.now()).await;
    assert_eq!(outcome(&report, "source vms"), CheckOutcome::Finding);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(&good.signing_key, mode).expect("its mode");
        exit(&good, stage.vault.store.clone(), "signing-key", Exit::NoAccess).await;
    }
}

/// A store in memory that lets nobody replace or delete, as a policy does.
#[derive(Debug)]
struct Refusing(object_store::memory::InMemory);

impl fmt::Display for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory://refusing")
    }
}

fn denied() -> Error {
    Error::PermissionDenied { path: String::new(), source: "the policy says no".into() }
}

#[async_trait]
impl ObjectStore for Refusing {
    async fn put_opts(&self, at: &ObjectPath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.0.put_opts(at, payload, options).await,
            _ => Err(denied()),
        }
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(denied())
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        locations.map(|_| Err(denied())).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> Result<()> {
        Err(denied())
    }
}
