//! Errors of the crate: one variant per cause; damage on disk is [`Corruption`].
//!
//! Every function of the crate that can fail returns these.
//!
//! Deliberately holds no secret: no password, key or plaintext ever enters an error.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::bek::BekError;
use crate::guid::Guid;
use crate::metadata::EncryptionMethod;
use crate::protector::{ProtectionType, ProtectorSummary};
use crate::unlock::AttemptReport;
use crate::volume::CopyReport;

/// What the reader of the medium reported.
pub type ReadError = Box<dyn core::error::Error + Send + Sync>;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sector 0 carries no BitLocker identifier.
    #[error("not a BitLocker volume: sector 0 carries neither a BitLocker identifier nor its signature")]
    NotBitLocker,
    /// A structure is damaged.
    #[error("the BitLocker volume is damaged: {0}")]
    Corrupt(#[from] Corruption),
    /// All metadata copies were tried and none can be used.
    #[error("none of the {} metadata copies of this volume can be used{}", copies.len(), CopyList(copies))]
    NoUsableMetadata {
        /// What was wrong with each.
        copies: Vec<CopyReport>,
    },
    /// No BitLocker protector of the kind that the credential opens.
    #[error(
        "this volume has no BitLocker protector that a {wanted} opens; it has: {}",
        ProtectorList(present)
    )]
    NoMatchingProtector {
        /// The kind of credential.
        wanted: &'static str,
        /// The BitLocker protectors of the volume.
        present: Vec<ProtectorSummary>,
    },
    /// The credential was tried on every protector of its kind and opened none.
    #[error("the {credential} opens none of the {} BitLocker protectors it was tried on{}", attempts.len(), AttemptList(attempts))]
    NotOpened {
        /// The kind of credential.
        credential: &'static str,
        /// The outcome for each protector.
        attempts: Vec<AttemptReport>,
    },
    /// The metadata holds no sealed volume key.
    #[error("the metadata holds no volume key (FVEK), method {method}")]
    NoVolumeKey {
        /// The stated encryption method.
        method: EncryptionMethod,
    },
    /// The volume key box does not open with the volume master key.
    #[error("the volume key (FVEK) does not open with the volume master key of this metadata")]
    VolumeKeyNotOpened,
    /// The volume is encrypted by the drive itself; there is no software key.
    #[error(
        "the drive encrypts in hardware (eDrive): the metadata holds no software volume key and nothing can be decrypted here"
    )]
    HardwareEncrypted,
    /// The cipher is not known to this crate.
    #[error("the encryption method {method} is not supported")]
    UnsupportedMethod {
        /// The raw method.
        method: EncryptionMethod,
    },
    /// The volume key has another length than the method needs.
    #[error("the volume key for {method} must have {need} bytes, has {have}")]
    VolumeKeyLength {
        /// The stated encryption method.
        method: EncryptionMethod,
        /// Bytes needed.
        need: usize,
        /// Bytes found.
        have: usize,
    },
    /// A volume key was recovered, but nothing on this disk could be recognised with it.
    #[error(
        "the volume key could not be proved on this disk: {examined} encrypted sectors examined, none recognised"
    )]
    NotProvenOnData {
        /// Sectors looked at.
        examined: u64,
    },
    /// A range of the volume lies behind the end of the medium.
    #[error(
        "bytes {physical_offset}..+{length} of the volume lie behind the end of the medium ({medium_length} bytes)"
    )]
    Missing {
        /// First missing byte on the medium.
        physical_offset: u64,
        /// Bytes needed.
        length: u64,
        /// Size of the medium.
        medium_length: u64,
    },
    /// The medium could not be read.
    #[error("reading at byte {offset} failed")]
    Read {
        /// Offset of the failed read in bytes.
        offset: u64,
        /// What the medium reported.
        #[source]
        source: ReadError,
    },
    /// Offset or length of a decryption is not a multiple of the sector size.
    #[error("offset {offset} or length {length} is not a multiple of the sector size {sector_size}")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Sector size of the volume.
        sector_size: u32,
    },
    /// The bytes are not a recovery or startup key file.
    #[error("not a BEK file: {0}")]
    Bek(#[from] BekError),
    /// A metadata region has no room for what should be added.
    #[error("the metadata region has {have} bytes, {need} are needed")]
    RegionFull {
        /// Bytes needed.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A credential does not fit the protector it was named for.
    #[error("BitLocker protector {id} of type {protection} cannot be opened by a {credential}")]
    WrongCredentialKind {
        /// The protector.
        id: Guid,
        /// Its type.
        protection: ProtectionType,
        /// The kind of credential.
        credential: &'static str,
    },
}

/// A broken rule of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// Bytes end before the structure does.
    #[error("{what} is cut short: needs {need} bytes, has {have}")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A signature is missing.
    #[error("{what} does not start with its signature")]
    Signature {
        /// The structure.
        what: &'static str,
    },
    /// A version is unknown.
    #[error("{what} has version {version}")]
    Version {
        /// The structure.
        what: &'static str,
        /// The version found.
        version: u32,
    },
    /// A checksum does not match.
    #[error("{what} has checksum {found:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// The structure.
        what: &'static str,
        /// The checksum on disk.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A size or count is outside its range.
    #[error("{what} is {value}, allowed is {min} to {max}")]
    OutOfRange {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A value that must be a multiple of something is not.
    #[error("{what} is {value}, which is not a multiple of {unit}")]
    Unaligned {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The unit.
        unit: u64,
    },
    /// The sector size is neither 512 nor 4096 (nor absent).
    #[error("sector size {value} is neither 512 nor 4096")]
    SectorSize {
        /// The stated size.
        value: u32,
    },
    /// A datum is smaller than its header or reaches over the end of its list.
    #[error("the datum at byte {offset} has size {size}, {available} bytes are left")]
    DatumSize {
        /// Offset in the list.
        offset: usize,
        /// Stated size.
        size: usize,
        /// Bytes left in the list.
        available: usize,
    },
    /// A metadata copy is not where its own table says.
    #[error("the metadata copy at byte {position} names other positions in its own table")]
    Misplaced {
        /// Where the copy was read.
        position: u64,
    },
    /// A box did not open to what it must hold.
    #[error("a sealed box holds {what} instead of a key")]
    BoxContent {
        /// What was found.
        what: &'static str,
    },
    /// A key package without a sealed volume key and a BitLocker protector that leads to it.
    #[error("the key package holds no sealed volume key with a BitLocker protector")]
    NoSealedKey,
    /// Neither encrypt-on-write information block is valid.
    #[error(
        "the volume is being converted (encrypt-on-write) and neither of its two information blocks is valid"
    )]
    NoEowInformation,
    /// Neither record of an encrypt-on-write bitmap is valid.
    #[error("encrypt-on-write region {region} has no valid bitmap record")]
    NoEowRecord {
        /// Index of the region.
        region: u32,
    },
    /// Encrypt-on-write regions are out of order or overlap.
    #[error("encrypt-on-write region {region} overlaps the one before it")]
    EowRegionOrder {
        /// Index of the region.
        region: u32,
    },
    /// The medium ends before the structure.
    #[error("{what} at byte {offset} lies behind the end of the medium ({medium_length} bytes)")]
    BehindEnd {
        /// The structure.
        what: &'static str,
        /// Its offset.
        offset: u64,
        /// Size of the medium.
        medium_length: u64,
    },
}

struct CopyList<'a>(&'a [CopyReport]);

impl core::fmt::Display for CopyList<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (number, copy) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { ": " } else { "; " })?;
            write!(f, "at byte {}: {}", copy.offset, copy.status)?;
        }
        Ok(())
    }
}

struct ProtectorList<'a>(&'a [ProtectorSummary]);

impl core::fmt::Display for ProtectorList<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, protector) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", protector.protection, protector.id)?;
        }
        Ok(())
    }
}

struct AttemptList<'a>(&'a [AttemptReport]);

impl core::fmt::Display for AttemptList<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (number, attempt) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { ": " } else { "; " })?;
            write!(f, "{}: {}", attempt.protector, attempt.failure)?;
        }
        Ok(())
    }
}
