//! Secrets: keys and decrypted content that never print, never copy and are wiped when dropped.
//!
//! Deliberately without Debug, Display, Clone and comparison operators; reading the bytes takes a named call.

use alloc::vec::Vec;

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::layout::KEY_BYTES;

/// Datastore key: opens the metadata key, and with it every file of an encrypted store. Wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct DatastoreKey([u8; KEY_BYTES]);

impl DatastoreKey {
    /// Wraps the bytes of a key.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Wraps a slice of exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Decrypted content of a file, wiped when dropped.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Reveals the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
