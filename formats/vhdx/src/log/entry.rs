//! One entry of the log: descriptors of the sectors that it replaces or zeroes, and the new sectors.
//!
//! An entry lies in whole log sectors and may wrap around the end of the ring.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use uguid::Guid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum;
use crate::layout::{
    DATA_DESCRIPTOR_SIGNATURE, DATA_SECTOR_SIGNATURE, FIRST_LOGGED_OFFSET, LEADING_BYTES,
    LOG_ENTRY_SIGNATURE, LOG_SECTOR_BYTES, RawLogDataSector, RawLogDescriptor, RawLogEntry, TRAILING_BYTES,
    ZERO_DESCRIPTOR_SIGNATURE,
};
use crate::region::overlap;

/// Log sector size as a file quantity.
const SECTOR: u64 = LOG_SECTOR_BYTES as u64;
/// Largest file that a log may ask for: 64 TiB of data and as much again for everything else.
pub(crate) const MAX_FILE_BYTES: u64 = 128 << 40;

/// The ring in which the entries lie; its length is a multiple of the log sector size.
#[derive(Clone, Copy, Debug)]
pub struct LogRing<'a> {
    bytes: &'a [u8],
    /// Where the ring lies in the file: entries must not change it.
    range_start: u64,
}

impl<'a> LogRing<'a> {
    /// Wraps the bytes of a log that lies at `file_offset`. A rest that fills no sector is left out.
    #[must_use]
    pub fn new(bytes: &'a [u8], file_offset: u64) -> Self {
        let whole = bytes.len() - bytes.len() % LOG_SECTOR_BYTES;
        Self { bytes: &bytes[..whole], range_start: file_offset }
    }

    /// Returns the length of the ring, in bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn file_range(&self) -> Range<u64> {
        self.range_start..self.range_start.saturating_add(self.bytes.len() as u64)
    }

    /// Returns the sector `index` sectors after `start`, with wrap. The ring must not be empty.
    fn sector(&self, start: u32, index: u32) -> &'a [u8] {
        let position = (start as usize + index as usize * LOG_SECTOR_BYTES) % self.bytes.len();
        &self.bytes[position..position + LOG_SECTOR_BYTES]
    }
}

/// Change that an entry makes to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOperation {
    /// Replaces one sector of 4096 bytes.
    Data {
        /// Offset in the file, a multiple of 4096.
        file_offset: u64,
        /// The new contents.
        sector: Box<[u8; LOG_SECTOR_BYTES]>,
    },
    /// Zeroes a range.
    Zero {
        /// Offset in the file, a multiple of 4096.
        file_offset: u64,
        /// Length in bytes, a multiple of 4096.
        length: u64,
    },
}

/// Entry that keeps every rule: signatures, lengths, sequence numbers, destinations, checksum.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    ring: LogRing<'a>,
    start: u32,
    length: u32,
    tail: u32,
    sequence_number: u64,
    descriptor_count: u32,
    flushed_file_bytes: u64,
    last_file_bytes: u64,
}

/// Returns the number of sectors that hold the entry's head and its descriptors.
fn descriptor_sectors(count: u32) -> u64 {
    (size_of::<RawLogEntry>() as u64 + u64::from(count) * size_of::<RawLogDescriptor>() as u64)
        .div_ceil(SECTOR)
}

impl<'a> LogEntry<'a> {
    /// Parses the entry at `start` of the ring, or answers nothing when there is no valid one with this log id.
    ///
    /// The checksum comes last: signatures of two valid-looking entries cannot overlap, so that all attempts over
    /// the whole ring together read it only a few times, whatever it holds.
    #[must_use]
    pub fn parse(ring: LogRing<'a>, start: u32, log_guid: Guid) -> Option<Self> {
        if start >= ring.length() || !u64::from(start).is_multiple_of(SECTOR) {
            return None;
        }
        let (raw, _) = RawLogEntry::ref_from_prefix(ring.sector(start, 0)).ok()?;
        let entry = Self {
            ring,
            start,
            length: raw.entry_length.get(),
            tail: raw.tail.get(),
            sequence_number: raw.sequence_number.get(),
            descriptor_count: raw.descriptor_count.get(),
            flushed_file_bytes: raw.flushed_file_offset.get(),
            last_file_bytes: raw.last_file_offset.get(),
        };
        let aligned = |value: u32| u64::from(value).is_multiple_of(SECTOR);
        let head_is_valid = raw.signature == LOG_ENTRY_SIGNATURE
            && raw.log_guid == log_guid.to_bytes()
            && raw.reserved.get() == 0
            && entry.sequence_number > 0
            && aligned(entry.length)
            && (1..=ring.length()).contains(&entry.length)
            && aligned(entry.tail)
            && entry.tail < ring.length()
            && descriptor_sectors(entry.descriptor_count) <= u64::from(entry.length) / SECTOR;
        if !head_is_valid || !entry.body_is_valid() || entry.checksum() != raw.checksum.get() {
            return None;
        }
        Some(entry)
    }

    fn sector_count(&self) -> u32 {
        self.length / LOG_SECTOR_BYTES as u32
    }

    fn descriptor_sector_count(&self) -> u32 {
        // The constructor compared it with the number of sectors of the entry, which is a u32.
        descriptor_sectors(self.descriptor_count) as u32
    }

    fn descriptors(&self) -> impl Iterator<Item = &'a RawLogDescriptor> + use<'a> {
        let per_sector = (LOG_SECTOR_BYTES / size_of::<RawLogDescriptor>()) as u32;
        let head_slots = (size_of::<RawLogEntry>() / size_of::<RawLogDescriptor>()) as u32;
        let (ring, start) = (self.ring, self.start);
        (head_slots..head_slots + self.descriptor_count).filter_map(move |slot| {
            let sector = ring.sector(start, slot / per_sector);
            let offset = (slot % per_sector) as usize * size_of::<RawLogDescriptor>();
            RawLogDescriptor::ref_from_prefix(&sector[offset..]).ok().map(|(descriptor, _)| descriptor)
        })
    }

    /// Checks descriptors and data sectors.
    fn body_is_valid(&self) -> bool {
        let log = self.ring.file_range();
        let mut data_count = 0_u64;
        for descriptor in self.descriptors() {
            let length = match descriptor.signature {
                DATA_DESCRIPTOR_SIGNATURE => {
                    data_count += 1;
                    SECTOR
                }
                ZERO_DESCRIPTOR_SIGNATURE => u64::from_le_bytes(descriptor.leading_bytes_or_length),
                _ => return false,
            };
            let start = descriptor.file_offset.get();
            let Some(end) = start.checked_add(length) else { return false };
            let allowed = descriptor.sequence_number.get() == self.sequence_number
                && start.is_multiple_of(SECTOR)
                && length.is_multiple_of(SECTOR)
                && start >= FIRST_LOGGED_OFFSET
                && !overlap(&(start..end), &log);
            if !allowed {
                return false;
            }
        }
        let data_sectors = self.descriptor_sector_count()..self.sector_count();
        u64::from(data_sectors.end - data_sectors.start) == data_count
            && data_sectors.into_iter().all(|index| {
                RawLogDataSector::ref_from_bytes(self.ring.sector(self.start, index)).is_ok_and(|sector| {
                    sector.signature == DATA_SECTOR_SIGNATURE
                        && sector.sequence_high.get() == (self.sequence_number >> 32) as u32
                        && sector.sequence_low.get() == self.sequence_number as u32
                })
            })
    }

    fn checksum(&self) -> u32 {
        let first = checksum::compute(self.ring.sector(self.start, 0));
        (1..self.sector_count())
            .fold(first, |crc, index| crc32c::crc32c_append(crc, self.ring.sector(self.start, index)))
    }

    /// Returns the position of the entry in the ring, in bytes.
    #[must_use]
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Returns the position in the ring directly after the entry, in bytes.
    #[must_use]
    pub fn end(&self) -> u32 {
        // The sum is below twice the length of the ring, which can exceed a u32.
        ((u64::from(self.start) + u64::from(self.length)) % u64::from(self.ring.length())) as u32
    }

    /// Returns the position of the oldest entry that was still needed when this one was written, in bytes.
    #[must_use]
    pub fn tail(&self) -> u32 {
        self.tail
    }

    /// Returns the number of the entry in its sequence.
    #[must_use]
    pub fn sequence_number(&self) -> u64 {
        self.sequence_number
    }

    /// Returns the length that the file had on stable storage when the entry was written, in bytes.
    #[must_use]
    pub fn flushed_file_bytes(&self) -> u64 {
        self.flushed_file_bytes
    }

    /// Returns the length in which all structures fit, in bytes.
    #[must_use]
    pub fn last_file_bytes(&self) -> u64 {
        self.last_file_bytes
    }

    /// Lists the changes of the entry in order.
    pub fn operations(&self) -> impl Iterator<Item = LogOperation> + use<'a> {
        let (ring, start) = (self.ring, self.start);
        let mut next_data = self.descriptor_sector_count();
        self.descriptors().map(move |descriptor| {
            let file_offset = descriptor.file_offset.get();
            if descriptor.signature == ZERO_DESCRIPTOR_SIGNATURE {
                let length = u64::from_le_bytes(descriptor.leading_bytes_or_length);
                return LogOperation::Zero { file_offset, length };
            }
            let mut sector = Box::new([0; LOG_SECTOR_BYTES]);
            sector.copy_from_slice(ring.sector(start, next_data));
            next_data += 1;
            sector[..LEADING_BYTES].copy_from_slice(&descriptor.leading_bytes_or_length);
            sector[LOG_SECTOR_BYTES - TRAILING_BYTES..].copy_from_slice(&descriptor.trailing_bytes);
            LogOperation::Data { file_offset, sector }
        })
    }
}

/// Entry to be written; made for fixtures and tests, because the writer of this crate needs no log.
#[derive(Clone, Debug)]
pub struct NewLogEntry<'a> {
    /// Id of the log, equal to the one in the header.
    pub log_guid: Guid,
    /// Number in the sequence, not 0.
    pub sequence_number: u64,
    /// Position in the ring of the oldest entry that is still needed, in bytes.
    pub tail: u32,
    /// Length that the file has on stable storage, in bytes.
    pub flushed_file_bytes: u64,
    /// Length in which all structures fit, in bytes.
    pub last_file_bytes: u64,
    /// The changes, in order.
    pub operations: &'a [LogOperation],
}

impl NewLogEntry<'_> {
    /// Returns the length of the encoded entry, in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        let count = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        let data = self.operations.iter().filter(|operation| matches!(operation, LogOperation::Data { .. }));
        (descriptor_sectors(count) + data.count() as u64) * SECTOR
    }

    /// Encodes the entry with its checksum. Rules are not checked, so that fixtures can break them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.encoded_bytes()).unwrap_or(0)];
        let head = size_of::<RawLogEntry>();
        let mut data_at =
            usize::try_from(descriptor_sectors(self.operations.len() as u32) * SECTOR).unwrap_or(0);
        for (index, operation) in self.operations.iter().enumerate() {
            let mut descriptor = RawLogDescriptor {
                signature: ZERO_DESCRIPTOR_SIGNATURE,
                trailing_bytes: [0; TRAILING_BYTES],
                leading_bytes_or_length: [0; LEADING_BYTES],
                file_offset: U64::ZERO,
                sequence_number: U64::new(self.sequence_number),
            };
            match operation {
                LogOperation::Zero { file_offset, length } => {
                    descriptor.leading_bytes_or_length = length.to_le_bytes();
                    descriptor.file_offset = U64::new(*file_offset);
                }
                LogOperation::Data { file_offset, sector } => {
                    let (leading, rest) = sector.split_at(LEADING_BYTES);
                    let (payload, trailing) = rest.split_at(rest.len() - TRAILING_BYTES);
                    descriptor.signature = DATA_DESCRIPTOR_SIGNATURE;
                    descriptor.leading_bytes_or_length.copy_from_slice(leading);
                    descriptor.trailing_bytes.copy_from_slice(trailing);
                    descriptor.file_offset = U64::new(*file_offset);
                    let target = &mut bytes[data_at..data_at + LOG_SECTOR_BYTES];
                    target[..4].copy_from_slice(&DATA_SECTOR_SIGNATURE);
                    target[4..8].copy_from_slice(&((self.sequence_number >> 32) as u32).to_le_bytes());
                    target[8..8 + payload.len()].copy_from_slice(payload);
                    target[8 + payload.len()..].copy_from_slice(&(self.sequence_number as u32).to_le_bytes());
                    data_at += LOG_SECTOR_BYTES;
                }
            }
            let slot = head + index * size_of::<RawLogDescriptor>();
            bytes[slot..slot + size_of::<RawLogDescriptor>()].copy_from_slice(descriptor.as_bytes());
        }
        let raw = RawLogEntry {
            signature: LOG_ENTRY_SIGNATURE,
            checksum: U32::ZERO,
            entry_length: U32::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            tail: U32::new(self.tail),
            sequence_number: U64::new(self.sequence_number),
            descriptor_count: U32::new(u32::try_from(self.operations.len()).unwrap_or(u32::MAX)),
            reserved: U32::ZERO,
            log_guid: self.log_guid.to_bytes(),
            flushed_file_offset: U64::new(self.flushed_file_bytes),
            last_file_offset: U64::new(self.last_file_bytes),
        };
        bytes[..head].copy_from_slice(raw.as_bytes());
        checksum::seal(&mut bytes);
        bytes
    }
}
