//! BEK files: external keys for recovery, startup and auto-unlock.
//!
//! A dataset with one external key (FORMAT.md 6.7). Its id names the BitLocker protector that it opens.
//!
//! Deliberately reads both sizes, 156 bytes and the 180 bytes of Windows 11 that name the volume too.

use alloc::vec::Vec;

use crate::dataset::Dataset;
use crate::datum::{Datum, DatumType, Role};
use crate::error::Corruption;
use crate::guid::{FileTime, Guid};
use crate::layout::RawExternalInfo;
use crate::secret::Key256;
use crate::values::{self, KeyType, KeyValue};
use crate::write::{self, DatasetHeader};

/// Why bytes are not a BEK file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BekError {
    /// The dataset is damaged.
    #[error("{0}")]
    Corrupt(#[from] Corruption),
    /// The dataset holds no external key.
    #[error("it holds no external key")]
    NoKey,
    /// The external key has another length than 32 bytes.
    #[error("its key has {have} bytes instead of 32")]
    KeyLength {
        /// Bytes found.
        have: usize,
    },
}

/// Description that Windows writes into BEK files.
const DESCRIPTION: &str = "ExternalKey";

/// A recovery key or startup key.
pub struct ExternalKey {
    /// Id of the key and of the BitLocker protector that it opens.
    pub id: Guid,
    /// Time the key was made; equals the time of its BitLocker protector in the samples.
    pub created: FileTime,
    /// Time the file was written.
    pub saved: FileTime,
    /// Id of the volume (Windows 11).
    pub volume_id: Option<Guid>,
    /// The key.
    pub key: Key256,
}

impl ExternalKey {
    /// Parses a BEK file.
    ///
    /// # Errors
    /// [`BekError`] says what is missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, BekError> {
        let dataset = Dataset::parse(bytes)?;
        let info = dataset
            .datums
            .iter()
            .find(|datum| datum.datum_type == DatumType::EXTERNAL_INFO)
            .ok_or(BekError::NoKey)?;
        let (raw, rest) = values::split_fixed::<RawExternalInfo>(info.body(), "external key")?;
        let key = Datum::parse_list(rest)?
            .iter()
            .find(|datum| datum.datum_type == DatumType::KEY)
            .map(|datum| KeyValue::parse(datum.body()))
            .ok_or(BekError::NoKey)??;
        let have = key.bytes.expose().len();
        Ok(Self {
            id: Guid(raw.id),
            created: FileTime(raw.modified.get()),
            saved: dataset.created,
            volume_id: dataset
                .datums
                .iter()
                .find(|datum| datum.role == Role::VOLUME_ID && datum.datum_type == DatumType::GUID)
                .and_then(|datum| values::guid(datum.body())),
            key: Key256::from_slice(key.bytes.expose()).ok_or(BekError::KeyLength { have })?,
        })
    }

    /// Encodes the file as Windows writes it: 156 bytes, or 180 when the volume id is known.
    #[must_use]
    pub fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.id.0);
        body.extend_from_slice(&self.created.0.to_le_bytes());
        body.extend_from_slice(&write::text_datum(Role::PROPERTY, DESCRIPTION));
        body.extend_from_slice(&write::key_datum(Role::PROPERTY, KeyType::EXTERNAL, self.key.expose()));
        let mut datums = write::datum(Role::STARTUP_KEY, DatumType::EXTERNAL_INFO, &body);
        zeroize::Zeroize::zeroize(&mut body);
        if let Some(volume_id) = self.volume_id {
            datums.extend_from_slice(&write::datum(Role::VOLUME_ID, DatumType::GUID, &volume_id.0));
        }
        let header =
            DatasetHeader { id: self.id, next_nonce: 1, created: self.saved, ..DatasetHeader::default() };
        let file = zeroize::Zeroizing::new(header.encode(&datums));
        zeroize::Zeroize::zeroize(&mut datums);
        file
    }

    /// Returns the file name that Windows gives the key: the id in upper case and `.BEK`.
    #[must_use]
    pub fn file_name(&self) -> alloc::string::String {
        alloc::format!("{}.BEK", alloc::format!("{}", self.id).to_uppercase())
    }
}
