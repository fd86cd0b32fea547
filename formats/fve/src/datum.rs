//! Datums: the tagged records that metadata, BEK files and key packages are made of.
//!
//! Sits between the raw bytes of a dataset and the typed values (`values.rs`): metadata > dataset > datum.
//!
//! Deliberately does not judge roles, types or flags: unknown ones are kept with their bytes.

use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;

use zerocopy::FromBytes;

use crate::error::Corruption;
use crate::layout::RawDatum;
use crate::secret::SecretBytes;

/// What a datum is for (FORMAT.md 3.1). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(pub u16);

impl Role {
    /// A property of the enclosing datum.
    pub const PROPERTY: Self = Self(0);
    /// A BitLocker protector.
    pub const VMK_INFO: Self = Self(2);
    /// The sealed volume key.
    pub const FVEK: Self = Self(3);
    /// The validation datum.
    pub const VALIDATION: Self = Self(4);
    /// The key of a BEK file.
    pub const STARTUP_KEY: Self = Self(6);
    /// The description of the volume.
    pub const DESCRIPTION: Self = Self(7);
    /// The auto-unlock key of an OS volume.
    pub const AUTO_UNLOCK: Self = Self(0xb);
    /// A second volume key; also the exported public key inside a public-key protector.
    pub const SECOND_FVEK: Self = Self(0xc);
    /// Where the relocated sectors lie.
    pub const VIRTUALIZATION: Self = Self(0xf);
    /// A validation hash.
    pub const VALIDATION_HASH: Self = Self(0x11);
    /// The recovery key inside a recovery protector's stretch datum.
    pub const STORED_RECOVERY_KEY: Self = Self(0x12);
    /// The stretched key inside a recovery protector's stretch datum.
    pub const STORED_STRETCHED_KEY: Self = Self(0x13);
    /// The volume id in a Windows 11 BEK file.
    pub const VOLUME_ID: Self = Self(0x19);
}

/// What the body of a datum holds (FORMAT.md 3.2). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatumType(pub u16);

impl DatumType {
    /// Erased.
    pub const ERASED: Self = Self(0);
    /// A plain key.
    pub const KEY: Self = Self(1);
    /// UTF-16LE text.
    pub const UNICODE: Self = Self(2);
    /// Salt and nested boxes of a stretched key.
    pub const STRETCH_KEY: Self = Self(3);
    /// A key to be used, in a nested box.
    pub const USE_KEY: Self = Self(4);
    /// An AES-CCM box.
    pub const SEALED_BOX: Self = Self(5);
    /// PCR bitmap and TPM object.
    pub const TPM_BLOB: Self = Self(6);
    /// Validation information.
    pub const VALIDATION_INFO: Self = Self(7);
    /// A BitLocker protector.
    pub const VMK_INFO: Self = Self(8);
    /// An external key.
    pub const EXTERNAL_INFO: Self = Self(9);
    /// An update.
    pub const UPDATE: Self = Self(0xa);
    /// An error log.
    pub const ERROR_LOG: Self = Self(0xb);
    /// An RSA ciphertext.
    pub const ASYMMETRIC_KEY: Self = Self(0xc);
    /// An exported RSA public key.
    pub const PUBLIC_KEY: Self = Self(0xd);
    /// A certificate thumbprint record.
    pub const PUBLIC_KEY_INFO: Self = Self(0xe);
    /// Place of the relocated sectors.
    pub const VIRTUALIZATION: Self = Self(0xf);
    /// Where and when a recovery password was saved.
    pub const BACKUP_INFO: Self = Self(0x15);
    /// A GUID.
    pub const GUID: Self = Self(0x17);
    /// A hint, probably a masked e-mail address.
    pub const HINT: Self = Self(0x18);
}

/// One datum with its exact body bytes.
pub struct Datum {
    /// What it is for.
    pub role: Role,
    /// What its body holds.
    pub datum_type: DatumType,
    /// Flags, kept and never judged.
    pub flags: u16,
    body: SecretBytes,
}

impl Datum {
    /// Returns the body: everything behind the 8-byte header.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.expose()
    }

    /// Returns the size on disk in bytes, header included.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        size_of::<RawDatum>() + self.body().len()
    }

    /// Parses the datum at the start of `bytes` and returns it with the rest.
    ///
    /// # Errors
    /// [`Corruption::DatumSize`] when the size is below the header's or beyond the bytes (FORMAT.md 3).
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Corruption> {
        Self::parse_at(bytes, 0)
    }

    fn parse_at(bytes: &[u8], offset: usize) -> Result<(Self, &[u8]), Corruption> {
        let available = bytes.len();
        let (raw, _) = RawDatum::read_from_prefix(bytes).map_err(|_| Corruption::DatumSize {
            offset,
            size: size_of::<RawDatum>(),
            available,
        })?;
        let size = usize::from(raw.size.get());
        if size < size_of::<RawDatum>() || size > available {
            return Err(Corruption::DatumSize { offset, size, available });
        }
        let (own, rest) = bytes.split_at(size);
        let datum = Self {
            role: Role(raw.role.get()),
            datum_type: DatumType(raw.datum_type.get()),
            flags: raw.flags.get(),
            body: SecretBytes::new(own[size_of::<RawDatum>()..].to_vec()),
        };
        Ok((datum, rest))
    }

    /// Parses a list of datums that fills `bytes`; trailing zero bytes are padding.
    ///
    /// # Errors
    /// [`Corruption::DatumSize`] for the first datum that does not fit.
    pub fn parse_list(bytes: &[u8]) -> Result<Vec<Self>, Corruption> {
        let mut datums = Vec::new();
        let mut rest = bytes;
        while rest.iter().any(|&byte| byte != 0) {
            let (datum, after) = Self::parse_at(rest, bytes.len() - rest.len())?;
            datums.push(datum);
            rest = after;
        }
        Ok(datums)
    }
}

impl fmt::Debug for Datum {
    /// Prints numbers only: the body may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datum")
            .field("role", &self.role.0)
            .field("datum_type", &self.datum_type.0)
            .field("flags", &self.flags)
            .field("bytes", &self.encoded_bytes())
            .finish()
    }
}
