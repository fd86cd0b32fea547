//! What the commands of an operator share: the key that signs.

use std::path::PathBuf;

use lifeboat_schema::{Exit, Kind, Tip, WriterId};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::record::RecordName;
use lifeboat_vault::seal::Identities;
use lifeboat_vault::writer::{Known, Writer};

use crate::commands::Context;
use crate::error::CliError;
use crate::kit::Kit;
use crate::secrets::read_signing_key;

/// Key of an operator.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OperatorArguments {
    /// Key that signs the record [default: operator.key in the kit].
    #[arg(long, value_name = "FILE")]
    operator_key: Option<PathBuf>,
}

impl OperatorArguments {
    /// The writer whose key it is, if the policy lets it sign records of `kind`. Puts in order what waits of it.
    pub(super) async fn open(
        &self,
        context: &Context,
        kit: &Kit,
        identities: &Identities,
        kind: Kind,
    ) -> Result<(Writer, Known), CliError> {
        let path = self.operator_key.clone().unwrap_or_else(|| context.kit.kit.join("operator.key"));
        let operator = writer(kit, read_signing_key(&path, &context.kit.passphrases)?, kind)?;
        let newest =
            |ledger: &lifeboat_vault::ledger::Ledger| ledger.newest().map(|record| record.signed.name);
        let mut known = Known {
            tip: kit.ledgers.writers.get(&operator.id).and_then(newest),
            seen: newest(&kit.ledgers.admin)
                .map(|name| Tip { writer: WriterId::admin(), seq: name.seq, id: name.id })
                .into_iter()
                .collect(),
            ..Known::default()
        };
        // What another record came before is signed anew behind that.
        let done = kit.spool().put_in_order(&kit.vault, &kit.ledgers, Some((&operator, identities))).await;
        if done.is_ok_and(|done| done.put > 0) {
            known.tip = tip(kit, &operator.id).await?;
        }
        Ok((operator, known))
    }
}

async fn tip(kit: &Kit, writer: &WriterId) -> Result<Option<RecordName>, CliError> {
    let ledger = kit.vault.ledger(writer, &kit.ledgers.policies).await?;
    Ok(ledger.newest().map(|record| record.signed.name))
}

/// The writer whose key it is, and who may sign records of a kind.
fn writer(kit: &Kit, key: SigningKey, kind: Kind) -> Result<Writer, CliError> {
    let newest = kit.ledgers.policies.newest().expect("an open kit has a valid policy");
    let public = key.verifying_key();
    let id = newest
        .terms
        .writers
        .iter()
        .filter(|writer| writer.kinds.contains(&kind))
        .map(|writer| &writer.id)
        .find(|id| newest.key(id) == Some(&public));
    let id = id.cloned().ok_or_else(|| {
        CliError::new(
            Exit::NoAccess,
            format!(
                "the policy lets no writer with this key sign a {kind} record; give the operator's key with --operator-key"
            ),
        )
    })?;
    Ok(Writer { id, key })
}
