//! The key protector: `Protector` of MS-KPS section 2.2.2.
//!
//! A VM's transport key, wrapped once per owner and guardian, and signed twice as a whole. Parsing keeps the
//! exact bytes, computes the signed form of `Wrappings`, and guarantees the shape: unique numbers, existing
//! parents, chains that end at an owner.
//!
//! Parsing verifies no signature ([`verify`](crate::verify)) and needs no secret.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use roxmltree::Node;

use crate::algorithm::Algorithm;
use crate::canonical::canonical_form;
use crate::certificate::{Certificate, GuardianName};
use crate::error::{CanonicalizationError, Corruption, Error};
use crate::layout::{
    MAX_ALGORITHM_URI_CHARACTERS, MAX_CERTIFICATE_BYTES, MAX_CRYPTOGRAM_BYTES, MAX_WRAPPINGS, name,
};
use crate::value::{Document, Encoding};
use crate::xml::{self, Elements};

/// Number of a wrapping, unique in its key protector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WrappingId(pub u32);

impl fmt::Display for WrappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signature with the algorithm that the document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The signature's bytes.
    pub value: Vec<u8>,
}

/// Data encrypted to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedData {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The ciphertext.
    pub cipher_value: Vec<u8>,
}

/// The transport key, wrapped for one owner or guardian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapping {
    /// Its number.
    pub id: WrappingId,
    /// Certificate of the signing key.
    pub signing_certificate: Certificate,
    /// The wrapping whose key signed that certificate. An owner is its own parent.
    pub parent_id: WrappingId,
    /// Signature of the parent over the signing certificate.
    pub signing_certificate_signature: Signature,
    /// Certificate of the encryption key.
    pub encryption_certificate: Certificate,
    /// Signature of this wrapping's signing key over the encryption certificate.
    pub encryption_certificate_signature: Signature,
    /// The transport key, encrypted to the encryption certificate.
    pub transport_key: EncryptedData,
    /// Place of the element in the text.
    pub(crate) range: Range<usize>,
}

impl Wrapping {
    /// Tells whether the wrapping is that of an owner: it is its own parent.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.parent_id == self.id
    }

    /// The name of the owner or guardian, taken from the signing certificate.
    #[must_use]
    pub fn guardian_name(&self) -> GuardianName<'_> {
        self.signing_certificate.guardian_name()
    }
}

/// The signature over the wrappings with a key derived from the transport key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportKeySignature {
    /// How the key is derived.
    pub key_derivation_method: Algorithm,
    /// The signature.
    pub signature: Signature,
    pub(crate) range: Range<usize>,
}

/// The signature over the wrappings by the signing key of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardianSignature {
    /// The wrapping whose key signed; it exists.
    pub wrapping_id: WrappingId,
    /// The signature.
    pub signature: Signature,
    pub(crate) range: Range<usize>,
}

/// A VM key protector: who can open a VM's vTPM state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProtector {
    pub(crate) document: Document,
    pub(crate) wrappings_range: Range<usize>,
    pub(crate) signed_form: Result<String, CanonicalizationError>,
    max_offline_unwraps: u32,
    wrappings: Vec<Wrapping>,
    transport_key_signature: TransportKeySignature,
    guardian_signature: GuardianSignature,
}

impl KeyProtector {
    /// Parses a value as Hyper-V hands it out, or the XML document alone.
    ///
    /// Accepted are: length prefix or none, byte order mark or none, XML declaration or none, UTF-8 or UTF-16.
    ///
    /// # Errors
    /// [`Error::NoKeyProtector`] for the value that says so, [`Error::TooLarge`], or [`Error::Corrupt`] with the
    /// rule that the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let document = Document::parse("key protector", bytes)?;
        let tree = xml::parse(document.text())?;
        let root = xml::root(&tree, name::PROTECTOR)?;
        xml::check_attributes(root, &[name::MAX_OFFLINE_UNWRAPS])?;
        let max_offline_unwraps = match root.attribute(name::MAX_OFFLINE_UNWRAPS) {
            Some(number) => xml::parse_number(number, name::MAX_OFFLINE_UNWRAPS)?,
            None => 0,
        };
        let mut elements = Elements::of(root)?;
        let wrappings_element = elements.required(name::WRAPPINGS)?;
        let wrappings = parse_wrappings(wrappings_element)?;
        let transport_key_signature =
            parse_transport_key_signature(elements.required(name::TRANSPORT_KEY_SIGNATURE)?)?;
        let guardian_signature = parse_guardian_signature(elements.required(name::GUARDIAN_SIGNATURE)?)?;
        elements.end()?;

        check_chains(&wrappings)?;
        let signer = guardian_signature.wrapping_id;
        if !wrappings.iter().any(|wrapping| wrapping.id == signer) {
            return Err(Corruption::UnknownSigner { id: signer }.into());
        }
        let wrappings_range = wrappings_element.range();
        let signed_form = canonical_form(wrappings_element);
        drop(tree);
        Ok(Self {
            document,
            wrappings_range,
            signed_form,
            max_offline_unwraps,
            wrappings,
            transport_key_signature,
            guardian_signature,
        })
    }

    /// The exact bytes that were parsed.
    #[must_use]
    pub fn original_bytes(&self) -> &[u8] {
        self.document.bytes()
    }

    /// The exact bytes of the `Wrappings` element, in the encoding of the document.
    #[must_use]
    pub fn wrappings_bytes(&self) -> &[u8] {
        self.document.bytes_of(self.wrappings_range.clone())
    }

    /// The bytes that both outer signatures cover: `Wrappings` in exclusive canonical form.
    ///
    /// # Errors
    /// [`CanonicalizationError`] if the element holds XML whose canonical form is not covered.
    pub fn signed_bytes(&self) -> Result<&[u8], CanonicalizationError> {
        self.signed_form.as_ref().map(String::as_bytes).map_err(Clone::clone)
    }

    /// Tells whether the source text of `Wrappings` is its canonical form but for inherited namespaces.
    ///
    /// Where it is not, white space inside tags and the like can change without the signatures noticing.
    #[must_use]
    pub fn is_canonical_in_source(&self) -> bool {
        // Inherited namespaces are declared in the start tag of the canonical form, so that tag is compared apart.
        let source = &self.document.text()[self.wrappings_range.clone()];
        let Ok(signed) = self.signed_form.as_deref() else { return false };
        let (Some((source_tag, source_rest)), Some((signed_tag, signed_rest))) =
            (source.split_once('>'), signed.split_once('>'))
        else {
            return false;
        };
        source_rest == signed_rest && (source_tag == signed_tag || !source_tag.contains(char::is_whitespace))
    }

    /// Tells whether the value began with an octet-string length prefix.
    #[must_use]
    pub fn has_length_prefix(&self) -> bool {
        self.document.has_length_prefix()
    }

    /// The character encoding of the document.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.document.encoding()
    }

    /// How often a host may unwrap a cached key without HGS. Zero: never.
    #[must_use]
    pub fn max_offline_unwraps(&self) -> u32 {
        self.max_offline_unwraps
    }

    /// All wrappings, in the order of the document. There is at least one.
    #[must_use]
    pub fn wrappings(&self) -> &[Wrapping] {
        &self.wrappings
    }

    /// Looks up a wrapping by its number.
    #[must_use]
    pub fn wrapping(&self, id: WrappingId) -> Option<&Wrapping> {
        self.wrappings.iter().find(|wrapping| wrapping.id == id)
    }

    /// The owners: wrappings that are their own parents. There is at least one; the Windows tools know only one.
    pub fn owners(&self) -> impl Iterator<Item = &Wrapping> {
        self.wrappings.iter().filter(|wrapping| wrapping.is_owner())
    }

    /// The owner, if there is exactly one.
    ///
    /// # Errors
    /// [`Error::SeveralOwners`].
    pub fn sole_owner(&self) -> Result<&Wrapping, Error> {
        let mut owners = self.owners();
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Ok(owner),
            _ => Err(Error::SeveralOwners { owners: self.owners().count() }),
        }
    }

    /// The guardians: all wrappings that are not an owner's.
    pub fn guardians(&self) -> impl Iterator<Item = &Wrapping> {
        self.wrappings.iter().filter(|wrapping| !wrapping.is_owner())
    }

    /// The signature over the wrappings with a key derived from the transport key.
    #[must_use]
    pub fn transport_key_signature(&self) -> &TransportKeySignature {
        &self.transport_key_signature
    }

    /// The signature over the wrappings by one of the signing keys.
    #[must_use]
    pub fn guardian_signature(&self) -> &GuardianSignature {
        &self.guardian_signature
    }
}

fn parse_wrappings(element: Node<'_, '_>) -> Result<Vec<Wrapping>, Corruption> {
    xml::check_attributes(element, &[])?;
    let mut elements = Elements::of(element)?;
    let mut wrappings = alloc::vec![parse_wrapping(elements.required(name::WRAPPING)?)?];
    while let Some(element) = elements.optional(name::WRAPPING) {
        if wrappings.len() == MAX_WRAPPINGS {
            return Err(Corruption::TooMany { what: "wrappings", max: MAX_WRAPPINGS });
        }
        wrappings.push(parse_wrapping(element)?);
    }
    elements.end()?;
    Ok(wrappings)
}

fn parse_wrapping(element: Node<'_, '_>) -> Result<Wrapping, Corruption> {
    xml::check_attributes(element, &[])?;
    let mut elements = Elements::of(element)?;
    let id = WrappingId(xml::number_of(elements.required(name::ID)?, name::ID)?);
    let signing_certificate =
        parse_certificate(elements.required(name::SIGNING_CERTIFICATE)?, name::SIGNING_CERTIFICATE)?;
    let signed = elements.required(name::SIGNING_CERTIFICATE_SIGNATURE)?;
    xml::check_attributes(signed, &[name::PARENT_WRAPPING_ID])?;
    let parent_id = WrappingId(xml::number_attribute(signed, name::PARENT_WRAPPING_ID)?);
    let signing_certificate_signature = parse_only_signature(signed)?;
    let encryption_certificate =
        parse_certificate(elements.required(name::ENCRYPTION_CERTIFICATE)?, name::ENCRYPTION_CERTIFICATE)?;
    let signed = elements.required(name::ENCRYPTION_CERTIFICATE_SIGNATURE)?;
    xml::check_attributes(signed, &[])?;
    let encryption_certificate_signature = parse_only_signature(signed)?;
    let transport_key = parse_transport_key(elements.required(name::TRANSPORT_KEY)?)?;
    elements.end()?;
    Ok(Wrapping {
        id,
        signing_certificate,
        parent_id,
        signing_certificate_signature,
        encryption_certificate,
        encryption_certificate_signature,
        transport_key,
        range: element.range(),
    })
}

fn parse_transport_key(element: Node<'_, '_>) -> Result<EncryptedData, Corruption> {
    xml::check_attributes(element, &[])?;
    let mut elements = Elements::of(element)?;
    let data = elements.required(name::ENCRYPTED_DATA)?;
    elements.end()?;
    let mut elements = Elements::of(data)?;
    let algorithm = parse_algorithm(data, &mut elements)?;
    let cipher_value = elements.required(name::CIPHER_VALUE)?;
    elements.end()?;
    Ok(EncryptedData {
        algorithm,
        cipher_value: xml::binary_of(cipher_value, name::CIPHER_VALUE, MAX_CRYPTOGRAM_BYTES)?,
    })
}

fn parse_transport_key_signature(element: Node<'_, '_>) -> Result<TransportKeySignature, Corruption> {
    xml::check_attributes(element, &[])?;
    let mut elements = Elements::of(element)?;
    let method = elements.required(name::KEY_DERIVATION_METHOD)?;
    let signature = parse_signature(elements.required(name::SIGNATURE)?)?;
    elements.end()?;
    let mut elements = Elements::of(method)?;
    let key_derivation_method = parse_algorithm(method, &mut elements)?;
    elements.end()?;
    Ok(TransportKeySignature { key_derivation_method, signature, range: element.range() })
}

fn parse_guardian_signature(element: Node<'_, '_>) -> Result<GuardianSignature, Corruption> {
    xml::check_attributes(element, &[name::WRAPPING_ID])?;
    let wrapping_id = WrappingId(xml::number_attribute(element, name::WRAPPING_ID)?);
    Ok(GuardianSignature { wrapping_id, signature: parse_only_signature(element)?, range: element.range() })
}

/// An element whose only child is `Signature`.
fn parse_only_signature(element: Node<'_, '_>) -> Result<Signature, Corruption> {
    let mut elements = Elements::of(element)?;
    let signature = parse_signature(elements.required(name::SIGNATURE)?)?;
    elements.end()?;
    Ok(signature)
}

/// An element of the signature type: an algorithm and `SignatureValue`.
pub(crate) fn parse_signature(element: Node<'_, '_>) -> Result<Signature, Corruption> {
    let mut elements = Elements::of(element)?;
    let algorithm = parse_algorithm(element, &mut elements)?;
    let value = elements.required(name::SIGNATURE_VALUE)?;
    elements.end()?;
    Ok(Signature { algorithm, value: xml::binary_of(value, name::SIGNATURE_VALUE, MAX_CRYPTOGRAM_BYTES)? })
}

/// The algorithm of an element: its attribute, and `Parameters` as first child.
fn parse_algorithm(element: Node<'_, '_>, elements: &mut Elements<'_, '_>) -> Result<Algorithm, Corruption> {
    xml::check_attributes(element, &[name::ALGORITHM])?;
    let uri = xml::attribute(element, name::ALGORITHM)?;
    if uri.is_empty() || uri.chars().count() > MAX_ALGORITHM_URI_CHARACTERS {
        return Err(Corruption::AlgorithmUri { element: xml::name_of(element) });
    }
    let parameters = elements.optional(name::PARAMETERS);
    let source = element.document().input_text();
    Ok(Algorithm {
        uri: uri.into(),
        parameters: parameters.map(|node| source[node.range()].into()),
        has_parameters: parameters.is_some_and(|node| {
            let mut children = node.children();
            node.attributes().len() > 0
                || children.any(|child| {
                    !child.is_comment() && !child.text().is_some_and(|text| text.trim_ascii().is_empty())
                })
        }),
    })
}

/// A certificate in base64.
pub(crate) fn parse_certificate(
    element: Node<'_, '_>,
    place: &'static str,
) -> Result<Certificate, Corruption> {
    Certificate::parse_at(place, &xml::binary_of(element, place, MAX_CERTIFICATE_BYTES)?)
}

/// Checks that numbers are unique and that every chain of parents ends at an owner.
fn check_chains(wrappings: &[Wrapping]) -> Result<(), Corruption> {
    let mut parents: Vec<(WrappingId, WrappingId)> = wrappings.iter().map(|w| (w.id, w.parent_id)).collect();
    parents.sort_unstable();
    if let Some(pair) = parents.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Corruption::DuplicateWrappingId { id: pair[0].0 });
    }
    let parent_of =
        |id: WrappingId| parents.binary_search_by_key(&id, |(id, _)| *id).ok().map(|index| parents[index].1);
    for (id, parent) in &parents {
        if parent_of(*parent).is_none() {
            return Err(Corruption::MissingParent { id: *id, parent: *parent });
        }
    }
    for (id, _) in &parents {
        let mut at = *id;
        let ends = (0..parents.len()).any(|_| {
            let parent = parent_of(at);
            let is_owner = parent == Some(at);
            at = parent.unwrap_or(at);
            is_owner
        });
        if !ends {
            return Err(Corruption::ParentCycle { id: *id });
        }
    }
    Ok(())
}
