//! What is copied: a decrypted volume, or a whole disk with its volumes decrypted in place.

use std::ops::Range;
use std::path::PathBuf;

use lifeboat_disk::{PortError, ReadAt, VirtualDisk, VolumeReader};
use lifeboat_fve as fve;
use lifeboat_fve::{Content, DecryptedVolume};

use crate::source::{LockedVolume, SourceDisk};
use crate::unlock::Opened;

/// Bytes that can be read in plain, from any thread.
pub trait PlainSource: Sync {
    /// Returns the bytes that are there.
    fn size_bytes(&self) -> u64;

    /// Returns the bytes that should be there; more than there are when the image was cut short.
    fn stated_bytes(&self) -> u64;

    /// Returns the sector size that a disk of these bytes must have.
    fn sector_bytes(&self) -> u32;

    /// Reads plain bytes. With `skip_unallocated` what no file holds reads as zeros instead of as decrypted zeros.
    ///
    /// # Errors
    /// The range lies beyond the end, or cannot be read.
    fn read(&self, offset: u64, buffer: &mut [u8], skip_unallocated: bool) -> Result<(), fve::ReadError>;

    /// Returns an upper limit of the bytes that a sparse copy takes.
    fn copied_bytes(&self, skip_unallocated: bool) -> u64;

    /// Returns what tells this content from any other, without telling it: keys, the volume, and the state of every file
    /// that it comes from.
    fn fingerprint(&self) -> [u8; 32];

    /// Returns the files that it comes from; none of them may be written to.
    fn files(&self) -> &[PathBuf];
}

/// A decrypted volume.
pub struct PlainVolume<'v, 'd, F> {
    locked: &'v LockedVolume<'d, F>,
    plain: DecryptedVolume<&'v VolumeReader<&'d VirtualDisk<F>>>,
    fingerprint: [u8; 32],
}

impl<'v, 'd, F: ReadAt> PlainVolume<'v, 'd, F> {
    /// Joins a volume and its key.
    ///
    /// # Errors
    /// As [`fve::Volume::decrypt`].
    pub fn new(locked: &'v LockedVolume<'d, F>, opened: &Opened) -> Result<Self, fve::Error> {
        let metadata = locked.metadata_of(opened);
        let plain = locked.fve().decrypt(metadata, opened.volume_key())?;
        let mut hasher = blake3::Hasher::new_derive_key("Lifeboat 2026 recover: what a partial output is of");
        hasher.update(&locked.source.state());
        hasher.update(&metadata.volume_id.0);
        hasher.update(metadata.information());
        hasher.update(&locked.volume.offset_bytes.to_le_bytes());
        hasher.update(&plain.size_bytes().to_le_bytes());
        if let Some(key) = opened.volume_key() {
            hasher.update(key.expose());
        }
        Ok(Self { locked, plain, fingerprint: hasher.finalize().into() })
    }

    /// Returns the decrypted volume.
    #[must_use]
    pub fn decrypted(&self) -> &DecryptedVolume<&'v VolumeReader<&'d VirtualDisk<F>>> {
        &self.plain
    }

    /// Calls `visit` with the parts of a range of the plain volume that are encrypted and that no file holds.
    fn unallocated(&self, range: Range<u64>, mut visit: impl FnMut(Range<u64>)) -> Result<(), PortError> {
        let base = self.locked.volume.offset_bytes;
        for extent in self.plain.map().extents(range) {
            let Content::Encrypted { physical_offset } = extent.content else { continue };
            let start = base + physical_offset;
            for piece in self.locked.source.disk.extents(start..start + extent.length)? {
                if !piece.is_allocated {
                    let offset = extent.offset + (piece.offset - start);
                    visit(offset..offset + piece.length);
                }
            }
        }
        Ok(())
    }
}

/// Bytes of a disk whose tables are asked at once: keeps the list of extents short.
const WINDOW_BYTES: u64 = 1 << 30;

impl<F: ReadAt + Sync> PlainSource for PlainVolume<'_, '_, F> {
    fn size_bytes(&self) -> u64 {
        self.plain.size_bytes()
    }

    fn stated_bytes(&self) -> u64 {
        self.locked.stated_bytes().max(self.size_bytes())
    }

    fn sector_bytes(&self) -> u32 {
        self.plain.map().sector_size().max(self.locked.source.layout.sector_bytes)
    }

    fn read(&self, offset: u64, buffer: &mut [u8], skip_unallocated: bool) -> Result<(), fve::ReadError> {
        let range = offset..offset + buffer.len() as u64;
        let mut holes = Vec::new();
        if skip_unallocated {
            self.unallocated(range.clone(), |hole| holes.push(hole))?;
            if holes.iter().map(|hole| hole.end - hole.start).sum::<u64>() == buffer.len() as u64 {
                buffer.fill(0);
                return Ok(());
            }
        }
        self.plain.read(offset, buffer)?;
        for hole in holes {
            // Holes lie inside the range.
            buffer[(hole.start - offset) as usize..(hole.end - offset) as usize].fill(0);
        }
        Ok(())
    }

    fn copied_bytes(&self, skip_unallocated: bool) -> u64 {
        let size = self.size_bytes();
        if !skip_unallocated {
            return size;
        }
        let mut holes = 0;
        for start in (0..size).step_by(WINDOW_BYTES as usize) {
            let end = size.min(start + WINDOW_BYTES);
            // What cannot be told is taken as held.
            let _ = self.unallocated(start..end, |hole| holes += hole.end - hole.start);
        }
        size - holes.min(size)
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn files(&self) -> &[PathBuf] {
        self.locked.source.disk.files()
    }
}

/// A whole disk: partition tables and plain volumes as they are, opened volumes decrypted in place.
pub struct PlainDisk<'v, 'd, F> {
    source: &'d SourceDisk<F>,
    volumes: Vec<PlainVolume<'v, 'd, F>>,
}

impl<'v, 'd, F: ReadAt + Sync> PlainDisk<'v, 'd, F> {
    /// Puts opened volumes of a disk back into it.
    #[must_use]
    pub fn new(source: &'d SourceDisk<F>, mut volumes: Vec<PlainVolume<'v, 'd, F>>) -> Self {
        volumes.sort_by_key(|volume| volume.locked.volume.offset_bytes);
        Self { source, volumes }
    }

    /// Cuts a range of the disk into parts of one volume each, and parts of none.
    fn parts(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = (Range<u64>, Option<(u64, &PlainVolume<'v, 'd, F>)>)> {
        let mut offset = range.start;
        std::iter::from_fn(move || {
            if offset >= range.end {
                return None;
            }
            let start = offset;
            let mut end = range.end;
            let mut found = None;
            for volume in &self.volumes {
                let first = volume.locked.volume.offset_bytes;
                let last = first + volume.size_bytes();
                if (first..last).contains(&start) {
                    found = Some((first, volume));
                    end = end.min(last);
                } else if first > start {
                    end = end.min(first);
                }
            }
            offset = end;
            Some((start..end, found))
        })
    }
}

impl<F: ReadAt + Sync> PlainSource for PlainDisk<'_, '_, F> {
    fn size_bytes(&self) -> u64 {
        self.source.disk.size_bytes()
    }

    fn stated_bytes(&self) -> u64 {
        let ends = self.source.layout.volumes.iter().map(|volume| volume.offset_bytes + volume.size_bytes);
        ends.max().unwrap_or(0).max(self.size_bytes())
    }

    fn sector_bytes(&self) -> u32 {
        self.source.layout.sector_bytes
    }

    fn read(&self, offset: u64, buffer: &mut [u8], skip_unallocated: bool) -> Result<(), fve::ReadError> {
        let end = offset + buffer.len() as u64;
        let mut rest = buffer;
        for (range, volume) in self.parts(offset..end) {
            let (part, after) = rest.split_at_mut((range.end - range.start) as usize);
            match volume {
                Some((first, volume)) => volume.read(range.start - first, part, skip_unallocated)?,
                None => self.source.disk.read_exact_at(range.start, part)?,
            }
            rest = after;
        }
        Ok(())
    }

    fn copied_bytes(&self, skip_unallocated: bool) -> u64 {
        let size = self.size_bytes();
        let mut copied = 0;
        for (range, volume) in self.parts(0..size) {
            copied += match volume {
                Some((_, volume)) => volume.copied_bytes(skip_unallocated),
                None => held_bytes(&self.source.disk, range),
            };
        }
        copied
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("Lifeboat 2026 recover: what a partial disk is of");
        hasher.update(&self.source.state());
        hasher.update(&self.size_bytes().to_le_bytes());
        for volume in &self.volumes {
            hasher.update(&volume.fingerprint);
        }
        hasher.finalize().into()
    }

    fn files(&self) -> &[PathBuf] {
        self.source.disk.files()
    }
}

/// Bytes of a range that a file holds.
fn held_bytes<F: ReadAt>(disk: &VirtualDisk<F>, range: Range<u64>) -> u64 {
    let mut held = 0;
    for start in range.clone().step_by(WINDOW_BYTES as usize) {
        let end = range.end.min(start + WINDOW_BYTES);
        held += match disk.extents(start..end) {
            Ok(extents) => {
                extents.iter().filter(|extent| extent.is_allocated).map(|extent| extent.length).sum()
            }
            Err(_) => end - start,
        };
    }
    held
}
