//! The plain volume: reading decrypted bytes from anywhere.
//!
//! Joins map (`map.rs`), cipher (`cipher/`) and medium; every call stands alone, so any number of threads may read.
//!
//! Deliberately reads no more than asked: blocks, threads, progress and output belong to the caller.

use alloc::vec::Vec;
use core::ops::Range;

use crate::cipher::SectorCipher;
use crate::error::{Error, ReadError};
use crate::layout::{MAX_SECTOR_SIZE, NTFS_OEM_ID, OEM_ID_OFFSET, VISTA_METADATA_CLUSTER_OFFSET};
use crate::map::{Content, Extent, VolumeMap};
use crate::metadata::EncryptionMethod;
use crate::unlock::VolumeKey;
use crate::volume::ReadAt;

/// A volume whose bytes are read decrypted.
pub struct DecryptedVolume<R> {
    reader: R,
    map: VolumeMap,
    cipher: Option<SectorCipher>,
}

impl<R: ReadAt> DecryptedVolume<R> {
    /// Joins medium, map and key. Without a key only plain ranges can be read.
    ///
    /// # Errors
    /// As [`SectorCipher::new`].
    pub fn new(reader: R, map: VolumeMap, key: Option<&VolumeKey>) -> Result<Self, Error> {
        let cipher = key.map(|key| SectorCipher::new(key, map.sector_size())).transpose()?;
        Ok(Self { reader, map, cipher })
    }

    /// Returns the map.
    #[must_use]
    pub fn map(&self) -> &VolumeMap {
        &self.map
    }

    /// Returns the cipher.
    #[must_use]
    pub fn cipher(&self) -> Option<&SectorCipher> {
        self.cipher.as_ref()
    }

    /// Returns the size of the plain volume in bytes: that of the medium, in whole sectors.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let size = self.reader.size_bytes();
        size - size % u64::from(self.map.sector_size())
    }

    /// Reads decrypted bytes; `buffer` may start and end anywhere within the volume.
    ///
    /// Whole sectors are decrypted in place in `buffer`; only ragged ends take a copy.
    ///
    /// # Errors
    /// [`Error::Missing`] when the bytes lie behind the end of the medium, [`Error::Read`], [`Error::NoVolumeKey`].
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end =
            offset.checked_add(buffer.len() as u64).filter(|&end| end <= crate::layout::MAX_VOLUME_BYTES);
        let end = end.ok_or(Error::Missing {
            physical_offset: offset,
            length: buffer.len() as u64,
            medium_length: self.reader.size_bytes(),
        })?;
        let mut rest = buffer;
        for extent in self.map.extents(offset..end) {
            let (part, after) = core::mem::take(&mut rest).split_at_mut(extent.length as usize);
            self.read_extent(&extent, part)?;
            rest = after;
        }
        Ok(())
    }

    fn read_extent(&self, extent: &Extent, part: &mut [u8]) -> Result<(), Error> {
        match extent.content {
            Content::Zeros(_) => {
                part.fill(0);
                Ok(())
            }
            Content::Plain { physical_offset } => self.read_physical(physical_offset, part),
            Content::Encrypted { physical_offset } => self.read_encrypted(physical_offset, part),
            Content::VistaBootSector { physical_offset } => {
                self.read_physical(physical_offset, part)?;
                patch(part, physical_offset, OEM_ID_OFFSET, &NTFS_OEM_ID);
                if let Some(mirror) = self.map.vista_mft_mirror() {
                    patch(part, physical_offset, VISTA_METADATA_CLUSTER_OFFSET, &mirror);
                }
                Ok(())
            }
        }
    }

    fn read_encrypted(&self, physical: u64, part: &mut [u8]) -> Result<(), Error> {
        let cipher = self.cipher.as_ref().ok_or(Error::NoVolumeKey { method: EncryptionMethod::NONE })?;
        let sector = u64::from(self.map.sector_size());
        let head = (physical.next_multiple_of(sector) - physical).min(part.len() as u64) as usize;
        let (head, rest) = part.split_at_mut(head);
        let (body, tail) = rest.split_at_mut(rest.len() - rest.len() % sector as usize);
        self.read_in_sector(cipher, physical, head)?;
        let body_at = physical + head.len() as u64;
        if !body.is_empty() {
            self.read_physical(body_at, body)?;
            cipher.decrypt(body_at, body)?;
        }
        self.read_in_sector(cipher, body_at + body.len() as u64, tail)
    }

    /// Reads a part of one encrypted sector.
    fn read_in_sector(&self, cipher: &SectorCipher, physical: u64, part: &mut [u8]) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let mut sector = [0u8; MAX_SECTOR_SIZE as usize];
        let sector = &mut sector[..self.map.sector_size() as usize];
        let within = (physical % sector.len() as u64) as usize;
        let start = physical - within as u64;
        self.read_physical(start, sector)?;
        cipher.decrypt(start, sector)?;
        part.copy_from_slice(&sector[within..within + part.len()]);
        Ok(())
    }

    fn read_physical(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len() as u64;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let have = self
                .reader
                .read_at(at, &mut buffer[done..])
                .map_err(|source| Error::Read { offset: at, source })?;
            if have == 0 {
                let medium_length = self.reader.size_bytes();
                return Err(Error::Missing { physical_offset: offset, length, medium_length });
            }
            done += have;
        }
        Ok(())
    }

    /// Lists the ranges within the size of the medium whose bytes lie behind its end: on a medium cut short, what
    /// was relocated there.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u64>> {
        let size = self.size_bytes();
        let relocated = self.map.extents(0..size).take_while(Extent::is_relocated);
        relocated
            .filter_map(|extent| {
                let physical = extent.content.physical_offset()?;
                let present = size.saturating_sub(physical).min(extent.length);
                (present < extent.length).then_some(extent.offset + present..extent.end())
            })
            .collect()
    }
}

impl<R: ReadAt> ReadAt for DecryptedVolume<R> {
    fn size_bytes(&self) -> u64 {
        Self::size_bytes(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let left = self.size_bytes().saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.read(offset, &mut buffer[..length])?;
        Ok(length)
    }
}

/// Replaces the bytes at `field` of sector 0 in a part of it that starts at `start`.
fn patch(part: &mut [u8], start: u64, field: usize, value: &[u8; 8]) {
    for (index, byte) in value.iter().enumerate() {
        let position = (field + index) as u64;
        if let Some(slot) = position.checked_sub(start).and_then(|at| part.get_mut(at as usize)) {
            *slot = *byte;
        }
    }
}
