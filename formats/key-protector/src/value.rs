//! The byte form of a key protector: octet-string length prefix, character encoding, exact bytes.
//!
//! Hyper-V hands out a key protector as a CIM octet string: four bytes of big-endian length, which count
//! themselves, then an XML document. [`Document`] keeps those bytes as they came and the text they hold, and
//! translates positions between the two.
//!
//! Nothing here looks at the XML beyond its declaration; nothing is ever re-encoded to be compared.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Corruption, Error};
use crate::layout::{LENGTH_PREFIX_BYTES, MAX_DOCUMENT_BYTES, NO_KEY_PROTECTOR};

const UTF8_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
const UTF16_LE_MARK: [u8; 2] = [0xFF, 0xFE];
const UTF16_BE_MARK: [u8; 2] = [0xFE, 0xFF];

/// Character encoding of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-16, most significant byte first.
    Utf16Be,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
        }
    }

    fn mark(self) -> &'static [u8] {
        match self {
            Self::Utf8 => &UTF8_MARK,
            Self::Utf16Le => &UTF16_LE_MARK,
            Self::Utf16Be => &UTF16_BE_MARK,
        }
    }

    /// Recognises text whose first character is a byte order mark, or is below U+0080.
    fn detect(bytes: &[u8]) -> (Self, bool) {
        for encoding in [Self::Utf8, Self::Utf16Le, Self::Utf16Be] {
            if bytes.starts_with(encoding.mark()) {
                return (encoding, true);
            }
        }
        match bytes {
            [first, 0, ..] if *first != 0 => (Self::Utf16Le, false),
            [0, second, ..] if *second != 0 => (Self::Utf16Be, false),
            _ => (Self::Utf8, false),
        }
    }

    fn decode(self, bytes: &[u8]) -> Result<String, Corruption> {
        let invalid = || Corruption::Text { encoding: self.name() };
        let unit = match self {
            Self::Utf8 => return core::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| invalid()),
            Self::Utf16Le => u16::from_le_bytes,
            Self::Utf16Be => u16::from_be_bytes,
        };
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(invalid());
        }
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair)))
            .collect::<Result<_, _>>()
            .map_err(|_| invalid())
    }

    fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    fn encoded_bytes(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            Self::Utf16Le | Self::Utf16Be => 2 * text.encode_utf16().count(),
        }
    }
}

/// Decodes text of unknown encoding, without its byte order mark.
pub(crate) fn decode_text(bytes: &[u8]) -> Result<(String, Encoding), Corruption> {
    let (encoding, marked) = Encoding::detect(bytes);
    let text = if marked { &bytes[encoding.mark().len()..] } else { bytes };
    Ok((encoding.decode(text)?, encoding))
}

/// Tells whether bytes begin as an XML document does, in any encoding, marked or not.
pub(crate) fn begins_as_xml(bytes: &[u8]) -> bool {
    let (encoding, marked) = Encoding::detect(bytes);
    let text = if marked { &bytes[encoding.mark().len()..] } else { bytes };
    match encoding {
        Encoding::Utf8 => text.trim_ascii_start().first() == Some(&b'<'),
        Encoding::Utf16Le => text.starts_with(&[b'<', 0]),
        Encoding::Utf16Be => text.starts_with(&[0, b'<']),
    }
}

/// An XML document in its exact bytes, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    bytes: Vec<u8>,
    has_length_prefix: bool,
    has_mark: bool,
    encoding: Encoding,
    text: String,
}

impl Document {
    /// Parses a value with or without length prefix, with or without byte order mark.
    ///
    /// The forms cannot be confused: every beginning of an XML document, read as a big-endian number, is above
    /// [`MAX_DOCUMENT_BYTES`].
    pub(crate) fn parse(what: &'static str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge { what, max: MAX_DOCUMENT_BYTES, have: bytes.len() });
        }
        if bytes == NO_KEY_PROTECTOR {
            return Err(Error::NoKeyProtector);
        }
        let has_length_prefix = !begins_as_xml(bytes) && !Encoding::detect(bytes).1;
        let body = if has_length_prefix {
            let Some((prefix, body)) = bytes.split_first_chunk::<LENGTH_PREFIX_BYTES>() else {
                return Err(Corruption::Short { have: bytes.len() }.into());
            };
            let declared = u32::from_be_bytes(*prefix);
            if usize::try_from(declared) != Ok(bytes.len()) {
                return Err(Corruption::LengthPrefix { declared, have: bytes.len() }.into());
            }
            body
        } else {
            bytes
        };
        let (encoding, has_mark) = Encoding::detect(body);
        let text = encoding.decode(if has_mark { &body[encoding.mark().len()..] } else { body })?;
        check_declared_encoding(&text)?;
        Ok(Self { bytes: bytes.to_vec(), has_length_prefix, has_mark, encoding, text })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn has_length_prefix(&self) -> bool {
        self.has_length_prefix
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The original bytes of a range of the text.
    pub(crate) fn bytes_of(&self, range: Range<usize>) -> &[u8] {
        let mut start = if self.has_length_prefix { LENGTH_PREFIX_BYTES } else { 0 };
        if self.has_mark {
            start += self.encoding.mark().len();
        }
        let before = self.encoding.encoded_bytes(&self.text[..range.start]);
        let inside = self.encoding.encoded_bytes(&self.text[range]);
        &self.bytes[start + before..start + before + inside]
    }

    /// Encodes other text in the form that this document has: prefix, mark and encoding.
    pub(crate) fn encode_like(&self, text: &str) -> Vec<u8> {
        let mut body = Vec::new();
        if self.has_mark {
            body.extend_from_slice(self.encoding.mark());
        }
        body.extend(self.encoding.encode(text));
        if self.has_length_prefix { prefix_with_length(&body) } else { body }
    }
}

/// Puts the octet-string length prefix before a document.
pub(crate) fn prefix_with_length(body: &[u8]) -> Vec<u8> {
    let total = u32::try_from(body.len() + LENGTH_PREFIX_BYTES).unwrap_or(u32::MAX);
    let mut value = Vec::with_capacity(body.len() + LENGTH_PREFIX_BYTES);
    value.extend_from_slice(&total.to_be_bytes());
    value.extend_from_slice(body);
    value
}

/// Refuses an XML declaration with an encoding other than UTF-8 and UTF-16.
///
/// Which of the two is not compared with the bytes: text made in memory as UTF-16 and saved as UTF-8 keeps its
/// declaration, and the bytes leave no doubt.
fn check_declared_encoding(text: &str) -> Result<(), Corruption> {
    let Some(declaration) = text.strip_prefix("<?xml").and_then(|rest| rest.split("?>").next()) else {
        return Ok(());
    };
    let Some((_, value)) = declaration.split_once("encoding") else { return Ok(()) };
    let value = value.trim_start().trim_start_matches('=').trim_start();
    let Some(quote) = value.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else { return Ok(()) };
    let encoding: String = value[1..].chars().take_while(|c| *c != quote).take(40).collect();
    if encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf-16") {
        return Ok(());
    }
    Err(Corruption::DeclaredEncoding { encoding })
}
