//! Entry points for the fuzz targets: any bytes as a plain NTFS, whose folders are listed; a BitLocker volume with changes,
//! opened and read.

use std::path::Path;
use std::sync::Arc;

use lifeboat_disk::VirtualDisk;
use lifeboat_fve as fve;
use lifeboat_fve::Credential;

use crate::browse::{EntryKind, NtfsBrowser};
use crate::plain::{PlainSource, PlainVolume};
use crate::source::{CapturedMetadata, LockedVolume, SourceDisk};
use crate::unlock::open_volume;

/// Folders that are listed.
const MAX_FOLDERS: usize = 16;

struct Bytes<'b>(&'b [u8]);

impl PlainSource for Bytes<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn stated_bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn read(&self, offset: u64, buffer: &mut [u8], _: bool) -> Result<(), fve::ReadError> {
        let start = usize::try_from(offset)?;
        let end = start.checked_add(buffer.len()).ok_or("beyond the end")?;
        buffer.copy_from_slice(self.0.get(start..end).ok_or("beyond the end")?);
        Ok(())
    }

    fn copied_bytes(&self, _: bool) -> u64 {
        self.size_bytes()
    }

    fn fingerprint(&self) -> [u8; 32] {
        [0; 32]
    }

    fn files(&self) -> &[std::path::PathBuf] {
        &[]
    }
}

/// Lists folders of whatever the bytes are.
pub fn files(bytes: &[u8]) {
    let source = Bytes(bytes);
    let Ok(mut browser) = NtfsBrowser::open(&source) else { return };
    let mut folders = vec!["/".to_owned()];
    for _ in 0..MAX_FOLDERS {
        let Some(folder) = folders.pop() else { return };
        let Ok(entries) = browser.list(&folder) else { continue };
        let inner = entries.into_iter().filter(|entry| entry.kind == EntryKind::Folder);
        folders.extend(inner.take(MAX_FOLDERS).map(|entry| format!("{folder}/{}", entry.name)));
    }
}

/// Bytes of the plain volume that are read at a time.
const BLOCK_BYTES: u64 = 0x4000;
/// Extents of a volume that are read.
const MAX_EXTENTS: usize = 64;

/// Changes a volume that a clear key opens, mends the checksums of its metadata, and goes the whole way to plain bytes.
///
/// A change is a place, a length and bytes: place 0 to 2 is in a metadata copy, 3 in the first sector, any other
/// anywhere.
pub fn volume(image: &[u8], metadata_offsets: [u64; 3], changes: &[u8]) {
    let mut image = image.to_vec();
    let mut rest = changes;
    while let [place, a, b, length, after @ ..] = rest {
        let within = usize::from(u16::from_le_bytes([*a, *b]));
        let start = match place {
            0..=2 => {
                usize::try_from(metadata_offsets[usize::from(*place)]).unwrap_or_default() + within % 2048
            }
            3 => within % 512,
            _ => usize::from(*place) * 4096 + within,
        };
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        for (old, new) in image.iter_mut().skip(start).zip(bytes) {
            *old = *new;
        }
        rest = after;
    }
    for offset in metadata_offsets {
        if let Some(region) = usize::try_from(offset).ok().and_then(|offset| image.get_mut(offset..)) {
            fve::fuzzing::mend(region);
        }
    }
    let path = Path::new("volume.img");
    let Ok(source) = SourceDisk::new(path, VirtualDisk::raw(Arc::new(image), path)) else { return };
    for volume in &source.layout.volumes {
        let found = CapturedMetadata::search(&source, volume, |_| {});
        let Ok(locked) = LockedVolume::open(&source, 0, volume, Some(&found)) else { continue };
        let _ = locked.stated_bytes();
        let Ok(opened) = open_volume(&locked, &[Credential::ClearKey], &[], &found.generations()) else {
            continue;
        };
        let Ok(plain) = PlainVolume::new(&locked, &opened) else { continue };
        let _ = plain.copied_bytes(true);
        let mut block = vec![0; BLOCK_BYTES as usize];
        for extent in plain.decrypted().map().extents(0..plain.size_bytes()).take(MAX_EXTENTS) {
            let _ = plain.read(extent.offset, &mut block, true);
        }
        let _ = NtfsBrowser::open(&plain).and_then(|mut browser| browser.list("/"));
    }
}
