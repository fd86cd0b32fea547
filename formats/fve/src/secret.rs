//! Secrets: bytes that never print, never copy and are wiped when dropped.
//!
//! Every key on the chain from a credential to the volume key is one of these types.
//!
//! Deliberately without Debug, Display, Clone and comparison operators; reading the bytes takes a named call.

use alloc::vec::Vec;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::layout::KEY_BYTES;

/// A 256-bit key on the way to the volume key, wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key256([u8; KEY_BYTES]);

impl Key256 {
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

    /// Reveals the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Compares in time that does not depend on where the keys differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0u8, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// The volume master key: opens the volume key, the validation and every read-back box.
#[derive(ZeroizeOnDrop)]
pub struct Vmk(pub(crate) Key256);

impl Vmk {
    /// Wraps a volume master key obtained elsewhere.
    #[must_use]
    pub fn new(key: Key256) -> Self {
        Self(key)
    }

    /// Reveals the key.
    #[must_use]
    pub fn key(&self) -> &Key256 {
        &self.0
    }
}

/// Bytes that may hold a secret, wiped when dropped.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Wraps bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reveals the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
