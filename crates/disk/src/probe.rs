//! What a volume holds, by its first bytes: BitLocker, LUKS, a plain file system, or nothing that is known.
//!
//! Partition types are not asked: BitLocker volumes carry that of plain data.

use lifeboat_fve as fve;

/// What a plain volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainContent {
    /// NTFS.
    Ntfs,
    /// ReFS.
    Refs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    ExFat,
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// Linux swap space.
    Swap,
    /// The partition that Windows keeps for itself on every GPT disk; no file system.
    MicrosoftReserved,
    /// Zeros where a file system would begin.
    Empty,
}

impl PlainContent {
    /// Returns the name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ntfs => "NTFS",
            Self::Refs => "ReFS",
            Self::Fat => "FAT",
            Self::ExFat => "exFAT",
            Self::Ext => "ext",
            Self::Xfs => "XFS",
            Self::Btrfs => "Btrfs",
            Self::Swap => "swap",
            Self::MicrosoftReserved => "Microsoft reserved",
            Self::Empty => "empty",
        }
    }
}

/// What encrypts a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// BitLocker.
    BitLocker,
    /// LUKS.
    Luks {
        /// 1 or 2.
        version: u16,
    },
    /// Nothing: the content is plain.
    None(PlainContent),
    /// Nothing that is known begins here: other encryption, another file system, or damage.
    Unknown,
}

impl Encryption {
    /// Returns the stable name used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BitLocker => "bitlocker",
            Self::Luks { .. } => "luks",
            Self::None(_) => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// Bytes at the start of a volume that [`probe`] wants: the Btrfs superblock lies deepest.
pub(crate) const PROBE_BYTES: usize = 68 << 10;

const LUKS_MAGIC: &[u8] = b"LUKS\xba\xbe";
const EXT_MAGIC: (usize, &[u8]) = (1080, &[0x53, 0xef]);
const XFS_MAGIC: &[u8] = b"XFSB";
const BTRFS_MAGIC: (usize, &[u8]) = ((64 << 10) + 64, b"_BHRfS_M");
/// End of the first page; pages have 4 KiB on x86, 64 KiB on some ARM systems.
const SWAP_MAGIC: ([usize; 2], &[u8]) = ([4096 - 10, 65536 - 10], b"SWAPSPACE2");
/// Bytes that must be zeros for a volume to count as empty.
const EMPTY_BYTES: usize = 8 << 10;

/// Tells what a volume holds, from its first bytes (68 KiB, or as many as it has).
#[must_use]
pub fn probe(head: &[u8]) -> Encryption {
    let has = |at: usize, bytes: &[u8]| head.get(at..at + bytes.len()) == Some(bytes);
    match fve::BootSector::parse(head) {
        // An identifier with a damaged sector around it is BitLocker all the same.
        Ok(_) => return Encryption::BitLocker,
        Err(fve::Error::Corrupt(corruption)) if !matches!(corruption, fve::Corruption::Truncated { .. }) => {
            return Encryption::BitLocker;
        }
        Err(_) => {}
    }
    if has(0, LUKS_MAGIC)
        && let Some(&[high, low]) = head.get(6..8)
    {
        return Encryption::Luks { version: u16::from_be_bytes([high, low]) };
    }
    if let Some(system) = fve::recognise_boot_sector(head) {
        return match system {
            fve::FileSystem::Ntfs => Encryption::None(PlainContent::Ntfs),
            fve::FileSystem::Refs => Encryption::None(PlainContent::Refs),
            fve::FileSystem::Fat => Encryption::None(PlainContent::Fat),
            fve::FileSystem::ExFat => Encryption::None(PlainContent::ExFat),
            _ => Encryption::Unknown,
        };
    }
    let content = if has(EXT_MAGIC.0, EXT_MAGIC.1) {
        PlainContent::Ext
    } else if has(0, XFS_MAGIC) {
        PlainContent::Xfs
    } else if has(BTRFS_MAGIC.0, BTRFS_MAGIC.1) {
        PlainContent::Btrfs
    } else if SWAP_MAGIC.0.iter().any(|&at| has(at, SWAP_MAGIC.1)) {
        PlainContent::Swap
    } else if head.iter().take(EMPTY_BYTES).all(|&byte| byte == 0) {
        PlainContent::Empty
    } else {
        return Encryption::Unknown;
    };
    Encryption::None(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; PROBE_BYTES];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn volumes_are_told_by_their_head() {
        const MARK: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        type Parts = &'static [(usize, &'static [u8])];
        let cases: [(Parts, Encryption); 13] = [
            (&[], Encryption::None(PlainContent::Empty)),
            (&[(0, b"LUKS\xba\xbe\0\x01")], Encryption::Luks { version: 1 }),
            (&[(0, b"LUKS\xba\xbe\0\x02")], Encryption::Luks { version: 2 }),
            (&[(3, b"NTFS    "), MARK], Encryption::None(PlainContent::Ntfs)),
            (&[(3, b"EXFAT   "), MARK], Encryption::None(PlainContent::ExFat)),
            (&[(82, b"FAT32   "), MARK], Encryption::None(PlainContent::Fat)),
            (&[(3, b"ReFS\0\0\0\0"), (16, b"FSRS")], Encryption::None(PlainContent::Refs)),
            (&[EXT_MAGIC], Encryption::None(PlainContent::Ext)),
            (&[(0, b"XFSB")], Encryption::None(PlainContent::Xfs)),
            (&[BTRFS_MAGIC], Encryption::None(PlainContent::Btrfs)),
            (&[(4086, b"SWAPSPACE2")], Encryption::None(PlainContent::Swap)),
            (&[(3, b"-FVE-FS-")], Encryption::BitLocker),
            (&[(100, b"x")], Encryption::Unknown),
        ];
        for (parts, expected) in cases {
            assert_eq!(probe(&head(parts)), expected, "{parts:?}");
        }
        for length in 0..512 {
            // Never a panic, whatever is missing.
            let _ = probe(&head(&[(3, b"-FVE-FS-")])[..length]);
        }
    }
}
