//! Bundles: objects that hold artefacts as members of a tar archive.
//!
//! A bundle's plaintext is the members' frames, a frame with the end of the archive (1,024 zeros), and the
//! padding frame. [`BundleWriter`] writes one member after the other; [`Opener::walk_bundle`] checks a whole
//! plaintext; [`Opener::read_member`] reads one member that was fetched by range. Which artefact a member
//! is, and in which order members come, is said by the body of the record.

use lifeboat_schema::Digest;
use zeroize::Zeroizing;

use super::error::{Corruption, FrameDefect, SealError};
use super::frame::{FRAME_MAGIC, Frame, check_padding};
use super::member::{MAX_ENTRY_BYTES, MemberRef, TAR_BLOCK_BYTES, TAR_END_BYTES, parse_entry};
use super::opener::Opener;
use super::recipients::Recipients;
use super::sealer::{ObjectWriter, SealedObject, Sealer, StagedMember};

/// The two zero blocks that end a tar archive.
const TAR_END: [u8; TAR_END_BYTES] = [0; TAR_END_BYTES];

/// Writes a bundle, encrypting as its members come.
///
/// Holds the ciphertext so far and one chunk of plaintext. A call that fails appends nothing; the writer stays
/// usable.
pub struct BundleWriter {
    object: ObjectWriter,
    members: u64,
}

impl BundleWriter {
    /// Creates a bundle sealed to `recipients`, under a new file key.
    ///
    /// # Errors
    /// A plugin that is missing or fails, or recipients that cannot be used together.
    pub fn create(sealer: &mut Sealer, recipients: &Recipients) -> Result<Self, SealError> {
        Ok(Self { object: sealer.begin(recipients)?, members: 0 })
    }

    /// Appends a copy of `content`.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] for a content over [`MAX_MEMBER_BYTES`](super::MAX_MEMBER_BYTES), or a bundle over
    /// [`MAX_OBJECT_BYTES`](super::MAX_OBJECT_BYTES).
    pub fn append(&mut self, sealer: &mut Sealer, content: &[u8]) -> Result<MemberRef, SealError> {
        let staged = sealer.stage(content.len(), |buffer| {
            buffer.copy_from_slice(content);
            Ok::<(), SealError>(())
        })?;
        self.append_staged(staged)
    }

    /// Appends a member that was staged in a sealer.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] for a bundle over [`MAX_OBJECT_BYTES`](super::MAX_OBJECT_BYTES).
    pub fn append_staged(&mut self, mut staged: StagedMember<'_>) -> Result<MemberRef, SealError> {
        let (digest, size) = (staged.digest(), staged.size() as u64);
        let frame = staged.frame()?;
        self.write_frame(digest, size, frame)
    }

    /// Appends a copy of `content` if the object then stays below `limit_bytes`, padding left out, or has no member
    /// yet; else gives it back packed, for another bundle.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_within(
        &mut self,
        sealer: &mut Sealer,
        content: &[u8],
        limit_bytes: u64,
    ) -> Result<Result<MemberRef, PackedMember>, SealError> {
        // The frame of the archive's end and its tag; tags of the chunks take a 4,096th.
        const END_BYTES: u64 = 1024;
        let mut staged = sealer.stage(content.len(), |buffer| {
            buffer.copy_from_slice(content);
            Ok::<(), SealError>(())
        })?;
        let (digest, size) = (staged.digest(), staged.size() as u64);
        let frame = staged.frame()?;
        let frame_bytes = frame.len() as u64;
        if self.members > 0
            && self.sealed_bytes() + frame_bytes + frame_bytes / 4096 + END_BYTES > limit_bytes
        {
            return Ok(Err(PackedMember { digest, size, frame: Zeroizing::new(frame.to_vec()) }));
        }
        self.write_frame(digest, size, frame).map(Ok)
    }

    /// Appends a member that did not fit into another bundle.
    ///
    /// # Errors
    /// As [`append_staged`](Self::append_staged).
    pub fn append_packed(&mut self, packed: &PackedMember) -> Result<MemberRef, SealError> {
        self.write_frame(packed.digest, packed.size, &packed.frame)
    }

    fn write_frame(&mut self, digest: Digest, size: u64, frame: &[u8]) -> Result<MemberRef, SealError> {
        self.object.check_room(frame.len())?;
        let offset = self.object.payload.plaintext_bytes();
        self.object.payload.write(frame);
        self.members += 1;
        Ok(MemberRef { digest, size, offset, length: frame.len() as u64 })
    }

    /// Members so far.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Bytes of the object so far: what it will have at least.
    pub fn sealed_bytes(&self) -> u64 {
        self.object.payload.file_bytes() as u64
    }

    /// Ends the archive and pads it.
    ///
    /// # Errors
    /// [`SealError::EmptyBundle`].
    pub fn finish(mut self, sealer: &mut Sealer) -> Result<SealedObject, SealError> {
        if self.members == 0 {
            return Err(SealError::EmptyBundle);
        }
        self.object.payload.write(sealer.compress(&TAR_END)?);
        Ok(self.object.finish())
    }
}

/// A compressed member that is in no bundle yet. Wiped on drop.
pub struct PackedMember {
    digest: Digest,
    size: u64,
    frame: Zeroizing<Vec<u8>>,
}

impl Opener {
    /// Checks the whole plaintext of a bundle and shows each member to `visit`, in order.
    ///
    /// All contents together may have `max_content_bytes`: the sum that the body states. Every frame, tar header,
    /// digest, the end of the archive and the padding are checked; a member may stand in a bundle twice. Members
    /// are shown before what follows them is checked: believe none before the call returns.
    ///
    /// # Errors
    /// [`SealError::Corrupt`] with the first rule broken, or the error of `visit`.
    pub fn walk_bundle<E: From<SealError>>(
        &mut self,
        plaintext: &[u8],
        max_content_bytes: u64,
        mut visit: impl FnMut(MemberRef, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let corrupt = |corruption: Corruption| E::from(SealError::Corrupt(corruption));
        let (mut position, mut content_left, mut members) = (0usize, max_content_bytes, 0u64);
        let block = TAR_BLOCK_BYTES as u64;
        loop {
            let offset = position as u64;
            let rest = &plaintext[position..];
            if !rest.starts_with(&FRAME_MAGIC) {
                return Err(corrupt(Corruption::TarEndMissing { offset }));
            }
            let frame = Frame::parse(rest, MAX_ENTRY_BYTES as u64)
                .and_then(|frame| check_entry_size(frame.content_bytes).map(|()| frame))
                .map_err(|defect| corrupt(Corruption::Frame { offset, defect }))?;
            // Checked before anything is decompressed, with the least that a member of this size can hold; a frame
            // of the archive end's size is too small to matter.
            let least = (frame.content_bytes - block).saturating_sub(block - 1);
            if frame.content_bytes > TAR_END_BYTES as u64 && least > content_left {
                return Err(corrupt(Corruption::ExpansionLimit { max: max_content_bytes }));
            }
            let entry = frame
                .decompress(&mut self.decompressor, &mut self.buffer)
                .map_err(|defect| corrupt(Corruption::Frame { offset, defect }))?;
            position += frame.bytes.len();
            if entry == TAR_END {
                break;
            }
            let (digest, content) = parse_entry(entry, offset).map_err(corrupt)?;
            let (size, length) = (content.len() as u64, frame.bytes.len() as u64);
            content_left = content_left
                .checked_sub(size)
                .ok_or_else(|| corrupt(Corruption::ExpansionLimit { max: max_content_bytes }))?;
            members += 1;
            visit(MemberRef { digest, size, offset, length }, content)?;
        }
        if members == 0 {
            return Err(corrupt(Corruption::NoMembers));
        }
        check_padding(plaintext, position).map_err(corrupt)
    }

    /// Reads one member from its frame and returns its content.
    ///
    /// # Errors
    /// [`SealError::Corrupt`] if the frame is not exactly the expected member.
    pub fn read_member(&mut self, frame: &[u8], expected: &MemberRef) -> Result<&[u8], SealError> {
        let offset = expected.offset;
        let bad_frame = |defect| Corruption::Frame { offset, defect };
        if frame.len() as u64 != expected.length {
            return Err(bad_frame(FrameDefect::Length(frame.len() as u64)).into());
        }
        let parsed = Frame::parse(frame, expected_entry_bytes(expected.size)).map_err(bad_frame)?;
        if parsed.bytes.len() != frame.len() {
            return Err(bad_frame(FrameDefect::Length(parsed.bytes.len() as u64)).into());
        }
        let entry = parsed.decompress(&mut self.decompressor, &mut self.buffer).map_err(bad_frame)?;
        let (digest, content) = parse_entry(entry, offset)?;
        if digest != expected.digest || content.len() as u64 != expected.size {
            return Err(Corruption::MemberMismatch {
                have: digest,
                have_bytes: content.len() as u64,
                expected: expected.digest,
                expected_bytes: expected.size,
            }
            .into());
        }
        Ok(content)
    }
}

/// A frame of a bundle holds whole tar blocks, and two at least: a header and content, or the end.
fn check_entry_size(content_bytes: u64) -> Result<(), FrameDefect> {
    let block = TAR_BLOCK_BYTES as u64;
    if content_bytes < block || !content_bytes.is_multiple_of(block) {
        return Err(FrameDefect::NotTar(content_bytes));
    }
    Ok(())
}

/// Size of the entry that holds a content of `size` bytes, or of the largest one.
fn expected_entry_bytes(size: u64) -> u64 {
    let block = TAR_BLOCK_BYTES as u64;
    size.checked_next_multiple_of(block)
        .and_then(|padded| padded.checked_add(block))
        .map_or(MAX_ENTRY_BYTES as u64, |entry| entry.min(MAX_ENTRY_BYTES as u64))
}
