use std::io::Read as _;
use std::path::{Path, PathBuf};

use lifeboat_disk::{DiskLayout, Encryption, LocalFiles, ParentSearch, inspect, open_disk};

#[allow(clippy::print_stdout, reason = "says that nothing was tested")]
fn unpacked(name: &str, folder: &Path) -> Option<PathBuf> {
    let data = std::env::var_os("LIFEBOAT_TEST_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let Ok(file) = std::fs::File::open(data.join(name)) else {
        println!("skipped: test data not found");
        return None;
    };
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let path = folder.join("image");
    std::fs::write(&path, bytes).unwrap();
    Some(path)
}

#[test]
fn real_files() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = unpacked("hyperv/dissect-dynamic.vhdx.gz", folder.path()) else { return };
    let disk = open_disk(&LocalFiles, &path, &ParentSearch::default()).unwrap();
    assert_eq!(inspect(&disk, &DiskLayout::read(&disk).unwrap()).virtual_size_bytes, 10_485_760);

    let path = unpacked("hyperv/dissect-differencing.avhdx.gz", folder.path()).unwrap();
    let error = open_disk(&LocalFiles, &path, &ParentSearch::default()).unwrap_err().to_string();
    assert!(error.contains("ff34003b-11ed-4cf8-a166-b2be05e20b80"), "{error}");

    let path = unpacked("bitlocker/suspended.bin.gz", folder.path()).unwrap();
    let disk = open_disk(&LocalFiles, &path, &ParentSearch::default()).unwrap();
    let layout = DiskLayout::read(&disk).unwrap();
    assert_eq!(layout.volumes[0].encryption, Encryption::BitLocker);
    let report = inspect(&disk, &layout);
    assert_eq!(report.volumes[0].bitlocker.as_ref().unwrap().state, lifeboat_schema::VolumeState::Suspended);

    // A folder is no disk, nor is a pipe.
    assert!(open_disk(&LocalFiles, folder.path(), &ParentSearch::default()).is_err());
}
