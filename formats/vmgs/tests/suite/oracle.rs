//! The other reader is a script of ours, written from the layout alone over another AES-GCM; vmgstool, whose format this is,
//! is in no package registry. It says so when Python or its package `cryptography` is missing.

use std::path::Path;
use std::process::Command;

use lifeboat_vmgs::fixtures::{StoreOptions, StoreWriter};
use lifeboat_vmgs::{DatastoreKey, FileId, GuestState};
use serde_json::{Value, json};

use crate::support::{KEY, LIMIT_BYTES, METADATA_KEY, OTHER_KEY, sample, small, test_data};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the other reader says; `None` when it cannot run.
fn theirs(image: &[u8], key: Option<[u8; 32]>) -> Option<Value> {
    const PACKAGE_MISSING: i32 = 3;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/vmgs_store.py");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.vmgs");
    std::fs::write(&path, image).unwrap();
    let output = Command::new("python3").arg(script).arg(&path).args(key.map(|key| hex(&key))).output();
    match output {
        Ok(output) if output.status.success() => Some(serde_json::from_slice(&output.stdout).unwrap()),
        Ok(output) if output.status.code() != Some(PACKAGE_MISSING) => {
            panic!("the other reader failed: {}", String::from_utf8_lossy(&output.stderr))
        }
        _ => {
            println!("skipped: python3 with the package cryptography not found");
            None
        }
    }
}

fn ours(image: &[u8], key: Option<[u8; 32]>) -> Value {
    let guest_state = GuestState::open(image).unwrap();
    let store = guest_state.store().unwrap();
    let unlocked = key.map(|key| guest_state.unlock(&DatastoreKey::new(key)).unwrap());
    let content = |id: FileId| match &unlocked {
        Some(unlocked) => hex(unlocked.read(id, LIMIT_BYTES).unwrap().expose()),
        None => hex(&guest_state.read(id, LIMIT_BYTES).unwrap()),
    };
    let files: serde_json::Map<_, _> =
        store.files().iter().map(|file| (file.id().0.to_string(), content(file.id()).into())).collect();
    json!({
        "copy": store.header_copy(),
        "sequence": store.sequence(),
        "algorithm": store.algorithm().0,
        "files": files,
    })
}

#[test]
fn another_reader_says_the_same() {
    let mut changed =
        StoreWriter::format(StoreOptions { sector_bytes: 4096, first_sequence: u32::MAX, ..small() });
    changed.write(&[(FileId::VM_UNIQUE_ID, b"in clear")]).unwrap();
    changed.encrypt(KEY, METADATA_KEY).unwrap();
    changed.write(&[(FileId::TPM_NVRAM, &[7; 9000]), (FileId(41), b"")]).unwrap();
    changed.change_key(OTHER_KEY, true).unwrap();
    let mut cases = vec![
        (sample(false), None),
        (sample(true), Some(KEY)),
        (changed.image(), Some(KEY)),
        (changed.image(), Some(OTHER_KEY)),
    ];
    cases.extend(test_data("synth-vmgstool-plain.vmgs.gz").map(|image| (image, None)));
    for (image, key) in cases {
        let Some(theirs) = theirs(&image, key) else { return };
        assert_eq!(ours(&image, key), theirs);
    }
}
