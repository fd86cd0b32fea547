//! `lifeboat escrow list`.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_engine::inventory::{Inventory, by_vm, matches};
use lifeboat_escrow::Holdings;
use lifeboat_schema::{EscrowListEntry, EscrowListReport, Exit, Role};

use crate::commands::Context;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Lists the recovery secrets that the vault holds, without them.
#[derive(clap::Args)]
pub(crate) struct List {
    /// Only those of this VM (name or id), as its newest snapshot knows its volumes.
    #[arg(long)]
    vm: Option<String>,
}

pub(super) async fn run(context: &Context, arguments: &List) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut holdings = Holdings::read(&kit.vault, &kit.ledgers, &identity.identities).await?;
    if holdings.had_bodies && !holdings.opened_something && holdings.findings.is_empty() {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "the identity {} opens nothing of what is escrowed; give the one of the right owner with --identity",
                identity.path.display()
            ),
        ));
    }
    // Which VM a BitLocker protector belongs to.
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let mut vms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut knows_vm = false;
    for state in by_vm(inventory.newest().await?) {
        let entry = &state.newest.entry;
        if arguments.vm.as_ref().is_some_and(|wanted| !matches(entry, wanted)) {
            continue;
        }
        knows_vm = true;
        let heads = entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref());
        for info in heads.flat_map(|head| &head.volumes).filter_map(|volume| volume.bitlocker.as_ref()) {
            for protector in &info.protectors {
                vms.entry(protector.id.clone()).or_default().insert(entry.vm.name.clone());
            }
        }
    }
    if let Some(wanted) = arguments.vm.as_ref().filter(|_| !knows_vm) {
        return Err(super::no_such_vm(wanted));
    }
    let mut findings = kit.findings_with(&mut holdings.findings);
    findings.append(&mut inventory.findings);
    let secrets = holdings
        .secrets
        .into_iter()
        .map(|one| EscrowListEntry {
            vms: one
                .protector
                .as_ref()
                .and_then(|id| vms.get(id))
                .map(|names| names.iter().cloned().collect())
                .unwrap_or_default(),
            kind: one.kind,
            protector: one.protector,
            secret: one.secret,
            entries: one.entries.into_iter().map(|held| held.entry).collect(),
        })
        .filter(|one: &EscrowListEntry| arguments.vm.is_none() || !one.vms.is_empty())
        .collect();
    kit.remember();
    let of_vm = arguments.vm.is_some();
    let report = EscrowListReport { vault: kit.vault.id.clone(), secrets, findings };
    context.answer(&report, |report| print(report, of_vm));
    Ok(Exit::of(&report.findings))
}

fn print(report: &EscrowListReport, of_vm: bool) {
    if report.secrets.is_empty() && of_vm {
        output::line("No recovery secret is escrowed for a BitLocker protector of this VM's volumes.");
    } else if report.secrets.is_empty() {
        output::line(
            "No recovery secret is escrowed here. Next: lifeboat escrow enroll, then lifeboat escrow import.",
        );
    } else {
        let dash = || "-".to_owned();
        let rows: Vec<Vec<String>> = report
            .secrets
            .iter()
            .map(|one| {
                let first = one.entries.first();
                let said = |pick: fn(&lifeboat_schema::EscrowEntry) -> Option<String>| {
                    one.entries.iter().find_map(pick).map_or_else(dash, |text| output::plain(&text))
                };
                let sources: BTreeSet<&str> = one.entries.iter().map(|entry| entry.source.name()).collect();
                vec![
                    one.protector
                        .as_deref()
                        .map(output::plain)
                        .unwrap_or_else(|| format!("none ({})", &one.secret.to_string()[..12])),
                    one.kind.name().to_owned(),
                    if one.vms.is_empty() { dash() } else { output::plain(&one.vms.join(", ")) },
                    said(|entry| entry.computer.clone()),
                    sources.into_iter().collect::<Vec<_>>().join(", "),
                    said(|entry| entry.recorded.map(|time| time.to_string())),
                    first.map_or_else(dash, |entry| entry.imported.to_string()),
                ]
            })
            .collect();
        output::table(&["PROTECTOR", "KIND", "VM", "COMPUTER", "FROM", "RECORDED", "IMPORTED"], &rows);
        output::line(format!("{} recovery secrets", report.secrets.len()));
    }
    output::findings(&report.findings);
}
