//! A differencing VHD with its parents, read as one disk.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::extent::{Extent, LocalSource, Source};
use crate::layers::{Layer, resolve_layers};
use crate::layout::MAX_CHAIN_DISKS;
use crate::port::{PortError, ReadAt};
use crate::vhd::error::VhdError;
use crate::vhd::reader::{VhdPieces, VhdReader};

impl<R: ReadAt> Layer for VhdReader<R> {
    type Error = VhdError;

    fn layer_bytes(&self) -> u64 {
        self.identity().virtual_size_bytes
    }

    fn layer_pieces(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Extent<LocalSource>, VhdError>> + use<'_, R> {
        VhdPieces::new(self, range)
    }
}

/// Disks of a chain, each made from the next.
///
/// The format links disks by identity only. Whether a parent was written after the child was made cannot be told from
/// the files.
pub struct VhdChain<R> {
    disks: Vec<VhdReader<R>>,
}

impl<R> fmt::Debug for VhdChain<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.disks).finish()
    }
}

impl<R: ReadAt> VhdChain<R> {
    /// Puts disks together: the youngest first, each further one the parent of the one before.
    ///
    /// # Errors
    /// [`VhdError::ParentMissing`], [`VhdError::ParentUnexpected`], [`VhdError::ParentMismatch`],
    /// [`VhdError::ChainCycle`], [`VhdError::ChainEmpty`], [`VhdError::ChainTooLong`].
    pub fn new(disks: Vec<VhdReader<R>>) -> Result<Self, VhdError> {
        if disks.is_empty() {
            return Err(VhdError::ChainEmpty);
        }
        if disks.len() > MAX_CHAIN_DISKS {
            return Err(VhdError::ChainTooLong { count: disks.len(), max: MAX_CHAIN_DISKS });
        }
        for (index, child) in disks.iter().enumerate() {
            let id = child.identity().id;
            if let Some(first) = disks[..index].iter().position(|disk| disk.identity().id == id) {
                return Err(VhdError::ChainCycle { index, first });
            }
            match (child.parent(), disks.get(index + 1).map(|parent| parent.identity().id)) {
                (None, None) => {}
                (None, Some(_)) => return Err(VhdError::ParentUnexpected { index }),
                (Some(link), None) => return Err(VhdError::ParentMissing { index, id: link.id }),
                (Some(link), Some(found)) if link.id != found => {
                    return Err(VhdError::ParentMismatch { index, expected: link.id, found });
                }
                (Some(_), Some(_)) => {}
            }
        }
        Ok(Self { disks })
    }

    /// Returns the disks, the youngest first.
    #[must_use]
    pub fn disks(&self) -> &[VhdReader<R>] {
        &self.disks
    }

    /// Returns the size of the virtual disk, in bytes.
    #[must_use]
    pub fn virtual_size_bytes(&self) -> u64 {
        self.disks[0].identity().virtual_size_bytes
    }

    /// Answers where each part of a range of the virtual disk lies, in ascending order and without gaps.
    ///
    /// # Errors
    /// [`VhdError::BeyondDisk`] at once; broken BAT entries when the iterator meets them.
    pub fn resolve(
        &self,
        range: Range<u64>,
    ) -> Result<impl Iterator<Item = Result<Extent, VhdError>> + use<'_, R>, VhdError> {
        self.disks[0].check_range(&range)?;
        Ok(resolve_layers(&self.disks, range))
    }

    /// Fills `buffer` with the guest's data at `offset`.
    ///
    /// # Errors
    /// [`VhdError::BeyondDisk`], a broken BAT entry, or a port's failure.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VhdError> {
        let end = offset.saturating_add(buffer.len() as u64);
        let mut rest = buffer;
        for extent in self.resolve(offset..end)? {
            let extent = extent?;
            // Extents follow each other without gaps and end at the end of the buffer.
            let (part, after) = rest.split_at_mut(extent.length as usize);
            match extent.source {
                Source::Zero => part.fill(0),
                // A VHD has no log: nothing is ever replayed.
                Source::Data { file_index, file_offset } | Source::Replayed { file_index, file_offset } => {
                    self.disks[file_index].port().read_exact_at(file_offset, part)?;
                }
            }
            rest = after;
        }
        Ok(())
    }
}

/// The guest's disk as a port.
impl<R: ReadAt> ReadAt for VhdChain<R> {
    fn size_bytes(&self) -> u64 {
        self.virtual_size_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let length = buffer.len() as u64;
        self.read_at(offset, buffer).map_err(|error| match error {
            VhdError::Port(error) => error,
            VhdError::BeyondDisk { virtual_size_bytes, .. } => {
                PortError::BeyondEnd { offset, length, size_bytes: virtual_size_bytes }
            }
            error => PortError::Access { offset, length, source: Box::new(error) },
        })
    }
}
