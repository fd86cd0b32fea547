//! The reading side: which secrets a vault holds, and one of them brought back.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_schema::{
    Content, Digest, EscrowBody, EscrowEntry, Finding, Kind, ObjectEntry, SecretKind, Severity, WriterId,
};
use lifeboat_vault::seal::{Identities, SealError};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};
use zeroize::Zeroizing;

/// One entry of an escrow record, with where it stands.
#[derive(Debug, Clone)]
pub struct HeldEntry {
    /// The importer.
    pub writer: WriterId,
    /// Its name.
    pub importer: Arc<str>,
    /// Place of the record in its ledger.
    pub seq: u64,
    /// Id of the record.
    pub record: Digest,
    /// What it says.
    pub entry: EscrowEntry,
    /// The bundle that holds the secret.
    pub object: ObjectEntry,
}

/// One secret with everything that records say of it.
#[derive(Debug, Clone)]
pub struct HeldSecret {
    /// What it is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens.
    pub protector: Option<String>,
    /// The digest that names it.
    pub secret: Digest,
    /// Entries, the newest first.
    pub entries: Vec<HeldEntry>,
}

/// Every secret of a vault, and what could not be read.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Secrets by protector and kind.
    pub secrets: Vec<HeldSecret>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Whether there was any body, and whether one could be opened.
    pub had_bodies: bool,
    /// Whether a body was opened.
    pub opened_something: bool,
}

impl Holdings {
    /// Reads the bodies of all escrow records that count; any identity opens them.
    ///
    /// # Errors
    /// [`VaultError`] when the store is down. Damage is a finding.
    pub async fn read(vault: &Vault, ledgers: &Ledgers, identities: &Identities) -> Result<Self, VaultError> {
        let mut holdings = Self::default();
        let mut by_secret: BTreeMap<(Option<String>, SecretKind, Digest), Vec<HeldEntry>> = BTreeMap::new();
        let records = ledgers
            .writers
            .values()
            .flat_map(|ledger| ledger.counting())
            .filter(|record| record.signed.record.kind == Kind::Escrow);
        for record in records {
            let signed = &record.signed;
            for object in signed.record.objects.iter().filter(|object| object.content == Content::Body) {
                holdings.had_bodies = true;
                let body: EscrowBody = match vault.read_body(&signed.record, object, identities).await {
                    Ok(body) => body,
                    // Another owner's.
                    Err(VaultError::Seal(SealError::NoMatch)) => continue,
                    Err(VaultError::Damaged { place, what }) => {
                        holdings.findings.push(damage(place, what));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                holdings.opened_something = true;
                let importer: Arc<str> = body.importer.into();
                for entry in body.entries {
                    let is_bundle = |object: &&ObjectEntry| {
                        object.name == entry.part.object
                            && object.content == Content::Bundle
                            && object.class == entry.class
                    };
                    let Some(bundle) = signed.record.objects.iter().find(is_bundle) else {
                        let what =
                            format!("it names no bundle {} of class {}", entry.part.object, entry.class);
                        holdings.findings.push(damage(object.name.to_string(), what));
                        continue;
                    };
                    let key = (entry.protector.clone(), entry.kind, entry.part.digest);
                    by_secret.entry(key).or_default().push(HeldEntry {
                        writer: signed.record.writer.clone(),
                        importer: Arc::clone(&importer),
                        seq: signed.record.seq,
                        record: signed.name.id,
                        object: bundle.clone(),
                        entry,
                    });
                }
            }
        }
        let secrets = by_secret.into_iter().map(|((protector, kind, secret), mut entries)| {
            entries.sort_by_key(|held| std::cmp::Reverse((held.entry.imported, held.seq)));
            HeldSecret { kind, protector, secret, entries }
        });
        holdings.secrets = secrets.collect();
        holdings.conflicts();
        Ok(holdings)
    }

    /// Says where two recovery passwords claim one BitLocker protector.
    fn conflicts(&mut self) {
        let mut passwords: BTreeMap<&str, u32> = BTreeMap::new();
        for one in self.secrets.iter().filter(|one| one.kind == SecretKind::RecoveryPassword) {
            if let Some(protector) = &one.protector {
                *passwords.entry(protector).or_default() += 1;
            }
        }
        let found: Vec<Finding> = passwords
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(protector, count)| {
                Finding::new(
                    Severity::Warning,
                    "escrow-conflict",
                    protector,
                    format!("{count} different recovery passwords are escrowed for this BitLocker protector"),
                    "only one can be right: `lifeboat escrow prove` tells which, where a snapshot holds the volume's metadata",
                )
            })
            .collect();
        self.findings.extend(found);
    }

    /// Secrets whose protector begins with `wanted` (case and braces ignored), or whose digest does.
    #[must_use]
    pub fn matching(&self, wanted: &str) -> Vec<&HeldSecret> {
        let wanted = wanted.trim().trim_matches(['{', '}']).to_lowercase();
        let is_wanted = |one: &&HeldSecret| {
            !wanted.is_empty()
                && (one.protector.as_ref().is_some_and(|id| id.starts_with(&wanted))
                    || one.secret.to_string().starts_with(&wanted))
        };
        self.secrets.iter().filter(is_wanted).collect()
    }
}

fn damage(place: String, what: String) -> Finding {
    Finding::new(
        Severity::Damage,
        "body-damaged",
        place,
        what,
        "bring the object back from a mirror or an older version; import its sources again meanwhile",
    )
}

impl HeldEntry {
    /// Fetches the secret alone, by range, and compares it with its digest.
    ///
    /// # Errors
    /// [`VaultError`]; the escrow identity is needed, and that of restore for shielding data.
    pub async fn fetch(
        &self,
        vault: &Vault,
        identities: &Identities,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        vault.read_member(&self.writer, &self.object, &self.entry.part, identities).await.map(Zeroizing::new)
    }
}
