use lifeboat_vmgs::fixtures::{StoreOptions, StoreWriter, Write, blank, with_footer};
use lifeboat_vmgs::{
    Corruption, DatastoreKey, FileId, Format, GuestState, OpenError, ReadError, Remark, UnlockError, Verdict,
};
use proptest::prelude::*;

use crate::support::{Files, KEY, LIMIT_BYTES, METADATA_KEY, OTHER_KEY, files, report, sample, small};

#[test]
fn a_clear_store_is_whole_and_reads_back() {
    let image = sample(false);
    let report = report(&image);
    assert_eq!((report.verdict, report.format), (Verdict::Whole, Some(Format::Store)));
    assert_eq!((report.corruptions.len(), report.remarks.len()), (0, 0), "{report:?}");
    assert_eq!(report.footer.unwrap().disk_bytes, 64 << 10);
    let guest_state = GuestState::open(&image[..]).unwrap();
    assert!(guest_state.has_vtpm_state());
    let store = guest_state.store().unwrap();
    let found: Vec<_> = store
        .files()
        .iter()
        .map(|file| (file.id().0, file.id().name().unwrap(), file.size_bytes(), file.allocated_bytes()))
        .collect();
    assert_eq!(
        found,
        [
            (0, "FILE_TABLE", 4096, 4096),
            (3, "TPM_NVRAM", 5000, 8192),
            (4, "RTC_SKEW", 0, 4096),
            (5, "ATTEST", 100, 4096),
            (63, "EXTENDED_FILE_TABLE", 4096, 4096),
        ]
    );
    assert_eq!((store.sequence(), store.header_copy(), store.sector_bytes()), (3, 0, 512));
    assert_eq!(guest_state.read(FileId::ATTEST, 100).unwrap(), [0xa7; 100]);
    let too_large = guest_state.read(FileId::ATTEST, 99);
    assert!(matches!(too_large, Err(ReadError::TooLarge { size_bytes: 100, limit_bytes: 99 })));
    let absent = guest_state.read(FileId::TPM_PPI, LIMIT_BYTES);
    assert!(matches!(absent, Err(ReadError::NoSuchFile { id: FileId::TPM_PPI })));
    assert!(matches!(guest_state.read_document(), Err(ReadError::NoDocument)));
    assert!(matches!(guest_state.unlock(&DatastoreKey::new(KEY)), Err(UnlockError::NotEncrypted)));
}

#[test]
fn an_encrypted_store_opens_with_its_key_only() {
    let image = sample(true);
    let report = report(&image);
    assert_eq!((report.verdict, report.corruptions.len()), (Verdict::Encrypted, 0), "{report:?}");
    let guest_state = GuestState::open(&image[..]).unwrap();
    assert!(guest_state.has_vtpm_state());
    assert_eq!(guest_state.store().unwrap().datastore_keys(), 1);
    assert!(matches!(guest_state.read(FileId::TPM_NVRAM, LIMIT_BYTES), Err(ReadError::Encrypted { .. })));
    assert!(matches!(guest_state.unlock(&DatastoreKey::new(OTHER_KEY)), Err(UnlockError::WrongKey)));
    assert!(matches!(guest_state.unlock_without_key(), Err(UnlockError::WrongKey)));
    let unlocked = guest_state.unlock(&DatastoreKey::from_slice(&KEY).unwrap()).unwrap();
    assert_eq!((unlocked.slot(), unlocked.has_blank_metadata_key()), (Some(0), false));
    assert!(unlocked.attributes(FileId::TPM_NVRAM).is_encrypted());
    assert_eq!(files(&image, Some(KEY)).unwrap(), files(&sample(false), None).unwrap());
    // The content itself is not in the file.
    assert!(!image.windows(20).any(|window| window == [0xa7; 20]));
    assert!(DatastoreKey::from_slice(&KEY[1..]).is_none());
}

#[test]
fn either_of_two_keys_opens_a_store_and_a_removed_one_does_not() {
    let mut writer = StoreWriter::format(small());
    writer.encrypt(KEY, METADATA_KEY).unwrap();
    writer.write(&[(FileId::TPM_NVRAM, b"state")]).unwrap();
    writer.change_key(OTHER_KEY, true).unwrap();
    let image = writer.image();
    assert_eq!(GuestState::open(&image[..]).unwrap().store().unwrap().datastore_keys(), 2);
    for key in [KEY, OTHER_KEY] {
        assert_eq!(files(&image, Some(key)).unwrap()[&3], b"state");
    }
    writer.change_key(OTHER_KEY, false).unwrap();
    let image = writer.image();
    assert!(files(&image, Some(KEY)).is_err());
    assert_eq!(files(&image, Some(OTHER_KEY)).unwrap()[&3], b"state");
    let guest_state = GuestState::open(&image[..]).unwrap();
    assert_eq!(guest_state.unlock(&DatastoreKey::new(OTHER_KEY)).unwrap().slot(), Some(1));
}

#[test]
fn a_blank_metadata_key_keeps_nobody_out_and_is_told() {
    let mut writer = StoreWriter::format(small());
    writer.encrypt(KEY, [0; 32]).unwrap();
    writer.write(&[(FileId::TPM_NVRAM, b"state")]).unwrap();
    let image = writer.image();
    let guest_state = GuestState::open(&image[..]).unwrap();
    let unlocked = guest_state.unlock_without_key().unwrap();
    assert_eq!((unlocked.slot(), unlocked.has_blank_metadata_key()), (None, true));
    assert_eq!(unlocked.read(FileId::TPM_NVRAM, 10).unwrap().expose(), b"state");
    assert!(guest_state.unlock(&DatastoreKey::new(KEY)).unwrap().has_blank_metadata_key());
}

#[test]
fn coarse_sectors_and_the_wrap_of_sequences_are_understood() {
    for (sector_bytes, first_sequence) in [(512, u32::MAX - 1), (4096, 1), (4096, u32::MAX)] {
        let mut writer = StoreWriter::format(StoreOptions { sector_bytes, first_sequence, ..small() });
        for step in 0..4_u8 {
            writer.write(&[(FileId::ATTEST, &[step; 9])]).unwrap();
            let image = writer.image();
            assert_eq!(report(&image).verdict, Verdict::Whole);
            let guest_state = GuestState::open(&image[..]).unwrap();
            let store = guest_state.store().unwrap();
            assert_eq!(store.sequence(), first_sequence.wrapping_add(1 + u32::from(step)));
            assert_eq!(store.sector_bytes(), sector_bytes as u64);
            assert_eq!(guest_state.read(FileId::ATTEST, 9).unwrap(), [step; 9]);
        }
    }
}

#[test]
fn a_store_that_was_only_formatted_is_whole() {
    let image = StoreWriter::format(small()).image();
    let report = report(&image);
    assert_eq!((report.verdict, report.corruptions.len()), (Verdict::Whole, 0));
    assert!(!GuestState::open(&image[..]).unwrap().has_vtpm_state());
}

#[test]
fn nothing_is_empty_but_a_disk_of_zeros() {
    let image = blank(4 << 20);
    assert_eq!(report(&image).verdict, Verdict::Empty);
    assert!(matches!(GuestState::open(&image[..]), Err(OpenError::Empty)));
    for at in [8192, 70_000, (4 << 20) - 1] {
        let mut disk = vec![0; 4 << 20];
        disk[at] = 1;
        let report = report(&with_footer(disk, [1; 16]));
        assert_eq!(report.verdict, Verdict::Torn);
        assert_eq!(report.corruptions, [Corruption::HeadersBlank { data_offset: at as u64 }]);
        assert!(!report.is_tolerable(), "the next start formats it, and the data are gone");
    }
    // Without its footer it is not what Hyper-V makes.
    for image in [&[][..], &[0; 511], &[0; 512], &[0; 4 << 20]] {
        let report = report(image);
        assert_eq!(report.verdict, Verdict::Torn, "{} bytes", image.len());
        assert!(report.corruptions.contains(&Corruption::FooterMissing) && !report.is_tolerable());
    }
}

#[test]
fn other_files_are_unknown() {
    for other in [&b"web"[..], &[0xff; 100_000], &with_footer(vec![0xaa; 64 << 10], [1; 16])] {
        assert_eq!(report(other).verdict, Verdict::Unknown);
        assert!(matches!(GuestState::open(other), Err(OpenError::Unknown)));
    }
}

/// Applies writes to a blank disk: whole ones, and a part of the next.
fn crash(writes: &[Write], whole: usize, part: usize) -> Vec<u8> {
    let mut disk = vec![0; 64 << 10];
    for (number, write) in writes.iter().enumerate().take(whole + 1) {
        let length = if number < whole { write.bytes.len() } else { part };
        disk[write.offset..write.offset + length].copy_from_slice(&write.bytes[..length]);
    }
    with_footer(disk, [0x0d; 16])
}

#[test]
fn a_crash_at_any_write_leaves_the_state_before_or_after() {
    let mut writer = StoreWriter::format(small());
    // Writes that were done after each step, and what the store then holds.
    let mut states: Vec<(usize, Files)> = vec![(writer.writes().len(), Files::new())];
    let mut expected = Files::new();
    for step in 0..7_u8 {
        if step == 3 {
            writer.encrypt(KEY, METADATA_KEY).unwrap();
            states.push((writer.writes().len(), expected.clone()));
        }
        let content = vec![step + 1; 1000 * usize::from(step % 3) + 10];
        writer.write(&[(FileId::TPM_NVRAM, &content), (FileId::ATTEST, &[step; 10])]).unwrap();
        expected.extend([(3, content), (5, vec![step; 10])]);
        states.push((writer.writes().len(), expected.clone()));
    }
    let writes = writer.writes();
    let mut torn_headers = 0;
    for whole in 0..writes.len() {
        let length = writes[whole].bytes.len();
        for part in (0..168.min(length)).chain([length / 2, length - 1, length]) {
            let image = crash(writes, whole, part);
            let report = report(&image);
            let done = whole + usize::from(part == length);
            let before = states.iter().rev().find(|(writes, _)| *writes <= done);
            let after = states.iter().find(|(writes, _)| *writes > done);
            let read = [None, Some(KEY)].into_iter().find_map(|key| files(&image, key).ok());
            match (before, read) {
                // Of the very first header not even the signature is there.
                (None, None) => assert!(!matches!(report.verdict, Verdict::Whole | Verdict::Encrypted)),
                (before, Some(read)) => {
                    assert!(report.is_tolerable(), "{whole}+{part}: {report:?}");
                    let is_before = before.is_some_and(|(_, files)| *files == read);
                    let is_after = after.is_some_and(|(_, files)| *files == read);
                    assert!(is_before || is_after, "{whole}+{part}");
                    torn_headers += usize::from(report.verdict == Verdict::Torn);
                }
                (Some(_), None) => panic!("{whole}+{part}: nothing could be read: {report:?}"),
            }
        }
    }
    assert!(torn_headers > 400, "{torn_headers}");
}

#[test]
fn a_table_that_was_overwritten_is_not_taken_for_one() {
    let mut writer = StoreWriter::format(small());
    writer.write(&[(FileId::TPM_NVRAM, b"first")]).unwrap();
    let stale = writer.image();
    let table = GuestState::open(&stale[..]).unwrap().store().unwrap().file_table_block() as usize * 4096;
    // The headers of one moment with what another file, or the table of another place, left where the table was.
    let mut elsewhere = stale[table..table + 4096].to_vec();
    elsewhere[0] ^= 1;
    for content in [vec![0x55; 4096], vec![0; 4096], elsewhere] {
        let mut mixed = stale.clone();
        mixed[table..table + 4096].copy_from_slice(&content);
        let report = report(&mixed);
        assert_eq!(report.verdict, Verdict::Torn);
        assert!(matches!(report.corruptions[0], Corruption::FileTableElsewhere { .. }), "{report:?}");
        assert!(!report.is_tolerable());
    }
}

#[test]
fn a_reprovisioned_store_says_so() {
    let mut image = StoreWriter::format(small()).image();
    image[34] |= 1;
    image[12..16].fill(0);
    let sum = crc32(&image[..168]);
    image[12..16].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(report(&image).remarks, [Remark::Reprovisioned]);
    assert_eq!(report(&image).verdict, Verdict::Whole);
}

/// The checksum once more, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0xedb8_8320 * (sum & 1)))
    })
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u32, Vec<u8>)>),
    Encrypt,
    ChangeKey { keep_first: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (0_usize..9000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    let files = prop::collection::btree_map(1_u32..63, content, 0..4);
    prop_oneof![
        6 => files.prop_map(|files| Step::Write(files.into_iter().collect())),
        1 => Just(Step::Encrypt),
        1 => any::<bool>().prop_map(|keep_first| Step::ChangeKey { keep_first }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_store_reads_as_a_map_of_what_was_written(
        steps in prop::collection::vec(step(), 0..12),
        is_coarse: bool,
        first_sequence in prop_oneof![Just(1), Just(u32::MAX), any::<u32>()],
    ) {
        let sector_bytes = if is_coarse { 4096 } else { 512 };
        let disk_bytes = 256 << 10;
        let mut writer = StoreWriter::format(StoreOptions { disk_bytes, sector_bytes, first_sequence, ..small() });
        let mut model = Files::new();
        let mut key = None;
        for step in steps {
            // What is written before a store is encrypted stays in clear; the reader knows each file's own state.
            let result = match &step {
                Step::Write(files) => {
                    let files: Vec<_> = files.iter().map(|(id, bytes)| (FileId(*id), &bytes[..])).collect();
                    writer.write(&files)
                }
                Step::Encrypt if key.is_none() => writer.encrypt(KEY, METADATA_KEY),
                Step::ChangeKey { keep_first } if key.is_some() => writer.change_key(OTHER_KEY, *keep_first),
                _ => continue,
            };
            if result.is_err() {
                break;
            }
            match step {
                Step::Write(files) => model.extend(files),
                Step::Encrypt => key = Some(KEY),
                Step::ChangeKey { .. } => key = Some(OTHER_KEY),
            }
            let image = writer.image();
            let report = report(&image);
            // The neighbour of the first header is blank, and only beside sequence 1 that is known to be right.
            let is_first = writer.sequence() == first_sequence && first_sequence != 1;
            let wanted = match key {
                _ if is_first => Verdict::Torn,
                None => Verdict::Whole,
                Some(_) => Verdict::Encrypted,
            };
            prop_assert_eq!(report.verdict, wanted, "{:?}", report);
            prop_assert_eq!(files(&image, key).unwrap(), model.clone());
        }
    }
}
