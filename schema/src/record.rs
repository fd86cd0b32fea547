//! The signed line of a ledger: what one writer states, in plain JSON that holds no name of a VM.
//!
//! A record is one line of ASCII JSON. Its id is the BLAKE3 digest of that line with its line feed; nobody
//! encodes a record again to verify it. The signature that follows the line is `lifeboat-vault`'s matter.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Class, Digest, Kind, OwnerId, PolicyTerms, RecipientSetId, SubjectId, Time, VaultId, WriterId};

/// Version of the record format that this program reads and writes.
pub const RECORD_VERSION: u32 = 1;

/// Critical extensions that this program understands. A record that lists another one is refused.
pub const KNOWN_CRITICAL: &[&str] = &[];

/// One statement of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Format version, [`RECORD_VERSION`].
    pub v: u32,
    /// Extensions that a reader must understand, or refuse the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
    /// The vault that the record was made for.
    pub vault: VaultId,
    /// Who states it; the record counts only in this writer's ledger.
    pub writer: WriterId,
    /// Position in the ledger, from 1, without gaps.
    pub seq: u64,
    /// Id of the record before it; none at `seq` 1.
    pub prev: Option<Digest>,
    /// What it states.
    pub kind: Kind,
    /// The policy under which it was made; none only in the vault's first policy.
    pub policy: Option<PolicyRef>,
    /// The last mark of each maintainer that the writer had read when the run began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Tip>,
    /// When the run began, by the writer's clock.
    pub started: Time,
    /// When the run ended, by the writer's clock.
    pub finished: Time,
    /// The objects that the record keeps alive.
    pub objects: Vec<ObjectEntry>,
    /// For each VM of the writer, positions in `objects` of the body that describes it and of its bundles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<SubjectId, Vec<u32>>,
    /// Set in, and only in, `policy` records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<PolicyTerms>,
}

/// A policy by its place in the admin ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    /// `seq` of the policy record.
    pub seq: u64,
    /// Id of the policy record.
    pub id: Digest,
}

/// A record by writer and place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tip {
    /// Whose ledger.
    pub writer: WriterId,
    /// `seq` of the record.
    pub seq: u64,
    /// Id of the record.
    pub id: Digest,
}

/// What an object's plaintext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Tar members, one zstd frame each.
    Bundle,
    /// One JSON document in one zstd frame.
    Body,
}

/// One sealed object that a record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// BLAKE3 digest of all bytes of the object, which is its name in the store.
    pub name: Digest,
    /// Bundle or body.
    pub content: Content,
    /// What it may hold, and so for which roles it is sealed.
    pub class: Class,
    /// Whose recipients it is sealed to.
    pub owner: OwnerId,
    /// Size of the object in bytes.
    pub size: u64,
    /// Size of its age header in bytes; the payload follows.
    pub header: u32,
    /// BLAKE3 digest of the bytes after the header.
    pub payload: Digest,
    /// The recipients that it is sealed to.
    pub recipients: RecipientSetId,
}
