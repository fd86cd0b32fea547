//! Opening the transport key with a private key.
//!
//! The transport key is decrypted and then made to prove itself: it must verify its own signature over the
//! wrappings. That self-test is what shows, on a document never seen before, that the algorithms of the registry
//! are those of the document.
//!
//! A transport key that does not pass is not handed out.

use rsa::rand_core::CryptoRng;

use crate::algorithm::{AlgorithmRegistry, Evidence};
use crate::error::Error;
use crate::keys::{PrivateKey, TransportKey};
use crate::protector::{KeyProtector, Wrapping, WrappingId};
use crate::verify::Check;

/// A transport key that passed its self-test.
pub struct UnwrappedTransportKey {
    /// The key.
    pub transport_key: TransportKey,
    /// The wrapping that was opened.
    pub wrapping_id: WrappingId,
    /// The weakest evidence of the algorithms used. Below [`Evidence::Confirmed`] this proves that the document
    /// is consistent, not that Windows would say so.
    pub evidence: Evidence,
}

impl KeyProtector {
    /// Finds the wrapping that is addressed to an encryption key.
    #[must_use]
    pub fn wrapping_for(&self, encryption_key: &PrivateKey) -> Option<&Wrapping> {
        self.wrappings().iter().find(|wrapping| encryption_key.belongs_to(&wrapping.encryption_certificate))
    }

    /// Opens the transport key with an owner's or guardian's encryption key and lets it prove itself.
    ///
    /// `rng` blinds the private operation.
    ///
    /// # Errors
    /// [`Error::NotAddressed`]; [`Error::UnknownAlgorithm`], [`Error::ParametersNotUnderstood`] or
    /// [`Error::Canonicalization`] if the self-test cannot be made; [`Error::Decryption`]; [`Error::SelfTest`].
    pub fn unwrap_transport_key<R: CryptoRng + ?Sized>(
        &self,
        encryption_key: &PrivateKey,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<UnwrappedTransportKey, Error> {
        let wrapping = self.wrapping_for(encryption_key).ok_or(Error::NotAddressed)?;
        // Everything that must be known is looked up before the private key is used.
        let transport = registry.key_transport(&wrapping.transport_key.algorithm)?;
        let signature = self.transport_key_signature();
        registry.key_derivation(&signature.key_derivation_method)?;
        registry.mac(&signature.signature.algorithm)?;
        self.signed_bytes()?;

        let cipher_value = &wrapping.transport_key.cipher_value;
        let plaintext = transport
            .scheme
            .decrypt(&encryption_key.0, cipher_value, rng)
            .ok_or(Error::Decryption { id: wrapping.id })?;
        let transport_key = TransportKey::new(plaintext)?;
        match self.verify_transport_key_signature(registry, &transport_key) {
            Check::Valid { evidence } => Ok(UnwrappedTransportKey {
                transport_key,
                wrapping_id: wrapping.id,
                evidence: evidence.min(transport.evidence),
            }),
            Check::Invalid | Check::NotChecked(_) => Err(Error::SelfTest),
        }
    }
}
