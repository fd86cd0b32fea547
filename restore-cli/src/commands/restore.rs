//! `lifeboat restore`.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use lifeboat_engine::guardians::known_fabrics;
use lifeboat_engine::inventory::{Found, Inventory, by_vm, choose, matches};
use lifeboat_engine::restore::{
    Circumstances, RestoreFailure, RestoreObserver, RestoreOptions, choose_for, plan, plan_without_capture,
    restore, vms_of_disks,
};
use lifeboat_schema::{
    Exit, Finding, PlanVerdict, RestorePlan, RestoreReport, Role, Severity, Time, Verdict,
};

use self::given::Given;
use super::vms::no_access_if_nothing_opens;
use super::{Context, now};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

pub(crate) mod given;

/// Brings a VM's files back in the layout of Export-VM, with a PowerShell script and a runbook.
///
/// The plan comes first, and says what it rests on: whether the originals survive (--survey), which snapshot fits the disks
/// (--disk), and whether the target can open the VM (--fabric, --target). Whole originals are not overwritten by older state:
/// then nothing is written.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// Name or id of the VM; found by its disks where they are given.
    #[arg(required_unless_present_any = ["all", "disk"], conflicts_with = "all")]
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
    #[command(flatten)]
    given: Given,
}

impl Restore {
    /// Tells whether the snapshot is ours to choose.
    fn is_free(&self) -> bool {
        !self.all && self.at.is_none() && self.record.is_none()
    }
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
    let mut given = arguments.given.read(can_restore, now())?;
    let identities = Arc::new(identity.identities);
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identities);
    let mut found = match (&arguments.record, at) {
        (Some(id), _) if id.len() < 8 => {
            return Err(CliError::usage("--record needs 8 digits of the id at least"));
        }
        (Some(id), _) => inventory.of_record(&id.to_lowercase()).await?,
        (None, Some(_)) => inventory.all().await?,
        // Disks may be of any capture.
        (None, None) if !given.disks.is_empty() => inventory.all().await?,
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
    if given.fabric.is_none() {
        given.known_fabrics = known_fabrics(&inventory.newest_companions().await?);
    }
    let mut findings = kit.findings_with(&mut inventory.findings);
    let chosen = select(arguments, found, at, &mut given);
    let mut chosen = chosen.map_err(|error| perhaps_damaged(error, &findings))?;
    // Of one VM an older capture may do where the newest does not.
    if let [(newest, because)] = chosen.as_slice()
        && arguments.is_free()
        && !plan(newest, because, &given).verdict.obstacles.is_empty()
    {
        let mut all = inventory.all().await?;
        findings.append(&mut inventory.findings);
        // Another VM of that name, long gone, is not meant.
        all.retain(|one| one.entry.vm.vm_id == newest.entry.vm.vm_id);
        chosen = select(arguments, all, at, &mut given).map_err(|error| perhaps_damaged(error, &findings))?;
    }
    kit.remember();

    if arguments.plan {
        let plans: Vec<RestorePlan> =
            chosen.iter().map(|(found, because)| plan(found, because, &given)).collect();
        if context.json {
            output::json(&plans);
        } else {
            plans.iter().for_each(print_plan);
        }
        output::findings(&findings);
        return Ok(plans.iter().map(|plan| exit_of(&plan.verdict)).fold(Exit::of(&findings), Exit::max));
    }
    let mut verdict = Exit::Done;
    if let [(found, because)] = chosen.as_slice() {
        let plan = plan(found, because, &given);
        verdict = exit_of(&plan.verdict);
        if !context.json {
            print_plan(&plan);
        }
        if plan.verdict.verdict == Verdict::RegisterOriginals {
            return Err(CliError::new(
                Exit::Findings,
                format!(
                    "nothing was written: {} {} To write the older state all the same, leave out --survey",
                    plan.verdict.text, plan.verdict.next_text
                ),
            ));
        }
    }
    let to = arguments.to.clone().ok_or_else(|| CliError::usage("--to names the folder to write into"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = RestoreOptions { to, threads, given };
    let bar = Bar(output::progress("Restoring"));
    let restored = restore(&kit.vault, &chosen, &identities, &options, &bar).await;
    bar.0.finish_and_clear();
    let restored = restored?;
    findings.extend(restored.failures.iter().map(not_restored));
    let report = RestoreReport { vault: kit.vault.id.clone(), restored: restored.vms, findings };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings).max(verdict))
}

/// A plan that cannot bring the VM back needs somebody's eyes.
fn exit_of(verdict: &PlanVerdict) -> Exit {
    match verdict.verdict {
        Verdict::Cannot | Verdict::RecoverDisk => Exit::Findings,
        _ => Exit::Done,
    }
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
    given: &mut Circumstances,
) -> Result<Vec<(Found, String)>, CliError> {
    let because = match at {
        _ if arguments.record.is_some() => "its record was named on the command line".to_owned(),
        Some(at) => format!("it is the newest captured state at {at} or before"),
        None => "it is the newest captured state in the vault".to_owned(),
    };
    found.retain(|vm| at.is_none_or(|at| vm.entry.captured <= at));
    if arguments.all {
        let all: Vec<_> = by_vm(found).into_iter().map(|state| (state.newest, because.clone())).collect();
        if all.is_empty() {
            return Err(CliError::new(Exit::Failed, "the vault holds no VM to restore"));
        }
        return Ok(all);
    }
    let wanted = match &arguments.vm {
        Some(wanted) => wanted.clone(),
        None => vm_of_disks(&found, given)?,
    };
    found.retain(|vm| matches(&vm.entry, &wanted));
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
    // An id that no capture has may still be that of files or disks.
    let id =
        ids.first().map_or_else(|| wanted.trim_matches(['{', '}']).to_lowercase(), |id| (*id).to_owned());
    if given.survey.is_none() {
        given.survey = arguments.given.survey(&id);
    }
    let chosen = if arguments.is_free() {
        choose_for(&found, given).map(|(vm, rule)| (vm, rule.because().to_owned()))
    } else {
        choose(found, at).map(|vm| (vm, because))
    };
    if let Some(chosen) = chosen {
        return Ok(vec![chosen]);
    }
    let mut text = format!(
        "no snapshot{} holds a VM {wanted:?}; `lifeboat snapshots` lists what there is",
        at.map(|at| format!(" at {at} or before")).unwrap_or_default()
    );
    if given.survey.is_some() || !given.disks.is_empty() {
        let verdict = plan_without_capture(&wanted, given);
        text = format!("{text}. {} {}", verdict.text, verdict.next_text);
    }
    Err(CliError::new(Exit::Failed, text))
}

/// The VM whose captures hold the given disks.
fn vm_of_disks(found: &[Found], given: &Circumstances) -> Result<String, CliError> {
    let unread: Vec<String> =
        given.disks.iter().filter_map(|disk| disk.head.as_ref().err().cloned()).collect();
    match vms_of_disks(found, given).as_slice() {
        [id] => Ok(id.clone()),
        [] if !unread.is_empty() => {
            Err(CliError::new(Exit::Failed, format!("no disk can be read: {}", unread.join("; "))))
        }
        [] => {
            let verdict = plan_without_capture("", given);
            let text = format!("no snapshot holds these disks. {} {}", verdict.text, verdict.next_text);
            Err(CliError::new(Exit::Failed, text))
        }
        several => {
            Err(CliError::usage(format!("these disks are of several VMs; name one: {}", several.join(", "))))
        }
    }
}

/// VMs that stayed away while others came back.
fn not_restored(failure: &RestoreFailure) -> Finding {
    let names: Vec<String> = failure.vms.iter().map(|(name, id)| format!("{name} ({id})")).collect();
    if failure.error.is_refused_name() {
        return Finding::new(
            Severity::Warning,
            "not-restored",
            names.join(", "),
            format!("the file system there does not take a name of theirs: {}", failure.error),
            "the others are restored; restore these to another file system",
        );
    }
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
        let here = if need.here { "here" } else { "not looked for" };
        output::line(format!("  identity: {} ({here}): {}", need.role, need.what_for));
    }
    for first in &plan.first {
        output::line(format!("  first: {}", output::plain(first)));
    }
    let verdict = &plan.verdict;
    output::line(format!("  verdict ({}): {}", verdict.grade.word(), output::plain(&verdict.text)));
    for obstacle in &verdict.obstacles {
        output::line(format!("  in the way: {}", output::plain(obstacle)));
    }
    output::line(format!("  next: {}", output::plain(&verdict.next_text)));
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
        output::line(format!("  {}: {}", statement.grade.word(), output::plain(&statement.text)));
    }
    for way in &plan.ways {
        output::line(format!("  way ({}): {}", way.grade.word(), output::plain(&way.title)));
        for (number, step) in (1..).zip(&way.steps) {
            output::line(format!("    {number}. {}", output::plain(step)));
        }
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
