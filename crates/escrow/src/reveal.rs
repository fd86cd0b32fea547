//! A reveal, recorded before it happens.
//!
//! An honest log, not a control: who holds the escrow identity can open what is sealed to it with stock tools.

use lifeboat_schema::{ESCROW_BODY_VERSION, Kind, RevealBody, Time};
use lifeboat_vault::record::RecordName;
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};
use lifeboat_vault::writer::{Known, Writer};

use crate::holdings::{HeldEntry, HeldSecret};
use crate::operator::{SealedRecord, Span, Spool, SpoolError};
use crate::sealing::SealingError;

/// Why a reveal was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevealError {
    /// The record could not be made.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// Neither the store nor the spool takes it.
    #[error(
        "the store does not take the record of this reveal ({store}), and it cannot be kept: {spool}. Nothing was shown"
    )]
    NotKept {
        /// Why the store does not.
        store: String,
        /// Why the spool does not.
        #[source]
        spool: SpoolError,
    },
}

/// A recorded reveal.
#[derive(Debug)]
pub struct RecordedReveal {
    /// The record.
    pub name: RecordName,
    /// Why the store did not take it; then it waits in the spool.
    pub waits: Option<String>,
}

/// What is shown, to whom it belongs, and why.
pub struct Reveal<'a> {
    /// The secret.
    pub secret: &'a HeldSecret,
    /// The entry that it is fetched by.
    pub entry: &'a HeldEntry,
    /// Why, in the words of who asked.
    pub reason: &'a str,
    /// When it was asked for.
    pub asked: Time,
}

/// Appends the record of a reveal to the operator's ledger, or keeps it in `spool` where the store takes nothing. Show
/// the secret only after this.
///
/// # Errors
/// [`RevealError`]; nothing may be shown then.
pub async fn record_reveal(
    vault: &Vault,
    operator: &Writer,
    known: &Known,
    (spool, ledgers): (&Spool, &Ledgers),
    reveal: &Reveal<'_>,
) -> Result<RecordedReveal, RevealError> {
    let mut start = vault.begin(operator, Kind::Reveal, known).await.map_err(SealingError::from)?;
    // Behind what waits, and not before it.
    let waits = spool.newest(vault, ledgers, &operator.id).map_err(|spool| RevealError::NotKept {
        store: "records of earlier reveals wait".to_owned(),
        spool,
    })?;
    start.previous = waits.or(start.previous);
    let body = |head| {
        let body = RevealBody {
            head,
            asked: reveal.asked,
            reason: reveal.reason.to_owned(),
            kind: reveal.secret.kind,
            protector: reveal.secret.protector.clone(),
            secret: reveal.secret.secret,
            importer: reveal.entry.writer.clone(),
            record: reveal.entry.record,
        };
        serde_json::to_vec(&body).expect("bodies have only string keys")
    };
    let span = Span { started: reveal.asked, finished: reveal.asked };
    let bodies: [(_, &dyn Fn(_) -> _); 1] = [(reveal.entry.object.owner.clone(), &body)];
    let sealed =
        SealedRecord::new(vault, operator, &start, (Kind::Reveal, ESCROW_BODY_VERSION), span, &bodies)?;
    let put = match waits {
        Some(_) => Err("records of earlier reveals wait, and come first".to_owned()),
        None => match sealed.put(vault).await {
            Err(VaultError::Store(error)) => Err(error.to_string()),
            other => Ok(other.map_err(SealingError::from)?),
        },
    };
    match put {
        Ok(name) => Ok(RecordedReveal { name, waits: None }),
        Err(store) => {
            spool.keep(&sealed).map_err(|spool| RevealError::NotKept { store: store.clone(), spool })?;
            Ok(RecordedReveal { name: sealed.name(), waits: Some(store) })
        }
    }
}
