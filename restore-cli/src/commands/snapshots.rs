//! `lifeboat snapshots`.

use lifeboat_engine::inventory::{Inventory, matches};
use lifeboat_schema::{Exit, Role, SnapshotSummary, SnapshotsReport};

use super::Context;
use super::vms::no_access_if_nothing_opens;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Lists the snapshots of one VM or of all, newest first.
#[derive(clap::Args)]
pub(crate) struct Snapshots {
    /// Name or id of a VM.
    vm: Option<String>,
    /// Show the records that only carry an older capture forward, or found the VM unchanged, too.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Snapshots) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let mut found = inventory.all().await?;
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    if let Some(wanted) = &arguments.vm {
        found.retain(|vm| matches(&vm.entry, wanted));
        if found.is_empty() {
            return Err(CliError::new(
                Exit::Failed,
                format!("no snapshot holds a VM {wanted:?}; `lifeboat vms` lists what there is"),
            ));
        }
    }
    let mut snapshots: Vec<_> = found.iter().map(|vm| vm.summary()).collect();
    if !arguments.all {
        // Of each capture the record that made it: later records only repeat it.
        snapshots.sort_by(|a, b| {
            (&a.vm_id, &a.writer, a.captured, a.seq).cmp(&(&b.vm_id, &b.writer, b.captured, b.seq))
        });
        snapshots.dedup_by(|b, a| (&a.vm_id, &a.writer, a.captured) == (&b.vm_id, &b.writer, b.captured));
    }
    snapshots
        .sort_by(|a, b| (b.captured, b.seq, &a.name, &a.vm_id).cmp(&(a.captured, a.seq, &b.name, &b.vm_id)));
    let findings = kit.findings_with(&mut inventory.findings);
    kit.remember();
    let report = SnapshotsReport { vault: kit.vault.id.clone(), snapshots, findings };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

fn print(report: &SnapshotsReport) {
    let row = |one: &SnapshotSummary| {
        vec![
            one.captured.to_string(),
            output::plain(&one.name),
            one.vm_id.clone(),
            output::plain(&one.host),
            one.seq.to_string(),
            one.carried.map_or("captured", |_| "carried forward").to_owned(),
            one.files.to_string(),
            output::bytes(one.size_bytes),
        ]
    };
    let rows: Vec<Vec<String>> = report.snapshots.iter().map(row).collect();
    output::table(&["CAPTURED", "NAME", "ID", "HOST", "RECORD", "STATE", "FILES", "SIZE"], &rows);
    output::findings(&report.findings);
}
