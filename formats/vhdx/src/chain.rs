//! A differencing disk with its parents, read as one disk.
//!
//! A chain exists only when it is complete and every parent is in the state from which its child was made; anything
//! else would read as a silently corrupt disk. The caller finds the files: by name beside the child, or by the
//! DataWriteGuid among all disks that it has.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::blocks::Pieces;
use crate::error::VhdxError;
use crate::extent::{Extent, LocalSource, Source};
use crate::layers::{Layer, resolve_layers};
use crate::layout::MAX_CHAIN_DISKS;
use crate::port::{PortError, ReadAt};
use crate::reader::VhdxReader;

impl<R: ReadAt> Layer for VhdxReader<R> {
    type Error = VhdxError;

    fn layer_bytes(&self) -> u64 {
        self.geometry().virtual_size_bytes()
    }

    fn layer_pieces(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Extent<LocalSource>, VhdxError>> + use<'_, R> {
        Pieces::new(self, range)
    }
}

/// Disks of a chain, each made from the next.
pub struct VhdxChain<R> {
    disks: Vec<VhdxReader<R>>,
}

impl<R> fmt::Debug for VhdxChain<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.disks).finish()
    }
}

impl<R: ReadAt> VhdxChain<R> {
    /// Puts disks together: the youngest first, each further one the parent of the one before.
    ///
    /// A disk without a parent is a chain of one. A parent may be smaller or larger than its child; what lies beyond
    /// its end is zero.
    ///
    /// # Errors
    /// [`VhdxError::ParentMissing`], [`VhdxError::ParentUnexpected`], [`VhdxError::ParentMismatch`],
    /// [`VhdxError::SectorSizeMismatch`], [`VhdxError::ChainCycle`], [`VhdxError::ChainEmpty`], or
    /// [`VhdxError::TooLarge`] for a chain that is too long.
    pub fn new(disks: Vec<VhdxReader<R>>) -> Result<Self, VhdxError> {
        if disks.is_empty() {
            return Err(VhdxError::ChainEmpty);
        }
        if disks.len() > MAX_CHAIN_DISKS {
            let (value, max) = (disks.len() as u64, MAX_CHAIN_DISKS as u64);
            return Err(VhdxError::TooLarge { what: "the number of disks in the chain", value, max });
        }
        for (index, child) in disks.iter().enumerate() {
            let state = |disk: &VhdxReader<R>| (disk.header().file_write_guid, disk.header().data_write_guid);
            if let Some(first) = disks[..index].iter().position(|disk| state(disk) == state(child)) {
                return Err(VhdxError::ChainCycle { index, first });
            }
            check_link(index, child, disks.get(index + 1))?;
        }
        Ok(Self { disks })
    }

    /// Returns the disks, the youngest first: [`Source::Data`] counts them from 0.
    #[must_use]
    pub fn disks(&self) -> &[VhdxReader<R>] {
        &self.disks
    }

    /// Returns the size of the virtual disk, in bytes: that of the youngest disk.
    #[must_use]
    pub fn virtual_size_bytes(&self) -> u64 {
        self.disks[0].geometry().virtual_size_bytes()
    }

    /// Returns the logical sector size, in bytes; equal in all disks.
    #[must_use]
    pub fn sector_bytes(&self) -> u32 {
        self.disks[0].geometry().sector_bytes()
    }

    /// Answers where each part of a range of the virtual disk lies, in ascending order and without gaps.
    ///
    /// # Errors
    /// [`VhdxError::BeyondDisk`] at once; broken BAT entries when the iterator meets them.
    pub fn resolve(
        &self,
        range: Range<u64>,
    ) -> Result<impl Iterator<Item = Result<Extent, VhdxError>> + use<'_, R>, VhdxError> {
        self.disks[0].check_range(&range)?;
        Ok(resolve_layers(&self.disks, range))
    }

    /// Fills `buffer` with the guest's data at `offset`.
    ///
    /// # Errors
    /// [`VhdxError::BeyondDisk`], a broken BAT entry, or a port's failure.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VhdxError> {
        let end = offset.saturating_add(buffer.len() as u64);
        let mut rest = buffer;
        for extent in self.resolve(offset..end)? {
            let extent = extent?;
            // Extents follow each other without gaps and end at the end of the buffer.
            let (part, after) = rest.split_at_mut(extent.length as usize);
            match extent.source {
                Source::Zero => part.fill(0),
                Source::Data { file_index, file_offset } => {
                    self.disks[file_index].port().read_exact_at(file_offset, part)?;
                }
                Source::Replayed { file_index, file_offset } => {
                    self.disks[file_index].view().read_exact_at(file_offset, part)?;
                }
            }
            rest = after;
        }
        Ok(())
    }
}

/// The guest's disk as a port: partition tables and file systems are read through it.
impl<R: ReadAt> ReadAt for VhdxChain<R> {
    fn size_bytes(&self) -> u64 {
        self.virtual_size_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let length = buffer.len() as u64;
        self.read_at(offset, buffer).map_err(|error| match error {
            VhdxError::Port(error) => error,
            VhdxError::BeyondDisk { virtual_size_bytes, .. } => {
                PortError::BeyondEnd { offset, length, size_bytes: virtual_size_bytes }
            }
            error => PortError::Access { offset, length, source: Box::new(error) },
        })
    }
}

fn check_link<R: ReadAt>(
    index: usize,
    child: &VhdxReader<R>,
    parent: Option<&VhdxReader<R>>,
) -> Result<(), VhdxError> {
    match (child.parent(), parent) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(VhdxError::ParentUnexpected { index }),
        (Some(locator), None) => Err(VhdxError::ParentMissing { index, linkage: locator.linkage() }),
        (Some(locator), Some(parent)) => {
            let found = parent.header().data_write_guid;
            if !locator.accepts(found) {
                return Err(VhdxError::ParentMismatch { index, expected: locator.linkage(), found });
            }
            let [child, parent] = [child, parent].map(|disk| disk.geometry().sector_bytes());
            if child != parent {
                return Err(VhdxError::SectorSizeMismatch { index, child, parent });
            }
            Ok(())
        }
    }
}
