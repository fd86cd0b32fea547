//! Encrypt-on-write: which chunks of a volume under conversion are encrypted already.
//!
//! Windows 8 and later keep an information block (two copies) and a bitmap per region (FORMAT.md 6.5); the map of the
//! volume (`map.rs`) asks them.
//!
//! Deliberately does not replay conversion logs: their content is unknown (unverified).

use alloc::vec::Vec;
use core::mem::{offset_of, size_of};

use zerocopy::FromBytes;

use crate::error::Corruption;
use crate::layout::{
    EOW_BITMAP_SIGNATURE, EOW_RECORD_SIGNATURE, EOW_SIGNATURE, MAX_EOW_BITMAP_BYTES, MAX_EOW_REGIONS,
    MAX_SECTOR_SIZE, MAX_VOLUME_BYTES, MIN_EOW_CHUNK_BYTES, RawEowBitmap, RawEowInformation, RawEowRecord,
};

/// An encrypt-on-write information block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EowInformation {
    /// Bytes that one bit of a bitmap stands for.
    pub chunk_size_bytes: u32,
    /// Bytes of one conversion log.
    pub log_size_bytes: u32,
    /// Bytes of this block.
    pub size_bytes: u16,
    /// Offsets of both copies of this block.
    pub copies: [u64; 2],
    /// Offset of the bitmap of each region.
    pub bitmap_offsets: Vec<u64>,
}

/// Computes the CRC of a structure with its own CRC field taken as zero.
fn crc_with_hole(bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..hole]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[hole + 4..]);
    hasher.finalize()
}

fn check_crc(what: &'static str, bytes: &[u8], hole: usize, found: u32) -> Result<(), Corruption> {
    let computed = crc_with_hole(bytes, hole);
    if found == computed { Ok(()) } else { Err(Corruption::Checksum { what, found, computed }) }
}

fn in_range(what: &'static str, value: u64, min: u64, max: u64) -> Result<u64, Corruption> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(Corruption::OutOfRange { what, value, min, max })
    }
}

fn read<T: FromBytes>(what: &'static str, bytes: &[u8]) -> Result<T, Corruption> {
    T::read_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| Corruption::Truncated {
        what,
        need: size_of::<T>(),
        have: bytes.len(),
    })
}

fn slice<'a>(
    what: &'static str,
    bytes: &'a [u8],
    range: core::ops::Range<usize>,
) -> Result<&'a [u8], Corruption> {
    let need = range.end;
    bytes.get(range).ok_or(Corruption::Truncated { what, need, have: bytes.len() })
}

impl EowInformation {
    /// Parses an information block.
    ///
    /// # Errors
    /// [`Corruption`] names the broken rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corruption> {
        const WHAT: &str = "encrypt-on-write information";
        const HEADER: usize = size_of::<RawEowInformation>();
        let raw: RawEowInformation = read(WHAT, bytes)?;
        if raw.signature != EOW_SIGNATURE {
            return Err(Corruption::Signature { what: WHAT });
        }
        let regions =
            in_range("the number of regions", raw.region_count.get().into(), 1, MAX_EOW_REGIONS as u64)?;
        let need = HEADER + regions as usize * size_of::<u64>();
        let size =
            in_range("the information block size", raw.size.get().into(), need as u64, u16::MAX.into())?;
        let block = slice(WHAT, bytes, 0..size as usize)?;
        check_crc(WHAT, block, offset_of!(RawEowInformation, crc32), raw.crc32.get())?;
        let chunk = raw.chunk_size.get();
        in_range("the chunk size", chunk.into(), MIN_EOW_CHUNK_BYTES.into(), u64::from(u32::MAX))?;
        if !chunk.is_multiple_of(MAX_SECTOR_SIZE) {
            return Err(Corruption::Unaligned {
                what: "the chunk size",
                value: chunk.into(),
                unit: MAX_SECTOR_SIZE.into(),
            });
        }
        Ok(Self {
            chunk_size_bytes: chunk,
            log_size_bytes: raw.log_size.get(),
            size_bytes: raw.size.get(),
            copies: raw.copies.map(|offset| offset.get()),
            bitmap_offsets: block[HEADER..need]
                .as_chunks()
                .0
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect(),
        })
    }
}

/// The bitmap of one region, with its active record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EowBitmap {
    /// Index of the region.
    pub region: u32,
    /// First byte of the region.
    pub offset: u64,
    /// Bytes of the region.
    pub size_bytes: u64,
    /// Offset of the region's conversion log.
    pub log_offset: u64,
    /// Bytes of the bitmap block.
    pub block_bytes: u32,
    /// Number of the active record.
    pub sequence: u64,
    /// How many of the two records are valid.
    pub valid_records: u8,
    chunk_size_bytes: u32,
    chunks: u32,
    bits: Vec<u8>,
}

impl EowBitmap {
    /// Parses a bitmap block and picks the valid record with the higher number.
    ///
    /// # Errors
    /// [`Corruption`] names the broken rule; [`Corruption::NoEowRecord`] when both records are damaged.
    pub fn parse(bytes: &[u8], chunk_size_bytes: u32) -> Result<Self, Corruption> {
        const WHAT: &str = "encrypt-on-write bitmap";
        let raw: RawEowBitmap = read(WHAT, bytes)?;
        if raw.signature != EOW_BITMAP_SIGNATURE {
            return Err(Corruption::Signature { what: WHAT });
        }
        let header = size_of::<RawEowBitmap>() as u64;
        let size = in_range("the bitmap size", raw.size.get().into(), header, MAX_EOW_BITMAP_BYTES as u64)?;
        let block = slice(WHAT, bytes, 0..size as usize)?;
        let first_record =
            in_range("the first record offset", raw.record_offsets[0].get().into(), header, size)?;
        let head = &block[..first_record as usize];
        check_crc(WHAT, head, offset_of!(RawEowBitmap, crc32), raw.crc32.get())?;
        let offset = in_range("the region offset", raw.region_offset.get(), 0, MAX_VOLUME_BYTES)?;
        let size_bytes = in_range("the region size", raw.region_size.get(), 1, MAX_VOLUME_BYTES)?;
        let chunks = size_bytes.div_ceil(chunk_size_bytes.max(1).into());
        let chunks = in_range("the number of chunks in a region", chunks, 1, size * 8)? as u32;
        let region = raw.region_index.get();
        let records = raw.record_offsets.map(|at| {
            let at = at.get() as usize;
            Record::parse(block.get(at..)?, raw.record_size.get() as usize, chunks).ok()
        });
        let valid_records = records.iter().flatten().count() as u8;
        let active = records
            .into_iter()
            .flatten()
            .max_by_key(|record| record.sequence)
            .ok_or(Corruption::NoEowRecord { region })?;
        Ok(Self {
            region,
            offset,
            size_bytes,
            log_offset: raw.log_offset.get(),
            block_bytes: raw.size.get(),
            sequence: active.sequence,
            valid_records,
            chunk_size_bytes,
            chunks,
            bits: active.bits,
        })
    }

    /// Returns the first byte behind the region.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.size_bytes
    }

    /// Returns the bytes that the bitmap takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bits.len()
    }

    fn is_encrypted(&self, chunk: u32) -> bool {
        self.bits.get(chunk as usize / 8).is_some_and(|byte| byte >> (chunk % 8) & 1 == 1)
    }

    /// Tells whether the byte at `offset`, which must lie in the region, is encrypted, and where that changes.
    #[must_use]
    pub fn run_at(&self, offset: u64) -> (bool, u64) {
        let chunk_size = u64::from(self.chunk_size_bytes.max(1));
        let first = (offset.saturating_sub(self.offset) / chunk_size).min(self.chunks.into()) as u32;
        let encrypted = self.is_encrypted(first);
        let next = (first + 1..self.chunks).find(|&chunk| self.is_encrypted(chunk) != encrypted);
        let end = next.map_or(self.end(), |chunk| self.offset + u64::from(chunk) * chunk_size);
        (encrypted, end.min(self.end()))
    }
}

struct Record {
    sequence: u64,
    bits: Vec<u8>,
}

impl Record {
    fn parse(bytes: &[u8], room: usize, chunks: u32) -> Result<Self, Corruption> {
        const WHAT: &str = "encrypt-on-write record";
        const HEADER: usize = size_of::<RawEowRecord>();
        let raw: RawEowRecord = read(WHAT, bytes)?;
        if raw.signature != EOW_RECORD_SIGNATURE {
            return Err(Corruption::Signature { what: WHAT });
        }
        let need = HEADER + chunks.div_ceil(8) as usize;
        let size = in_range("the record size", raw.size.get().into(), need as u64, room as u64)?;
        let record = slice(WHAT, bytes, 0..size as usize)?;
        check_crc(WHAT, record, offset_of!(RawEowRecord, crc32), raw.crc32.get())?;
        in_range("the bits of a record", raw.bits.get().into(), chunks.into(), u64::from(u32::MAX))?;
        Ok(Self { sequence: raw.sequence.get(), bits: record[HEADER..need].to_vec() })
    }
}
