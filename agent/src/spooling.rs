//! The spool between runs: what the catalog says of it, what it holds, and sending it.
//!
//! The catalog and the spool cannot change in one step. Each of them is found here in every state that a process
//! which died can leave, and brought together before a run begins.

use lifeboat_engine::catalog::Catalog;
use lifeboat_schema::{Finding, Severity};
use lifeboat_vault::outbox::{Attached, Outbox, Spool, SpoolError, SpooledRun, is_conflict};
use lifeboat_vault::record::RecordName;
use lifeboat_vault::vault::VaultError;
use lifeboat_vault::writer::Writer;

use crate::run::RunError;

/// How sending the spool ended.
#[derive(Debug, Default)]
pub struct Sent {
    /// Records that are in the store now.
    pub records: Vec<RecordName>,
    /// Runs that were given up.
    pub given_up: Vec<RecordName>,
    /// Why it was not sent to its end: the store failed, or refused.
    pub stopped: Option<String>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Brings the catalog to what the spool has: a spool that was lost takes its records with it.
///
/// # Errors
/// [`RunError`], of the catalog or of the spool.
pub fn settle(catalog: &mut Catalog, spool: &Spool) -> Result<Vec<Finding>, RunError> {
    let Some(unsent) = catalog.unsent_since()? else { return Ok(Vec::new()) };
    let (tip, runs) = (catalog.tip()?, spool.runs().map_err(VaultError::from)?);
    if tip.is_some_and(|tip| runs.iter().any(|run| run.name == tip)) {
        return Ok(Vec::new());
    }
    let newest = runs.last().map(|run| run.name);
    catalog.rewind(newest.or(unsent.after), newest.is_some())?;
    let lost = tip.map(|tip| tip.to_string()).unwrap_or_default();
    Ok(vec![Finding::new(
        Severity::Warning,
        "spool-lost",
        "the spool",
        format!("the sealed run {lost} that waited there is gone, and everything is sealed anew"),
        "find out who removed it; what it held of VMs that are no longer on this host is lost",
    )])
}

/// Sends what waits, in the order in which it was sealed.
///
/// # Errors
/// What is not the store's doing: the catalog, the spool's folder, or a vault that is not to be written to.
pub async fn send(
    outbox: &Outbox,
    spool: &Spool,
    writer: &Writer,
    catalog: &mut Catalog,
) -> Result<Sent, RunError> {
    let mut sent = Sent::default();
    let attached = match outbox.attach(writer, &catalog.seen()?).await {
        Ok(attached) => attached,
        Err(error) if error.is_outage() => {
            sent.stopped = Some(error.to_string());
            return Ok(sent);
        }
        Err(error) => return Err(error.into()),
    };
    let (there, waiting) = match attached {
        Attached::Fits { there, waiting } => (there, waiting),
        Attached::Differs { why } => {
            let runs = spool.runs().map_err(VaultError::from)?;
            let after = catalog.unsent_since()?.map(|unsent| unsent.after);
            give_up(catalog, spool, &runs, after, &why, &mut sent)?;
            return Ok(sent);
        }
    };
    for run in there {
        arrived(catalog, spool, &run, &mut sent)?;
    }
    for (index, run) in waiting.iter().enumerate() {
        match outbox.send(&writer.id, run).await {
            Ok(()) => arrived(catalog, spool, run, &mut sent)?,
            Err(error) if error.is_outage() => {
                sent.stopped = Some(error.to_string());
                return Ok(sent);
            }
            Err(error @ VaultError::Spool(SpoolError::Damaged { .. })) => {
                let after = catalog.unsent_since()?.map(|unsent| unsent.after);
                give_up(catalog, spool, &waiting[index..], after, &error.to_string(), &mut sent)?;
                return Ok(sent);
            }
            Err(error) if is_conflict(&error) => {
                let after = catalog.unsent_since()?.map(|unsent| unsent.after);
                give_up(catalog, spool, &waiting[index..], after, &error.to_string(), &mut sent)?;
                return Ok(sent);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

fn arrived(catalog: &mut Catalog, spool: &Spool, run: &SpooledRun, sent: &mut Sent) -> Result<(), RunError> {
    if catalog.unsent_since()?.is_some() {
        catalog.sent(&run.name)?;
    }
    spool.remove(run).map_err(VaultError::from)?;
    sent.records.push(run.name);
    Ok(())
}

/// Destroys sealed runs that can never be committed. `after` is the newest record that stands, where the catalog knows
/// these runs.
fn give_up(
    catalog: &mut Catalog,
    spool: &Spool,
    runs: &[SpooledRun],
    after: Option<Option<RecordName>>,
    why: &str,
    sent: &mut Sent,
) -> Result<(), RunError> {
    // The catalog first: a process that dies in between finds runs that do not fit, and destroys them then.
    if let Some(after) = after {
        catalog.rewind(after, false)?;
    }
    for run in runs {
        spool.remove(run).map_err(VaultError::from)?;
        sent.given_up.push(run.name);
    }
    sent.findings.push(Finding::new(
        Severity::Warning,
        "spool-given-up",
        "the spool",
        format!("{} sealed runs were given up, and everything is sealed anew: {why}", runs.len()),
        "find out why the store is not as this host left it; what these runs held of VMs that are no longer here is lost",
    ));
    Ok(())
}
