//! AES-256-CCM boxes: opening and sealing keys with keys.
//!
//! Each link of the key chain (`unlock.rs`) and each read-back (`read_back.rs`) is one box.
//!
//! Deliberately knows no chain: a box is opened with the key it is given.

use alloc::vec::Vec;

use aes::Aes256;
use ccm::aead::generic_array::GenericArray;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U12, U16};
use zeroize::Zeroizing;

use crate::datum::{Datum, DatumType};
use crate::error::Corruption;
use crate::layout::{MAC_BYTES, NONCE_BYTES};
use crate::secret::Key256;
use crate::values::{KeyValue, SealedBox};

type FveCcm = ccm::Ccm<Aes256, U16, U12>;

/// Why a box gave no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The tag does not match: this is not the key of the box, or the box is damaged.
    WrongKey,
    /// The tag matches but the content is no key datum.
    Content(Corruption),
}

impl SealedBox {
    /// Opens the box and returns the key inside.
    ///
    /// # Errors
    /// [`OpenFailure::WrongKey`] when the tag does not match.
    pub fn open(&self, key: &Key256) -> Result<KeyValue, OpenFailure> {
        let cipher = FveCcm::new(GenericArray::from_slice(key.expose()));
        let mut plaintext = Zeroizing::new(self.ciphertext.clone());
        cipher
            .decrypt_in_place_detached(
                GenericArray::from_slice(&self.nonce),
                &[],
                &mut plaintext,
                GenericArray::from_slice(&self.mac),
            )
            .map_err(|_| OpenFailure::WrongKey)?;
        let (datum, _) = Datum::parse(&plaintext).map_err(OpenFailure::Content)?;
        if datum.datum_type != DatumType::KEY {
            return Err(OpenFailure::Content(Corruption::BoxContent { what: "another datum" }));
        }
        KeyValue::parse(datum.body()).map_err(OpenFailure::Content)
    }

    /// Seals a plaintext datum. The pair of key and nonce must never have been used before.
    #[must_use]
    pub fn seal(key: &Key256, nonce: [u8; NONCE_BYTES], plaintext: &[u8]) -> Self {
        let cipher = FveCcm::new(GenericArray::from_slice(key.expose()));
        let mut ciphertext: Vec<u8> = plaintext.to_vec();
        let mac = cipher
            .encrypt_in_place_detached(GenericArray::from_slice(&nonce), &[], &mut ciphertext)
            .expect("a 12-byte nonce leaves 24 bits for the length, a datum has at most 65535 bytes");
        let mut tag = [0; MAC_BYTES];
        tag.copy_from_slice(&mac);
        Self { nonce, mac: tag, ciphertext }
    }
}
