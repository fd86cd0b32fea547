//! A reveal, recorded before it happens.
//!
//! An honest log, not a control: who holds the escrow identity can open what is sealed to it with stock tools.

use bytes::Bytes;
use lifeboat_schema::{BodyHead, Class, Content, ESCROW_BODY_VERSION, Kind, OwnerTerms, RevealBody, Time};
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{Recipients, SealOptions, Sealer};
use lifeboat_vault::vault::{Vault, VaultError};
use lifeboat_vault::writer::{self, Known, Writer};

use crate::holdings::{HeldEntry, HeldSecret};
use crate::sealing::SealingError;

/// Appends the record of a reveal to the operator's ledger. Show the secret only after this.
///
/// # Errors
/// [`SealingError`]; nothing may be shown then.
pub async fn record_reveal(
    vault: &Vault,
    operator: &Writer,
    known: &Known,
    secret: &HeldSecret,
    entry: &HeldEntry,
    reason: &str,
    now: Time,
) -> Result<RecordName, SealingError> {
    let start = vault.begin(operator, Kind::Reveal, known).await?;
    let owner: &OwnerTerms = start
        .policy
        .owner(&entry.object.owner)
        .ok_or_else(|| SealingError::NoOwner(entry.object.owner.clone()))?;
    let body = RevealBody {
        head: BodyHead {
            v: ESCROW_BODY_VERSION,
            vault: vault.id.clone(),
            writer: operator.id.clone(),
            seq: start.previous.map_or(0, |name| name.seq) + 1,
            kind: Kind::Reveal,
            class: Class::Metadata,
            owner: owner.id.clone(),
        },
        asked: now,
        reason: reason.to_owned(),
        kind: secret.kind,
        protector: secret.protector.clone(),
        secret: secret.secret,
        importer: entry.writer.clone(),
        record: entry.record,
    };
    let json = serde_json::to_vec(&body).expect("bodies have only string keys");
    let recipients = Recipients::parse(&owner.recipients_of(Class::Metadata))?;
    let sealed = Sealer::new(&SealOptions::default())?.seal_body(&recipients, &json)?;
    let set = owner.recipient_set(Class::Metadata);
    let object = writer::object_entry(&sealed, Content::Body, Class::Metadata, &owner.id, &set);
    vault.put_object(&operator.id, &object.name, Bytes::from(sealed.bytes)).await?;
    let mut record = writer::blank_record(vault, &operator.id, Kind::Reveal, &start, now, now);
    record.objects = vec![object];
    let signed = SignedRecord::sign(record, &operator.key).map_err(VaultError::from)?;
    vault.put_record(&operator.id, &signed).await?;
    Ok(signed.name)
}
