//! Suspension on paper: metadata with a clear-key protector added, as Windows writes it for one boot.
//!
//! For machines without a console: laid over the metadata copies of an overlay or a copy of the disk, the volume
//! boots without asking. Whoever holds that overlay can read the disk until protection is resumed.
//!
//! Deliberately produces bytes only, and keeps every datum of the original as it stands. Not yet booted by Windows.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::datum::{Datum, DatumType, Role};
use crate::error::Error;
use crate::guid::{FileTime, Guid};
use crate::layout::{METADATA_REGION_BYTES, VERSION_VISTA};
use crate::metadata::Metadata;
use crate::protector::ProtectionType;
use crate::secret::{Key256, Vmk};
use crate::values::KeyType;
use crate::write::{self, DatasetHeader, InformationHeader, NonceSequence, Validate};

/// A metadata region with a clear key, to be written at each offset. It holds the clear key: a secret.
pub struct SuspendedCopy {
    /// Where the region belongs.
    pub offsets: [u64; 3],
    /// The bytes of the region, the same for each copy.
    pub region: Zeroizing<Vec<u8>>,
}

/// Flags of a clear-key VMK datum (Windows 10 and 11).
const CLEAR_KEY_FLAGS: u16 = 3;

impl Metadata {
    /// Encodes this metadata with an added clear-key protector (FORMAT.md 3.5).
    ///
    /// `clear_key` and `id` must be fresh random values; `now` goes into nonces and the protector's date.
    ///
    /// # Errors
    /// [`Error::RegionFull`] when the region has no room for 160 more bytes; [`Error::Corrupt`] for Vista metadata,
    /// whose clear-key form is unverified.
    pub fn suspended(
        &self,
        vmk: &Vmk,
        clear_key: &Key256,
        id: Guid,
        now: FileTime,
    ) -> Result<SuspendedCopy, Error> {
        if self.version == VERSION_VISTA {
            let corruption = crate::Corruption::Version { what: "metadata to suspend", version: 1 };
            return Err(Error::Corrupt(corruption));
        }
        let mut nonces = NonceSequence { time: now, next: self.next_nonce };
        let mut datums = Zeroizing::new(Vec::new());
        for datum in self.datums() {
            datums.extend_from_slice(&encode(datum));
        }
        let sealed = nonces.seal_key(clear_key, KeyType::VMK, vmk.key().expose());
        let key = Zeroizing::new(write::key_datum(Role::PROPERTY, KeyType::CLEAR, clear_key.expose()));
        let properties =
            Zeroizing::new([key.as_slice(), &write::box_datum(Role::PROPERTY, &sealed)].concat());
        let protector =
            Zeroizing::new(vmk_info(id, now, ProtectionType::CLEAR_KEY, CLEAR_KEY_FLAGS, &properties));
        datums.extend_from_slice(&protector);
        let validation_nonce = nonces.take();
        let dataset = Zeroizing::new(
            DatasetHeader {
                id: self.volume_id,
                next_nonce: nonces.next,
                method: self.method,
                method_copy: self.method,
                created: self.created,
            }
            .encode(&datums),
        );
        let header = InformationHeader {
            version: self.version,
            current_state: self.current_state,
            next_state: self.next_state,
            state_offset: self.state_offset,
            state_size_bytes: self.state_size_bytes,
            virtualized_sectors: self.virtualized_sectors,
            metadata_offsets: self.metadata_offsets,
            virtualized_block: self.virtualized_block,
        };
        let region = header.encode(
            &dataset,
            METADATA_REGION_BYTES as usize,
            Validate::Sealed(vmk.key(), validation_nonce),
        )?;
        Ok(SuspendedCopy { offsets: self.metadata_offsets, region: Zeroizing::new(region) })
    }
}

/// Encodes a datum as it stands.
fn encode(datum: &Datum) -> Vec<u8> {
    write::datum_with_flags(datum.role, datum.datum_type, datum.flags, datum.body())
}

/// Encodes a VMK info datum.
pub(crate) fn vmk_info(
    id: Guid,
    modified: FileTime,
    protection: ProtectionType,
    flags: u16,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(28 + properties.len());
    body.extend_from_slice(&id.0);
    body.extend_from_slice(&modified.0.to_le_bytes());
    body.extend_from_slice(&0u16.to_le_bytes());
    body.extend_from_slice(&protection.0.to_le_bytes());
    body.extend_from_slice(properties);
    let datum = write::datum_with_flags(Role::VMK_INFO, DatumType::VMK_INFO, flags, &body);
    zeroize::Zeroize::zeroize(&mut body);
    datum
}
