//! Unlocking: from a credential to the volume master key and the volume key.
//!
//! Works on parsed metadata (`metadata.rs`) or a key package; the disk is not needed.
//!
//! Deliberately tells "wrong key" from "cannot be tried here": TPM, public-key and FIPS protectors are named, never
//! counted as a wrong password. Runs on one thread; [`Attempt`] lets callers use several.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::bek::ExternalKey;
use crate::error::{Corruption, Error};
use crate::guid::Guid;
use crate::metadata::{EncryptionMethod, Metadata};
use crate::protector::{ProtectionType, Protector};
use crate::recovery_password::RecoveryPassword;
use crate::sealed::OpenFailure;
use crate::secret::{Key256, SecretBytes, Vmk};
use crate::stretch::{sha256, stretch};
use crate::values::{KeyType, SealedBox};

/// A password typed by a person, wiped when dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Wraps a password as typed.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the key that goes into the stretch: SHA-256 twice over the UTF-16LE text without NUL.
    #[must_use]
    pub fn user_key(&self) -> Key256 {
        let units: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.0.encode_utf16().flat_map(u16::to_le_bytes).collect());
        Key256::new(sha256(&sha256(&units)))
    }
}

/// Something that may open a volume.
#[non_exhaustive]
pub enum Credential {
    /// 48 digits.
    RecoveryPassword(RecoveryPassword),
    /// A password.
    Password(Password),
    /// The key of a BEK file.
    ExternalKey(ExternalKey),
    /// The clear key that the metadata itself holds.
    ClearKey,
}

impl Credential {
    /// Returns the name used in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecoveryPassword(_) => "recovery password",
            Self::Password(_) => "password",
            Self::ExternalKey(_) => "recovery key (BEK)",
            Self::ClearKey => "clear key",
        }
    }

    /// Tells whether the credential belongs to the kind of the protector.
    fn fits(&self, protector: &Protector) -> bool {
        let stretches = |key_type, protection| {
            protector.protection == protection
                || (protector.protection.name() == "unknown"
                    && protector.stretch.as_ref().is_some_and(|stretch| stretch.key_type == key_type))
        };
        match self {
            Self::RecoveryPassword(_) => {
                stretches(KeyType::STRETCH_RECOVERY, ProtectionType::RECOVERY_PASSWORD)
            }
            Self::Password(_) => stretches(KeyType::STRETCH_PASSWORD, ProtectionType::PASSWORD),
            Self::ExternalKey(_) => protector.protection == ProtectionType::EXTERNAL_KEY,
            Self::ClearKey => protector.protection == ProtectionType::CLEAR_KEY,
        }
    }
}

/// Why a credential did not open one BitLocker protector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptFailure {
    /// The credential is not the one of this protector.
    #[error("wrong key")]
    WrongKey,
    /// The protector derives its key with PBKDF2 (FIPS), which is not supported: the credential may be right.
    #[error("not tried: its key derivation is PBKDF2 (FIPS, flags {flags:#06x}), which is not supported")]
    UnsupportedKdf {
        /// Key flags.
        flags: u16,
    },
    /// The protector lacks a part that is needed.
    #[error("not tried: the metadata lacks its {what}")]
    Incomplete {
        /// The missing part.
        what: &'static str,
    },
    /// The box opened, but holds no volume master key.
    #[error("opened, but damaged: {0}")]
    Content(Corruption),
}

/// Outcome of a failed attempt on one protector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// The protector.
    pub protector: Guid,
    /// Why it did not open.
    pub failure: AttemptFailure,
}

/// An opened BitLocker protector: the proof level *key*.
pub struct Unlocked {
    /// The protector that opened.
    pub protector: Guid,
    /// The volume master key.
    pub vmk: Vmk,
}

/// One protector to try a credential on. Independent of all others, so several can run on several cores.
pub struct Attempt<'a> {
    protector: &'a Protector,
    credential: &'a Credential,
}

impl Attempt<'_> {
    /// Returns the id of the protector.
    #[must_use]
    pub fn protector(&self) -> Guid {
        self.protector.id
    }

    /// Tries the credential: about a tenth of a second for passwords, microseconds for keys.
    ///
    /// # Errors
    /// The [`AttemptReport`] of this protector.
    pub fn run(&self) -> Result<Unlocked, AttemptReport> {
        let protector = self.protector.id;
        self.vmk()
            .map(|vmk| Unlocked { protector, vmk })
            .map_err(|failure| AttemptReport { protector, failure })
    }

    fn vmk(&self) -> Result<Vmk, AttemptFailure> {
        let sealed = self.protector.vmk.as_ref().ok_or(AttemptFailure::Incomplete { what: "sealed VMK" })?;
        match self.credential {
            Credential::RecoveryPassword(password) => {
                open_vmk(sealed, &self.stretched(&password.user_key())?)
            }
            Credential::Password(password) => open_vmk(sealed, &self.stretched(&password.user_key())?),
            Credential::ExternalKey(external) => open_vmk(sealed, &external.key),
            Credential::ClearKey => {
                let key =
                    self.protector.clear_key().ok_or(AttemptFailure::Incomplete { what: "clear key" })?;
                open_vmk(sealed, key)
            }
        }
    }

    fn stretched(&self, user_key: &Key256) -> Result<Key256, AttemptFailure> {
        let parameters =
            self.protector.stretch.as_ref().ok_or(AttemptFailure::Incomplete { what: "salt" })?;
        if parameters.is_pbkdf2() {
            return Err(AttemptFailure::UnsupportedKdf { flags: parameters.flags });
        }
        Ok(stretch(user_key, &parameters.salt))
    }
}

/// Opens a VMK box with the key of a protector.
fn open_vmk(sealed: &SealedBox, key: &Key256) -> Result<Vmk, AttemptFailure> {
    let value = sealed.open(key).map_err(|failure| match failure {
        OpenFailure::WrongKey => AttemptFailure::WrongKey,
        OpenFailure::Content(corruption) => AttemptFailure::Content(corruption),
    })?;
    Key256::from_slice(value.bytes.expose())
        .map(Vmk)
        .ok_or(AttemptFailure::Content(Corruption::BoxContent { what: "a key of another length" }))
}

/// The volume key (FVEK), wiped when dropped.
pub struct VolumeKey {
    /// Encryption method, as sealed with the key.
    pub method: EncryptionMethod,
    bytes: SecretBytes,
}

impl VolumeKey {
    /// Wraps a volume key obtained elsewhere.
    #[must_use]
    pub fn new(method: EncryptionMethod, bytes: Vec<u8>) -> Self {
        Self { method, bytes: SecretBytes::new(bytes) }
    }

    /// Reveals the key bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }
}

/// Lists the protectors a credential may open: the one named `first` (by escrow, or by the BEK file itself) first,
/// then all others of the kind.
pub(crate) fn attempts<'a>(
    protectors: &'a [Protector],
    credential: &'a Credential,
    first: Option<Guid>,
) -> Result<Vec<Attempt<'a>>, Error> {
    let first = match credential {
        Credential::ExternalKey(external) => Some(external.id),
        _ => first,
    };
    if let Credential::ExternalKey(external) = credential
        && let Some(named) = protectors.iter().find(|protector| protector.id == external.id)
        && !credential.fits(named)
    {
        return Err(Error::WrongCredentialKind {
            id: named.id,
            protection: named.protection,
            credential: credential.name(),
        });
    }
    let mut found: Vec<Attempt<'a>> = protectors
        .iter()
        .filter(|protector| credential.fits(protector))
        .map(|protector| Attempt { protector, credential })
        .collect();
    found.sort_by_key(|attempt| Some(attempt.protector.id) != first);
    if found.is_empty() {
        return Err(Error::NoMatchingProtector {
            wanted: credential.name(),
            present: protectors.iter().map(Protector::summary).collect(),
        });
    }
    Ok(found)
}

/// Runs attempts one after the other until one opens.
pub(crate) fn run_all(attempts: &[Attempt<'_>], credential: &Credential) -> Result<Unlocked, Error> {
    let mut reports = Vec::new();
    for attempt in attempts {
        match attempt.run() {
            Ok(unlocked) => return Ok(unlocked),
            Err(report) => reports.push(report),
        }
    }
    Err(Error::NotOpened { credential: credential.name(), attempts: reports })
}

/// Opens the volume key among sealed ones.
pub(crate) fn open_volume_key(
    sealed: &[SealedBox],
    method: EncryptionMethod,
    vmk: &Vmk,
) -> Result<VolumeKey, Error> {
    if sealed.is_empty() {
        return Err(Error::NoVolumeKey { method });
    }
    let value =
        sealed.iter().find_map(|sealed| sealed.open(vmk.key()).ok()).ok_or(Error::VolumeKeyNotOpened)?;
    // The method inside the box is authenticated, the one in the header only by the validation.
    let inside = EncryptionMethod(value.key_type.0);
    let method = if inside.name() == "unknown" { method } else { inside };
    Ok(VolumeKey { method, bytes: value.bytes })
}

impl Metadata {
    /// Lists the BitLocker protectors to try a credential on; the one with the id `first` comes first.
    ///
    /// # Errors
    /// [`Error::NoMatchingProtector`] when there is none of the kind, [`Error::WrongCredentialKind`] when a BEK file
    /// names a protector that needs more than it (a TPM).
    pub fn attempts<'a>(
        &'a self,
        credential: &'a Credential,
        first: Option<Guid>,
    ) -> Result<Vec<Attempt<'a>>, Error> {
        attempts(self.protectors(), credential, first)
    }

    /// Tries a credential on every protector of its kind, one after the other.
    ///
    /// # Errors
    /// As [`Metadata::attempts`]; [`Error::NotOpened`] with the outcome for each protector.
    pub fn unlock(&self, credential: &Credential) -> Result<Unlocked, Error> {
        run_all(&self.attempts(credential, None)?, credential)
    }

    /// Opens the volume key.
    ///
    /// # Errors
    /// [`Error::HardwareEncrypted`], [`Error::NoVolumeKey`] or [`Error::VolumeKeyNotOpened`].
    pub fn volume_key(&self, vmk: &Vmk) -> Result<VolumeKey, Error> {
        if self.is_hardware_encrypted() {
            return Err(Error::HardwareEncrypted);
        }
        open_volume_key(self.volume_keys(), self.method, vmk)
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({} on {})", self.credential.name(), self.protector.id)
    }
}
