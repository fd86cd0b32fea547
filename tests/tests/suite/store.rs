//! Every kind of store against one suite, against faults, and against odd surroundings.

mod faults;
mod folder;
mod http;
pub(crate) mod s3;

use std::sync::Arc;

use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::store_conformance::{self, Promises};
use lifeboat_vault::store::{FileCreate, Store, StoreOptions, StorePath};
use object_store::ObjectStore;

const ENFORCED: Promises = Promises { enforces_create: true };

/// An environment without variables.
fn nothing(_: &str) -> Option<String> {
    None
}

/// Says on the test's output why it shows nothing here.
#[allow(clippy::print_stdout, reason = "a skipped test must not look like a passed one")]
fn skipped(why: &str) {
    println!("skipped: {why}");
}

fn path(text: &str) -> StorePath {
    StorePath::parse(text).expect("a good name")
}

fn memory() -> Store {
    Store::open("memory://", &StoreOptions::default(), &nothing).expect("open")
}

pub(crate) fn file_url(folder: &std::path::Path) -> String {
    let path = folder.display().to_string().replace('\\', "/");
    if path.starts_with('/') { format!("file://{path}") } else { format!("file:///{path}") }
}

fn file_store(folder: &std::path::Path, file_create: FileCreate) -> Store {
    let mut options = StoreOptions::default();
    options.file_create = file_create;
    Store::open(&file_url(folder), &options, &nothing).expect("open")
}

/// A store in memory that fails as told; waits between its attempts are short.
fn faulty(seed: u64) -> (Store, FaultStore<Arc<dyn ObjectStore>>) {
    let memory: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let faults = FaultStore::new(memory, seed);
    let mut options = StoreOptions::default();
    options.retry.initial_backoff_milliseconds = 1;
    options.retry.max_retries = 3;
    let store = Store::from_object_store(Arc::new(faults.clone()), "", &options).expect("open");
    (store, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_passes_however_files_get_their_names() {
    for file_create in [FileCreate::Auto, FileCreate::Rename, FileCreate::HardLink] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        store_conformance::run(&file_store(folder.path(), file_create), ENFORCED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_passes() {
    store_conformance::run(&memory(), ENFORCED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_store_without_faults_passes() {
    let store = memory().decorated(|inner| Arc::new(FaultStore::new(inner, 1)));
    store_conformance::run(&store, ENFORCED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_is_enough_for_everything() {
    let mut options = StoreOptions::default();
    options.concurrency = 1.try_into().expect("not zero");
    let memory = Arc::new(object_store::memory::InMemory::new());
    let store = Store::from_object_store(memory, "a/prefix", &options).expect("open");
    store_conformance::run(&store, ENFORCED).await;
}
