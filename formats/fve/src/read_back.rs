//! Read-back: one unlock reveals the other credentials of the volume.
//!
//! Every BitLocker protector keeps a copy of its own secret, sealed with the VMK (FORMAT.md 5).
//!
//! Deliberately answers for every protector: what cannot be read back is listed with the reason.

use alloc::vec::Vec;

use crate::bek::ExternalKey;
use crate::guid::Guid;
use crate::metadata::Metadata;
use crate::protector::{ProtectionType, Protector, ProtectorSummary};
use crate::recovery_password::RecoveryPassword;
use crate::secret::{Key256, Vmk};
use crate::values::{KeyType, SealedBox};

/// A secret read back from the metadata.
#[non_exhaustive]
pub enum ReadBackSecret {
    /// The 48 digits of a recovery protector.
    RecoveryPassword(RecoveryPassword),
    /// The key of a BEK file, which can be written anew.
    ExternalKey(ExternalKey),
    /// The stretched key of a password protector; the password itself is not kept.
    StretchedPassword(Key256),
    /// The intermediate key of a public-key protector.
    IntermediateKey(Key256),
}

/// Why a protector gives nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBackFailure {
    /// The protector keeps no copy of its secret (TPM, clear key, unknown).
    #[error("this kind of BitLocker protector keeps no copy of its secret")]
    NotKept,
    /// The copy does not open with the VMK.
    #[error("the kept copy does not open with the volume master key")]
    NotOpened,
    /// The copy opens but has not the form it must have.
    #[error("the kept copy is damaged")]
    Damaged,
}

/// What one protector gave back.
pub struct ReadBack {
    /// The protector.
    pub protector: ProtectorSummary,
    /// Its secret.
    pub outcome: Result<ReadBackSecret, ReadBackFailure>,
}

impl Metadata {
    /// Reads the secrets of all BitLocker protectors back, in disk order.
    #[must_use]
    pub fn read_back(&self, vmk: &Vmk) -> Vec<ReadBack> {
        self.protectors()
            .iter()
            .map(|protector| ReadBack { protector: protector.summary(), outcome: read_back(protector, vmk) })
            .collect()
    }

    /// Finds the recovery protectors that a password belongs to, without stretching.
    #[must_use]
    pub fn confirm(&self, vmk: &Vmk, password: &RecoveryPassword) -> Vec<Guid> {
        self.read_back(vmk)
            .into_iter()
            .filter(|entry| {
                matches!(&entry.outcome, Ok(ReadBackSecret::RecoveryPassword(kept)) if kept.same_as(password))
            })
            .map(|entry| entry.protector.id)
            .collect()
    }
}

fn read_back(protector: &Protector, vmk: &Vmk) -> Result<ReadBackSecret, ReadBackFailure> {
    match protector.protection {
        ProtectionType::RECOVERY_PASSWORD => {
            let stretch = protector.stretch.as_ref().ok_or(ReadBackFailure::NotKept)?;
            let sealed = stretch.stored_recovery_key.as_ref().or(stretch.stored.as_ref());
            let (key_type, bytes) = open(sealed, vmk)?;
            let key = bytes.expose().try_into().map_err(|_| ReadBackFailure::Damaged)?;
            if key_type != KeyType::STRETCH_RECOVERY {
                return Err(ReadBackFailure::Damaged);
            }
            Ok(ReadBackSecret::RecoveryPassword(RecoveryPassword::from_recovery_key(key)))
        }
        ProtectionType::EXTERNAL_KEY => {
            let key = open_key(protector.use_key.as_ref().and_then(|key| key.stored.as_ref()), vmk)?;
            Ok(ReadBackSecret::ExternalKey(ExternalKey {
                id: protector.id,
                created: protector.modified,
                saved: protector.modified,
                volume_id: None,
                key,
            }))
        }
        ProtectionType::PASSWORD => {
            let sealed = protector.stretch.as_ref().and_then(|stretch| stretch.stored.as_ref());
            open_key(sealed, vmk).map(ReadBackSecret::StretchedPassword)
        }
        ProtectionType::PUBLIC_KEY => {
            let sealed = protector.use_key.as_ref().and_then(|key| key.stored.as_ref());
            open_key(sealed, vmk).map(ReadBackSecret::IntermediateKey)
        }
        _ => Err(ReadBackFailure::NotKept),
    }
}

fn open(
    sealed: Option<&SealedBox>,
    vmk: &Vmk,
) -> Result<(KeyType, crate::secret::SecretBytes), ReadBackFailure> {
    let key =
        sealed.ok_or(ReadBackFailure::NotKept)?.open(vmk.key()).map_err(|_| ReadBackFailure::NotOpened)?;
    Ok((key.key_type, key.bytes))
}

fn open_key(sealed: Option<&SealedBox>, vmk: &Vmk) -> Result<Key256, ReadBackFailure> {
    Key256::from_slice(open(sealed, vmk)?.1.expose()).ok_or(ReadBackFailure::Damaged)
}
