//! The two headers: which state of the file is current, and where its log is.
//!
//! They are the only structures that the log never changes, so they are read first. MS-VHDX 2.2.2.

use core::ops::Range;

use uguid::Guid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum;
use crate::error::{Corruption, RangeRule, VhdxError};
use crate::layout::{
    HEADER_AREA_BYTES, HEADER_BYTES, HEADER_SIGNATURE, LOG_VERSION, MAX_LOG_BYTES, MIB, RawHeader, VERSION,
};

/// Header with the right signature and checksum; its rules are checked by [`Header::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Counts the updates of the header; the higher of two is current.
    pub sequence_number: u64,
    /// Changes once per writable open of the file.
    pub file_write_guid: Guid,
    /// Changes once per open in which the guest's data changes; children name it to find their parent.
    pub data_write_guid: Guid,
    /// Id of the log entries to replay, when there are any.
    pub log_guid: Option<Guid>,
    /// Version of the log entries.
    pub log_version: u16,
    /// Version of the format.
    pub version: u16,
    /// Offset of the log in the file, in bytes.
    pub log_offset: u64,
    /// Length of the log, in bytes.
    pub log_bytes: u32,
}

impl Header {
    /// Parses a header, or answers nothing when signature or checksum are wrong.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes).ok()?;
        if raw.signature != HEADER_SIGNATURE || !checksum::is_valid(bytes) {
            return None;
        }
        let log_guid = Guid::from_bytes(raw.log_guid);
        Some(Self {
            sequence_number: raw.sequence_number.get(),
            file_write_guid: Guid::from_bytes(raw.file_write_guid),
            data_write_guid: Guid::from_bytes(raw.data_write_guid),
            log_guid: (log_guid != Guid::ZERO).then_some(log_guid),
            log_version: raw.log_version.get(),
            version: raw.version.get(),
            log_offset: raw.log_offset.get(),
            log_bytes: raw.log_length.get(),
        })
    }

    /// Encodes the header with its checksum.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let raw = RawHeader {
            signature: HEADER_SIGNATURE,
            checksum: U32::ZERO,
            sequence_number: U64::new(self.sequence_number),
            file_write_guid: self.file_write_guid.to_bytes(),
            data_write_guid: self.data_write_guid.to_bytes(),
            log_guid: self.log_guid.unwrap_or(Guid::ZERO).to_bytes(),
            log_version: U16::new(self.log_version),
            version: U16::new(self.version),
            log_length: U32::new(self.log_bytes),
            log_offset: U64::new(self.log_offset),
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
        checksum::seal(&mut bytes);
        bytes
    }

    /// Selects the current one of two headers.
    ///
    /// MS-VHDX leaves open what two valid headers with one sequence number mean. They are accepted when they are
    /// identical; anything else would be a guess.
    ///
    /// # Errors
    /// [`Corruption::NoValidHeader`], [`Corruption::AmbiguousHeaders`].
    pub fn select(first: &[u8; HEADER_BYTES], second: &[u8; HEADER_BYTES]) -> Result<Self, Corruption> {
        match (Self::parse(first), Self::parse(second)) {
            (None, None) => Err(Corruption::NoValidHeader),
            (Some(header), None) | (None, Some(header)) => Ok(header),
            (Some(one), Some(two)) if one.sequence_number > two.sequence_number => Ok(one),
            (Some(one), Some(two)) if one.sequence_number < two.sequence_number => Ok(two),
            (Some(one), Some(_)) if first == second => Ok(one),
            (Some(one), Some(_)) => {
                Err(Corruption::AmbiguousHeaders { sequence_number: one.sequence_number })
            }
        }
    }

    /// Returns the range of the log in the file; empty when there is none. The header must have been checked.
    #[must_use]
    pub(crate) fn log_range(&self) -> Range<u64> {
        match self.log_bytes {
            0 => 0..0,
            length => self.log_offset..self.log_offset.saturating_add(length.into()),
        }
    }

    /// Checks version and place of the log in a file of `file_bytes`.
    ///
    /// # Errors
    /// Names the unsupported version, or the rule that the log breaks.
    pub fn check(&self, file_bytes: u64) -> Result<(), VhdxError> {
        if self.version != VERSION {
            return Err(VhdxError::UnsupportedVersion { found: self.version });
        }
        if self.log_guid.is_some() && self.log_version != LOG_VERSION {
            return Err(VhdxError::UnsupportedLogVersion { found: self.log_version });
        }
        let broken = |rule| Corruption::LogRange { offset: self.log_offset, length: self.log_bytes, rule };
        if self.log_bytes == 0 {
            return if self.log_guid.is_some() { Err(broken(RangeRule::NotEmpty).into()) } else { Ok(()) };
        }
        if !self.log_offset.is_multiple_of(MIB) || !u64::from(self.log_bytes).is_multiple_of(MIB) {
            return Err(broken(RangeRule::Aligned).into());
        }
        if self.log_offset < HEADER_AREA_BYTES {
            return Err(broken(RangeRule::AfterHeaders).into());
        }
        if self.log_offset.checked_add(self.log_bytes.into()).is_none_or(|end| end > file_bytes) {
            return Err(broken(RangeRule::Inside).into());
        }
        if self.log_bytes > MAX_LOG_BYTES {
            return Err(VhdxError::TooLarge {
                what: "the log",
                value: self.log_bytes.into(),
                max: MAX_LOG_BYTES.into(),
            });
        }
        Ok(())
    }
}
