//! Proof on data: does this volume key really open this disk?
//!
//! The second level of proof. *Key* means that a credential opens the VMK; *data* means that the volume key turns an
//! encrypted sector of the disk into something known.
//!
//! Deliberately accepts only what chance cannot produce: at least 48 bits of known content.

use crate::cipher::SectorCipher;
use crate::decrypt::DecryptedVolume;
use crate::error::Error;
use crate::map::Content;
use crate::volume::ReadAt;

/// File systems that are recognised by their boot sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// NTFS.
    Ntfs,
    /// ReFS.
    Refs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    ExFat,
}

/// What was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Witness {
    /// The boot sector of a file system.
    BootSector(FileSystem),
    /// A record of the NTFS master file table.
    MftRecord,
    /// The copy of the NTFS boot sector at the end of the volume.
    BackupBootSector,
    /// A sector of zeros, which no wrong key produces.
    ZeroSector,
}

/// The proof level *data*: an encrypted sector and what it decrypted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataProof {
    /// Offset of the sector on the plain volume.
    pub offset: u64,
    /// What was recognised.
    pub witness: Witness,
}

/// Places, spread evenly over what is encrypted, that are searched for zeros: few enough for a spinning disk.
const SAMPLES: u64 = 64;
/// Sectors examined at each place.
const SECTORS_PER_SAMPLE: u64 = 64;
const BOOT_MARK: (usize, [u8; 2]) = (510, [0x55, 0xaa]);

/// Recognises the boot sector of a file system in decrypted bytes.
#[must_use]
pub fn recognise_boot_sector(sector: &[u8]) -> Option<FileSystem> {
    let has = |at: usize, bytes: &[u8]| sector.get(at..at + bytes.len()) == Some(bytes);
    let marked = has(BOOT_MARK.0, &BOOT_MARK.1);
    if has(3, b"ReFS\0\0\0\0") && has(16, b"FSRS") {
        Some(FileSystem::Refs)
    } else if marked && has(3, b"NTFS    ") {
        Some(FileSystem::Ntfs)
    } else if marked && has(3, b"EXFAT   ") {
        Some(FileSystem::ExFat)
    } else if marked && (has(82, b"FAT32   ") || has(54, b"FAT1") && has(59, b"   ")) {
        Some(FileSystem::Fat)
    } else {
        None
    }
}

/// Recognises a master file table record: its signature, and the offset and size of its update sequence.
fn is_mft_record(sector: &[u8]) -> bool {
    sector.starts_with(b"FILE\x30\x00") && sector.get(7) == Some(&0)
}

fn is_zero(sector: &[u8]) -> bool {
    sector.iter().all(|&byte| byte == 0)
}

/// Places of an NTFS volume that are worth a look.
struct NtfsGeometry {
    mft: Option<u64>,
    backup: Option<u64>,
}

impl NtfsGeometry {
    fn parse(sector: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*sector.get(at..)?.first_chunk()?));
        let sector_size = u64::from(u16::from_le_bytes(*sector.get(11..)?.first_chunk()?));
        let cluster = sector_size * u64::from(*sector.get(13)?);
        Some(Self { mft: number(48)?.checked_mul(cluster), backup: number(40)?.checked_mul(sector_size) })
    }
}

/// Proves a key on captured boot sectors: relocated sectors as they lie on the disk, from `physical_offset` on.
///
/// # Errors
/// [`Error::NotProvenOnData`] when nothing is recognised, [`Error::Unaligned`] when the bytes are no whole sectors.
pub fn prove_boot_sectors(
    cipher: &SectorCipher,
    physical_offset: u64,
    ciphertext: &[u8],
) -> Result<DataProof, Error> {
    let mut sectors = ciphertext.to_vec();
    cipher.decrypt(physical_offset, &mut sectors)?;
    let size = cipher.sector_size() as usize;
    if let Some(file_system) = recognise_boot_sector(&sectors) {
        return Ok(DataProof { offset: 0, witness: Witness::BootSector(file_system) });
    }
    sectors
        .chunks(size)
        .position(is_zero)
        .map(|index| DataProof { offset: (index * size) as u64, witness: Witness::ZeroSector })
        .ok_or(Error::NotProvenOnData { examined: (sectors.len() / size) as u64 })
}

impl<R: ReadAt> DecryptedVolume<R> {
    /// Proves the volume key on this disk.
    ///
    /// Looks at the boot sector, the first record of the master file table and the backup boot sector where they are
    /// encrypted, then for a sector of zeros.
    ///
    /// # Errors
    /// [`Error::NotProvenOnData`] when nothing is recognised: a wrong key, or data of a kind unknown here. Unreadable
    /// sectors are passed over.
    pub fn prove(&self) -> Result<DataProof, Error> {
        let sector_size = self.map().sector_size() as usize;
        let mut sector = alloc::vec![0; sector_size];
        let mut examined = 0;
        let mut look = |offset: u64, encrypted_only: bool, sector: &mut [u8]| {
            let encrypted = self.is_encrypted(offset);
            examined += u64::from(encrypted);
            offset.is_multiple_of(sector_size as u64)
                && (encrypted || !encrypted_only)
                && self.read(offset, sector).is_ok()
        };
        if look(0, false, &mut sector)
            && let Some(file_system) = recognise_boot_sector(&sector)
        {
            if self.is_encrypted(0) {
                return Ok(DataProof { offset: 0, witness: Witness::BootSector(file_system) });
            }
            // A plain boot sector proves nothing, but it knows where encrypted ones may be.
            if file_system == FileSystem::Ntfs
                && let Some(geometry) = NtfsGeometry::parse(&sector)
            {
                if let Some(offset) = geometry.mft
                    && look(offset, true, &mut sector)
                    && is_mft_record(&sector)
                {
                    return Ok(DataProof { offset, witness: Witness::MftRecord });
                }
                if let Some(offset) = geometry.backup
                    && look(offset, true, &mut sector)
                    && recognise_boot_sector(&sector) == Some(FileSystem::Ntfs)
                {
                    return Ok(DataProof { offset, witness: Witness::BackupBootSector });
                }
            }
        }
        self.find_zero_sector(examined)
    }

    fn is_encrypted(&self, offset: u64) -> bool {
        offset < self.size_bytes()
            && self
                .map()
                .extents(offset..offset + 1)
                .next()
                .is_some_and(|extent| matches!(extent.content, Content::Encrypted { .. }))
    }

    /// Searches samples of what is encrypted for a sector of zeros.
    fn find_zero_sector(&self, mut examined: u64) -> Result<DataProof, Error> {
        let sector = u64::from(self.map().sector_size());
        let encrypted = || {
            let extents = self.map().extents(0..self.size_bytes());
            extents.filter(|extent| matches!(extent.content, Content::Encrypted { .. }))
        };
        let total: u64 = encrypted().map(|extent| extent.length).sum();
        let sample = SECTORS_PER_SAMPLE * sector;
        let stride = (total / SAMPLES).next_multiple_of(sector).max(sample);
        let mut block = alloc::vec![0; sample as usize];
        // `before` counts the encrypted bytes in front of the extent, `next` is the place of the next sample.
        let (mut before, mut next) = (0, 0);
        for extent in encrypted() {
            while next < before + extent.length {
                let offset = extent.offset + (next - before);
                let length = sample.min(extent.end() - offset);
                let block = &mut block[..length as usize];
                next += stride;
                if self.read(offset, block).is_err() {
                    continue;
                }
                examined += length / sector;
                if let Some(index) = block.chunks(sector as usize).position(is_zero) {
                    let offset = offset + index as u64 * sector;
                    return Ok(DataProof { offset, witness: Witness::ZeroSector });
                }
            }
            before += extent.length;
        }
        Err(Error::NotProvenOnData { examined })
    }
}
