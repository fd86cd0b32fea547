//! A BitLocker volume with changes, from the locked disk to its plain bytes.
#![no_main]

use std::sync::LazyLock;

use lifeboat_fve::fixtures::{FormattedVolume, ProtectorOptions, VolumeOptions, ntfs_plaintext};

static VOLUME: LazyLock<FormattedVolume> = LazyLock::new(|| {
    let options = VolumeOptions { protectors: vec![ProtectorOptions::ClearKey], ..VolumeOptions::default() };
    options.format(ntfs_plaintext(1 << 20, 512, 1))
});

libfuzzer_sys::fuzz_target!(|changes: &[u8]| {
    lifeboat_recover::fuzzing::volume(&VOLUME.image, VOLUME.metadata_offsets, changes);
});
