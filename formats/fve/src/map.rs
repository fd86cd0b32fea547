//! The map of a volume: where the bytes of the plain volume come from.
//!
//! Built from sector 0, metadata and encrypt-on-write bitmaps; whoever copies a volume asks it range by range and
//! decrypts what it calls encrypted.
//!
//! Deliberately moves no data and knows no key.

use alloc::vec::Vec;
use core::ops::Range;

use crate::boot_sector::{BootSector, VolumeFormat};
use crate::eow::{EowBitmap, EowInformation};
use crate::error::Corruption;
use crate::layout::{MAX_VIRTUALIZED_BYTES, MAX_VOLUME_BYTES, VERSION_VISTA, VISTA_PLAIN_HEAD_BYTES};
use crate::metadata::{ConversionState, Metadata};

/// Why a range of the plain volume reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reserved {
    /// A metadata copy.
    Metadata,
    /// The home of the relocated sectors.
    VirtualizedBlock,
    /// An encrypt-on-write information block.
    EowInformation,
    /// An encrypt-on-write bitmap.
    EowBitmap,
    /// A conversion log.
    ConversionLog,
    /// The region that was being converted when Windows 7 stopped; its content is in a log that is not replayed.
    UnderConversion,
}

/// What a range of the plain volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Zeros.
    Zeros(Reserved),
    /// Bytes as they lie on the disk.
    Plain {
        /// Where on the volume.
        physical_offset: u64,
    },
    /// Encrypted sectors.
    Encrypted {
        /// Where on the volume; also what the cipher is tied to.
        physical_offset: u64,
    },
    /// Sector 0 of a Vista volume: plain, but two fields are replaced when read.
    VistaBootSector {
        /// Where on the volume.
        physical_offset: u64,
    },
}

impl Content {
    /// Returns where the bytes lie on the volume, if anywhere.
    #[must_use]
    pub fn physical_offset(&self) -> Option<u64> {
        match *self {
            Self::Zeros(_) => None,
            Self::Plain { physical_offset }
            | Self::Encrypted { physical_offset }
            | Self::VistaBootSector { physical_offset } => Some(physical_offset),
        }
    }

    fn advanced(self, by: u64) -> Self {
        match self {
            Self::Zeros(reserved) => Self::Zeros(reserved),
            Self::Plain { physical_offset } => Self::Plain { physical_offset: physical_offset + by },
            Self::Encrypted { physical_offset } => Self::Encrypted { physical_offset: physical_offset + by },
            Self::VistaBootSector { physical_offset } => {
                Self::VistaBootSector { physical_offset: physical_offset + by }
            }
        }
    }
}

/// A range of the plain volume with one kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte on the plain volume.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Content.
    pub content: Content,
}

impl Extent {
    /// Returns the first byte behind the extent.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Tells whether the sectors lie elsewhere than their offset says.
    #[must_use]
    pub fn is_relocated(&self) -> bool {
        self.content.physical_offset().is_some_and(|physical| physical != self.offset)
    }
}

/// Information block and bitmaps of a volume under encrypt-on-write.
#[derive(Clone, Debug)]
pub struct EowState {
    /// The information block.
    pub information: EowInformation,
    /// The bitmaps, in the order of the information block.
    pub bitmaps: Vec<EowBitmap>,
}

/// Which part of the disk is encrypted.
enum Conversion {
    AllPlain,
    AllEncrypted,
    /// Encrypted below, plain from here on.
    Below(u64),
    /// As the bitmaps say, which are sorted and do not overlap; plain outside.
    Bitmaps(Vec<EowBitmap>),
}

impl Conversion {
    /// Tells whether the disk is encrypted at `physical`, and where that changes.
    fn run_at(&self, physical: u64) -> (bool, u64) {
        match self {
            Self::AllPlain => (false, u64::MAX),
            Self::AllEncrypted => (true, u64::MAX),
            Self::Below(boundary) if physical < *boundary => (true, *boundary),
            Self::Below(_) => (false, u64::MAX),
            Self::Bitmaps(bitmaps) => {
                let behind = bitmaps.partition_point(|bitmap| bitmap.offset <= physical);
                match behind.checked_sub(1).map(|index| &bitmaps[index]) {
                    Some(bitmap) if physical < bitmap.end() => bitmap.run_at(physical),
                    _ => (false, bitmaps.get(behind).map_or(u64::MAX, |bitmap| bitmap.offset)),
                }
            }
        }
    }
}

/// The map of a volume.
pub struct VolumeMap {
    sector_size: u32,
    /// Bytes at the front that are relocated, and where to.
    virtualized: (u64, u64),
    /// Plain bytes at the front (Vista).
    plain_head: u64,
    vista_boot_sector: Option<[u8; 8]>,
    /// Ranges that read as zeros: sorted, disjoint.
    reserved: Vec<(Range<u64>, Reserved)>,
    conversion: Conversion,
}

impl VolumeMap {
    /// Builds the map. `eow` is needed for a volume with the encrypt-on-write identifier, unless it is decrypted.
    ///
    /// # Errors
    /// [`Corruption`] when an offset is unaligned or out of range, or the encrypt-on-write state is missing.
    pub fn new(boot: &BootSector, metadata: &Metadata, eow: Option<EowState>) -> Result<Self, Corruption> {
        let sector = u64::from(boot.sector_size);
        let vista = metadata.version == VERSION_VISTA;
        let mut reserved = Vec::new();
        let mut reserve = |what, offset: u64, length: u64, reason| {
            place(what, offset, length, sector)?;
            if length > 0 {
                reserved.push((offset..offset + length.next_multiple_of(sector), reason));
            }
            Ok::<_, Corruption>(())
        };
        for offset in metadata.metadata_offsets {
            reserve("a metadata offset", offset, boot.metadata_region_bytes(), Reserved::Metadata)?;
        }
        let virtualized_bytes = if vista { 0 } else { u64::from(metadata.virtualized_sectors) * sector };
        if virtualized_bytes > MAX_VIRTUALIZED_BYTES {
            return Err(Corruption::OutOfRange {
                what: "the size of the relocated area",
                value: virtualized_bytes,
                min: 0,
                max: MAX_VIRTUALIZED_BYTES,
            });
        }
        if virtualized_bytes > 0 {
            let what = "the offset of the relocated area";
            reserve(what, metadata.virtualized_block, virtualized_bytes, Reserved::VirtualizedBlock)?;
        }
        if metadata.current_state == ConversionState::SWITCHING_DIRTY {
            let length = u64::from(metadata.state_size_bytes);
            reserve("the state offset", metadata.state_offset, length, Reserved::UnderConversion)?;
        }
        if let Some(eow) = &eow {
            let information = &eow.information;
            for offset in information.copies {
                let size = information.size_bytes.into();
                reserve("an information block offset", offset, size, Reserved::EowInformation)?;
            }
            for (bitmap, &offset) in eow.bitmaps.iter().zip(&information.bitmap_offsets) {
                reserve("a bitmap offset", offset, bitmap.block_bytes.into(), Reserved::EowBitmap)?;
                let log = information.log_size_bytes.into();
                reserve("a conversion log offset", bitmap.log_offset, log, Reserved::ConversionLog)?;
            }
        }
        Ok(Self {
            sector_size: boot.sector_size,
            virtualized: (virtualized_bytes, metadata.virtualized_block),
            plain_head: if vista { VISTA_PLAIN_HEAD_BYTES } else { 0 },
            vista_boot_sector: vista.then(|| metadata.virtualized_block.to_le_bytes()),
            reserved: disjoint(reserved),
            conversion: conversion(boot, metadata, eow)?,
        })
    }

    /// Returns the sector size in bytes.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Returns the MFT mirror cluster that replaces a field of a Vista sector 0.
    #[must_use]
    pub fn vista_mft_mirror(&self) -> Option<[u8; 8]> {
        self.vista_boot_sector
    }

    /// Lists what `range` of the plain volume holds: extents in order, without gaps, each at least one byte.
    pub fn extents(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let end = range.end.min(MAX_VOLUME_BYTES);
        let mut offset = range.start;
        core::iter::from_fn(move || {
            if offset >= end {
                return None;
            }
            let (content, run_end) = self.content_at(offset);
            let extent = Extent { offset, length: run_end.min(end) - offset, content };
            offset = extent.end();
            Some(extent)
        })
    }

    /// Tells what lies at `offset` and where that ends.
    fn content_at(&self, offset: u64) -> (Content, u64) {
        let (virtualized_bytes, block) = self.virtualized;
        if offset < virtualized_bytes {
            let physical = block + offset;
            let (encrypted, run_end) = self.conversion.run_at(physical);
            let end = virtualized_bytes.min(run_end.saturating_sub(block));
            return (stored(encrypted, physical), end);
        }
        if offset < self.plain_head {
            let sector = u64::from(self.sector_size);
            if offset < sector {
                return (Content::VistaBootSector { physical_offset: 0 }.advanced(offset), sector);
            }
            return (Content::Plain { physical_offset: offset }, self.plain_head);
        }
        let behind = self.reserved.partition_point(|(range, _)| range.start <= offset);
        if let Some((range, reason)) = behind.checked_sub(1).map(|index| &self.reserved[index])
            && offset < range.end
        {
            return (Content::Zeros(*reason), range.end);
        }
        let next_reserved = self.reserved.get(behind).map_or(u64::MAX, |(range, _)| range.start);
        let (encrypted, run_end) = self.conversion.run_at(offset);
        (stored(encrypted, offset), run_end.min(next_reserved))
    }
}

fn stored(encrypted: bool, physical_offset: u64) -> Content {
    if encrypted { Content::Encrypted { physical_offset } } else { Content::Plain { physical_offset } }
}

/// Checks that a place is aligned and within any volume.
fn place(what: &'static str, offset: u64, length: u64, sector: u64) -> Result<(), Corruption> {
    if offset > MAX_VOLUME_BYTES || length > MAX_VOLUME_BYTES {
        return Err(Corruption::OutOfRange {
            what,
            value: offset.max(length),
            min: 0,
            max: MAX_VOLUME_BYTES,
        });
    }
    if !offset.is_multiple_of(sector) {
        return Err(Corruption::Unaligned { what, value: offset, unit: sector });
    }
    Ok(())
}

/// Sorts ranges and cuts what overlaps the one before.
fn disjoint(mut ranges: Vec<(Range<u64>, Reserved)>) -> Vec<(Range<u64>, Reserved)> {
    ranges.sort_by_key(|(range, reason)| (range.start, *reason));
    let mut covered = 0;
    ranges
        .into_iter()
        .filter_map(|(range, reason)| {
            let start = range.start.max(covered);
            covered = covered.max(range.end);
            (start < range.end).then_some((start..range.end, reason))
        })
        .collect()
}

fn conversion(
    boot: &BootSector,
    metadata: &Metadata,
    eow: Option<EowState>,
) -> Result<Conversion, Corruption> {
    let sector = u64::from(boot.sector_size);
    if metadata.current_state == ConversionState::DECRYPTED {
        return Ok(Conversion::AllPlain);
    }
    if boot.format == VolumeFormat::EncryptOnWrite {
        let mut bitmaps = eow.ok_or(Corruption::NoEowInformation)?.bitmaps;
        bitmaps.sort_by_key(|bitmap| bitmap.offset);
        for bitmap in &bitmaps {
            place("the region offset", bitmap.offset, bitmap.size_bytes, sector)?;
        }
        if let Some(pair) = bitmaps.windows(2).find(|pair| pair[0].end() > pair[1].offset) {
            return Err(Corruption::EowRegionOrder { region: pair[1].region });
        }
        return Ok(Conversion::Bitmaps(bitmaps));
    }
    let finished = metadata.current_state == ConversionState::ENCRYPTED;
    if finished && (metadata.version == VERSION_VISTA || metadata.state_offset == 0) {
        return Ok(Conversion::AllEncrypted);
    }
    place("the state offset", metadata.state_offset, 0, 1)?;
    Ok(Conversion::Below(metadata.state_offset.next_multiple_of(sector)))
}

#[cfg(test)]
mod tests;
