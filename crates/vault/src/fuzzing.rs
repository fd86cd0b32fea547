//! Entry points for the fuzz targets: any bytes as the documents of a vault.
//!
//! Deliberately signs what it is given, so that what lies behind the signature is reached.

use bytes::Bytes;
use lifeboat_schema::{Digest, NamesBody, Record, SnapshotBody, VaultId, WriterId};

use crate::key::{SigningKey, VerifyingKey};
use crate::policy::parse_head;
use crate::record::{RecordName, SignedRecord};
use crate::store::StorePath;
use crate::strict_json;

/// Treats bytes as the line of a record, signed by a key that counts.
pub fn record(bytes: &[u8]) {
    let key = SigningKey::from_seed(&[7; 32]);
    let keys = [key.verifying_key()];
    let mut line = bytes.to_vec();
    line.push(b'\n');
    let stated = strict_json::parse::<Record>(bytes).ok();
    let seq = stated.as_ref().map_or(1, |record| record.seq);
    let vault = stated.as_ref().map_or_else(|| VaultId::of(bytes), |record| record.vault.clone());
    let writer = stated.map_or_else(|| WriterId::admin(), |record| record.writer);
    let name = RecordName { seq, id: Digest::of(&line) };
    let armour = key.sign(&line).expect("this key signs");
    line.extend_from_slice(armour.as_bytes());
    let line = Bytes::from(line);
    if let Ok(signed) = SignedRecord::verify(line.clone(), name, &vault, &writer, &keys) {
        assert_eq!(signed.bytes, line);
    }
    let armoured = Bytes::copy_from_slice(bytes);
    let name = RecordName { seq: 1, id: Digest::of(bytes) };
    let _ = SignedRecord::verify(armoured, name, &vault, &writer, &keys);
}

/// Treats bytes as a head, a body, a key and an address.
pub fn documents(bytes: &[u8]) {
    let _ = parse_head(bytes, &VaultId::of(bytes));
    let _ = SigningKey::parse(bytes, None);
    if let Ok(body) = strict_json::parse::<SnapshotBody>(bytes) {
        let again = serde_json::to_vec(&body).expect("a body has only string keys");
        assert!(strict_json::parse::<SnapshotBody>(&again).is_ok(), "a body that was read can be written");
    }
    let _ = strict_json::parse::<NamesBody>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = VerifyingKey::parse(text);
        let _ = StorePath::parse(text);
    }
}
