//! A writer of new VHDX files: dynamic, fixed and differencing.
//!
//! Payload goes to the [`WriteAt`] port as it comes, each block at the end of the file when it is first touched, so
//! that blocks never written take no room. The structures are kept in memory and written by [`VhdxWriter::finish`],
//! the headers last: a file whose writing was interrupted is not taken for a disk. All ids come from the caller; the
//! same calls make the same bytes.
//!
//! The writer does not change existing files and does not use the log. [`PendingLog`] leaves the BAT in the log on
//! purpose, as an interrupted host does, to make fixtures for readers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use uguid::Guid;

use crate::bat::{Geometry, PayloadEntry, PayloadState, encode_bitmap_entry};
use crate::error::{Corruption, VhdxWriteError};
use crate::header::Header;
use crate::layout::{
    BAT_ENTRY_BYTES, BITMAP_BLOCK_BYTES, CREATOR_OFFSET, CREATOR_UNITS, FILE_HAS_PARENT,
    FILE_LEAVE_BLOCKS_ALLOCATED, FILE_SIGNATURE, HEADER_AREA_BYTES, HEADER_OFFSETS, ITEM_FILE_PARAMETERS,
    ITEM_IS_REQUIRED, ITEM_IS_VIRTUAL_DISK, ITEM_LOGICAL_SECTOR_SIZE, ITEM_PARENT_LOCATOR,
    ITEM_PHYSICAL_SECTOR_SIZE, ITEM_VIRTUAL_DISK_ID, ITEM_VIRTUAL_DISK_SIZE, LOG_SECTOR_BYTES, LOG_VERSION,
    MAX_LOCATOR_PAIRS, MAX_LOG_BYTES, MAX_METADATA_ENTRIES, MAX_METADATA_ITEM_BYTES,
    MAX_METADATA_REGION_BYTES, MIB, REGION_BAT, REGION_METADATA, REGION_TABLE_OFFSETS, VERSION,
};
use crate::locator::ParentLocator;
use crate::log::entry::{LogOperation, NewLogEntry};
use crate::metadata::{MetadataFlags, MetadataItem, MetadataTable};
use crate::port::WriteAt;
use crate::region::{Region, RegionTable};

/// Block size that Hyper-V gives dynamic disks, in bytes.
pub const DEFAULT_BLOCK_BYTES: u32 = 32 << 20;
/// Block size that Hyper-V gives differencing disks, in bytes.
pub const DEFAULT_DIFFERENCING_BLOCK_BYTES: u32 = 2 << 20;

/// Kind of the disk to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewDiskKind {
    /// Blocks are allocated when they are first written.
    Dynamic,
    /// All blocks are allocated, in order.
    Fixed,
    /// Sectors that are not written come from the parent.
    Differencing(ParentLocator),
}

/// Ids of the disk to write. The writer makes none itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDiskIds {
    /// Page-83 identity of the virtual disk; a differencing disk has that of its parent.
    pub virtual_disk_id: Guid,
    /// FileWriteGuid of the file.
    pub file_write_guid: Guid,
    /// DataWriteGuid of the file; children name it.
    pub data_write_guid: Guid,
}

/// Metadata item to carry into the new file, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedItem {
    /// Id of the item.
    pub id: Guid,
    /// Flags of the item.
    pub flags: MetadataFlags,
    /// Bytes of the item, at most 1 MiB.
    pub bytes: Vec<u8>,
}

/// Log to leave behind: the BAT is written to the log only, so that a reader must replay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLog {
    /// Id of the log.
    pub log_guid: Guid,
    /// Number of the first entry, which is empty, as Hyper-V writes it; not 0.
    pub first_sequence_number: u64,
    /// Position of the first entry in the ring, in bytes; a multiple of 4096. A high one makes the entries wrap.
    pub start: u32,
    /// Number of BAT pages that one entry holds, at least 1.
    pub pages_per_entry: usize,
}

/// What to write. Start from [`VhdxOptions::new`] and change fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxOptions {
    /// Kind of the disk.
    pub kind: NewDiskKind,
    /// Ids of the disk.
    pub ids: NewDiskIds,
    /// Size of the virtual disk, in bytes: a multiple of the logical sector size, at most 64 TiB.
    pub virtual_size_bytes: u64,
    /// Size of a block, in bytes: a power of two from 1 MiB to 256 MiB.
    pub block_bytes: u32,
    /// Logical sector size, in bytes: 512 or 4096.
    pub logical_sector_bytes: u32,
    /// Physical sector size, in bytes: 512 or 4096.
    pub physical_sector_bytes: u32,
    /// Length of the log, in bytes: a multiple of 1 MiB.
    pub log_bytes: u32,
    /// Program that made the file, at most 256 UTF-16 units.
    pub creator: String,
    /// Metadata items beyond those that the writer makes.
    pub items: Vec<CarriedItem>,
    /// Log to leave behind, for fixtures.
    pub pending_log: Option<PendingLog>,
}

impl VhdxOptions {
    /// Creates the options that Hyper-V uses for such a disk, with 512-byte logical and 4096-byte physical sectors.
    #[must_use]
    pub fn new(kind: NewDiskKind, virtual_size_bytes: u64, ids: NewDiskIds) -> Self {
        let block_bytes = match kind {
            NewDiskKind::Dynamic | NewDiskKind::Fixed => DEFAULT_BLOCK_BYTES,
            NewDiskKind::Differencing(_) => DEFAULT_DIFFERENCING_BLOCK_BYTES,
        };
        Self {
            kind,
            ids,
            virtual_size_bytes,
            block_bytes,
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
            log_bytes: 1 << 20,
            creator: "Lifeboat".into(),
            items: Vec::new(),
            pending_log: None,
        }
    }
}

/// State of a block that holds no data and was not simply left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMark {
    /// Contents are not defined; readers give zeros, not the parent's data.
    Undefined,
    /// Zeros, whatever the parent holds.
    Zero,
    /// Discarded by the guest; readers give zeros, not the parent's data.
    Unmapped,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VhdxWriteReport {
    /// Length of the file, in bytes.
    pub file_bytes: u64,
    /// Number of payload blocks that take room in the file.
    pub allocated_blocks: u64,
}

/// Block that is not in the state of an untouched one.
#[derive(Debug)]
struct Block {
    state: PayloadState,
    offset: u64,
    /// Written sectors of a partially present block, least significant bit first.
    bitmap: Vec<u8>,
}

/// Writer of one new VHDX file.
///
/// ```
/// use lifeboat_vhdx::{NewDiskIds, NewDiskKind, SparseImage, VhdxOptions, VhdxWriter};
/// use uguid::guid;
///
/// let ids = NewDiskIds {
///     virtual_disk_id: guid!("6f3b8d5e-0000-4000-8000-000000000001"),
///     file_write_guid: guid!("6f3b8d5e-0000-4000-8000-000000000002"),
///     data_write_guid: guid!("6f3b8d5e-0000-4000-8000-000000000003"),
/// };
/// let options = VhdxOptions::new(NewDiskKind::Dynamic, 64 << 30, ids);
/// let mut writer = VhdxWriter::create(SparseImage::new(), options)?;
/// writer.write_at(1 << 20, b"guest data")?;
/// let (image, report) = writer.finish()?;
/// assert_eq!(report.allocated_blocks, 1);
/// for (file_offset, bytes) in image.extents() {
///     // Write `bytes` at `file_offset` of a sparse file of `image.size_bytes()`.
/// #   let _ = (file_offset, bytes);
/// }
/// # Ok::<(), lifeboat_vhdx::VhdxWriteError>(())
/// ```
#[derive(Debug)]
pub struct VhdxWriter<W> {
    port: W,
    options: VhdxOptions,
    geometry: Geometry,
    metadata: Vec<u8>,
    metadata_region: Region,
    bat_region: Region,
    file_bytes: u64,
    blocks: BTreeMap<u64, Block>,
}

impl<W: WriteAt> VhdxWriter<W> {
    /// Begins a file on an empty port.
    ///
    /// # Errors
    /// Names the option that the format does not allow.
    pub fn create(port: W, options: VhdxOptions) -> Result<Self, VhdxWriteError> {
        let has_parent = matches!(options.kind, NewDiskKind::Differencing(_));
        let geometry = Geometry::new(
            options.virtual_size_bytes,
            options.block_bytes,
            options.logical_sector_bytes,
            has_parent,
        )
        .map_err(|corruption| match corruption {
            Corruption::InvalidSize { what, value } => VhdxWriteError::InvalidOption { what, value },
            // Geometry::new judges sizes only.
            _ => VhdxWriteError::InvalidOption { what: "geometry", value: 0 },
        })?;
        check_options(&options)?;
        let metadata = encode_metadata(&options, &geometry)?;
        let metadata_region = Region {
            id: REGION_METADATA,
            offset: HEADER_AREA_BYTES + u64::from(options.log_bytes),
            length: region_length("metadata", metadata.len() as u64, MAX_METADATA_REGION_BYTES)?,
            is_required: true,
        };
        let bat_region = Region {
            id: REGION_BAT,
            offset: metadata_region.range().end,
            // At most 513 MiB, as 64 TiB is the largest disk.
            length: region_length("BAT", geometry.bat_entry_count() * BAT_ENTRY_BYTES, u32::MAX)?,
            is_required: true,
        };
        let file_bytes = bat_region.range().end;
        let mut writer = Self {
            port,
            options,
            geometry,
            metadata,
            metadata_region,
            bat_region,
            file_bytes,
            blocks: BTreeMap::new(),
        };
        if writer.options.kind == NewDiskKind::Fixed {
            for block in 0..geometry.block_count() {
                writer.allocate(block);
            }
        }
        Ok(writer)
    }

    /// Returns the geometry of the disk.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Writes guest data.
    ///
    /// A dynamic or fixed disk takes any range; the rest of a block that was not written is zero. A differencing disk
    /// takes whole sectors, because the rest of a sector would have to come from the parent.
    ///
    /// # Errors
    /// [`VhdxWriteError::BeyondDisk`], [`VhdxWriteError::PartialSector`], or the port's failure.
    pub fn write_at(&mut self, virtual_offset: u64, bytes: &[u8]) -> Result<(), VhdxWriteError> {
        let length = bytes.len() as u64;
        let virtual_size_bytes = self.geometry.virtual_size_bytes();
        let end = virtual_offset.checked_add(length).filter(|end| *end <= virtual_size_bytes);
        let Some(end) = end else {
            return Err(VhdxWriteError::BeyondDisk { offset: virtual_offset, length, virtual_size_bytes });
        };
        let sector_bytes = self.geometry.sector_bytes();
        let whole = |value: u64| value.is_multiple_of(sector_bytes.into());
        if self.geometry.has_parent() && !(whole(virtual_offset) && whole(length)) {
            return Err(VhdxWriteError::PartialSector { offset: virtual_offset, length, sector_bytes });
        }
        let block_bytes = u64::from(self.geometry.block_bytes());
        let mut position = virtual_offset;
        while position < end {
            let block = position / block_bytes;
            let in_block = position % block_bytes;
            let piece_end = end.min((block + 1) * block_bytes);
            // Both are within `bytes`.
            let piece = &bytes[(position - virtual_offset) as usize..(piece_end - virtual_offset) as usize];
            let offset = self.allocate(block);
            self.port.write_all_at(offset + in_block, piece)?;
            self.mark_sectors(block, in_block, piece.len() as u64);
            position = piece_end;
        }
        Ok(())
    }

    /// Marks an untouched block as holding no data; in a differencing disk this hides the parent's data.
    ///
    /// # Errors
    /// [`VhdxWriteError::BeyondDisk`], or [`VhdxWriteError::BlockInUse`] when the block was touched before.
    pub fn mark_block(&mut self, block: u64, mark: BlockMark) -> Result<(), VhdxWriteError> {
        if block >= self.geometry.block_count() {
            let block_bytes = u64::from(self.geometry.block_bytes());
            return Err(VhdxWriteError::BeyondDisk {
                offset: block.saturating_mul(block_bytes),
                length: block_bytes,
                virtual_size_bytes: self.geometry.virtual_size_bytes(),
            });
        }
        if self.blocks.contains_key(&block) {
            return Err(VhdxWriteError::BlockInUse { block });
        }
        let state = match mark {
            BlockMark::Undefined => PayloadState::Undefined,
            BlockMark::Zero => PayloadState::Zero,
            BlockMark::Unmapped => PayloadState::Unmapped,
        };
        self.blocks.insert(block, Block { state, offset: 0, bitmap: Vec::new() });
        Ok(())
    }

    /// Returns the file offset of a block, giving it room at the end of the file if it has none.
    fn allocate(&mut self, block: u64) -> u64 {
        let entry = self.blocks.entry(block).or_insert_with(|| Block {
            state: PayloadState::NotPresent,
            offset: 0,
            bitmap: Vec::new(),
        });
        if entry.offset == 0 {
            entry.offset = self.file_bytes;
            self.file_bytes += u64::from(self.geometry.block_bytes());
            // A block that was marked hides the parent: what is not written of it stays zero.
            if self.geometry.has_parent() && entry.state == PayloadState::NotPresent {
                entry.state = PayloadState::PartiallyPresent;
                entry.bitmap = vec![0; self.geometry.bitmap_bytes_per_block() as usize];
            } else {
                entry.state = PayloadState::FullyPresent;
            }
        }
        entry.offset
    }

    /// Notes whole sectors of a partially present block as written; a block with all of them becomes fully present.
    fn mark_sectors(&mut self, block: u64, in_block: u64, length: u64) {
        let sector_bytes = u64::from(self.geometry.sector_bytes());
        let block_bytes = u64::from(self.geometry.block_bytes());
        let in_disk = (self.geometry.virtual_size_bytes() - block * block_bytes).min(block_bytes);
        let Some(entry) = self.blocks.get_mut(&block).filter(|entry| !entry.bitmap.is_empty()) else {
            return;
        };
        if length == in_disk {
            entry.state = PayloadState::FullyPresent;
            entry.bitmap = Vec::new();
            return;
        }
        for sector in in_block / sector_bytes..(in_block + length) / sector_bytes {
            // The bitmap has a bit for each sector of the block.
            entry.bitmap[(sector / 8) as usize] |= 1 << (sector % 8);
        }
    }

    /// Writes the structures and returns the port.
    ///
    /// # Errors
    /// The port's failure, or [`VhdxWriteError::LogFull`] when a pending log was asked for.
    pub fn finish(mut self) -> Result<(W, VhdxWriteReport), VhdxWriteError> {
        let mut bat = self.payload_entries();
        self.write_bitmaps(&mut bat)?;
        self.port.grow_to(self.file_bytes)?;
        let pages = self.bat_pages(&bat);
        match self.options.pending_log {
            None => {
                for (offset, page) in pages {
                    self.port.write_all_at(offset, page.as_slice())?;
                }
            }
            Some(log) => self.write_pending_log(log, pages)?,
        }
        self.port.write_all_at(self.metadata_region.offset, &self.metadata)?;
        let regions =
            RegionTable { bat: self.bat_region, metadata: self.metadata_region, others: Vec::new() };
        let table = regions.encode();
        for offset in REGION_TABLE_OFFSETS {
            self.port.write_all_at(offset, &table)?;
        }
        let mut identifier = FILE_SIGNATURE.to_vec();
        identifier.resize(CREATOR_OFFSET as usize, 0);
        identifier.extend(self.options.creator.encode_utf16().flat_map(u16::to_le_bytes));
        self.port.write_all_at(0, &identifier)?;
        for (offset, sequence_number) in HEADER_OFFSETS.into_iter().zip(1..) {
            let header = Header {
                sequence_number,
                file_write_guid: self.options.ids.file_write_guid,
                data_write_guid: self.options.ids.data_write_guid,
                log_guid: self.options.pending_log.map(|log| log.log_guid),
                log_version: LOG_VERSION,
                version: VERSION,
                log_offset: HEADER_AREA_BYTES,
                log_bytes: self.options.log_bytes,
            };
            self.port.write_all_at(offset, &header.encode())?;
        }
        let report = VhdxWriteReport {
            file_bytes: self.file_bytes,
            allocated_blocks: self.blocks.values().filter(|block| block.offset != 0).count() as u64,
        };
        Ok((self.port, report))
    }

    fn payload_entries(&self) -> BTreeMap<u64, u64> {
        let entry = |block: &Block| PayloadEntry { state: block.state, offset: block.offset }.encode();
        self.blocks
            .iter()
            .map(|(number, block)| (self.geometry.payload_index(*number), entry(block)))
            .collect()
    }

    /// Writes the sector bitmap blocks of all chunks that need one, and notes them in the BAT.
    fn write_bitmaps(&mut self, bat: &mut BTreeMap<u64, u64>) -> Result<(), VhdxWriteError> {
        let ratio = self.geometry.chunk_ratio();
        let mut chunk_with_room = None;
        for (number, block) in self.blocks.iter().filter(|(_, block)| !block.bitmap.is_empty()) {
            let chunk = number / ratio;
            let base = match chunk_with_room {
                Some((last, base)) if last == chunk => base,
                _ => {
                    let base = self.file_bytes;
                    self.file_bytes += BITMAP_BLOCK_BYTES;
                    bat.insert(self.geometry.bitmap_index(chunk), encode_bitmap_entry(base));
                    chunk_with_room = Some((chunk, base));
                    base
                }
            };
            let place = number % ratio * u64::from(self.geometry.bitmap_bytes_per_block());
            self.port.write_all_at(base + place, &block.bitmap)?;
        }
        Ok(())
    }

    /// Groups the BAT entries into the pages of the BAT region that are not zero, by file offset.
    fn bat_pages(&self, bat: &BTreeMap<u64, u64>) -> BTreeMap<u64, Box<[u8; LOG_SECTOR_BYTES]>> {
        let mut pages = BTreeMap::new();
        for (index, entry) in bat {
            let place = index * BAT_ENTRY_BYTES;
            let in_page = (place % LOG_SECTOR_BYTES as u64) as usize;
            let page = pages
                .entry(self.bat_region.offset + place - in_page as u64)
                .or_insert_with(|| Box::new([0; LOG_SECTOR_BYTES]));
            page[in_page..in_page + BAT_ENTRY_BYTES as usize].copy_from_slice(&entry.to_le_bytes());
        }
        pages
    }

    fn write_pending_log(
        &mut self,
        log: PendingLog,
        pages: BTreeMap<u64, Box<[u8; LOG_SECTOR_BYTES]>>,
    ) -> Result<(), VhdxWriteError> {
        let operations: Vec<LogOperation> = pages
            .into_iter()
            .map(|(file_offset, sector)| LogOperation::Data { file_offset, sector })
            .collect();
        let groups = core::iter::once(&[][..]).chain(operations.chunks(log.pages_per_entry));
        let log_bytes = u64::from(self.options.log_bytes);
        let mut used = 0;
        for (group, sequence_number) in groups.zip(log.first_sequence_number..) {
            let entry = NewLogEntry {
                log_guid: log.log_guid,
                sequence_number,
                tail: log.start,
                flushed_file_bytes: self.file_bytes,
                last_file_bytes: self.file_bytes,
                operations: group,
            };
            let start = (u64::from(log.start) + used) % log_bytes;
            used += entry.encoded_bytes();
            if used > log_bytes {
                return Err(VhdxWriteError::LogFull { log_bytes, need_bytes: used });
            }
            let bytes = entry.encode();
            // The entry is no longer than the log; what does not fit before its end goes to its start.
            let before_end = (log_bytes - start).min(bytes.len() as u64) as usize;
            self.port.write_all_at(HEADER_AREA_BYTES + start, &bytes[..before_end])?;
            self.port.write_all_at(HEADER_AREA_BYTES, &bytes[before_end..])?;
        }
        Ok(())
    }
}

fn check_options(options: &VhdxOptions) -> Result<(), VhdxWriteError> {
    let invalid = |what, value| Err(VhdxWriteError::InvalidOption { what, value });
    if !matches!(options.physical_sector_bytes, 512 | 4096) {
        return invalid("physical sector size", options.physical_sector_bytes.into());
    }
    let log_bytes = u64::from(options.log_bytes);
    if log_bytes == 0 || !log_bytes.is_multiple_of(MIB) || options.log_bytes > MAX_LOG_BYTES {
        return invalid("log length", log_bytes);
    }
    if options.creator.encode_utf16().count() > CREATOR_UNITS {
        return Err(VhdxWriteError::TextTooLong { what: "the creator", text: options.creator.clone() });
    }
    if let Some(log) = options.pending_log {
        if log.log_guid == Guid::ZERO || log.first_sequence_number == 0 {
            return invalid("first log sequence number or log id", log.first_sequence_number);
        }
        if log.start >= options.log_bytes || !(log.start as usize).is_multiple_of(LOG_SECTOR_BYTES) {
            return invalid("log start", log.start.into());
        }
        if log.pages_per_entry == 0 {
            return invalid("number of BAT pages per log entry", 0);
        }
    }
    Ok(())
}

/// Rounds the length of a region up to whole MiB.
fn region_length(what: &'static str, bytes: u64, max: u32) -> Result<u32, VhdxWriteError> {
    let length = bytes.next_multiple_of(MIB);
    u32::try_from(length)
        .ok()
        .filter(|length| *length <= max)
        .ok_or(VhdxWriteError::InvalidOption { what, value: length })
}

fn encode_metadata(options: &VhdxOptions, geometry: &Geometry) -> Result<Vec<u8>, VhdxWriteError> {
    let kind_flags = match options.kind {
        NewDiskKind::Dynamic => 0,
        NewDiskKind::Fixed => FILE_LEAVE_BLOCKS_ALLOCATED,
        NewDiskKind::Differencing(_) => FILE_HAS_PARENT,
    };
    let parameters = [geometry.block_bytes().to_le_bytes(), kind_flags.to_le_bytes()].concat();
    let file = ITEM_IS_REQUIRED;
    let disk = ITEM_IS_REQUIRED | ITEM_IS_VIRTUAL_DISK;
    let mut items = vec![
        (ITEM_FILE_PARAMETERS, file, parameters),
        (ITEM_VIRTUAL_DISK_SIZE, disk, geometry.virtual_size_bytes().to_le_bytes().to_vec()),
        (ITEM_VIRTUAL_DISK_ID, disk, options.ids.virtual_disk_id.to_bytes().to_vec()),
        (ITEM_LOGICAL_SECTOR_SIZE, disk, geometry.sector_bytes().to_le_bytes().to_vec()),
        (ITEM_PHYSICAL_SECTOR_SIZE, disk, options.physical_sector_bytes.to_le_bytes().to_vec()),
    ];
    if let NewDiskKind::Differencing(locator) = &options.kind {
        let pairs = locator.pairs().count();
        if pairs > usize::from(MAX_LOCATOR_PAIRS) {
            return Err(VhdxWriteError::InvalidOption {
                what: "number of locator pairs",
                value: pairs as u64,
            });
        }
        let item = locator.encode().map_err(|text| VhdxWriteError::TextTooLong {
            what: "a value of the parent locator",
            text: text.into(),
        })?;
        items.push((ITEM_PARENT_LOCATOR, file, item));
    }
    items.extend(options.items.iter().map(|item| (item.id, item.flags.0, item.bytes.clone())));
    if items.len() > usize::from(MAX_METADATA_ENTRIES) {
        return Err(VhdxWriteError::InvalidOption {
            what: "number of metadata items",
            value: items.len() as u64,
        });
    }
    let mut entries: Vec<(MetadataItem, Vec<u8>)> = Vec::with_capacity(items.len());
    for (id, flags, bytes) in items {
        let flags = MetadataFlags(flags);
        if entries.iter().any(|(other, _)| other.id == id && other.flags.is_user() == flags.is_user()) {
            return Err(VhdxWriteError::DuplicateItem { id });
        }
        if bytes.len() > MAX_METADATA_ITEM_BYTES as usize {
            let value = bytes.len() as u64;
            return Err(VhdxWriteError::InvalidOption { what: "length of a metadata item", value });
        }
        entries.push((MetadataItem { id, flags, offset: 0, length: bytes.len() as u32 }, bytes));
    }
    Ok(MetadataTable::encode(&entries))
}
