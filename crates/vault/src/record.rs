//! Records as bytes: one line of ASCII JSON with its line feed, then an SSHSIG armour, and nothing after.
//!
//! A record's id is the BLAKE3 digest of the line. The armour could be written in other ways and would
//! still verify, so the id leaves it out and only its canonical form is accepted. The signature is checked
//! before the line is parsed, and the line is never encoded again.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use lifeboat_schema::{BadId, Digest, KNOWN_CRITICAL, RECORD_VERSION, Record, VaultId, WriterId};

use crate::key::{self, BadSignature, KeyError, MAX_ARMOUR_BYTES, SigningKey, VerifyingKey};
use crate::strict_json;

/// Longest line of a record: room for some 80,000 VMs.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Most bytes that a record's file may have.
pub const MAX_RECORD_BYTES: u64 = (MAX_LINE_BYTES + MAX_ARMOUR_BYTES) as u64;

/// Highest `seq`, so that names keep ten digits and sort in order.
pub const MAX_SEQ: u64 = 9_999_999_999;

/// File name of a record in its ledger: `<seq, ten digits>-<record id>.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName {
    /// Position in the ledger.
    pub seq: u64,
    /// Record id.
    pub id: Digest,
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{}.json", self.seq, self.id)
    }
}

impl FromStr for RecordName {
    type Err = NotARecordName;

    fn from_str(text: &str) -> Result<Self, NotARecordName> {
        let (seq, id) = text.strip_suffix(".json").and_then(|t| t.split_once('-')).ok_or(NotARecordName)?;
        if seq.len() != 10 || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotARecordName);
        }
        let seq: u64 = seq.parse().map_err(|_| NotARecordName)?;
        let id = id.parse().map_err(|_: BadId| NotARecordName)?;
        if seq == 0 { Err(NotARecordName) } else { Ok(Self { seq, id }) }
    }
}

/// Says that a file name is not one of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a record's name: ten digits, a dash, 64 hexadecimal digits and .json")]
pub struct NotARecordName;

/// Why bytes are not a record of this vault, writer and place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecord {
    /// No line feed ends a line within [`MAX_LINE_BYTES`].
    #[error("no line of at most 16 MiB begins it")]
    NoLine,
    /// The line's digest is not the id in the name.
    #[error("the line's digest is {found}, not the id in its name")]
    OtherId {
        /// The digest of the line.
        found: Digest,
    },
    /// The signature does not hold.
    #[error("the signature does not hold: {0}")]
    Signature(#[from] BadSignature),
    /// The line has bytes that are not printable ASCII.
    #[error("the line has bytes that are not printable ASCII")]
    NotAscii,
    /// The line breaks the rules for JSON in records.
    #[error("the line is not a record: {0}")]
    Json(String),
    /// A newer program made it.
    #[error("it has format version {0}, and this program reads version 1: use a newer Lifeboat")]
    NewerVersion(u32),
    /// It needs an extension that this program does not know.
    #[error("it needs the extension {0:?}, which this program does not know: use a newer Lifeboat")]
    UnknownExtension(String),
    /// It was made for another vault.
    #[error("it was made for the vault {0}")]
    OtherVault(VaultId),
    /// It was made by another writer.
    #[error("it was made by the writer {0}")]
    OtherWriter(WriterId),
    /// Its `seq` is not the one in its name.
    #[error("its seq is {0}, not the one in its name")]
    OtherSeq(u64),
    /// A subject names an object that the record does not have.
    #[error("a subject names object {0}, which the record does not have")]
    NoSuchObject(u32),
    /// `seq` 1 has a predecessor, or a later one has none.
    #[error("only the first record of a ledger has no predecessor")]
    Predecessor,
    /// `terms` stand in a record that is no policy, or are missing in one.
    #[error("a policy has terms, and nothing else has")]
    Terms,
}

/// A record whose signature one of the given keys made.
#[derive(Debug, Clone)]
pub struct SignedRecord {
    /// Position and id.
    pub name: RecordName,
    /// What it states.
    pub record: Record,
    /// The key that signed it.
    pub signer: VerifyingKey,
    /// Line and armour, as stored.
    pub bytes: Bytes,
}

impl SignedRecord {
    /// Encodes and signs `record`.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn sign(record: Record, key: &SigningKey) -> Result<Self, KeyError> {
        let mut bytes = serde_json::to_vec(&record).expect("a record has only string keys");
        debug_assert!(bytes.is_ascii(), "ids, times and numbers are ASCII");
        bytes.push(b'\n');
        let name = RecordName { seq: record.seq, id: Digest::of(&bytes) };
        let armour = key.sign(&bytes)?;
        bytes.extend_from_slice(armour.as_bytes());
        Ok(Self { name, record, signer: key.verifying_key(), bytes: bytes.into() })
    }

    /// Checks and parses the bytes found under `name` in the ledger of `writer`.
    ///
    /// # Errors
    /// The first rule that is broken, in this order: line, id, signature, JSON, version, place.
    pub fn verify(
        bytes: Bytes,
        name: RecordName,
        vault: &VaultId,
        writer: &WriterId,
        keys: &[VerifyingKey],
    ) -> Result<Self, BadRecord> {
        let window = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
        let end = window.iter().position(|b| *b == b'\n').ok_or(BadRecord::NoLine)? + 1;
        let (line, armour) = bytes.split_at(end);
        let found = Digest::of(line);
        if found != name.id {
            return Err(BadRecord::OtherId { found });
        }
        let signer = key::verify(line, armour, keys)?.clone();
        let record = parse_line(line)?;
        if record.vault != *vault {
            return Err(BadRecord::OtherVault(record.vault));
        }
        if record.writer != *writer {
            return Err(BadRecord::OtherWriter(record.writer));
        }
        if record.seq != name.seq {
            return Err(BadRecord::OtherSeq(record.seq));
        }
        if record.prev.is_none() != (record.seq == 1) {
            return Err(BadRecord::Predecessor);
        }
        if record.terms.is_some() != (record.kind == lifeboat_schema::Kind::Policy) {
            return Err(BadRecord::Terms);
        }
        let count = record.objects.len();
        for index in record.subjects.values().flatten() {
            if usize::try_from(*index).map_or(true, |index| index >= count) {
                return Err(BadRecord::NoSuchObject(*index));
            }
        }
        Ok(Self { name, record, signer, bytes })
    }
}

/// The fields that tell a newer format from damage.
#[derive(serde::Deserialize)]
struct Envelope {
    v: u32,
    #[serde(default)]
    critical: Vec<String>,
}

fn parse_line(line: &[u8]) -> Result<Record, BadRecord> {
    let text = &line[..line.len() - 1];
    if !text.iter().all(|b| (0x20..0x7f).contains(b)) {
        return Err(BadRecord::NotAscii);
    }
    let json = |error: serde_json::Error| BadRecord::Json(error.to_string());
    let envelope: Envelope = strict_json::parse(text).map_err(json)?;
    if envelope.v > RECORD_VERSION {
        return Err(BadRecord::NewerVersion(envelope.v));
    }
    if let Some(unknown) = envelope.critical.iter().find(|name| !KNOWN_CRITICAL.contains(&name.as_str())) {
        return Err(BadRecord::UnknownExtension(unknown.chars().take(80).collect()));
    }
    // The rules were checked above, on the same bytes.
    serde_json::from_slice(text).map_err(json)
}

#[cfg(test)]
mod tests;
