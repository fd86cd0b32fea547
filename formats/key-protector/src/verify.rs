//! Verification of signatures, without any secret where none is needed.
//!
//! Follows the server rules of MS-KPS section 3.1.5.1.1.3 that the shape of a parsed key protector does not
//! guarantee already: every signature gets its own [`Check`]. What cannot be checked is said to be unchecked,
//! with the reason, and never counted as valid.
//!
//! Nothing is decided here: whether an unknown algorithm is bad news depends on what the caller is about to do.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;

use rsa::sha2::{Digest as _, Sha256};

use crate::algorithm::{AlgorithmRegistry, Evidence};
use crate::certificate::Certificate;
use crate::error::{CanonicalizationError, Error};
use crate::keys::TransportKey;
use crate::metadata::GuardianMetadata;
use crate::protector::{KeyProtector, Signature, Wrapping, WrappingId};

/// The answer about one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The signature verifies, by algorithms of at least this evidence.
    Valid {
        /// The weakest evidence of the algorithms used.
        evidence: Evidence,
    },
    /// The signature does not verify.
    Invalid,
    /// Nothing can be said.
    NotChecked(Unchecked),
}

impl Check {
    /// Tells whether the signature was verified.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }
}

/// Why a signature was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unchecked {
    /// The registry does not know the algorithm.
    UnknownAlgorithm {
        /// Its URI.
        uri: String,
    },
    /// The algorithm carries parameters that no entry understands.
    ParametersNotUnderstood {
        /// Its URI.
        uri: String,
    },
    /// The certificate holds no RSA key of 1024 to 8192 bits.
    PublicKey,
    /// The transport key was not given.
    TransportKeyNotGiven,
    /// The signed bytes cannot be computed.
    Canonicalization(CanonicalizationError),
    /// The certificate was issued by another one, which is not at hand.
    IssuedByOther {
        /// Name of the issuer.
        issuer: String,
    },
    /// The document carries no such signature.
    Absent,
    /// XML signatures of guardian metadata are carried, not verified.
    XmlSignature,
}

impl Unchecked {
    fn from_lookup(error: Error) -> Self {
        match error {
            Error::ParametersNotUnderstood { uri, .. } => Self::ParametersNotUnderstood { uri },
            Error::UnknownAlgorithm { uri, .. } => Self::UnknownAlgorithm { uri },
            _ => Self::PublicKey,
        }
    }
}

/// The checks of one wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappingVerification {
    /// The wrapping.
    pub id: WrappingId,
    /// Signature of the parent over the signing certificate; of an owner over its own.
    pub signing_certificate: Check,
    /// Signature of the wrapping's own signing key over its encryption certificate.
    pub encryption_certificate: Check,
}

/// The checks of a key protector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Signature over the wrappings by the signing key that the document names.
    pub guardian_signature: Check,
    /// Signature over the wrappings with a key derived from the transport key.
    pub transport_key_signature: Check,
    /// One entry per wrapping, in the order of the document.
    pub wrappings: Vec<WrappingVerification>,
    /// Number of owners. More than one is allowed by the specification and unknown to the Windows tools.
    pub owners: usize,
}

impl Verification {
    /// All checks.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        [&self.guardian_signature, &self.transport_key_signature].into_iter().chain(
            self.wrappings.iter().flat_map(|one| [&one.signing_certificate, &one.encryption_certificate]),
        )
    }

    /// Tells whether a signature was found that does not verify.
    #[must_use]
    pub fn has_invalid(&self) -> bool {
        self.checks().any(|check| *check == Check::Invalid)
    }

    /// Tells whether every signature but that of the transport key was verified.
    #[must_use]
    pub fn is_valid_without_transport_key(&self) -> bool {
        self.guardian_signature.is_valid()
            && self
                .wrappings
                .iter()
                .all(|one| one.signing_certificate.is_valid() && one.encryption_certificate.is_valid())
    }
}

/// Most answers and keys that a [`VerificationMemo`] keeps. A fabric has a handful of guardians; beyond this it
/// begins anew.
const MAX_REMEMBERED: usize = 1024;

/// What was found out about certificates, for the next key protector.
///
/// The key protectors of a fabric name the same few owners and guardians: their certificates are checked once.
/// Belongs to one [`AlgorithmRegistry`].
#[derive(Default)]
pub struct VerificationMemo {
    /// Answers, by SHA-256 of everything that they rest on.
    checks: BTreeMap<[u8; 32], Check>,
    /// Public keys, by SHA-256 of their certificates.
    keys: BTreeMap<[u8; 32], rsa::PublicKey>,
}

impl VerificationMemo {
    /// Checks a signature over a certificate, or recalls the answer.
    fn certificate(
        &mut self,
        registry: &AlgorithmRegistry,
        signer: &Certificate,
        certificate: &Certificate,
        signature: &Signature,
    ) -> Check {
        let mut question = Sha256::new();
        question.update(signer.sha256().0);
        question.update(certificate.sha256().0);
        // Of the parts only the last has no fixed or stated length.
        question.update((signature.algorithm.uri.len() as u64).to_le_bytes());
        question.update(signature.algorithm.uri.as_bytes());
        question.update([u8::from(signature.algorithm.has_parameters)]);
        question.update(&signature.value);
        let question: [u8; 32] = question.finalize().into();
        if let Some(check) = self.checks.get(&question) {
            return check.clone();
        }
        let check = self.signature(registry, signer, certificate.der(), signature);
        if self.checks.len() >= MAX_REMEMBERED {
            self.checks.clear();
        }
        self.checks.insert(question, check.clone());
        check
    }

    fn signature(
        &mut self,
        registry: &AlgorithmRegistry,
        signer: &Certificate,
        message: &[u8],
        signature: &Signature,
    ) -> Check {
        let entry = match registry.signature(&signature.algorithm) {
            Ok(entry) => entry,
            Err(error) => return Check::NotChecked(Unchecked::from_lookup(error)),
        };
        if self.keys.len() >= MAX_REMEMBERED {
            self.keys.clear();
        }
        let public_key = match self.keys.entry(signer.sha256().0) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => match signer.public_key() {
                Ok(key) => vacant.insert(key),
                Err(_) => return Check::NotChecked(Unchecked::PublicKey),
            },
        };
        if entry.scheme.verify(public_key, message, &signature.value) {
            Check::Valid { evidence: entry.evidence }
        } else {
            Check::Invalid
        }
    }
}

impl KeyProtector {
    /// Checks every signature that needs no secret.
    #[must_use]
    pub fn verify(&self, registry: &AlgorithmRegistry) -> Verification {
        self.verify_remembering(registry, &mut VerificationMemo::default())
    }

    /// Like [`verify`](Self::verify), with the certificates of earlier key protectors remembered.
    #[must_use]
    pub fn verify_remembering(
        &self,
        registry: &AlgorithmRegistry,
        memo: &mut VerificationMemo,
    ) -> Verification {
        let guardian = self.guardian_signature();
        let signer = self.wrapping(guardian.wrapping_id);
        let guardian_signature = match (signer, self.signed_bytes()) {
            (Some(signer), Ok(signed)) => {
                memo.signature(registry, &signer.signing_certificate, signed, &guardian.signature)
            }
            (_, Err(error)) => Check::NotChecked(Unchecked::Canonicalization(error)),
            (None, _) => Check::Invalid,
        };
        Verification {
            guardian_signature,
            transport_key_signature: Check::NotChecked(Unchecked::TransportKeyNotGiven),
            wrappings: self
                .wrappings()
                .iter()
                .map(|wrapping| self.verify_wrapping(registry, wrapping, memo))
                .collect(),
            owners: self.owners().count(),
        }
    }

    /// Checks every signature, that of the transport key too.
    #[must_use]
    pub fn verify_with(&self, registry: &AlgorithmRegistry, transport_key: &TransportKey) -> Verification {
        let transport_key_signature = self.verify_transport_key_signature(registry, transport_key);
        Verification { transport_key_signature, ..self.verify(registry) }
    }

    fn verify_wrapping(
        &self,
        registry: &AlgorithmRegistry,
        wrapping: &Wrapping,
        memo: &mut VerificationMemo,
    ) -> WrappingVerification {
        let signing_certificate = match self.wrapping(wrapping.parent_id) {
            Some(parent) => memo.certificate(
                registry,
                &parent.signing_certificate,
                &wrapping.signing_certificate,
                &wrapping.signing_certificate_signature,
            ),
            None => Check::Invalid,
        };
        let encryption_certificate = memo.certificate(
            registry,
            &wrapping.signing_certificate,
            &wrapping.encryption_certificate,
            &wrapping.encryption_certificate_signature,
        );
        WrappingVerification { id: wrapping.id, signing_certificate, encryption_certificate }
    }

    /// Checks the signature over the wrappings with a key derived from a transport key, and nothing else.
    #[must_use]
    pub fn verify_transport_key_signature(
        &self,
        registry: &AlgorithmRegistry,
        transport_key: &TransportKey,
    ) -> Check {
        let signature = self.transport_key_signature();
        let derivation = match registry.key_derivation(&signature.key_derivation_method) {
            Ok(entry) => entry,
            Err(error) => return Check::NotChecked(Unchecked::from_lookup(error)),
        };
        let mac = match registry.mac(&signature.signature.algorithm) {
            Ok(entry) => entry,
            Err(error) => return Check::NotChecked(Unchecked::from_lookup(error)),
        };
        let signed = match self.signed_bytes() {
            Ok(signed) => signed,
            Err(error) => return Check::NotChecked(Unchecked::Canonicalization(error)),
        };
        let key = derivation.scheme.derive(transport_key.expose());
        if mac.scheme.verify(&key, signed, &signature.signature.value) {
            Check::Valid { evidence: derivation.evidence.min(mac.evidence) }
        } else {
            Check::Invalid
        }
    }
}

/// The checks of guardian metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataVerification {
    /// Signature of the signing key over its own certificate.
    pub signing_certificate: Check,
    /// Signature of the signing key over the encryption certificate.
    pub encryption_certificate: Check,
    /// The enveloped XML signature, which is never verified here.
    pub document: Check,
}

impl MetadataVerification {
    /// Tells whether both certificates are proved to belong together.
    #[must_use]
    pub fn certificates_are_valid(&self) -> bool {
        self.signing_certificate.is_valid() && self.encryption_certificate.is_valid()
    }
}

impl GuardianMetadata {
    /// Checks the signatures over the certificates.
    #[must_use]
    pub fn verify(&self, registry: &AlgorithmRegistry) -> MetadataVerification {
        let signer = self.signing_certificate();
        MetadataVerification {
            signing_certificate: check_signature(
                registry,
                signer,
                signer.der(),
                self.signing_certificate_self_signature(),
            ),
            encryption_certificate: check_signature(
                registry,
                signer,
                self.encryption_certificate().der(),
                self.encryption_certificate_signature(),
            ),
            document: Check::NotChecked(if self.has_xml_signature() {
                Unchecked::XmlSignature
            } else {
                Unchecked::Absent
            }),
        }
    }
}

fn check_signature(
    registry: &AlgorithmRegistry,
    signer: &Certificate,
    message: &[u8],
    signature: &Signature,
) -> Check {
    VerificationMemo::default().signature(registry, signer, message, signature)
}
