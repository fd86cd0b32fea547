//! What a worker keeps between the plaintexts that it reads: the decompressor and its buffer.
//!
//! An [`Opener`] belongs to one thread. Its buffer holds one member (4 MiB at most) and is wiped on drop.

use zeroize::Zeroizing;
use zstd::bulk::Decompressor;

use super::error::SealError;

/// The workspace of one reading worker.
pub struct Opener {
    pub(super) decompressor: Decompressor<'static>,
    pub(super) buffer: Zeroizing<Vec<u8>>,
}

impl Opener {
    /// Creates a workspace.
    ///
    /// # Errors
    /// [`SealError::Compression`] if zstd cannot be set up.
    pub fn new() -> Result<Self, SealError> {
        let decompressor = Decompressor::new().map_err(SealError::from_zstd)?;
        Ok(Self { decompressor, buffer: Zeroizing::new(Vec::new()) })
    }
}
