//! The VHD footer at the end of the file (FORMAT.md section 2).
//!
//! Deliberately reads fixed disks only: no other VHD is a guest state.

use zerocopy::FromBytes;

use crate::checksum;
use crate::error::Corruption;
use crate::layout::{
    FOOTER_BYTES, FOOTER_CHECKSUM_OFFSET, FOOTER_COOKIE, FOOTER_TYPE_FIXED, FOOTER_VERSION, RawFooter,
};

/// What the footer of a guest state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footer {
    /// Size of the disk, in bytes; that of the file without the footer.
    pub disk_bytes: u64,
    /// Identity of the disk.
    pub disk_id: [u8; 16],
}

impl Footer {
    /// Parses the last 512 bytes of a file of `file_bytes`.
    pub(crate) fn parse(bytes: &[u8; FOOTER_BYTES], file_bytes: u64) -> Result<Self, Corruption> {
        let raw = RawFooter::read_from_bytes(bytes).map_err(|_| Corruption::FooterMissing)?;
        if raw.cookie != FOOTER_COOKIE {
            return Err(Corruption::FooterMissing);
        }
        if raw.checksum.get() != checksum::footer(bytes, FOOTER_CHECKSUM_OFFSET) {
            return Err(Corruption::FooterChecksum);
        }
        if raw.version.get() >> 16 != FOOTER_VERSION >> 16 {
            return Err(Corruption::FooterVersion { found: raw.version.get() });
        }
        if raw.disk_type.get() != FOOTER_TYPE_FIXED {
            return Err(Corruption::FooterDiskType { found: raw.disk_type.get() });
        }
        let disk_bytes = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        if raw.current_size.get() != disk_bytes {
            return Err(Corruption::FooterSize { says: raw.current_size.get(), disk_bytes });
        }
        Ok(Self { disk_bytes, disk_id: raw.unique_id })
    }
}
