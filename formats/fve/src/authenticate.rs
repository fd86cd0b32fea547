//! Authentication of metadata: did the holder of the VMK write exactly these bytes?
//!
//! The step after unlocking, before any offset in the metadata is believed.
//!
//! Deliberately reports and does not refuse: what to do with unproven metadata is the caller's decision.

use core::fmt;

use crate::layout::KEY_BYTES;
use crate::metadata::{Metadata, ValidationDatum};
use crate::sealed::OpenFailure;
use crate::secret::Vmk;
use crate::stretch::sha256;
use crate::values::KeyType;

/// How far the metadata is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// The VMK opens the validation and its hash is the hash of the information.
    Authenticated,
    /// The hash stands in clear and matches: no damage, but no proof either (decrypted volumes).
    HashMatches,
    /// Only the CRC was checked: there is no validation datum (Vista), or it cannot be read.
    ChecksumOnly,
    /// The validation does not open with this VMK.
    NotOpened,
    /// The validated hash is not the hash of the information: the metadata was altered.
    Altered,
}

impl Authentication {
    /// Tells whether the metadata is proved genuine.
    #[must_use]
    pub fn is_proof(self) -> bool {
        self == Self::Authenticated
    }

    /// Tells whether the metadata is proved wrong.
    #[must_use]
    pub fn is_refuted(self) -> bool {
        matches!(self, Self::NotOpened | Self::Altered)
    }
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authenticated => "metadata authenticated",
            Self::HashMatches => "metadata hash matches (in clear)",
            Self::ChecksumOnly => "metadata checksum matches, no validation to authenticate it",
            Self::NotOpened => "the validation of the metadata does not open with the volume master key",
            Self::Altered => "the metadata was altered: its hash is not the validated one",
        })
    }
}

impl Metadata {
    /// Checks the information against its validation datum (FORMAT.md 2.3).
    #[must_use]
    pub fn authenticate(&self, vmk: &Vmk) -> Authentication {
        let hash = sha256(self.information());
        match &self.validation {
            ValidationDatum::Absent => Authentication::ChecksumOnly,
            ValidationDatum::Clear(stated) if same(stated, &hash) => Authentication::HashMatches,
            ValidationDatum::Clear(_) => Authentication::Altered,
            ValidationDatum::Sealed(sealed) => match sealed.open(vmk.key()) {
                Ok(key) if key.key_type == KeyType::HASH && same(key.bytes.expose(), &hash) => {
                    Authentication::Authenticated
                }
                Ok(_) | Err(OpenFailure::Content(_)) => Authentication::Altered,
                Err(OpenFailure::WrongKey) => Authentication::NotOpened,
            },
        }
    }
}

fn same(stated: &[u8], hash: &[u8; KEY_BYTES]) -> bool {
    stated == hash
}
