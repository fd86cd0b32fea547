//! BitLocker protectors: the ways in, as the metadata lists them.
//!
//! Built from VMK info datums; opened by `unlock.rs`, read back by `read_back.rs`.
//!
//! Deliberately drops none: a protection type nobody has seen is listed with its number.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::datum::{Datum, DatumType};
use crate::error::Corruption;
use crate::guid::{FileTime, Guid};
use crate::layout::{KEY_BYTES, RawVmkInfo};
use crate::secret::Key256;
use crate::values::{self, BackupInfo, KeyType, KeyValue, SealedBox, StretchKey, UseKey};

/// How a BitLocker protector protects (FORMAT.md 3.3). An open set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtectionType(pub u16);

impl ProtectionType {
    /// Clear key: the volume is readable by anyone.
    pub const CLEAR_KEY: Self = Self(0);
    /// TPM.
    pub const TPM: Self = Self(0x0100);
    /// External key: startup or recovery BEK, auto-unlock.
    pub const EXTERNAL_KEY: Self = Self(0x0200);
    /// TPM and startup key.
    pub const TPM_STARTUP_KEY: Self = Self(0x0300);
    /// TPM and PIN.
    pub const TPM_PIN: Self = Self(0x0500);
    /// TPM, PIN and startup key.
    pub const TPM_PIN_STARTUP_KEY: Self = Self(0x0700);
    /// Recovery password.
    pub const RECOVERY_PASSWORD: Self = Self(0x0800);
    /// Public key: smart card or data recovery agent.
    pub const PUBLIC_KEY: Self = Self(0x1000);
    /// Password.
    pub const PASSWORD: Self = Self(0x2000);

    /// Returns the stable name used in documents: `recovery-password`, `tpm-pin`, ..., `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CLEAR_KEY => "clear-key",
            Self::TPM => "tpm",
            Self::EXTERNAL_KEY => "external-key",
            Self::TPM_STARTUP_KEY => "tpm-startup-key",
            Self::TPM_PIN => "tpm-pin",
            Self::TPM_PIN_STARTUP_KEY => "tpm-pin-startup-key",
            Self::RECOVERY_PASSWORD => "recovery-password",
            Self::PUBLIC_KEY => "public-key",
            Self::PASSWORD => "password",
            _ => "unknown",
        }
    }

    /// Tells whether a TPM takes part.
    #[must_use]
    pub fn needs_tpm(self) -> bool {
        matches!(self, Self::TPM | Self::TPM_STARTUP_KEY | Self::TPM_PIN | Self::TPM_PIN_STARTUP_KEY)
    }
}

impl fmt::Display for ProtectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(f, "unknown (0x{:04x})", self.0),
            name => f.write_str(name),
        }
    }
}

/// Id and type of a BitLocker protector, for lists and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectorSummary {
    /// Protector id.
    pub id: Guid,
    /// Protection type.
    pub protection: ProtectionType,
}

/// What a TPM protector says besides its sealed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TpmInfo {
    /// Bit n set: PCR n takes part (unverified on images).
    pub pcr_bitmap: u32,
    /// Size of the sealed object in bytes.
    pub sealed_bytes: usize,
}

const THUMBPRINT_OFFSET: usize = 16;

/// One BitLocker protector.
pub struct Protector {
    /// Protector id; equals the id in a BEK file and in escrow.
    pub id: Guid,
    /// Protection type.
    pub protection: ProtectionType,
    /// Time of the last change.
    pub modified: FileTime,
    /// Description, for example `ExternalKey`.
    pub description: Option<String>,
    /// Where a recovery password was saved.
    pub backup: Option<BackupInfo>,
    /// Stretch of a password or recovery password.
    pub stretch: Option<StretchKey>,
    /// Sealed copy of an external or intermediate key.
    pub use_key: Option<UseKey>,
    /// TPM facts.
    pub tpm: Option<TpmInfo>,
    /// SHA-1 thumbprint of the certificate of a public-key protector (layout known from one sample).
    pub certificate_thumbprint: Option<[u8; 20]>,
    /// The sealed volume master key.
    pub vmk: Option<SealedBox>,
    clear_key: Option<Key256>,
    properties: Vec<Datum>,
}

impl Protector {
    /// Parses a VMK info datum (FORMAT.md 3.2).
    ///
    /// A property that is damaged is left out and stays in [`Protector::properties`].
    ///
    /// # Errors
    /// [`Corruption::Truncated`] when the fixed part is missing, [`Corruption::DatumSize`] when the list of
    /// properties is broken.
    pub fn parse(datum: &Datum) -> Result<Self, Corruption> {
        let (raw, rest) = values::split_fixed::<RawVmkInfo>(datum.body(), "VMK info")?;
        let properties = Datum::parse_list(rest)?;
        let mut protector = Self {
            id: Guid(raw.id),
            protection: ProtectionType(raw.protection.get()),
            modified: FileTime(raw.modified.get()),
            description: None,
            backup: None,
            stretch: None,
            use_key: None,
            tpm: None,
            certificate_thumbprint: None,
            vmk: None,
            clear_key: None,
            properties: Vec::new(),
        };
        for property in &properties {
            protector.note(property);
        }
        protector.properties = properties;
        Ok(protector)
    }

    /// Takes in one property; of several of a kind the first counts.
    fn note(&mut self, property: &Datum) {
        let body = property.body();
        match property.datum_type {
            DatumType::UNICODE => set_first(&mut self.description, || Some(values::text(body))),
            DatumType::BACKUP_INFO => set_first(&mut self.backup, || BackupInfo::parse(body).ok()),
            DatumType::STRETCH_KEY => set_first(&mut self.stretch, || StretchKey::parse(body).ok()),
            DatumType::USE_KEY => set_first(&mut self.use_key, || UseKey::parse(body).ok()),
            DatumType::SEALED_BOX => set_first(&mut self.vmk, || SealedBox::parse(body).ok()),
            DatumType::KEY => set_first(&mut self.clear_key, || {
                let key = KeyValue::parse(body).ok()?;
                (key.bytes.expose().len() == KEY_BYTES && key.key_type == KeyType::CLEAR)
                    .then(|| Key256::from_slice(key.bytes.expose()))?
            }),
            DatumType::TPM_BLOB => set_first(&mut self.tpm, || {
                let (bitmap, sealed) = body.split_first_chunk()?;
                Some(TpmInfo { pcr_bitmap: u32::from_le_bytes(*bitmap), sealed_bytes: sealed.len() })
            }),
            DatumType::PUBLIC_KEY_INFO => set_first(&mut self.certificate_thumbprint, || {
                body.get(THUMBPRINT_OFFSET..)?.first_chunk().copied()
            }),
            _ => {}
        }
    }

    /// Returns id and type.
    #[must_use]
    pub fn summary(&self) -> ProtectorSummary {
        ProtectorSummary { id: self.id, protection: self.protection }
    }

    /// Returns the clear key, which lies open in the metadata.
    #[must_use]
    pub fn clear_key(&self) -> Option<&Key256> {
        self.clear_key.as_ref()
    }

    /// Returns every property as it stands on disk, unknown ones included.
    #[must_use]
    pub fn properties(&self) -> &[Datum] {
        &self.properties
    }
}

impl fmt::Debug for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protector")
            .field("id", &self.id)
            .field("protection", &self.protection)
            .finish_non_exhaustive()
    }
}

fn set_first<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if slot.is_none() {
        *slot = value();
    }
}
