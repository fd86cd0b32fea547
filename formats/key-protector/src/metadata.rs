//! Guardian metadata: `Metadata` of MS-KPS section 2.2.3.
//!
//! What a key protection service publishes about itself, and probably what `Export-HgsGuardian` writes
//! (*unverified*): the guardian's two certificates with their signatures. Public in whole.
//!
//! The enveloped XML signature is carried, not verified.

use alloc::string::String;
use alloc::vec::Vec;

use crate::certificate::{Certificate, GuardianName};
use crate::error::{Corruption, Error};
use crate::layout::{DSIG_NAMESPACE, MAX_OTHER_CERTIFICATES, name};
use crate::protector::{Signature, parse_certificate, parse_signature};
use crate::value::Document;
use crate::xml::{self, Elements};

/// A guardian's public certificates with the signatures that bind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardianMetadata {
    document: Document,
    version: u32,
    id: Option<String>,
    information_version: u32,
    encryption_certificate: Certificate,
    signing_certificate: Certificate,
    encryption_certificate_signature: Signature,
    signing_certificate_self_signature: Signature,
    other_signing_certificates: Vec<Certificate>,
    has_xml_signature: bool,
}

impl GuardianMetadata {
    /// Parses a metadata document. A byte order mark and UTF-16 are accepted.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Corrupt`] with the rule that the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let document = Document::parse("guardian metadata", bytes)?;
        let tree = xml::parse(document.text())?;
        // The specification allows further attributes of the root and further elements after the known ones.
        let root = xml::root(&tree, name::METADATA)?;
        let version = xml::number_attribute(root, name::VERSION)?;
        let id = root.attribute(name::METADATA_ID).map(String::from);
        let mut elements = Elements::of(root)?;
        let information = elements.required(name::GUARDIAN_INFORMATION)?;
        let has_xml_signature =
            elements.rest().iter().any(|element| element.has_tag_name((DSIG_NAMESPACE, name::SIGNATURE)));

        let mut elements = Elements::of(information)?;
        let information_version = xml::number_of(elements.required(name::VERSION)?, name::VERSION)?;
        let encryption_certificate = parse_certificate(
            elements.required(name::ENCRYPTION_CERTIFICATE)?,
            name::ENCRYPTION_CERTIFICATE,
        )?;
        let signing_certificate =
            parse_certificate(elements.required(name::SIGNING_CERTIFICATE)?, name::SIGNING_CERTIFICATE)?;
        let encryption_certificate_signature =
            parse_signature(elements.required(name::ENCRYPTION_CERTIFICATE_SIGNATURE)?)?;
        let signing_certificate_self_signature =
            parse_signature(elements.required(name::SIGNING_CERTIFICATE_SELF_SIGNATURE)?)?;
        let mut other_signing_certificates = Vec::new();
        if let Some(others) = elements.optional(name::OTHER_SIGNING_CERTIFICATES) {
            let mut others = Elements::of(others)?;
            while let Some(other) = others.optional(name::CERTIFICATE) {
                if other_signing_certificates.len() == MAX_OTHER_CERTIFICATES {
                    return Err(Corruption::TooMany {
                        what: "other signing certificates",
                        max: MAX_OTHER_CERTIFICATES,
                    }
                    .into());
                }
                other_signing_certificates.push(parse_certificate(other, name::CERTIFICATE)?);
            }
            others.end()?;
        }
        elements.end()?;
        drop(tree);
        Ok(Self {
            document,
            version,
            id,
            information_version,
            encryption_certificate,
            signing_certificate,
            encryption_certificate_signature,
            signing_certificate_self_signature,
            other_signing_certificates,
            has_xml_signature,
        })
    }

    /// The exact bytes that were parsed.
    #[must_use]
    pub fn original_bytes(&self) -> &[u8] {
        self.document.bytes()
    }

    /// The version of the document.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The XML identifier of the document.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The version of the guardian information.
    #[must_use]
    pub fn information_version(&self) -> u32 {
        self.information_version
    }

    /// Certificate of the encryption key.
    #[must_use]
    pub fn encryption_certificate(&self) -> &Certificate {
        &self.encryption_certificate
    }

    /// Certificate of the signing key.
    #[must_use]
    pub fn signing_certificate(&self) -> &Certificate {
        &self.signing_certificate
    }

    /// Signature of the signing key over the encryption certificate.
    #[must_use]
    pub fn encryption_certificate_signature(&self) -> &Signature {
        &self.encryption_certificate_signature
    }

    /// Signature of the signing key over its own certificate.
    #[must_use]
    pub fn signing_certificate_self_signature(&self) -> &Signature {
        &self.signing_certificate_self_signature
    }

    /// Further signing certificates of the guardian.
    #[must_use]
    pub fn other_signing_certificates(&self) -> &[Certificate] {
        &self.other_signing_certificates
    }

    /// Tells whether the document carries an XML signature. It is not verified.
    #[must_use]
    pub fn has_xml_signature(&self) -> bool {
        self.has_xml_signature
    }

    /// The guardian's name, taken from the signing certificate.
    #[must_use]
    pub fn guardian_name(&self) -> GuardianName<'_> {
        self.signing_certificate.guardian_name()
    }
}
