//! `lifeboat escrow prove`.

use indicatif::ProgressBar;
use lifeboat_escrow::Span;
use lifeboat_prove::{ProveObserver, ProveOptions, Reader, commit, prove};
use lifeboat_schema::{EscrowProveReport, Exit, Kind};

use super::operator::OperatorArguments;
use crate::commands::{Context, now};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Tries every escrowed secret on the BitLocker metadata that snapshots captured, and records what opens.
///
/// No disk is needed, and none is touched. Only what no earlier proof settled costs anything: a new secret, a changed
/// volume. Needs the escrow identity to open the secrets and the operator key to sign the record; the audit identity
/// reads what was proved.
#[derive(clap::Args)]
pub(crate) struct Prove {
    /// Prove the volumes of every VM: so too where neither is given.
    #[arg(long, conflicts_with = "vm")]
    all: bool,
    /// Prove the volumes of this VM only (name or id).
    #[arg(long)]
    vm: Option<String>,
    /// Try again what is proved already.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    operator: OperatorArguments,
}

pub(super) async fn run(context: &Context, arguments: &Prove) -> Result<Exit, CliError> {
    let started = now();
    let kit = Kit::open(&context.kit).await?;
    let identity = super::escrow_identity(context, &kit)?;
    // Before minutes of work: whether there is anybody to sign it.
    let (operator, known) = arguments.operator.open(context, &kit, &identity.identities, Kind::Proof).await?;
    let reader = Reader { vault: &kit.vault, ledgers: &kit.ledgers, identities: &identity.identities };
    let options = ProveOptions { vm: arguments.vm.as_deref(), again: arguments.again };
    let bar = Bar(output::progress_of("Proving"));
    let mut proved = prove(&reader, &options, &now, &bar).await?;
    drop(bar);
    if let Some(wanted) = arguments.vm.as_ref().filter(|_| !proved.knows_vm) {
        return Err(super::no_such_vm(wanted));
    }
    let span = Span { started, finished: now() };
    let record = commit(&kit.vault, &operator, &known, &proved, span).await?;
    Kit::open(&context.kit).await?.remember();
    let report = EscrowProveReport {
        vault: kit.vault.id.clone(),
        record: record.map(|name| name.id),
        counts: proved.counts,
        findings: kit.findings_with(&mut proved.findings),
    };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

fn print(report: &EscrowProveReport) {
    let counts = &report.counts;
    output::line(format!(
        "{} BitLocker volumes with {} captured generations; {} had something to prove",
        counts.volumes, counts.generations, counts.changed
    ));
    for (count, what) in [
        (counts.data, "proved: the key opens a captured sector"),
        (counts.key, "proved on the key alone: no captured sector shows more"),
        (counts.refused, "refused: it does not open"),
        (counts.unusable, "cannot be told"),
        (counts.known, "settled by earlier proofs"),
    ] {
        if count > 0 {
            output::line(format!("  {count:>7} {what}"));
        }
    }
    if counts.changed > 0 {
        output::line(format!(
            "{} stretches, {:.2} for each volume that had something to prove",
            counts.stretches,
            counts.stretches as f64 / counts.changed as f64
        ));
    }
    match report.record {
        Some(record) => output::line(format!("Record {record} says it.")),
        None if counts.volumes == 0 => output::line("No snapshot holds BitLocker metadata yet."),
        None => output::line("Nothing new to record."),
    }
    output::findings(&report.findings);
}

/// A bar over volumes on a terminal, and nothing elsewhere.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl ProveObserver for Bar {
    fn planned(&self, volumes: u64) {
        self.0.set_length(volumes);
    }

    fn volume_done(&self) {
        self.0.inc(1);
    }
}
