//! Key packages: sealed keys exported beside a recovery password (`.KPG`, `msFVE-KeyPackage`).
//!
//! The way in when all three metadata copies of a volume are destroyed: package and recovery password give the
//! volume key.
//!
//! Deliberately accepts two forms, a bare dataset and a dataset behind an information header: no sample was seen, the
//! layout is unverified (FORMAT.md 8).

use core::mem::size_of;

use crate::dataset::Dataset;
use crate::datum::{DatumType, Role};
use crate::error::{Corruption, Error};
use crate::guid::Guid;
use crate::layout::{FVE_SIGNATURE, RawInformation};
use crate::metadata::EncryptionMethod;
use crate::protector::Protector;
use crate::unlock::{self, Attempt, Credential, Unlocked, VolumeKey};
use crate::values::SealedBox;
use alloc::vec::Vec;

/// A parsed key package.
pub struct KeyPackage {
    /// Volume id.
    pub volume_id: Guid,
    /// Encryption method.
    pub method: EncryptionMethod,
    protectors: Vec<Protector>,
    volume_keys: Vec<SealedBox>,
}

impl KeyPackage {
    /// Parses a key package.
    ///
    /// # Errors
    /// [`Corruption`] when the dataset is damaged or holds no sealed volume key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corruption> {
        let dataset = match bytes.strip_prefix(&FVE_SIGNATURE) {
            Some(rest) => rest.get(size_of::<RawInformation>() - FVE_SIGNATURE.len()..).unwrap_or_default(),
            None => bytes,
        };
        let dataset = Dataset::parse(dataset)?;
        let protectors = dataset.datums.iter().filter(|datum| datum.datum_type == DatumType::VMK_INFO);
        let volume_keys = dataset
            .datums
            .iter()
            .filter(|datum| datum.role == Role::FVEK && datum.datum_type == DatumType::SEALED_BOX);
        let package = Self {
            volume_id: dataset.id,
            method: dataset.method,
            protectors: protectors.map(Protector::parse).collect::<Result<_, _>>()?,
            volume_keys: volume_keys.map(|datum| SealedBox::parse(datum.body())).collect::<Result<_, _>>()?,
        };
        if package.protectors.is_empty() || package.volume_keys.is_empty() {
            return Err(Corruption::NoSealedKey);
        }
        Ok(package)
    }

    /// Returns the BitLocker protectors in the package.
    #[must_use]
    pub fn protectors(&self) -> &[Protector] {
        &self.protectors
    }

    /// Lists the protectors to try a credential on.
    ///
    /// # Errors
    /// [`Error::NoMatchingProtector`].
    pub fn attempts<'a>(&'a self, credential: &'a Credential) -> Result<Vec<Attempt<'a>>, Error> {
        unlock::attempts(&self.protectors, credential, None)
    }

    /// Opens the package and returns what opened and the volume key.
    ///
    /// # Errors
    /// As [`crate::Metadata::unlock`] and [`crate::Metadata::volume_key`].
    pub fn unlock(&self, credential: &Credential) -> Result<(Unlocked, VolumeKey), Error> {
        let unlocked = unlock::run_all(&self.attempts(credential)?, credential)?;
        let key = unlock::open_volume_key(&self.volume_keys, self.method, &unlocked.vmk)?;
        Ok((unlocked, key))
    }
}
