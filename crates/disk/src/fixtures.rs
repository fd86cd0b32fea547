//! Disk images for tests: partition tables around volumes, and the containers around disks, in memory.
//!
//! Deliberately deterministic: ids come from small numbers. Never use it for data.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_vhdx::{
    Guid, NewDiskIds, NewDiskKind, ParentLocator, PortError, ReadAt, SparseImage, VhdxOptions, VhdxWriter,
    guid,
};

use crate::files::ImageFiles;

const SECTOR: usize = 512;
const MIB: usize = 1 << 20;
/// Type of a partition with data of Windows.
const BASIC_DATA: Guid = guid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;

/// Id that differs for each number.
#[must_use]
pub fn id(number: u32) -> Guid {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    Guid::from_bytes(bytes)
}

/// Writes a GPT with one partition per volume, from 1 MiB on, each beginning at a whole MiB; answers the parts of the
/// disk that are not zero, with their offsets, and the size of the disk.
///
/// # Panics
/// Panics with more volumes than entries.
#[must_use]
pub fn gpt_disk(volumes: &[&[u8]]) -> (Vec<(u64, Vec<u8>)>, u64) {
    assert!(volumes.len() <= ENTRIES, "more volumes than entries");
    let (mut parts, mut entries) = (Vec::new(), vec![0; ENTRIES * ENTRY_BYTES]);
    let mut offset = MIB;
    for (number, (volume, entry)) in volumes.iter().zip(entries.chunks_mut(ENTRY_BYTES)).enumerate() {
        entry[..16].copy_from_slice(&BASIC_DATA.to_bytes());
        entry[16..32].copy_from_slice(&id(1000 + number as u32).to_bytes());
        entry[32..40].copy_from_slice(&((offset / SECTOR) as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&(((offset + volume.len()) / SECTOR - 1) as u64).to_le_bytes());
        for (place, unit) in entry[56..].chunks_mut(2).zip(format!("volume {}", number + 1).encode_utf16()) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
        parts.push((offset as u64, volume.to_vec()));
        offset = (offset + volume.len()).next_multiple_of(MIB);
    }
    let size = offset + MIB;
    let sectors = (size / SECTOR) as u64;
    let (last, last_table) = (sectors - 1, sectors - 33);
    let header = |own: u64, other: u64, table: u64| {
        let mut header = vec![0; SECTOR];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        for (at, value) in [(24, own), (32, other), (40, 34), (48, last_table - 1), (72, table)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[56..72].copy_from_slice(&id(999).to_bytes());
        header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let crc = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header
    };
    let mut mbr = vec![0; SECTOR];
    mbr[450] = 0xee;
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    let at = |lba: u64| lba * SECTOR as u64;
    parts.insert(0, (0, mbr));
    parts.insert(1, (at(1), header(1, last, 2)));
    parts.insert(2, (at(2), entries.clone()));
    parts.push((at(last_table), entries.clone()));
    parts.push((at(last), header(last, 1, last_table)));
    (parts, size as u64)
}

/// Puts parts together to the bytes of a disk.
///
/// # Panics
/// Panics when a part lies outside.
#[must_use]
pub fn flat((parts, size): (Vec<(u64, Vec<u8>)>, u64)) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).expect("a fixture fits memory")];
    for (offset, part) in parts {
        let start = usize::try_from(offset).expect("a fixture fits memory");
        bytes[start..start + part.len()].copy_from_slice(&part);
    }
    bytes
}

/// Writes a dynamic VHDX with 1 MiB blocks; pages of zeros take no room.
///
/// # Panics
/// Panics when the parts do not fit the size.
#[must_use]
pub fn dynamic_vhdx(parts: &[(u64, Vec<u8>)], size: u64) -> SparseImage {
    vhdx(NewDiskKind::Dynamic, parts, size, 0)
}

/// Writes a child at `level` (from 1) of the disk that was made last, whose file is `parent`.
///
/// # Panics
/// Panics when the parts are no whole sectors of the size.
#[must_use]
pub fn differencing_vhdx(parts: &[(u64, Vec<u8>)], size: u64, level: u32, parent: &str) -> SparseImage {
    let locator = ParentLocator::new(id(200 + level - 1))
        .with_linkage2(Guid::ZERO)
        .with_relative_path(&format!(".\\{parent}"))
        .with_absolute_path(&format!("C:\\disks\\{parent}"));
    vhdx(NewDiskKind::Differencing(locator), parts, size, level)
}

fn vhdx(kind: NewDiskKind, parts: &[(u64, Vec<u8>)], size: u64, level: u32) -> SparseImage {
    let ids = NewDiskIds {
        virtual_disk_id: id(1),
        file_write_guid: id(100 + level),
        data_write_guid: id(200 + level),
    };
    let mut options = VhdxOptions::new(kind, size, ids);
    options.block_bytes = 1 << 20;
    let mut writer = VhdxWriter::create(SparseImage::new(), options).expect("the options are allowed");
    for (offset, part) in parts {
        for (place, page) in (*offset..).step_by(4096).zip(part.chunks(4096)) {
            if level > 0 || page.iter().any(|&byte| byte != 0) {
                writer.write_at(place, page).expect("memory takes what fits the disk");
            }
        }
    }
    writer.finish().expect("memory takes it").0
}

/// Writes a fixed VHD.
#[must_use]
pub fn fixed_vhd(mut content: Vec<u8>) -> Vec<u8> {
    let footer = vhd_footer(2, u64::MAX, content.len() as u64, [7; 16]);
    content.extend_from_slice(&footer);
    content
}

/// Writes a dynamic VHD with 2 MiB blocks, or a differencing one when `parent` names file and identity.
///
/// # Panics
/// Panics when the disk does not fit the format.
#[must_use]
pub fn dynamic_vhd(content: &[u8], unique_id: [u8; 16], parent: Option<(&str, [u8; 16])>) -> Vec<u8> {
    const BLOCK: usize = 2 << 20;
    let disk_type = if parent.is_some() { 4 } else { 3 };
    let footer = vhd_footer(disk_type, 512, content.len() as u64, unique_id);
    let blocks = content.len().div_ceil(BLOCK);
    let mut header = vec![0; 1024];
    header[..8].copy_from_slice(b"cxsparse");
    header[8..16].fill(0xff);
    header[16..24].copy_from_slice(&1536_u64.to_be_bytes());
    header[24..28].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
    header[28..32].copy_from_slice(&u32::try_from(blocks).expect("a small disk").to_be_bytes());
    header[32..36].copy_from_slice(&(BLOCK as u32).to_be_bytes());
    if let Some((name, parent_id)) = parent {
        header[40..56].copy_from_slice(&parent_id);
        for (place, unit) in header[64..576].chunks_mut(2).zip(name.encode_utf16()) {
            place.copy_from_slice(&unit.to_be_bytes());
        }
    }
    let sum = lifeboat_vhdx::vhd::layout::checksum(&header, 36);
    header[36..40].copy_from_slice(&sum.to_be_bytes());
    let table_bytes = (blocks * 4).next_multiple_of(SECTOR);
    let mut table = vec![0xff; table_bytes];
    let mut data = Vec::new();
    let start = 1536 + table_bytes;
    for (index, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().all(|&byte| byte == 0) {
            continue;
        }
        let sector = u32::try_from((start + data.len()) / SECTOR).expect("a small disk");
        table[index * 4..index * 4 + 4].copy_from_slice(&sector.to_be_bytes());
        // Sectors of zeros are left to the parent.
        let mut bitmap = vec![0; SECTOR];
        for (sector, bytes) in block.chunks(SECTOR).enumerate() {
            if parent.is_none() || bytes.iter().any(|&byte| byte != 0) {
                bitmap[sector / 8] |= 0x80 >> (sector % 8);
            }
        }
        data.extend_from_slice(&bitmap);
        data.extend_from_slice(block);
        data.resize(data.len().next_multiple_of(SECTOR) + (BLOCK - block.len()), 0);
    }
    [footer.as_slice(), &header, &table, &data, &footer].concat()
}

fn vhd_footer(disk_type: u32, data_offset: u64, size: u64, unique_id: [u8; 16]) -> Vec<u8> {
    let mut footer = vec![0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2_u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
    footer[16..24].copy_from_slice(&data_offset.to_be_bytes());
    footer[40..48].copy_from_slice(&size.to_be_bytes());
    footer[48..56].copy_from_slice(&size.to_be_bytes());
    footer[60..64].copy_from_slice(&disk_type.to_be_bytes());
    footer[68..84].copy_from_slice(&unique_id);
    let sum = lifeboat_vhdx::vhd::layout::checksum(&footer, 64);
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    footer
}

/// Files in memory that count what is read of them.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<PathBuf, Arc<SparseImage>>,
    read_bytes: Arc<AtomicU64>,
}

impl MemoryFiles {
    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: &str, image: SparseImage) -> Self {
        self.files.insert(path.into(), Arc::new(image));
        self
    }

    /// Adds a file of few bytes.
    ///
    /// # Panics
    /// Never: memory takes it.
    #[must_use]
    pub fn with_bytes(self, path: &str, bytes: &[u8]) -> Self {
        use lifeboat_vhdx::WriteAt as _;
        let mut image = SparseImage::new();
        image.write_all_at(0, bytes).expect("memory takes it");
        self.with(path, image)
    }

    /// Bytes read of all files so far.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

/// A file in memory.
pub struct MemoryFile {
    image: Arc<SparseImage>,
    read_bytes: Arc<AtomicU64>,
}

impl ReadAt for MemoryFile {
    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        self.read_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.image.read_exact_at(offset, buffer)
    }
}

impl ImageFiles for MemoryFiles {
    type File = MemoryFile;

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let image = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { image: Arc::clone(image), read_bytes: Arc::clone(&self.read_bytes) })
    }

    fn open_parent(&self, path: &Path) -> io::Result<MemoryFile> {
        self.open(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }
}
