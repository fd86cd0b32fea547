//! One VHDX file, opened for reading.
//!
//! Opening reads headers, log (when there is something to replay), region table, metadata table and the items that the
//! reader knows: some hundred KiB, whatever the size of the disk. BAT and sector bitmaps are read when a range is
//! resolved, and only the entries that the range needs. The reader keeps no cache, so that it is used through a shared
//! reference; it never writes.
//!
//! A differencing disk is opened alone here: what it does not hold is answered as the parent's.
//! [`crate::VhdxChain`] puts disks together.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use uguid::Guid;

use crate::bat::Geometry;
use crate::blocks::Pieces;
use crate::error::{BlockKind, Corruption, RangeRule, VhdxError};
use crate::extent::{Extent, Joined, LocalSource};
use crate::header::Header;
use crate::layout::{
    BAT_ENTRY_BYTES, CREATOR_OFFSET, CREATOR_UNITS, FILE_HAS_PARENT, FILE_LEAVE_BLOCKS_ALLOCATED,
    FILE_SIGNATURE, HEADER_AREA_BYTES, HEADER_BYTES, HEADER_OFFSETS, ITEM_FILE_PARAMETERS,
    ITEM_LOGICAL_SECTOR_SIZE, ITEM_PARENT_LOCATOR, ITEM_PHYSICAL_SECTOR_SIZE, ITEM_VIRTUAL_DISK_ID,
    ITEM_VIRTUAL_DISK_SIZE, REGION_TABLE_BYTES, REGION_TABLE_OFFSETS,
};
use crate::locator::ParentLocator;
use crate::metadata::{METADATA_HEAD_BYTES, MetadataItem, MetadataTable};
use crate::overlay::FileView;
use crate::port::ReadAt;
use crate::region::RegionTable;

/// Kind of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// Blocks are allocated when they are first written.
    Dynamic,
    /// Blocks stay allocated.
    Fixed,
    /// What the file does not hold comes from a parent.
    Differencing,
}

/// What tells a disk from others and one state of it from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIdentity {
    /// Kind of the disk.
    pub kind: DiskKind,
    /// Page-83 identity that the guest sees; equal in all disks of a chain.
    pub virtual_disk_id: Guid,
    /// Changes once per writable open of the file.
    pub file_write_guid: Guid,
    /// Changes once per open in which the guest's data changes. Says nothing about a disk in use.
    pub data_write_guid: Guid,
    /// Size of the virtual disk, in bytes.
    pub virtual_size_bytes: u64,
    /// Size of a block, in bytes.
    pub block_bytes: u32,
    /// Logical sector size, in bytes.
    pub logical_sector_bytes: u32,
    /// Physical sector size, in bytes.
    pub physical_sector_bytes: u32,
    /// Program that made the file, as the file says.
    pub creator: String,
}

/// VHDX file with its log replayed in memory.
pub struct VhdxReader<R> {
    view: FileView<R>,
    header: Header,
    regions: RegionTable,
    metadata: MetadataTable,
    geometry: Geometry,
    identity: DiskIdentity,
    parent: Option<ParentLocator>,
    /// Log and regions in ascending order: no block may touch them.
    reserved: Vec<Range<u64>>,
}

/// Shows what the disk is, not the port: a port may be the whole file.
impl<R> fmt::Debug for VhdxReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VhdxReader")
            .field("identity", &self.identity)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

impl<R: ReadAt> VhdxReader<R> {
    /// Opens a file, replaying its log in memory when the header asks for it.
    ///
    /// # Errors
    /// [`VhdxError::NotVhdx`] when it is something else, [`VhdxError::Corrupt`] with the broken rule, or the feature
    /// that is not supported.
    pub fn open(port: R) -> Result<Self, VhdxError> {
        let creator = read_identifier(&port)?;
        let header = read_header(&port)?;
        header.check(port.size_bytes())?;
        let view = FileView::replay(port, &header)?;
        let log = header.log_range();
        let regions = read_regions(&view, &log)?;
        let metadata = read_metadata_table(&view, &regions)?;

        let items = ItemReader { view: &view, regions: &regions, metadata: &metadata };
        let [block_bytes, flags] = halves(items.fixed(ITEM_FILE_PARAMETERS, "file parameters")?);
        let virtual_size_bytes =
            u64::from_le_bytes(items.fixed(ITEM_VIRTUAL_DISK_SIZE, "virtual disk size")?);
        let virtual_disk_id = Guid::from_bytes(items.fixed(ITEM_VIRTUAL_DISK_ID, "virtual disk id")?);
        let logical_sector_bytes =
            u32::from_le_bytes(items.fixed(ITEM_LOGICAL_SECTOR_SIZE, "logical sector size")?);
        let physical_sector_bytes =
            u32::from_le_bytes(items.fixed(ITEM_PHYSICAL_SECTOR_SIZE, "physical sector size")?);
        if !matches!(physical_sector_bytes, 512 | 4096) {
            let value = physical_sector_bytes.into();
            return Err(Corruption::InvalidSize { what: "physical sector size", value }.into());
        }
        let has_parent = flags & FILE_HAS_PARENT != 0;
        let parent = has_parent.then(|| items.parent_locator()).transpose()?;
        let geometry = Geometry::new(virtual_size_bytes, block_bytes, logical_sector_bytes, has_parent)?;
        let have = u64::from(regions.bat.length) / BAT_ENTRY_BYTES;
        let need = geometry.bat_entry_count();
        if have < need {
            return Err(Corruption::BatTooSmall { have, need }.into());
        }

        let kind = match (has_parent, flags & FILE_LEAVE_BLOCKS_ALLOCATED != 0) {
            (true, _) => DiskKind::Differencing,
            (false, true) => DiskKind::Fixed,
            (false, false) => DiskKind::Dynamic,
        };
        let identity = DiskIdentity {
            kind,
            virtual_disk_id,
            file_write_guid: header.file_write_guid,
            data_write_guid: header.data_write_guid,
            virtual_size_bytes,
            block_bytes,
            logical_sector_bytes,
            physical_sector_bytes,
            creator,
        };
        let mut reserved: Vec<Range<u64>> = regions.all().map(|region| region.range()).collect();
        reserved.extend((!log.is_empty()).then_some(log));
        reserved.sort_unstable_by_key(|range| range.start);
        Ok(Self { view, header, regions, metadata, geometry, identity, parent, reserved })
    }

    /// Returns the current header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the regions of the file.
    #[must_use]
    pub fn regions(&self) -> &RegionTable {
        &self.regions
    }

    /// Returns the table of metadata items, known and unknown.
    #[must_use]
    pub fn metadata(&self) -> &MetadataTable {
        &self.metadata
    }

    /// Returns the sizes of the disk.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns what tells the disk from others.
    #[must_use]
    pub fn identity(&self) -> &DiskIdentity {
        &self.identity
    }

    /// Returns the parent locator of a differencing disk.
    #[must_use]
    pub fn parent(&self) -> Option<&ParentLocator> {
        self.parent.as_ref()
    }

    /// Returns the number of log entries that were replayed; 0 for a file that was closed properly.
    #[must_use]
    pub fn replayed_entries(&self) -> usize {
        self.view.replayed_entries()
    }

    /// Returns the port, for reading payload at the offsets of [`LocalSource::Data`].
    #[must_use]
    pub fn port(&self) -> &R {
        self.view.port()
    }

    /// Reads the bytes of a metadata item; empty for an empty item.
    ///
    /// # Errors
    /// The port's failure.
    pub fn read_item(&self, item: &MetadataItem) -> Result<Vec<u8>, VhdxError> {
        ItemReader { view: &self.view, regions: &self.regions, metadata: &self.metadata }.bytes(item)
    }

    /// Answers where each part of a range of the virtual disk lies, in ascending order and without gaps.
    ///
    /// The iterator reads BAT and bitmaps as it goes; it ends after its first error.
    ///
    /// # Errors
    /// [`VhdxError::BeyondDisk`] at once; broken BAT entries when the iterator meets them.
    pub fn resolve(
        &self,
        range: Range<u64>,
    ) -> Result<impl Iterator<Item = Result<Extent<LocalSource>, VhdxError>> + use<'_, R>, VhdxError> {
        self.check_range(&range)?;
        Ok(Joined::new(Pieces::new(self, range)))
    }

    pub(crate) fn check_range(&self, range: &Range<u64>) -> Result<(), VhdxError> {
        let virtual_size_bytes = self.geometry.virtual_size_bytes();
        if range.start > range.end || range.end > virtual_size_bytes {
            let length = range.end.saturating_sub(range.start);
            return Err(VhdxError::BeyondDisk { offset: range.start, length, virtual_size_bytes });
        }
        Ok(())
    }

    pub(crate) fn view(&self) -> &FileView<R> {
        &self.view
    }

    /// Checks where a block may lie: after the headers, inside the file, apart from log and regions.
    pub(crate) fn check_block(
        &self,
        what: BlockKind,
        index: u64,
        range: &Range<u64>,
    ) -> Result<(), Corruption> {
        let broken = |rule| Err(Corruption::BlockRange { what, index, offset: range.start, rule });
        if range.start < HEADER_AREA_BYTES {
            return broken(RangeRule::AfterHeaders);
        }
        if range.end > self.view.size_bytes() {
            return broken(RangeRule::Inside);
        }
        let next = self.reserved.partition_point(|reserved| reserved.end <= range.start);
        if self.reserved.get(next).is_some_and(|reserved| reserved.start < range.end) {
            return broken(RangeRule::Disjoint);
        }
        Ok(())
    }
}

/// Metadata items with what is needed to read them.
struct ItemReader<'a, R> {
    view: &'a FileView<R>,
    regions: &'a RegionTable,
    metadata: &'a MetadataTable,
}

impl<R: ReadAt> ItemReader<'_, R> {
    fn bytes(&self, item: &MetadataItem) -> Result<Vec<u8>, VhdxError> {
        // At most MAX_METADATA_ITEM_BYTES, and inside the region: MetadataTable::parse.
        let mut bytes = vec![0; item.length as usize];
        self.view.read_exact_at(self.regions.metadata.offset + u64::from(item.offset), &mut bytes)?;
        Ok(bytes)
    }

    fn system(&self, id: Guid, what: &'static str) -> Result<&MetadataItem, Corruption> {
        self.metadata.system_item(id).ok_or(Corruption::MissingItem { what })
    }

    fn fixed<const N: usize>(&self, id: Guid, what: &'static str) -> Result<[u8; N], VhdxError> {
        let item = self.system(id, what)?;
        let wrong = Corruption::ItemLength { what, found: item.length, expected: N as u32 };
        if item.length != N as u32 {
            return Err(wrong.into());
        }
        self.bytes(item)?.try_into().map_err(|_| wrong.into())
    }

    fn parent_locator(&self) -> Result<ParentLocator, VhdxError> {
        let item = self.system(ITEM_PARENT_LOCATOR, "parent locator")?;
        ParentLocator::parse(&self.bytes(item)?)
    }
}

/// Splits eight bytes into two numbers.
fn halves(bytes: [u8; 8]) -> [u32; 2] {
    let both = u64::from_le_bytes(bytes);
    [both as u32, (both >> 32) as u32]
}

/// Checks the signature and reads the creator.
fn read_identifier(port: &impl ReadAt) -> Result<String, VhdxError> {
    let size_bytes = port.size_bytes();
    let mut found = [0; FILE_SIGNATURE.len()];
    if size_bytes < found.len() as u64 {
        return Err(Corruption::FileTooShort { size_bytes }.into());
    }
    port.read_exact_at(0, &mut found)?;
    if found != FILE_SIGNATURE {
        return Err(VhdxError::NotVhdx { found });
    }
    if size_bytes < HEADER_AREA_BYTES {
        return Err(Corruption::FileTooShort { size_bytes }.into());
    }
    let mut creator = [0; CREATOR_UNITS * 2];
    port.read_exact_at(CREATOR_OFFSET, &mut creator)?;
    let units: Vec<u16> = creator
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Ok(String::from_utf16_lossy(&units))
}

fn read_header(port: &impl ReadAt) -> Result<Header, VhdxError> {
    let [mut first, mut second] = [[0; HEADER_BYTES]; 2];
    port.read_exact_at(HEADER_OFFSETS[0], &mut first)?;
    port.read_exact_at(HEADER_OFFSETS[1], &mut second)?;
    Ok(Header::select(&first, &second)?)
}

fn read_regions<R: ReadAt>(view: &FileView<R>, log: &Range<u64>) -> Result<RegionTable, VhdxError> {
    let [mut first, mut second] = [vec![0; REGION_TABLE_BYTES], vec![0; REGION_TABLE_BYTES]];
    view.read_exact_at(REGION_TABLE_OFFSETS[0], &mut first)?;
    view.read_exact_at(REGION_TABLE_OFFSETS[1], &mut second)?;
    RegionTable::parse(&first, &second, view.size_bytes(), log)
}

fn read_metadata_table<R: ReadAt>(
    view: &FileView<R>,
    regions: &RegionTable,
) -> Result<MetadataTable, VhdxError> {
    // A region has at least 1 MiB, which is more than the table can have.
    let mut head = [0; METADATA_HEAD_BYTES];
    view.read_exact_at(regions.metadata.offset, &mut head)?;
    let mut table = vec![0; MetadataTable::parse_head(&head)?];
    view.read_exact_at(regions.metadata.offset, &mut table)?;
    MetadataTable::parse(&table, regions.metadata.length)
}
