//! Entry points for the fuzz targets and the tests of hostile bytes: everything a parser can be made to do.
//!
//! Deliberately mends checksums first, so that the bytes behind them are reached, and needs no stretch.

use alloc::vec::Vec;
use core::mem::size_of;

use crate::bek::ExternalKey;
use crate::blank::BlankedRegion;
use crate::eow::{EowBitmap, EowInformation};
use crate::key_package::KeyPackage;
use crate::layout::{RawInformation, RawValidation, VERSION_VISTA};
use crate::metadata::Metadata;
use crate::recovery_password::Analysis;
use crate::unlock::Credential;
use crate::volume::Volume;

/// Largest stretch of the plain volume that is read at a time.
const BLOCK_BYTES: usize = 0x4000;
/// Extents looked at: a hostile bitmap may hold very many.
const MAX_EXTENTS: usize = 1000;

/// Parses bytes as everything that is not a volume.
pub fn metadata(bytes: &[u8]) {
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    if let Ok(metadata) = Metadata::parse(&mended) {
        if let Ok(unlocked) = metadata.unlock(&Credential::ClearKey) {
            let _ = metadata.authenticate(&unlocked.vmk);
            let _ = metadata.read_back(&unlocked.vmk);
            let _ = metadata.volume_key(&unlocked.vmk);
        }
        let _ = metadata.summaries();
        let blanked = BlankedRegion::of(&mended).expect("it blanks what parses");
        assert!(Metadata::parse(&blanked.bytes).is_ok(), "a blanked region parses");
    }
    let _ = ExternalKey::parse(bytes).map(|key| key.encode());
    let _ = KeyPackage::parse(bytes).map(|package| package.unlock(&Credential::ClearKey).is_ok());
    let _ = EowInformation::parse(bytes);
    let _ = EowBitmap::parse(bytes, 0x1000).map(|bitmap| bitmap.run_at(bitmap.offset));
    if let Ok(text) = core::str::from_utf8(bytes) {
        let _ = Analysis::of(text).map(|analysis| analysis.candidates(100).len());
    }
}

/// Treats bytes as a whole volume and reads it.
pub fn volume(bytes: &[u8]) {
    let mut mended = bytes.to_vec();
    if let Ok(boot) = crate::boot_sector::BootSector::parse(bytes) {
        for offset in boot.metadata_offsets {
            if let Some(region) = usize::try_from(offset).ok().and_then(|offset| mended.get_mut(offset..)) {
                mend(region);
            }
        }
    }
    let Ok(disk) = Volume::open(mended.as_slice()) else { return };
    let _ = disk.state();
    let opened = disk.unlock(&Credential::ClearKey).ok();
    let key = opened.and_then(|opened| opened.volume_key);
    let Ok(plain) = disk.decrypt(disk.metadata(), key.as_ref()) else { return };
    let _ = plain.prove();
    let _ = plain.missing();
    let extents: Vec<_> = plain.map().extents(0..u64::MAX).take(MAX_EXTENTS).collect();
    let mut block = alloc::vec![0; BLOCK_BYTES];
    for extent in extents {
        let _ = plain.read(extent.offset.saturating_sub(1), &mut block);
    }
}

/// Writes the right checksum behind the information of a metadata region.
pub fn mend(region: &mut [u8]) {
    let Some(&[low, high, version, _]) = region.get(8..12).and_then(<[u8]>::as_array) else { return };
    let stated = usize::from(u16::from_le_bytes([low, high]));
    let size = if u16::from(version) == VERSION_VISTA { stated } else { stated << 4 };
    if size < size_of::<RawInformation>() || region.len() < size + size_of::<RawValidation>() {
        return;
    }
    let crc = crc32fast::hash(&region[..size]);
    region[size + 4..size + 8].copy_from_slice(&crc.to_le_bytes());
}
