//! The header of an age file: made and opened through the `age` crate, counted without a key.
//!
//! The crate keeps the file key to itself; a recipient and an identity of our own stand around the real ones
//! and take note of it, so that every kind of recipient works, plugins included. [`Header`] is a second, strict
//! parser that needs no key: it says where the header ends and how many recipients the object is sealed to.

use std::cell::RefCell;
use std::collections::HashSet;

use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::age_payload::PAYLOAD_NONCE_BYTES;
use super::error::{Corruption, SealError};
use super::identity::Identities;
use super::recipients::Recipients;

/// Longest header in bytes: [`MAX_STANZAS`] stanzas of 1 KiB.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Most stanzas of a header: twice the most recipients, to leave room for age's noise.
pub const MAX_STANZAS: usize = 64;

/// First line of a file.
const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";
/// What a stanza's first line begins with.
const STANZA_PREFIX: &[u8] = b"-> ";
/// What the last line begins with.
const MAC_PREFIX: &[u8] = b"--- ";
/// Characters of the MAC: 32 bytes in base64 without padding.
const MAC_CHARS: usize = 43;
/// Characters of a full line of a stanza's body; the last line is shorter.
const BODY_LINE_CHARS: usize = 64;
/// End of the names of stanzas that age adds as noise, to keep readers from relying on their absence.
const NOISE_SUFFIX: &[u8] = b"-grease";

/// A file key of 16 bytes, wiped on drop.
pub(super) type FileKeyBytes = Zeroizing<[u8; 16]>;

/// What a header says to anyone who holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length in bytes, from the version line to the LF after the MAC.
    pub header_bytes: u32,
    /// Stanzas, age's noise (`...-grease`) left out: the number of recipients.
    pub stanzas: usize,
}

impl Header {
    /// Parses the header at the start of `bytes`; what follows it is not looked at.
    ///
    /// Stricter than age's own readers in nothing but its limits [`MAX_HEADER_BYTES`] and [`MAX_STANZAS`].
    ///
    /// # Errors
    /// A header that is cut off, breaks the grammar or a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corruption> {
        let mut lines = Lines { bytes, offset: 0 };
        let version = VERSION_LINE.len().min(bytes.len());
        if bytes[..version] != VERSION_LINE[..version] {
            return Err(Corruption::NotAgeV1);
        }
        lines.next()?;
        let (mut all, mut counted) = (0, 0);
        loop {
            let start = lines.offset;
            let grammar = Corruption::HeaderGrammar { offset: start };
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix(MAC_PREFIX) {
                if all == 0 || mac.len() != MAC_CHARS || !is_canonical_base64(mac) {
                    return Err(grammar);
                }
                let header_bytes =
                    u32::try_from(lines.offset).expect("the offset is at most MAX_HEADER_BYTES");
                return Ok(Self { header_bytes, stanzas: counted });
            }
            let words = line.strip_prefix(STANZA_PREFIX).ok_or(grammar.clone())?;
            if !words.split(|b| *b == b' ').all(is_arbitrary_string) {
                return Err(grammar);
            }
            all += 1;
            if all > MAX_STANZAS {
                return Err(Corruption::TooManyStanzas { max: MAX_STANZAS });
            }
            let name = words.split(|b| *b == b' ').next().unwrap_or_default();
            counted += usize::from(!name.ends_with(NOISE_SUFFIX));
            loop {
                let grammar = Corruption::HeaderGrammar { offset: lines.offset };
                let line = lines.next()?;
                if line.len() > BODY_LINE_CHARS || !is_canonical_base64(line) {
                    return Err(grammar);
                }
                if line.len() < BODY_LINE_CHARS {
                    break;
                }
            }
        }
    }
}

struct Lines<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Lines<'a> {
    /// The next line, without its LF.
    fn next(&mut self) -> Result<&'a [u8], Corruption> {
        let limit = self.bytes.len().min(MAX_HEADER_BYTES);
        let rest = &self.bytes[self.offset..limit];
        let Some(length) = rest.iter().position(|b| *b == b'\n') else {
            return Err(if self.bytes.len() >= MAX_HEADER_BYTES {
                Corruption::HeaderTooLong { max: MAX_HEADER_BYTES }
            } else {
                Corruption::HeaderTruncated { have: self.bytes.len() }
            });
        };
        self.offset += length + 1;
        Ok(&rest[..length])
    }
}

/// One or more visible ASCII characters.
fn is_arbitrary_string(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_graphic)
}

/// Base64 of whole bytes, without padding, with zeros in the bits that the last character has to spare.
fn is_canonical_base64(text: &[u8]) -> bool {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let spare_bits = match text.len() % 4 {
        0 => 0,
        2 => 4,
        3 => 2,
        _ => return false,
    };
    text.iter().all(|c| value(*c).is_some())
        && text.last().and_then(|c| value(*c)).is_none_or(|last| last & ((1 << spare_bits) - 1) == 0)
}

/// A new header.
pub(super) struct CreatedHeader {
    /// Header and payload nonce: the first bytes of the file. In the caller's buffer.
    pub(super) bytes: Vec<u8>,
    /// Length of the header alone.
    pub(super) header_bytes: u32,
    pub(super) file_key: FileKeyBytes,
    pub(super) nonce: [u8; PAYLOAD_NONCE_BYTES],
}

/// Makes a header for a new file key, into `buffer` (which is emptied).
pub(super) fn create_header(
    recipients: &Recipients,
    mut buffer: Vec<u8>,
) -> Result<CreatedHeader, SealError> {
    let resolved = recipients.resolve()?;
    let taken = RefCell::new(None);
    let wrapped: Vec<NotedRecipient<'_>> = resolved
        .iter()
        .map(|inner| NotedRecipient { inner: inner.as_recipient(), file_key: &taken })
        .collect();
    let encryptor = Encryptor::with_recipients(wrapped.iter().map(|r| r as &dyn age::Recipient))
        .map_err(SealError::from_encrypt)?;
    buffer.clear();
    // The writer is dropped unused: it has written the header and the nonce, and would write nothing more
    // before its first chunk.
    drop(encryptor.wrap_output(&mut buffer).map_err(|e| SealError::Header { message: e.to_string() })?);
    let header = Header::parse(&buffer)?;
    if header.stanzas != recipients.len() {
        return Err(SealError::StanzaCount { recipients: recipients.len(), stanzas: header.stanzas });
    }
    let nonce = buffer.get(header.header_bytes as usize..).and_then(|rest| rest.try_into().ok());
    match (nonce, taken.into_inner()) {
        (Some(nonce), Some(file_key)) => {
            Ok(CreatedHeader { bytes: buffer, header_bytes: header.header_bytes, file_key, nonce })
        }
        _ => Err(SealError::Header { message: "age wrote no nonce after the header".to_owned() }),
    }
}

/// Opens the header of `prefix`, which holds header and payload nonce; checks the header's MAC.
pub(super) fn open_header(
    prefix: &[u8],
    identities: &Identities,
) -> Result<(Header, FileKeyBytes, [u8; PAYLOAD_NONCE_BYTES]), SealError> {
    let header = Header::parse(prefix)?;
    let header_end = header.header_bytes as usize;
    let nonce = prefix
        .get(header_end..header_end + PAYLOAD_NONCE_BYTES)
        .and_then(|nonce| nonce.try_into().ok())
        .ok_or(Corruption::HeaderTruncated { have: prefix.len() })?;
    let taken = RefCell::new(None);
    let noted = NotedIdentity { inner: identities, file_key: &taken };
    Decryptor::new_buffered(&prefix[..header_end + PAYLOAD_NONCE_BYTES])
        .and_then(|decryptor| decryptor.decrypt(std::iter::once(&noted as &dyn age::Identity)))
        .map_err(SealError::from_decrypt)?;
    let file_key = taken.into_inner().ok_or(SealError::NoMatch)?;
    Ok((header, file_key, nonce))
}

/// Passes everything on to a recipient and notes the file key.
struct NotedRecipient<'a> {
    inner: &'a dyn age::Recipient,
    file_key: &'a RefCell<Option<FileKeyBytes>>,
}

impl age::Recipient for NotedRecipient<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        *self.file_key.borrow_mut() = Some(Zeroizing::new(*file_key.expose_secret()));
        self.inner.wrap_file_key(file_key)
    }
}

/// Passes everything on to the identities and notes the file key that one of them finds.
struct NotedIdentity<'a> {
    inner: &'a Identities,
    file_key: &'a RefCell<Option<FileKeyBytes>>,
}

impl age::Identity for NotedIdentity<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let found = self.inner.unwrap_stanzas(stanzas);
        if let Some(Ok(file_key)) = &found {
            *self.file_key.borrow_mut() = Some(Zeroizing::new(*file_key.expose_secret()));
        }
        found
    }
}

impl SealError {
    fn from_encrypt(error: EncryptError) -> Self {
        match error {
            EncryptError::IncompatibleRecipients { .. }
            | EncryptError::InvalidRecipientLabels(_)
            | EncryptError::MixedRecipientAndPassphrase => {
                SealError::IncompatibleRecipients { message: error.to_string() }
            }
            EncryptError::Plugin(_) | EncryptError::PluginResolve(_) | EncryptError::Io(_) => {
                SealError::Plugin { message: error.to_string() }
            }
            other => SealError::Header { message: other.to_string() },
        }
    }

    fn from_decrypt(error: DecryptError) -> Self {
        match error {
            DecryptError::NoMatchingKeys => SealError::NoMatch,
            DecryptError::InvalidMac => Corruption::HeaderMac.into(),
            DecryptError::PluginResolve(age::plugin::ResolveError::MissingPlugin { binary_name }) => {
                let plugin = binary_name.strip_prefix("age-plugin-").unwrap_or(&binary_name).to_owned();
                SealError::PluginMissing { plugin }
            }
            DecryptError::Plugin(_) | DecryptError::PluginResolve(_) | DecryptError::Io(_) => {
                SealError::Plugin { message: error.to_string() }
            }
            _ => Corruption::HeaderStanza.into(),
        }
    }
}
