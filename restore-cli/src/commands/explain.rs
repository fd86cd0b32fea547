//! `lifeboat explain`.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use lifeboat_engine::companions::newest_of_each;
use lifeboat_engine::explain::Facts;
use lifeboat_engine::inventory::{Inventory, choose, matches};
use lifeboat_schema::{
    ArtefactTopic, Exit, ExplainReport, ExplainedArtefact, Holding, Outcome, Recreatable, Role, WhatIf,
};

use super::Context;
use super::vms::no_access_if_nothing_opens;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Explains everything that a VM depends on: whether the vault holds it, what its loss or theft means, what to do today.
#[derive(clap::Args)]
pub(crate) struct Explain {
    /// Name or id of the VM.
    vm: String,
    /// Walks through the loss of these, where they lie now: what then?
    #[arg(
        long,
        value_name = "KIND",
        num_args = 1..,
        value_parser = PossibleValuesParser::new(ArtefactTopic::ALL.map(ArtefactTopic::word)).map(topic),
    )]
    lose: Vec<ArtefactTopic>,
}

fn topic(word: String) -> ArtefactTopic {
    let found = ArtefactTopic::ALL.into_iter().find(|topic| topic.word() == word);
    found.expect("only these words are possible values")
}

pub(crate) async fn run(context: &Context, arguments: &Explain) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let mut found = inventory.all().await?;
    let companions = newest_of_each(inventory.newest_companions().await?);
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    found.retain(|vm| matches(&vm.entry, &arguments.vm));
    let mut ids: Vec<&str> = found.iter().map(|vm| vm.entry.vm.vm_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        let text =
            format!("{} VMs are named {:?}; give the id of one: {}", ids.len(), arguments.vm, ids.join(", "));
        return Err(CliError::usage(text));
    }
    let first = found.iter().map(|vm| vm.entry.captured).min();
    // Whether the newest record only carries it.
    let carried = found.iter().max_by_key(|vm| (vm.record.finished, vm.record.seq)).and_then(|vm| vm.carried);
    let (Some(mut newest), Some(first)) = (choose(found, None), first) else {
        return Err(CliError::new(
            Exit::Failed,
            format!("no snapshot holds a VM {:?}; `lifeboat vms` lists what there is", arguments.vm),
        ));
    };
    newest.carried = carried;
    let findings = kit.findings_with(&mut inventory.findings);
    kit.remember();
    let facts = Facts::new(&newest, first, &companions);
    let report = ExplainReport {
        vault: kit.vault.id.clone(),
        newest: newest.summary(),
        artefacts: facts.explain(),
        what_if: (!arguments.lose.is_empty()).then(|| facts.what_if(&arguments.lose)),
        findings,
    };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

fn print(report: &ExplainReport) {
    let newest = &report.newest;
    output::line(format!(
        "{} ({}), captured {} on {}",
        output::plain(&newest.name),
        newest.vm_id,
        newest.captured,
        output::plain(&newest.host)
    ));
    match &report.what_if {
        Some(what_if) => print_what_if(what_if),
        None => report.artefacts.iter().for_each(print_artefact),
    }
    output::findings(&report.findings);
}

fn print_artefact(one: &ExplainedArtefact) {
    let holding = match one.holding {
        Holding::Held => "held",
        Holding::Partly => "PARTLY HELD",
        Holding::NotHeld => "NOT HELD",
        Holding::NotNeeded => "not needed",
        Holding::UnknownHere => "UNKNOWN HERE",
    };
    let since = one.since.map(|since| format!(" since {since}")).unwrap_or_default();
    output::line("");
    output::line(format!("{}  [{}]", one.name, one.topic.word()));
    output::line(format!("  {holding}{since}: {}", output::plain(&one.what)));
    if one.holding == Holding::NotNeeded {
        return;
    }
    let again = match one.recreatable {
        Recreatable::No => "no",
        Recreatable::Yes => "yes",
        Recreatable::IfIngredientsHeld => "if its ingredients are held",
    };
    output::line(format!("  to be had again: {again}: {}", one.how));
    output::line(format!("  if lost: {}", one.if_lost));
    if !one.if_stolen.is_empty() {
        output::line(format!("  if stolen: {}", one.if_stolen));
    }
    if !one.today.is_empty() {
        output::line(format!("  today: {}", one.today));
    }
}

fn print_what_if(what_if: &WhatIf) {
    let lost: Vec<&str> = what_if.lost.iter().map(|topic| topic.word()).collect();
    let outcome = match what_if.outcome {
        Outcome::Unharmed => "the VM goes on as it is",
        Outcome::Starts => "the VM starts again with its vTPM",
        Outcome::StartsAfterGrant => {
            "the VM starts again, once its owner has granted access to another guardian"
        }
        Outcome::DataByRecoverySecret => {
            "the vTPM is gone; the data come back where a recovery secret is kept"
        }
        Outcome::NoKnownWay => "NOTHING that is known here brings it back",
    };
    output::line(format!("Lost: {}", lost.join(", ")));
    output::line(format!("Then: {outcome} ({})", what_if.grade.word()));
    for step in &what_if.steps {
        output::line(format!("  {}: {}", step.grade.word(), output::plain(&step.text)));
    }
}
