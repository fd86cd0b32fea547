//! The forms in which administrators save a key protector.
//!
//! `(Get-VMKeyProtector).Count` bytes end up in files as raw bytes, as decimal numbers (one per line, what
//! PowerShell's `Out-File` and redirection make of a byte array; UTF-16 in Windows PowerShell) or as base64.
//! [`SavedKeyProtector::decode`] brings all of them back to the value.
//!
//! It does not parse the value: that is [`KeyProtector::parse`](crate::KeyProtector::parse). Keep the file too.

use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Corruption, Error};
use crate::layout::{LENGTH_PREFIX_BYTES, MAX_SAVED_FILE_BYTES};
use crate::value::{begins_as_xml, decode_text};

/// How a key protector was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedForm {
    /// The bytes themselves, with or without length prefix.
    Raw,
    /// Decimal numbers, separated by line ends, spaces or commas.
    DecimalNumbers,
    /// Base64, in one line or several.
    Base64,
}

/// The bytes of a key protector out of a file that an administrator saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedKeyProtector {
    /// The form of the file.
    pub form: SavedForm,
    /// The value, exactly as it was before it was saved.
    pub value: Vec<u8>,
}

impl SavedKeyProtector {
    /// Recognises the form of a file and takes the value out of it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::UnknownSavedForm`], [`Error::NotAByte`] or [`Error::Corrupt`] if the bytes
    /// have none of the forms.
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        if file.len() > MAX_SAVED_FILE_BYTES {
            return Err(Error::TooLarge {
                what: "saved key protector",
                max: MAX_SAVED_FILE_BYTES,
                have: file.len(),
            });
        }
        if begins_as_xml(file) || has_own_length(file) {
            return Ok(Self { form: SavedForm::Raw, value: file.to_vec() });
        }
        if file.len() < LENGTH_PREFIX_BYTES {
            return Err(Corruption::Short { have: file.len() }.into());
        }
        let Ok((text, _)) = decode_text(file) else { return Err(Error::UnknownSavedForm) };
        let text = text.trim();
        let is_separator = |c: char| c.is_ascii_whitespace() || c == ',';
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || is_separator(c)) {
            let mut value = Vec::new();
            for (index, item) in text.split(is_separator).filter(|item| !item.is_empty()).enumerate() {
                value.push(item.parse().map_err(|_| Error::NotAByte { index })?);
            }
            return Ok(Self { form: SavedForm::DecimalNumbers, value });
        }
        let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        match STANDARD.decode(&packed) {
            Ok(value) if value.len() >= LENGTH_PREFIX_BYTES => Ok(Self { form: SavedForm::Base64, value }),
            _ => Err(Error::UnknownSavedForm),
        }
    }
}

fn has_own_length(file: &[u8]) -> bool {
    file.first_chunk::<LENGTH_PREFIX_BYTES>()
        .is_some_and(|prefix| usize::try_from(u32::from_be_bytes(*prefix)) == Ok(file.len()))
}
