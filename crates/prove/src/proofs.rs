//! What was proved: all `proof` records that count, as one table.

use std::collections::BTreeMap;
use std::ops::Bound;

use lifeboat_schema::{Content, Digest, Finding, Kind, ProofBody, ProofEntry, Severity};
use lifeboat_vault::seal::{Identities, SealError};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};

/// What a proof speaks of: one secret, held against one BitLocker protector of one generation of a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProofKey {
    /// BitLocker's volume id, in lower case without braces.
    pub volume: String,
    /// The generation: digest of its metadata region.
    pub metadata: Digest,
    /// The BitLocker protector, in lower case without braces. Of a secret whose BitLocker protector this generation no
    /// longer has it is that of the older generation through which the secret was tried on this one.
    pub protector: String,
    /// The secret, by the digest of its bytes.
    pub secret: Digest,
}

impl ProofKey {
    /// Returns what an entry speaks of.
    #[must_use]
    pub fn of(entry: &ProofEntry) -> Self {
        Self {
            volume: entry.volume.clone(),
            metadata: entry.metadata,
            protector: entry.protector.clone(),
            secret: entry.secret,
        }
    }
}

/// Everything that `proof` records say; of two that speak of the same, the newer.
#[derive(Debug, Default)]
pub struct Proofs {
    /// The newest entry for each key.
    pub newest: BTreeMap<ProofKey, ProofEntry>,
    /// What could not be read.
    pub findings: Vec<Finding>,
    /// Whether there was any body of a proof record.
    pub had_bodies: bool,
    /// Whether a body was opened.
    pub opened_something: bool,
}

impl Proofs {
    /// Reads the bodies of all proof records that count; the audit identity suffices.
    ///
    /// # Errors
    /// [`VaultError`] when the store is down. Damage is a finding.
    pub async fn read(vault: &Vault, ledgers: &Ledgers, identities: &Identities) -> Result<Self, VaultError> {
        let mut proofs = Self::default();
        let records = ledgers
            .writers
            .values()
            .flat_map(|ledger| ledger.counting())
            .filter(|record| record.signed.record.kind == Kind::Proof);
        for record in records.map(|record| &record.signed.record) {
            for object in record.objects.iter().filter(|object| object.content == Content::Body) {
                proofs.had_bodies = true;
                match vault.read_body::<ProofBody>(record, object, identities).await {
                    Ok(body) => {
                        proofs.opened_something = true;
                        body.proofs.into_iter().for_each(|entry| proofs.take(entry));
                    }
                    // Another owner's.
                    Err(VaultError::Seal(SealError::NoMatch)) => {}
                    Err(VaultError::Damaged { place, what }) => proofs.findings.push(Finding::new(
                        Severity::Damage,
                        "body-damaged",
                        place,
                        what,
                        "bring the object back from a mirror or an older version; `lifeboat escrow prove` proves anew what no other record proves",
                    )),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(proofs)
    }

    /// Takes an entry, unless a newer one speaks of the same.
    pub fn take(&mut self, entry: ProofEntry) {
        let key = ProofKey::of(&entry);
        if self.newest.get(&key).is_none_or(|known| known.proved <= entry.proved) {
            self.newest.insert(key, entry);
        }
    }

    /// Returns what was found for one key.
    #[must_use]
    pub fn get(&self, key: &ProofKey) -> Option<&ProofEntry> {
        self.newest.get(key)
    }

    /// Lists what was tried on one generation of a volume.
    pub fn of_generation<'a>(
        &'a self,
        volume: &'a str,
        metadata: &'a Digest,
    ) -> impl Iterator<Item = &'a ProofEntry> {
        let first = ProofKey {
            volume: volume.to_owned(),
            metadata: *metadata,
            protector: String::new(),
            secret: Digest::from_bytes([0; 32]),
        };
        self.newest
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.volume == volume && key.metadata == *metadata)
            .map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::{ProofOutcome, SecretKind, SubjectId, Time};

    use super::*;

    fn entry(volume: &str, metadata: u8, secret: u8, proved: i64, outcome: ProofOutcome) -> ProofEntry {
        ProofEntry {
            subject: SubjectId::random([0; 10]),
            volume: volume.to_owned(),
            metadata: Digest::from_bytes([metadata; 32]),
            captured: Time::from_unix_seconds(1),
            protector: "p".to_owned(),
            kind: SecretKind::RecoveryPassword,
            secret: Digest::from_bytes([secret; 32]),
            outcome,
            proved: Time::from_unix_seconds(proved),
        }
    }

    #[test]
    fn the_newest_counts_and_a_generation_has_its_own() {
        let mut proofs = Proofs::default();
        for one in [
            entry("a", 1, 1, 20, ProofOutcome::Data),
            entry("a", 1, 1, 10, ProofOutcome::Refused),
            entry("a", 1, 2, 10, ProofOutcome::Refused),
            entry("a", 2, 1, 10, ProofOutcome::Key),
            entry("b", 1, 1, 10, ProofOutcome::Unusable),
        ] {
            proofs.take(one);
        }
        let outcomes = |volume, metadata| {
            let digest = Digest::from_bytes([metadata; 32]);
            proofs.of_generation(volume, &digest).map(|entry| entry.outcome).collect::<Vec<_>>()
        };
        assert_eq!(outcomes("a", 1), [ProofOutcome::Data, ProofOutcome::Refused]);
        assert_eq!(outcomes("a", 2), [ProofOutcome::Key]);
        assert_eq!(outcomes("b", 1), [ProofOutcome::Unusable]);
        assert!(outcomes("c", 1).is_empty());
    }
}
