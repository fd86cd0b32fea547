//! Secrets: private keys and the transport key.
//!
//! None of the types here can be printed, compared, cloned or serialised, and all are wiped when dropped.
//! Private keys come from unencrypted PEM or DER, PKCS#8 or PKCS#1.
//!
//! PFX files are decoded elsewhere (`crates/keys`): that takes ciphers and a container that nothing here needs.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::error::Error;
use crate::layout::{MAX_PRIVATE_KEY_FILE_BYTES, MAX_TRANSPORT_KEY_BYTES};

const PKCS1_LABEL: &str = "-----BEGIN RSA PRIVATE KEY-----";
const PKCS8_LABEL: &str = "-----BEGIN PRIVATE KEY-----";
const ENCRYPTED_LABEL: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_PKCS1_HEADER: &str = "Proc-Type: 4,ENCRYPTED";

/// An RSA private key of an owner or guardian. Wiped when dropped.
pub struct PrivateKey(pub(crate) rsa::PrivateKey);

impl PrivateKey {
    /// Parses the one private key of a PEM text. Text before it, such as bag attributes, is skipped.
    ///
    /// # Errors
    /// [`Error::EncryptedPrivateKey`], [`Error::TooLarge`] or [`Error::PrivateKey`].
    pub fn parse_pem(text: &str) -> Result<Self, Error> {
        check_size(text.len())?;
        if text.contains(ENCRYPTED_LABEL) || text.contains(ENCRYPTED_PKCS1_HEADER) {
            return Err(Error::EncryptedPrivateKey);
        }
        let parsed = if let Some(start) = text.find(PKCS8_LABEL) {
            rsa::PrivateKey::from_pkcs8_pem(one_block(&text[start..])).map_err(|error| error.to_string())
        } else if let Some(start) = text.find(PKCS1_LABEL) {
            rsa::PrivateKey::from_pkcs1_pem(one_block(&text[start..])).map_err(|error| error.to_string())
        } else {
            Err("no PEM block of a private key".to_string())
        };
        parsed.map(Self).map_err(|reason| Error::PrivateKey { reason })
    }

    /// Parses a PKCS#8 private key in DER.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::PrivateKey`].
    pub fn parse_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        check_size(der.len())?;
        rsa::PrivateKey::from_pkcs8_der(der)
            .map(Self)
            .map_err(|error| Error::PrivateKey { reason: error.to_string() })
    }

    /// Tells whether a certificate carries the public half of this key.
    #[must_use]
    pub fn belongs_to(&self, certificate: &Certificate) -> bool {
        certificate.public_key().is_ok_and(|public| public == *self.0.as_public_key())
    }
}

/// The text up to the end of its first PEM block.
fn one_block(text: &str) -> &str {
    const END: &str = "-----END ";
    const DASHES: &str = "-----";
    let Some(end) = text.find(END) else { return text };
    let label = end + END.len();
    match text[label..].find(DASHES) {
        Some(offset) => &text[..label + offset + DASHES.len()],
        None => text,
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_PRIVATE_KEY_FILE_BYTES {
        return Err(Error::TooLarge { what: "private key", max: MAX_PRIVATE_KEY_FILE_BYTES, have: bytes });
    }
    Ok(())
}

/// Both private keys of an owner.
pub struct OwnerKeys {
    /// Signs wrappings and the certificates of guardians.
    pub signing: PrivateKey,
    /// Opens the transport key.
    pub encryption: PrivateKey,
}

/// A transport key: the key under which a VM's vTPM state is encrypted. Wiped when dropped.
pub struct TransportKey(Zeroizing<Vec<u8>>);

impl TransportKey {
    /// Takes the bytes of a transport key.
    ///
    /// # Errors
    /// [`Error::TransportKeySize`] if there are none, or more than any known one has.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        if bytes.is_empty() || bytes.len() > MAX_TRANSPORT_KEY_BYTES {
            return Err(Error::TransportKeySize { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// The secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
