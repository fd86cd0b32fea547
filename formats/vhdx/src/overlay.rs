//! What a replay would have written, held in memory, and the file seen through it.
//!
//! The overlay maps sectors and zero ranges of the file. [`FileView`] joins it with the port: everything the reader
//! learns from a file it reads through the view. Nothing is ever written back.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::ops::Range;

use crate::error::{Corruption, VhdxError};
use crate::header::Header;
use crate::layout::LOG_SECTOR_BYTES;
use crate::log::entry::{LogOperation, LogRing, MAX_FILE_BYTES};
use crate::log::sequence::find_active;
use crate::port::{PortError, ReadAt};

/// Piece of the overlay.
#[derive(Clone, Debug)]
enum Patch {
    Zero { length: u64 },
    Data(Box<[u8; LOG_SECTOR_BYTES]>),
}

impl Patch {
    fn length(&self) -> u64 {
        match self {
            Self::Zero { length } => *length,
            Self::Data(_) => LOG_SECTOR_BYTES as u64,
        }
    }
}

/// Changes of a replay; later changes take the place of earlier ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// Pieces by file offset; they do not overlap, and all borders are multiples of 4096.
    patches: BTreeMap<u64, Patch>,
}

impl Overlay {
    pub(crate) fn apply(&mut self, operation: LogOperation) {
        match operation {
            LogOperation::Data { file_offset, sector } => {
                self.clear(file_offset..file_offset + LOG_SECTOR_BYTES as u64);
                self.patches.insert(file_offset, Patch::Data(sector));
            }
            LogOperation::Zero { length: 0, .. } => {}
            LogOperation::Zero { file_offset, length } => {
                self.clear(file_offset..file_offset + length);
                self.patches.insert(file_offset, Patch::Zero { length });
            }
        }
    }

    /// Removes all pieces from a range; zero ranges that reach out of it keep their outer parts.
    fn clear(&mut self, range: Range<u64>) {
        while let Some((&start, patch)) = self.patches.range(..range.end).next_back() {
            let end = start + patch.length();
            if end <= range.start {
                break;
            }
            self.patches.remove(&start);
            if start < range.start {
                self.patches.insert(start, Patch::Zero { length: range.start - start });
            }
            if end > range.end {
                self.patches.insert(range.end, Patch::Zero { length: end - range.end });
            }
            if start <= range.start {
                break;
            }
        }
    }

    /// Lists the pieces that touch a range.
    fn touching(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &Patch)> {
        let first = self
            .patches
            .range(..range.start)
            .next_back()
            .filter(|(start, patch)| *start + patch.length() > range.start)
            .map_or(range.start, |(start, _)| *start);
        self.patches
            .range(first..range.end.max(first))
            .map(|(start, patch)| (*start..*start + patch.length(), patch))
    }

    /// Returns the first part of a range that the overlay covers.
    pub(crate) fn first_covered(&self, range: Range<u64>) -> Option<Range<u64>> {
        let (piece, _) = self.touching(range.clone()).next()?;
        Some(piece.start.max(range.start)..piece.end.min(range.end))
    }

    /// Puts the covered parts of a range over the bytes that were read from it.
    fn cover(&self, offset: u64, buffer: &mut [u8]) {
        let range = offset..offset + buffer.len() as u64;
        for (piece, patch) in self.touching(range.clone()) {
            let part = piece.start.max(range.start)..piece.end.min(range.end);
            // All differences are within the buffer, whose length is a usize.
            let target = &mut buffer[(part.start - range.start) as usize..(part.end - range.start) as usize];
            match patch {
                Patch::Zero { .. } => target.fill(0),
                Patch::Data(sector) => {
                    let from = (part.start - piece.start) as usize;
                    target.copy_from_slice(&sector[from..from + target.len()]);
                }
            }
        }
    }
}

/// File as it would be after the replay.
pub(crate) struct FileView<R> {
    port: R,
    /// Length that the replay gives the file; bytes beyond its real end are zeros.
    size_bytes: u64,
    overlay: Overlay,
    replayed_entries: usize,
}

impl<R: ReadAt> FileView<R> {
    /// Replays the log that `header` asks for, if any. The header must have been checked.
    pub(crate) fn replay(port: R, header: &Header) -> Result<Self, VhdxError> {
        let physical = port.size_bytes();
        let mut view = Self { port, size_bytes: physical, overlay: Overlay::default(), replayed_entries: 0 };
        let Some(log_guid) = header.log_guid else { return Ok(view) };

        // At most MAX_LOG_BYTES, and inside the file: Header::check.
        let mut log = vec![0; header.log_bytes as usize];
        view.port.read_exact_at(header.log_offset, &mut log)?;
        let ring = LogRing::new(&log, header.log_offset);
        let entries = find_active(ring, log_guid).ok_or(Corruption::LogWithoutSequence)?;
        for entry in &entries {
            for operation in entry.operations() {
                let end = match &operation {
                    LogOperation::Data { file_offset, .. } => {
                        file_offset.saturating_add(LOG_SECTOR_BYTES as u64)
                    }
                    LogOperation::Zero { file_offset, length } => file_offset.saturating_add(*length),
                };
                view.grow_to(end)?;
                view.overlay.apply(operation);
            }
        }
        if let Some(last) = entries.last() {
            let flushed_bytes = last.flushed_file_bytes();
            if physical < flushed_bytes {
                return Err(Corruption::FileTruncated { size_bytes: physical, flushed_bytes }.into());
            }
            view.grow_to(last.last_file_bytes())?;
        }
        view.replayed_entries = entries.len();
        Ok(view)
    }

    fn grow_to(&mut self, bytes: u64) -> Result<(), Corruption> {
        if bytes > MAX_FILE_BYTES {
            return Err(Corruption::LogGrowth { bytes });
        }
        self.size_bytes = self.size_bytes.max(bytes);
        Ok(())
    }

    pub(crate) fn port(&self) -> &R {
        &self.port
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    pub(crate) fn replayed_entries(&self) -> usize {
        self.replayed_entries
    }

    /// Fills `buffer` with the bytes at `offset` as the replay would leave them.
    pub(crate) fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let length = buffer.len() as u64;
        PortError::check_range(offset, length, self.size_bytes)?;
        let physical = self.port.size_bytes().saturating_sub(offset).min(length);
        // No more than the length of the buffer.
        let (present, absent) = buffer.split_at_mut(physical as usize);
        if !present.is_empty() {
            self.port.read_exact_at(offset, present)?;
        }
        absent.fill(0);
        self.overlay.cover(offset, buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECTOR: u64 = LOG_SECTOR_BYTES as u64;
    const SECTORS: u64 = 24;

    proptest! {
        /// Any order of changes reads as the same changes made to bytes.
        #[test]
        fn reads_as_the_model(
            changes in prop::collection::vec((0..SECTORS, 0..6_u64, any::<u8>(), any::<bool>()), 0..30),
            (start, end) in (0..SECTORS * SECTOR, 0..SECTORS * SECTOR),
        ) {
            let mut overlay = Overlay::default();
            let mut model: Vec<Option<u8>> = vec![None; (SECTORS * SECTOR) as usize];
            for (first, sectors, byte, is_data) in changes {
                let file_offset = first * SECTOR;
                let (operation, length, value) = if is_data {
                    (LogOperation::Data { file_offset, sector: Box::new([byte; LOG_SECTOR_BYTES]) }, SECTOR, byte)
                } else {
                    let length = sectors.min(SECTORS - first) * SECTOR;
                    (LogOperation::Zero { file_offset, length }, length, 0)
                };
                overlay.apply(operation);
                model[file_offset as usize..(file_offset + length) as usize].fill(Some(value));
            }
            let (start, end) = (start.min(end), start.max(end));
            let mut buffer = vec![0xee; (end - start) as usize];
            overlay.cover(start, &mut buffer);
            let part = &model[start as usize..end as usize];
            prop_assert!(buffer.iter().zip(part).all(|(byte, model)| *byte == model.unwrap_or(0xee)));
            let first = part.iter().position(Option::is_some).map(|at| start + at as u64);
            let covered = (start < end).then(|| overlay.first_covered(start..end)).flatten();
            prop_assert_eq!(covered.as_ref().map(|range| range.start), first);
            prop_assert!(covered.is_none_or(|range| range.start < range.end && range.end <= end));
        }
    }
}
