//! The registry of algorithms, keyed by URI.
//!
//! MS-KPS leaves every algorithm to a free URI. What a URI means here is decided by an entry of
//! [`AlgorithmRegistry`], and how much that entry is worth by its [`Evidence`]. A URI without an entry stays a
//! named unknown: nothing is tried in its place. Algorithms with parameters are unknown too.
//!
//! The registry chooses; it holds no key and signs nothing by itself.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hmac_0_13::{Hmac, KeyInit as _, Mac as _};
use rsa::rand_core::CryptoRng;
use rsa::sha2::{Digest, Sha256, Sha384, Sha512};
use rsa::{Oaep, Pkcs1v15Sign, Pss};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::layout::uri;

/// What an algorithm is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgorithmRole {
    /// Signing certificates and wrappings.
    Signature,
    /// Encrypting the transport key to a certificate.
    KeyTransport,
    /// Deriving a key from the transport key.
    KeyDerivation,
    /// Signing the wrappings with that key.
    Mac,
}

impl fmt::Display for AlgorithmRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "signature",
            Self::KeyTransport => "encryption",
            Self::KeyDerivation => "key derivation",
            Self::Mac => "message authentication",
        })
    }
}

/// How much is known about an algorithm in key protectors, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Only our own fixtures use it.
    Synthetic,
    /// The URI's meaning is standard, but that and how a key protector uses it is assumed.
    Assumed,
    /// Verified on a key protector made by Windows. No built-in entry has this yet.
    Confirmed,
}

/// An algorithm as a document names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// The URI, exactly as in the document.
    pub uri: String,
    /// The `Parameters` element in its source text, if present.
    pub parameters: Option<String>,
    /// Whether `Parameters` holds anything.
    pub has_parameters: bool,
}

/// A digest function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A signature scheme with RSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1v15(Hash),
    /// RSASSA-PSS; mask function and digest are one, the salt has the digest's size.
    RsaPss(Hash),
}

impl SignatureScheme {
    pub(crate) fn verify(self, key: &rsa::PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::RsaPkcs1v15(Hash::Sha256) => {
                key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message), signature)
            }
            Self::RsaPkcs1v15(Hash::Sha384) => {
                key.verify(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message), signature)
            }
            Self::RsaPkcs1v15(Hash::Sha512) => {
                key.verify(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message), signature)
            }
            Self::RsaPss(Hash::Sha256) => {
                key.verify(Pss::<Sha256>::new(), &Sha256::digest(message), signature)
            }
            Self::RsaPss(Hash::Sha384) => {
                key.verify(Pss::<Sha384>::new(), &Sha384::digest(message), signature)
            }
            Self::RsaPss(Hash::Sha512) => {
                key.verify(Pss::<Sha512>::new(), &Sha512::digest(message), signature)
            }
        }
        .is_ok()
    }

    pub(crate) fn sign<R: CryptoRng + ?Sized>(
        self,
        key: &rsa::PrivateKey,
        message: &[u8],
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::RsaPkcs1v15(Hash::Sha256) => {
                key.sign_with_rng(rng, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message))
            }
            Self::RsaPkcs1v15(Hash::Sha384) => {
                key.sign_with_rng(rng, Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message))
            }
            Self::RsaPkcs1v15(Hash::Sha512) => {
                key.sign_with_rng(rng, Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message))
            }
            Self::RsaPss(Hash::Sha256) => {
                key.sign_with_rng(rng, Pss::<Sha256>::new(), &Sha256::digest(message))
            }
            Self::RsaPss(Hash::Sha384) => {
                key.sign_with_rng(rng, Pss::<Sha384>::new(), &Sha384::digest(message))
            }
            Self::RsaPss(Hash::Sha512) => {
                key.sign_with_rng(rng, Pss::<Sha512>::new(), &Sha512::digest(message))
            }
        }
        .map_err(rsa_error)
    }
}

/// A scheme that encrypts a key to an RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTransportScheme {
    /// RSAES-OAEP, digest and mask function SHA-1, empty label.
    RsaOaepSha1,
}

impl KeyTransportScheme {
    pub(crate) fn encrypt<R: CryptoRng + ?Sized>(
        self,
        key: &rsa::PublicKey,
        plaintext: &[u8],
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::RsaOaepSha1 => key.encrypt(rng, Oaep::<Sha1>::new(), plaintext).map_err(rsa_error),
        }
    }

    /// Decrypts with blinding; `None` if the ciphertext does not fit the key and scheme.
    pub(crate) fn decrypt<R: CryptoRng + ?Sized>(
        self,
        key: &rsa::PrivateKey,
        ciphertext: &[u8],
        rng: &mut R,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::RsaOaepSha1 => {
                key.decrypt_blinded(rng, Oaep::<Sha1>::new(), ciphertext).ok().map(Zeroizing::new)
            }
        }
    }
}

fn rsa_error(error: rsa::Error) -> Error {
    Error::Rsa { reason: alloc::string::ToString::to_string(&error) }
}

/// An HMAC over a message, not yet finished.
macro_rules! hmac {
    ($digest:ty, $key:expr, $message:expr) => {
        Hmac::<$digest>::new_from_slice($key)
            .expect("HMAC takes keys of every length: longer ones are hashed")
            .chain_update($message)
    };
}

/// A scheme that derives the key of the transport-key signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDerivationScheme {
    /// SP 800-108 counter mode with HMAC-SHA-256, label `KPS`, empty context, 256 bits. Our fixtures' assumption.
    SyntheticCounterHmacSha256,
}

impl KeyDerivationScheme {
    pub(crate) fn derive(self, transport_key: &[u8]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::SyntheticCounterHmacSha256 => {
                const OUTPUT_BITS: u32 = 256;
                let first_block = hmac!(Sha256, transport_key, 1_u32.to_be_bytes());
                let first_block = first_block.chain_update(b"KPS\0").chain_update(OUTPUT_BITS.to_be_bytes());
                Zeroizing::new(first_block.finalize().into_bytes().to_vec())
            }
        }
    }
}

/// A message authentication scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacScheme {
    /// HMAC, not truncated.
    Hmac(Hash),
}

impl MacScheme {
    pub(crate) fn compute(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Hmac(Hash::Sha256) => hmac!(Sha256, key, message).finalize().into_bytes().to_vec(),
            Self::Hmac(Hash::Sha384) => hmac!(Sha384, key, message).finalize().into_bytes().to_vec(),
            Self::Hmac(Hash::Sha512) => hmac!(Sha512, key, message).finalize().into_bytes().to_vec(),
        }
    }

    /// Compares in constant time.
    pub(crate) fn verify(self, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
        match self {
            Self::Hmac(Hash::Sha256) => hmac!(Sha256, key, message).verify_slice(tag).is_ok(),
            Self::Hmac(Hash::Sha384) => hmac!(Sha384, key, message).verify_slice(tag).is_ok(),
            Self::Hmac(Hash::Sha512) => hmac!(Sha512, key, message).verify_slice(tag).is_ok(),
        }
    }
}

/// What the registry says about one URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<S> {
    /// The URI.
    pub uri: Cow<'static, str>,
    /// What it means.
    pub scheme: S,
    /// How much that is worth.
    pub evidence: Evidence,
}

/// The algorithms that are accepted, by role and URI. Fails closed: a URI without an entry is not guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlgorithmRegistry {
    signatures: Vec<Entry<SignatureScheme>>,
    key_transports: Vec<Entry<KeyTransportScheme>>,
    key_derivations: Vec<Entry<KeyDerivationScheme>>,
    macs: Vec<Entry<MacScheme>>,
}

impl AlgorithmRegistry {
    /// Makes a registry that knows nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Makes the registry of all algorithms that are implemented, each with its evidence.
    ///
    /// A caller that must not rely on assumptions compares the evidence of the answers with
    /// [`Evidence::Confirmed`].
    #[must_use]
    pub fn builtin() -> Self {
        use Evidence::{Assumed, Synthetic};
        let mut registry = Self::empty();
        registry.add_signature(uri::RSA_SHA256, SignatureScheme::RsaPkcs1v15(Hash::Sha256), Assumed);
        registry.add_signature(uri::RSA_SHA384, SignatureScheme::RsaPkcs1v15(Hash::Sha384), Assumed);
        registry.add_signature(uri::RSA_SHA512, SignatureScheme::RsaPkcs1v15(Hash::Sha512), Assumed);
        registry.add_signature(uri::RSA_PSS_SHA256, SignatureScheme::RsaPss(Hash::Sha256), Assumed);
        registry.add_key_transport(uri::RSA_OAEP_MGF1P, KeyTransportScheme::RsaOaepSha1, Assumed);
        registry.add_key_transport(uri::RSA_OAEP, KeyTransportScheme::RsaOaepSha1, Assumed);
        registry.add_key_derivation(
            uri::SYNTHETIC_KDF,
            KeyDerivationScheme::SyntheticCounterHmacSha256,
            Synthetic,
        );
        registry.add_mac(uri::HMAC_SHA256, MacScheme::Hmac(Hash::Sha256), Assumed);
        registry.add_mac(uri::HMAC_SHA384, MacScheme::Hmac(Hash::Sha384), Assumed);
        registry.add_mac(uri::HMAC_SHA512, MacScheme::Hmac(Hash::Sha512), Assumed);
        registry
    }

    /// Adds or replaces a signature algorithm.
    pub fn add_signature(
        &mut self,
        uri: impl Into<Cow<'static, str>>,
        scheme: SignatureScheme,
        evidence: Evidence,
    ) {
        put(&mut self.signatures, Entry { uri: uri.into(), scheme, evidence });
    }

    /// Adds or replaces a key transport algorithm.
    pub fn add_key_transport(
        &mut self,
        uri: impl Into<Cow<'static, str>>,
        scheme: KeyTransportScheme,
        evidence: Evidence,
    ) {
        put(&mut self.key_transports, Entry { uri: uri.into(), scheme, evidence });
    }

    /// Adds or replaces a key derivation algorithm.
    pub fn add_key_derivation(
        &mut self,
        uri: impl Into<Cow<'static, str>>,
        scheme: KeyDerivationScheme,
        evidence: Evidence,
    ) {
        put(&mut self.key_derivations, Entry { uri: uri.into(), scheme, evidence });
    }

    /// Adds or replaces a message authentication algorithm.
    pub fn add_mac(&mut self, uri: impl Into<Cow<'static, str>>, scheme: MacScheme, evidence: Evidence) {
        put(&mut self.macs, Entry { uri: uri.into(), scheme, evidence });
    }

    /// Looks up a signature algorithm.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] or [`Error::ParametersNotUnderstood`].
    pub fn signature(&self, algorithm: &Algorithm) -> Result<&Entry<SignatureScheme>, Error> {
        find(&self.signatures, AlgorithmRole::Signature, algorithm)
    }

    /// Looks up a key transport algorithm.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] or [`Error::ParametersNotUnderstood`].
    pub fn key_transport(&self, algorithm: &Algorithm) -> Result<&Entry<KeyTransportScheme>, Error> {
        find(&self.key_transports, AlgorithmRole::KeyTransport, algorithm)
    }

    /// Looks up a key derivation algorithm.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] or [`Error::ParametersNotUnderstood`].
    pub fn key_derivation(&self, algorithm: &Algorithm) -> Result<&Entry<KeyDerivationScheme>, Error> {
        find(&self.key_derivations, AlgorithmRole::KeyDerivation, algorithm)
    }

    /// Looks up a message authentication algorithm.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] or [`Error::ParametersNotUnderstood`].
    pub fn mac(&self, algorithm: &Algorithm) -> Result<&Entry<MacScheme>, Error> {
        find(&self.macs, AlgorithmRole::Mac, algorithm)
    }
}

fn put<S>(entries: &mut Vec<Entry<S>>, entry: Entry<S>) {
    entries.retain(|old| old.uri != entry.uri);
    entries.push(entry);
}

fn find<'a, S>(
    entries: &'a [Entry<S>],
    role: AlgorithmRole,
    algorithm: &Algorithm,
) -> Result<&'a Entry<S>, Error> {
    let Some(entry) = entries.iter().find(|entry| entry.uri == algorithm.uri) else {
        return Err(Error::UnknownAlgorithm { role, uri: algorithm.uri.clone() });
    };
    if algorithm.has_parameters {
        return Err(Error::ParametersNotUnderstood { role, uri: algorithm.uri.clone() });
    }
    Ok(entry)
}
