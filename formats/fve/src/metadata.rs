//! One metadata copy: information, datums, BitLocker protectors and validation.
//!
//! Found through sector 0 (`boot_sector.rs`), opened by `unlock.rs`. Also what a backup captures of a volume.
//!
//! Deliberately proves only damage, by CRC; that nobody altered the metadata shows after unlocking
//! (`Metadata::authenticate`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;

use zerocopy::FromBytes;

use crate::dataset::Dataset;
use crate::datum::{Datum, DatumType, Role};
use crate::error::Corruption;
use crate::guid::{FileTime, Guid};
use crate::layout::{
    FVE_SIGNATURE, KEY_BYTES, MAX_INFORMATION_BYTES, METADATA_COPIES, RawDataset, RawInformation,
    RawValidation, VERSION_SEVEN, VERSION_VISTA,
};
use crate::protector::{ProtectionType, Protector, ProtectorSummary};
use crate::secret::SecretBytes;
use crate::values::{self, KeyType, KeyValue, SealedBox, Virtualization};

/// Encryption method of a volume key (FORMAT.md 3.4). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptionMethod(pub u16);

impl EncryptionMethod {
    /// None: decrypted volume, BEK file.
    pub const NONE: Self = Self(0);
    /// AES-CBC-128 with Elephant diffuser.
    pub const AES_CBC_128_ELEPHANT: Self = Self(0x8000);
    /// AES-CBC-256 with Elephant diffuser.
    pub const AES_CBC_256_ELEPHANT: Self = Self(0x8001);
    /// AES-CBC-128.
    pub const AES_CBC_128: Self = Self(0x8002);
    /// AES-CBC-256.
    pub const AES_CBC_256: Self = Self(0x8003);
    /// AES-XTS-128.
    pub const AES_XTS_128: Self = Self(0x8004);
    /// AES-XTS-256.
    pub const AES_XTS_256: Self = Self(0x8005);

    /// Returns the stable name used in documents: `aes-xts-128`, ..., `none`, `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NONE => "none",
            Self::AES_CBC_128_ELEPHANT => "aes-cbc-128-elephant",
            Self::AES_CBC_256_ELEPHANT => "aes-cbc-256-elephant",
            Self::AES_CBC_128 => "aes-cbc-128",
            Self::AES_CBC_256 => "aes-cbc-256",
            Self::AES_XTS_128 => "aes-xts-128",
            Self::AES_XTS_256 => "aes-xts-256",
            _ => "unknown",
        }
    }
}

impl fmt::Display for EncryptionMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:04x})", self.name(), self.0)
    }
}

/// State of the conversion of a volume (FORMAT.md 2.1). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversionState(pub u16);

impl ConversionState {
    /// Not encrypted.
    pub const DECRYPTED: Self = Self(1);
    /// Being converted, with a conversion log.
    pub const SWITCHING_DIRTY: Self = Self(2);
    /// Conversion paused.
    pub const PAUSED: Self = Self(3);
    /// Encrypted.
    pub const ENCRYPTED: Self = Self(4);
    /// Being converted.
    pub const SWITCHING: Self = Self(5);
}

/// What stands behind the information to prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValidationDatum {
    /// A box that the VMK opens, with the SHA-256 of the information.
    Sealed(SealedBox),
    /// The SHA-256 of the information in clear (decrypted volumes).
    Clear([u8; KEY_BYTES]),
    /// Nothing but the CRC (Vista), or nothing that can be read.
    Absent,
}

/// A parsed metadata copy with a correct checksum.
pub struct Metadata {
    /// Metadata version: 1 on Vista, 2 later.
    pub version: u16,
    /// State of the volume.
    pub current_state: ConversionState,
    /// State the volume is going to.
    pub next_state: ConversionState,
    /// Volume size, or the boundary of the encrypted part of a Windows 7 volume under conversion.
    pub state_offset: u64,
    /// Bytes under conversion behind the state offset.
    pub state_size_bytes: u32,
    /// Relocated sectors at the front of the volume.
    pub virtualized_sectors: u32,
    /// Offsets of the copies.
    pub metadata_offsets: [u64; METADATA_COPIES],
    /// Offset of the relocated sectors (version 2); the MFT mirror cluster (version 1).
    pub virtualized_block: u64,
    /// Volume id.
    pub volume_id: Guid,
    /// Counter of the next nonce.
    pub next_nonce: u32,
    /// Encryption method.
    pub method: EncryptionMethod,
    /// Time the metadata was created.
    pub created: FileTime,
    /// Description of the volume: computer, volume label and date, as Windows wrote it.
    pub description: Option<String>,
    /// The virtualization datum.
    pub virtualization: Option<Virtualization>,
    /// What proves the information.
    pub validation: ValidationDatum,
    /// Parts with a correct checksum that still break a rule: left out, not dropped silently.
    pub malformed: Vec<Corruption>,
    protectors: Vec<Protector>,
    volume_keys: Vec<SealedBox>,
    datums: Vec<Datum>,
    information: SecretBytes,
}

impl Metadata {
    /// Parses the region of one metadata copy: the information, its CRC and its validation datum.
    ///
    /// `region` may be longer than needed, or cut behind the validation.
    ///
    /// # Errors
    /// [`Corruption`] names the first broken rule (FORMAT.md 2).
    pub fn parse(region: &[u8]) -> Result<Self, Corruption> {
        let (raw, _) = RawInformation::read_from_prefix(region).map_err(|_| Corruption::Truncated {
            what: "metadata information",
            need: size_of::<RawInformation>(),
            have: region.len(),
        })?;
        if raw.signature != FVE_SIGNATURE {
            return Err(Corruption::Signature { what: "the metadata copy" });
        }
        let version = raw.version.get();
        let size = match version {
            VERSION_VISTA => usize::from(raw.size.get()),
            VERSION_SEVEN => usize::from(raw.size.get()) << 4,
            _ => return Err(Corruption::Version { what: "metadata", version: version.into() }),
        };
        let smallest = size_of::<RawInformation>() + size_of::<RawDataset>();
        if !(smallest..=MAX_INFORMATION_BYTES).contains(&size) {
            return Err(Corruption::OutOfRange {
                what: "the information size",
                value: size as u64,
                min: smallest as u64,
                max: MAX_INFORMATION_BYTES as u64,
            });
        }
        let need = size + size_of::<RawValidation>();
        if region.len() < need {
            return Err(Corruption::Truncated { what: "metadata copy", need, have: region.len() });
        }
        let (information, behind) = region.split_at(size);
        let (validation, behind) = RawValidation::read_from_prefix(behind)
            .map_err(|_| Corruption::Truncated { what: "metadata copy", need, have: region.len() })?;
        let (found, computed) = (validation.crc32.get(), crc32fast::hash(information));
        if found != computed {
            return Err(Corruption::Checksum { what: "metadata copy", found, computed });
        }
        let dataset = Dataset::parse(&information[size_of::<RawInformation>()..])?;
        let mut metadata = Self {
            version,
            current_state: ConversionState(raw.current_state.get()),
            next_state: ConversionState(raw.next_state.get()),
            state_offset: raw.state_offset.get(),
            state_size_bytes: raw.state_size.get(),
            virtualized_sectors: raw.virtualized_sectors.get(),
            metadata_offsets: raw.metadata_offsets.map(|offset| offset.get()),
            virtualized_block: raw.virtualized_block.get(),
            volume_id: dataset.id,
            next_nonce: dataset.next_nonce,
            method: dataset.method,
            created: dataset.created,
            description: None,
            virtualization: None,
            validation: parse_validation(version, behind),
            malformed: Vec::new(),
            protectors: Vec::new(),
            volume_keys: Vec::new(),
            datums: Vec::new(),
            information: SecretBytes::new(information.to_vec()),
        };
        for datum in &dataset.datums {
            if let Err(corruption) = metadata.note(datum) {
                metadata.malformed.push(corruption);
            }
        }
        metadata.datums = dataset.datums;
        Ok(metadata)
    }

    fn note(&mut self, datum: &Datum) -> Result<(), Corruption> {
        match (datum.role, datum.datum_type) {
            (_, DatumType::VMK_INFO) => self.protectors.push(Protector::parse(datum)?),
            (Role::FVEK, DatumType::SEALED_BOX) => self.volume_keys.push(SealedBox::parse(datum.body())?),
            (_, DatumType::VIRTUALIZATION) => {
                self.virtualization = Some(Virtualization::parse(datum.body())?)
            }
            (Role::DESCRIPTION, DatumType::UNICODE) => self.description = Some(values::text(datum.body())),
            _ => {}
        }
        Ok(())
    }

    /// Tells whether the copy's own table names `position`; a copy elsewhere is a leftover or a forgery.
    #[must_use]
    pub fn is_at(&self, position: u64) -> bool {
        self.metadata_offsets.contains(&position)
    }

    /// Returns the BitLocker protectors in disk order.
    #[must_use]
    pub fn protectors(&self) -> &[Protector] {
        &self.protectors
    }

    /// Returns the protector with the id.
    #[must_use]
    pub fn protector(&self, id: Guid) -> Option<&Protector> {
        self.protectors.iter().find(|protector| protector.id == id)
    }

    /// Returns ids and types of the BitLocker protectors.
    #[must_use]
    pub fn summaries(&self) -> Vec<ProtectorSummary> {
        self.protectors.iter().map(Protector::summary).collect()
    }

    /// Tells whether a clear key stands among the BitLocker protectors: the volume is open to anyone.
    #[must_use]
    pub fn has_clear_key(&self) -> bool {
        self.protectors.iter().any(|protector| protector.protection == ProtectionType::CLEAR_KEY)
    }

    /// Returns the sealed volume keys (role 3).
    #[must_use]
    pub fn volume_keys(&self) -> &[SealedBox] {
        &self.volume_keys
    }

    /// Returns the auto-unlock key datum of an OS volume (role 0xB; how it seals the registry is unverified).
    #[must_use]
    pub fn auto_unlock_key(&self) -> Option<&Datum> {
        self.datums.iter().find(|datum| datum.role == Role::AUTO_UNLOCK)
    }

    /// Returns every datum as it stands on disk, unknown ones included.
    #[must_use]
    pub fn datums(&self) -> &[Datum] {
        &self.datums
    }

    /// Returns the exact information bytes, which CRC and validation cover. They may hold a clear key.
    #[must_use]
    pub fn information(&self) -> &[u8] {
        self.information.expose()
    }

    /// Tells whether the drive itself encrypts: metadata of an encrypted volume without a software volume key
    /// (unverified by image).
    #[must_use]
    pub fn is_hardware_encrypted(&self) -> bool {
        self.current_state != ConversionState::DECRYPTED
            && self.method == EncryptionMethod::NONE
            && self.volume_keys.is_empty()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("version", &self.version)
            .field("volume_id", &self.volume_id)
            .field("method", &self.method)
            .field("current_state", &self.current_state)
            .field("next_state", &self.next_state)
            .field("protectors", &self.protectors)
            .finish_non_exhaustive()
    }
}

/// Reads the validation datum; damage there costs the proof, not the volume.
fn parse_validation(version: u16, behind: &[u8]) -> ValidationDatum {
    if version == VERSION_VISTA {
        return ValidationDatum::Absent;
    }
    let Ok((datum, _)) = Datum::parse(behind) else { return ValidationDatum::Absent };
    match datum.datum_type {
        DatumType::SEALED_BOX => {
            SealedBox::parse(datum.body()).map_or(ValidationDatum::Absent, ValidationDatum::Sealed)
        }
        DatumType::KEY => KeyValue::parse(datum.body())
            .ok()
            .filter(|key| key.key_type == KeyType::HASH)
            .and_then(|key| key.bytes.expose().try_into().ok())
            .map_or(ValidationDatum::Absent, ValidationDatum::Clear),
        _ => ValidationDatum::Absent,
    }
}
