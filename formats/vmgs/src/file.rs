//! Files of a store (third format): what they are, where they lie.

use core::fmt;

use crate::layout::{
    ATTRIBUTE_AUTHENTICATED, ATTRIBUTE_ENCRYPTED, BLOCK_BYTES, NONCE_BYTES, RawFileEntry, TAG_BYTES,
};

/// Number of a file in a store; an open set (FORMAT.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// The file table itself.
    pub const FILE_TABLE: Self = Self(0);
    /// UEFI variables.
    pub const BIOS_NVRAM: Self = Self(1);
    /// Physical presence interface of the vTPM.
    pub const TPM_PPI: Self = Self(2);
    /// vTPM state.
    pub const TPM_NVRAM: Self = Self(3);
    /// Difference of the guest's clock.
    pub const RTC_SKEW: Self = Self(4);
    /// Data of the attestation agent.
    pub const ATTEST: Self = Self(5);
    /// Key protector of the store; not a VM key protector of an HGS.
    pub const KEY_PROTECTOR: Self = Self(6);
    /// Identity of the VM.
    pub const VM_UNIQUE_ID: Self = Self(7);
    /// Firmware.
    pub const GUEST_FIRMWARE: Self = Self(8);
    /// Custom UEFI settings.
    pub const CUSTOM_UEFI: Self = Self(9);
    /// State of the watchdog.
    pub const GUEST_WATCHDOG: Self = Self(10);
    /// Key of the store, protected by the processor.
    pub const HW_KEY_PROTECTOR: Self = Self(11);
    /// Secret that was provisioned into the guest.
    pub const GUEST_SECRET_KEY: Self = Self(13);
    /// Token of a hibernated guest.
    pub const HIBERNATION_TOKEN: Self = Self(14);
    /// Seed of the platform.
    pub const PLATFORM_SEED: Self = Self(15);
    /// Provenance document.
    pub const PROVENANCE_DOC: Self = Self(16);
    /// Copy of the vTPM state.
    pub const TPM_NVRAM_BACKUP: Self = Self(17);
    /// Who formatted the store, JSON.
    pub const PROVISIONING_MARKER: Self = Self(18);
    /// vTPM state of revision 1.85.
    pub const TPM_185_NVRAM: Self = Self(19);
    /// Keys of the files.
    pub const EXTENDED_FILE_TABLE: Self = Self(63);

    /// Returns the name that other programs give the file, when it is a known one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::FILE_TABLE => "FILE_TABLE",
            Self::BIOS_NVRAM => "BIOS_NVRAM",
            Self::TPM_PPI => "TPM_PPI",
            Self::TPM_NVRAM => "TPM_NVRAM",
            Self::RTC_SKEW => "RTC_SKEW",
            Self::ATTEST => "ATTEST",
            Self::KEY_PROTECTOR => "KEY_PROTECTOR",
            Self::VM_UNIQUE_ID => "VM_UNIQUE_ID",
            Self::GUEST_FIRMWARE => "GUEST_FIRMWARE",
            Self::CUSTOM_UEFI => "CUSTOM_UEFI",
            Self::GUEST_WATCHDOG => "GUEST_WATCHDOG",
            Self::HW_KEY_PROTECTOR => "HW_KEY_PROTECTOR",
            Self::GUEST_SECRET_KEY => "GUEST_SECRET_KEY",
            Self::HIBERNATION_TOKEN => "HIBERNATION_TOKEN",
            Self::PLATFORM_SEED => "PLATFORM_SEED",
            Self::PROVENANCE_DOC => "PROVENANCE_DOC",
            Self::TPM_NVRAM_BACKUP => "TPM_NVRAM_BACKUP",
            Self::PROVISIONING_MARKER => "PROVISIONING_MARKER",
            Self::TPM_185_NVRAM => "TPM_185_NVRAM",
            Self::EXTENDED_FILE_TABLE => "EXTENDED_FILE_TABLE",
            _ => return None,
        })
    }

    /// Tells whether the file holds vTPM state (a copy of it included).
    #[must_use]
    pub const fn is_vtpm_state(self) -> bool {
        matches!(self, Self::TPM_NVRAM | Self::TPM_NVRAM_BACKUP | Self::TPM_185_NVRAM)
    }

    /// Tells whether the file is one of the two tables that describe the others.
    #[must_use]
    pub const fn is_table(self) -> bool {
        matches!(self, Self::FILE_TABLE | Self::EXTENDED_FILE_TABLE)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Encryption algorithm of a store; an open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptionAlgorithm(pub u16);

impl EncryptionAlgorithm {
    /// The store is not encrypted.
    pub const NONE: Self = Self(0);
    /// AES-256-GCM.
    pub const AES_GCM: Self = Self(1);
}

/// Attributes of a file; bits that are not known are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileAttributes(pub u32);

impl FileAttributes {
    /// Tells whether the content is encrypted or authenticated, which is done in one.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        self.0 & (ATTRIBUTE_ENCRYPTED | ATTRIBUTE_AUTHENTICATED) != 0
    }
}

/// File of a store; it lies on the disk, behind the headers, and shares no block with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    pub(crate) id: FileId,
    pub(crate) block: u32,
    pub(crate) blocks: u32,
    pub(crate) size_bytes: u64,
    pub(crate) attributes: FileAttributes,
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) tag: [u8; TAG_BYTES],
}

impl StoredFile {
    pub(crate) fn of(id: FileId, raw: &RawFileEntry) -> Self {
        Self {
            id,
            block: raw.block.get(),
            blocks: raw.blocks.get(),
            size_bytes: raw.valid_bytes.get(),
            attributes: FileAttributes(raw.attributes.get()),
            nonce: raw.nonce,
            tag: raw.tag,
        }
    }

    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns the size of its content, in bytes; that of the ciphertext is the same.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the room that is set aside for it, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES
    }

    /// Returns where it begins in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK_BYTES
    }

    /// Returns its attributes, as they stand in the file table.
    #[must_use]
    pub fn attributes(&self) -> FileAttributes {
        self.attributes
    }
}
