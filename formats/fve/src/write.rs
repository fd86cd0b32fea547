//! Encoding of datums, datasets and metadata regions.
//!
//! The mirror of the parsers: used to regenerate BEK files, to add a clear key for one boot (`suspend.rs`), and by the
//! fixtures.
//!
//! Deliberately writes no volume; placing the bytes on a disk is the caller's.

use alloc::vec::Vec;
use core::mem::size_of;

use zerocopy::IntoBytes;

use crate::datum::{DatumType, Role};
use crate::error::Error;
use crate::guid::{FileTime, Guid};
use crate::layout::{
    FVE_SIGNATURE, METADATA_COPIES, RawDataset, RawDatum, RawInformation, RawKey, RawValidation,
    VERSION_SEVEN, VERSION_VISTA,
};
use crate::metadata::{ConversionState, EncryptionMethod};
use crate::secret::Key256;
use crate::stretch::sha256;
use crate::values::{KeyType, SealedBox};

/// Flags that Windows writes into most datums.
pub const USUAL_FLAGS: u16 = 1;

/// Encodes a datum with the usual flags.
///
/// # Panics
/// When the body is longer than a datum can be (65,527 bytes): a mistake of the caller, never of input.
#[must_use]
pub fn datum(role: Role, datum_type: DatumType, body: &[u8]) -> Vec<u8> {
    datum_with_flags(role, datum_type, USUAL_FLAGS, body)
}

/// Encodes a datum.
///
/// # Panics
/// As [`datum`].
#[must_use]
pub fn datum_with_flags(role: Role, datum_type: DatumType, flags: u16, body: &[u8]) -> Vec<u8> {
    let size =
        u16::try_from(size_of::<RawDatum>() + body.len()).expect("a datum is at most 65535 bytes long");
    let raw = RawDatum {
        size: size.into(),
        role: role.0.into(),
        datum_type: datum_type.0.into(),
        flags: flags.into(),
    };
    [raw.as_bytes(), body].concat()
}

/// Encodes a KEY datum.
#[must_use]
pub fn key_datum(role: Role, key_type: KeyType, key: &[u8]) -> Vec<u8> {
    let raw = RawKey { key_type: key_type.0.into(), flags: 0.into() };
    datum(role, DatumType::KEY, &[raw.as_bytes(), key].concat())
}

/// Encodes a UNICODE datum with its closing NUL.
#[must_use]
pub fn text_datum(role: Role, text: &str) -> Vec<u8> {
    let body: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    datum(role, DatumType::UNICODE, &body)
}

/// Encodes a box datum.
#[must_use]
pub fn box_datum(role: Role, sealed: &SealedBox) -> Vec<u8> {
    datum(role, DatumType::SEALED_BOX, &[&sealed.nonce[..], &sealed.mac, &sealed.ciphertext].concat())
}

/// Nonces as Windows makes them: one time for all, a counter that never repeats.
#[derive(Clone, Copy, Debug)]
pub struct NonceSequence {
    /// Time in each nonce.
    pub time: FileTime,
    /// Counter of the next nonce.
    pub next: u32,
}

impl NonceSequence {
    /// Takes the next nonce.
    pub fn take(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.time.0.to_le_bytes());
        nonce[8..].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        nonce
    }

    /// Seals a key as the KEY datum that boxes hold.
    #[must_use]
    pub fn seal_key(&mut self, with: &Key256, key_type: KeyType, key: &[u8]) -> SealedBox {
        let plaintext = zeroize::Zeroizing::new(key_datum(Role::PROPERTY, key_type, key));
        SealedBox::seal(with, self.take(), &plaintext)
    }
}

/// Fields of a dataset header.
#[derive(Clone, Copy, Debug)]
pub struct DatasetHeader {
    /// Volume id or key id.
    pub id: Guid,
    /// Counter of the next nonce.
    pub next_nonce: u32,
    /// Encryption method.
    pub method: EncryptionMethod,
    /// Copy of the method, or none.
    pub method_copy: EncryptionMethod,
    /// Creation time.
    pub created: FileTime,
}

impl Default for DatasetHeader {
    fn default() -> Self {
        Self {
            id: Guid([0; 16]),
            next_nonce: 1,
            method: EncryptionMethod::NONE,
            method_copy: EncryptionMethod::NONE,
            created: FileTime(0),
        }
    }
}

impl DatasetHeader {
    /// Encodes header and datums.
    #[must_use]
    pub fn encode(&self, datums: &[u8]) -> Vec<u8> {
        let header = size_of::<RawDataset>() as u32;
        let size = header + datums.len() as u32;
        let raw = RawDataset {
            size: size.into(),
            version: 1.into(),
            start: header.into(),
            end: size.into(),
            id: self.id.0,
            next_nonce: self.next_nonce.into(),
            method: self.method.0.into(),
            method_copy: self.method_copy.0.into(),
            created: self.created.0.into(),
        };
        [raw.as_bytes(), datums].concat()
    }
}

/// Fields of the information header of a metadata copy.
#[derive(Clone, Copy, Debug)]
pub struct InformationHeader {
    /// 1 or 2.
    pub version: u16,
    /// Current state.
    pub current_state: ConversionState,
    /// Next state.
    pub next_state: ConversionState,
    /// Volume size or boundary.
    pub state_offset: u64,
    /// Bytes under conversion.
    pub state_size_bytes: u32,
    /// Relocated sectors.
    pub virtualized_sectors: u32,
    /// Offsets of the copies.
    pub metadata_offsets: [u64; METADATA_COPIES],
    /// Offset of the relocated sectors, or the MFT mirror cluster.
    pub virtualized_block: u64,
}

/// What to put behind the information.
pub enum Validate<'a> {
    /// A box sealed with the VMK.
    Sealed(&'a Key256, [u8; 12]),
    /// The hash in clear (decrypted volumes).
    Clear,
    /// The CRC only (Vista).
    ChecksumOnly,
}

impl InformationHeader {
    /// Encodes a whole metadata region of `region_bytes`: header, dataset, padding, CRC, validation, zeros.
    ///
    /// # Errors
    /// [`Error::RegionFull`] when the parts do not fit.
    pub fn encode(
        &self,
        dataset: &[u8],
        region_bytes: usize,
        validate: Validate<'_>,
    ) -> Result<Vec<u8>, Error> {
        let size = (size_of::<RawInformation>() + dataset.len()).next_multiple_of(16);
        let stated = if self.version == VERSION_VISTA { size } else { size >> 4 };
        let full = |need| Error::RegionFull { need, have: region_bytes };
        let raw = RawInformation {
            signature: FVE_SIGNATURE,
            size: u16::try_from(stated).map_err(|_| full(size))?.into(),
            version: self.version.into(),
            current_state: self.current_state.0.into(),
            next_state: self.next_state.0.into(),
            state_offset: self.state_offset.into(),
            state_size: self.state_size_bytes.into(),
            virtualized_sectors: self.virtualized_sectors.into(),
            metadata_offsets: self.metadata_offsets.map(Into::into),
            virtualized_block: self.virtualized_block.into(),
        };
        let mut region = [raw.as_bytes(), dataset].concat();
        region.resize(size, 0);
        let hash = sha256(&region);
        let validation_datum = match validate {
            Validate::Sealed(key, nonce) => {
                let plaintext = key_datum(Role::PROPERTY, KeyType::HASH, &hash);
                box_datum(Role::PROPERTY, &SealedBox::seal(key, nonce, &plaintext))
            }
            Validate::Clear => key_datum(Role::PROPERTY, KeyType::HASH, &hash),
            Validate::ChecksumOnly => Vec::new(),
        };
        let need = size + size_of::<RawValidation>() + validation_datum.len();
        if need > region_bytes {
            return Err(full(need));
        }
        let validation_size = match self.version {
            VERSION_SEVEN => crate::layout::METADATA_REGION_BYTES,
            _ => crate::layout::METADATA_REGION_BYTES_V1,
        }
        .saturating_sub(size as u64);
        let validation = RawValidation {
            size: u16::try_from(validation_size).map_err(|_| full(need))?.into(),
            version: self.version.into(),
            crc32: crc32fast::hash(&region).into(),
        };
        region.extend_from_slice(validation.as_bytes());
        region.extend_from_slice(&validation_datum);
        region.resize(region_bytes, 0);
        Ok(region)
    }
}
