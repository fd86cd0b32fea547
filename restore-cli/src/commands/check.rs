//! `lifeboat check`.

use std::collections::BTreeSet;
use std::sync::Arc;

use indicatif::ProgressBar;
use lifeboat_engine::concern::Concerns;
use lifeboat_engine::silence::silent_writers;
use lifeboat_schema::{BodyHead, CheckSummary, CompanionEntry, Exit, Role, VmEntry};
use lifeboat_vault::check::{CheckObserver, CheckOptions, RoleIdentity};
use lifeboat_vault::seal::Identities;

use super::Context;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;
use crate::secrets::read_identities;

/// Checks the vault: signatures, chains and sizes always; with identities that each opens what it should;
/// with --read-data every byte.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// Read every object and compare every byte with the signed digests.
    #[arg(long)]
    read_data: bool,
    /// Use no identity, even if some are in the kit.
    #[arg(long, conflicts_with = "identity")]
    keyless: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Check) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let held = if arguments.keyless { Vec::new() } else { kit.identities(&context.kit, Role::ALL)? };
    let mut identities = Vec::new();
    for held in held {
        if held.opens.is_empty() {
            return Err(CliError::new(
                Exit::NoAccess,
                format!(
                    "the identity {} opens nothing in this vault; leave it out or give the right one",
                    held.path.display()
                ),
            ));
        }
        let mut first: Option<Identities> = Some(held.identities);
        for (owner, role) in held.opens {
            // An identity that serves several owners or roles is checked for each.
            let identities_of_role = match first.take() {
                Some(identities) => identities,
                None => read_identities(&held.path, &context.kit.passphrases)?,
            };
            identities.push(RoleIdentity { owner, role, identities: identities_of_role });
        }
    }
    let roles: BTreeSet<Role> = identities.iter().map(|identity| identity.role).collect();
    let of_vms = Arc::new(Concerns::default());
    let told = Arc::clone(&of_vms);
    let on_vm = move |head: &BodyHead, vm: &VmEntry| told.add(head, vm);
    let told = Arc::clone(&of_vms);
    let on_companion = move |head: &BodyHead, one: &CompanionEntry| told.add_companion(head, one);
    let options = CheckOptions {
        read_data: arguments.read_data,
        identities,
        on_vm: Some(Box::new(on_vm)),
        on_companion: Some(Box::new(on_companion)),
    };
    let bar = Bar(output::progress("Checking"));
    let report = kit.vault.check(&kit.ledgers, options, &bar).await;
    bar.0.finish_and_clear();
    let mut report = report?;
    report.findings.extend(of_vms.of_newest(&kit.ledgers));
    report.findings.extend(silent_writers(&kit.ledgers, super::now()));
    kit.remember();
    let summary = CheckSummary {
        vault: kit.vault.id.clone(),
        read_data: arguments.read_data,
        roles: roles.into_iter().collect(),
        ledgers: report.ledgers,
        records: report.records,
        objects: report.objects,
        object_bytes: report.object_bytes,
        objects_read: report.objects_read,
        objects_opened: report.objects_opened,
        artefacts_verified: report.artefacts_verified,
        unreferenced: report.unreferenced,
        worst: report.findings.iter().map(|finding| finding.severity).max(),
        findings: report.findings,
    };
    let exit = Exit::of(&summary.findings);
    if context.json {
        output::json(&summary);
    } else {
        print(&summary, exit);
    }
    Ok(exit)
}

struct Bar(ProgressBar);

impl CheckObserver for Bar {
    fn planned(&self, _: u64, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn object_done(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

fn print(summary: &CheckSummary, exit: Exit) {
    output::findings(&summary.findings);
    output::line(format!(
        "{} records in {} ledgers, {} objects with {}.",
        summary.records,
        summary.ledgers,
        summary.objects,
        output::bytes(summary.object_bytes)
    ));
    let roles: Vec<&str> = summary.roles.iter().map(|role| role.as_str()).collect();
    let who =
        if roles.is_empty() { "without identities".to_owned() } else { format!("as {}", roles.join(", ")) };
    if summary.read_data {
        output::line(format!(
            "{} objects were read {who}, {} of them opened; {} files are there byte for byte.",
            summary.objects_read, summary.objects_opened, summary.artefacts_verified
        ));
    } else {
        output::line(format!(
            "Sizes of all objects were compared, {} bodies were read {who}. --read-data compares every byte.",
            summary.objects_read
        ));
    }
    output::line(match exit {
        Exit::Done => "The vault is in order as far as this check reaches.",
        Exit::Damage => "The vault is DAMAGED or was tampered with, see above.",
        _ => "The vault is in order; someone should look at the findings above.",
    });
}
