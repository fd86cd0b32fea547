//! The metadata region: a table of items, of which the reader knows a few and keeps the others.
//!
//! It has no checksum and is read after the replay. Unknown system items that are marked required make the reader
//! refuse the file; all other unknown items are listed, and their bytes can be read, so that a rewriter carries them:
//! template disks are said to keep their signed catalogue in such an item. MS-VHDX 2.6.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use uguid::Guid;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Corruption, RangeRule, VhdxError};
use crate::layout::{
    ITEM_CHS_PARAMETERS, ITEM_FILE_PARAMETERS, ITEM_INCOMPLETE_FILE, ITEM_IS_REQUIRED, ITEM_IS_USER,
    ITEM_IS_VIRTUAL_DISK, ITEM_LOGICAL_SECTOR_SIZE, ITEM_PARENT_LOCATOR, ITEM_PHYSICAL_SECTOR_SIZE,
    ITEM_PMEM_LABELS, ITEM_VIRTUAL_DISK_ID, ITEM_VIRTUAL_DISK_SIZE, MAX_METADATA_ENTRIES,
    MAX_METADATA_ITEM_BYTES, MAX_USER_METADATA_ENTRIES, METADATA_SIGNATURE, METADATA_TABLE_BYTES,
    RawMetadataEntry, RawMetadataHeader,
};

/// Entry of the metadata table; its range lies inside the region and overlaps no other item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataItem {
    /// What the item is.
    pub id: Guid,
    /// Flags as they stand in the file.
    pub flags: MetadataFlags,
    /// Offset in the metadata region, in bytes; 0 for an empty item.
    pub offset: u32,
    /// Length, in bytes, at most 1 MiB.
    pub length: u32,
}

/// Flags of a metadata item, unknown bits included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataFlags(pub u32);

impl MetadataFlags {
    /// Tells whether the item belongs to a user of the file, not to the format.
    #[must_use]
    pub fn is_user(self) -> bool {
        self.0 & ITEM_IS_USER != 0
    }

    /// Tells whether the item describes the virtual disk, so that children inherit it.
    #[must_use]
    pub fn is_virtual_disk(self) -> bool {
        self.0 & ITEM_IS_VIRTUAL_DISK != 0
    }

    /// Tells whether a reader must know the item.
    #[must_use]
    pub fn is_required(self) -> bool {
        self.0 & ITEM_IS_REQUIRED != 0
    }
}

impl MetadataItem {
    /// Tells whether the item is one that this crate knows the meaning of.
    #[must_use]
    pub fn is_known(&self) -> bool {
        const KNOWN: [Guid; 9] = [
            ITEM_FILE_PARAMETERS,
            ITEM_VIRTUAL_DISK_SIZE,
            ITEM_VIRTUAL_DISK_ID,
            ITEM_LOGICAL_SECTOR_SIZE,
            ITEM_PHYSICAL_SECTOR_SIZE,
            ITEM_PARENT_LOCATOR,
            ITEM_CHS_PARAMETERS,
            ITEM_PMEM_LABELS,
            ITEM_INCOMPLETE_FILE,
        ];
        !self.flags.is_user() && KNOWN.contains(&self.id)
    }

    /// Returns the range of the item in the metadata region.
    fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.length)
    }
}

/// Length of the head of the table, in bytes.
pub(crate) const METADATA_HEAD_BYTES: usize = size_of::<RawMetadataHeader>();

/// Items of a metadata region, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTable {
    items: Vec<MetadataItem>,
}

impl MetadataTable {
    /// Parses the head of the table: the length of the whole table in bytes.
    ///
    /// # Errors
    /// [`Corruption::MetadataSignature`], [`Corruption::MetadataCount`].
    pub(crate) fn parse_head(head: &[u8; METADATA_HEAD_BYTES]) -> Result<usize, Corruption> {
        let raw = RawMetadataHeader::ref_from_bytes(head).map_err(|_| Corruption::MetadataSignature)?;
        if raw.signature != METADATA_SIGNATURE {
            return Err(Corruption::MetadataSignature);
        }
        let count = raw.entry_count.get();
        if count > MAX_METADATA_ENTRIES {
            return Err(Corruption::MetadataCount { count: count.into(), max: MAX_METADATA_ENTRIES.into() });
        }
        Ok(METADATA_HEAD_BYTES + usize::from(count) * size_of::<RawMetadataEntry>())
    }

    /// Parses a table with its head, in a region of `region_bytes`.
    ///
    /// # Errors
    /// [`VhdxError::UnknownRequiredItem`], [`VhdxError::IncompleteFile`], or the [`Corruption`] found.
    pub fn parse(table: &[u8], region_bytes: u32) -> Result<Self, VhdxError> {
        let (head, rest) = table.split_first_chunk().ok_or(Corruption::MetadataSignature)?;
        let entries =
            rest.get(..Self::parse_head(head)? - METADATA_HEAD_BYTES).ok_or(Corruption::MetadataCount {
                count: Self::parse_head(head)? / size_of::<RawMetadataEntry>(),
                max: rest.len() / size_of::<RawMetadataEntry>(),
            })?;
        let mut items = Vec::with_capacity(entries.len() / size_of::<RawMetadataEntry>());
        for entry in entries.chunks_exact(size_of::<RawMetadataEntry>()) {
            let raw = RawMetadataEntry::ref_from_bytes(entry).map_err(|_| Corruption::MetadataSignature)?;
            let item = MetadataItem {
                id: Guid::from_bytes(raw.item_id),
                flags: MetadataFlags(raw.flags.get()),
                offset: raw.offset.get(),
                length: raw.length.get(),
            };
            check_range(&item, region_bytes)?;
            items.push(item);
        }
        check_set(&items)?;
        for item in &items {
            if item.id == ITEM_INCOMPLETE_FILE && !item.flags.is_user() {
                return Err(VhdxError::IncompleteFile);
            }
            // MS-VHDX gives the required bit a meaning for system items; a user item that claims it, but has no id,
            // cannot be known to anyone.
            let unknown = !item.is_known() && (!item.flags.is_user() || item.id == Guid::ZERO);
            if unknown && item.flags.is_required() {
                return Err(VhdxError::UnknownRequiredItem { id: item.id, is_user: item.flags.is_user() });
            }
        }
        Ok(Self { items })
    }

    /// Lists all items in file order.
    #[must_use]
    pub fn items(&self) -> &[MetadataItem] {
        &self.items
    }

    /// Finds a system item by its id.
    #[must_use]
    pub fn system_item(&self, id: Guid) -> Option<&MetadataItem> {
        self.items.iter().find(|item| item.id == id && !item.flags.is_user())
    }

    /// Encodes a whole region from items with their bytes; the offsets in the items are replaced.
    ///
    /// The items are put one after the other behind the table, at multiples of 8 bytes.
    #[must_use]
    pub(crate) fn encode(items: &[(MetadataItem, Vec<u8>)]) -> Vec<u8> {
        let mut region = vec![0; METADATA_TABLE_BYTES as usize];
        let head = RawMetadataHeader {
            signature: METADATA_SIGNATURE,
            reserved: U16::ZERO,
            entry_count: U16::new(u16::try_from(items.len()).unwrap_or(u16::MAX)),
            reserved2: [0; 20],
        };
        region[..METADATA_HEAD_BYTES].copy_from_slice(head.as_bytes());
        for (index, (item, bytes)) in items.iter().enumerate() {
            let offset = if bytes.is_empty() { 0 } else { u32::try_from(region.len()).unwrap_or(u32::MAX) };
            region.extend_from_slice(bytes);
            region.resize(region.len().next_multiple_of(8), 0);
            let entry = RawMetadataEntry {
                item_id: item.id.to_bytes(),
                offset: U32::new(offset),
                length: U32::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
                flags: U32::new(item.flags.0),
                reserved: U32::ZERO,
            };
            let slot = METADATA_HEAD_BYTES + index * size_of::<RawMetadataEntry>();
            region[slot..slot + size_of::<RawMetadataEntry>()].copy_from_slice(entry.as_bytes());
        }
        region
    }
}

fn check_range(item: &MetadataItem, region_bytes: u32) -> Result<(), Corruption> {
    let broken = |rule| Corruption::ItemRange { id: item.id, offset: item.offset, length: item.length, rule };
    if item.length == 0 {
        return if item.offset == 0 { Ok(()) } else { Err(broken(RangeRule::NotEmpty)) };
    }
    if item.length > MAX_METADATA_ITEM_BYTES {
        return Err(Corruption::InvalidSize { what: "metadata item", value: item.length.into() });
    }
    if u64::from(item.offset) < METADATA_TABLE_BYTES {
        return Err(broken(RangeRule::AfterHeaders));
    }
    if item.range().end > region_bytes.into() {
        return Err(broken(RangeRule::Inside));
    }
    Ok(())
}

/// Checks what concerns more than one item: uniqueness, overlap, number of user items.
fn check_set(items: &[MetadataItem]) -> Result<(), Corruption> {
    let users = items.iter().filter(|item| item.flags.is_user()).count();
    if users > MAX_USER_METADATA_ENTRIES {
        return Err(Corruption::MetadataCount { count: users, max: MAX_USER_METADATA_ENTRIES });
    }
    let mut ids: Vec<_> = items.iter().map(|item| (item.id.to_bytes(), item.flags.is_user())).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Corruption::DuplicateItem { id: Guid::from_bytes(pair[0].0) });
    }
    let mut sorted: Vec<_> = items.iter().filter(|item| item.length > 0).collect();
    sorted.sort_unstable_by_key(|item| item.offset);
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].range().end > pair[1].range().start) {
        let item = pair[1];
        return Err(Corruption::ItemRange {
            id: item.id,
            offset: item.offset,
            length: item.length,
            rule: RangeRule::Disjoint,
        });
    }
    Ok(())
}
