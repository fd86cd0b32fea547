use lifeboat_vhdx::layout::{
    ITEM_PHYSICAL_SECTOR_SIZE, ITEM_VIRTUAL_DISK_ID, LOCATOR_VHDX, REGION_BAT, REGION_METADATA,
};
use lifeboat_vhdx::{
    CarriedItem, Corruption, Guid, MetadataFlags, PortError, RangeRule, ReadAt, VhdxError, VhdxReader, guid,
};

use crate::fixture::{MIB, content, create, differencing, dynamic, finish, open, reseal, small_disk};

const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
const TABLES: [usize; 2] = [192 << 10, 256 << 10];
const TABLE_BYTES: usize = 64 << 10;
/// Where the writer puts metadata and BAT of a small disk.
const METADATA: usize = 2 << 20;
const BAT: usize = 3 << 20;

#[test]
fn truncated_files_are_refused() {
    let file = small_disk();
    let whole = content(&file).unwrap();
    let near = |length: usize| length % (64 << 10) < 3 || length % (64 << 10) > (64 << 10) - 3;
    let lengths = (0..file.len()).filter(|length| *length < 600 || near(*length));
    for length in lengths {
        assert!(content(&file[..length]).is_err(), "{length} of {} bytes were enough", file.len());
    }
    assert_eq!(content(&file).unwrap().len(), whole.len());
}

#[test]
fn a_changed_byte_in_one_copy_changes_nothing_and_in_both_is_refused() {
    let file = small_disk();
    let whole = VhdxReader::open(&file).unwrap().identity().clone();
    for (copies, length) in [(HEADERS, 4096), (TABLES, TABLE_BYTES)] {
        // Every byte that means something, and a sample of the reserved rest.
        for at in (0..160).chain((160..length).step_by(509)) {
            let mut damaged = file.clone();
            damaged[copies[0] + at] ^= 1 << (at % 8);
            assert_eq!(*VhdxReader::open(&damaged).unwrap().identity(), whole, "byte {at}");
            damaged[copies[1] + at] ^= 1 << (at % 8);
            assert!(VhdxReader::open(&damaged).is_err(), "byte {at}");
            damaged[copies[0] + at] = file[copies[0] + at];
            assert_eq!(*VhdxReader::open(&damaged).unwrap().identity(), whole, "byte {at}");
        }
    }
}

#[test]
fn changed_bytes_without_a_checksum_never_panic() {
    let mut file = {
        let mut child = create(differencing(4 * MIB, 1));
        child.write_at(512, &[1; 3072]).unwrap();
        finish(child).to_bytes()
    };
    let items = METADATA + (64 << 10);
    let places = (0..8)
        .chain(METADATA..METADATA + 32 + 7 * 32)
        .chain(items..items + 600)
        .chain(BAT..BAT + 40)
        .chain(BAT + 4096 * 8..BAT + 4096 * 8 + 8);
    let mut refused = 0;
    for at in places {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            match VhdxReader::open(&file) {
                Ok(reader) => {
                    let size = reader.geometry().virtual_size_bytes();
                    let mut end = 0;
                    for extent in reader.resolve(0..size.min(64 * MIB)).unwrap() {
                        let Ok(extent) = extent else { break };
                        assert_eq!(extent.offset, end);
                        end += extent.length;
                    }
                    // Even a disk of 64 TiB is verified when its BAT is there.
                    let _ = reader.verify_bat();
                }
                Err(_) => refused += 1,
            }
            file[at] ^= 1 << bit;
        }
    }
    assert!(refused > 1000, "{refused} refused");
}

/// Applies a change to a small disk and opens it.
fn open_error(change: impl FnOnce(&mut Vec<u8>)) -> VhdxError {
    let mut file = small_disk();
    change(&mut file);
    match open([file]) {
        Err(error) => error,
        Ok(chain) => chain.read_at(0, &mut vec![0; 4 << 20]).expect_err("it opens and reads"),
    }
}

fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Changes both headers in the same way.
fn headers(file: &mut [u8], offset: usize, bytes: &[u8]) {
    for header in HEADERS {
        put(file, header + offset, bytes);
        reseal(file, header, 4096);
    }
}

/// Changes both region tables in the same way.
fn regions(file: &mut [u8], offset: usize, bytes: &[u8]) {
    for table in TABLES {
        put(file, table + offset, bytes);
        reseal(file, table, TABLE_BYTES);
    }
}

#[test]
fn hostile_headers() {
    let check = |offset: usize, bytes: &[u8], expected: fn(&VhdxError) -> bool| {
        let error = open_error(|file| headers(file, offset, bytes));
        assert!(expected(&error), "{offset}: {error}");
    };
    check(66, &[2, 0], |error| matches!(error, VhdxError::UnsupportedVersion { found: 2 }));
    check(68, &u32::MAX.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::LogRange { rule: RangeRule::Aligned, .. }))
    });
    check(68, &0xfff0_0000_u32.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::LogRange { rule: RangeRule::Inside, .. }))
    });
    check(72, &(u64::MAX << 20).to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::LogRange { rule: RangeRule::Inside, .. }))
    });
    check(72, &0_u64.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::LogRange { rule: RangeRule::AfterHeaders, .. }))
    });
    // A log id, but no log entry.
    check(48, &[1; 16], |error| matches!(error, VhdxError::Corrupt(Corruption::LogWithoutSequence)));
    let error = open_error(|file| {
        headers(file, 48, &[1; 16]);
        headers(file, 64, &[1, 0]);
    });
    assert!(matches!(error, VhdxError::UnsupportedLogVersion { found: 1 }), "{error}");
    let error = open_error(|file| {
        headers(file, 48, &[1; 16]);
        headers(file, 68, &[0; 4]);
    });
    assert!(matches!(error, VhdxError::Corrupt(Corruption::LogRange { rule: RangeRule::NotEmpty, .. })));
}

#[test]
fn headers_with_one_number_must_be_one() {
    let mut file = small_disk();
    headers(&mut file, 8, &9_u64.to_le_bytes());
    assert!(VhdxReader::open(&file).is_ok(), "identical headers are accepted");
    put(&mut file, HEADERS[1] + 16, &[0xab; 16]);
    reseal(&mut file, HEADERS[1], 4096);
    let error = VhdxReader::open(&file).unwrap_err();
    assert!(
        matches!(error, VhdxError::Corrupt(Corruption::AmbiguousHeaders { sequence_number: 9 })),
        "{error}"
    );
}

#[test]
fn hostile_regions() {
    let check = |offset: usize, bytes: &[u8], expected: fn(&VhdxError) -> bool| {
        let error = open_error(|file| regions(file, offset, bytes));
        assert!(expected(&error), "{offset}: {error}");
    };
    // The first entry is the BAT, the second the metadata.
    check(8, &2048_u32.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::NoValidRegionTable))
    });
    check(8, &1_u32.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::MissingRegion { what: "metadata" }))
    });
    check(16, &[0x42; 16], |error| matches!(error, VhdxError::UnknownRequiredRegion { .. }));
    check(16, &REGION_METADATA.to_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::DuplicateRegion { .. }))
    });
    let rules = [
        (BAT as u64 + 4096, 1 << 20, RangeRule::Aligned),
        (BAT as u64, 4096, RangeRule::Aligned),
        (BAT as u64, 0, RangeRule::NotEmpty),
        (0, 1 << 20, RangeRule::AfterHeaders),
        (u64::MAX << 20, 0xfff0_0000_u32, RangeRule::Inside),
        (METADATA as u64, 1 << 20, RangeRule::Disjoint),
    ];
    for (offset, length, rule) in rules {
        let error = open_error(|file| {
            regions(file, 32, &offset.to_le_bytes());
            regions(file, 40, &length.to_le_bytes());
        });
        assert!(is_region(&error, rule), "{offset}+{length}: {error}");
    }
    check(32, &(1_u64 << 20).to_le_bytes(), |error| is_region(error, RangeRule::Disjoint));
    assert_eq!(REGION_BAT, guid!("2dc27766-f623-4200-9d64-115e9bfd4a08"));

    // An unknown region that need not be known is kept.
    let mut file = small_disk();
    file.resize(file.len() + (1 << 20), 0);
    let place = file.len() as u64 - (1 << 20);
    regions(&mut file, 8, &3_u32.to_le_bytes());
    regions(&mut file, 80, &[0x42; 16]);
    regions(&mut file, 96, &place.to_le_bytes());
    regions(&mut file, 104, &(1_u32 << 20).to_le_bytes());
    let reader = VhdxReader::open(&file).unwrap();
    assert_eq!(reader.regions().others.len(), 1);
    assert_eq!(reader.regions().others[0].offset, place);
}

fn is_region(error: &VhdxError, expected: RangeRule) -> bool {
    matches!(error, VhdxError::Corrupt(Corruption::RegionRange { rule, .. }) if *rule == expected)
}

/// Offset of the table entry `index` of the metadata.
fn item(index: usize) -> usize {
    METADATA + 32 + index * 32
}

#[test]
fn hostile_metadata() {
    let check = |offset: usize, bytes: &[u8], expected: fn(&VhdxError) -> bool| {
        let error = open_error(|file| put(file, offset, bytes));
        assert!(expected(&error), "{offset}: {error}");
    };
    let corrupt: fn(&VhdxError) -> bool = |error| matches!(error, VhdxError::Corrupt(_));
    check(METADATA, b"metaData", |error| matches!(error, VhdxError::Corrupt(Corruption::MetadataSignature)));
    check(METADATA + 10, &2048_u16.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::MetadataCount { count: 2048, max: 2047 }))
    });
    check(METADATA + 10, &2_u16.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::MissingItem { .. }))
    });
    check(item(0), &[0x42; 16], |error| {
        matches!(error, VhdxError::UnknownRequiredItem { is_user: false, .. })
    });
    check(item(0), &guid!("71cc85f0-1b69-4e28-9558-c3bf83ae75d3").to_bytes(), |error| {
        matches!(error, VhdxError::IncompleteFile)
    });
    check(item(1), &ITEM_PHYSICAL_SECTOR_SIZE.to_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::DuplicateItem { .. }))
    });
    for (offset, rule) in [
        (0_u32, RangeRule::AfterHeaders),
        (65535, RangeRule::AfterHeaders),
        ((1 << 20) - 4, RangeRule::Inside),
        (u32::MAX, RangeRule::Inside),
        ((64 << 10) + 8, RangeRule::Disjoint),
    ] {
        let error = open_error(|file| put(file, item(0) + 16, &offset.to_le_bytes()));
        assert!(
            matches!(&error, VhdxError::Corrupt(Corruption::ItemRange { rule: found, .. }) if *found == rule),
            "{offset}: {error}"
        );
    }
    check(item(0) + 20, &u32::MAX.to_le_bytes(), corrupt);
    check(item(0) + 20, &0_u32.to_le_bytes(), corrupt);
    check(item(4) + 20, &3_u32.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::ItemLength { found: 3, expected: 4, .. }))
    });

    // Items stand at 64 KiB in the order of the table, each at a multiple of 8.
    let values = METADATA + (64 << 10);
    for block_bytes in [0, 1, 4096, 3 << 20, 512 << 20, u32::MAX] {
        check(values, &u32::to_le_bytes(block_bytes), |error| {
            matches!(error, VhdxError::Corrupt(Corruption::InvalidSize { what: "block size", .. }))
        });
    }
    for virtual_size in [0, 511, (64 << 40) + 512, u64::MAX] {
        check(values + 8, &u64::to_le_bytes(virtual_size), |error| {
            matches!(error, VhdxError::Corrupt(Corruption::InvalidSize { what: "virtual size", .. }))
        });
    }
    check(values + 8, &(64_u64 << 40).to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::BatTooSmall { .. }))
    });
    for sector in [0, 511, 1024, u32::MAX] {
        check(values + 32, &u32::to_le_bytes(sector), corrupt);
        check(values + 40, &u32::to_le_bytes(sector), corrupt);
    }
    // A parent is claimed, but not named.
    check(values + 4, &2_u32.to_le_bytes(), |error| {
        matches!(error, VhdxError::Corrupt(Corruption::MissingItem { what: "parent locator" }))
    });
}

/// Judgement of a corruption.
type Expected = fn(&Corruption) -> bool;

#[test]
fn hostile_bat_entries() {
    let file_bytes = small_disk().len() as u64;
    let cases: [(u64, Expected); 8] = [
        (4, |corruption| matches!(corruption, Corruption::BlockState { state: 4, index: 1, .. })),
        (5, |corruption| matches!(corruption, Corruption::BlockState { state: 5, .. })),
        (6, |corruption| is_block(corruption, RangeRule::AfterHeaders)),
        (6 | 1 << 20, |corruption| is_block(corruption, RangeRule::Disjoint)),
        (6 | (METADATA as u64), |corruption| is_block(corruption, RangeRule::Disjoint)),
        (6 | (BAT as u64), |corruption| is_block(corruption, RangeRule::Disjoint)),
        (6 | file_bytes, |corruption| is_block(corruption, RangeRule::Inside)),
        (6 | u64::MAX << 20, |corruption| is_block(corruption, RangeRule::Inside)),
    ];
    for (entry, expected) in cases {
        let error = open_error(|file| put(file, BAT + 8, &entry.to_le_bytes()));
        assert!(
            matches!(&error, VhdxError::Corrupt(corruption) if expected(corruption)),
            "{entry:#x}: {error}"
        );
    }
    // What only a look at the whole table can see: two blocks in one place, reserved bits.
    let mut file = small_disk();
    let first: [u8; 8] = file[BAT..BAT + 8].try_into().unwrap();
    put(&mut file, BAT + 8, &(u64::from_le_bytes(first) | 0x10).to_le_bytes());
    let report = VhdxReader::open(&file).unwrap().verify_bat().unwrap();
    assert_eq!(report.finding_count, 2);
    assert!(matches!(report.findings[0], Corruption::BlockReserved { index: 1, .. }));
    assert!(is_block(&report.findings[1], RangeRule::Disjoint));
}

fn is_block(corruption: &Corruption, expected: RangeRule) -> bool {
    matches!(corruption, Corruption::BlockRange { index: 1, rule, .. } if *rule == expected)
}

#[test]
fn hostile_parent_locators() {
    let child = finish(create(differencing(4 * MIB, 1))).to_bytes();
    // The sixth item, behind 8 + 8 + 16 + 4 (+4) + 4 (+4) bytes.
    let locator = METADATA + (64 << 10) + 48;
    assert_eq!(child[locator..locator + 16], LOCATOR_VHDX.to_bytes());
    let check = |offset: usize, bytes: &[u8]| {
        let mut file = child.clone();
        put(&mut file, locator + offset, bytes);
        VhdxReader::open(file).unwrap_err()
    };
    assert!(matches!(check(0, &[1; 16]), VhdxError::UnsupportedParentType { .. }));
    for (offset, bytes) in [
        (18, vec![0, 0]),
        (18, vec![0xff, 0xff]),
        (18, vec![0, 1]),
        (20, vec![0xff; 4]),
        (20, vec![0; 4]),
        (24, vec![0xfe, 0xff, 0xff, 0xff]),
        (28, vec![0, 0]),
        (28, vec![3, 0]),
        (30, vec![0xff, 0xff]),
        // A lone surrogate in the key, another name for the linkage.
        (68, vec![0x00, 0xd8]),
        (68, vec![b'q', 0]),
    ] {
        let error = check(offset, &bytes);
        assert!(matches!(error, VhdxError::Corrupt(Corruption::ParentLocator { .. })), "{offset}: {error}");
    }
}

#[test]
fn unknown_items_are_listed_and_carried() {
    let user = CarriedItem { id: Guid::from_bytes([3; 16]), flags: MetadataFlags(1), bytes: vec![9; 70_000] };
    let system =
        CarriedItem { id: Guid::from_bytes([4; 16]), flags: MetadataFlags(2), bytes: b"catalogue".to_vec() };
    let empty = CarriedItem { id: Guid::from_bytes([5; 16]), flags: MetadataFlags(1), bytes: Vec::new() };
    // The id of a known item, as a user item, is another item.
    let same_id = CarriedItem { id: ITEM_VIRTUAL_DISK_ID, flags: MetadataFlags(1), bytes: vec![1] };
    let carried = vec![user, system, empty, same_id];
    let mut options = dynamic(MIB);
    options.items = carried.clone();
    let file = finish(create(options)).to_bytes();
    let reader = VhdxReader::open(&file).unwrap();
    let unknown: Vec<CarriedItem> = reader
        .metadata()
        .items()
        .iter()
        .filter(|item| !item.is_known())
        .map(|item| CarriedItem { id: item.id, flags: item.flags, bytes: reader.read_item(item).unwrap() })
        .collect();
    assert_eq!(unknown, carried);
}

#[test]
fn other_files_are_not_vhdx() {
    assert!(matches!(VhdxReader::open(vec![0; 2 << 20]), Err(VhdxError::NotVhdx { .. })));
    assert!(matches!(
        VhdxReader::open(b"vhdxfile".to_vec()),
        Err(VhdxError::Corrupt(Corruption::FileTooShort { size_bytes: 8 }))
    ));
    assert!(matches!(
        VhdxReader::open(Vec::new()),
        Err(VhdxError::Corrupt(Corruption::FileTooShort { size_bytes: 0 }))
    ));
}

#[test]
fn a_failing_port_is_reported_with_its_cause() {
    struct Failing(Vec<u8>);
    impl ReadAt for Failing {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }

        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
            if offset >= 2 << 20 {
                let source = std::io::Error::other("the disk is gone").into();
                return Err(PortError::Access { offset, length: buffer.len() as u64, source });
            }
            self.0.read_exact_at(offset, buffer)
        }
    }
    let error = VhdxReader::open(Failing(small_disk())).unwrap_err();
    let mut texts = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(texts[2], "the disk is gone");
}

proptest::proptest! {
    /// The bodies of the fuzz targets, with changes few enough that most of the file stays valid.
    #[test]
    fn fuzz_bodies_survive(
        changes in proptest::collection::vec((0..21_600_usize, 1..=255_u8), 0..4),
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096),
    ) {
        let mut input = vec![0; 21_600];
        for (at, byte) in changes {
            input[at] = byte;
        }
        lifeboat_vhdx::fuzzing::open_vhdx(&input);
        lifeboat_vhdx::fuzzing::open_vhdx(&bytes);
        lifeboat_vhdx::fuzzing::open_vhd(&bytes);
    }
}
