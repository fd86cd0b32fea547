//! `lifeboat vms`.

use lifeboat_engine::concern::concerns;
use lifeboat_engine::inventory::{Inventory, by_vm};
use lifeboat_engine::silence::silent_writers;
use lifeboat_schema::{Exit, Pairing, Role, VmSummary, VmsReport, VtpmSight};

use super::Context;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Lists the VMs, each with its newest captured state.
#[derive(clap::Args)]
pub(crate) struct Vms {
    /// List VMs of older records too, which their host's newest record no longer has.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Vms) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let found = if arguments.all { inventory.all().await? } else { inventory.newest().await? };
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    let vms: Vec<VmSummary> = by_vm(found)
        .into_iter()
        .map(|state| VmSummary {
            newest: state.newest.summary(),
            vm: state.newest.entry.vm.clone(),
            carried: state.carried.map(|carried| carried.summary()),
            other_hosts: state.other_hosts,
        })
        .collect();
    let mut findings = kit.findings_with(&mut inventory.findings);
    findings.extend(vms.iter().flat_map(|vm| concerns(&vm.vm)));
    findings.extend(silent_writers(&kit.ledgers, super::now()));
    kit.remember();
    let report = VmsReport { vault: kit.vault.id.clone(), vms, findings };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

/// Says so when an identity opens none of the bodies that there are.
pub(super) fn no_access_if_nothing_opens(
    inventory: &Inventory<'_>,
    identity: &std::path::Path,
) -> Result<(), CliError> {
    if inventory.had_bodies() && !inventory.opened_something() && inventory.findings.is_empty() {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "the identity {} opens nothing in this vault; give the one of the right vault, owner and role with --identity",
                identity.display()
            ),
        ));
    }
    Ok(())
}

fn print(report: &VmsReport) {
    if report.vms.is_empty() {
        output::line(
            "The vault holds no VM yet. Enroll a host with `lifeboat host enroll`, and run its agent.",
        );
    } else {
        let rows: Vec<Vec<String>> = report
            .vms
            .iter()
            .map(|vm| {
                vec![
                    output::plain(&vm.vm.name),
                    vm.vm.vm_id.clone(),
                    output::plain(&vm.newest.host),
                    vm.newest.captured.to_string(),
                    state(vm),
                    output::bytes(vm.newest.size_bytes),
                ]
            })
            .collect();
        output::table(&["NAME", "ID", "HOST", "CAPTURED", "VTPM STATE", "SIZE"], &rows);
        output::line(format!("{} VMs", report.vms.len()));
    }
    output::findings(&report.findings);
}

fn state(vm: &VmSummary) -> String {
    let pairing = match vm.vm.pairing {
        Pairing::None => match vm.vm.vtpm_sight() {
            VtpmSight::InGuestState => "in the guest state",
            VtpmSight::NotSeen => "NOT SEEN",
            VtpmSight::NotKnown => "not known",
            VtpmSight::Captured | VtpmSight::Off | VtpmSight::NoSign => "none",
        },
        Pairing::CapturedTogether => "with its VM key protector",
        Pairing::Mixed => "MIXED with its VM key protector",
        Pairing::KeyProtectorMissing => "VM KEY PROTECTOR MISSING",
        Pairing::Torn => "VM KEY PROTECTOR TORN",
        Pairing::Opens => "with its VM key protector, which opens",
    };
    // With --all the capture itself is found too, and its host's newest record only carries it.
    let is_carried = |carried: &lifeboat_schema::SnapshotSummary| {
        carried.writer == vm.newest.writer && carried.captured == vm.newest.captured
    };
    if vm.newest.carried.is_some() || vm.carried.as_ref().is_some_and(is_carried) {
        format!("{pairing}, carried forward")
    } else {
        pairing.to_owned()
    }
}
