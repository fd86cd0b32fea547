//! The ports through which bytes come in and go out.
//!
//! The crate does no IO: a caller implements [`ReadAt`] over a file, a store or memory, and [`WriteAt`] where it
//! wants a new disk written. Byte slices and [`SparseImage`] implement them here.
//!
//! A port does not retry, cache or lock. Its errors are passed on as they came.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;

use thiserror::Error;

/// Failure of a port, with the place where it happened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PortError {
    /// The range does not lie inside the file.
    #[error("range of {length} bytes at offset {offset} lies beyond the end of the file at {size_bytes}")]
    BeyondEnd {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// Size of the file, in bytes.
        size_bytes: u64,
    },
    /// The implementation of the port failed.
    #[error("access to {length} bytes at offset {offset} failed")]
    Access {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// What the implementation reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl PortError {
    /// Refuses a range that does not lie inside a file of `size_bytes`.
    ///
    /// # Errors
    /// [`BeyondEnd`](Self::BeyondEnd).
    pub fn check_range(offset: u64, length: u64, size_bytes: u64) -> Result<(), Self> {
        match offset.checked_add(length) {
            Some(end) if end <= size_bytes => Ok(()),
            _ => Err(Self::BeyondEnd { offset, length, size_bytes }),
        }
    }
}

/// Positioned reads from a file of known size, without a cursor.
pub trait ReadAt {
    /// Returns the size of the file, in bytes.
    fn size_bytes(&self) -> u64;

    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    /// Fails when the range does not lie inside the file, or when the bytes cannot be read.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError>;
}

/// Positioned writes to a growing file; bytes never written read as zeros.
pub trait WriteAt {
    /// Writes `bytes` at `offset`, growing the file where needed.
    ///
    /// # Errors
    /// Fails when the bytes cannot be written.
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PortError>;

    /// Makes the file at least `size_bytes` long.
    ///
    /// # Errors
    /// Fails when the file cannot grow.
    fn grow_to(&mut self, size_bytes: u64) -> Result<(), PortError>;
}

/// Returns `offset..offset + length` as indices, when it lies inside `size`.
fn inside(offset: u64, length: usize, size: usize) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(length)?;
    (end <= size).then_some(start..end)
}

impl ReadAt for [u8] {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let range = inside(offset, buffer.len(), self.len()).ok_or(PortError::BeyondEnd {
            offset,
            length: buffer.len() as u64,
            size_bytes: self.len() as u64,
        })?;
        buffer.copy_from_slice(&self[range]);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.as_slice().size_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

macro_rules! read_through {
    ($pointer:ty) => {
        impl<T: ReadAt + ?Sized> ReadAt for $pointer {
            fn size_bytes(&self) -> u64 {
                (**self).size_bytes()
            }

            fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
                (**self).read_exact_at(offset, buffer)
            }
        }
    };
}
read_through!(&T);
read_through!(Box<T>);
read_through!(Arc<T>);

impl<T: WriteAt + ?Sized> WriteAt for &mut T {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PortError> {
        (**self).write_all_at(offset, bytes)
    }

    fn grow_to(&mut self, size_bytes: u64) -> Result<(), PortError> {
        (**self).grow_to(size_bytes)
    }
}

/// Granularity of a [`SparseImage`], in bytes.
const PAGE_BYTES: u64 = 4096;

/// File image in memory that holds only what was written: a 2 TB disk with three blocks costs three blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseImage {
    pages: BTreeMap<u64, Box<[u8]>>,
    size_bytes: u64,
}

impl SparseImage {
    /// Creates an empty image.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the written ranges in ascending order as (file offset, bytes), adjacent pages joined up to 1 MiB.
    ///
    /// Everything between them is zero; the file ends at [`ReadAt::size_bytes`].
    pub fn extents(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        const MAX_JOINED_BYTES: usize = 1 << 20;
        let mut pages = self.pages.iter().peekable();
        core::iter::from_fn(move || {
            let (&first, page) = pages.next()?;
            let start = first * PAGE_BYTES;
            let mut bytes = page.to_vec();
            while bytes.len() < MAX_JOINED_BYTES
                && let Some((_, page)) =
                    pages.next_if(|(index, _)| **index * PAGE_BYTES == start + bytes.len() as u64)
            {
                bytes.extend_from_slice(page);
            }
            bytes.truncate(usize::try_from(self.size_bytes - start).unwrap_or(usize::MAX));
            Some((start, bytes))
        })
    }

    /// Returns the whole file, zeros included.
    ///
    /// # Panics
    /// Panics when the file does not fit the address space: meant for small images.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = usize::try_from(self.size_bytes).expect("documented: only for images that fit memory");
        let mut bytes = alloc::vec![0; size];
        for (offset, part) in self.extents() {
            let start = usize::try_from(offset).expect("a written range lies below the size, which fits");
            bytes[start..start + part.len()].copy_from_slice(&part);
        }
        bytes
    }
}

/// Splits a range at page borders and hands each piece to `visit` as (page, start in page, start in range, length).
fn for_each_page(offset: u64, length: usize, mut visit: impl FnMut(u64, usize, usize, usize)) {
    let mut done = 0;
    while done < length {
        let position = offset + done as u64;
        let in_page = usize::try_from(position % PAGE_BYTES).expect("less than a page");
        let piece = (length - done).min(PAGE_BYTES as usize - in_page);
        visit(position / PAGE_BYTES, in_page, done, piece);
        done += piece;
    }
}

impl ReadAt for SparseImage {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        PortError::check_range(offset, buffer.len() as u64, self.size_bytes)?;
        for_each_page(offset, buffer.len(), |page, in_page, done, piece| {
            let target = &mut buffer[done..done + piece];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[in_page..in_page + piece]),
                None => target.fill(0),
            }
        });
        Ok(())
    }
}

impl WriteAt for SparseImage {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PortError> {
        let length = bytes.len() as u64;
        let end = offset.checked_add(length).ok_or(PortError::BeyondEnd {
            offset,
            length,
            size_bytes: u64::MAX,
        })?;
        for_each_page(offset, bytes.len(), |page, in_page, done, piece| {
            let target = self
                .pages
                .entry(page)
                .or_insert_with(|| alloc::vec![0; PAGE_BYTES as usize].into_boxed_slice());
            target[in_page..in_page + piece].copy_from_slice(&bytes[done..done + piece]);
        });
        self.size_bytes = self.size_bytes.max(end);
        Ok(())
    }

    fn grow_to(&mut self, size_bytes: u64) -> Result<(), PortError> {
        self.size_bytes = self.size_bytes.max(size_bytes);
        Ok(())
    }
}
