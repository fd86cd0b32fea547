//! Invented owners and guardians for tests: real RSA keys and self-signed certificates out of a seed.
//!
//! Stands behind the feature `fixtures`, because making keys and certificates is no part of reading formats. The
//! same random bytes give the same keys and certificates.
//!
//! Not for keys that protect anything.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::str::FromStr as _;
use core::time::Duration;

use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::rand_core::CryptoRng;
use rsa::sha2::Sha256;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::GeneralizedTime;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::Time;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, Validity};
use crate::error::Error;
use crate::keys::PrivateKey;
use crate::write::GuardianKeys;

/// Size of the invented RSA keys in bits: that of the certificates that local-mode hosts make.
pub const FIXTURE_KEY_BITS: usize = 2048;

impl PrivateKey {
    /// Makes an RSA key of [`FIXTURE_KEY_BITS`] bits.
    ///
    /// # Errors
    /// [`Error::Rsa`].
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        rsa::PrivateKey::new(rng, FIXTURE_KEY_BITS)
            .map(Self)
            .map_err(|error| Error::Rsa { reason: error.to_string() })
    }

    /// Writes the key as PEM (PKCS#8).
    ///
    /// # Errors
    /// [`Error::PrivateKey`].
    pub fn encode_pem(&self) -> Result<Zeroizing<String>, Error> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::PrivateKey { reason: error.to_string() })
    }
}

impl GuardianKeys {
    /// Invents an owner or guardian with the certificate names of a local-mode host.
    ///
    /// # Errors
    /// [`Error::Rsa`] or [`Error::CertificateBuild`].
    pub fn generate<R: CryptoRng + ?Sized>(
        guardian: &str,
        host: &str,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let (signing_key, encryption_key) = (PrivateKey::generate(rng)?, PrivateKey::generate(rng)?);
        let mut certify = |kind: &str, key: &PrivateKey| {
            let common_name = format!("Shielded VM {kind} Certificate ({guardian}) ({host})");
            self_signed_certificate(&common_name, key, validity, rng)
        };
        let signing_certificate = certify("Signing", &signing_key)?;
        let encryption_certificate = certify("Encryption", &encryption_key)?;
        Self::new(signing_key, signing_certificate, encryption_key, encryption_certificate)
    }
}

/// Makes a self-signed certificate with one common name and no extensions.
///
/// # Errors
/// [`Error::CertificateBuild`] if the name or a time cannot be encoded.
pub fn self_signed_certificate<R: CryptoRng + ?Sized>(
    common_name: &str,
    key: &PrivateKey,
    validity: Validity,
    rng: &mut R,
) -> Result<Certificate, Error> {
    build(common_name, key, validity, rng).map_err(|reason| Error::CertificateBuild { reason })
}

fn build<R: CryptoRng + ?Sized>(
    common_name: &str,
    key: &PrivateKey,
    validity: Validity,
    rng: &mut R,
) -> Result<Certificate, String> {
    let subject =
        Name::from_str(&format!("CN={}", escape_rfc4514(common_name))).map_err(|e| e.to_string())?;
    let time = |seconds| {
        GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))
            .map(Time::from)
            .map_err(|error| error.to_string())
    };
    let validity = x509_cert::time::Validity::new(
        time(validity.not_before_unix_seconds)?,
        time(validity.not_after_unix_seconds)?,
    );
    let public_key = key.0.to_public_key().to_public_key_der().map_err(|error| error.to_string())?;
    let public_key =
        SubjectPublicKeyInfoOwned::from_der(public_key.as_bytes()).map_err(|error| error.to_string())?;
    let mut serial = [0_u8; 16];
    rng.fill_bytes(&mut serial);
    // Positive and of full length.
    serial[0] = serial[0] & 0x3F | 0x40;
    let serial = SerialNumber::new(&serial).map_err(|error| error.to_string())?;
    let builder = CertificateBuilder::new(SelfSigned(subject), serial, validity, public_key)
        .map_err(|error| error.to_string())?;
    let signer = SigningKey::<Sha256>::new(key.0.clone());
    let certificate =
        builder.build::<_, rsa::pkcs1v15::Signature>(&signer).map_err(|error| error.to_string())?;
    let der: Vec<u8> = certificate.to_der().map_err(|error| error.to_string())?;
    Certificate::parse(&der).map_err(|error| error.to_string())
}

fn escape_rfc4514(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Certificates whose issuer is their subject, without extensions.
struct SelfSigned(Name);

impl BuilderProfile for SelfSigned {
    fn get_issuer(&self, subject: &Name) -> Name {
        subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.0.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(Vec::new())
    }
}
