//! The two header copies and the choice of the current one.

use core::fmt;
use zerocopy::FromBytes;

use crate::checksum;
use crate::container::Findings;
use crate::error::Corruption;
use crate::layout::{
    FORMAT_VERSION, HEADER_AREA_BYTES, HEADER_BYTES, HEADER_CHECKSUM_OFFSET, HEADER_OFFSETS,
    HEADER_SIGNATURE, LOG_HEADER_BYTES, MAX_DATA_ALIGNMENT, MAX_LOG_HEADER_BYTES, MIN_DATA_ALIGNMENT,
    RawHeader,
};
use crate::read_at::ReadAt;

/// Version of the container format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion(pub u32);

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 8, self.0 & 0xff)
    }
}

/// The current header of a container (FORMAT.md section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerHeader {
    /// Which copy is current, 0 or 1.
    pub copy: usize,
    /// Sequence of the current copy.
    pub sequence: u16,
    /// Version of the format.
    pub format_version: FormatVersion,
    /// Zero in every known file.
    pub data_version: u32,
    /// Zero in every known file.
    pub flags: u32,
    /// Alignment of objects, in bytes.
    pub data_alignment: u32,
    /// File offset of the replay log.
    pub log_offset: u64,
    /// Size of the whole log, in bytes.
    pub log_bytes: u64,
    /// Size of the log header area, in bytes.
    pub log_header_bytes: u32,
}

/// Tells whether sequence `a` is later than `b`.
///
/// The wrap of the 16-bit counter has never been seen in a file (unverified).
fn is_later(a: u16, b: u16) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 0x8000
}

/// Reads both copies and answers the current one, unless none is or its contents are impossible.
pub(crate) fn read<R: ReadAt>(
    port: &R,
    findings: &mut Findings,
) -> Result<Option<ContainerHeader>, R::Error> {
    let mut copies = [None, None];
    for (copy, &offset) in HEADER_OFFSETS.iter().enumerate() {
        let end = offset + HEADER_BYTES as u64;
        if end > port.len() {
            findings.corrupt(Corruption::Truncated {
                what: "a header copy",
                offset,
                need: HEADER_BYTES as u64,
                file_bytes: port.len(),
            });
            continue;
        }
        let mut bytes = [0; HEADER_BYTES];
        port.read_exact_at(offset, &mut bytes)?;
        copies[copy] = parse_copy(copy, &bytes, findings);
    }
    let current = match copies {
        [None, None] => {
            findings.corrupt(Corruption::NoValidHeader);
            return Ok(None);
        }
        [Some(raw), None] => (0, raw),
        [None, Some(raw)] => (1, raw),
        [Some(first), Some(second)] => {
            let (a, b) = (first.sequence.get(), second.sequence.get());
            if a == b {
                findings.corrupt(Corruption::HeaderSequencesEqual { sequence: a });
                return Ok(None);
            }
            if a.wrapping_sub(b) != 1 && b.wrapping_sub(a) != 1 {
                findings.corrupt(Corruption::HeaderSequencesApart { first: a, second: b });
            }
            if is_later(a, b) { (0, first) } else { (1, second) }
        }
    };
    Ok(check(current.0, &current.1, findings))
}

fn parse_copy(copy: usize, bytes: &[u8; HEADER_BYTES], findings: &mut Findings) -> Option<RawHeader> {
    let raw = RawHeader::read_from_bytes(bytes).ok()?;
    if raw.signature.get() != HEADER_SIGNATURE {
        findings.corrupt(Corruption::HeaderSignature { copy, found: raw.signature.get() });
        return None;
    }
    if raw.checksum.get() != checksum::structure(bytes, HEADER_CHECKSUM_OFFSET) {
        findings.corrupt(Corruption::HeaderChecksum { copy });
        return None;
    }
    Some(raw)
}

fn check(copy: usize, raw: &RawHeader, findings: &mut Findings) -> Option<ContainerHeader> {
    let format_version = raw.format_version.get();
    if format_version != FORMAT_VERSION {
        findings.corrupt(Corruption::UnsupportedVersion { format_version });
        return None;
    }
    let data_alignment = raw.data_alignment.get();
    if !data_alignment.is_power_of_two()
        || !(MIN_DATA_ALIGNMENT..=MAX_DATA_ALIGNMENT).contains(&data_alignment)
    {
        findings.corrupt(Corruption::DataAlignment { found: data_alignment });
        return None;
    }
    let (offset, size) = (raw.replay_log_offset.get(), raw.replay_log_size.get());
    let header_size = raw.replay_log_header_size.get();
    let possible = offset >= HEADER_AREA_BYTES * 2
        && offset.checked_add(size).is_some()
        && size >= u64::from(header_size)
        && header_size as usize >= LOG_HEADER_BYTES
        && header_size <= MAX_LOG_HEADER_BYTES;
    if !possible {
        findings.corrupt(Corruption::LogGeometry { offset, size, header_size });
        return None;
    }
    Some(ContainerHeader {
        copy,
        sequence: raw.sequence.get(),
        format_version: FormatVersion(format_version),
        data_version: raw.data_version.get(),
        flags: raw.flags.get(),
        data_alignment,
        log_offset: offset,
        log_bytes: size,
        log_header_bytes: header_size,
    })
}

#[cfg(test)]
mod tests {
    use super::is_later;

    #[test]
    fn later_sequence_survives_the_wrap() {
        assert!(is_later(1, 0));
        assert!(!is_later(0, 1));
        assert!(!is_later(7, 7));
        assert!(is_later(0, u16::MAX));
        assert!(!is_later(u16::MAX, 0));
    }
}
