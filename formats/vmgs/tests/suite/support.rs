use std::collections::BTreeMap;
use std::path::Path;

use lifeboat_vmgs::fixtures::{StoreOptions, StoreWriter};
use lifeboat_vmgs::{DatastoreKey, FileId, GuestState, Report};

pub(crate) const LIMIT_BYTES: usize = 1 << 20;
pub(crate) const KEY: [u8; 32] = [0x11; 32];
pub(crate) const OTHER_KEY: [u8; 32] = [0x22; 32];
pub(crate) const METADATA_KEY: [u8; 32] = [0x33; 32];

pub(crate) type Files = BTreeMap<u32, Vec<u8>>;

/// A disk of sixteen blocks, so that every byte can be tried.
pub(crate) fn small() -> StoreOptions {
    StoreOptions { disk_bytes: 64 << 10, ..StoreOptions::default() }
}

/// A store with vTPM state in two blocks, attestation data and an empty file, written in two steps.
pub(crate) fn sample(is_encrypted: bool) -> Vec<u8> {
    let mut writer = StoreWriter::format(small());
    if is_encrypted {
        writer.encrypt(KEY, METADATA_KEY).unwrap();
    }
    let nvram: Vec<u8> = (0..5000_u32).map(|at| (at * 13) as u8).collect();
    writer.write(&[(FileId::TPM_NVRAM, &nvram)]).unwrap();
    writer.write(&[(FileId::ATTEST, &[0xa7; 100]), (FileId::RTC_SKEW, &[])]).unwrap();
    writer.image()
}

pub(crate) fn report(image: &[u8]) -> Report {
    GuestState::inspect(image).unwrap().report
}

/// All files but the tables of a store that opens; with the key where it is encrypted.
pub(crate) fn files(image: &[u8], key: Option<[u8; 32]>) -> Result<Files, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let guest_state = GuestState::open(image).map_err(|error| text(&error))?;
    let store = guest_state.store().ok_or("another format")?;
    let unlocked = match key {
        Some(key) => Some(guest_state.unlock(&DatastoreKey::new(key)).map_err(|error| text(&error))?),
        None => None,
    };
    let content = |id| match &unlocked {
        Some(unlocked) => unlocked
            .read(id, LIMIT_BYTES)
            .map(|content| content.expose().to_vec())
            .map_err(|error| text(&error)),
        None => guest_state.read(id, LIMIT_BYTES).map_err(|error| text(&error)),
    };
    let ids = store.files().iter().map(|file| file.id()).filter(|id| !id.is_table());
    ids.map(|id| Ok((id.0, content(id)?))).collect()
}

/// Reads a file of the shared test data, unpacked.
pub(crate) fn test_data(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let Ok(packed) = std::fs::File::open(shared.join("hyperv").join(name)) else {
        println!("skipped: test data not found");
        return None;
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).expect("valid gzip");
    Some(bytes)
}
