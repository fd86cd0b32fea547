//! The payload: both ways against the `age` crate, by range, and every way to tamper with it.

use std::io::{Read, Write};
use std::sync::LazyLock;

use age::x25519;
use proptest::prelude::*;

use super::super::age_payload::{PayloadKey, PayloadWriter};
use super::super::header::create_header;
use super::*;

/// Sizes around the borders of chunks.
const SIZES: [usize; 9] = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 400_000];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A file with any plaintext, written in pieces by our payload writer.
fn seal_raw(plaintext: &[u8], recipients: &Recipients) -> Vec<u8> {
    let header = create_header(recipients, Vec::new()).unwrap();
    let mut writer = PayloadWriter::new(PayloadKey::derive(&header.file_key, &header.nonce), header.bytes);
    for piece in plaintext.chunks(10_007) {
        writer.write(piece);
    }
    assert_eq!(writer.plaintext_bytes(), plaintext.len() as u64);
    writer.finish()
}

fn open_raw(file: &[u8], identities: &Identities, threads: usize) -> Result<Plaintext, SealError> {
    let header_bytes = Header::parse(file)?.header_bytes;
    ObjectKey::open(file, header_bytes, file.len() as u64, identities)?.open_all(file.to_vec(), threads)
}

#[test]
fn the_age_crate_opens_what_we_seal() {
    let identity = x25519::Identity::generate();
    let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
    for size in SIZES {
        let file = seal_raw(&pattern(size), &recipients);
        let mut plaintext = Vec::new();
        let decryptor = age::Decryptor::new(&file[..]).unwrap();
        let identity: &dyn age::Identity = &identity;
        decryptor.decrypt([identity].into_iter()).unwrap().read_to_end(&mut plaintext).unwrap();
        assert!(plaintext == pattern(size), "{size} bytes came back changed");
    }
}

#[test]
fn we_open_what_the_age_crate_seals() {
    let (identities, recipients) = identity();
    let recipient: x25519::Recipient = recipients.texts()[0].parse().unwrap();
    let recipient: &dyn age::Recipient = &recipient;
    for size in SIZES {
        let mut file = Vec::new();
        let encryptor = age::Encryptor::with_recipients([recipient].into_iter()).unwrap();
        let mut writer = encryptor.wrap_output(&mut file).unwrap();
        writer.write_all(&pattern(size)).unwrap();
        writer.finish().unwrap();
        let plaintext = open_raw(&file, &identities, 1).unwrap();
        assert!(*plaintext == pattern(size), "{size} bytes came back changed");
    }
}

#[test]
fn threads_change_nothing() {
    let (identities, recipients) = identity();
    let plaintext = pattern(3_300_001);
    let file = seal_raw(&plaintext, &recipients);
    for threads in [0, 2, 64] {
        assert!(*open_raw(&file, &identities, threads).unwrap() == plaintext, "{threads} threads");
    }
    // Damage in two parts: the first one is named, whichever thread ends first.
    let mut damaged = file.clone();
    let header_bytes = Header::parse(&file).unwrap().header_bytes as usize;
    for index in [40, 9] {
        damaged[header_bytes + PAYLOAD_NONCE_BYTES + index * SEALED_CHUNK_BYTES] ^= 1;
    }
    for threads in [1, 3] {
        let error = open_raw(&damaged, &identities, threads).err().unwrap();
        assert!(matches!(error, SealError::Corrupt(Corruption::Chunk { index: 9 })), "{error}");
    }
}

/// Number, last-chunk flag and content of a chunk.
type ForgedChunk<'a> = (u64, bool, &'a [u8]);

/// A payload of any chunks.
fn forge(recipients: &Recipients, chunks: &[ForgedChunk<'_>]) -> Vec<u8> {
    let header = create_header(recipients, Vec::new()).unwrap();
    let key = PayloadKey::derive(&header.file_key, &header.nonce);
    let mut file = header.bytes;
    for (index, last, chunk) in chunks {
        let start = file.len();
        file.extend_from_slice(chunk);
        let tag = key.encrypt(*index, *last, &mut file[start..]);
        file.extend_from_slice(&tag);
    }
    file
}

#[test]
fn chunks_must_be_in_order_and_end_once() {
    let (identities, recipients) = identity();
    let full = pattern(CHUNK_BYTES);
    let short = pattern(100);
    let check = |chunks: &[ForgedChunk<'_>], extra: &[u8]| {
        let mut file = forge(&recipients, chunks);
        file.extend_from_slice(extra);
        open_raw(&file, &identities, 1).map(|plaintext| plaintext.to_vec())
    };
    assert_eq!(check(&[(0, false, &full), (1, true, &short)], &[]).unwrap(), [&full[..], &short].concat());
    assert_eq!(check(&[(0, true, &full)], &[]).unwrap(), full, "a full last chunk is a last chunk");
    assert!(check(&[(0, true, &[])], &[]).unwrap().is_empty(), "age's form of an empty payload");

    let chunk = |index| Corruption::Chunk { index };
    let refused: [(&str, &[ForgedChunk<'_>], &[u8], Corruption); 11] = [
        ("no last chunk", &[(0, false, &full), (1, false, &short)], &[], chunk(1)),
        ("last chunk cut away", &[(0, false, &full)], &[], chunk(0)),
        ("last flag too early", &[(0, true, &full), (1, true, &short)], &[], chunk(0)),
        ("swapped chunks", &[(1, false, &full), (0, false, &full), (2, true, &short)], &[], chunk(0)),
        ("repeated chunk", &[(0, false, &full), (0, false, &full), (1, true, &short)], &[], chunk(1)),
        ("missing chunk", &[(0, false, &full), (2, true, &short)], &[], chunk(1)),
        ("short chunk inside", &[(0, false, &short), (1, true, &full)], &[], chunk(0)),
        ("byte after the end", &[(0, true, &short)], &[0], chunk(0)),
        ("chunk after the end", &[(0, true, &full)], &short, chunk(0)),
        (
            "empty last chunk",
            &[(0, false, &full), (1, true, &[])],
            &[],
            Corruption::FinalChunk { payload_bytes: (SEALED_CHUNK_BYTES + TAG_BYTES) as u64 },
        ),
        (
            "last chunk without a tag",
            &[(0, true, &full)],
            &[0; 15],
            Corruption::FinalChunk { payload_bytes: (SEALED_CHUNK_BYTES + 15) as u64 },
        ),
    ];
    for (what, chunks, extra, expected) in refused {
        match check(chunks, extra) {
            Err(SealError::Corrupt(have)) => assert_eq!(have, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn every_flip_and_every_truncation_is_refused() {
    let (identities, recipients) = identity();
    let mut sealer = sealer();
    let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
    bundle.append(&mut sealer, b"the state of a vTPM").unwrap();
    let object = bundle.finish(&mut sealer).unwrap();
    let size = object.bytes.len() as u64;
    let open = |bytes: &[u8], size: u64| {
        ObjectKey::open(bytes, object.header_bytes, size, &identities)?
            .open_all(bytes.to_vec(), 1)
            .map(|_| ())
    };
    open(&object.bytes, size).unwrap();
    let mut cases = 0;
    for position in 0..object.bytes.len() {
        let mut bytes = object.bytes.clone();
        for mask in [0x01, 0x20, 0xFF] {
            bytes[position] = object.bytes[position] ^ mask;
            let error = open(&bytes, size).expect_err("a changed byte was not noticed");
            let corrupt = matches!(error, SealError::Corrupt(_));
            // A changed stanza may look like someone else's.
            assert!(corrupt || matches!(error, SealError::NoMatch), "byte {position}: {error}");
            assert!(corrupt || position < object.header_bytes as usize, "byte {position}: {error}");
            cases += 1;
        }
        let cut = &object.bytes[..position];
        assert!(open(cut, size).is_err(), "cut to {position} bytes");
        assert!(open(cut, position as u64).is_err(), "cut to {position} bytes, and the size with it");
        cases += 2;
    }
    let longer = [&object.bytes[..], &[0]].concat();
    assert!(open(&longer, size).is_err() && open(&longer, size + 1).is_err());
    println!("{cases} flips and truncations refused");
}

#[test]
fn other_identities_are_told_apart_from_damage() {
    let (_, recipients) = identity();
    let (other, _) = identity();
    let object = sealer().seal_body(&recipients, b"{}").unwrap();
    assert!(matches!(open(&object, &other), Err(SealError::NoMatch)));
}

#[test]
fn header_length_and_sizes_of_the_record_are_checked() {
    let (identities, recipients) = identity();
    let object = sealer().seal_body(&recipients, b"{}").unwrap();
    let size = object.bytes.len() as u64;
    let open = |header_bytes, size| ObjectKey::open(&object.bytes, header_bytes, size, &identities).err();
    let corrupt = |error| match error {
        Some(SealError::Corrupt(corruption)) => corruption,
        other => panic!("{:?}", other.map(|e| e.to_string())),
    };
    let (have, header_bytes) = (object.header_bytes, object.header_bytes);
    assert_eq!(corrupt(open(have - 1, size)), Corruption::HeaderLength { have, expected: have - 1 });
    assert_eq!(
        corrupt(open(u32::MAX, size)),
        Corruption::ObjectTooShort { have: size, header_bytes: u32::MAX }
    );
    assert_eq!(corrupt(open(header_bytes, 10)), Corruption::ObjectTooShort { have: 10, header_bytes });
    assert!(matches!(corrupt(open(header_bytes, u64::MAX)), Corruption::ObjectTooLarge { .. }));
    assert!(matches!(
        corrupt(open(header_bytes, u64::from(header_bytes) + PAYLOAD_NONCE_BYTES as u64)),
        Corruption::FinalChunk { payload_bytes: 0 }
    ));
}

static RANGED: LazyLock<(Vec<u8>, Vec<u8>, ObjectKey)> = LazyLock::new(|| {
    let (identities, recipients) = identity();
    let plaintext = pattern(3 * CHUNK_BYTES + 1000);
    let file = seal_raw(&plaintext, &recipients);
    let header_bytes = Header::parse(&file).unwrap().header_bytes;
    let key = ObjectKey::open(&file, header_bytes, file.len() as u64, &identities).unwrap();
    (plaintext, file, key)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn ranges_equal_slices(start in 0u64..3 * 65_536 + 1001, length in 0u64..3 * 65_536 + 1001) {
        let (plaintext, file, key) = &*RANGED;
        let end = (start + length).min(key.plaintext_bytes());
        let range = key.ciphertext_range(start..end).unwrap();
        let mut fetched = file[range.start as usize..range.end as usize].to_vec();
        prop_assert_eq!(key.open_range(start..end, &mut fetched).unwrap(), &plaintext[start as usize..end as usize]);
        // The chunks are whole, and no chunk more than needed.
        prop_assert!(range.end - range.start <= end - start + 2 * SEALED_CHUNK_BYTES as u64);
        if start < end {
            let mut moved = file[range.start as usize..range.end as usize].to_vec();
            let middle = moved.len() / 2;
            moved[middle] ^= 0x10;
            prop_assert!(key.open_range(start..end, &mut moved).is_err());
        }
    }
}

#[test]
fn ranges_outside_and_of_the_wrong_size_are_refused() {
    let (plaintext, file, key) = &*RANGED;
    let size = plaintext.len() as u64;
    assert_eq!(key.plaintext_bytes(), size);
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    for range in [0..size + 1, size + 1..size + 1, 5..4, 0..u64::MAX] {
        assert!(matches!(key.ciphertext_range(range.clone()), Err(SealError::Range { .. })), "{range:?}");
        assert!(matches!(key.open_range(range.clone(), &mut []), Err(SealError::Range { .. })), "{range:?}");
    }
    assert!(key.open_range(size..size, &mut []).unwrap().is_empty());
    let range = key.ciphertext_range(0..10).unwrap();
    let mut short = file[range.start as usize..range.end as usize - 1].to_vec();
    assert!(matches!(key.open_range(0..10, &mut short), Err(SealError::Range { .. })));
    // A chunk from elsewhere in the same object.
    let second = key.ciphertext_range(65_536..65_546).unwrap();
    let mut second = file[second.start as usize..second.end as usize].to_vec();
    assert!(matches!(
        key.open_range(0..10, &mut second),
        Err(SealError::Corrupt(Corruption::Chunk { index: 0 }))
    ));
}
