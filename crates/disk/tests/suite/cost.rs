use std::path::Path;

use lifeboat_disk::fixtures::{MemoryFiles, differencing_vhdx, dynamic_vhdx, gpt_disk};
use lifeboat_disk::{DiskLayout, FveCapture, ParentSearch, inspect, open_disk};
use lifeboat_fve::fixtures::VolumeOptions;

use crate::containers::bitlocker;

/// Bytes that may be read for the head of a disk.
const MAX_HEAD_BYTES: u64 = 4 << 20;
/// Time of the processor that it may take when optimised, in milliseconds.
const MAX_HEAD_MILLISECONDS: u64 = 10;
const DISK_BYTES: u64 = 2 << 40;

/// Nanoseconds that this thread has used; none where the system does not say.
fn processor_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// A disk of 2 TB whose first MiBs hold a GPT and a BitLocker volume, with a backup GPT at the end, in a chain.
fn files() -> MemoryFiles {
    let volume = bitlocker(VolumeOptions::default()).image;
    let (parts, _) = gpt_disk(&[&volume]);
    let far = (0..2048).step_by(64).map(|gib| ((gib << 30) + (16 << 20), vec![3; 512]));
    let parts: Vec<_> = parts.into_iter().chain(far).collect();
    MemoryFiles::default()
        .with("disk.vhdx", dynamic_vhdx(&parts, DISK_BYTES))
        .with("child.avhdx", differencing_vhdx(&[(1 << 40, vec![4; 512])], DISK_BYTES, 1, "disk.vhdx"))
}

#[test]
#[allow(clippy::print_stdout, reason = "numbers that a person reads")]
fn the_head_of_a_2_tb_sparse_disk_is_cheap() {
    for path in ["disk.vhdx", "child.avhdx"] {
        let files = files();
        let start = processor_time();
        let disk = open_disk(&files, Path::new(path), &ParentSearch::default()).unwrap();
        let layout = DiskLayout::read(&disk).unwrap();
        let report = inspect(&disk, &layout);
        let capture = FveCapture::read(&layout.volumes[0].reader(&disk)).unwrap();
        let spent = start.zip(processor_time()).map(|(start, end)| end - start);
        println!("{path}: {} bytes read in {spent:?} ns", files.read_bytes());
        assert!(files.read_bytes() < MAX_HEAD_BYTES, "{} bytes read", files.read_bytes());
        // Unoptimised code gets ten times as long.
        let allowed = MAX_HEAD_MILLISECONDS * if cfg!(debug_assertions) { 10 } else { 1 };
        assert!(spent.unwrap_or(0) < allowed * 1_000_000, "{spent:?} ns");
        assert_eq!(report.volumes[0].bitlocker.as_ref().unwrap().metadata_copies_valid, 3);
        assert!(capture.good_region().is_some());
    }
}
