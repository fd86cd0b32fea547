//! The positioned-read port: how the parser sees a file.
//!
//! A guest state has a few MiB as a rule, and nothing bounds it, so nothing here needs the whole file. Slices implement
//! the port; adapters over real files belong to the callers.

use alloc::vec::Vec;
use thiserror::Error;

/// A source of bytes that is read at positions.
pub trait ReadAt {
    /// What can go wrong with a read.
    type Error;

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// When not all bytes could be read.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Answers the size of the source in bytes.
    fn len(&self) -> u64;

    /// Tells whether the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A read that does not lie inside a slice.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{need} bytes at offset {offset} do not lie inside {have} bytes")]
pub struct OutOfBounds {
    /// Where the read began.
    pub offset: u64,
    /// How many bytes were wanted.
    pub need: usize,
    /// How many bytes the slice has.
    pub have: usize,
}

impl ReadAt for [u8] {
    type Error = OutOfBounds;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfBounds> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buf.len()));
        match start.zip(end).and_then(|(start, end)| self.get(start..end)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(OutOfBounds { offset, need: buf.len(), have: <[u8]>::len(self) }),
        }
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    type Error = OutOfBounds;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfBounds> {
        self.as_slice().read_exact_at(offset, buf)
    }

    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    type Error = T::Error;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), T::Error> {
        (**self).read_exact_at(offset, buf)
    }

    fn len(&self) -> u64 {
        (**self).len()
    }
}
