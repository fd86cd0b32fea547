//! Datasets: a 48-byte header and a list of datums.
//!
//! The same structure stands in the volume metadata, in BEK files and (as far as known) in key packages.
//!
//! Deliberately gives the id no meaning: it is the volume's in metadata and the key's in a BEK file.

use alloc::vec::Vec;
use core::mem::size_of;

use zerocopy::FromBytes;

use crate::datum::Datum;
use crate::error::Corruption;
use crate::guid::{FileTime, Guid};
use crate::layout::{MAX_INFORMATION_BYTES, RawDataset};
use crate::metadata::EncryptionMethod;

/// Version of the dataset header.
const DATASET_VERSION: u32 = 1;

/// A parsed dataset.
#[derive(Debug)]
pub struct Dataset {
    /// Volume id, or key id in a BEK file.
    pub id: Guid,
    /// Counter of the next nonce.
    pub next_nonce: u32,
    /// Encryption method of the volume key.
    pub method: EncryptionMethod,
    /// Creation time.
    pub created: FileTime,
    /// Every datum, unknown ones included.
    pub datums: Vec<Datum>,
    /// Size in bytes as the header states it.
    pub size_bytes: usize,
}

impl Dataset {
    /// Parses the dataset at the start of `bytes`; what follows it is ignored.
    ///
    /// # Errors
    /// [`Corruption`] when header or datums are damaged (FORMAT.md 2.2).
    pub fn parse(bytes: &[u8]) -> Result<Self, Corruption> {
        const HEADER: usize = size_of::<RawDataset>();
        let (raw, _) = RawDataset::read_from_prefix(bytes).map_err(|_| Corruption::Truncated {
            what: "dataset",
            need: HEADER,
            have: bytes.len(),
        })?;
        if raw.version.get() != DATASET_VERSION {
            return Err(Corruption::Version { what: "dataset", version: raw.version.get() });
        }
        let in_range = |what, value: u32, min: usize, max: usize| {
            let value = value as usize;
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(Corruption::OutOfRange { what, value: value as u64, min: min as u64, max: max as u64 })
            }
        };
        let size = in_range("the dataset size", raw.size.get(), HEADER, MAX_INFORMATION_BYTES)?;
        if size > bytes.len() {
            return Err(Corruption::Truncated { what: "dataset", need: size, have: bytes.len() });
        }
        let end = in_range("the dataset end", raw.end.get(), HEADER, size)?;
        let start = in_range("the dataset start", raw.start.get(), HEADER, end)?;
        Ok(Self {
            id: Guid(raw.id),
            next_nonce: raw.next_nonce.get(),
            method: EncryptionMethod(raw.method.get()),
            created: FileTime(raw.created.get()),
            datums: Datum::parse_list(&bytes[start..end])?,
            size_bytes: size,
        })
    }
}
