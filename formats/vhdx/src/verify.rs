//! A look at the whole BAT: what opening and reading check only where they pass by, checked everywhere.
//!
//! Findings are collected, not returned at the first: whoever restores decides what a damaged block means.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::bat::{PayloadEntry, PayloadState, has_reserved_bits, parse_bitmap_entry};
use crate::error::{BlockKind, Corruption, RangeRule, VhdxError};
use crate::layout::{BAT_ENTRY_BYTES, BITMAP_BLOCK_BYTES, MIB};
use crate::log::entry::MAX_FILE_BYTES;
use crate::port::ReadAt;
use crate::reader::VhdxReader;

/// Number of findings that are kept; all are counted.
const MAX_FINDINGS: usize = 1000;
/// Bytes of the BAT that are read at once.
const WINDOW_BYTES: u64 = 64 * 1024;

/// What the BAT of a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatReport {
    /// Blocks that are not present.
    pub not_present_blocks: u64,
    /// Blocks that read as zeros: undefined, zero or unmapped.
    pub zero_blocks: u64,
    /// Blocks that are fully present.
    pub full_blocks: u64,
    /// Blocks that are partially present.
    pub partial_blocks: u64,
    /// Sector bitmap blocks that are present.
    pub bitmap_blocks: u64,
    /// The first 1000 broken rules.
    pub findings: Vec<Corruption>,
    /// Number of all broken rules.
    pub finding_count: u64,
}

impl BatReport {
    fn note(&mut self, finding: Corruption) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// Which MiB of the file are taken by a block.
struct Occupied {
    bits: Vec<u64>,
}

impl Occupied {
    fn new(file_bytes: u64) -> Self {
        // At most 128 TiB, one bit for each MiB: 16 MiB of memory.
        Self { bits: vec![0; (file_bytes / MIB / 64 + 1) as usize] }
    }

    /// Takes a range of whole MiB that lies inside the file; false when a part was taken before.
    fn take(&mut self, range: &Range<u64>) -> bool {
        let mut was_free = true;
        for unit in range.start / MIB..range.end / MIB {
            let (word, bit) = (&mut self.bits[(unit / 64) as usize], 1 << (unit % 64));
            was_free &= *word & bit == 0;
            *word |= bit;
        }
        was_free
    }
}

impl<R: ReadAt> VhdxReader<R> {
    /// Reads the whole BAT and checks every entry: state, place, overlap with everything else, bitmaps that are there.
    ///
    /// # Errors
    /// A failure of the port; broken rules are in the report.
    pub fn verify_bat(&self) -> Result<BatReport, VhdxError> {
        let file_bytes = self.view().size_bytes();
        if file_bytes > MAX_FILE_BYTES {
            return Err(VhdxError::TooLarge { what: "the file", value: file_bytes, max: MAX_FILE_BYTES });
        }
        let geometry = self.geometry();
        let (ratio, bat) = (geometry.chunk_ratio(), self.regions().bat.offset);
        let entry_count = geometry.bat_entry_count();
        let mut report = BatReport::default();
        let mut occupied = Occupied::new(file_bytes);
        let mut partial_block = None;
        let mut first = 0;
        while first < entry_count {
            let count = (entry_count - first).min(WINDOW_BYTES / BAT_ENTRY_BYTES);
            let mut window = vec![0; (count * BAT_ENTRY_BYTES) as usize];
            self.view().read_exact_at(bat + first * BAT_ENTRY_BYTES, &mut window)?;
            for (index, bytes) in (first..).zip(window.chunks_exact(BAT_ENTRY_BYTES as usize)) {
                let entry = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
                // After each chunk of payload entries stands the entry of its bitmap.
                let (chunk, in_chunk) = (index / (ratio + 1), index % (ratio + 1));
                if in_chunk == ratio {
                    self.verify_bitmap(entry, chunk, partial_block.take(), &mut occupied, &mut report);
                    continue;
                }
                let block = chunk * ratio + in_chunk;
                if block < geometry.block_count() {
                    let is_partial = self.verify_payload(entry, block, &mut occupied, &mut report);
                    partial_block = partial_block.or((is_partial && geometry.has_parent()).then_some(block));
                }
            }
            first += count;
        }
        Ok(report)
    }

    /// Checks the entry of a payload block; true when it is partially present.
    fn verify_payload(
        &self,
        entry: u64,
        block: u64,
        occupied: &mut Occupied,
        report: &mut BatReport,
    ) -> bool {
        let what = BlockKind::Payload;
        if has_reserved_bits(entry) {
            report.note(Corruption::BlockReserved { what, index: block, entry });
        }
        let parsed = match PayloadEntry::parse(entry, block) {
            Ok(parsed) => parsed,
            Err(corruption) => {
                report.note(corruption);
                return false;
            }
        };
        let count = match parsed.state {
            PayloadState::NotPresent => &mut report.not_present_blocks,
            PayloadState::Undefined | PayloadState::Zero | PayloadState::Unmapped => &mut report.zero_blocks,
            PayloadState::FullyPresent => &mut report.full_blocks,
            PayloadState::PartiallyPresent => &mut report.partial_blocks,
        };
        *count += 1;
        if matches!(parsed.state, PayloadState::FullyPresent | PayloadState::PartiallyPresent) {
            let range = parsed.offset..parsed.offset.saturating_add(self.geometry().block_bytes().into());
            self.verify_range(what, block, &range, occupied, report);
        }
        parsed.state == PayloadState::PartiallyPresent
    }

    /// Checks the entry of a sector bitmap block; `partial_block` is a block that needs it.
    fn verify_bitmap(
        &self,
        entry: u64,
        chunk: u64,
        partial_block: Option<u64>,
        occupied: &mut Occupied,
        report: &mut BatReport,
    ) {
        let what = BlockKind::SectorBitmap;
        if has_reserved_bits(entry) {
            report.note(Corruption::BlockReserved { what, index: chunk, entry });
        }
        match (parse_bitmap_entry(entry, chunk), partial_block) {
            (Err(corruption), _) => report.note(corruption),
            (Ok(None), Some(block)) => report.note(Corruption::BitmapMissing { block, chunk }),
            (Ok(None), None) => {}
            (Ok(Some(offset)), _) => {
                report.bitmap_blocks += 1;
                let range = offset..offset.saturating_add(BITMAP_BLOCK_BYTES);
                self.verify_range(what, chunk, &range, occupied, report);
            }
        }
    }

    fn verify_range(
        &self,
        what: BlockKind,
        index: u64,
        range: &Range<u64>,
        occupied: &mut Occupied,
        report: &mut BatReport,
    ) {
        match self.check_block(what, index, range) {
            Err(corruption) => report.note(corruption),
            Ok(()) if !occupied.take(range) => {
                report.note(Corruption::BlockRange {
                    what,
                    index,
                    offset: range.start,
                    rule: RangeRule::Disjoint,
                });
            }
            Ok(()) => {}
        }
    }
}
