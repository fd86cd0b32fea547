//! Writers: what goes in comes out, for any contents, levels and order of bundles.

use lifeboat_schema::Digest;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..1200),
        (0usize..300_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
        (1usize..90_000, any::<u64>()).prop_map(|(size, seed)| {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
                (state >> 56) as u8
            };
            (0..size).map(|_| next()).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_contents_come_back(contents in vec(content(), 1..8), level in -7i32..6) {
        let (identities, recipients) = identity();
        let mut sealer = Sealer::new(&SealOptions { compression_level: level }).unwrap();
        let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
        let mut members = Vec::new();
        for content in &contents {
            let staged = sealer.stage(content.len(), |buffer| {
                buffer.copy_from_slice(content);
                Ok::<(), SealError>(())
            }).unwrap();
            prop_assert_eq!(staged.content(), &content[..]);
            prop_assert_eq!(staged.digest(), Digest::of(content));
            members.push(bundle.append_staged(staged).unwrap());
        }
        prop_assert_eq!(bundle.members(), contents.len() as u64);
        let so_far = bundle.sealed_bytes();
        let object = bundle.finish(&mut sealer).unwrap();
        prop_assert!(object.bytes.len() as u64 > so_far);
        let plaintext = open(&object, &identities).unwrap();
        prop_assert_eq!(padme(plaintext.len() as u64), Some(plaintext.len() as u64));
        let total = contents.iter().map(|content| content.len() as u64).sum();
        let mut opener = Opener::new().unwrap();
        let mut position = 0;
        opener.walk_bundle(&plaintext, total, |member, content| {
            assert_eq!(member, members[position]);
            assert!(content == contents[position]);
            position += 1;
            Ok::<(), SealError>(())
        }).unwrap();
        prop_assert_eq!(position, contents.len());
        for (member, content) in members.iter().zip(&contents) {
            let frame = &plaintext[member.offset as usize..(member.offset + member.length) as usize];
            prop_assert!(opener.read_member(frame, member).unwrap() == content);
        }
    }
}

#[test]
fn one_sealer_serves_bundles_that_are_open_at_once() {
    let (identities, recipients) = identity();
    let mut sealer = sealer();
    let mut machine = BundleWriter::create(&mut sealer, &recipients).unwrap();
    let mut heads = BundleWriter::create(&mut sealer, &recipients).unwrap();
    machine.append(&mut sealer, b"configuration").unwrap();
    heads.append(&mut sealer, b"FVE metadata").unwrap();
    machine.append(&mut sealer, b"state").unwrap();
    let machine = machine.finish(&mut sealer).unwrap();
    let heads = heads.finish(&mut sealer).unwrap();
    // The buffer of one object becomes another one's, and nothing of the first is left in it.
    let spare = heads.bytes.clone();
    sealer.recycle(spare);
    let body = sealer.seal_body(&recipients, b"{}").unwrap();
    let mut opener = Opener::new().unwrap();
    for (object, expected) in
        [(&machine, &[&b"configuration"[..], b"state"][..]), (&heads, &[b"FVE metadata"])]
    {
        let mut seen = Vec::new();
        let plaintext = open(object, &identities).unwrap();
        let visit = |_, content: &[u8]| {
            seen.push(content.to_vec());
            Ok::<(), SealError>(())
        };
        opener.walk_bundle(&plaintext, 100, visit).unwrap();
        assert_eq!(seen, expected);
    }
    assert_eq!(opener.read_body(&open(&body, &identities).unwrap(), 2).unwrap().as_slice(), b"{}");
}

#[test]
fn a_failed_stage_leaves_everything_usable() {
    #[derive(Debug)]
    enum Failure {
        Read,
        Seal,
    }
    impl From<SealError> for Failure {
        fn from(error: SealError) -> Self {
            assert!(matches!(error, SealError::TooLarge { what: "a member", .. }), "{error}");
            Failure::Seal
        }
    }
    let (identities, recipients) = identity();
    let mut sealer = sealer();
    let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
    bundle.append(&mut sealer, &[1; 10_000]).unwrap();
    let torn = sealer.stage(5_000, |buffer| {
        buffer[..100].fill(9);
        Err(Failure::Read)
    });
    assert!(matches!(torn, Err(Failure::Read)));
    let large = sealer.stage(MAX_MEMBER_BYTES + 1, |_| -> Result<(), Failure> { panic!("nothing to fill") });
    assert!(matches!(large, Err(Failure::Seal)));
    // Staged and dropped: the content was in the vault already.
    let fill = |buffer: &mut [u8]| {
        buffer.fill(3);
        Ok::<(), SealError>(())
    };
    assert_eq!(sealer.stage(7, fill).unwrap().content(), [3; 7]);
    let second = bundle.append(&mut sealer, &[2; 300]).unwrap();
    let object = bundle.finish(&mut sealer).unwrap();
    let plaintext = open(&object, &identities).unwrap();
    let frame = &plaintext[second.offset as usize..][..second.length as usize];
    assert_eq!(Opener::new().unwrap().read_member(frame, &second).unwrap(), [2; 300]);
    let mut count = 0;
    let visit = |_, _: &[u8]| {
        count += 1;
        Ok::<(), SealError>(())
    };
    Opener::new().unwrap().walk_bundle(&plaintext, 20_000, visit).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn limits_of_writers() {
    let (_, recipients) = identity();
    let mut sealer = sealer();
    let empty = BundleWriter::create(&mut sealer, &recipients).unwrap();
    assert!(matches!(empty.finish(&mut sealer), Err(SealError::EmptyBundle)));
    let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
    let error = bundle.append(&mut sealer, &vec![0; MAX_MEMBER_BYTES + 1]).unwrap_err();
    assert!(matches!(error, SealError::TooLarge { what: "a member", .. }), "{error}");
    bundle.append(&mut sealer, &vec![0; MAX_MEMBER_BYTES]).unwrap();
    for level in [COMPRESSION_LEVELS.start() - 1, COMPRESSION_LEVELS.end() + 1] {
        let error = Sealer::new(&SealOptions { compression_level: level }).err().unwrap();
        assert!(matches!(error, SealError::CompressionLevel { .. }), "{error}");
    }
}

#[test]
fn two_seals_of_one_content_share_nothing() {
    let (_, recipients) = identity();
    let mut sealer = sealer();
    let [one, two] = [0, 1].map(|_| sealer.seal_body(&recipients, b"{}").unwrap());
    assert_ne!(one.name, two.name);
    assert_ne!(one.payload, two.payload);
}
