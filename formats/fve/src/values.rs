//! Typed values of datum bodies: keys, boxes, stretch keys and the other things a dataset is made of.
//!
//! Sits between the datums (`datum.rs`) and what they mean together (`protector.rs`, `metadata.rs`, `bek.rs`).
//!
//! Deliberately follows nesting to the fixed depth that BitLocker uses, never recursively.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::datum::{Datum, DatumType, Role};
use crate::error::Corruption;
use crate::guid::{FileTime, Guid};
use crate::layout::{
    KEY_FLAG_PBKDF2, MAC_BYTES, NONCE_BYTES, RawBackupInfo, RawKey, RawSealedBox, RawStretchKey,
    RawVirtualization, SALT_BYTES,
};
use crate::secret::SecretBytes;

/// Type of a key (FORMAT.md 3.4). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyType(pub u16);

impl KeyType {
    /// Key stretched from a recovery password; also the 16-byte recovery key itself.
    pub const STRETCH_RECOVERY: Self = Self(0x1000);
    /// Key stretched from a password.
    pub const STRETCH_PASSWORD: Self = Self(0x1001);
    /// AES-CCM key; the clear key.
    pub const CLEAR: Self = Self(0x2000);
    /// External key of a BEK file.
    pub const EXTERNAL: Self = Self(0x2002);
    /// Volume master key.
    pub const VMK: Self = Self(0x2003);
    /// SHA-256 hash of the information.
    pub const HASH: Self = Self(0x2005);
    /// Intermediate key of a public-key protector.
    pub const INTERMEDIATE: Self = Self(0x2006);
    /// Stored stretched key of a password protector.
    pub const STORED_PASSWORD: Self = Self(0x2007);
    /// Stored stretched key of a recovery protector.
    pub const STORED_RECOVERY: Self = Self(0x2008);
}

/// Splits the fixed part off a body.
pub(crate) fn split_fixed<'a, T: FromBytes + KnownLayout + Immutable>(
    body: &'a [u8],
    what: &'static str,
) -> Result<(T, &'a [u8]), Corruption> {
    T::read_from_prefix(body).map_err(|_| Corruption::Truncated {
        what,
        need: core::mem::size_of::<T>(),
        have: body.len(),
    })
}

/// A plain key (KEY datum).
pub struct KeyValue {
    /// Type of the key.
    pub key_type: KeyType,
    /// Key flags.
    pub flags: u16,
    /// The key.
    pub bytes: SecretBytes,
}

impl KeyValue {
    /// Parses the body of a KEY datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] when the fixed part is missing.
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, bytes) = split_fixed::<RawKey>(body, "key datum")?;
        Ok(Self {
            key_type: KeyType(raw.key_type.get()),
            flags: raw.flags.get(),
            bytes: SecretBytes::new(bytes.to_vec()),
        })
    }
}

/// An AES-256-CCM box: a sealed datum.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBox {
    /// Nonce: FILETIME and counter.
    pub nonce: [u8; NONCE_BYTES],
    /// Authentication tag.
    pub mac: [u8; MAC_BYTES],
    /// Ciphertext.
    pub ciphertext: Vec<u8>,
}

impl SealedBox {
    /// Parses the body of a box datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] when nonce or tag is missing.
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, ciphertext) = split_fixed::<RawSealedBox>(body, "sealed box")?;
        Ok(Self { nonce: raw.nonce, mac: raw.mac, ciphertext: ciphertext.to_vec() })
    }

    /// Returns the first box among `datums` that has the role, if any is well formed.
    fn with_role(datums: &[Datum], role: Role) -> Option<Self> {
        datums
            .iter()
            .filter(|datum| datum.datum_type == DatumType::SEALED_BOX && datum.role == role)
            .find_map(|datum| Self::parse(datum.body()).ok())
    }
}

impl fmt::Debug for SealedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBox({} bytes)", self.ciphertext.len())
    }
}

/// How a password becomes a key, and what the protector keeps of it.
#[derive(Clone, Debug)]
pub struct StretchKey {
    /// Kind of password.
    pub key_type: KeyType,
    /// Key flags.
    pub flags: u16,
    /// Salt.
    pub salt: [u8; SALT_BYTES],
    /// Box with role 0x12: the recovery key.
    pub stored_recovery_key: Option<SealedBox>,
    /// Box with role 0x13: the stretched key.
    pub stored_stretched_key: Option<SealedBox>,
    /// Box with role 0: recovery key (Windows 7) or stretched key of a password.
    pub stored: Option<SealedBox>,
}

impl StretchKey {
    /// Parses the body of a STRETCH_KEY datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] or [`Corruption::DatumSize`].
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, rest) = split_fixed::<RawStretchKey>(body, "stretch key")?;
        let nested = Datum::parse_list(rest)?;
        Ok(Self {
            key_type: KeyType(raw.key.key_type.get()),
            flags: raw.key.flags.get(),
            salt: raw.salt,
            stored_recovery_key: SealedBox::with_role(&nested, Role::STORED_RECOVERY_KEY),
            stored_stretched_key: SealedBox::with_role(&nested, Role::STORED_STRETCHED_KEY),
            stored: SealedBox::with_role(&nested, Role::PROPERTY),
        })
    }

    /// Tells whether the key comes from PBKDF2 (FIPS) instead of the known stretch.
    #[must_use]
    pub fn is_pbkdf2(&self) -> bool {
        self.flags & KEY_FLAG_PBKDF2 != 0
    }
}

/// A key that the protector uses, kept sealed with the VMK.
#[derive(Clone, Debug)]
pub struct UseKey {
    /// Type of the key.
    pub key_type: KeyType,
    /// Key flags.
    pub flags: u16,
    /// The sealed key.
    pub stored: Option<SealedBox>,
}

impl UseKey {
    /// Parses the body of a USE_KEY datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] or [`Corruption::DatumSize`].
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, rest) = split_fixed::<RawKey>(body, "use key")?;
        let nested = Datum::parse_list(rest)?;
        Ok(Self {
            key_type: KeyType(raw.key_type.get()),
            flags: raw.flags.get(),
            stored: nested
                .iter()
                .filter(|datum| datum.datum_type == DatumType::SEALED_BOX)
                .find_map(|datum| SealedBox::parse(datum.body()).ok()),
        })
    }
}

/// Where the relocated sectors lie (virtualization datum).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtualization {
    /// Byte offset.
    pub offset: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Windows build number from the tail of newer volumes (meaning inferred, unverified).
    pub windows_build: Option<u32>,
}

/// Offset of the build number in the 76-byte tail (FORMAT.md 7).
const TAIL_BUILD_OFFSET: usize = 44;

impl Virtualization {
    /// Parses the body of a virtualization datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] when offset or size is missing.
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, tail) = split_fixed::<RawVirtualization>(body, "virtualization datum")?;
        let windows_build = tail
            .get(TAIL_BUILD_OFFSET..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_le_bytes(*bytes));
        Ok(Self { offset: raw.offset.get(), size_bytes: raw.size.get(), windows_build })
    }
}

/// When and where a recovery password was saved (backup info datum).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// Two times, equal in all samples.
    pub times: [FileTime; 2],
    /// Where to; the bits are unverified.
    pub flags: u32,
}

impl BackupInfo {
    /// Parses the body of a backup info datum.
    ///
    /// # Errors
    /// [`Corruption::Truncated`] when the body is too short.
    pub fn parse(body: &[u8]) -> Result<Self, Corruption> {
        let (raw, _) = split_fixed::<RawBackupInfo>(body, "backup info")?;
        Ok(Self { times: raw.times.map(|time| FileTime(time.get())), flags: raw.flags.get() })
    }
}

/// Parses the body of a UNICODE datum: UTF-16LE up to the first NUL; unpaired surrogates are replaced.
#[must_use]
pub(crate) fn text(body: &[u8]) -> String {
    let units =
        body.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|&unit| unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Parses the body of a GUID datum.
#[must_use]
pub(crate) fn guid(body: &[u8]) -> Option<Guid> {
    body.first_chunk().map(|bytes| Guid(*bytes))
}
