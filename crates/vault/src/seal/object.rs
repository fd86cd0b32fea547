//! Objects from the reader's side: an opened header gives the key to all of the payload or to ranges of it.
//!
//! Ranges of a payload are authenticated chunk by chunk, not as a whole, and whoever is a recipient could forge
//! them: a caller compares what it reads with digests of the signed chain before it lets a byte out.

use std::ops::{Deref, Range};

use zeroize::Zeroize;

use super::age_payload::{PAYLOAD_NONCE_BYTES, PayloadKey, PayloadLayout, open_chunks};
use super::error::{Corruption, SealError};
use super::header::open_header;
use super::identity::Identities;
use super::sealer::MAX_OBJECT_BYTES;

/// The key to one object's payload, had from its header.
pub struct ObjectKey {
    key: PayloadKey,
    layout: PayloadLayout,
    payload_start: u64,
    object_bytes: u64,
}

impl ObjectKey {
    /// Opens the header at the start of an object of `object_bytes`, whose header has `header_bytes`.
    ///
    /// `prefix` needs the header and the 16 bytes of nonce after it. Both sizes come from the signed record.
    ///
    /// # Errors
    /// [`SealError::NoMatch`] if the object is sealed to others, [`SealError::Corrupt`] if it is damaged, or the
    /// failure of a plugin.
    pub fn open(
        prefix: &[u8],
        header_bytes: u32,
        object_bytes: u64,
        identities: &Identities,
    ) -> Result<Self, SealError> {
        let payload_start = u64::from(header_bytes) + PAYLOAD_NONCE_BYTES as u64;
        let Some(payload_bytes) = object_bytes.checked_sub(payload_start) else {
            return Err(Corruption::ObjectTooShort { have: object_bytes, header_bytes }.into());
        };
        if object_bytes > MAX_OBJECT_BYTES {
            return Err(Corruption::ObjectTooLarge { have: object_bytes, max: MAX_OBJECT_BYTES }.into());
        }
        let layout = PayloadLayout::new(payload_bytes)?;
        let (header, file_key, nonce) = open_header(prefix, identities)?;
        if header.header_bytes != header_bytes {
            return Err(Corruption::HeaderLength { have: header.header_bytes, expected: header_bytes }.into());
        }
        Ok(Self { key: PayloadKey::derive(&file_key, &nonce), layout, payload_start, object_bytes })
    }

    /// Bytes of the plaintext, padding included.
    pub fn plaintext_bytes(&self) -> u64 {
        self.layout.plaintext_bytes()
    }

    /// The bytes of the object to fetch for a range of the plaintext: whole chunks.
    ///
    /// # Errors
    /// [`SealError::Range`] if the range reaches past the plaintext.
    pub fn ciphertext_range(&self, plain: Range<u64>) -> Result<Range<u64>, SealError> {
        let chunks = self.layout.chunks_of(&plain).ok_or_else(|| self.range_error(&plain, 0))?;
        let range = self.layout.payload_range(&chunks);
        Ok(self.payload_start + range.start..self.payload_start + range.end)
    }

    /// Decrypts what was fetched for the range `plain`, in place, and returns exactly that range.
    ///
    /// # Errors
    /// [`SealError::Range`] if `ciphertext` has not the size of [`ciphertext_range`](Self::ciphertext_range),
    /// [`SealError::Corrupt`] if a chunk is damaged or from elsewhere.
    pub fn open_range<'a>(&self, plain: Range<u64>, ciphertext: &'a mut [u8]) -> Result<&'a [u8], SealError> {
        let have = ciphertext.len() as u64;
        let chunks = self.layout.chunks_of(&plain).ok_or_else(|| self.range_error(&plain, have))?;
        let wanted = self.layout.payload_range(&chunks);
        if have != wanted.end - wanted.start {
            return Err(self.range_error(&plain, have));
        }
        let opened = open_chunks(&self.key, &self.layout, chunks.start, ciphertext, 1)?;
        let skipped = (plain.start - chunks.start * super::CHUNK_BYTES as u64) as usize;
        let length = (plain.end - plain.start) as usize;
        if length == 0 {
            return Ok(&[]);
        }
        ciphertext[..opened].get(skipped..skipped + length).ok_or_else(|| self.range_error(&plain, have))
    }

    /// Decrypts a whole object in place, on up to `threads` threads if it is large.
    ///
    /// # Errors
    /// [`SealError::Corrupt`] if the object has another size than the header was opened with, or a chunk is
    /// damaged.
    pub fn open_all(&self, mut object: Vec<u8>, threads: usize) -> Result<Plaintext, SealError> {
        let have = object.len() as u64;
        if have != self.object_bytes {
            return Err(Corruption::ObjectLength { have, expected: self.object_bytes }.into());
        }
        // The header's length is below that of the object, which is in memory.
        let start = self.payload_start as usize;
        let length = open_chunks(&self.key, &self.layout, 0, &mut object[start..], threads)?;
        Ok(Plaintext { buffer: object, start, length })
    }

    fn range_error(&self, plain: &Range<u64>, ciphertext: u64) -> SealError {
        let plaintext = self.plaintext_bytes();
        SealError::Range { start: plain.start, end: plain.end, ciphertext, plaintext }
    }
}

/// The plaintext of a whole object, wiped on drop.
pub struct Plaintext {
    buffer: Vec<u8>,
    start: usize,
    length: usize,
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.length]
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.buffer[self.start..].zeroize();
    }
}
