//! Recognition of a BitLocker volume by its sector 0.
//!
//! The first step with any volume: it says where the metadata copies are.
//!
//! Deliberately trusts nothing but identifiers: partition types and file system names give no hint.

use alloc::vec::Vec;

use crate::error::{Corruption, Error};
use crate::layout::{
    BOOT_SECTOR_BYTES, BYTES_PER_SECTOR_OFFSET, DEFAULT_SECTOR_SIZE, EOW_INFORMATION_OFFSET_GUID,
    FVE_SIGNATURE, INFORMATION_OFFSET_GUID, MAX_SECTOR_SIZE, MAX_VOLUME_BYTES, METADATA_COPIES,
    METADATA_REGION_BYTES, METADATA_REGION_BYTES_V1, OEM_ID_OFFSET, SECTORS_PER_CLUSTER_OFFSET,
    TO_GO_GUID_OFFSET, TO_GO_OEM_ID, VISTA_METADATA_CLUSTER_OFFSET,
};

/// Which of the layouts a volume has (FORMAT.md 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeFormat {
    /// Windows Vista: metadata version 1.
    Vista,
    /// Windows 7 and later.
    Standard,
    /// Removable drive with a FAT discovery volume in front.
    ToGo,
    /// Windows 8 and later with the identifier of a conversion by encrypt-on-write.
    EncryptOnWrite,
}

/// What sector 0 of a BitLocker volume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSector {
    /// The layout.
    pub format: VolumeFormat,
    /// Bytes per sector: 512 or 4096.
    pub sector_size: u32,
    /// Bytes per cluster; the sector size when sector 0 states no cluster.
    pub cluster_size: u32,
    /// Offsets of the metadata copies: three, or one on Vista.
    pub metadata_offsets: Vec<u64>,
    /// Offsets of the two encrypt-on-write information blocks.
    pub eow_offsets: Option<[u64; 2]>,
}

impl BootSector {
    /// Parses sector 0 (its first 512 bytes).
    ///
    /// The identifiers are looked for at every position, as the Windows driver does.
    ///
    /// # Errors
    /// [`Error::NotBitLocker`] when there is no identifier; [`Error::Corrupt`] when the sector is cut short, states
    /// an impossible sector size, or names no place for the metadata.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let sector: &[u8; BOOT_SECTOR_BYTES] = bytes.first_chunk().ok_or(Corruption::Truncated {
            what: "sector 0",
            need: BOOT_SECTOR_BYTES,
            have: bytes.len(),
        })?;
        let oem = &sector[OEM_ID_OFFSET..OEM_ID_OFFSET + FVE_SIGNATURE.len()];
        if let Some(offsets) = offsets_behind::<5>(sector, &EOW_INFORMATION_OFFSET_GUID) {
            let [first, second, third, eow_first, eow_second] = offsets.1;
            return Self::build(
                sector,
                VolumeFormat::EncryptOnWrite,
                &[first, second, third],
                Some([eow_first, eow_second]),
            );
        }
        if let Some((position, offsets)) = offsets_behind::<METADATA_COPIES>(sector, &INFORMATION_OFFSET_GUID)
        {
            let to_go = position == TO_GO_GUID_OFFSET || oem == TO_GO_OEM_ID;
            let format = if to_go { VolumeFormat::ToGo } else { VolumeFormat::Standard };
            return Self::build(sector, format, &offsets, None);
        }
        if oem == FVE_SIGNATURE {
            let cluster = read_u64(sector, VISTA_METADATA_CLUSTER_OFFSET);
            let (_, cluster_size) = geometry(sector)?;
            let offset = cluster.checked_mul(u64::from(cluster_size)).ok_or(Corruption::OutOfRange {
                what: "the metadata cluster in sector 0",
                value: cluster,
                min: 1,
                max: MAX_VOLUME_BYTES / u64::from(cluster_size),
            })?;
            return Self::build(sector, VolumeFormat::Vista, &[offset], None);
        }
        Err(Error::NotBitLocker)
    }

    fn build(
        sector: &[u8; BOOT_SECTOR_BYTES],
        format: VolumeFormat,
        offsets: &[u64],
        eow_offsets: Option<[u64; 2]>,
    ) -> Result<Self, Error> {
        let (sector_size, cluster_size) = geometry(sector)?;
        let usable = |offset: &u64| (1..=MAX_VOLUME_BYTES).contains(offset);
        let metadata_offsets: Vec<u64> = offsets.iter().copied().filter(usable).collect();
        if metadata_offsets.is_empty() {
            return Err(Error::Corrupt(Corruption::OutOfRange {
                what: "the first metadata offset in sector 0",
                value: offsets.first().copied().unwrap_or(0),
                min: 1,
                max: MAX_VOLUME_BYTES,
            }));
        }
        Ok(Self { format, sector_size, cluster_size, metadata_offsets, eow_offsets })
    }

    /// Returns the size of one metadata region in bytes (FORMAT.md 2).
    #[must_use]
    pub fn metadata_region_bytes(&self) -> u64 {
        match self.format {
            VolumeFormat::Vista => METADATA_REGION_BYTES_V1.next_multiple_of(u64::from(self.cluster_size)),
            _ => METADATA_REGION_BYTES.next_multiple_of(u64::from(self.sector_size)),
        }
    }
}

/// Reads sector size and cluster size in bytes.
fn geometry(sector: &[u8; BOOT_SECTOR_BYTES]) -> Result<(u32, u32), Corruption> {
    let stated = u16::from_le_bytes([sector[BYTES_PER_SECTOR_OFFSET], sector[BYTES_PER_SECTOR_OFFSET + 1]]);
    let sector_size = match u32::from(stated) {
        0 => DEFAULT_SECTOR_SIZE,
        DEFAULT_SECTOR_SIZE => DEFAULT_SECTOR_SIZE,
        MAX_SECTOR_SIZE => MAX_SECTOR_SIZE,
        value => return Err(Corruption::SectorSize { value }),
    };
    let sectors_per_cluster = u32::from(sector[SECTORS_PER_CLUSTER_OFFSET]).max(1);
    Ok((sector_size, sector_size * sectors_per_cluster))
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}

/// Finds the GUID and reads `N` offsets behind it.
fn offsets_behind<const N: usize>(
    sector: &[u8; BOOT_SECTOR_BYTES],
    guid: &[u8; 16],
) -> Option<(usize, [u64; N])> {
    let position = sector.windows(guid.len() + N * 8).position(|window| window.starts_with(guid))?;
    Some((position, core::array::from_fn(|index| read_u64(sector, position + guid.len() + index * 8))))
}

#[cfg(test)]
mod tests;
