//! One VHD file, opened for reading.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use zerocopy::FromBytes;

use crate::extent::{Extent, Joined, LocalSource};
use crate::port::ReadAt;
use crate::region::overlap;
use crate::vhd::error::{VhdCorruption, VhdError};
use crate::vhd::layout::{
    BAT_ENTRY_BYTES, BAT_UNUSED, FILE_VERSION, FOOTER_BYTES, FOOTER_COOKIE, HEADER_BYTES, HEADER_COOKIE,
    LOCATOR_ABSOLUTE, LOCATOR_RELATIVE, MAX_BLOCK_BYTES, MAX_LOCATOR_BYTES, MAX_VIRTUAL_BYTES,
    MIN_BLOCK_BYTES, RawDynamicHeader, RawFooter, SECTOR_BYTES, TYPE_DIFFERENCING, TYPE_DYNAMIC, TYPE_FIXED,
    VhdId, checksum,
};

/// Offset of the checksum in a footer.
const FOOTER_CHECKSUM: usize = 64;
/// Offset of the checksum in a header.
const HEADER_CHECKSUM: usize = 36;
/// Largest number of bytes of BAT or bitmap that are read at once.
const WINDOW_BYTES: u64 = 4096;

/// Kind of a VHD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhdKind {
    /// The data lies in order.
    Fixed,
    /// Blocks are allocated when they are first written.
    Dynamic,
    /// What the file does not hold comes from a parent.
    Differencing,
}

/// What a differencing VHD says about its parent. Names are hints; the identity decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdParent {
    /// Identity of the parent.
    pub id: VhdId,
    /// Modification time of the parent when the link was made, in seconds since the year 2000. Not checked: copies
    /// of files do not keep it.
    pub timestamp: u32,
    /// File name of the parent.
    pub name: String,
    /// Path relative to the child, with backslashes.
    pub relative_path: Option<String>,
    /// Absolute path.
    pub absolute_path: Option<String>,
}

/// What tells a VHD from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdIdentity {
    /// Kind of the disk.
    pub kind: VhdKind,
    /// Identity of the disk.
    pub id: VhdId,
    /// Size of the virtual disk, in bytes.
    pub virtual_size_bytes: u64,
    /// When the disk was made, in seconds since the year 2000, UTC.
    pub timestamp: u32,
    /// Program that made the disk, four characters.
    pub creator_application: [u8; 4],
    /// Whether the footer at the end was damaged, so that the copy at the start was used.
    pub footer_damaged: bool,
}

/// BAT and blocks of a dynamic or differencing disk.
#[derive(Clone, Copy, Debug)]
struct Table {
    offset: u64,
    entries: u64,
    block_bytes: u64,
    /// Length of the sector bitmap before each block, in bytes.
    bitmap_bytes: u64,
    header_end: u64,
}

/// VHD file.
pub struct VhdReader<R> {
    port: R,
    identity: VhdIdentity,
    parent: Option<VhdParent>,
    table: Option<Table>,
}

/// Shows what the disk is, not the port: a port may be the whole file.
impl<R> fmt::Debug for VhdReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VhdReader")
            .field("identity", &self.identity)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

impl<R: ReadAt> VhdReader<R> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`VhdError::NotVhd`] when it is something else, [`VhdError::Corrupt`] with the broken rule, or what is not
    /// supported.
    pub fn open(port: R) -> Result<Self, VhdError> {
        let (footer, footer_damaged) = read_footer(&port)?;
        if footer.file_version.get() >> 16 != FILE_VERSION >> 16 {
            return Err(VhdError::UnsupportedVersion { found: footer.file_version.get() });
        }
        let kind = match footer.disk_type.get() {
            TYPE_FIXED => VhdKind::Fixed,
            TYPE_DYNAMIC => VhdKind::Dynamic,
            TYPE_DIFFERENCING => VhdKind::Differencing,
            found => return Err(VhdError::UnsupportedType { found }),
        };
        let virtual_size_bytes = footer.current_size.get();
        if virtual_size_bytes == 0
            || virtual_size_bytes > MAX_VIRTUAL_BYTES
            || !virtual_size_bytes.is_multiple_of(SECTOR_BYTES)
        {
            return Err(VhdCorruption::InvalidSize { what: "virtual size", value: virtual_size_bytes }.into());
        }
        let (mut parent, mut table) = (None, None);
        if kind == VhdKind::Fixed {
            let have_bytes = port.size_bytes() - FOOTER_BYTES as u64;
            if have_bytes < virtual_size_bytes {
                return Err(
                    VhdCorruption::DataTruncated { need_bytes: virtual_size_bytes, have_bytes }.into()
                );
            }
        } else {
            let offset = footer.data_offset.get();
            let header = read_header(&port, offset)?;
            table = Some(parse_table(&header, offset, virtual_size_bytes, port.size_bytes())?);
            parent = (kind == VhdKind::Differencing).then(|| read_parent(&port, &header)).transpose()?;
        }
        let identity = VhdIdentity {
            kind,
            id: VhdId(footer.unique_id),
            virtual_size_bytes,
            timestamp: footer.timestamp.get(),
            creator_application: footer.creator_application,
            footer_damaged,
        };
        Ok(Self { port, identity, parent, table })
    }

    /// Returns what tells the disk from others.
    #[must_use]
    pub fn identity(&self) -> &VhdIdentity {
        &self.identity
    }

    /// Returns what a differencing disk says about its parent.
    #[must_use]
    pub fn parent(&self) -> Option<&VhdParent> {
        self.parent.as_ref()
    }

    /// Returns the size of a block, in bytes; nothing for a fixed disk.
    #[must_use]
    pub fn block_bytes(&self) -> Option<u64> {
        self.table.map(|table| table.block_bytes)
    }

    /// Returns the port, for reading payload.
    #[must_use]
    pub fn port(&self) -> &R {
        &self.port
    }

    /// Answers where each part of a range of the virtual disk lies, in ascending order and without gaps.
    ///
    /// # Errors
    /// [`VhdError::BeyondDisk`] at once; broken BAT entries when the iterator meets them.
    pub fn resolve(
        &self,
        range: Range<u64>,
    ) -> Result<impl Iterator<Item = Result<Extent<LocalSource>, VhdError>> + use<'_, R>, VhdError> {
        self.check_range(&range)?;
        Ok(Joined::new(VhdPieces::new(self, range)))
    }

    pub(crate) fn check_range(&self, range: &Range<u64>) -> Result<(), VhdError> {
        let virtual_size_bytes = self.identity.virtual_size_bytes;
        if range.start > range.end || range.end > virtual_size_bytes {
            let length = range.end.saturating_sub(range.start);
            return Err(VhdError::BeyondDisk { offset: range.start, length, virtual_size_bytes });
        }
        Ok(())
    }
}

/// Reads the footer at the end, or its copy at the start when that at the end is not valid.
fn read_footer(port: &impl ReadAt) -> Result<(RawFooter, bool), VhdError> {
    let size_bytes = port.size_bytes();
    let Some(last) = size_bytes.checked_sub(FOOTER_BYTES as u64) else { return Err(VhdError::NotVhd) };
    for (offset, is_copy) in [(last, false), (0, true)] {
        let mut bytes = [0; FOOTER_BYTES];
        port.read_exact_at(offset, &mut bytes)?;
        let footer = RawFooter::read_from_bytes(&bytes).map_err(|_| VhdError::NotVhd)?;
        let is_valid =
            footer.cookie == FOOTER_COOKIE && footer.checksum.get() == checksum(&bytes, FOOTER_CHECKSUM);
        // Only dynamic and differencing disks have the copy: what a guest wrote at the start of a fixed disk is data.
        if is_valid && !(is_copy && footer.disk_type.get() == TYPE_FIXED) {
            return Ok((footer, is_copy));
        }
    }
    Err(VhdError::NotVhd)
}

fn read_header(port: &impl ReadAt, offset: u64) -> Result<RawDynamicHeader, VhdError> {
    let broken = VhdCorruption::Header { offset };
    let end = offset.checked_add(HEADER_BYTES as u64);
    if offset < FOOTER_BYTES as u64 || end.is_none_or(|end| end > port.size_bytes()) {
        return Err(broken.into());
    }
    let mut bytes = [0; HEADER_BYTES];
    port.read_exact_at(offset, &mut bytes)?;
    let header = RawDynamicHeader::read_from_bytes(&bytes).map_err(|_| broken.clone())?;
    if header.cookie != HEADER_COOKIE || header.checksum.get() != checksum(&bytes, HEADER_CHECKSUM) {
        return Err(broken.into());
    }
    if header.header_version.get() >> 16 != FILE_VERSION >> 16 {
        return Err(VhdError::UnsupportedVersion { found: header.header_version.get() });
    }
    Ok(header)
}

fn parse_table(
    header: &RawDynamicHeader,
    header_offset: u64,
    virtual_size_bytes: u64,
    file_bytes: u64,
) -> Result<Table, VhdCorruption> {
    let block = header.block_size.get();
    if !block.is_power_of_two() || !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block) {
        return Err(VhdCorruption::InvalidSize { what: "block size", value: block.into() });
    }
    let block_bytes = u64::from(block);
    let (have, need) = (u64::from(header.max_table_entries.get()), virtual_size_bytes.div_ceil(block_bytes));
    if have < need {
        return Err(VhdCorruption::BatTooSmall { have, need });
    }
    let offset = header.table_offset.get();
    let header_end = header_offset + HEADER_BYTES as u64;
    if offset < FOOTER_BYTES as u64
        || offset
            .checked_add(need * BAT_ENTRY_BYTES)
            .is_none_or(|end| end > file_bytes || overlap(&(offset..end), &(header_offset..header_end)))
    {
        return Err(VhdCorruption::BatRange { offset });
    }
    let bitmap_bytes = (block_bytes / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES);
    Ok(Table { offset, entries: need, block_bytes, bitmap_bytes, header_end })
}

fn read_parent(port: &impl ReadAt, header: &RawDynamicHeader) -> Result<VhdParent, VhdError> {
    let name = decode(header.parent_name.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])));
    let mut parent = VhdParent {
        id: VhdId(header.parent_unique_id),
        timestamp: header.parent_timestamp.get(),
        name,
        relative_path: None,
        absolute_path: None,
    };
    for locator in &header.parent_locators {
        let path = match locator.platform_code {
            LOCATOR_RELATIVE => &mut parent.relative_path,
            LOCATOR_ABSOLUTE => &mut parent.absolute_path,
            _ => continue,
        };
        let (offset, length) = (locator.data_offset.get(), locator.data_length.get());
        let is_inside = offset.checked_add(length.into()).is_some_and(|end| end <= port.size_bytes());
        // A hint that cannot be read is no reason to refuse the disk.
        if length > MAX_LOCATOR_BYTES || !is_inside {
            continue;
        }
        let mut bytes = vec![0; length as usize];
        port.read_exact_at(offset, &mut bytes)?;
        *path = Some(decode(bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]))));
    }
    Ok(parent)
}

fn decode(units: impl Iterator<Item = u16>) -> String {
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// Iterator over the parts of a range of one disk, not joined.
pub(crate) struct VhdPieces<'a, R> {
    reader: &'a VhdReader<R>,
    position: u64,
    end: u64,
    bat_offset: u64,
    bat: Vec<u8>,
}

impl<'a, R: ReadAt> VhdPieces<'a, R> {
    /// Begins the walk over a range that lies inside the disk.
    pub(crate) fn new(reader: &'a VhdReader<R>, range: Range<u64>) -> Self {
        Self { reader, position: range.start, end: range.end, bat_offset: 0, bat: Vec::new() }
    }

    fn entry(&mut self, table: &Table, block: u64) -> Result<u32, VhdError> {
        let place = table.offset + block * BAT_ENTRY_BYTES;
        if !(self.bat_offset..self.bat_offset + self.bat.len() as u64).contains(&place) {
            let table_end = table.offset + (self.end.div_ceil(table.block_bytes)) * BAT_ENTRY_BYTES;
            self.bat = vec![0; (table_end - place).min(WINDOW_BYTES) as usize];
            self.bat_offset = place;
            self.reader.port.read_exact_at(place, &mut self.bat)?;
        }
        let entry = self.bat[(place - self.bat_offset) as usize..].first_chunk().copied().unwrap_or_default();
        Ok(u32::from_be_bytes(entry))
    }

    fn piece(&mut self) -> Result<Extent<LocalSource>, VhdError> {
        let offset = self.position;
        let Some(table) = self.reader.table else {
            let source = LocalSource::Data { file_offset: offset };
            return Ok(Extent { offset, length: self.end - offset, source });
        };
        let is_differencing = self.reader.parent.is_some();
        let block = offset / table.block_bytes;
        let in_block =
            offset % table.block_bytes..table.block_bytes.min(self.end - block * table.block_bytes);
        let length = in_block.end - in_block.start;
        let entry = self.entry(&table, block)?;
        if entry == BAT_UNUSED {
            let source = if is_differencing { LocalSource::Parent } else { LocalSource::Zero };
            return Ok(Extent { offset, length, source });
        }
        let start = u64::from(entry) * SECTOR_BYTES;
        let range = start..start + table.bitmap_bytes + table.block_bytes;
        let bat = table.offset..table.offset + table.entries * BAT_ENTRY_BYTES;
        if start < table.header_end.min(bat.start)
            || range.end > self.reader.port.size_bytes()
            || overlap(&range, &bat)
        {
            return Err(VhdCorruption::BlockRange { block, offset: start }.into());
        }
        let file_offset = start + table.bitmap_bytes + in_block.start;
        let data = LocalSource::Data { file_offset };
        if !is_differencing {
            // In a dynamic disk a clear bit means "never written", and such sectors are zeros in the file as well.
            return Ok(Extent { offset, length, source: data });
        }
        let (length, is_present) = self.sector_run(start, in_block)?;
        Ok(Extent { offset, length, source: if is_present { data } else { LocalSource::Parent } })
    }

    /// Returns how far the sector at the start is like its followers, and whether they are in this file.
    ///
    /// Bits stand most significant first.
    fn sector_run(&self, bitmap: u64, in_block: Range<u64>) -> Result<(u64, bool), VhdError> {
        let first = in_block.start / SECTOR_BYTES;
        let sectors = first..in_block.end.div_ceil(SECTOR_BYTES);
        let bytes = sectors.end.div_ceil(8) - first / 8;
        let mut bits = vec![0; bytes.min(WINDOW_BYTES) as usize];
        self.reader.port.read_exact_at(bitmap + first / 8, &mut bits)?;
        let is_present = |sector: u64| {
            bits.get((sector / 8 - first / 8) as usize).map(|byte| byte << (sector % 8) & 0x80 != 0)
        };
        let present = is_present(first).unwrap_or_default();
        let run_end =
            sectors.clone().find(|sector| is_present(*sector) != Some(present)).unwrap_or(sectors.end);
        Ok(((run_end * SECTOR_BYTES).min(in_block.end) - in_block.start, present))
    }
}

impl<R: ReadAt> Iterator for VhdPieces<'_, R> {
    type Item = Result<Extent<LocalSource>, VhdError>;

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
