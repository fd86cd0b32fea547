//! Object tables and their chain.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum;
use crate::container::Findings;
use crate::error::Corruption;
use crate::layout::{
    FIRST_OBJECT_TABLE_OFFSET, MAX_OBJECT_TABLE_BYTES, MAX_OBJECT_TABLES, OBJECT_BYTES,
    OBJECT_CHECKSUM_OFFSET, OBJECT_TABLE_HEADER_BYTES, OBJECT_TABLE_PAGE_BYTES, OBJECT_TABLE_SIGNATURE,
    RawObject, RawObjectTableHeader,
};
use crate::read_at::ReadAt;

/// Kind of an object; unknown ones survive (FORMAT.md section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKind(pub u8);

impl ObjectKind {
    /// An unused entry.
    pub const EMPTY: Self = Self(0);
    /// The next object table.
    pub const OBJECT_TABLE: Self = Self(1);
    /// A key table.
    pub const KEY_TABLE: Self = Self(2);
    /// A value outside the key tables.
    pub const FILE_OBJECT: Self = Self(3);
    /// Free space.
    pub const FREE_SPACE: Self = Self(4);
}

/// An object that is not empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    pub(crate) offset: u64,
    pub(crate) size: u32,
}

/// Everything the object tables list; the tables themselves included.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Offset and size of each object table.
    pub(crate) tables: Vec<(u64, u64)>,
    /// All objects except tables and empty entries, in the order of the tables.
    pub(crate) listed: Vec<Object>,
}

/// Builds the bytes of an object entry with its checksum.
pub(crate) fn encode(kind: ObjectKind, offset: u64, size: u32, flags: u8) -> [u8; OBJECT_BYTES] {
    let raw =
        RawObject { kind: kind.0, checksum: 0.into(), file_offset: offset.into(), size: size.into(), flags };
    let mut bytes = [0; OBJECT_BYTES];
    bytes.copy_from_slice(raw.as_bytes());
    let sum = checksum::structure(&bytes, OBJECT_CHECKSUM_OFFSET);
    bytes[OBJECT_CHECKSUM_OFFSET..OBJECT_CHECKSUM_OFFSET + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Answers how many entries a table of that size has.
pub(crate) fn entries_in(table_bytes: u64) -> u64 {
    (table_bytes - OBJECT_TABLE_HEADER_BYTES as u64) / OBJECT_BYTES as u64
}

/// Answers the size of a table with that many entries, if they fill whole pages as they must.
fn table_bytes(count: u32) -> Option<u64> {
    let used = OBJECT_TABLE_HEADER_BYTES as u64 + u64::from(count) * OBJECT_BYTES as u64;
    let size = used.next_multiple_of(OBJECT_TABLE_PAGE_BYTES);
    (size <= MAX_OBJECT_TABLE_BYTES && entries_in(size) == u64::from(count)).then_some(size)
}

/// Walks the chain of object tables.
pub(crate) fn read<R: ReadAt>(port: &R, findings: &mut Findings) -> Result<Objects, R::Error> {
    let mut objects = Objects::default();
    let mut seen = BTreeSet::new();
    let mut next = Some((FIRST_OBJECT_TABLE_OFFSET, None));
    while let Some((offset, room)) = next {
        if !seen.insert(offset) {
            findings.corrupt(Corruption::ObjectTableLoop { offset });
            break;
        }
        if objects.tables.len() == MAX_OBJECT_TABLES {
            findings.corrupt(Corruption::TooManyObjectTables { limit: MAX_OBJECT_TABLES });
            break;
        }
        next = read_table(port, offset, room, &mut objects, findings)?;
    }
    Ok(objects)
}

/// Reads one table and answers where the next is and how much room it has.
fn read_table<R: ReadAt>(
    port: &R,
    offset: u64,
    room: Option<u32>,
    objects: &mut Objects,
    findings: &mut Findings,
) -> Result<Option<(u64, Option<u32>)>, R::Error> {
    let file_bytes = port.len();
    let fits = |need: u64| offset.checked_add(need).is_some_and(|end| end <= file_bytes);
    let truncated = |need| Corruption::Truncated { what: "an object table", offset, need, file_bytes };
    if !fits(OBJECT_TABLE_HEADER_BYTES as u64) {
        findings.corrupt(truncated(OBJECT_TABLE_HEADER_BYTES as u64));
        return Ok(None);
    }
    let mut head = [0; OBJECT_TABLE_HEADER_BYTES];
    port.read_exact_at(offset, &mut head)?;
    let Ok(raw) = RawObjectTableHeader::read_from_bytes(&head) else { return Ok(None) };
    if raw.signature.get() != OBJECT_TABLE_SIGNATURE {
        findings.corrupt(Corruption::ObjectTableSignature { offset, found: raw.signature.get() });
        return Ok(None);
    }
    // No checksum covers the count, and a smaller one would silently lose keys.
    let count = raw.count.get();
    let size = table_bytes(count).filter(|&size| room.is_none_or(|room| size <= u64::from(room)));
    let Some(size) = size else {
        findings.corrupt(Corruption::ObjectTableCount { offset, count });
        return Ok(None);
    };
    if !fits(size) {
        findings.corrupt(truncated(size));
        return Ok(None);
    }
    objects.tables.push((offset, size));
    let mut bytes = vec![0; count as usize * OBJECT_BYTES];
    port.read_exact_at(offset + OBJECT_TABLE_HEADER_BYTES as u64, &mut bytes)?;

    let empty = encode(ObjectKind::EMPTY, 0, 0, 0);
    let mut next = None;
    for (index, bytes) in (0u32..).zip(bytes.chunks_exact(OBJECT_BYTES)) {
        if bytes == empty {
            continue;
        }
        let Ok(raw) = RawObject::read_from_bytes(bytes) else { break };
        if raw.checksum.get() != checksum::structure(bytes, OBJECT_CHECKSUM_OFFSET) {
            findings.corrupt(Corruption::ObjectChecksum { table: offset, index });
            continue;
        }
        let kind = ObjectKind(raw.kind);
        let is_last = index + 1 == count;
        match kind {
            ObjectKind::EMPTY => {}
            ObjectKind::OBJECT_TABLE if is_last => next = Some((raw.file_offset.get(), Some(raw.size.get()))),
            _ if is_last || kind == ObjectKind::OBJECT_TABLE => {
                findings.corrupt(Corruption::ObjectChain { table: offset, index, kind: kind.0 });
            }
            _ => objects.listed.push(Object { kind, offset: raw.file_offset.get(), size: raw.size.get() }),
        }
    }
    Ok(next)
}
