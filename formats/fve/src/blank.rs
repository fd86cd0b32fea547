//! Metadata for those who may not read the disk: a region in which every plain key is blanked.
//!
//! While BitLocker is suspended, or converts a volume, a clear key stands in the metadata: whoever holds the bytes reads
//! the disk. A backup keeps the whole region like a recovery secret, and this copy of it for everyone else. The copy
//! parses as before: ids, BitLocker protectors, sealed boxes and offsets are the region's own; its CRC is made anew, and its
//! validation box no longer fits it.
//!
//! Deliberately blanks more than it must: remnants outside of every structure may be an older clear key. What does not
//! parse is no business of this module: nobody can tell what stands in it.

use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::Range;

use zerocopy::FromBytes;

use crate::datum::{Datum, DatumType, Role};
use crate::error::Corruption;
use crate::layout::{
    KEY_BYTES, RawDataset, RawDatum, RawExternalInfo, RawInformation, RawKey, RawSealedBox, RawStretchKey,
    RawValidation, RawVmkInfo, VERSION_VISTA,
};
use crate::metadata::Metadata;
use crate::protector::ProtectionType;
use crate::values::KeyType;

/// Deepest nesting of datums: a box inside a stretch key inside a BitLocker protector.
const MAX_DEPTH: usize = 4;
/// Smallest box that can hold a volume master key: nonce, tag, and a KEY datum. A smaller one is none.
const MIN_VMK_BOX_BYTES: usize =
    size_of::<RawSealedBox>() + size_of::<RawDatum>() + size_of::<RawKey>() + KEY_BYTES;

/// A metadata region without plain keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlankedRegion {
    /// The region: as long as the original, equal to it where nothing was blanked.
    pub bytes: Vec<u8>,
    /// Datums whose content was blanked: clear keys, and what cannot be told from one.
    pub keys: usize,
    /// Whether bytes that belong to no structure were not zero, and were blanked too.
    pub has_remnants: bool,
}

impl BlankedRegion {
    /// Blanks a region of one metadata copy. It may be cut behind the validation.
    ///
    /// # Errors
    /// [`Corruption`] when the region does not parse: then all of it must be kept secret.
    pub fn of(region: &[u8]) -> Result<Self, Corruption> {
        let metadata = Metadata::parse(region)?;
        let mut blanked = Self { bytes: region.to_vec(), keys: 0, has_remnants: false };
        let (first, end) = blanked.datums()?;
        blanked.blank_list(first..end, Place::Top, 0);
        let information_end = metadata.information().len();
        blanked.blank_remnants(size_of::<RawInformation>() + size_of::<RawDataset>()..first);
        blanked.blank_remnants(end..information_end);
        let validation_end = information_end + size_of::<RawValidation>();
        let proof_end = validation_end + proof_bytes(metadata.version, &region[validation_end..]);
        blanked.blank_remnants(proof_end..region.len());
        if blanked.is_changed() {
            let crc32 = crc32fast::hash(&blanked.bytes[..information_end]);
            // Last field of the validation header.
            blanked.bytes[validation_end - size_of::<u32>()..validation_end]
                .copy_from_slice(&crc32.to_le_bytes());
        }
        Ok(blanked)
    }

    /// Tells whether anything was blanked, so that the original is a secret.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.keys > 0 || self.has_remnants
    }

    /// The range of the datums; the region parsed, so that both ends lie inside.
    fn datums(&self) -> Result<(usize, usize), Corruption> {
        let header = size_of::<RawInformation>();
        let rest = self.bytes.get(header..).unwrap_or_default();
        let (raw, _) = RawDataset::read_from_prefix(rest).map_err(|_| Corruption::Truncated {
            what: "dataset",
            need: size_of::<RawDataset>(),
            have: rest.len(),
        })?;
        Ok((header + raw.start.get() as usize, header + raw.end.get() as usize))
    }

    /// Walks a list of datums and blanks keys in it. A list that breaks off is blanked from there on.
    fn blank_list(&mut self, range: Range<usize>, place: Place, depth: usize) {
        let mut at = range.start;
        while at < range.end && self.bytes[at..range.end].iter().any(|&byte| byte != 0) {
            let parsed = Datum::parse(&self.bytes[at..range.end]).map(|(datum, _)| datum);
            let Ok(datum) = parsed else { return self.blank_key(at..range.end) };
            let (body, next) = (at + size_of::<RawDatum>(), at + datum.encoded_bytes());
            self.blank_datum(&datum, body..next, place, depth);
            at = next;
        }
    }

    fn blank_datum(&mut self, datum: &Datum, body: Range<usize>, place: Place, depth: usize) {
        let fixed = match datum.datum_type {
            DatumType::KEY => {
                let key_type = datum.body().first_chunk().map(|bytes| KeyType(u16::from_le_bytes(*bytes)));
                // The hash of a decrypted volume's metadata is no key, but it stands at the top only.
                if place == Place::Top && key_type == Some(KeyType::HASH) {
                    return;
                }
                // Type and flags stay, so that a reader sees what stood here.
                return self.blank_key((body.start + size_of::<RawKey>()).min(body.end)..body.end);
            }
            // What was erased may still stand there, and nobody asks for it.
            DatumType::ERASED => return self.blank_key(body),
            DatumType::VMK_INFO => size_of::<RawVmkInfo>(),
            DatumType::STRETCH_KEY => size_of::<RawStretchKey>(),
            DatumType::USE_KEY => size_of::<RawKey>(),
            DatumType::EXTERNAL_INFO => size_of::<RawExternalInfo>(),
            DatumType::SEALED_BOX if datum.body().len() >= MIN_VMK_BOX_BYTES => return,
            // In a clear-key protector only a box is known to be harmless.
            _ if place == Place::ClearKeyProtector => return self.blank_key(body),
            _ => return,
        };
        if depth >= MAX_DEPTH || body.len() < fixed {
            return self.blank_key(body);
        }
        let inside = match (datum.datum_type, datum.body().get(fixed - 2..fixed)) {
            (DatumType::VMK_INFO, Some(&[low, high]))
                if ProtectionType(u16::from_le_bytes([low, high])) == ProtectionType::CLEAR_KEY =>
            {
                Place::ClearKeyProtector
            }
            _ if place == Place::ClearKeyProtector => place,
            _ => Place::Nested,
        };
        self.blank_list(body.start + fixed..body.end, inside, depth + 1);
    }

    fn blank_key(&mut self, range: Range<usize>) {
        if self.bytes[range.clone()].iter().any(|&byte| byte != 0) {
            self.bytes[range].fill(0);
            self.keys += 1;
        }
    }

    fn blank_remnants(&mut self, range: Range<usize>) {
        if range.start < range.end && self.bytes[range.clone()].iter().any(|&byte| byte != 0) {
            self.bytes[range].fill(0);
            self.has_remnants = true;
        }
    }
}

/// Where a datum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    ClearKeyProtector,
    Nested,
}

/// Size of the validation datum, if it is one: a box, or the hash in clear.
fn proof_bytes(version: u16, behind: &[u8]) -> usize {
    if version == VERSION_VISTA {
        return 0;
    }
    let Ok((datum, _)) = Datum::parse(behind) else { return 0 };
    let is_hash = || {
        datum.body().len() == size_of::<RawKey>() + KEY_BYTES
            && datum.body().first_chunk().map(|bytes| KeyType(u16::from_le_bytes(*bytes)))
                == Some(KeyType::HASH)
    };
    let is_proof = match datum.datum_type {
        DatumType::SEALED_BOX => datum.body().len() == MIN_VMK_BOX_BYTES,
        DatumType::KEY => is_hash(),
        _ => false,
    };
    if is_proof && matches!(datum.role, Role::PROPERTY | Role::VALIDATION | Role::VALIDATION_HASH) {
        datum.encoded_bytes()
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
