//! `lifeboat guardian list`.

use lifeboat_engine::guardians::{known_guardians, not_understood};
use lifeboat_engine::inventory::{Inventory, by_vm};
use lifeboat_schema::{Exit, GuardianListReport, Role, VmName};

use super::super::vms::no_access_if_nothing_opens;
use super::super::{Context, now};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

pub(super) async fn run(context: &Context) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let vms = by_vm(inventory.newest().await?);
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    let findings = kit.findings_with(&mut inventory.findings);
    kit.remember();
    let report = GuardianListReport {
        vault: kit.vault.id.clone(),
        guardians: known_guardians(&vms, now()),
        not_understood: not_understood(&vms),
        findings,
    };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

fn print(report: &GuardianListReport) {
    if report.guardians.is_empty() {
        output::line("No captured VM key protector names an owner or guardian.");
    }
    for known in &report.guardians {
        let guardian = &known.guardian;
        let host = guardian.host.as_deref().map(|host| format!(" (made on {})", output::plain(host)));
        output::line(format!("{}{}", output::plain(&guardian.name), host.unwrap_or_default()));
        for (what, certificate) in [("signing", &guardian.signing), ("encryption", &guardian.encryption)] {
            output::line(format!(
                "  {what:<10}  {}  valid {} to {}",
                certificate.sha1, certificate.not_before, certificate.not_after
            ));
        }
        if known.is_expired {
            output::line("  expired: a guarded fabric does not check it, the cmdlets want -AllowExpired");
        }
        of_vms("owns", &known.owns);
        of_vms("can start", &known.guards);
        of_vms("named only by the last known good VM key protector of", &known.formerly);
    }
    of_vms_apart(&report.not_understood);
    output::line(format!("{} owners and guardians", report.guardians.len()));
    output::findings(&report.findings);
}

fn of_vms(what: &str, vms: &[VmName]) {
    if !vms.is_empty() {
        output::line(format!("  {what}: {}", names(vms)));
    }
}

fn of_vms_apart(vms: &[VmName]) {
    if !vms.is_empty() {
        output::line(format!("VM key protectors that are not understood: {}", names(vms)));
    }
}

fn names(vms: &[VmName]) -> String {
    let names: Vec<String> = vms.iter().map(|vm| output::plain(&vm.name)).collect();
    names.join(", ")
}
