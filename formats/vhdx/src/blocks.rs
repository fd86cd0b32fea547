//! The walk over the blocks of one file: BAT entries and sector bitmaps become extents.
//!
//! BAT entries and bitmap bytes are read in windows of at most one page, and never more than the range needs.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::bat::{PayloadEntry, PayloadState, parse_bitmap_entry};
use crate::error::{BlockKind, Corruption, VhdxError};
use crate::extent::{Extent, LocalSource};
use crate::layout::{BAT_ENTRY_BYTES, BITMAP_BLOCK_BYTES};
use crate::port::ReadAt;
use crate::reader::VhdxReader;

/// Largest number of bytes of BAT or bitmap that are read at once.
const WINDOW_BYTES: u64 = 4096;

/// Bytes of the file that were read, by file offset.
#[derive(Debug, Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Returns the bytes from `offset` to the end of the window, reading towards `end` when `offset` is outside.
    ///
    /// Answers at least one byte for a range that is not empty.
    fn bytes_from<R: ReadAt>(
        &mut self,
        reader: &VhdxReader<R>,
        range: Range<u64>,
    ) -> Result<&[u8], VhdxError> {
        let inside = self.offset <= range.start && range.start < self.offset + self.bytes.len() as u64;
        if !inside {
            // At most one page.
            self.bytes = vec![0; (range.end - range.start).min(WINDOW_BYTES) as usize];
            self.offset = range.start;
            reader.view().read_exact_at(range.start, &mut self.bytes)?;
        }
        Ok(&self.bytes[(range.start - self.offset) as usize..])
    }
}

/// Iterator over the parts of a range, at least one for each block, not joined.
pub(crate) struct Pieces<'a, R> {
    reader: &'a VhdxReader<R>,
    position: u64,
    end: u64,
    bat: Window,
    bitmap: Window,
    /// Chunk whose bitmap block was looked up last, with the file offset of that block.
    chunk: Option<(u64, u64)>,
}

impl<'a, R: ReadAt> Pieces<'a, R> {
    /// Begins the walk over a range that lies inside the disk.
    pub(crate) fn new(reader: &'a VhdxReader<R>, range: Range<u64>) -> Self {
        let (bat, bitmap) = (Window::default(), Window::default());
        Self { reader, position: range.start, end: range.end, bat, bitmap, chunk: None }
    }

    /// Reads BAT entry `index`, and ahead up to entry `last`.
    fn entry(&mut self, index: u64, last: u64) -> Result<u64, VhdxError> {
        let bat = self.reader.regions().bat.offset;
        let range = bat + index * BAT_ENTRY_BYTES..bat + (last + 1) * BAT_ENTRY_BYTES;
        let bytes = self.bat.bytes_from(self.reader, range)?;
        // Windows begin at an entry and hold whole entries.
        let entry = bytes.first_chunk().copied().unwrap_or_default();
        Ok(u64::from_le_bytes(entry))
    }

    /// Returns the file offset of the sector bitmap block that describes a partially present block.
    fn bitmap_block(&mut self, block: u64) -> Result<u64, VhdxError> {
        let geometry = self.reader.geometry();
        let chunk = block / geometry.chunk_ratio();
        if let Some((known, offset)) = self.chunk
            && known == chunk
        {
            return Ok(offset);
        }
        let mut entry = [0; BAT_ENTRY_BYTES as usize];
        let place = self.reader.regions().bat.offset + geometry.bitmap_index(chunk) * BAT_ENTRY_BYTES;
        self.reader.view().read_exact_at(place, &mut entry)?;
        let offset = parse_bitmap_entry(u64::from_le_bytes(entry), chunk)?
            .ok_or(Corruption::BitmapMissing { block, chunk })?;
        let range = offset..offset.saturating_add(BITMAP_BLOCK_BYTES);
        self.reader.check_block(BlockKind::SectorBitmap, chunk, &range)?;
        self.chunk = Some((chunk, offset));
        Ok(offset)
    }

    /// Returns how far the sector at `in_block` is like its followers, and whether they are in this file.
    fn sector_run(&mut self, block: u64, in_block: Range<u64>) -> Result<(u64, bool), VhdxError> {
        let geometry = self.reader.geometry();
        let sector_bytes = u64::from(geometry.sector_bytes());
        let base = self.bitmap_block(block)?
            + block % geometry.chunk_ratio() * u64::from(geometry.bitmap_bytes_per_block());
        let first = in_block.start / sector_bytes;
        let sectors = first..in_block.end.div_ceil(sector_bytes);
        let bits = self.bitmap.bytes_from(self.reader, base + first / 8..base + sectors.end.div_ceil(8))?;
        let is_present = |sector: u64| {
            // The distance from the first byte of the window is below its length, or the byte is not there.
            bits.get((sector / 8 - first / 8) as usize).map(|byte| byte >> (sector % 8) & 1 == 1)
        };
        let present = is_present(first).unwrap_or_default();
        let run_end =
            sectors.clone().find(|sector| is_present(*sector) != Some(present)).unwrap_or(sectors.end);
        Ok(((run_end * sector_bytes).min(in_block.end) - in_block.start, present))
    }

    fn piece(&mut self) -> Result<Extent<LocalSource>, VhdxError> {
        let geometry = self.reader.geometry();
        let block_bytes = u64::from(geometry.block_bytes());
        let block = self.position / block_bytes;
        let in_block = self.position % block_bytes..block_bytes.min(self.end - block * block_bytes);
        let last = geometry.payload_index((self.end - 1) / block_bytes);
        let entry = PayloadEntry::parse(self.entry(geometry.payload_index(block), last)?, block)?;

        let mut length = in_block.end - in_block.start;
        let absent = if geometry.has_parent() { LocalSource::Parent } else { LocalSource::Zero };
        let is_present = match entry.state {
            PayloadState::NotPresent => {
                return Ok(Extent { offset: self.position, length, source: absent });
            }
            PayloadState::Undefined | PayloadState::Zero | PayloadState::Unmapped => {
                return Ok(Extent { offset: self.position, length, source: LocalSource::Zero });
            }
            // Without a parent there is no bitmap to look at; a reference tool takes the block as a whole.
            PayloadState::PartiallyPresent if geometry.has_parent() => {
                let (run, is_present) = self.sector_run(block, in_block.clone())?;
                length = run;
                is_present
            }
            PayloadState::FullyPresent | PayloadState::PartiallyPresent => true,
        };
        let range = entry.offset..entry.offset.saturating_add(block_bytes);
        self.reader.check_block(BlockKind::Payload, block, &range)?;
        if !is_present {
            return Ok(Extent { offset: self.position, length, source: LocalSource::Parent });
        }
        let file_offset = entry.offset + in_block.start;
        Ok(self.place(file_offset, length))
    }

    /// Makes an extent of data at `file_offset`, as far as it lies in one place: file, log, or beyond the file's end.
    fn place(&self, file_offset: u64, length: u64) -> Extent<LocalSource> {
        let view = self.reader.view();
        let physical_end = view.port().size_bytes();
        let covered = view.overlay().first_covered(file_offset..file_offset + length);
        let (end, source) = match covered {
            Some(range) if range.start == file_offset => (range.end, LocalSource::Replayed { file_offset }),
            _ => {
                let end = covered.map_or(file_offset + length, |range| range.start);
                if file_offset < physical_end {
                    (end.min(physical_end), LocalSource::Data { file_offset })
                } else {
                    // The replay made the file longer than it is.
                    (end, LocalSource::Zero)
                }
            }
        };
        Extent { offset: self.position, length: end - file_offset, source }
    }
}

impl<R: ReadAt> Iterator for Pieces<'_, R> {
    type Item = Result<Extent<LocalSource>, VhdxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end {
            return None;
        }
        let piece = self.piece();
        match &piece {
            Ok(extent) => self.position += extent.length,
            Err(_) => self.position = self.end,
        }
        Some(piece)
    }
}
