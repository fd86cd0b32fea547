//! The region table: where the BAT and the metadata are.
//!
//! It is read after the replay, because the log may change it. MS-VHDX 2.2.3.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use uguid::Guid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum;
use crate::error::{Corruption, RangeRule, VhdxError};
use crate::layout::{
    HEADER_AREA_BYTES, MAX_REGION_ENTRIES, MIB, REGION_BAT, REGION_METADATA, REGION_REQUIRED,
    REGION_SIGNATURE, REGION_TABLE_BYTES, RawRegionEntry, RawRegionHeader,
};

/// Region of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// What the region holds.
    pub id: Guid,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length, in bytes.
    pub length: u32,
    /// Whether a reader must know the region.
    pub is_required: bool,
}

impl Region {
    /// Returns the range of the region in the file.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.length)
    }
}

/// Regions of a file, which lie inside it and overlap neither each other nor the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionTable {
    /// Region of the BAT.
    pub bat: Region,
    /// Region of the metadata.
    pub metadata: Region,
    /// Regions that this reader does not know and need not know.
    pub others: Vec<Region>,
}

/// Parses the entries of one copy, or answers nothing when signature, checksum or count are wrong.
fn parse_copy(bytes: &[u8]) -> Option<Vec<Region>> {
    let table = bytes.get(..REGION_TABLE_BYTES)?;
    let (raw, rest) = RawRegionHeader::ref_from_prefix(table).ok()?;
    let count = raw.entry_count.get();
    if raw.signature != REGION_SIGNATURE || count > MAX_REGION_ENTRIES || !checksum::is_valid(table) {
        return None;
    }
    let (entries, _) = <[RawRegionEntry]>::ref_from_prefix_with_elems(rest, count as usize).ok()?;
    Some(
        entries
            .iter()
            .map(|entry| Region {
                id: Guid::from_bytes(entry.guid),
                offset: entry.file_offset.get(),
                length: entry.length.get(),
                is_required: entry.flags.get() & REGION_REQUIRED != 0,
            })
            .collect(),
    )
}

impl RegionTable {
    /// Parses the first valid copy and checks its regions against a file of `file_bytes` with its log at `log`.
    ///
    /// The required bit is not demanded of BAT and metadata: Hyper-V sets it, qemu does not.
    ///
    /// # Errors
    /// [`VhdxError::UnknownRequiredRegion`], or the [`Corruption`] found.
    pub fn parse(first: &[u8], second: &[u8], file_bytes: u64, log: &Range<u64>) -> Result<Self, VhdxError> {
        let regions =
            parse_copy(first).or_else(|| parse_copy(second)).ok_or(Corruption::NoValidRegionTable)?;
        let mut ids: Vec<[u8; 16]> = regions.iter().map(|region| region.id.to_bytes()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Corruption::DuplicateRegion { id: Guid::from_bytes(pair[0]) }.into());
        }
        for region in &regions {
            check_range(region, file_bytes, log)?;
        }
        let mut sorted: Vec<&Region> = regions.iter().collect();
        sorted.sort_unstable_by_key(|region| region.offset);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].range().end > pair[1].offset) {
            return Err(broken(pair[1], RangeRule::Disjoint).into());
        }

        let (mut bat, mut metadata, mut others) = (None, None, Vec::new());
        for region in regions {
            match region.id {
                REGION_BAT => bat = Some(region),
                REGION_METADATA => metadata = Some(region),
                id if region.is_required => return Err(VhdxError::UnknownRequiredRegion { id }),
                _ => others.push(region),
            }
        }
        Ok(Self {
            bat: bat.ok_or(Corruption::MissingRegion { what: "BAT" })?,
            metadata: metadata.ok_or(Corruption::MissingRegion { what: "metadata" })?,
            others,
        })
    }

    /// Encodes one copy of the table with its checksum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; REGION_TABLE_BYTES];
        let count = u32::try_from(2 + self.others.len()).unwrap_or(u32::MAX);
        let header = RawRegionHeader {
            signature: REGION_SIGNATURE,
            checksum: U32::ZERO,
            entry_count: U32::new(count),
            reserved: U32::ZERO,
        };
        let head = size_of::<RawRegionHeader>();
        bytes[..head].copy_from_slice(header.as_bytes());
        for (slot, region) in bytes[head..].chunks_exact_mut(size_of::<RawRegionEntry>()).zip(self.all()) {
            let entry = RawRegionEntry {
                guid: region.id.to_bytes(),
                file_offset: U64::new(region.offset),
                length: U32::new(region.length),
                flags: U32::new(u32::from(region.is_required) * REGION_REQUIRED),
            };
            slot.copy_from_slice(entry.as_bytes());
        }
        checksum::seal(&mut bytes);
        bytes
    }

    /// Lists all regions.
    pub fn all(&self) -> impl Iterator<Item = &Region> {
        [&self.bat, &self.metadata].into_iter().chain(&self.others)
    }
}

/// Tells whether two ranges share a byte.
pub(crate) fn overlap(one: &Range<u64>, two: &Range<u64>) -> bool {
    one.start < two.end && two.start < one.end
}

fn broken(region: &Region, rule: RangeRule) -> Corruption {
    Corruption::RegionRange { id: region.id, offset: region.offset, length: region.length, rule }
}

fn check_range(region: &Region, file_bytes: u64, log: &Range<u64>) -> Result<(), Corruption> {
    if !region.offset.is_multiple_of(MIB) || !u64::from(region.length).is_multiple_of(MIB) {
        return Err(broken(region, RangeRule::Aligned));
    }
    if region.length == 0 {
        return Err(broken(region, RangeRule::NotEmpty));
    }
    if region.offset < HEADER_AREA_BYTES {
        return Err(broken(region, RangeRule::AfterHeaders));
    }
    if region.offset.checked_add(region.length.into()).is_none_or(|end| end > file_bytes) {
        return Err(broken(region, RangeRule::Inside));
    }
    if overlap(&region.range(), log) {
        return Err(broken(region, RangeRule::Disjoint));
    }
    Ok(())
}
