//! One file per broken rule, and what reading makes of it; flips and truncations of a file of our own.

use crate::support::{
    ReadFailed, SparseFile, every_damage, patch_entry, patch_header, patch_key_table, patch_log_entry,
    patch_log_header, patch_object,
};
use lifeboat_vmcx::layout::{FIRST_OBJECT_TABLE_OFFSET, MAX_KEY_BYTES, MAX_OBJECT_TABLES};
use lifeboat_vmcx::{
    Container, Corruption, KeyKind, ObjectKind, OpenError, ReadAt, Remark, Report, TreeBuilder,
    VmConfiguration, VmcxWriter, Wholeness, WriteOptions,
};
use proptest::prelude::*;

const OBJECT_TABLE: usize = FIRST_OBJECT_TABLE_OFFSET as usize;
const KEY_TABLE: usize = 0x3000;

/// Names that occur once, a value of each kind, and two file objects.
fn sound() -> Vec<u8> {
    let tree = TreeBuilder::new()
        .set("/outer/inner/number", 7)
        .set("/outer/inner/truth", true)
        .set("/outer/text", "word")
        .set("/outer/bytes", vec![1, 2, 3])
        .set("/second/large", vec![5; 3000])
        .set("/second/other", vec![6; 5000]);
    VmcxWriter::new().encode(&tree).expect("no mistake")
}

fn report(file: &[u8]) -> Report {
    Container::inspect(file).expect("a slice").report
}

/// Damages a sound file and answers all corruptions.
fn corruptions(damage: impl FnOnce(&mut Vec<u8>)) -> Vec<Corruption> {
    let mut file = sound();
    damage(&mut file);
    let report = report(&file);
    assert_eq!(report.wholeness, Wholeness::Torn);
    let opened = Container::open(&file[..]);
    assert_eq!(opened.is_ok(), report.corruptions.iter().all(Corruption::is_tolerable));
    report.corruptions
}

#[test]
fn one_header_copy_is_enough() {
    let expected = sound();
    let tree = Container::open(&expected[..]).expect("a whole file").tree().clone();
    for copy in 0..2 {
        for (at, corruption) in [
            (0, Corruption::HeaderSignature { copy, found: 0x0128_2015 }),
            (40, Corruption::HeaderChecksum { copy }),
        ] {
            let mut file = expected.clone();
            file[copy * 0x1000 + at] ^= 1;
            assert_eq!(report(&file).corruptions, std::slice::from_ref(&corruption));
            let container = Container::open(&file[..]).expect("one copy is valid");
            assert!(*container.tree() == tree);
            assert_eq!(container.corruptions(), [corruption]);
            assert_eq!(container.header().copy, 1 - copy);
        }
    }
}

#[test]
fn headers() {
    let found = corruptions(|file| {
        file[4] ^= 1;
        file[0x1004] ^= 1;
    });
    assert_eq!(found.last(), Some(&Corruption::NoValidHeader));
    let equal = corruptions(|file| patch_header(file, 1, |header| header.sequence = 1.into()));
    assert_eq!(equal, [Corruption::HeaderSequencesEqual { sequence: 1 }]);
    let apart = corruptions(|file| patch_header(file, 1, |header| header.sequence = 7.into()));
    assert_eq!(apart, [Corruption::HeaderSequencesApart { first: 1, second: 7 }]);
    let alignment = corruptions(|file| patch_header(file, 0, |header| header.data_alignment = 0x1800.into()));
    assert_eq!(alignment, [Corruption::DataAlignment { found: 0x1800 }]);
    for (offset, size, header_size) in [
        (0x1fff, 0x1000, 0x1000),
        (u64::MAX, 0x1000, 0x1000),
        (0x8000, 0xfff, 0x1000),
        (0x8000, 33, 33),
        (0x8000, 1 << 20, 1 << 20),
    ] {
        let geometry = corruptions(|file| {
            patch_header(file, 0, |header| {
                header.replay_log_offset = offset.into();
                header.replay_log_size = size.into();
                header.replay_log_header_size = header_size.into();
            });
        });
        assert_eq!(geometry, [Corruption::LogGeometry { offset, size, header_size }]);
    }
}

#[test]
fn another_version_is_unsupported() {
    let mut file = sound();
    patch_header(&mut file, 0, |header| header.format_version = 0x0301.into());
    assert_eq!(report(&file).wholeness, Wholeness::Unsupported { format_version: 0x0301 });
    let error = Container::open(&file[..]).expect_err("another version");
    assert!(error.to_string().contains("0x0301 is not supported"), "{error}");
}

#[test]
fn the_later_header_wins_across_the_wrap() {
    for header_sequence in [0, 1, 0x8000, u16::MAX] {
        let options = WriteOptions { header_sequence, ..WriteOptions::default() };
        let bytes = VmcxWriter::with_options(options).encode(&TreeBuilder::new()).expect("no mistake");
        let container = Container::open(&bytes[..]).expect("a whole file");
        assert_eq!((container.header().copy, container.header().sequence), (0, header_sequence));
    }
}

#[test]
fn object_tables() {
    let signature = corruptions(|file| file[OBJECT_TABLE] ^= 1);
    assert_eq!(signature[0], Corruption::ObjectTableSignature { offset: 0x2000, found: 0x0111_0000 });
    for count in [0, 1, 3, 226, 228, 454, u32::MAX] {
        let found = corruptions(|file| {
            file[OBJECT_TABLE + 4..OBJECT_TABLE + 8].copy_from_slice(&count.to_le_bytes())
        });
        assert!(
            matches!(found[0], Corruption::ObjectTableCount { .. } | Corruption::ObjectChecksum { .. }),
            "{count}: {:?}",
            found[0]
        );
    }
    let checksum = corruptions(|file| file[OBJECT_TABLE + 8 + 18 + 5] ^= 1);
    assert_eq!(checksum[0], Corruption::ObjectChecksum { table: 0x2000, index: 1 });
    let chain = |index, kind| Corruption::ObjectChain { table: 0x2000, index, kind };
    let early = corruptions(|file| patch_object(file, OBJECT_TABLE, 5, |object| object.kind = 1));
    assert_eq!(early, [chain(5, 1)]);
    let late = corruptions(|file| patch_object(file, OBJECT_TABLE, 226, |object| object.kind = 4));
    assert_eq!(late, [chain(226, 4)]);
    let link = |offset: u64| {
        corruptions(|file| {
            patch_object(file, OBJECT_TABLE, 226, |object| {
                object.kind = 1;
                object.file_offset = offset.into();
                object.size = 0x1000.into();
            });
        })
    };
    assert_eq!(link(0x2000)[0], Corruption::ObjectTableLoop { offset: 0x2000 });
    assert!(matches!(link(0x10_0000)[0], Corruption::Truncated { what: "an object table", .. }));
    assert!(matches!(link(u64::MAX)[0], Corruption::Truncated { what: "an object table", .. }));
    assert!(matches!(link(0x3000)[0], Corruption::ObjectTableSignature { offset: 0x3000, .. }));
}

#[test]
fn regions() {
    let overlap =
        corruptions(|file| patch_object(file, OBJECT_TABLE, 1, |object| object.size = 0x3000.into()));
    let (first, second) = ("a file object", "a file object");
    assert_eq!(overlap, [Corruption::Overlap { first, first_offset: 0x4000, second, second_offset: 0x5000 }]);
    let mut file = sound();
    patch_object(&mut file, OBJECT_TABLE, 9, |object| {
        object.kind = ObjectKind::FREE_SPACE.0;
        object.file_offset = 0x3800.into();
        object.size = 16.into();
    });
    patch_object(&mut file, OBJECT_TABLE, 10, |object| object.kind = 6);
    let report = report(&file);
    assert_eq!(report.wholeness, Wholeness::Whole);
    let unknown = Remark::UnknownObject { kind: 6, offset: 0, size: 0 };
    assert_eq!(report.remarks, [unknown, Remark::FreeSpaceOverlap { offset: 0x3800 }]);
}

#[test]
fn key_tables() {
    let offset = KEY_TABLE as u64;
    for size in [0, 31, (1 << 20) + 1, u32::MAX] {
        let found =
            corruptions(|file| patch_object(file, OBJECT_TABLE, 0, |object| object.size = size.into()));
        assert_eq!(found[0], Corruption::KeyTableSize { offset, size });
    }
    let cut =
        corruptions(|file| patch_object(file, OBJECT_TABLE, 0, |object| object.size = 0x10_0000.into()));
    assert!(matches!(cut[0], Corruption::Truncated { what: "a key table", .. }));
    assert_eq!(cut[1], Corruption::NoKeyTable);
    let signature = corruptions(|file| patch_key_table(file, KEY_TABLE, |table| table.signature = 3.into()));
    assert_eq!(signature[0], Corruption::KeyTableSignature { offset, found: 3 });
    let checksum = corruptions(|file| file[KEY_TABLE + 4] ^= 1);
    assert_eq!(checksum[0], Corruption::KeyTableChecksum { offset });
    let index = corruptions(|file| patch_key_table(file, KEY_TABLE, |table| table.table_index = 0.into()));
    assert_eq!(index[0], Corruption::KeyTableIndex { offset });
}

/// Adds a second key table of the same index, which holds the bytes of the first after `change`.
fn with_second_table(sequence: u16, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut file = sound();
    let at = file.len();
    let mut table = file[KEY_TABLE..KEY_TABLE + 0x1000].to_vec();
    change(&mut table);
    file.extend(table);
    patch_key_table(&mut file, at, |table| table.sequence = sequence.into());
    patch_object(&mut file, OBJECT_TABLE, 7, |object| {
        object.kind = ObjectKind::KEY_TABLE.0;
        object.file_offset = (at as u64).into();
        object.size = 0x1000.into();
    });
    file
}

#[test]
fn the_highest_sequence_of_a_key_table_wins() {
    let newer = with_second_table(2, |table| patch_entry(table, "number", |_, rest| rest[7] = 8));
    let container = Container::open(&newer[..]).expect("a whole file");
    assert_eq!(container.tree().get("/outer/inner/number").and_then(|node| node.as_int()), Some(8));
    assert_eq!(report(&newer).remarks, [Remark::SupersededKeyTables { tables: 1 }]);
    // What loses is not looked at.
    let older = with_second_table(0, |table| table[10..].fill(0xff));
    let container = Container::open(&older[..]).expect("a whole file");
    assert_eq!(container.tree().get("/outer/inner/number").and_then(|node| node.as_int()), Some(7));
    let equal = with_second_table(1, |_| ());
    assert_eq!(report(&equal).corruptions, [Corruption::KeyTablesEqual { table: 1, sequence: 1 }]);
}

fn entry_damage(
    name: &str,
    change: impl FnOnce(&mut lifeboat_vmcx::layout::RawKeyEntry, &mut [u8]),
) -> Vec<Corruption> {
    corruptions(|file| patch_entry(file, name, change))
}

#[test]
fn key_entries() {
    let (table, offset) = (1, (crate::support::entry_at(&sound(), "number") - KEY_TABLE) as u32);
    for size in [0, 20, 0x1000, u32::MAX] {
        let found = entry_damage("number", |entry, _| entry.size = size.into());
        assert_eq!(found[0], Corruption::KeyEntrySize { table, offset, size });
    }
    // Too small for the name, for the data, and for the length of a string.
    for (name, size) in [("number", 22), ("number", 35), ("text", 27), ("text", 33)] {
        let found = entry_damage(name, |entry, _| entry.size = size.into());
        assert!(
            matches!(found[0], Corruption::KeyEntrySize { size: found, .. } if found == size),
            "{:?}",
            found[0]
        );
    }
    let checksum = corruptions(|file| file[KEY_TABLE + offset as usize + 21 + 7] ^= 1);
    assert_eq!(checksum, [Corruption::KeyEntryChecksum { table, offset }]);
    let freed = corruptions(|file| file[KEY_TABLE + offset as usize] = KeyKind::FREE.0);
    assert_eq!(freed, [Corruption::KeyEntryChecksum { table, offset }]);
    for damage in [(0, 0xff), (3, 0), (6, b'!')] {
        let found = entry_damage("number", |_, rest| rest[damage.0] = damage.1);
        assert_eq!(found, [Corruption::KeyName { table, offset }]);
    }
    let odd = entry_damage("text", |_, rest| rest[5] -= 1);
    // The odd byte became slack, so that the checksum says it first.
    assert!(matches!(odd[0], Corruption::KeyEntryChecksum { .. }));
    let node = entry_damage("inner", |entry, _| entry.flags |= 1);
    assert!(matches!(node[0], Corruption::KeyData { kind: KeyKind::NODE, .. }));
}

#[test]
fn an_odd_string_is_corrupt() {
    let found = entry_damage("bytes", |entry, _| entry.kind = KeyKind::STRING.0);
    assert!(matches!(found[..], [Corruption::KeyData { kind: KeyKind::STRING, .. }]));
}

#[test]
fn unknown_values_survive() {
    let mut file = sound();
    patch_entry(&mut file, "number", |entry, _| {
        entry.kind = 200;
        entry.flags = 0xf0;
    });
    let report = report(&file);
    assert_eq!(report.wholeness, Wholeness::Whole);
    let kind = KeyKind(200);
    assert_eq!(report.remarks, [Remark::UnknownValue { path: "/outer/inner/number".to_owned(), kind }]);
    let container = Container::open(&file[..]).expect("a whole file");
    let rewritten =
        VmcxWriter::new().encode(&container.to_builder(1 << 20).expect("readable")).expect("a tree");
    let node = container.tree().get("/outer/inner/number").expect("the value");
    assert_eq!((node.value().kind(), node.flags().0), (kind, 0xf0));
    assert!(
        Container::open(&rewritten[..]).expect("a whole file").to_builder(1 << 20).expect("readable")
            == container.to_builder(1 << 20).expect("readable")
    );
}

#[test]
fn parents() {
    let missing = entry_damage("number", |entry, _| entry.parent_offset = 11.into());
    assert!(matches!(missing[0], Corruption::ParentMissing { parent_table: 1, parent_offset: 11, .. }));
    let missing = entry_damage("number", |entry, _| entry.parent_table = 9.into());
    assert!(matches!(missing[0], Corruption::ParentMissing { parent_table: 9, .. }));
    let file = sound();
    let place = |name| (crate::support::entry_at(&file, name) - KEY_TABLE) as u32;
    let value = entry_damage("number", |entry, _| entry.parent_offset = place("text").into());
    assert!(matches!(value[0], Corruption::ParentNotNode { .. }));
    let own = entry_damage("inner", |entry, _| entry.parent_offset = place("inner").into());
    // The node and both values below it have no way to the root.
    assert_eq!(
        own.iter().filter(|corruption| matches!(corruption, Corruption::ParentCycle { .. })).count(),
        3
    );
    let round = corruptions(|file| {
        let inner = place("inner");
        patch_entry(file, "outer", |entry, _| {
            entry.parent_table = 1.into();
            entry.parent_offset = inner.into();
        });
    });
    assert!(round.iter().all(|corruption| matches!(corruption, Corruption::ParentCycle { .. })), "{round:?}");
    assert_eq!(round.len(), 6);
}

#[test]
fn a_tree_that_is_too_deep_is_cut() {
    // The writer refuses 65 levels, so that two trees of 40 are put on each other.
    let path: String = (0..60).map(|level| format!("/level{level}")).collect();
    let other: String = (0..10).map(|level| format!("/other{level}")).collect();
    let mut file = VmcxWriter::new()
        .encode(&TreeBuilder::new().set(&path, lifeboat_vmcx::Value::Node).set(&other, 1))
        .expect("no mistake");
    let (last, top) = (crate::support::entry_at(&file, "level59"), "other0");
    patch_entry(&mut file, top, |entry, _| {
        entry.parent_table = 1.into();
        entry.parent_offset = ((last - KEY_TABLE) as u32).into();
        entry.insertion_sequence = 0.into();
    });
    let report = report(&file);
    assert_eq!(report.corruptions, [Corruption::TooDeep { limit: 64 }]);
    assert!(report.remarks.contains(&Remark::NoInsertionSequence { entries: 1 }));
    let saved = Container::inspect(&file[..]).expect("a slice").container.expect("the upper part");
    assert_eq!(saved.tree().iter().count(), 64);
}

#[test]
fn order() {
    let path = || "/outer/inner".to_owned();
    let twin = entry_damage("truth", |entry, _| entry.insertion_sequence = 1.into());
    assert_eq!(twin, [Corruption::SiblingsEqual { path: path(), sequence: 1 }]);
    let stale = entry_damage("truth", |entry, _| entry.insertion_sequence = 3.into());
    assert_eq!(stale, [Corruption::NextSequence { path: path(), sequence: 3, next: 3 }]);
    let mut file = sound();
    patch_entry(&mut file, "inner", |_, rest| rest[6 + 8] = 9);
    assert_eq!(report(&file).remarks, [Remark::SequenceGap { path: path() }]);
    assert_eq!(report(&file).wholeness, Wholeness::Whole);
}

#[test]
fn file_objects() {
    let path = || "/second/large".to_owned();
    let data = "large\0".len();
    let outside =
        entry_damage("large", |_, rest| rest[data + 4..].copy_from_slice(&0x10_0000u64.to_le_bytes()));
    assert!(matches!(&outside[..], [Corruption::FileObjectOutside { size: 3000, .. }]));
    let unlisted =
        entry_damage("large", |_, rest| rest[data + 4..].copy_from_slice(&0x4001u64.to_le_bytes()));
    assert_eq!(unlisted, [Corruption::FileObjectUnlisted { path: path(), offset: 0x4001, size: 3000 }]);
    let larger =
        entry_damage("large", |_, rest| rest[data..data + 4].copy_from_slice(&4097u32.to_le_bytes()));
    assert_eq!(larger, [Corruption::FileObjectUnlisted { path: path(), offset: 0x4000, size: 4097 }]);
    let shared = entry_damage("large", |_, rest| rest[data + 4..].copy_from_slice(&0x5000u64.to_le_bytes()));
    assert_eq!(shared, [Corruption::FileObjectShared { path: "/second/other".to_owned(), offset: 0x5000 }]);
    let mut unused = sound();
    patch_entry(&mut unused, "large", |entry, rest| {
        entry.kind = KeyKind::NODE.0;
        entry.flags = 0;
        rest[data..].fill(0);
    });
    assert_eq!(report(&unused).remarks, [Remark::UnusedFileObjects { objects: 1 }]);
}

#[test]
fn what_is_sound_of_a_torn_file_can_be_saved() {
    let mut file = sound();
    let at = crate::support::entry_at(&file, "text");
    file[at + 30] ^= 0xff;
    let saved = Container::inspect(&file[..]).expect("a slice").container.expect("most of it");
    assert!(saved.tree().get("/outer/text").is_none());
    assert_eq!(saved.tree().get("/outer/inner/number").and_then(|node| node.as_int()), Some(7));
    let large = saved.tree().get("/second/large").expect("a file object");
    assert!(saved.load_value(large, 3000).is_ok());
    assert!(saved.read_at(file.len() as u64, &mut [0]).is_err());
}

#[test]
fn every_flip_is_refused_or_harmless() {
    let file = sound();
    for mask in [0xff, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        let outcomes = every_damage("sound", &file, file.len(), |which, copy| {
            copy[which] ^= mask;
            copy.len()
        });
        // Object entries and key entries count, the rest is empty or the contents of file objects.
        assert!(outcomes.refused.len() > 4400, "{mask:#04x}: {}", outcomes.refused.len());
    }
}

#[test]
fn every_truncation_is_refused_or_harmless() {
    let file = sound();
    let outcomes = every_damage("sound", &file, file.len(), |which, _| which);
    // All but the unused rest of the log.
    assert_eq!(outcomes.harmless, 0x1000 - 34);
}

#[test]
fn port_errors_are_passed_on() {
    let file = SparseFile::of(&sound());
    let mut reads = 0;
    loop {
        file.reads_left.set(Some(reads));
        match Container::open(&file) {
            Ok(_) => break,
            Err(OpenError::Read(ReadFailed)) => reads += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    // Two headers, log header and entries, object table and entries, key table and its header.
    assert_eq!(reads, 8);
}

/// A file whose object tables go on for ever: each page names the one after it.
struct Endless(Vec<u8>);

impl ReadAt for Endless {
    type Error = ReadFailed;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadFailed> {
        let page_offset = offset / 0x1000 * 0x1000;
        let within = (offset - page_offset) as usize;
        let mut page = match self.0.get(page_offset as usize..) {
            Some(rest) if rest.len() >= 0x1000 => rest[..0x1000].to_vec(),
            _ => self.0[OBJECT_TABLE..OBJECT_TABLE + 0x1000].to_vec(),
        };
        if page[..4] == self.0[OBJECT_TABLE..OBJECT_TABLE + 4] {
            if page_offset != FIRST_OBJECT_TABLE_OFFSET {
                // Only the first lists the key table.
                patch_object(&mut page, 0, 0, |object| *object = zerocopy::FromZeros::new_zeroed());
            }
            patch_object(&mut page, 0, 226, |object| {
                object.kind = ObjectKind::OBJECT_TABLE.0;
                object.file_offset = (page_offset.max(0xf_f000) + 0x1000).into();
                object.size = 0x1000.into();
            });
        }
        buf.copy_from_slice(&page[within..within + buf.len()]);
        Ok(())
    }

    fn len(&self) -> u64 {
        u64::MAX
    }
}

#[test]
fn an_endless_chain_of_object_tables_ends() {
    let tree = TreeBuilder::new().set("/name", "web01");
    let bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
    let inspection = Container::inspect(Endless(bytes)).expect("no failure");
    let limit = MAX_OBJECT_TABLES;
    assert_eq!(inspection.report.corruptions, [Corruption::TooManyObjectTables { limit }]);
    assert!(inspection.container.expect("readable").tree().get("/name").is_some());
}

#[test]
fn key_tables_without_end_are_not_read() {
    // As many objects as one table lists point to one key table of a mebibyte; three tables of objects do.
    let mut tree = TreeBuilder::new();
    for number in 0..700 {
        tree.put(&format!("/f{number}"), vec![0; 2048]);
    }
    let mut bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
    let header: [u8; 10] = bytes[KEY_TABLE..KEY_TABLE + 10].try_into().expect("10 bytes");
    let mut file = SparseFile::default();
    for index in 8..226 {
        let offset = (index as u64) << 24;
        patch_object(&mut bytes, OBJECT_TABLE, index, |object| {
            object.kind = ObjectKind::KEY_TABLE.0;
            object.file_offset = offset.into();
            object.size = (1 << 20).into();
        });
        file.ranges.insert(offset, header.to_vec());
    }
    let next =
        bytes[OBJECT_TABLE + 8 + 18 * 226 + 5..][..8].try_into().map(u64::from_le_bytes).expect("8 bytes");
    for index in 0..60 {
        let offset = (index as u64 + 300) << 24;
        patch_object(&mut bytes, next as usize, index, |object| {
            object.kind = ObjectKind::KEY_TABLE.0;
            object.file_offset = offset.into();
            object.size = (1 << 20).into();
        });
        file.ranges.insert(offset, header.to_vec());
    }
    file.len = 1 << 40;
    file.ranges.insert(0, bytes);
    let report = Container::inspect(&file).expect("no failure").report;
    assert_eq!(report.corruptions[0], Corruption::TooManyKeys { limit: MAX_KEY_BYTES, unit: "bytes" });
    assert!(file.read_bytes.get() < 2 << 20, "{}", file.read_bytes.get());
}

/// Offset, size and checksum field of every structure of a file with one key table.
fn structures(file: &[u8]) -> Vec<(usize, usize, usize)> {
    let log = Container::open(file).expect("a sound file").header().log_offset as usize;
    let mut found = vec![(0, 46, 4), (0x1000, 46, 4), (log, 34, 4), (KEY_TABLE, 10, 6)];
    found.extend((0..4).map(|index| (log + 34 + 28 * index, 28, 20)));
    found.extend([0, 1, 2, 3, 226].map(|index| (OBJECT_TABLE + 8 + 18 * index, 18, 1)));
    let mut at = KEY_TABLE + 10;
    while file[at] != KeyKind::FREE.0 {
        let size = u32::from_le_bytes(file[at + 2..at + 6].try_into().expect("4 bytes")) as usize;
        found.push((at, size, 12));
        at += size;
    }
    found
}

/// A sound file whose key table is also pending in its log.
fn pending() -> Vec<u8> {
    let mut file = sound();
    let log = Container::open(&file[..]).expect("a sound file").header().log_offset as usize;
    let table = file[KEY_TABLE..KEY_TABLE + 0x1000].to_vec();
    for copy in 0..2 {
        patch_header(&mut file, copy, |header| header.replay_log_size = 0x2000.into());
    }
    patch_log_header(&mut file, log, |header| header.current_entries = 1.into());
    patch_log_entry(&mut file, log, 0, |entry| {
        entry.file_offset = (KEY_TABLE as u64).into();
        entry.size = 0x1000.into();
        entry.data_offset = 0x1000.into();
        entry.data_checksum = crc32fast::hash(&table).into();
    });
    file.extend(table);
    let wholeness = report(&file).wholeness;
    assert_eq!(wholeness, Wholeness::Dirty { pending_entries: 1 });
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checksums are no defence against someone who can compute them.
    #[test]
    fn lies_with_right_checksums_do_no_harm(
        dirty in any::<bool>(),
        lies in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop_oneof![
                any::<[u8; 1]>().prop_map(Vec::from),
                prop::sample::select(vec![0u32, 1, 0x10, 0x2000, 0x3000, 0x7fff_ffff, u32::MAX])
                    .prop_map(|word| word.to_le_bytes().to_vec()),
                any::<[u8; 8]>().prop_map(Vec::from),
            ]),
            1..4,
        ),
    ) {
        let mut file = if dirty { pending() } else { sound() };
        let structures = structures(&file);
        for (which, place, bytes) in lies {
            let (at, size, field) = *which.get(&structures);
            let start = place.index(size);
            for (offset, byte) in bytes.iter().enumerate().take(size - start) {
                file[at + start + offset] = *byte;
            }
            let sum = crate::support::crc_with_zero(&file[at..at + size], field);
            file[at + field..at + field + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let inspection = Container::inspect(&file[..]).expect("a slice");
        let torn = !inspection.report.corruptions.is_empty();
        prop_assert_eq!(inspection.report.wholeness == Wholeness::Torn, torn
            && !matches!(inspection.report.wholeness, Wholeness::Unsupported { .. }));
        if let Some(container) = inspection.container {
            VmConfiguration::read(&container).expect("a slice");
            let built = container.to_builder(1 << 20);
            // Whatever is whole can be read and written again, but for an empty name.
            if !torn && container.tree().iter().all(|node| !node.name().is_empty()) {
                let tree = built.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(VmcxWriter::new().encode(&tree).is_ok(), "{:?}", tree);
            }
        }
    }
}
