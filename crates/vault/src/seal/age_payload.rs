//! The payload of an age file: STREAM over ChaCha20-Poly1305 in chunks of 64 KiB.
//!
//! Sits below the header, which yields the file key, and above the frames of the plaintext. It is written
//! over `chacha20poly1305` and not over the `age` crate's reader and writer because objects are encrypted as
//! their bytes come, opened in place on several threads, and read by range (C2SP age, section "Payload").
//! It knows nothing of what the plaintext means.

use std::ops::Range;
use std::thread;

use age_core::primitives::hkdf;
use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroize;

use super::error::Corruption;

/// Plaintext bytes of every chunk but the last, which has 1 to this many (or 0 if the payload is empty).
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of the Poly1305 tag that follows each chunk.
pub const TAG_BYTES: usize = 16;
/// Bytes of the random nonce between header and first chunk: salt of the payload key.
pub const PAYLOAD_NONCE_BYTES: usize = 16;
/// Bytes of a whole chunk in the file.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// HKDF label of the payload key.
const PAYLOAD_KEY_LABEL: &[u8] = b"payload";
/// Last byte of a chunk's nonce if it is the payload's last one, else 0.
const LAST_CHUNK_FLAG: u8 = 1;
/// A thread is worth its start for this much ciphertext (about 0.8 ms of decryption).
const MIN_BYTES_PER_THREAD: usize = 1024 * 1024;

/// Key of one file's payload. The cipher wipes it on drop.
pub(super) struct PayloadKey(ChaCha20Poly1305);

impl PayloadKey {
    /// Derives the key: HKDF-SHA256 of the file key, salted with the payload's nonce.
    pub(super) fn derive(file_key: &[u8; 16], nonce: &[u8; PAYLOAD_NONCE_BYTES]) -> Self {
        let mut key = hkdf(nonce, PAYLOAD_KEY_LABEL, file_key);
        let cipher = ChaCha20Poly1305::new((&key).into());
        key.zeroize();
        Self(cipher)
    }

    fn encrypt(&self, index: u64, last: bool, chunk: &mut [u8]) -> Tag {
        self.0
            .encrypt_in_place_detached(&chunk_nonce(index, last), &[], chunk)
            .expect("a chunk of 64 KiB is far below the cipher's limit of 256 GiB")
    }

    /// Decrypts `sealed` (chunk and tag) in place and returns the plaintext part.
    fn decrypt<'a>(&self, index: u64, last: bool, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Corruption> {
        let Some(length) = sealed.len().checked_sub(TAG_BYTES) else {
            return Err(Corruption::Chunk { index });
        };
        let (chunk, tag) = sealed.split_at_mut(length);
        self.0
            .decrypt_in_place_detached(&chunk_nonce(index, last), &[], chunk, Tag::from_slice(tag))
            .map_err(|_| Corruption::Chunk { index })?;
        Ok(chunk)
    }
}

/// Nonce of a chunk: its number in 11 bytes, big-endian, then the flag of the last one.
fn chunk_nonce(index: u64, last: bool) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[3..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = if last { LAST_CHUNK_FLAG } else { 0 };
    nonce
}

/// Encrypts a plaintext behind a header as its bytes come.
///
/// Holds the file so far and at most one chunk that is not encrypted yet: whether a full chunk is the last one
/// shows only when the next byte comes.
pub(super) struct PayloadWriter {
    key: PayloadKey,
    file: Vec<u8>,
    chunk_start: usize,
    index: u64,
    plaintext_bytes: u64,
}

impl PayloadWriter {
    /// Continues `file`, which ends with the header and the payload's nonce.
    pub(super) fn new(key: PayloadKey, file: Vec<u8>) -> Self {
        let chunk_start = file.len();
        Self { key, file, chunk_start, index: 0, plaintext_bytes: 0 }
    }

    /// Plaintext bytes written so far.
    pub(super) fn plaintext_bytes(&self) -> u64 {
        self.plaintext_bytes
    }

    /// Bytes of the file so far, the tag of the last chunk not counted.
    pub(super) fn file_bytes(&self) -> usize {
        self.file.len()
    }

    /// Appends plaintext.
    pub(super) fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let space = self.space_in_chunk();
            let (now, rest) = data.split_at(space.min(data.len()));
            self.file.extend_from_slice(now);
            self.plaintext_bytes += now.len() as u64;
            data = rest;
        }
    }

    /// Appends `count` zero bytes of plaintext.
    pub(super) fn write_zeros(&mut self, mut count: usize) {
        while count > 0 {
            let now = self.space_in_chunk().min(count);
            self.file.resize(self.file.len() + now, 0);
            self.plaintext_bytes += now as u64;
            count -= now;
        }
    }

    /// Encrypts the last chunk and returns the whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.seal_chunk(true);
        std::mem::take(&mut self.file)
    }

    /// Bytes that still fit the current chunk, after closing it if it is full: at least 1.
    fn space_in_chunk(&mut self) -> usize {
        if self.file.len() - self.chunk_start == CHUNK_BYTES {
            self.seal_chunk(false);
        }
        CHUNK_BYTES - (self.file.len() - self.chunk_start)
    }

    fn seal_chunk(&mut self, last: bool) {
        let tag = self.key.encrypt(self.index, last, &mut self.file[self.chunk_start..]);
        self.file.extend_from_slice(&tag);
        self.chunk_start = self.file.len();
        self.index += 1;
    }
}

impl Drop for PayloadWriter {
    fn drop(&mut self) {
        // Nothing is left of the file after `finish`; else the last chunk is still plaintext.
        if let Some(chunk) = self.file.get_mut(self.chunk_start..) {
            chunk.zeroize();
        }
    }
}

/// Where the chunks of a payload of known size lie. Offsets count from the first chunk's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PayloadLayout {
    payload_bytes: u64,
    chunks: u64,
}

impl PayloadLayout {
    /// Lays out a payload of `payload_bytes`, the nonce not counted.
    pub(super) fn new(payload_bytes: u64) -> Result<Self, Corruption> {
        let chunks = payload_bytes.div_ceil(SEALED_CHUNK_BYTES as u64);
        let last = payload_bytes - chunks.saturating_sub(1) * SEALED_CHUNK_BYTES as u64;
        // A last chunk of nothing but its tag is age's form of an empty payload, and of nothing else.
        if last < TAG_BYTES as u64 || (last == TAG_BYTES as u64 && chunks > 1) {
            return Err(Corruption::FinalChunk { payload_bytes });
        }
        Ok(Self { payload_bytes, chunks })
    }

    /// Bytes of the plaintext.
    pub(super) fn plaintext_bytes(&self) -> u64 {
        self.payload_bytes - self.chunks * TAG_BYTES as u64
    }

    /// Numbers of the chunks that hold the plaintext range; `None` if it reaches past the plaintext.
    pub(super) fn chunks_of(&self, plain: &Range<u64>) -> Option<Range<u64>> {
        if plain.start > plain.end || plain.end > self.plaintext_bytes() {
            return None;
        }
        let first = plain.start / CHUNK_BYTES as u64;
        if plain.is_empty() {
            return Some(first..first);
        }
        Some(first..plain.end.div_ceil(CHUNK_BYTES as u64))
    }

    /// Where the chunks `chunks` lie in the payload.
    pub(super) fn payload_range(&self, chunks: &Range<u64>) -> Range<u64> {
        let sealed = SEALED_CHUNK_BYTES as u64;
        (chunks.start * sealed).min(self.payload_bytes)..(chunks.end * sealed).min(self.payload_bytes)
    }

    fn is_last(&self, index: u64) -> bool {
        index + 1 == self.chunks
    }
}

/// Decrypts whole chunks in place, the first of which is number `first`, and moves their plaintext together
/// at the front. Returns how many bytes of plaintext there are.
///
/// Uses up to `threads` threads if there is enough work for them.
pub(super) fn open_chunks(
    key: &PayloadKey,
    layout: &PayloadLayout,
    first: u64,
    sealed: &mut [u8],
    threads: usize,
) -> Result<usize, Corruption> {
    let chunks = sealed.len().div_ceil(SEALED_CHUNK_BYTES);
    let workers = threads.min(sealed.len() / MIN_BYTES_PER_THREAD).min(chunks).max(1);
    if workers == 1 {
        decrypt_in_place(key, layout, first, sealed)?;
    } else {
        let chunks_each = chunks.div_ceil(workers);
        thread::scope(|scope| {
            let handles: Vec<_> = sealed
                .chunks_mut(chunks_each * SEALED_CHUNK_BYTES)
                .zip((first..).step_by(chunks_each))
                .map(|(part, first)| scope.spawn(move || decrypt_in_place(key, layout, first, part)))
                .collect();
            // Every thread is joined; the damage reported is the first one in the file.
            let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
            results.into_iter().try_for_each(|result| match result {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
    }
    let mut end = sealed.len().min(SEALED_CHUNK_BYTES).saturating_sub(TAG_BYTES);
    for start in (SEALED_CHUNK_BYTES..sealed.len()).step_by(SEALED_CHUNK_BYTES) {
        let chunk_end = (start + CHUNK_BYTES).min(sealed.len() - TAG_BYTES);
        sealed.copy_within(start..chunk_end, end);
        end += chunk_end - start;
    }
    Ok(end)
}

fn decrypt_in_place(
    key: &PayloadKey,
    layout: &PayloadLayout,
    first: u64,
    sealed: &mut [u8],
) -> Result<(), Corruption> {
    for (chunk, index) in sealed.chunks_mut(SEALED_CHUNK_BYTES).zip(first..) {
        key.decrypt(index, layout.is_last(index), chunk)?;
    }
    Ok(())
}
