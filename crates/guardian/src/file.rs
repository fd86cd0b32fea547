//! What a file is, by its bytes: whatever name it was given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifeboat_key_protector::layout::MAX_SAVED_FILE_BYTES;
use lifeboat_key_protector::{
    Certificate, Corruption, Error, GuardianMetadata, KeyProtector, SavedForm, SavedKeyProtector,
};

use crate::private::{DerKind, text_of};

/// Largest file that is looked into: the largest form of a VM key protector.
pub const MAX_FILE_BYTES: usize = MAX_SAVED_FILE_BYTES;
/// Most certificates of one file that are read: chains have a handful.
const MAX_CERTIFICATES: usize = 64;

const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END ";
const PEM_BEGIN: &str = "-----BEGIN ";

/// A file of an owner or guardian.
#[derive(Debug)]
pub enum GuardianFile {
    /// A VM key protector, in any form in which one is saved.
    KeyProtector {
        /// The form.
        form: SavedForm,
        /// The VM key protector.
        protector: Box<KeyProtector>,
    },
    /// The value that says that a VM has none.
    NoKeyProtector,
    /// It begins as a VM key protector or guardian metadata, and is none.
    Damaged(Error),
    /// Guardian metadata.
    Metadata(Box<GuardianMetadata>),
    /// Certificates: DER, PEM or base64.
    Certificates(Vec<Certificate>),
    /// PKCS#12: private keys and certificates under a password.
    Pfx,
    /// A private key without certificate.
    PrivateKey,
    /// None of these, and why.
    Unknown(String),
}

impl GuardianFile {
    /// Tells what the bytes of a file are. Never fails: what is not understood is an answer too.
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.len() > MAX_FILE_BYTES {
            return Self::Unknown(format!(
                "it has {} bytes, more than any file of an owner or guardian ({MAX_FILE_BYTES})",
                bytes.len()
            ));
        }
        if let Some(known) = of_der(bytes) {
            return known;
        }
        match SavedKeyProtector::decode(bytes) {
            // Certificates and PFX files are saved as base64 too.
            Ok(saved) => of_der(&saved.value).unwrap_or_else(|| of_value(saved)),
            Err(error) => of_text(bytes).or_else(|| torn(bytes)).unwrap_or_else(|| match error {
                Error::UnknownSavedForm | Error::Corrupt(Corruption::Short { .. }) => Self::Unknown(
                    "it is no VM key protector, guardian metadata, certificate or PFX".to_owned(),
                ),
                other => Self::Damaged(other),
            }),
        }
    }
}

fn of_der(bytes: &[u8]) -> Option<GuardianFile> {
    match DerKind::of(bytes)? {
        DerKind::Pfx => Some(GuardianFile::Pfx),
        DerKind::PrivateKey | DerKind::EncryptedPrivateKey => Some(GuardianFile::PrivateKey),
        DerKind::Certificate => Some(Certificate::parse(bytes).map_or_else(
            |error| GuardianFile::Unknown(error.to_string()),
            |one| GuardianFile::Certificates(vec![one]),
        )),
    }
}

fn of_value(saved: SavedKeyProtector) -> GuardianFile {
    let is_metadata = |error: &Error| matches!(error, Error::Corrupt(Corruption::Root { .. }));
    match KeyProtector::parse(&saved.value) {
        Ok(protector) => GuardianFile::KeyProtector { form: saved.form, protector: Box::new(protector) },
        Err(Error::NoKeyProtector) => GuardianFile::NoKeyProtector,
        Err(error) if is_metadata(&error) => match GuardianMetadata::parse(&saved.value) {
            Ok(metadata) => GuardianFile::Metadata(Box::new(metadata)),
            Err(error) if is_metadata(&error) => GuardianFile::Unknown(error.to_string()),
            Err(error) => GuardianFile::Damaged(error),
        },
        // Digits or letters may be anything.
        Err(error) if saved.form != SavedForm::Raw => GuardianFile::Unknown(format!(
            "read as {} it is no VM key protector: {error}",
            form_name(saved.form)
        )),
        Err(error) => GuardianFile::Damaged(error),
    }
}

/// How a form is called in reports.
pub(crate) fn form_name(form: SavedForm) -> &'static str {
    match form {
        SavedForm::Raw => "raw",
        SavedForm::DecimalNumbers => "decimal-numbers",
        SavedForm::Base64 => "base64",
    }
}

/// Certificates of PEM blocks; a private key where there are none of them.
fn of_text(bytes: &[u8]) -> Option<GuardianFile> {
    let text = text_of(bytes)?;
    let mut certificates = Vec::new();
    for (at, _) in text.match_indices(PEM_CERTIFICATE).take(MAX_CERTIFICATES) {
        let block = &text[at + PEM_CERTIFICATE.len()..];
        let base64: String =
            block.split(PEM_END).next()?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let parsed = STANDARD.decode(base64).ok().and_then(|der| Certificate::parse(&der).ok());
        match parsed {
            Some(certificate) => certificates.push(certificate),
            None => return Some(GuardianFile::Unknown("one of its certificates is damaged".to_owned())),
        }
    }
    if !certificates.is_empty() {
        return Some(GuardianFile::Certificates(certificates));
    }
    let has_private = text.match_indices(PEM_BEGIN).any(|(at, _)| {
        text[at..].lines().next().is_some_and(|label| label.trim_end().ends_with("PRIVATE KEY-----"))
    });
    has_private.then_some(GuardianFile::PrivateKey)
}

/// A VM key protector that breaks off.
fn torn(bytes: &[u8]) -> Option<GuardianFile> {
    let error = KeyProtector::parse(bytes).err()?;
    breaks_off(bytes, &error).then_some(GuardianFile::Damaged(error))
}

/// Tells whether a value that was refused breaks off: it begins as an XML document behind its length, and is shorter than
/// that length.
pub fn breaks_off(bytes: &[u8], error: &Error) -> bool {
    const BEGINNINGS: [&[u8]; 5] = [b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<", b"<\0"];
    let Error::Corrupt(Corruption::LengthPrefix { declared, have }) = error else { return false };
    let document = bytes.get(size_of::<u32>()..).unwrap_or_default();
    usize::try_from(*declared).is_ok_and(|declared| declared > *have)
        && BEGINNINGS.iter().any(|beginning| document.starts_with(beginning))
}
