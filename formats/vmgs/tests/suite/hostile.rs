use std::ops::Range;

use lifeboat_vmgs::fixtures::{DocumentOptions, StoreWriter};
use lifeboat_vmgs::{
    Corruption, EncryptionAlgorithm, FileId, FormatVersion, GuestState, OutOfBounds, ReadAt, Report,
    Unsupported, Verdict, fuzzing,
};
use proptest::prelude::*;

use crate::support::{KEY, files, report, sample, small};

const BLOCK: usize = 4096;

fn document() -> Vec<u8> {
    let json = r#"{"Devices":{"ac6b8dc1-3257-4a70-b1b2-a9c9215659ad":{"States":{"Nvram":{}}}}}"#;
    DocumentOptions { disk_bytes: 36 << 10, json, ..DocumentOptions::default() }.encode()
}

fn is_told(report: &Report) -> bool {
    !matches!(report.verdict, Verdict::Whole | Verdict::Encrypted) || !report.remarks.is_empty()
}

#[test]
fn every_truncation_is_refused() {
    for image in [sample(false), sample(true), document()] {
        for length in 0..image.len() {
            let report = report(&image[..length]);
            let verdict = report.verdict;
            assert!(matches!(verdict, Verdict::Torn | Verdict::Unknown), "{length} bytes: {report:?}");
            assert!(GuestState::open(&image[..length]).is_err(), "{length} bytes");
        }
        assert!(GuestState::open(&image[..]).is_ok());
    }
}

#[test]
fn every_flipped_byte_of_an_encrypted_store_is_an_error_or_changes_nothing() {
    let mut image = sample(true);
    let whole = files(&image, Some(KEY)).unwrap();
    for at in 0..image.len() {
        for flip in [0x01, 0x80, 0xff] {
            image[at] ^= flip;
            if let Ok(read) = files(&image, Some(KEY)) {
                // A file that vanished left a trace.
                assert!(read == whole || is_told(&report(&image)), "byte {at} ^ {flip:#x}");
                assert!(read.iter().all(|(id, content)| whole.get(id) == Some(content)), "byte {at}");
            }
            image[at] ^= flip;
        }
    }
}

#[test]
fn every_flipped_byte_of_a_clear_store_is_told_where_the_format_can() {
    let mut image = sample(false);
    let whole = files(&image, None).unwrap();
    // What has no checksum: the current file table and the files.
    let unprotected: Vec<Range<usize>> = {
        let guest_state = GuestState::open(&image[..]).unwrap();
        let store = guest_state.store().unwrap();
        let files = store.files().iter().filter(|file| file.id() != FileId::EXTENDED_FILE_TABLE);
        files.map(|file| file.offset() as usize..(file.offset() + file.allocated_bytes()) as usize).collect()
    };
    let mut unnoticed = 0;
    for at in 0..image.len() {
        for flip in [0x01, 0x80, 0xff] {
            image[at] ^= flip;
            let is_equal = files(&image, None).is_ok_and(|read| read == whole);
            if !is_equal && !is_told(&report(&image)) {
                assert!(unprotected.iter().any(|range| range.contains(&at)), "byte {at} ^ {flip:#x}");
                unnoticed += 1;
            }
            image[at] ^= flip;
        }
    }
    // The 5100 bytes of content three times, and what places or measures a file.
    assert!((3 * 5100..3 * 5100 + 40).contains(&unnoticed), "{unnoticed}");
}

#[test]
fn every_flipped_byte_of_a_document_is_told_where_the_format_can() {
    let mut image = document();
    let range = {
        let guest_state = GuestState::open(&image[..]).unwrap();
        let document = guest_state.document().unwrap();
        document.offset() as usize..document.offset() as usize + document.size_bytes() as usize
    };
    let read = |image: &[u8]| GuestState::open(image).ok().and_then(|open| open.read_document().ok());
    let whole = read(&image);
    for at in 0..image.len() {
        for flip in [0x01, 0x80, 0xff] {
            image[at] ^= flip;
            let found = read(&image);
            if found != whole && !is_told(&report(&image)) {
                assert!(range.contains(&at), "byte {at} ^ {flip:#x}");
            }
            // Headers and GPT are there twice, so that one of them answers; the footer is there once.
            if found.is_none() && !range.contains(&at) {
                assert!(at >= image.len() - 512, "byte {at} ^ {flip:#x}");
            }
            image[at] ^= flip;
        }
    }
}

/// Changes the current header, or the block of the file table, and answers the report.
fn changed(change: impl FnOnce(&mut [u8], &mut [u8])) -> Report {
    let mut image = StoreWriter::format(small()).image();
    let block = u32::from_le_bytes(image[24..28].try_into().unwrap()) as usize;
    let (head, rest) = image.split_at_mut(2 * BLOCK);
    change(&mut head[..168], &mut rest[(block - 2) * BLOCK..][..BLOCK]);
    let mut zeroed = head[..168].to_vec();
    zeroed[12..16].fill(0);
    let sum = !zeroed.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0xedb8_8320 * (sum & 1)))
    });
    image[12..16].copy_from_slice(&sum.to_le_bytes());
    report(&image)
}

fn put(bytes: &mut [u8], at: usize, number: u64, length: usize) {
    bytes[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]);
}

#[test]
fn impossible_values_are_named() {
    let one = |report: Report| {
        assert_eq!(report.verdict, Verdict::Torn);
        report.corruptions.into_iter().next().unwrap()
    };
    let id = FileId::TPM_NVRAM;
    let entry = |block: u64, blocks: u64, bytes: u64| {
        one(changed(|_, table| {
            put(table, 192, block, 4);
            put(table, 196, blocks, 4);
            put(table, 200, bytes, 8);
        }))
    };
    let disk_blocks = 16;
    for (block, blocks) in [(1, 1), (0, 1), (15, 2), (16, 1), (u32::MAX, u32::MAX)] {
        let wanted = Corruption::FileRange { id, block, blocks, disk_blocks };
        assert_eq!(entry(block.into(), blocks.into(), 1), wanted);
    }
    assert_eq!(entry(9, 1, 4097), Corruption::FileSize { id, valid_bytes: 4097, blocks: 1 });
    assert_eq!(entry(9, 1, u64::MAX), Corruption::FileSize { id, valid_bytes: u64::MAX, blocks: 1 });
    assert_eq!(entry(2, 2, 1), Corruption::FileOverlap { first: FileId::FILE_TABLE, second: id });
    let place = |block: u32, blocks: u32| {
        one(changed(|header, _| {
            put(header, 24, block.into(), 4);
            put(header, 28, blocks.into(), 4);
        }))
    };
    assert_eq!(place(1, 1), Corruption::FileTablePlace { copy: 0, block: 1, blocks: 1 });
    assert_eq!(place(2, 0), Corruption::FileTablePlace { copy: 0, block: 2, blocks: 0 });
    assert_eq!(place(16, 1), Corruption::FileTableBeyondDisk { block: 16, disk_blocks });
    assert_eq!(place(u32::MAX, 1), Corruption::FileTableBeyondDisk { block: u32::MAX, disk_blocks });
    assert!(matches!(place(7, 1), Corruption::FileTableElsewhere { block: 7, says: 0, .. }));
    assert_eq!(
        one(changed(|header, _| put(header, 20, 167, 4))),
        Corruption::HeaderSize { copy: 0, found: 167 }
    );
    let algorithm = |number| changed(|header, _| put(header, 32, number, 2)).verdict;
    assert_eq!(algorithm(2), Verdict::Unsupported(Unsupported::Algorithm(EncryptionAlgorithm(2))));
    // Encrypted with AES, it should have a table of keys that is encrypted, too.
    assert_eq!(one(changed(|header, _| put(header, 32, 1, 2))), Corruption::ExtendedTable { what: "is not" });
    let version = changed(|header, _| put(header, 8, 0x2_0000, 4)).verdict;
    assert_eq!(version, Verdict::Unsupported(Unsupported::Version(FormatVersion(0x2_0000))));
    assert_eq!(FormatVersion(0x2_0001).to_string(), "2.1");
}

#[test]
fn sequences_that_are_no_neighbours_are_damage() {
    let mut images = [StoreWriter::format(small()), StoreWriter::format(small())];
    for step in 0..4 {
        images[usize::from(step > 0)].write(&[(FileId::ATTEST, &[step])]).unwrap();
    }
    let [first, second] = images.map(|writer| writer.image());
    let mut mixed = second.clone();
    // Sequence 2 stands in copy 1 of the one, 4 in copy 1 and 3 in copy 0 of the other.
    mixed[512..680].copy_from_slice(&second[512..680]);
    assert_eq!(report(&mixed).verdict, Verdict::Whole);
    mixed[..168].copy_from_slice(&StoreWriter::format(small()).image()[..168]);
    let found = report(&mixed);
    assert_eq!(found.corruptions, [Corruption::HeaderSequences { first: 1, second: 4 }]);
    assert_eq!((found.verdict, found.is_tolerable()), (Verdict::Torn, false));
    let mut equal = first.clone();
    equal.copy_within(512..680, 0);
    assert_eq!(report(&equal).corruptions, [Corruption::HeaderSequences { first: 2, second: 2 }]);
}

/// A file that counts what is read, and is said to be huge.
struct Huge<'a> {
    bytes: &'a [u8],
    read: std::cell::Cell<u64>,
}

impl ReadAt for Huge<'_> {
    type Error = OutOfBounds;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfBounds> {
        self.read.set(self.read.get() + buf.len() as u64);
        for (at, byte) in (offset..).zip(buf) {
            *byte = usize::try_from(at).ok().and_then(|at| self.bytes.get(at)).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        1 << 60
    }
}

#[test]
fn a_huge_file_costs_little() {
    let blank = vec![0; 10];
    for (bytes, most) in [(&sample(false), 1 << 16), (&document(), 1 << 17), (&blank, 65 << 20)] {
        let port = Huge { bytes, read: 0.into() };
        let report = GuestState::inspect(&port).unwrap().report;
        assert!(report.corruptions.contains(&Corruption::FooterMissing), "{report:?}");
        assert!(port.read.get() <= most, "{} bytes were read", port.read.get());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        fuzzing::open(&bytes);
    }

    #[test]
    fn no_change_of_a_file_panics(
        which in 0..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut image = match which {
            0 => sample(false),
            1 => sample(true),
            _ => document(),
        };
        for (at, byte) in changes {
            let at = at.index(image.len());
            image[at] = byte;
        }
        fuzzing::open(&image);
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}:,\"a-dDevicesStates0-9 \\\\]{0,60}") {
        fuzzing::document(text.as_bytes());
        fuzzing::document(format!("{{\"Devices\":{text}}}").as_bytes());
    }
}
