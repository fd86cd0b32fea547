//! What a worker keeps between the objects that it seals: the compressor and its buffers.
//!
//! A [`Sealer`] belongs to one thread and serves any number of bundles that are open at once. It holds one
//! staged member and its compressed frame: about 9 MiB at most, wiped on drop (what zstd keeps inside is not).

use std::ops::RangeInclusive;

use lifeboat_schema::Digest;
use zeroize::Zeroizing;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter};

use super::age_payload::{PayloadKey, PayloadWriter};
use super::error::SealError;
use super::frame::{PADDING_HEADER_BYTES, PADDING_MAGIC, padding_zeros};
use super::header::create_header;
use super::member::{MAX_ENTRY_BYTES, MAX_MEMBER_BYTES, TAR_BLOCK_BYTES, entry_bytes, tar_header};
use super::recipients::Recipients;

/// Compression levels that keep every window within [`MAX_WINDOW_BYTES`](super::MAX_WINDOW_BYTES).
pub const COMPRESSION_LEVELS: RangeInclusive<i32> = -50..=19;
/// Largest object in bytes, padding included.
pub const MAX_OBJECT_BYTES: u64 = 1024 * 1024 * 1024;
/// Largest plaintext in bytes before its padding, which adds an eighth at most.
const MAX_FRAMES_BYTES: u64 = MAX_OBJECT_BYTES / 8 * 7 - 64 * 1024 * 1024;

/// How objects are sealed.
#[derive(Debug, Clone)]
pub struct SealOptions {
    /// zstd level, one of [`COMPRESSION_LEVELS`].
    pub compression_level: i32,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { compression_level: 1 }
    }
}

/// An object ready for the store.
pub struct SealedObject {
    /// Digest of `bytes`: the object's name.
    pub name: Digest,
    /// The age file.
    pub bytes: Vec<u8>,
    /// Bytes of the age header at the front.
    pub header_bytes: u32,
    /// Digest of everything after the header; it stays when the header is written anew for other recipients.
    pub payload: Digest,
}

/// The workspace of one sealing worker.
pub struct Sealer {
    compressor: Compressor<'static>,
    /// Tar header, content and zeros of the staged member.
    entry: Zeroizing<Vec<u8>>,
    /// Compressed form of what was staged.
    frame: Zeroizing<Vec<u8>>,
    /// Buffers of objects that the caller has stored.
    spare: Vec<Vec<u8>>,
}

impl Sealer {
    /// Creates a workspace.
    ///
    /// # Errors
    /// A compression level outside of [`COMPRESSION_LEVELS`].
    pub fn new(options: &SealOptions) -> Result<Self, SealError> {
        let level = options.compression_level;
        if !COMPRESSION_LEVELS.contains(&level) {
            let (min, max) = (*COMPRESSION_LEVELS.start(), *COMPRESSION_LEVELS.end());
            return Err(SealError::CompressionLevel { level, min, max });
        }
        let mut compressor = Compressor::new(level).map_err(SealError::from_zstd)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(SealError::from_zstd)?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true)).map_err(SealError::from_zstd)?;
        Ok(Self {
            compressor,
            entry: Zeroizing::new(Vec::new()),
            frame: Zeroizing::new(Vec::new()),
            spare: Vec::new(),
        })
    }

    /// Gives the buffer of a stored object back, so that the next object needs no new memory.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        // One for each class that a worker fills at the same time.
        const MAX_SPARE: usize = 4;
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }

    /// Stages a content of `size` bytes that `fill` writes into place, and hashes it.
    ///
    /// The staged member may be dropped unused, for instance because its content is in the vault already.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] over [`MAX_MEMBER_BYTES`], or the error of `fill`.
    pub fn stage<E: From<SealError>>(
        &mut self,
        size: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<StagedMember<'_>, E> {
        if size > MAX_MEMBER_BYTES {
            let (have, max) = (size as u64, MAX_MEMBER_BYTES as u64);
            return Err(SealError::TooLarge { what: "a member", have, max }.into());
        }
        let length = entry_bytes(size);
        if self.entry.len() < length {
            // Reserved at its final size: an artefact is cut in parts of that size or is smaller than them.
            let capacity = if length > MAX_ENTRY_BYTES / 4 { MAX_ENTRY_BYTES } else { length };
            let missing = capacity - self.entry.len();
            self.entry.reserve_exact(missing);
            self.entry.resize(length, 0);
        }
        let content_end = TAR_BLOCK_BYTES + size;
        fill(&mut self.entry[TAR_BLOCK_BYTES..content_end])?;
        let digest = Digest::of(&self.entry[TAR_BLOCK_BYTES..content_end]);
        Ok(StagedMember { sealer: self, digest, size })
    }

    /// Compresses `data` to one frame.
    pub(super) fn compress(&mut self, data: &[u8]) -> Result<&[u8], SealError> {
        Self::compress_into(&mut self.compressor, &mut self.frame, data)
    }

    fn compress_into<'f>(
        compressor: &mut Compressor<'static>,
        frame: &'f mut Vec<u8>,
        data: &[u8],
    ) -> Result<&'f [u8], SealError> {
        frame.clear();
        frame.reserve(zstd_safe::compress_bound(data.len()));
        compressor.compress_to_buffer(data, frame).map_err(SealError::from_zstd)?;
        Ok(frame)
    }

    /// Begins an object: makes its header and a writer behind it.
    pub(super) fn begin(&mut self, recipients: &Recipients) -> Result<ObjectWriter, SealError> {
        let header = create_header(recipients, self.spare.pop().unwrap_or_default())?;
        let key = PayloadKey::derive(&header.file_key, &header.nonce);
        Ok(ObjectWriter { header_bytes: header.header_bytes, payload: PayloadWriter::new(key, header.bytes) })
    }
}

/// A content that stands in its [`Sealer`], hashed, and not part of any bundle yet.
pub struct StagedMember<'s> {
    sealer: &'s mut Sealer,
    digest: Digest,
    size: usize,
}

impl StagedMember<'_> {
    /// Digest of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The content.
    pub fn content(&self) -> &[u8] {
        &self.sealer.entry[TAR_BLOCK_BYTES..TAR_BLOCK_BYTES + self.size]
    }

    /// Bytes of the content.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Completes the tar entry around the content, and returns its compressed frame.
    pub(super) fn frame(&mut self) -> Result<&[u8], SealError> {
        let Sealer { compressor, entry, frame, .. } = &mut *self.sealer;
        let entry = &mut entry[..entry_bytes(self.size)];
        entry[..TAR_BLOCK_BYTES].copy_from_slice(&tar_header(&self.digest, self.size as u64));
        entry[TAR_BLOCK_BYTES + self.size..].fill(0);
        Sealer::compress_into(compressor, frame, entry)
    }
}

/// An object in the making.
pub(super) struct ObjectWriter {
    header_bytes: u32,
    pub(super) payload: PayloadWriter,
}

impl ObjectWriter {
    /// Refuses `more` bytes of frames that would make the object too large.
    pub(super) fn check_room(&self, more: usize) -> Result<(), SealError> {
        let have = self.payload.plaintext_bytes() + more as u64;
        if have > MAX_FRAMES_BYTES {
            return Err(SealError::TooLarge { what: "an object", have, max: MAX_FRAMES_BYTES });
        }
        Ok(())
    }

    /// Pads the plaintext, closes the payload and names the object.
    pub(super) fn finish(mut self) -> SealedObject {
        let zeros = padding_zeros(self.payload.plaintext_bytes())
            .and_then(|zeros| u32::try_from(zeros).ok())
            .expect("check_room kept the plaintext below 1 GiB, so its padding is, too");
        let mut header = [0u8; PADDING_HEADER_BYTES];
        header[..4].copy_from_slice(&PADDING_MAGIC);
        header[4..].copy_from_slice(&zeros.to_le_bytes());
        self.payload.write(&header);
        self.payload.write_zeros(zeros as usize);
        let bytes = self.payload.finish();
        SealedObject {
            name: Digest::of(&bytes),
            payload: Digest::of(&bytes[self.header_bytes as usize..]),
            header_bytes: self.header_bytes,
            bytes,
        }
    }
}

impl SealError {
    pub(super) fn from_zstd(error: std::io::Error) -> Self {
        SealError::Compression { message: error.to_string() }
    }
}
