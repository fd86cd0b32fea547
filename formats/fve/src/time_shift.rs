//! Time-shifted unlock: an old key with the metadata of its time, on the disk of today.
//!
//! A BitLocker protector comes and goes, the volume key stays until the volume is decrypted and encrypted anew. So a
//! recovery secret that fitted any captured generation of the metadata may still open the disk.
//!
//! Deliberately accepts nothing on the word of the old metadata: the volume key counts only when it opens a known
//! sector of this disk.

use crate::authenticate::Authentication;
use crate::error::Error;
use crate::metadata::Metadata;
use crate::proof::DataProof;
use crate::unlock::{Credential, Unlocked, VolumeKey};
use crate::volume::{ReadAt, Volume};

/// A disk opened through captured metadata of another time.
pub struct TimeShifted {
    /// The protector that opened, and the volume master key of that time.
    pub unlocked: Unlocked,
    /// The volume key, proved on this disk.
    pub volume_key: VolumeKey,
    /// The sector that proves it.
    pub proof: DataProof,
    /// Whether the captured metadata is genuine.
    pub captured_authentication: Authentication,
    /// Whether that volume master key still opens the metadata on this disk, so that read-back gives today's secrets.
    pub vmk_is_current: bool,
}

impl<R: ReadAt> Volume<R> {
    /// Opens this disk with a credential that fits a captured generation of its metadata.
    ///
    /// The map of the disk comes from its own metadata, the volume key from the captured one.
    ///
    /// # Errors
    /// As [`Metadata::unlock`] on the captured metadata; [`Error::NotProvenOnData`] when the volume key of that time
    /// does not open this disk.
    pub fn unlock_with_generation(
        &self,
        captured: &Metadata,
        credential: &Credential,
    ) -> Result<TimeShifted, Error> {
        let unlocked = captured.unlock(credential)?;
        let volume_key = captured.volume_key(&unlocked.vmk)?;
        let proof = self.decrypt(self.metadata(), Some(&volume_key))?.prove()?;
        Ok(TimeShifted {
            captured_authentication: captured.authenticate(&unlocked.vmk),
            vmk_is_current: self.metadata().volume_key(&unlocked.vmk).is_ok(),
            unlocked,
            volume_key,
            proof,
        })
    }
}
