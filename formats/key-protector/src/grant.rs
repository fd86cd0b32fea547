//! Granting and revoking a guardian with the owner's keys.
//!
//! A grant adds one wrapping, a revocation drops one; both then make the two outer signatures anew. All other
//! text of the document is carried over as it is, so that nothing that was signed is reformatted. The document
//! keeps its own algorithms.
//!
//! Revoking does not change the transport key: whoever had it, or an older key protector, still has it. The
//! supported way on Windows is `Grant-HgsKeyProtectorAccess`; what is made here has not been shown to Windows.

use alloc::format;
use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::rand_core::CryptoRng;

use crate::algorithm::{AlgorithmRegistry, AlgorithmRole};
use crate::error::Error;
use crate::keys::{OwnerKeys, TransportKey};
use crate::layout::{KPS_NAMESPACE, MAX_WRAPPINGS};
use crate::metadata::GuardianMetadata;
use crate::protector::{KeyProtector, Signature, Wrapping, WrappingId};
use crate::write::{WrappingContent, encode_guardian_signature, encode_transport_key_signature};
use crate::xml;

impl KeyProtector {
    /// Adds a guardian: its fabric can then start the VM.
    ///
    /// # Errors
    /// [`Error::NotTheOwner`] if the keys are not those of the one owner; [`Error::AlreadyGranted`];
    /// [`Error::NotVerified`] if a signature of the key protector or of the metadata is not proved valid;
    /// [`Error::Full`]; and everything that [`KeyProtector::unwrap_transport_key`] can answer.
    pub fn grant<R: CryptoRng + ?Sized>(
        &self,
        owner_keys: &OwnerKeys,
        guardian: &GuardianMetadata,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let (owner, transport_key) = self.open_as_owner(owner_keys, registry, rng)?;
        let encryption_certificate = guardian.encryption_certificate();
        if let Some(present) = self
            .wrappings()
            .iter()
            .find(|wrapping| wrapping.encryption_certificate == *encryption_certificate)
        {
            return Err(Error::AlreadyGranted { id: present.id });
        }
        if !guardian.verify(registry).certificates_are_valid() {
            return Err(Error::NotVerified { what: "the guardian's certificates" });
        }
        let highest = self.wrappings().iter().map(|wrapping| wrapping.id.0).max().unwrap_or_default();
        let id =
            highest.checked_add(1).filter(|_| self.wrappings().len() < MAX_WRAPPINGS).ok_or(Error::Full)?;

        let algorithm = &owner.signing_certificate_signature.algorithm;
        let value = registry.signature(algorithm)?.scheme.sign(
            &owner_keys.signing.0,
            guardian.signing_certificate().der(),
            rng,
        )?;
        let key_transport = &owner.transport_key.algorithm;
        let ciphertext = registry.key_transport(key_transport)?.scheme.encrypt(
            &encryption_certificate.public_key()?,
            transport_key.expose(),
            rng,
        )?;
        let content = WrappingContent {
            id: WrappingId(id),
            parent_id: owner.id,
            signing_certificate: guardian.signing_certificate(),
            signing_certificate_signature: &Signature { algorithm: algorithm.clone(), value },
            encryption_certificate,
            // Only the guardian can make this one.
            encryption_certificate_signature: guardian.encryption_certificate_signature(),
            key_transport: &key_transport.uri,
        };
        let (before, after) = content.encode(Some(KPS_NAMESPACE))?;

        let text = self.document.text();
        let end_tag = xml::end_tag_of(text, self.wrappings_range.clone());
        let ciphertext = STANDARD.encode(ciphertext);
        let wrappings = format!(
            "{}{before}{ciphertext}{after}{}",
            &text[self.wrappings_range.start..end_tag],
            &text[end_tag..self.wrappings_range.end],
        );
        self.sign_anew(&wrappings, owner, owner_keys, &transport_key, registry, rng)
    }

    /// Drops a guardian. It keeps what it already opened, and older key protectors keep working for it.
    ///
    /// # Errors
    /// [`Error::NoSuchWrapping`]; [`Error::OwnerCannotBeRevoked`]; [`Error::HasDependants`];
    /// [`Error::NotTheOwner`]; [`Error::NotVerified`]; and everything that
    /// [`KeyProtector::unwrap_transport_key`] can answer.
    pub fn revoke<R: CryptoRng + ?Sized>(
        &self,
        owner_keys: &OwnerKeys,
        id: WrappingId,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let revoked = self.wrapping(id).ok_or(Error::NoSuchWrapping { id })?;
        if revoked.is_owner() {
            return Err(Error::OwnerCannotBeRevoked { id });
        }
        if let Some(child) = self.wrappings().iter().find(|wrapping| wrapping.parent_id == id) {
            return Err(Error::HasDependants { id, child: child.id });
        }
        let (owner, transport_key) = self.open_as_owner(owner_keys, registry, rng)?;
        let text = self.document.text();
        let wrappings = format!(
            "{}{}",
            &text[self.wrappings_range.start..revoked.range.start],
            &text[revoked.range.end..self.wrappings_range.end],
        );
        self.sign_anew(&wrappings, owner, owner_keys, &transport_key, registry, rng)
    }

    /// Proves that the keys are the owner's and that the key protector is whole, and opens the transport key.
    fn open_as_owner<R: CryptoRng + ?Sized>(
        &self,
        owner_keys: &OwnerKeys,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<(&Wrapping, TransportKey), Error> {
        let owner = self.sole_owner()?;
        for (key, certificate, role) in [
            (&owner_keys.signing, &owner.signing_certificate, AlgorithmRole::Signature),
            (&owner_keys.encryption, &owner.encryption_certificate, AlgorithmRole::KeyTransport),
        ] {
            if !key.belongs_to(certificate) {
                return Err(Error::NotTheOwner { role, owner: owner.id });
            }
        }
        let unwrapped = self.unwrap_transport_key(&owner_keys.encryption, registry, rng)?;
        if !self.verify(registry).is_valid_without_transport_key() {
            return Err(Error::NotVerified { what: "a signature of the key protector" });
        }
        Ok((owner, unwrapped.transport_key))
    }

    /// Puts other wrappings into the document, signed by the transport key and the owner.
    fn sign_anew<R: CryptoRng + ?Sized>(
        &self,
        wrappings: &str,
        owner: &Wrapping,
        owner_keys: &OwnerKeys,
        transport_key: &TransportKey,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let old = self.transport_key_signature();
        let derivation = registry.key_derivation(&old.key_derivation_method)?.scheme;
        let mac = registry.mac(&old.signature.algorithm)?.scheme;
        let algorithm = &owner.signing_certificate_signature.algorithm;
        let scheme = registry.signature(algorithm)?.scheme;

        // The signed form depends on the document around the wrappings, so it is taken from the parsed draft.
        let draft_value = alloc::vec![0];
        let mut transport =
            Signature { algorithm: old.signature.algorithm.clone(), value: draft_value.clone() };
        let mut guardian = Signature { algorithm: algorithm.clone(), value: draft_value };
        let draft = self.with(wrappings, owner.id, &transport, &guardian)?;
        let signed = draft.signed_bytes()?;
        transport.value = mac.compute(&derivation.derive(transport_key.expose()), signed);
        guardian.value = scheme.sign(&owner_keys.signing.0, signed, rng)?;
        let done = self.with(wrappings, owner.id, &transport, &guardian)?;

        let verification = done.verify_with(registry, transport_key);
        if done.signed_form != draft.signed_form || !verification.checks().all(crate::verify::Check::is_valid)
        {
            return Err(Error::NotVerified { what: "the new key protector" });
        }
        Ok(done)
    }

    /// The document with other wrappings and signatures, in the same byte form.
    fn with(
        &self,
        wrappings: &str,
        signer: WrappingId,
        transport: &Signature,
        guardian: &Signature,
    ) -> Result<Self, Error> {
        let text = self.document.text();
        let old_transport = &self.transport_key_signature().range;
        let old_guardian = &self.guardian_signature().range;
        let method = &self.transport_key_signature().key_derivation_method;
        let mut new = String::with_capacity(text.len() + wrappings.len());
        new.push_str(&text[..self.wrappings_range.start]);
        new.push_str(wrappings);
        new.push_str(&text[self.wrappings_range.end..old_transport.start]);
        new.push_str(&encode_transport_key_signature(method, transport, Some(KPS_NAMESPACE))?);
        new.push_str(&text[old_transport.end..old_guardian.start]);
        new.push_str(&encode_guardian_signature(signer, guardian, Some(KPS_NAMESPACE))?);
        new.push_str(&text[old_guardian.end..]);
        Self::parse(&self.document.encode_like(&new))
    }
}
