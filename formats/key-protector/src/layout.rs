//! Names, URIs and limits of the format.
//!
//! Every element name, namespace, algorithm URI and limit that the parser or the writer uses, under the
//! names of `FORMAT.md`. Section numbers without a document are those of MS-KPS v20240423.
//!
//! No code: what a name means is decided by the module that uses it.

/// Size in bytes of the big-endian length prefix of a CIM octet string. It counts itself.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// The value that Hyper-V returns for a VM without a key protector: a length prefix and no data.
pub const NO_KEY_PROTECTOR: [u8; LENGTH_PREFIX_BYTES] = [0, 0, 0, 4];

/// Namespace of `Protector`, `Metadata` and all their elements (section 2.2). Attributes are unqualified.
pub const KPS_NAMESPACE: &str = "http://schemas.microsoft.com/kps/2014/07";

/// Namespace of the enveloped signature in `Metadata` (section 2.2.3).
pub const DSIG_NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Most bytes of a key protector or of guardian metadata.
///
/// A key protector takes about 4 KiB per guardian, so this is hundreds of guardians. It also keeps the first
/// four bytes of every XML encoding above any valid length prefix, which tells the two byte forms apart.
pub const MAX_DOCUMENT_BYTES: usize = 2 << 20;

/// Most bytes of a file that an administrator saved: decimal lines in UTF-16 take up to ten bytes per byte.
pub const MAX_SAVED_FILE_BYTES: usize = 10 * MAX_DOCUMENT_BYTES;

/// Most XML nodes of one document. A wrapping has about 25, white space counted.
pub const MAX_XML_NODES: u32 = 1 << 15;

/// Deepest nesting of elements. `Protector` needs seven levels; `Parameters` may hold any elements.
pub const MAX_XML_DEPTH: usize = 32;

/// Most `=` signs between one `<` and the next: bounds the attributes of a tag, whose check for duplicates
/// is quadratic. Base64 text adds at most two.
pub const MAX_EQUAL_SIGNS_PER_TAG: usize = 64;

/// Most namespace declarations of one document: bounds the cost of their inheritance, which is quadratic.
pub const MAX_NAMESPACE_DECLARATIONS: usize = 1024;

/// Most wrappings of one key protector. Every guarded fabric that may start the VM takes one.
pub const MAX_WRAPPINGS: usize = 256;

/// Most certificates in `OtherSigningCertificates`.
pub const MAX_OTHER_CERTIFICATES: usize = 256;

/// Most bytes of one DER certificate. RSA certificates take 0.8 to 3 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 64 << 10;

/// Most bytes of a signature or ciphertext: four times that of an RSA-8192 key, the largest that is used.
pub const MAX_CRYPTOGRAM_BYTES: usize = 4 << 10;

/// Most characters of an algorithm URI.
pub const MAX_ALGORITHM_URI_CHARACTERS: usize = 1024;

/// Most bytes of a transport key. No size is specified; 32 bytes are assumed in our fixtures.
pub const MAX_TRANSPORT_KEY_BYTES: usize = 512;

/// Most bytes of a PEM file with one private key: an RSA-8192 key takes about 6.5 KiB.
pub const MAX_PRIVATE_KEY_FILE_BYTES: usize = 64 << 10;

/// Element and attribute names (sections 2.2.2 and 2.2.3).
pub mod name {
    /// Root of a key protector.
    pub const PROTECTOR: &str = "Protector";
    /// Attribute of `Protector`: how often a cached key may be unwrapped without HGS; 0 when absent.
    pub const MAX_OFFLINE_UNWRAPS: &str = "MaxOfflineUnwraps";
    /// The signed part of a key protector.
    pub const WRAPPINGS: &str = "Wrappings";
    /// The transport key, wrapped for one owner or guardian.
    pub const WRAPPING: &str = "Wrapping";
    /// Number of a wrapping.
    pub const ID: &str = "Id";
    /// X.509 certificate of a signing key.
    pub const SIGNING_CERTIFICATE: &str = "SigningCertificate";
    /// Signature of the parent wrapping over a signing certificate.
    pub const SIGNING_CERTIFICATE_SIGNATURE: &str = "SigningCertificateSignature";
    /// Attribute of `SigningCertificateSignature`: the wrapping whose key signed.
    pub const PARENT_WRAPPING_ID: &str = "ParentWrappingId";
    /// X.509 certificate of an encryption key.
    pub const ENCRYPTION_CERTIFICATE: &str = "EncryptionCertificate";
    /// Signature of a wrapping's own signing key over its encryption certificate.
    pub const ENCRYPTION_CERTIFICATE_SIGNATURE: &str = "EncryptionCertificateSignature";
    /// Holder of the wrapped transport key.
    pub const TRANSPORT_KEY: &str = "TransportKey";
    /// Ciphertext with its algorithm.
    pub const ENCRYPTED_DATA: &str = "EncryptedData";
    /// The ciphertext.
    pub const CIPHER_VALUE: &str = "CipherValue";
    /// Signature over `Wrappings` with a key derived from the transport key.
    pub const TRANSPORT_KEY_SIGNATURE: &str = "TransportKeySignature";
    /// How that key is derived.
    pub const KEY_DERIVATION_METHOD: &str = "KeyDerivationMethod";
    /// Signature over `Wrappings` by one wrapping's signing key.
    pub const GUARDIAN_SIGNATURE: &str = "GuardianSignature";
    /// Attribute of `GuardianSignature`: the wrapping whose key signed.
    pub const WRAPPING_ID: &str = "WrappingId";
    /// A signature with its algorithm. Also the local name of the enveloped signature in `Metadata`.
    pub const SIGNATURE: &str = "Signature";
    /// The bytes of a signature.
    pub const SIGNATURE_VALUE: &str = "SignatureValue";
    /// Attribute: the URI of an algorithm.
    pub const ALGORITHM: &str = "Algorithm";
    /// Free parameters of an algorithm.
    pub const PARAMETERS: &str = "Parameters";
    /// Root of guardian metadata.
    pub const METADATA: &str = "Metadata";
    /// Attribute and element: a version number.
    pub const VERSION: &str = "Version";
    /// Attribute of `Metadata`: an XML identifier. Not the element `Id` of a wrapping.
    pub const METADATA_ID: &str = "ID";
    /// The guardian's certificates and their signatures.
    pub const GUARDIAN_INFORMATION: &str = "GuardianInformation";
    /// Signature of the signing key over its own certificate.
    pub const SIGNING_CERTIFICATE_SELF_SIGNATURE: &str = "SigningCertificateSelfSignature";
    /// Further signing certificates of the guardian.
    pub const OTHER_SIGNING_CERTIFICATES: &str = "OtherSigningCertificates";
    /// One of them.
    pub const CERTIFICATE: &str = "Certificate";
}

/// Algorithm URIs. MS-KPS names none of them: that a key protector uses one is *unverified* (section 1.8 of the
/// reference); what each URI means is defined by the standard that coined it.
pub mod uri {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 6931).
    pub const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    /// RSASSA-PKCS1-v1_5 with SHA-384 (RFC 6931).
    pub const RSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384";
    /// RSASSA-PKCS1-v1_5 with SHA-512 (RFC 6931).
    pub const RSA_SHA512: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512";
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 6931).
    pub const RSA_PSS_SHA256: &str = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1";
    /// HMAC with SHA-256 (RFC 6931).
    pub const HMAC_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
    /// HMAC with SHA-384 (RFC 6931).
    pub const HMAC_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha384";
    /// HMAC with SHA-512 (RFC 6931).
    pub const HMAC_SHA512: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha512";
    /// RSAES-OAEP with MGF1 over SHA-1; the digest is SHA-1 unless parameters say otherwise (XML Encryption).
    pub const RSA_OAEP_MGF1P: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
    /// RSAES-OAEP whose digest and mask function are SHA-1 unless parameters say otherwise (XML Encryption 1.1).
    pub const RSA_OAEP: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
    /// Our fixtures' key derivation. No real document can carry this URI.
    pub const SYNTHETIC_KDF: &str = "urn:example:assumed-kdf:sp800-108-ctr-hmac-sha256";
}
