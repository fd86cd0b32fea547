//! Finding test data, changing containers, and trying every flip.

use lifeboat_vmcx::layout::{
    RawHeader, RawKeyEntry, RawKeyTableHeader, RawLogEntry, RawLogHeader, RawObject,
};
use lifeboat_vmcx::{Container, ReadAt};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, IntoBytes};

/// Reads a file of the test data, or says that there is none.
pub(crate) fn test_data(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let bytes = std::fs::read(folder.join("hyperv").join(name)).ok();
    if bytes.is_none() {
        println!("skipped: test data not found");
    }
    bytes
}

/// CRC-32 of a structure with its checksum field zeroed, written without the crate under test.
pub(crate) fn crc_with_zero(bytes: &[u8], field: usize) -> u32 {
    let mut copy = bytes.to_vec();
    copy[field..field + 4].fill(0);
    crc32fast::hash(&copy)
}

/// Changes a structure at `offset` and puts its checksum right.
pub(crate) fn patch<T>(file: &mut [u8], offset: usize, checksum_field: usize, change: impl FnOnce(&mut T))
where
    T: FromBytes + IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned,
{
    let bytes = &mut file[offset..offset + size_of::<T>()];
    change(T::mut_from_bytes(bytes).expect("the right size"));
    let sum = crc_with_zero(bytes, checksum_field);
    bytes[checksum_field..checksum_field + 4].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn patch_header(file: &mut [u8], copy: usize, change: impl FnOnce(&mut RawHeader)) {
    patch(file, copy * 0x1000, 4, change);
}

pub(crate) fn patch_object(file: &mut [u8], table: usize, index: usize, change: impl FnOnce(&mut RawObject)) {
    patch(file, table + 8 + 18 * index, 1, change);
}

pub(crate) fn patch_log_header(file: &mut [u8], log: usize, change: impl FnOnce(&mut RawLogHeader)) {
    patch(file, log, 4, change);
}

pub(crate) fn patch_log_entry(
    file: &mut [u8],
    log: usize,
    index: usize,
    change: impl FnOnce(&mut RawLogEntry),
) {
    patch(file, log + 34 + 28 * index, 20, change);
}

pub(crate) fn patch_key_table(file: &mut [u8], table: usize, change: impl FnOnce(&mut RawKeyTableHeader)) {
    patch(file, table, 6, change);
}

/// What happened to damaged copies.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// The tries that were refused, in no order.
    pub(crate) refused: Vec<usize>,
    /// How many gave the same tree.
    pub(crate) harmless: usize,
}

/// Opens `tries` damaged copies on all processors; each must be refused or give the same tree.
///
/// `damage` changes the copy for a try and answers how many bytes are left of it.
pub(crate) fn every_damage(
    name: &str,
    original: &[u8],
    tries: usize,
    damage: impl Fn(usize, &mut [u8]) -> usize + Sync,
) -> Outcomes {
    let tree = Container::open(original).expect("an undamaged file").tree().clone();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let run = |thread: usize| {
        let mut outcomes = Outcomes::default();
        let mut copy = original.to_vec();
        for which in (thread..tries).step_by(threads) {
            let len = damage(which, &mut copy);
            match Container::open(&copy[..len]) {
                Err(_) => outcomes.refused.push(which),
                Ok(container) => {
                    let same = tree == *container.tree();
                    assert!(same, "{name}: damage {which} gives another tree without an error");
                    outcomes.harmless += 1;
                }
            }
            copy.copy_from_slice(original);
        }
        outcomes
    };
    let run = &run;
    let parts: Vec<Outcomes> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let mut sum = Outcomes::default();
    for part in parts {
        sum.refused.extend(part.refused);
        sum.harmless += part.harmless;
    }
    sum
}

/// Answers where the entry of that name begins; the name must occur once.
pub(crate) fn entry_at(file: &[u8], name: &str) -> usize {
    let mut wanted = name.as_bytes().to_vec();
    wanted.push(0);
    let mut places = file.windows(wanted.len()).enumerate().filter(|(_, bytes)| *bytes == wanted);
    let (place, _) = places.next().expect("the name is there");
    assert!(places.next().is_none(), "{name} is not unique");
    place - size_of::<RawKeyEntry>()
}

/// Changes the header, name and data of an entry without slack and puts its checksum right.
pub(crate) fn patch_entry(file: &mut [u8], name: &str, change: impl FnOnce(&mut RawKeyEntry, &mut [u8])) {
    let at = entry_at(file, name);
    let header = size_of::<RawKeyEntry>();
    let size = RawKeyEntry::read_from_bytes(&file[at..at + header]).expect("21 bytes").size.get() as usize;
    let (head, rest) = file[at..at + size].split_at_mut(header);
    change(RawKeyEntry::mut_from_bytes(head).expect("21 bytes"), rest);
    let sum = crc_with_zero(&file[at..at + size], 12);
    file[at + 12..at + 16].copy_from_slice(&sum.to_le_bytes());
}

/// A file of which only some ranges are not zero, and that counts what is read of it.
#[derive(Default)]
pub(crate) struct SparseFile {
    pub(crate) len: u64,
    pub(crate) ranges: BTreeMap<u64, Vec<u8>>,
    pub(crate) read_bytes: Cell<u64>,
    /// How many reads succeed before one fails.
    pub(crate) reads_left: Cell<Option<usize>>,
}

impl SparseFile {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        SparseFile {
            len: bytes.len() as u64,
            ranges: BTreeMap::from([(0, bytes.to_vec())]),
            ..Self::default()
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct ReadFailed;

impl ReadAt for SparseFile {
    type Error = ReadFailed;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        if let Some(left) = self.reads_left.get() {
            self.reads_left.set(Some(left.checked_sub(1).ok_or(ReadFailed)?));
        }
        let end = offset + buf.len() as u64;
        assert!(end <= self.len, "a read past the end");
        self.read_bytes.set(self.read_bytes.get() + buf.len() as u64);
        buf.fill(0);
        for (&start, bytes) in &self.ranges {
            let (from, to) = (offset.max(start), end.min(start + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - start) as usize..(to - start) as usize];
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}
