use lifeboat_schema::{Kind, PolicyRef, Time};

use super::*;

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn record() -> Record {
    Record {
        v: 1,
        critical: vec![],
        vault: VaultId::of(b"vault"),
        writer: "h-one".parse().unwrap(),
        seq: 2,
        prev: Some(Digest::of(b"before")),
        kind: Kind::Snapshot,
        policy: Some(PolicyRef { seq: 1, id: Digest::of(b"policy") }),
        seen: vec![],
        started: Time::from_unix_seconds(1_700_000_000),
        finished: Time::from_unix_seconds(1_700_000_001),
        objects: vec![],
        subjects: Default::default(),
        terms: None,
    }
}

fn verify(bytes: &[u8], name: RecordName) -> Result<SignedRecord, BadRecord> {
    let keys = [key(1).verifying_key()];
    let wanted = record();
    SignedRecord::verify(Bytes::copy_from_slice(bytes), name, &wanted.vault, &wanted.writer, &keys)
}

/// Signs `line` as it is, and verifies it under its own name.
fn verify_line(line: &str) -> Result<SignedRecord, BadRecord> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(b'\n');
    let name = RecordName { seq: 2, id: Digest::of(&bytes) };
    let armour = key(1).sign(&bytes).unwrap();
    bytes.extend_from_slice(armour.as_bytes());
    verify(&bytes, name)
}

#[test]
fn a_signed_record_reads_back() {
    let signed = SignedRecord::sign(record(), &key(1)).unwrap();
    let read = verify(&signed.bytes, signed.name).unwrap();
    assert_eq!(read.record, record());
    let name: RecordName = signed.name.to_string().parse().unwrap();
    assert_eq!(name, signed.name);
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let signed = SignedRecord::sign(record(), &key(1)).unwrap();
    for at in 0..signed.bytes.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = signed.bytes.to_vec();
            bytes[at] ^= bit;
            assert!(verify(&bytes, signed.name).is_err(), "byte {at} changed and accepted");
        }
        assert!(verify(&signed.bytes[..at], signed.name).is_err(), "cut at {at} and accepted");
    }
}

#[test]
fn a_signed_line_that_breaks_the_rules_is_refused() {
    let line = serde_json::to_string(&record()).unwrap();
    assert!(verify_line(&line).is_ok());
    let refused = [
        line.replace("\"seq\":2", "\"seq\":2,\"seq\":2"),
        line.replace("\"seq\":2", "\"seq\":2.0"),
        line.replace("\"seq\":2", "\"seq\":9007199254740992"),
        line.replace("\"seq\":2", "\"seq\":3"),
        line.replace("\"seq\":2", "\"seq\":2,\"unknown\":1"),
        line.replace("snapshot", "snapsh\u{f6}t"),
        line.replace("\"v\":1", "\"v\":1\t"),
        line.replace("\"kind\":\"snapshot\"", "\"kind\":\"policy\""),
        line.replace("h-one", "h-two"),
        line.replace("\"objects\":[]", "\"objects\":[],\"subjects\":{\"sx\":[0]}"),
    ];
    for other in refused {
        assert_ne!(other, line);
        assert!(verify_line(&other).is_err(), "accepted: {other}");
    }
    let newer = line.replace("\"v\":1", "\"v\":2,\"shape\":\"new\"");
    assert_eq!(verify_line(&newer).unwrap_err(), BadRecord::NewerVersion(2));
    let critical = line.replace("\"v\":1", "\"v\":1,\"critical\":[\"merkle\"]");
    assert_eq!(verify_line(&critical).unwrap_err(), BadRecord::UnknownExtension("merkle".into()));
}

#[test]
fn names_have_one_form() {
    let id = Digest::of(b"x");
    for bad in [
        format!("1-{id}.json"),
        format!("0000000000-{id}.json"),
        format!("+000000001-{id}.json"),
        format!("0000000001-{id}"),
        format!("0000000001-{}.json", id.to_string().to_uppercase()),
        "0000000001-.json".to_owned(),
    ] {
        assert!(bad.parse::<RecordName>().is_err(), "{bad} was accepted");
    }
}
