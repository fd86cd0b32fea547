//! Every kind of store against one suite, against faults, and against odd surroundings.

use std::sync::Arc;

use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::store_conformance::{self, Promises};
use lifeboat_vault::store::{FileCreate, Store, StoreOptions};

const ENFORCED: Promises = Promises { enforces_create: true };

fn nothing(_: &str) -> Option<String> {
    None
}

fn file_store(folder: &std::path::Path, file_create: FileCreate) -> Store {
    let mut options = StoreOptions::default();
    options.file_create = file_create;
    Store::open(&format!("file://{}", folder.display()), &options, &nothing).expect("open")
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
    let store = Store::open("memory://", &StoreOptions::default(), &nothing).expect("open");
    store_conformance::run(&store, ENFORCED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_store_without_faults_passes() {
    let store = Store::open("memory://", &StoreOptions::default(), &nothing).expect("open");
    let store = store.decorated(|inner| Arc::new(FaultStore::new(inner, 1)));
    store_conformance::run(&store, ENFORCED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_found_out() {
    let store = Store::open("memory://", &StoreOptions::default(), &nothing).expect("open");
    let store = store.decorated(|inner| {
        let faults = FaultStore::new(inner, 1);
        faults.ignore_conditions(true);
        Arc::new(faults)
    });
    let path = lifeboat_vault::store::StorePath::parse("probe").expect("a good name");
    let found = store.probe_conditional_create(&path).await.expect("probe");
    assert_eq!(found, lifeboat_vault::store::ConditionalCreate::Ignored);
}
