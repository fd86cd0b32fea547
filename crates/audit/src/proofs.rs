//! Proof records, as the audit reads them: what was proved, and by which body.
//!
//! Any operator that a policy lets write `proof` records is believed; what a proof speaks of is decided by its ids alone.

use lifeboat_schema::{ObjectEntry, ProofBody};
use lifeboat_vault::ledger::LedgerRecord;
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::{Vault, VaultError};

use crate::facts::ProofFacts;

/// Reads one body of a `proof` record.
///
/// # Errors
/// [`VaultError`], as [`Vault::read_body`].
pub(crate) async fn read_proofs(
    vault: &Vault,
    record: &LedgerRecord,
    object: &ObjectEntry,
    identities: &Identities,
) -> Result<Vec<ProofFacts>, VaultError> {
    let body: ProofBody = vault.read_body(&record.signed.record, object, identities).await?;
    Ok(body.proofs.iter().map(ProofFacts::of).collect())
}
