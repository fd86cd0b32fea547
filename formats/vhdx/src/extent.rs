//! Answers about ranges of a virtual disk: which part lies where.
//!
//! The reader answers extents and moves no payload; whoever asked reads it, copies it or skips it.

/// Part of a virtual disk with one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<S = Source> {
    /// First byte in the virtual disk.
    pub offset: u64,
    /// Length, in bytes; never 0.
    pub length: u64,
    /// Where the data is.
    pub source: S,
}

/// Where data of a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The data is zeros and lies nowhere.
    Zero,
    /// The data lies in a file of the chain.
    Data {
        /// Which file: 0 is the youngest disk, each further one the parent of the one before.
        file_index: usize,
        /// Offset of the first byte in that file.
        file_offset: u64,
    },
    /// The data is known from a file's log only, not yet in its place: to be read through the chain, not the file.
    ///
    /// MS-VHDX logs no payload, so that intact files have no such extent.
    Replayed {
        /// Which file: 0 is the youngest disk.
        file_index: usize,
        /// Offset of the first byte in that file as it would be after the replay.
        file_offset: u64,
    },
}

/// Where data of a single file is, as far as that file knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalSource {
    /// The data is zeros and lies nowhere.
    Zero,
    /// The data lies in this file.
    Data {
        /// Offset of the first byte.
        file_offset: u64,
    },
    /// The data is known from the log only.
    Replayed {
        /// Offset of the first byte in the file as it would be after the replay.
        file_offset: u64,
    },
    /// The data is whatever the parent has there.
    Parent,
}

impl LocalSource {
    /// Puts the file into a chain; nothing when the parent is to be asked.
    pub(crate) fn in_chain(self, file_index: usize) -> Option<Source> {
        Some(match self {
            Self::Zero => Source::Zero,
            Self::Data { file_offset } => Source::Data { file_index, file_offset },
            Self::Replayed { file_offset } => Source::Replayed { file_index, file_offset },
            Self::Parent => return None,
        })
    }
}

/// Sources of two neighbours that may be one extent.
pub(crate) trait Join: Copy {
    /// Tells whether `next`, which begins `distance` bytes later in the virtual disk, continues `self`.
    fn continues(self, next: Self, distance: u64) -> bool;
}

impl Join for LocalSource {
    fn continues(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Self::Zero, Self::Zero) | (Self::Parent, Self::Parent) => true,
            (Self::Data { file_offset: one }, Self::Data { file_offset: two })
            | (Self::Replayed { file_offset: one }, Self::Replayed { file_offset: two }) => {
                one + distance == two
            }
            _ => false,
        }
    }
}

impl Join for Source {
    fn continues(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Self::Zero, Self::Zero) => true,
            (
                Self::Data { file_index, file_offset },
                Self::Data { file_index: next_index, file_offset: next_offset },
            )
            | (
                Self::Replayed { file_index, file_offset },
                Self::Replayed { file_index: next_index, file_offset: next_offset },
            ) => file_index == next_index && file_offset + distance == next_offset,
            _ => false,
        }
    }
}

/// Iterator that joins neighbouring extents and ends after the first error.
pub(crate) struct Joined<I, S, E> {
    pieces: I,
    pending: Option<Extent<S>>,
    error: Option<E>,
    is_done: bool,
}

impl<I, S, E> Joined<I, S, E> {
    pub(crate) fn new(pieces: I) -> Self {
        Self { pieces, pending: None, error: None, is_done: false }
    }
}

impl<I, S, E> Iterator for Joined<I, S, E>
where
    I: Iterator<Item = Result<Extent<S>, E>>,
    S: Join,
{
    type Item = Result<Extent<S>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.pieces.next() {
                None => self.is_done = true,
                Some(Err(error)) => {
                    self.error = Some(error);
                    self.is_done = true;
                }
                Some(Ok(piece)) => match &mut self.pending {
                    Some(last) if last.source.continues(piece.source, last.length) => {
                        last.length += piece.length
                    }
                    pending => {
                        if let Some(extent) = pending.replace(piece) {
                            return Some(Ok(extent));
                        }
                    }
                },
            }
        }
        self.pending.take().map(Ok).or_else(|| self.error.take().map(Err))
    }
}
