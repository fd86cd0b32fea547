//! PFX (PKCS#12, RFC 7292): encrypted private keys with their certificates.
//!
//! The container is decoded by the crate `p12-keystore`: PBES2 (AES, what Windows writes since 2018) and the older 3DES and
//! RC2 of SHA-1. What it would be lenient about is checked here before it sees the bytes: size, and that there is a MAC, so
//! that nothing inside is worked on for a wrong password. Two copies of plaintext inside that crate are not wiped.

use lifeboat_key_protector::{Certificate, Corruption, Error as KeyError, PrivateKey};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error as DecodeError;
use x509_cert::der::{self, Decode as _, Encode as _, Reader as _, SliceReader};
use zeroize::Zeroizing;

/// Largest file that is taken for a PFX: a hundred pairs of keys and certificates fit.
pub const MAX_PFX_BYTES: usize = 1 << 20;

/// Why a PFX gives no keys. No message holds a password or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PfxError {
    /// The file is larger than any PFX.
    #[error("a PFX file has at most {max} bytes, this one {have}")]
    TooLarge {
        /// The limit.
        max: usize,
        /// Its size.
        have: usize,
    },
    /// The bytes are no PFX.
    #[error("it is no PFX (PKCS#12) file: {reason}")]
    NotPfx {
        /// What did not fit.
        reason: String,
    },
    /// It is not protected by a password.
    #[error(
        "this PFX carries no password check (MAC), so nothing shows that it is whole; export it again with a password"
    )]
    NoMac,
    /// The password does not fit, or the file was altered.
    #[error("the password does not open this PFX, or the file was altered since it was written")]
    WrongPassword,
    /// It is protected in a way that is not known here.
    #[error(
        "this PFX is protected in a way that is not known here ({reason}); export it again with AES256-SHA256 or TripleDES-SHA1"
    )]
    Unsupported {
        /// What is not known.
        reason: String,
    },
    /// It has certificates only.
    #[error("this PFX holds no private key; export it again with its private key")]
    NoPrivateKey,
    /// A private key has no certificate in the file.
    #[error("private key {number} of this PFX has no certificate in it")]
    NoCertificate {
        /// The key's position, from 1.
        number: usize,
    },
    /// A private key is of a kind that guardians do not have.
    #[error("private key {number} of this PFX cannot be used: {source}")]
    PrivateKey {
        /// The key's position, from 1.
        number: usize,
        /// What is wrong.
        source: KeyError,
    },
    /// A certificate is damaged.
    #[error("certificate {number} of this PFX cannot be used: {source}")]
    Certificate {
        /// The certificate's position, from 1.
        number: usize,
        /// What is wrong.
        source: Corruption,
    },
}

/// A private key with its certificate: they belong together.
pub struct KeyPair {
    /// The private key.
    pub key: PrivateKey,
    /// The certificate with its public half.
    pub certificate: Certificate,
    /// The name that the file gives the pair.
    pub friendly_name: Option<String>,
}

/// Opens a PFX with its password; the pairs come in the order of the file.
///
/// # Errors
/// [`PfxError`], one variant for each cause.
pub fn parse_pfx(bytes: &[u8], password: &Zeroizing<String>) -> Result<Vec<KeyPair>, PfxError> {
    if bytes.len() > MAX_PFX_BYTES {
        return Err(PfxError::TooLarge { max: MAX_PFX_BYTES, have: bytes.len() });
    }
    match has_mac(bytes) {
        Err(error) => return Err(PfxError::NotPfx { reason: error.to_string() }),
        Ok(false) => return Err(PfxError::NoMac),
        Ok(true) => {}
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(failed)?;
    let certificates = (1..)
        .zip(&archive.certs)
        .map(|(number, bag)| {
            let parsed = Certificate::parse(bag.cert.as_der());
            parsed.map_err(|source| PfxError::Certificate { number, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if archive.keys.is_empty() {
        return Err(PfxError::NoPrivateKey);
    }
    let pair = |(number, bag): (usize, &p12_keystore::PrivateKeyBag)| {
        let key = PrivateKey::parse_pkcs8_der(bag.key.as_der())
            .map_err(|source| PfxError::PrivateKey { number, source })?;
        // By the key itself: identifiers in the file are hints.
        let certificate = certificates.iter().find(|certificate| key.belongs_to(certificate));
        let certificate = certificate.cloned().ok_or(PfxError::NoCertificate { number })?;
        Ok(KeyPair { key, certificate, friendly_name: bag.friendly_name.clone() })
    };
    (1..).zip(&archive.keys).map(pair).collect()
}

/// Tells whether the outer sequence has its third part, the MAC; fails for what is no such sequence.
fn has_mac(bytes: &[u8]) -> Result<bool, der::Error> {
    let mut reader = SliceReader::new(bytes)?;
    let header = der::Header::decode(&mut reader)?;
    header.tag().assert_eq(der::Tag::Sequence)?;
    let whole = (header.encoded_len()? + header.length())?;
    if usize::try_from(whole) != Ok(bytes.len()) {
        return Err(der::ErrorKind::TrailingData { decoded: whole, remaining: der::Length::ZERO }.into());
    }
    reader.tlv_bytes()?; // version
    reader.tlv_bytes()?; // content
    Ok(!reader.is_finished())
}

fn failed(error: DecodeError) -> PfxError {
    match error {
        DecodeError::MacError(_) | DecodeError::UnpadError | DecodeError::Pkcs5Error(_) => {
            PfxError::WrongPassword
        }
        DecodeError::UnsupportedEncryptionScheme
        | DecodeError::UnsupportedMacAlgorithm
        | DecodeError::UnsupportedCertificateType
        | DecodeError::UnsupportedContentType
        | DecodeError::InvalidParameters => PfxError::Unsupported { reason: error.to_string() },
        other => PfxError::NotPfx { reason: other.to_string() },
    }
}
