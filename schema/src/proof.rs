//! What a vault says of proved recovery secrets: bodies of `proof` records.
//!
//! A proof rests on FVE metadata that a snapshot captured, not on a disk: it says that a secret opens that generation
//! of a volume's metadata, and how far.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BodyHead, Digest, Finding, ProofLevel, SecretKind, SubjectId, Time, VaultId};

/// Version of the bodies of `proof` records.
pub const PROOF_BODY_VERSION: u32 = 1;

/// Body of a `proof` record: what one run of `escrow prove` found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofBody {
    /// Where it belongs.
    pub head: BodyHead,
    /// What was proved or refuted; only what an earlier proof did not settle.
    pub proofs: Vec<ProofEntry>,
}

/// One secret held against one generation of one volume's FVE metadata.
///
/// Nothing but the five ids decides what it speaks of: volume, metadata, BitLocker protector, kind and secret. The VM is
/// where the metadata was taken from, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofEntry {
    /// The VM, as the snapshot names it.
    pub subject: SubjectId,
    /// BitLocker's volume id, in lower case without braces.
    pub volume: String,
    /// BLAKE3 digest of the metadata region that it rests on: `fve_metadata` of the volume's entry.
    pub metadata: Digest,
    /// When that metadata was captured.
    pub captured: Time,
    /// The BitLocker protector that was tried. Where that metadata no longer has it, it was tried in older metadata of the
    /// volume, and the outcome says what the volume key found there does to the newer: `data` where it opens a sector of
    /// that time.
    pub protector: String,
    /// What the secret is.
    pub kind: SecretKind,
    /// BLAKE3 digest of the secret: `part.digest` of its escrow entry. A secret that only a read-back gave has the
    /// digest that it will be escrowed under.
    pub secret: Digest,
    /// What came of it.
    pub outcome: ProofOutcome,
    /// When it was tried.
    pub proved: Time,
}

/// What came of holding a secret against captured metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProofOutcome {
    /// It turns a captured sector of the volume into something known.
    Data,
    /// It opens the volume master key; no captured sector could show more.
    Key,
    /// It does not open this BitLocker protector.
    Refused,
    /// The metadata, or what the secret needs beside it, could not be used.
    Unusable,
}

impl ProofOutcome {
    /// How far the secret is proved, if it is.
    pub fn level(self) -> Option<ProofLevel> {
        match self {
            Self::Data => Some(ProofLevel::Data),
            Self::Key => Some(ProofLevel::Key),
            Self::Refused | Self::Unusable => None,
        }
    }
}

/// Numbers of one run of `escrow prove`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofCounts {
    /// BitLocker volumes that snapshots hold.
    pub volumes: u64,
    /// Generations of their metadata.
    pub generations: u64,
    /// Volumes that had anything to prove.
    pub changed: u64,
    /// Secrets, each on one BitLocker protector of one generation, that earlier proofs settled.
    pub known: u64,
    /// Proved now, on data.
    pub data: u64,
    /// Proved now, on the key.
    pub key: u64,
    /// Refused now.
    pub refused: u64,
    /// Now found to be unusable.
    pub unusable: u64,
    /// Stretches that it took: about a tenth of a second of one core each.
    pub stretches: u64,
    /// Recovery passwords without an id that were not tried.
    pub left_out: u64,
}

/// `lifeboat escrow prove --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowProveReport {
    /// The vault.
    pub vault: VaultId,
    /// The record that was committed; none where there was nothing new.
    pub record: Option<Digest>,
    /// What was done.
    pub counts: ProofCounts,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form that programs of version 1 wrote; never made anew.
    const PROOF_V1: &str = include_str!("../fixtures/proof-body-v1.json");

    #[test]
    fn a_body_of_version_1_is_read_and_loses_nothing() {
        let body: ProofBody = serde_json::from_str(PROOF_V1).unwrap();
        assert_eq!((body.head.v, body.proofs.len()), (PROOF_BODY_VERSION, 2));
        assert_eq!(body.proofs[0].outcome.level(), Some(ProofLevel::Data));
        assert_eq!(body.proofs[1].outcome.level(), None);
        let again = serde_json::to_value(&body).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(PROOF_V1).unwrap());
    }
}
