//! Geometry of a disk and the entries of its block allocation table (BAT).
//!
//! The BAT interleaves one sector bitmap entry after every `chunk_ratio` payload entries, in disks without a parent
//! as well, so that one formula serves all kinds of disks. MS-VHDX 2.5.
//!
//! Nothing here reads: the reader fetches entries when a range is resolved, never the whole table.

use crate::error::{BlockKind, Corruption};
use crate::layout::{
    BAT_OFFSET_MASK, BAT_RESERVED_MASK, BAT_STATE_MASK, MAX_BLOCK_BYTES, MAX_VIRTUAL_BYTES, MIN_BLOCK_BYTES,
    SECTORS_PER_BITMAP_BLOCK,
};

/// Sizes of a disk and what follows from them; always a combination that the format allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    virtual_size_bytes: u64,
    block_bytes: u32,
    sector_bytes: u32,
    has_parent: bool,
}

impl Geometry {
    /// Checks the sizes and combines them.
    ///
    /// # Errors
    /// [`Corruption::InvalidSize`] names the size that MS-VHDX 2.6.2 does not allow.
    pub fn new(
        virtual_size_bytes: u64,
        block_bytes: u32,
        sector_bytes: u32,
        has_parent: bool,
    ) -> Result<Self, Corruption> {
        if !matches!(sector_bytes, 512 | 4096) {
            return Err(Corruption::InvalidSize { what: "logical sector size", value: sector_bytes.into() });
        }
        if !block_bytes.is_power_of_two() || !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block_bytes) {
            return Err(Corruption::InvalidSize { what: "block size", value: block_bytes.into() });
        }
        if virtual_size_bytes == 0
            || virtual_size_bytes > MAX_VIRTUAL_BYTES
            || !virtual_size_bytes.is_multiple_of(sector_bytes.into())
        {
            return Err(Corruption::InvalidSize { what: "virtual size", value: virtual_size_bytes });
        }
        Ok(Self { virtual_size_bytes, block_bytes, sector_bytes, has_parent })
    }

    /// Returns the size of the virtual disk, in bytes.
    #[must_use]
    pub fn virtual_size_bytes(&self) -> u64 {
        self.virtual_size_bytes
    }

    /// Returns the size of a payload block, in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// Returns the logical sector size, in bytes: 512 or 4096.
    #[must_use]
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// Tells whether the disk is a differencing disk.
    #[must_use]
    pub fn has_parent(&self) -> bool {
        self.has_parent
    }

    /// Returns the number of payload blocks that one sector bitmap block describes, at least 16.
    #[must_use]
    pub fn chunk_ratio(&self) -> u64 {
        SECTORS_PER_BITMAP_BLOCK * u64::from(self.sector_bytes) / u64::from(self.block_bytes)
    }

    /// Returns the number of payload blocks.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.virtual_size_bytes.div_ceil(self.block_bytes.into())
    }

    /// Returns the number of chunks, and so of sector bitmap blocks.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        self.block_count().div_ceil(self.chunk_ratio())
    }

    /// Returns the number of BAT entries that the disk needs.
    #[must_use]
    pub fn bat_entry_count(&self) -> u64 {
        if self.has_parent {
            self.chunk_count() * (self.chunk_ratio() + 1)
        } else {
            self.block_count() + (self.block_count() - 1) / self.chunk_ratio()
        }
    }

    /// Returns the place of a payload block in the BAT.
    #[must_use]
    pub fn payload_index(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// Returns the place of the sector bitmap block of a chunk in the BAT.
    #[must_use]
    pub fn bitmap_index(&self, chunk: u64) -> u64 {
        (chunk + 1) * self.chunk_ratio() + chunk
    }

    /// Returns the number of bytes of a sector bitmap that describe one block.
    #[must_use]
    pub fn bitmap_bytes_per_block(&self) -> u32 {
        self.block_bytes / (8 * self.sector_bytes)
    }
}

/// State of a payload block (MS-VHDX 2.5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadState {
    /// 0: reads come from the parent, or are zeros.
    NotPresent,
    /// 1: contents are not defined; read as zeros.
    Undefined,
    /// 2: zeros.
    Zero,
    /// 3: the guest discarded it; read as zeros.
    Unmapped,
    /// 6: all sectors are in this file.
    FullyPresent,
    /// 7: the sector bitmap tells which sectors are in this file.
    PartiallyPresent,
}

impl PayloadState {
    /// Returns the number that stands in the BAT.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::NotPresent => 0,
            Self::Undefined => 1,
            Self::Zero => 2,
            Self::Unmapped => 3,
            Self::FullyPresent => 6,
            Self::PartiallyPresent => 7,
        }
    }
}

/// Entry of a payload block, with the offset as it stands; whether it may lie there is the reader's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadEntry {
    /// State of the block.
    pub state: PayloadState,
    /// Offset in the file, in bytes; of no meaning unless the block is present.
    pub offset: u64,
}

impl PayloadEntry {
    /// Parses the entry of payload block `block`. Reserved bits are not judged here.
    ///
    /// # Errors
    /// [`Corruption::BlockState`] for the states 4 and 5.
    pub fn parse(entry: u64, block: u64) -> Result<Self, Corruption> {
        let state = match entry & BAT_STATE_MASK {
            0 => PayloadState::NotPresent,
            1 => PayloadState::Undefined,
            2 => PayloadState::Zero,
            3 => PayloadState::Unmapped,
            6 => PayloadState::FullyPresent,
            7 => PayloadState::PartiallyPresent,
            state => {
                return Err(Corruption::BlockState {
                    what: BlockKind::Payload,
                    index: block,
                    state: state as u8,
                });
            }
        };
        Ok(Self { state, offset: entry & BAT_OFFSET_MASK })
    }

    /// Encodes the entry.
    #[must_use]
    pub fn encode(self) -> u64 {
        self.state.number() | (self.offset & BAT_OFFSET_MASK)
    }
}

/// Parses the entry of a sector bitmap block: its file offset, or nothing when it is not allocated.
///
/// State 7 counts as present, as a reference tool does.
///
/// # Errors
/// [`Corruption::BlockState`] for the reserved states.
pub fn parse_bitmap_entry(entry: u64, chunk: u64) -> Result<Option<u64>, Corruption> {
    match entry & BAT_STATE_MASK {
        0 => Ok(None),
        6 | 7 => Ok(Some(entry & BAT_OFFSET_MASK)),
        state => {
            Err(Corruption::BlockState { what: BlockKind::SectorBitmap, index: chunk, state: state as u8 })
        }
    }
}

/// Encodes the entry of a sector bitmap block that is present.
#[must_use]
pub fn encode_bitmap_entry(offset: u64) -> u64 {
    PayloadState::FullyPresent.number() | (offset & BAT_OFFSET_MASK)
}

/// Tells whether an entry has bits set that are reserved.
#[must_use]
pub fn has_reserved_bits(entry: u64) -> bool {
    entry & BAT_RESERVED_MASK != 0
}
