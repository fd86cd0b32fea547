//! What can go wrong, one variant per cause.
//!
//! [`Corruption`] lists the rules of the format that bytes can break; [`CanonicalizationError`] the XML that the
//! canonical form does not cover; [`Error`] is everything else an operation can answer.
//!
//! No message holds a secret: certificates, URIs and numbers only.

use alloc::string::String;

use crate::algorithm::AlgorithmRole;
use crate::protector::WrappingId;

/// The reason why an operation of this crate failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The value says that the VM has no key protector.
    #[error("the VM has no key protector")]
    NoKeyProtector,
    /// The input is larger than anything of its kind.
    #[error("{what} has {have} bytes, more than the limit of {max}")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Largest size in bytes.
        max: usize,
        /// Size in bytes.
        have: usize,
    },
    /// The file holds none of the forms in which a key protector is saved.
    #[error("the file is neither a key protector nor one saved as decimal numbers or base64")]
    UnknownSavedForm,
    /// A line of decimal numbers holds something else than a byte.
    #[error("item {index} of the decimal numbers is not a byte (0 to 255)")]
    NotAByte {
        /// Position of the item, from 0.
        index: usize,
    },
    /// The bytes break a rule of the format.
    #[error("damaged document: {0}")]
    Corrupt(#[from] Corruption),
    /// The signed bytes cannot be computed.
    #[error("the signed form of the wrappings is not known: {0}")]
    Canonicalization(#[from] CanonicalizationError),
    /// The registry does not know the algorithm.
    #[error("the {role} algorithm `{uri}` is not known")]
    UnknownAlgorithm {
        /// What the algorithm is used for.
        role: AlgorithmRole,
        /// Its URI.
        uri: String,
    },
    /// The algorithm is known, but carries parameters, which no registry entry understands.
    #[error("the parameters of the {role} algorithm `{uri}` are not understood")]
    ParametersNotUnderstood {
        /// What the algorithm is used for.
        role: AlgorithmRole,
        /// Its URI.
        uri: String,
    },
    /// A private key file is not one unencrypted RSA key in PKCS#8 or PKCS#1 form.
    #[error("not an unencrypted RSA private key (PKCS#8 or PKCS#1): {reason}")]
    PrivateKey {
        /// What the decoder said.
        reason: String,
    },
    /// A private key file holds an encrypted key.
    #[error("the private key is encrypted; decrypt it first (openssl pkcs8 -in KEY -out KEY.plain)")]
    EncryptedPrivateKey,
    /// The certificate's public key is not an RSA key of 1024 to 8192 bits.
    #[error("the public key of certificate {thumbprint} is not an RSA key of 1024 to 8192 bits")]
    PublicKey {
        /// SHA-1 thumbprint in hexadecimal digits.
        thumbprint: String,
    },
    /// A private key does not belong to its certificate.
    #[error("the private key does not belong to certificate {thumbprint}")]
    KeyMismatch {
        /// SHA-1 thumbprint in hexadecimal digits.
        thumbprint: String,
    },
    /// No wrapping is addressed to the given encryption key.
    #[error("the key protector is not addressed to this encryption key")]
    NotAddressed,
    /// The transport key could not be decrypted: wrong algorithm or altered ciphertext.
    #[error("the transport key of wrapping {id} could not be decrypted")]
    Decryption {
        /// The wrapping.
        id: WrappingId,
    },
    /// A transport key is empty or longer than any known one.
    #[error("a transport key of {bytes} bytes is not possible")]
    TransportKeySize {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The transport key was decrypted, but its signature over the wrappings does not verify.
    #[error(
        "the transport key does not verify its own signature: altered wrappings, or not the algorithms of this document"
    )]
    SelfTest,
    /// The given keys are not those of the owner.
    #[error("the {role} key is not that of the owner (wrapping {owner})")]
    NotTheOwner {
        /// Which of the two keys.
        role: AlgorithmRole,
        /// The owner's wrapping.
        owner: WrappingId,
    },
    /// The operation needs exactly one owner.
    #[error("the key protector has {owners} owners; only one can be handled")]
    SeveralOwners {
        /// Number of self-parented wrappings.
        owners: usize,
    },
    /// A signature of the key protector or of the guardian does not verify, or could not be checked.
    #[error("{what} is not proved valid; nothing is signed on top of it")]
    NotVerified {
        /// Which signature.
        what: &'static str,
    },
    /// The guardian is already in the key protector.
    #[error("the guardian is already granted (wrapping {id})")]
    AlreadyGranted {
        /// Its wrapping.
        id: WrappingId,
    },
    /// No wrapping has this number.
    #[error("there is no wrapping {id}")]
    NoSuchWrapping {
        /// The number.
        id: WrappingId,
    },
    /// The owner cannot be revoked.
    #[error("wrapping {id} is the owner, which cannot be revoked")]
    OwnerCannotBeRevoked {
        /// The owner's wrapping.
        id: WrappingId,
    },
    /// Other wrappings chain to the one to be revoked.
    #[error("wrapping {child} is signed by wrapping {id}; revoke it first")]
    HasDependants {
        /// The wrapping to be revoked.
        id: WrappingId,
        /// One that chains to it.
        child: WrappingId,
    },
    /// The key protector holds as many wrappings, or as high a number, as it can.
    #[error("no further wrapping fits into the key protector")]
    Full,
    /// An RSA operation failed for a reason that its inputs do not explain.
    #[error("RSA operation failed: {reason}")]
    Rsa {
        /// What the RSA implementation said.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("certificate could not be made: {reason}")]
    CertificateBuild {
        /// What the builder said.
        reason: String,
    },
}

/// A rule of the format that the bytes break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// There are no bytes, or fewer than a length prefix has.
    #[error("{have} bytes, too few for a length prefix")]
    Short {
        /// Size in bytes.
        have: usize,
    },
    /// The length prefix must be the size of the value, itself included.
    #[error("the length prefix says {declared} bytes, the value has {have}")]
    LengthPrefix {
        /// Value of the prefix.
        declared: u32,
        /// Size in bytes.
        have: usize,
    },
    /// The text must be valid UTF-8, or UTF-16 recognised by its mark or its first characters.
    #[error("the text is not valid {encoding}")]
    Text {
        /// Name of the encoding.
        encoding: &'static str,
    },
    /// The XML declaration must name UTF-8 or UTF-16.
    #[error("the XML declaration names the encoding `{encoding}`")]
    DeclaredEncoding {
        /// The name.
        encoding: String,
    },
    /// There must be no document type declaration.
    #[error("document type declarations are refused")]
    DocumentType,
    /// There must be no entity besides the five of XML itself.
    #[error("entity references are refused (line {line}, column {column})")]
    Entity {
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// The text must be well-formed XML with namespaces.
    #[error("not well-formed XML (line {line}, column {column}): {reason}")]
    Xml {
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// What the XML parser said.
        reason: String,
    },
    /// A limit on the XML is exceeded.
    #[error("more than {max} {what}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The root element must be the expected one.
    #[error("the root element is `{found}` of namespace `{namespace}`, not `{expected}`")]
    Root {
        /// Expected local name.
        expected: &'static str,
        /// Local name found.
        found: String,
        /// Its namespace; empty for none.
        namespace: String,
    },
    /// An element must be present at this place.
    #[error("`{parent}` lacks the element `{expected}`{}", found_instead(.found))]
    MissingElement {
        /// The parent element.
        parent: String,
        /// Name of what was expected.
        expected: &'static str,
        /// The element found at its place, if any.
        found: Option<String>,
    },
    /// An element must not be at this place.
    #[error("unexpected element `{found}` in `{parent}`")]
    UnexpectedElement {
        /// The parent element.
        parent: String,
        /// Its name.
        found: String,
    },
    /// Text must not stand between elements.
    #[error("text between the elements of `{parent}`")]
    UnexpectedText {
        /// The parent element.
        parent: String,
    },
    /// An unqualified attribute must be one of the specification.
    #[error("unexpected attribute `{attribute}` of `{element}`")]
    UnexpectedAttribute {
        /// The element.
        element: String,
        /// Name of the attribute.
        attribute: String,
    },
    /// An attribute must be present.
    #[error("`{element}` lacks the attribute `{attribute}`")]
    MissingAttribute {
        /// The element.
        element: String,
        /// Name of the attribute.
        attribute: &'static str,
    },
    /// A number must be an unsigned 32-bit decimal.
    #[error("`{place}` is not an unsigned 32-bit number")]
    Number {
        /// Element or attribute.
        place: &'static str,
    },
    /// Binary content must be strict base64: padded, without stray bits.
    #[error("`{place}` is not strict base64")]
    Base64 {
        /// The element.
        place: &'static str,
    },
    /// Binary content must have a size within its limits.
    #[error("`{place}` has {have} bytes; 1 to {max} are possible")]
    BinarySize {
        /// The element.
        place: &'static str,
        /// The limit in bytes.
        max: usize,
        /// Size in bytes.
        have: usize,
    },
    /// An algorithm URI must not be empty or overlong.
    #[error("the algorithm of `{element}` is empty or longer than any URI")]
    AlgorithmUri {
        /// The element.
        element: String,
    },
    /// A certificate must be an X.509 certificate in DER.
    #[error("`{place}` is not an X.509 certificate: {reason}")]
    Certificate {
        /// The element.
        place: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The number of a wrapping must be unique.
    #[error("wrapping number {id} occurs twice")]
    DuplicateWrappingId {
        /// The number.
        id: WrappingId,
    },
    /// The parent of a wrapping must exist.
    #[error("wrapping {id} names the parent {parent}, which does not exist")]
    MissingParent {
        /// The wrapping.
        id: WrappingId,
        /// Its parent.
        parent: WrappingId,
    },
    /// The chain of parents must end at a wrapping that is its own parent.
    #[error("the parents of wrapping {id} form a cycle")]
    ParentCycle {
        /// A wrapping whose chain never ends.
        id: WrappingId,
    },
    /// The signer of the wrappings must be one of them.
    #[error("the guardian signature names wrapping {id}, which does not exist")]
    UnknownSigner {
        /// The number.
        id: WrappingId,
    },
}

fn found_instead(found: &Option<String>) -> String {
    match found {
        Some(found) => alloc::format!("; `{found}` stands at its place"),
        None => String::new(),
    }
}

/// XML inside `Wrappings` for which this crate does not compute a canonical form.
///
/// No document that MS-KPS allows needs any of these; refusing them costs nothing and leaves no doubt about
/// which bytes a signature covers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalizationError {
    /// A character reference such as `&#13;`.
    #[error("it holds a character reference")]
    CharacterReference,
    /// A CDATA section.
    #[error("it holds a CDATA section")]
    CdataSection,
    /// A processing instruction.
    #[error("it holds a processing instruction")]
    ProcessingInstruction,
    /// A namespace name that is not an absolute URI, for which Canonical XML must fail, or one with characters
    /// that need escapes, which implementations are known to write differently.
    #[error("it uses the namespace name `{uri}`, which is not a plain absolute URI")]
    NamespaceName {
        /// The name.
        uri: String,
    },
    /// A carriage return that survived the XML parser.
    #[error("it holds a carriage return that is not a line end")]
    CarriageReturn,
}
