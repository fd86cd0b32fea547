//! `lifeboat restore`.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use lifeboat_engine::inventory::{Found, Inventory, by_vm, choose, matches};
use lifeboat_engine::restore::{RestoreFailure, RestoreObserver, RestoreOptions, plan, restore};
use lifeboat_schema::{Exit, Finding, Grade, RestorePlan, RestoreReport, Role, Severity, Time};

use super::Context;
use super::vms::no_access_if_nothing_opens;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Brings a VM's files back in the layout of Export-VM, with a PowerShell script and a runbook.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// Name or id of the VM.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    vm: Option<String>,
    /// Every VM of the vault, each in its newest captured state.
    #[arg(long)]
    all: bool,
    /// Folder to put the VM's folder into.
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    to: Option<PathBuf>,
    /// Take the newest capture at this time or before, such as 2026-11-23T03:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Take the record whose id begins with this, even one that does not count because its ledger is forked or
    /// the policy does not allow it. Look at `lifeboat check` first.
    #[arg(long, value_name = "ID", conflicts_with_all = ["at", "all"])]
    record: Option<String>,
    /// Only show what would be done.
    #[arg(long)]
    plan: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Restore) -> Result<Exit, CliError> {
    let at = arguments.at.as_deref().map(|text| text.parse::<Time>()).transpose();
    let at = at.map_err(|error| CliError::usage(format!("--at: {error}")))?;
    let kit = Kit::open(&context.kit).await?;
    // A plan needs no more than the audit identity; files need the restore identity.
    let roles: &[Role] =
        if arguments.plan { &[Role::Restore, Role::Audit, Role::Escrow] } else { &[Role::Restore] };
    let identity = kit.one_identity(&context.kit, roles)?;
    let can_restore = identity.opens.iter().any(|(_, role)| *role == Role::Restore);
    if !arguments.plan && !can_restore {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "{} is not a restore identity of this vault; give one with --identity",
                identity.path.display()
            ),
        ));
    }
    let identities = Arc::new(identity.identities);
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identities);
    let mut found = match (&arguments.record, at) {
        (Some(id), _) if id.len() < 8 => {
            return Err(CliError::usage("--record needs 8 digits of the id at least"));
        }
        (Some(id), _) => inventory.of_record(&id.to_lowercase()).await?,
        (None, Some(_)) => inventory.all().await?,
        (None, None) => inventory.newest().await?,
    };
    // A VM may have dropped out of its host's newest record; older ones still bring it back.
    if let Some(wanted) = &arguments.vm
        && arguments.record.is_none()
        && !found.iter().any(|vm| matches(&vm.entry, wanted))
    {
        found = inventory.all().await?;
    }
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    let mut findings: Vec<_> = kit.ledgers.findings().cloned().collect();
    findings.append(&mut inventory.findings);
    let chosen = select(arguments, found, at).map_err(|error| perhaps_damaged(error, &findings))?;
    kit.remember();

    if arguments.plan {
        let plans: Vec<RestorePlan> =
            chosen.iter().map(|(found, because)| plan(found, because, can_restore)).collect();
        if context.json {
            output::json(&plans);
        } else {
            plans.iter().for_each(print_plan);
        }
        output::findings(&findings);
        return Ok(Exit::of(&findings));
    }
    if !context.json
        && let [(found, because)] = chosen.as_slice()
    {
        print_plan(&plan(found, because, can_restore));
    }
    let to = arguments.to.clone().ok_or_else(|| CliError::usage("--to names the folder to write into"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = Bar(output::progress("Restoring"));
    let restored = restore(&kit.vault, &chosen, &identities, &RestoreOptions { to, threads }, &bar).await;
    bar.0.finish_and_clear();
    let restored = restored?;
    findings.extend(restored.failures.iter().map(not_restored));
    let report = RestoreReport { vault: kit.vault.id.clone(), restored: restored.vms, findings };
    if context.json {
        output::json(&report);
    } else {
        print(&report);
    }
    Ok(Exit::of(&report.findings))
}

/// What is not found in a damaged vault may be what was damaged.
fn perhaps_damaged(error: CliError, findings: &[Finding]) -> CliError {
    match findings.iter().find(|finding| finding.severity == Severity::Damage) {
        Some(damage) if error.exit == Exit::Failed => CliError::new(
            Exit::Damage,
            format!("{error}. That may be because of damage: {}: {}", damage.place, damage.what),
        ),
        _ => error,
    }
}

/// The snapshots to restore, each with the rule that chose it.
fn select(
    arguments: &Restore,
    mut found: Vec<Found>,
    at: Option<Time>,
) -> Result<Vec<(Found, String)>, CliError> {
    let because = match at {
        _ if arguments.record.is_some() => "its record was named on the command line".to_owned(),
        Some(at) => format!("it is the newest captured state at {at} or before"),
        None => "it is the newest captured state in the vault".to_owned(),
    };
    found.retain(|vm| at.is_none_or(|at| vm.entry.captured <= at));
    let Some(wanted) = &arguments.vm else {
        let all: Vec<_> = by_vm(found).into_iter().map(|state| (state.newest, because.clone())).collect();
        if all.is_empty() {
            return Err(CliError::new(Exit::Failed, "the vault holds no VM to restore"));
        }
        return Ok(all);
    };
    found.retain(|vm| matches(&vm.entry, wanted));
    let mut ids: Vec<&str> = found.iter().map(|vm| vm.entry.vm.vm_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        return Err(CliError::usage(format!(
            "{} VMs are named {wanted:?}; give the id of one: {}",
            ids.len(),
            ids.join(", ")
        )));
    }
    match choose(found, at) {
        Some(vm) => Ok(vec![(vm, because)]),
        None => Err(CliError::new(
            Exit::Failed,
            format!(
                "no snapshot{} holds a VM {wanted:?}; `lifeboat snapshots` lists what there is",
                at.map(|at| format!(" at {at} or before")).unwrap_or_default()
            ),
        )),
    }
}

/// VMs that stayed away while others came back.
fn not_restored(failure: &RestoreFailure) -> Finding {
    let names: Vec<String> = failure.vms.iter().map(|(name, id)| format!("{name} ({id})")).collect();
    Finding::new(
        Severity::Damage,
        "not-restored",
        names.join(", "),
        failure.error.to_string(),
        "the others are restored; for these name an older time with `lifeboat restore VM --at`, which `lifeboat snapshots` lists, or bring the object back from a mirror",
    )
}

struct Bar(ProgressBar);

impl RestoreObserver for Bar {
    fn planned(&self, _: u64, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn written(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

fn print_plan(plan: &RestorePlan) {
    let snapshot = &plan.snapshot;
    output::line(format!("Plan for {} ({})", output::plain(&plan.vm.name), plan.vm.vm_id));
    for need in &plan.identities {
        let here = if need.here { "here" } else { "not given" };
        output::line(format!("  identity: {} ({here}): {}", need.role, need.what_for));
    }
    for first in &plan.first {
        output::line(format!("  first: {}", output::plain(first)));
    }
    output::line(format!(
        "  snapshot: captured {} on {}, record {}, chosen because {}",
        snapshot.captured,
        output::plain(&snapshot.host),
        snapshot.seq,
        plan.chosen_because
    ));
    for file in &plan.files {
        output::line(format!("  file: {} ({})", output::plain(&file.path), output::bytes(file.size)));
    }
    for statement in &plan.statements {
        let grade = match statement.grade {
            Grade::Known => "known",
            Grade::Likely => "likely",
            Grade::UnknownHere => "unknown here",
        };
        output::line(format!("  {grade}: {}", output::plain(&statement.text)));
    }
    for needed in &plan.needed_from_elsewhere {
        output::line(format!("  from elsewhere: {}", output::plain(needed)));
    }
}

fn print(report: &RestoreReport) {
    for vm in &report.restored {
        output::line(format!(
            "Restored {}: {} files, {}, every byte compared with its signed digest",
            output::plain(&vm.name),
            vm.files,
            output::bytes(vm.bytes)
        ));
        if report.restored.len() == 1 {
            output::line(format!("  folder:  {}", vm.folder));
        }
    }
    if report.restored.len() > 1 {
        output::line(format!("{} VMs restored, each in its folder", report.restored.len()));
    }
    if let Some(vm) = report.restored.first() {
        output::line(format!("  script:  {}", vm.script));
        output::line(format!("  runbook: {}   <- read this next", vm.runbook));
    }
    output::findings(&report.findings);
}
