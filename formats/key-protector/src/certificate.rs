//! X.509 certificates of owners and guardians.
//!
//! A certificate keeps its exact DER, because signatures cover it and thumbprints are digests of it, and answers
//! who it names, how long it is valid and which RSA key it carries.
//!
//! It builds no PKIX path and asks no revocation service: a guarded fabric uses certificates as key pairs and
//! checks neither expiry nor revocation.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use rsa::pkcs8::DecodePublicKey as _;
use rsa::sha2::{Digest as _, Sha256};
use sha1::Sha1;
use x509_cert::der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _, Header, Reader as _, SliceReader, Tag, Tagged as _};

use crate::algorithm::{Hash, SignatureScheme};
use crate::error::{Corruption, Error};
use crate::verify::{Check, Unchecked};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// Beginnings of the common names that local-mode hosts give their certificates (section 2.3 of the reference).
const LOCAL_MODE_SUBJECTS: [&str; 2] =
    ["Shielded VM Signing Certificate (", "Shielded VM Encryption Certificate ("];

/// SHA-1 of a DER certificate: the name under which Windows lists it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1Thumbprint(pub [u8; 20]);

/// SHA-256 of a DER certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Thumbprint(pub [u8; 32]);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

impl fmt::Display for Sha1Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Sha1Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Display for Sha256Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Sha256Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// The time in which a certificate is valid, in seconds since 1970-01-01 UTC. Both ends are inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before_unix_seconds: u64,
    /// Last second.
    pub not_after_unix_seconds: u64,
}

impl Validity {
    /// Tells whether a time lies in the validity.
    #[must_use]
    pub fn contains(&self, unix_seconds: u64) -> bool {
        (self.not_before_unix_seconds..=self.not_after_unix_seconds).contains(&unix_seconds)
    }
}

/// An X.509 certificate in its exact DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    names_itself: bool,
    common_name: Option<String>,
    /// The whole subject, where it has no common name.
    nameless_subject: Option<String>,
    serial_number: Vec<u8>,
    validity: Validity,
    public_key_info: Vec<u8>,
    signature_oid: ObjectIdentifier,
    names_one_algorithm: bool,
    signature: Option<Vec<u8>>,
    sha1: Sha1Thumbprint,
    sha256: Sha256Thumbprint,
}

impl Certificate {
    /// Parses one DER certificate without trailing bytes.
    ///
    /// # Errors
    /// [`Corruption::Certificate`] if the bytes are anything else.
    pub fn parse(der: &[u8]) -> Result<Self, Corruption> {
        Self::parse_at("Certificate", der)
    }

    pub(crate) fn parse_at(place: &'static str, der: &[u8]) -> Result<Self, Corruption> {
        let invalid =
            |error: x509_cert::der::Error| Corruption::Certificate { place, reason: error.to_string() };
        let parsed = x509_cert::Certificate::from_der(der).map_err(invalid)?;
        let to_be_signed = parsed.tbs_certificate();
        let validity = to_be_signed.validity();
        let common_name = common_name(to_be_signed.subject());
        Ok(Self {
            names_itself: to_be_signed.subject() == to_be_signed.issuer(),
            nameless_subject: common_name.is_none().then(|| to_be_signed.subject().to_string()),
            common_name,
            serial_number: to_be_signed.serial_number().as_bytes().to_vec(),
            validity: Validity {
                not_before_unix_seconds: validity.not_before.to_unix_duration().as_secs(),
                not_after_unix_seconds: validity.not_after.to_unix_duration().as_secs(),
            },
            public_key_info: to_be_signed.subject_public_key_info().to_der().map_err(invalid)?,
            signature_oid: parsed.signature_algorithm().oid,
            signature: parsed.signature().as_bytes().map(<[u8]>::to_vec),
            names_one_algorithm: parsed.signature_algorithm() == to_be_signed.signature(),
            sha1: Sha1Thumbprint(Sha1::digest(der).into()),
            sha256: Sha256Thumbprint(Sha256::digest(der).into()),
            der: der.to_vec(),
        })
    }

    /// The exact DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The exact DER bytes of its public key (SubjectPublicKeyInfo): those of a renewed certificate may be the same.
    #[must_use]
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    /// The subject, as RFC 4514 writes it. Made at each call: thousands of certificates are read for their keys alone.
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed().tbs_certificate().subject().to_string()
    }

    /// The issuer, as RFC 4514 writes it. Made at each call.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.parsed().tbs_certificate().issuer().to_string()
    }

    fn parsed(&self) -> x509_cert::Certificate {
        x509_cert::Certificate::from_der(&self.der).expect("these bytes were parsed when this was made")
    }

    /// The last common name of the subject, if it has one in a text form that is read.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The serial number, most significant byte first, as encoded.
    #[must_use]
    pub fn serial_number(&self) -> &[u8] {
        &self.serial_number
    }

    /// The time in which the certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The SHA-1 thumbprint.
    #[must_use]
    pub fn sha1(&self) -> Sha1Thumbprint {
        self.sha1
    }

    /// The SHA-256 thumbprint.
    #[must_use]
    pub fn sha256(&self) -> Sha256Thumbprint {
        self.sha256
    }

    /// The name of the guardian that the certificate belongs to, as far as its subject tells.
    #[must_use]
    pub fn guardian_name(&self) -> GuardianName<'_> {
        let full = self.common_name().or(self.nameless_subject.as_deref()).unwrap_or_default();
        let local = LOCAL_MODE_SUBJECTS.iter().find_map(|beginning| full.strip_prefix(beginning));
        match local.and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.rsplit_once(") (")) {
            Some((guardian, host)) => GuardianName { guardian, host: Some(host) },
            None => GuardianName { guardian: full, host: None },
        }
    }

    /// Checks the certificate's own signature if it is self-signed by name.
    ///
    /// This is the signature inside the certificate, not one of the key protector. A guarded fabric does not
    /// check it; one that does not verify tells of damage.
    #[must_use]
    pub fn check_self_signature(&self) -> Check {
        if !self.names_itself {
            return Check::NotChecked(Unchecked::IssuedByOther { issuer: self.issuer() });
        }
        let hash = match self.signature_oid {
            SHA256_WITH_RSA => Hash::Sha256,
            SHA384_WITH_RSA => Hash::Sha384,
            SHA512_WITH_RSA => Hash::Sha512,
            other => {
                return Check::NotChecked(Unchecked::UnknownAlgorithm { uri: format!("urn:oid:{other}") });
            }
        };
        let Ok(public_key) = self.public_key() else {
            return Check::NotChecked(Unchecked::PublicKey);
        };
        // The algorithm beside the signature is not signed: it must repeat the one that is.
        let (Some(to_be_signed), Some(signature), true) =
            (self.to_be_signed(), &self.signature, self.names_one_algorithm)
        else {
            return Check::Invalid;
        };
        if SignatureScheme::RsaPkcs1v15(hash).verify(&public_key, to_be_signed, signature) {
            // What the object identifier means is fixed by X.509: nothing is assumed here.
            Check::Valid { evidence: crate::algorithm::Evidence::Confirmed }
        } else {
            Check::Invalid
        }
    }

    /// The exact bytes of `TBSCertificate`, header included.
    fn to_be_signed(&self) -> Option<&[u8]> {
        let mut reader = SliceReader::new(&self.der).ok()?;
        Header::decode(&mut reader).ok()?;
        reader.tlv_bytes().ok()
    }

    pub(crate) fn public_key(&self) -> Result<rsa::PublicKey, Error> {
        rsa::PublicKey::from_public_key_der(&self.public_key_info)
            .map_err(|_| Error::PublicKey { thumbprint: self.sha1.to_string() })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("sha1", &self.sha1)
            .finish_non_exhaustive()
    }
}

/// The name of a guardian, taken from a certificate's subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardianName<'a> {
    /// The guardian's name, or the whole common name if it has not the form of a local-mode host.
    pub guardian: &'a str,
    /// The host that made the certificate, in local mode.
    pub host: Option<&'a str>,
}

fn common_name(name: &x509_cert::name::Name) -> Option<String> {
    let attribute = name.iter().filter(|attribute| attribute.oid == COMMON_NAME).last()?;
    let value = &attribute.value;
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().into()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().into())
        }
        Tag::BmpString => {
            let (pairs, rest) = value.value().as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<String, _>>().ok()).flatten()
        }
        _ => None,
    }
}
