//! Writing key protectors and guardian metadata.
//!
//! [`KeyProtectorTemplate`] makes many key protectors for one owner and its guardians: everything that does not
//! depend on the transport key (certificates and their signatures) is computed once, so that each key protector
//! costs one private RSA operation and one cheap public one per wrapping. The elements written here are also
//! those that [`KeyProtector::grant`](crate::KeyProtector::grant) puts into an existing document.
//!
//! `Parameters` are never written: no algorithm of the registry takes any.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::rand_core::CryptoRng;

use crate::algorithm::{
    Algorithm, AlgorithmRegistry, AlgorithmRole, KeyDerivationScheme, KeyTransportScheme, MacScheme,
    SignatureScheme,
};
use crate::canonical::{escape_attribute, escape_text};
use crate::certificate::Certificate;
use crate::error::Error;
use crate::keys::{PrivateKey, TransportKey};
use crate::layout::{DSIG_NAMESPACE, KPS_NAMESPACE, MAX_WRAPPINGS, name, uri};
use crate::protector::{Signature, WrappingId};
use crate::value::prefix_with_length;

/// The algorithms that a writer uses, by their URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgorithmSuite {
    /// Signatures of certificates and wrappings.
    pub signature: String,
    /// Encryption of the transport key.
    pub key_transport: String,
    /// Derivation of a key from the transport key.
    pub key_derivation: String,
    /// Signature of the wrappings with that key.
    pub mac: String,
}

impl AlgorithmSuite {
    /// The suite of the synthetic fixtures. Its key derivation URI keeps it apart from anything Windows makes.
    #[must_use]
    pub fn synthetic() -> Self {
        Self {
            signature: uri::RSA_SHA256.into(),
            key_transport: uri::RSA_OAEP_MGF1P.into(),
            key_derivation: uri::SYNTHETIC_KDF.into(),
            mac: uri::HMAC_SHA256.into(),
        }
    }

    fn resolve(&self, registry: &AlgorithmRegistry) -> Result<Schemes, Error> {
        Ok(Schemes {
            signature: registry.signature(&plain(&self.signature))?.scheme,
            key_transport: registry.key_transport(&plain(&self.key_transport))?.scheme,
            key_derivation: registry.key_derivation(&plain(&self.key_derivation))?.scheme,
            mac: registry.mac(&plain(&self.mac))?.scheme,
        })
    }
}

/// What the URIs of a suite mean.
#[derive(Debug, Clone, Copy)]
struct Schemes {
    signature: SignatureScheme,
    key_transport: KeyTransportScheme,
    key_derivation: KeyDerivationScheme,
    mac: MacScheme,
}

/// An algorithm without parameters.
fn plain(uri: &str) -> Algorithm {
    Algorithm { uri: uri.into(), parameters: None, has_parameters: false }
}

/// Both key pairs of an owner or guardian, with their certificates.
pub struct GuardianKeys {
    signing_key: PrivateKey,
    signing_certificate: Certificate,
    encryption_key: PrivateKey,
    encryption_certificate: Certificate,
}

impl GuardianKeys {
    /// Puts key pairs and certificates together.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] if a key does not belong to its certificate.
    pub fn new(
        signing_key: PrivateKey,
        signing_certificate: Certificate,
        encryption_key: PrivateKey,
        encryption_certificate: Certificate,
    ) -> Result<Self, Error> {
        for (key, certificate) in
            [(&signing_key, &signing_certificate), (&encryption_key, &encryption_certificate)]
        {
            if !key.belongs_to(certificate) {
                return Err(Error::KeyMismatch { thumbprint: format!("{}", certificate.sha1()) });
            }
        }
        Ok(Self { signing_key, signing_certificate, encryption_key, encryption_certificate })
    }

    /// The private signing key.
    #[must_use]
    pub fn signing_key(&self) -> &PrivateKey {
        &self.signing_key
    }

    /// Certificate of the signing key.
    #[must_use]
    pub fn signing_certificate(&self) -> &Certificate {
        &self.signing_certificate
    }

    /// The private encryption key.
    #[must_use]
    pub fn encryption_key(&self) -> &PrivateKey {
        &self.encryption_key
    }

    /// Certificate of the encryption key.
    #[must_use]
    pub fn encryption_certificate(&self) -> &Certificate {
        &self.encryption_certificate
    }

    /// Writes the guardian's metadata document, without an XML signature.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] if the registry does not know the suite's signature, or [`Error::Rsa`].
    pub fn encode_metadata<R: CryptoRng + ?Sized>(
        &self,
        suite: &AlgorithmSuite,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        let scheme = registry.signature(&plain(&suite.signature))?.scheme;
        let mut sign = |certificate: &Certificate| {
            scheme
                .sign(&self.signing_key.0, certificate.der(), rng)
                .map(|value| Signature { algorithm: plain(&suite.signature), value })
        };
        let encryption_signature = sign(&self.encryption_certificate)?;
        let signing_signature = sign(&self.signing_certificate)?;
        let mut xml = Xml::default();
        xml.raw("<?xml version=\"1.0\" encoding=\"utf-8\"?>");
        xml.open(name::METADATA, &[("xmlns", KPS_NAMESPACE), (name::VERSION, "1")])?;
        xml.open(name::GUARDIAN_INFORMATION, &[])?;
        xml.leaf(name::VERSION, "1")?;
        xml.binary(name::ENCRYPTION_CERTIFICATE, self.encryption_certificate.der())?;
        xml.binary(name::SIGNING_CERTIFICATE, self.signing_certificate.der())?;
        for (element, signature) in [
            (name::ENCRYPTION_CERTIFICATE_SIGNATURE, &encryption_signature),
            (name::SIGNING_CERTIFICATE_SELF_SIGNATURE, &signing_signature),
        ] {
            xml.signature(element, signature)?;
        }
        xml.close(name::GUARDIAN_INFORMATION);
        // An empty placeholder: XML signatures are neither made nor verified by this crate.
        xml.open(name::SIGNATURE, &[("xmlns", DSIG_NAMESPACE)])?;
        xml.close(name::SIGNATURE);
        xml.close(name::METADATA);
        Ok(xml.0.into_bytes())
    }
}

/// Choices for one key protector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// `MaxOfflineUnwraps`; the attribute is left out if `None`.
    pub max_offline_unwraps: Option<u32>,
    /// Whether a UTF-8 byte order mark is written.
    pub byte_order_mark: bool,
    /// Whether the octet-string length prefix is written.
    pub length_prefix: bool,
}

impl Default for EncodeOptions {
    /// The form that Hyper-V hands out: length prefix and byte order mark, no attribute.
    fn default() -> Self {
        Self { max_offline_unwraps: None, byte_order_mark: true, length_prefix: true }
    }
}

/// One wrapping of a template: its element up to the ciphertext and from there on.
struct WrappingTemplate {
    signing_sha1: crate::certificate::Sha1Thumbprint,
    public_key: rsa::PublicKey,
    before_ciphertext: String,
    after_ciphertext: String,
}

/// A maker of key protectors for one owner and its guardians.
///
/// Wrapping 1 is the owner's, the guardians follow in their order.
pub struct KeyProtectorTemplate {
    suite: AlgorithmSuite,
    schemes: Schemes,
    wrappings: Vec<WrappingTemplate>,
}

impl KeyProtectorTemplate {
    /// Number of the owner's wrapping.
    pub const OWNER_ID: WrappingId = WrappingId(1);

    /// Signs the certificates: two private operations per wrapping.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] if the registry does not know the suite, [`Error::Full`] for too many guardians,
    /// or [`Error::Rsa`].
    pub fn new<R: CryptoRng + ?Sized>(
        owner: &GuardianKeys,
        guardians: &[&GuardianKeys],
        suite: &AlgorithmSuite,
        registry: &AlgorithmRegistry,
        rng: &mut R,
    ) -> Result<Self, Error> {
        if guardians.len() >= MAX_WRAPPINGS {
            return Err(Error::Full);
        }
        let schemes = suite.resolve(registry)?;
        let mut wrappings = Vec::with_capacity(guardians.len() + 1);
        for (id, guardian) in (Self::OWNER_ID.0..).zip(core::iter::once(&owner).chain(guardians)) {
            let mut sign = |key: &PrivateKey, certificate: &Certificate| {
                schemes
                    .signature
                    .sign(&key.0, certificate.der(), rng)
                    .map(|value| Signature { algorithm: plain(&suite.signature), value })
            };
            let content = WrappingContent {
                id: WrappingId(id),
                parent_id: Self::OWNER_ID,
                signing_certificate: &guardian.signing_certificate,
                signing_certificate_signature: &sign(&owner.signing_key, &guardian.signing_certificate)?,
                encryption_certificate: &guardian.encryption_certificate,
                encryption_certificate_signature: &sign(
                    &guardian.signing_key,
                    &guardian.encryption_certificate,
                )?,
                key_transport: &suite.key_transport,
            };
            let (before_ciphertext, after_ciphertext) = content.encode(None)?;
            wrappings.push(WrappingTemplate {
                signing_sha1: guardian.signing_certificate.sha1(),
                public_key: guardian.encryption_certificate.public_key()?,
                before_ciphertext,
                after_ciphertext,
            });
        }
        Ok(Self { suite: suite.clone(), schemes, wrappings })
    }

    /// Makes one key protector: one private operation, and one public operation per wrapping.
    ///
    /// `signer` is the owner, as after a grant, or a guardian, as after its service rolled the transport key.
    /// The same random bytes give the same key protector.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] if the signer has no wrapping, or [`Error::Rsa`].
    pub fn encode<R: CryptoRng + ?Sized>(
        &self,
        transport_key: &TransportKey,
        signer: &GuardianKeys,
        options: &EncodeOptions,
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        let signer_sha1 = signer.signing_certificate.sha1();
        let signer_id = (Self::OWNER_ID.0..)
            .zip(&self.wrappings)
            .find(|(_, wrapping)| wrapping.signing_sha1 == signer_sha1)
            .map(|(id, _)| WrappingId(id))
            .ok_or_else(|| Error::KeyMismatch { thumbprint: format!("{signer_sha1}") })?;

        // Written in canonical form, so the signed bytes are at hand. In the document the declaration stands on
        // the root, from where the element inherits it.
        let mut canonical = format!("<{} xmlns=\"{KPS_NAMESPACE}\">", name::WRAPPINGS);
        let start_tag_bytes = canonical.len();
        for wrapping in &self.wrappings {
            let ciphertext =
                self.schemes.key_transport.encrypt(&wrapping.public_key, transport_key.expose(), rng)?;
            canonical.push_str(&wrapping.before_ciphertext);
            STANDARD.encode_string(ciphertext, &mut canonical);
            canonical.push_str(&wrapping.after_ciphertext);
        }
        canonical.push_str(&format!("</{}>", name::WRAPPINGS));

        let key = self.schemes.key_derivation.derive(transport_key.expose());
        let mac = self.schemes.mac.compute(&key, canonical.as_bytes());
        let signature = self.schemes.signature.sign(&signer.signing_key.0, canonical.as_bytes(), rng)?;

        let mut xml = Xml::default();
        if options.byte_order_mark {
            xml.raw("\u{FEFF}");
        }
        let max_offline_unwraps = options.max_offline_unwraps.map(|number| format!("{number}"));
        let mut attributes = alloc::vec![("xmlns", KPS_NAMESPACE)];
        attributes.extend(max_offline_unwraps.as_deref().map(|number| (name::MAX_OFFLINE_UNWRAPS, number)));
        xml.open(name::PROTECTOR, &attributes)?;
        xml.open(name::WRAPPINGS, &[])?;
        xml.raw(&canonical[start_tag_bytes..]);
        xml.raw(&encode_transport_key_signature(
            &plain(&self.suite.key_derivation),
            &Signature { algorithm: plain(&self.suite.mac), value: mac },
            None,
        )?);
        let signature = Signature { algorithm: plain(&self.suite.signature), value: signature };
        xml.raw(&encode_guardian_signature(signer_id, &signature, None)?);
        xml.close(name::PROTECTOR);
        let body = xml.0.into_bytes();
        Ok(if options.length_prefix { prefix_with_length(&body) } else { body })
    }
}

/// What stands in a `Wrapping` element besides the ciphertext.
pub(crate) struct WrappingContent<'a> {
    pub(crate) id: WrappingId,
    pub(crate) parent_id: WrappingId,
    pub(crate) signing_certificate: &'a Certificate,
    pub(crate) signing_certificate_signature: &'a Signature,
    pub(crate) encryption_certificate: &'a Certificate,
    pub(crate) encryption_certificate_signature: &'a Signature,
    pub(crate) key_transport: &'a str,
}

impl WrappingContent<'_> {
    /// Writes the element, cut where the ciphertext goes, in canonical form where `xmlns` is in force.
    pub(crate) fn encode(&self, xmlns: Option<&str>) -> Result<(String, String), Error> {
        let mut xml = Xml::default();
        xml.open(name::WRAPPING, &declaration(xmlns))?;
        xml.leaf(name::ID, &format!("{}", self.id))?;
        xml.binary(name::SIGNING_CERTIFICATE, self.signing_certificate.der())?;
        let parent = format!("{}", self.parent_id);
        xml.open(name::SIGNING_CERTIFICATE_SIGNATURE, &[(name::PARENT_WRAPPING_ID, &parent)])?;
        xml.signature(name::SIGNATURE, self.signing_certificate_signature)?;
        xml.close(name::SIGNING_CERTIFICATE_SIGNATURE);
        xml.binary(name::ENCRYPTION_CERTIFICATE, self.encryption_certificate.der())?;
        xml.open(name::ENCRYPTION_CERTIFICATE_SIGNATURE, &[])?;
        xml.signature(name::SIGNATURE, self.encryption_certificate_signature)?;
        xml.close(name::ENCRYPTION_CERTIFICATE_SIGNATURE);
        xml.open(name::TRANSPORT_KEY, &[])?;
        xml.open(name::ENCRYPTED_DATA, &[(name::ALGORITHM, self.key_transport)])?;
        xml.open(name::CIPHER_VALUE, &[])?;
        let before = core::mem::take(&mut xml.0);
        xml.close(name::CIPHER_VALUE);
        xml.close(name::ENCRYPTED_DATA);
        xml.close(name::TRANSPORT_KEY);
        xml.close(name::WRAPPING);
        Ok((before, xml.0))
    }
}

/// Writes a `TransportKeySignature` element.
pub(crate) fn encode_transport_key_signature(
    key_derivation_method: &Algorithm,
    signature: &Signature,
    xmlns: Option<&str>,
) -> Result<String, Error> {
    let mut xml = Xml::default();
    xml.open(name::TRANSPORT_KEY_SIGNATURE, &declaration(xmlns))?;
    refuse_parameters(AlgorithmRole::KeyDerivation, key_derivation_method)?;
    xml.open(name::KEY_DERIVATION_METHOD, &[(name::ALGORITHM, &key_derivation_method.uri)])?;
    xml.close(name::KEY_DERIVATION_METHOD);
    xml.signature(name::SIGNATURE, signature)?;
    xml.close(name::TRANSPORT_KEY_SIGNATURE);
    Ok(xml.0)
}

/// Writes a `GuardianSignature` element.
pub(crate) fn encode_guardian_signature(
    wrapping_id: WrappingId,
    signature: &Signature,
    xmlns: Option<&str>,
) -> Result<String, Error> {
    let id = format!("{wrapping_id}");
    let mut attributes = declaration(xmlns);
    attributes.push((name::WRAPPING_ID, &id));
    let mut xml = Xml::default();
    xml.open(name::GUARDIAN_SIGNATURE, &attributes)?;
    xml.signature(name::SIGNATURE, signature)?;
    xml.close(name::GUARDIAN_SIGNATURE);
    Ok(xml.0)
}

fn declaration(xmlns: Option<&str>) -> Vec<(&'static str, &str)> {
    xmlns.map(|uri| ("xmlns", uri)).into_iter().collect()
}

fn refuse_parameters(role: AlgorithmRole, algorithm: &Algorithm) -> Result<(), Error> {
    if algorithm.has_parameters {
        return Err(Error::ParametersNotUnderstood { role, uri: algorithm.uri.clone() });
    }
    Ok(())
}

/// XML text under construction, in canonical form but for the order of attributes, which callers keep.
#[derive(Default)]
struct Xml(String);

impl Xml {
    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn open(&mut self, element: &str, attributes: &[(&str, &str)]) -> Result<(), Error> {
        self.0.push('<');
        self.0.push_str(element);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            escape_attribute(&mut self.0, value)?;
            self.0.push('"');
        }
        self.0.push('>');
        Ok(())
    }

    fn close(&mut self, element: &str) {
        self.0.push_str("</");
        self.0.push_str(element);
        self.0.push('>');
    }

    fn leaf(&mut self, element: &str, text: &str) -> Result<(), Error> {
        self.open(element, &[])?;
        escape_text(&mut self.0, text)?;
        self.close(element);
        Ok(())
    }

    fn binary(&mut self, element: &str, bytes: &[u8]) -> Result<(), Error> {
        self.open(element, &[])?;
        STANDARD.encode_string(bytes, &mut self.0);
        self.close(element);
        Ok(())
    }

    fn signature(&mut self, element: &str, signature: &Signature) -> Result<(), Error> {
        refuse_parameters(AlgorithmRole::Signature, &signature.algorithm)?;
        self.open(element, &[(name::ALGORITHM, &signature.algorithm.uri)])?;
        self.binary(name::SIGNATURE_VALUE, &signature.value)?;
        self.close(element);
        Ok(())
    }
}
