//! The main path: seal, open, walk, read.

use lifeboat_schema::Digest;

use super::*;

#[test]
fn a_bundle_comes_back_whole_and_by_range() {
    let (identities, recipients) = identity();
    let mut sealer = sealer();
    let contents: Vec<Vec<u8>> = [0usize, 1, 511, 512, 513, 70_000, 300_000]
        .iter()
        .map(|n| (0..*n).map(|i| ((i * i) >> 3) as u8).collect())
        .collect();
    let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
    let members: Vec<_> = contents.iter().map(|c| bundle.append(&mut sealer, c).unwrap()).collect();
    let object = bundle.finish(&mut sealer).unwrap();
    assert_eq!(object.name, Digest::of(&object.bytes));
    assert_eq!(object.payload, Digest::of(&object.bytes[object.header_bytes as usize..]));

    let plaintext = open(&object, &identities).unwrap();
    let mut opener = Opener::new().unwrap();
    let mut seen = Vec::new();
    let total = contents.iter().map(|c| c.len() as u64).sum();
    opener
        .walk_bundle(&plaintext, total, |member, content| {
            assert_eq!(content, contents[seen.len()]);
            seen.push(member);
            Ok::<(), SealError>(())
        })
        .unwrap();
    assert_eq!(seen, members);

    let size = object.bytes.len() as u64;
    let head = &object.bytes[..object.header_bytes as usize + PAYLOAD_NONCE_BYTES];
    let key = ObjectKey::open(head, object.header_bytes, size, &identities).unwrap();
    for (member, content) in members.iter().zip(&contents) {
        let plain = member.offset..member.offset + member.length;
        let range = key.ciphertext_range(plain.clone()).unwrap();
        let mut fetched = object.bytes[range.start as usize..range.end as usize].to_vec();
        let frame = key.open_range(plain, &mut fetched).unwrap();
        assert_eq!(opener.read_member(frame, member).unwrap(), content);
    }
}

#[test]
fn a_body_comes_back() {
    let (identities, recipients) = identity();
    let json = br#"{"v":1}"#;
    let object = sealer().seal_body(&recipients, json).unwrap();
    let plaintext = open(&object, &identities).unwrap();
    let read = Opener::new().unwrap().read_body(&plaintext, json.len() as u64).unwrap();
    assert_eq!(&read[..], json);
    assert_eq!(padme(plaintext.len() as u64), Some(plaintext.len() as u64));
}
