//! One volume of a disk as something to read.

use lifeboat_fve as fve;
use lifeboat_vhdx::{PortError, ReadAt};

use crate::error::DiskError;

/// A range of a disk, read from 0. It serves both reading ports of the format crates.
#[derive(Clone, Debug)]
pub struct VolumeReader<D> {
    disk: D,
    offset_bytes: u64,
    size_bytes: u64,
}

impl<D: ReadAt> VolumeReader<D> {
    /// Makes a reader of `size_bytes` at `offset_bytes`; what lies behind the end of the disk is cut off.
    #[must_use]
    pub fn new(disk: D, offset_bytes: u64, size_bytes: u64) -> Self {
        let size_bytes = size_bytes.min(disk.size_bytes().saturating_sub(offset_bytes));
        Self { disk, offset_bytes, size_bytes }
    }

    /// Returns the disk.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns the offset of the volume on the disk, in bytes.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// Reads up to `length` bytes: fewer at the end of the volume.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn read_up_to(&self, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let left = self.size_bytes.saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        if !bytes.is_empty() {
            self.read_exact_at(offset, &mut bytes)?;
        }
        Ok(bytes)
    }
}

impl<D: ReadAt> ReadAt for VolumeReader<D> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        PortError::check_range(offset, buffer.len() as u64, self.size_bytes)?;
        self.disk.read_exact_at(self.offset_bytes + offset, buffer)
    }
}

impl<D: ReadAt> fve::ReadAt for VolumeReader<D> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, fve::ReadError> {
        let left = self.size_bytes.saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length > 0 {
            self.disk.read_exact_at(self.offset_bytes + offset, &mut buffer[..length])?;
        }
        Ok(length)
    }
}
