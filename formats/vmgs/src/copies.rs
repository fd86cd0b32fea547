//! The two header copies of either format, and the choice of the current one.

use alloc::vec::Vec;

use crate::checksum;
use crate::error::{Corruption, Remark, Unsupported};
use crate::guest_state::FormatVersion;
use crate::layout::{
    CHECKSUM_OFFSET, HEADER_SIZE_OFFSET, MAX_FOREIGN_HEADER_BYTES, SIGNATURE, VERSION_OFFSET,
};

/// What was found wrong or odd, in the order in which it was met.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) corruptions: Vec<Corruption>,
    pub(crate) remarks: Vec<Remark>,
}

impl Findings {
    pub(crate) fn corrupt(&mut self, corruption: Corruption) {
        self.corruptions.push(corruption);
    }
}

/// One header place.
#[derive(Debug)]
pub(crate) enum HeaderCopy<H> {
    /// Only zeros.
    Blank,
    /// A header that keeps all rules.
    Valid { sequence: u32, header: H },
    /// A header with a right checksum that is not understood.
    Foreign(Unsupported),
    /// Anything else.
    Damaged(Corruption),
}

/// Checks what headers of both formats have in common; `bytes` begins with the header and may be longer.
///
/// # Errors
/// With the copy as it is to be taken, when it is not a header of this version and size with a right checksum.
pub(crate) fn check_common<H>(
    copy: usize,
    bytes: &[u8],
    version: u32,
    header_bytes: usize,
) -> Result<(), HeaderCopy<H>> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let Some(header) = bytes.get(..header_bytes) else {
        return Err(HeaderCopy::Damaged(Corruption::HeaderSignature { copy }));
    };
    if header.iter().all(|byte| *byte == 0) {
        return Err(HeaderCopy::Blank);
    }
    if !header.starts_with(&SIGNATURE) {
        return Err(HeaderCopy::Damaged(Corruption::HeaderSignature { copy }));
    }
    let (found_version, found_size) = (number(VERSION_OFFSET), number(HEADER_SIZE_OFFSET));
    let covered = if found_version == version { header_bytes } else { found_size as usize };
    let is_intact = (CHECKSUM_OFFSET + 4..=MAX_FOREIGN_HEADER_BYTES).contains(&covered)
        && bytes
            .get(..covered)
            .is_some_and(|covered| checksum::header(covered, CHECKSUM_OFFSET) == number(CHECKSUM_OFFSET));
    if !is_intact {
        return Err(HeaderCopy::Damaged(Corruption::HeaderChecksum { copy }));
    }
    if found_version != version {
        return Err(HeaderCopy::Foreign(Unsupported::Version(FormatVersion(found_version))));
    }
    if found_size as usize != header_bytes {
        return Err(HeaderCopy::Damaged(Corruption::HeaderSize { copy, found: found_size }));
    }
    Ok(())
}

/// What the two places say together.
#[derive(Debug)]
pub(crate) enum Choice<H> {
    /// This copy is current.
    Current { copy: usize, sequence: u32, header: H },
    /// Both are blank.
    Blank,
    /// Neither is understood.
    Unsupported(Unsupported),
    /// None is current; why is among the findings.
    None,
}

/// Chooses the current copy.
pub(crate) fn choose<H>(copies: [HeaderCopy<H>; 2], findings: &mut Findings) -> Choice<H> {
    use HeaderCopy::{Blank, Damaged, Foreign, Valid};
    match copies {
        // It may be the later one.
        [Foreign(unsupported @ Unsupported::Algorithm(_)), _]
        | [_, Foreign(unsupported @ Unsupported::Algorithm(_))] => Choice::Unsupported(unsupported),
        [
            Valid { sequence: first, header: first_header },
            Valid { sequence: second, header: second_header },
        ] => {
            if first == second.wrapping_add(1) {
                Choice::Current { copy: 0, sequence: first, header: first_header }
            } else if second == first.wrapping_add(1) {
                Choice::Current { copy: 1, sequence: second, header: second_header }
            } else {
                findings.corrupt(Corruption::HeaderSequences { first, second });
                Choice::None
            }
        }
        [Valid { sequence, header }, other] => {
            note_neighbour(1, sequence, other, findings);
            Choice::Current { copy: 0, sequence, header }
        }
        [other, Valid { sequence, header }] => {
            note_neighbour(0, sequence, other, findings);
            Choice::Current { copy: 1, sequence, header }
        }
        [Blank, Blank] => Choice::Blank,
        [Foreign(unsupported), _] | [_, Foreign(unsupported)] => Choice::Unsupported(unsupported),
        [first, second] => {
            for damage in [first, second] {
                if let Damaged(corruption) = damage {
                    findings.corrupt(corruption);
                }
            }
            findings.corrupt(Corruption::NoValidHeader);
            Choice::None
        }
    }
}

/// Says what is wrong with the neighbour of a valid copy.
fn note_neighbour<H>(copy: usize, other_sequence: u32, neighbour: HeaderCopy<H>, findings: &mut Findings) {
    /// Sequence of the first header that formatting writes, beside a blank one.
    const FIRST_SEQUENCE: u32 = 1;
    match neighbour {
        HeaderCopy::Blank if other_sequence == FIRST_SEQUENCE => {}
        HeaderCopy::Blank => findings.corrupt(Corruption::HeaderBlank { copy, other_sequence }),
        HeaderCopy::Foreign(Unsupported::Version(version)) => {
            findings.corrupt(Corruption::HeaderVersion { copy, version });
        }
        HeaderCopy::Damaged(corruption) => findings.corrupt(corruption),
        // Has been dealt with.
        HeaderCopy::Foreign(Unsupported::Algorithm(_)) | HeaderCopy::Valid { .. } => {}
    }
}
