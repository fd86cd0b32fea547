//! `lifeboat audit`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use lifeboat_audit::{
    AuditError, AuditPolicy, Catalog, Fabric, Only, audit, html, read, vms_csv, volumes_csv,
};
use lifeboat_schema::{
    AuditCode, AuditLevel, AuditReport, AuditState, AuditedVm, CanStart, CompromisedReport, Digest, Exit,
    NamedAs, Retire, Role, StolenKey, VtpmAnswer,
};

use super::{Context, is_there, now, write_private};
use crate::error::CliError;
use crate::kit::{HeldIdentity, Kit};
use crate::output;

/// Lists which VMs and volumes could not be brought back today, why, and what to do; ends with 3 below the bar.
///
/// Reads metadata alone: the audit identity suffices. Volume states: PROVEN-DATA, PROVEN-KEY, ESCROWED, STALE-BUT-OPENS,
/// STALE-USELESS, MISMATCHED, MISSING, NO-RECOVERY-PROTECTOR, AUTO-UNLOCK-ONLY, EXPOSED, OTHER-ENCRYPTION, UNREADABLE.
/// docs/audit.md defines them, the codes of VMs and the policy file.
#[derive(clap::Args)]
pub(crate) struct Audit {
    /// Only VMs of this owner: its name or id, or its owner guardian's name or thumbprint.
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// Only VMs on this host: its name.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only this VM: its name or id.
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    /// Only VMs of this state or code, such as MISSING or CIRCULAR; may be given again.
    #[arg(long, value_name = "STATE", value_parser = word)]
    state: Vec<String>,
    /// Only VMs whose vTPM state was last seen longer ago than this, such as 7d or 36h.
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<u64>,
    /// Guardian metadata of a fabric, such as its HGS's metadata.xml: can it start them? May be given again.
    #[arg(long, value_name = "FILE")]
    fabric: Vec<PathBuf>,
    /// Thumbprint of a certificate whose key is stolen: what it opens, what trusts it, what to retire.
    #[arg(long, value_name = "THUMBPRINT", value_parser = thumbprint)]
    compromised: Option<String>,
    /// What counts, maximum ages, dependencies and exceptions (TOML).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Lists VMs in order too.
    #[arg(long)]
    all: bool,
    /// Answers as comma-separated values.
    #[arg(long, value_name = "WHAT", conflicts_with = "json")]
    csv: Option<Csv>,
    /// Writes the report as one HTML file, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Cache of what was read [default: in the kit; in memory where that cannot be written].
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Reads everything anew.
    #[arg(long)]
    rebuild: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Csv {
    /// A line for each VM.
    Vms,
    /// A line for each volume.
    Volumes,
}

fn word(text: &str) -> Result<String, String> {
    let states = AuditState::ALL.map(AuditState::word);
    let codes = AuditCode::ALL.map(AuditCode::word);
    let mut words = states.iter().chain(&codes);
    match words.find(|word| word.eq_ignore_ascii_case(text)) {
        Some(word) => Ok((*word).to_owned()),
        None => Err(format!("give one of {}, {}", states.join(", "), codes.join(", "))),
    }
}

/// Seconds of an age.
fn age(text: &str) -> Result<u64, String> {
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
        .unwrap_or((text, 86_400));
    let count: Option<u64> = digits.parse().ok();
    count
        .and_then(|count| count.checked_mul(factor))
        .ok_or_else(|| "give days, such as 7d, or hours, such as 36h".to_owned())
}

fn thumbprint(text: &str) -> Result<String, String> {
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    let is_plain = text.chars().all(|one| one.is_ascii_hexdigit() || " :-".contains(one));
    match is_plain && matches!(digits, 40 | 64) {
        true => Ok(text.to_owned()),
        false => Err("a thumbprint has 40 hexadecimal digits (SHA-1) or 64 (SHA-256)".to_owned()),
    }
}

pub(crate) async fn run(context: &Context, arguments: &Audit) -> Result<Exit, CliError> {
    let policy = policy(arguments.policy.as_deref())?;
    let fabrics = arguments
        .fabric
        .iter()
        .map(|path| super::restore::given::guardian(path).map(|one| Fabric::of(&one)))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = arguments.html.as_deref().filter(|path| path.symlink_metadata().is_ok()) {
        return Err(is_there(path));
    }
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut catalog = catalog(context, arguments, &kit, &identity)?;
    let facts =
        read(&kit.vault, &kit.ledgers, &identity.identities, &mut catalog, arguments.compromised.is_some())
            .await?;
    if facts.had_bodies && !facts.opened_something && facts.findings.is_empty() {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "the identity {} opens nothing in this vault; give the one of the right vault, owner and role with --identity",
                identity.path.display()
            ),
        ));
    }
    let only = Only {
        owner: arguments.owner.clone(),
        host: arguments.host.clone(),
        vm: arguments.vm.clone(),
        states: arguments.state.clone(),
        older_than_seconds: arguments.older_than,
        compromised: arguments.compromised.clone(),
    };
    let mut report = audit(&kit.vault.id, &facts, &fabrics, &policy, &only, now());
    report.findings = kit.findings_with(&mut report.findings);
    kit.remember();
    if let Some(path) = &arguments.html {
        write_private(path, html(&report).as_bytes())?;
        output::note(format!("The report is in {}", output::path(path)));
    }
    match arguments.csv {
        Some(Csv::Vms) => output::text(&vms_csv(&report)),
        Some(Csv::Volumes) => output::text(&volumes_csv(&report)),
        None => context.answer(&report, |report| print(report, arguments)),
    }
    let of_vault = Exit::of(&report.findings);
    let below = if report.totals.counted > 0 { Exit::Findings } else { Exit::Done };
    Ok(of_vault.max(below))
}

fn policy(path: Option<&Path>) -> Result<AuditPolicy, CliError> {
    let Some(path) = path else { return Ok(AuditPolicy::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| CliError::file(path, "read", &error))?;
    AuditPolicy::parse(&text)
        .map_err(|error| CliError::usage(format!("the policy {} is refused: {error}", path.display())))
}

/// The catalog of this reader: another identity opens other bodies.
fn catalog(
    context: &Context,
    arguments: &Audit,
    kit: &Kit,
    identity: &HeldIdentity,
) -> Result<Catalog, CliError> {
    let mut reader: Vec<String> = identity.identities.recipients().iter().map(ToString::to_string).collect();
    reader.sort();
    if reader.is_empty() {
        // A plugin's identity does not tell its recipient.
        reader.push(identity.path.display().to_string());
    }
    let reader = Digest::of(reader.join("\n").as_bytes()).to_string();
    let own = context.kit.kit.join(format!("audit-{}.sqlite", &reader[..12]));
    let path = arguments.catalog.as_ref().unwrap_or(&own);
    let mut catalog = match Catalog::open(path, &kit.vault.id, &reader) {
        Err(AuditError::Private { source, .. })
            if arguments.catalog.is_none()
                && matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            output::note(format!(
                "note: {} cannot be written ({source}): every audit from here reads the whole vault; --catalog names another place",
                output::path(path)
            ));
            Catalog::in_memory(&kit.vault.id, &reader)?
        }
        other => other?,
    };
    if arguments.rebuild {
        catalog.clear()?;
    }
    Ok(catalog)
}

/// Longest bar of the coverage.
const BAR_CHARACTERS: u64 = 40;
/// VMs whose findings are written out, each with its next step; of more the steps are counted.
const MAX_VMS_IN_FULL: usize = 20;

fn print(report: &AuditReport, arguments: &Audit) {
    print_totals(report);
    let wanted = |vm: &&AuditedVm| arguments.all || vm.level >= AuditLevel::Finding || report.vms.len() == 1;
    let vms: Vec<&AuditedVm> = report.vms.iter().filter(wanted).collect();
    if !vms.is_empty() {
        output::line("");
        print_table(report, &vms);
        output::line("");
        if vms.len() <= MAX_VMS_IN_FULL {
            vms.iter().for_each(|vm| print_vm(vm));
        } else {
            print_steps(&vms);
        }
    }
    for finding in &report.general {
        output::line(format!(
            "{} {}: {}",
            output::paint_line(finding.code.word(), colour(finding.level)),
            level(finding.level),
            output::plain(&finding.what)
        ));
        output::line(format!("  next: {}", finding.next));
    }
    if let Some(compromised) = &report.compromised {
        print_compromised(compromised);
    }
    output::findings(&report.findings);
}

fn print_totals(report: &AuditReport) {
    let totals = &report.totals;
    if !report.only.is_empty() {
        output::line(format!("Only {}", output::plain(&report.only.join(" "))));
    }
    output::line(format!(
        "{} VMs: {} in order, {} need someone. {} volumes that are or may be encrypted, {} that are not.",
        totals.vms,
        totals.vms_good,
        totals.vms - totals.vms_good,
        totals.volumes,
        totals.volumes_plain
    ));
    for state in AuditState::ALL {
        let count = totals.states.get(state.word()).copied().unwrap_or_default();
        if count > 0 {
            let bar = (count * BAR_CHARACTERS).div_ceil(totals.volumes.max(1));
            let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
            output::line(format!("  {state:<22}{count:>6}  {bar}"));
        }
    }
    for (code, count) in &totals.codes {
        output::line(format!("  {code:<22}{count:>6}"));
    }
    let verdict = match (totals.counted, totals.excepted) {
        (0, 0) => "Nothing counts: at or above the bar.".to_owned(),
        (0, excepted) => format!("At or above the bar, with {excepted} exceptions."),
        (counted, 0) => format!("BELOW THE BAR: {counted} findings."),
        (counted, excepted) => format!("BELOW THE BAR: {counted} findings, and {excepted} exceptions."),
    };
    output::line(output::paint_line(&verdict, if totals.counted > 0 { "31;1" } else { "32" }));
}

fn level(level: AuditLevel) -> &'static str {
    match level {
        AuditLevel::Finding => "FINDING",
        AuditLevel::Excepted => "excepted",
        AuditLevel::Note => "note",
        AuditLevel::Good => "good",
    }
}

fn colour(level: AuditLevel) -> &'static str {
    match level {
        AuditLevel::Finding => "31",
        AuditLevel::Excepted => "33",
        AuditLevel::Note => "2",
        AuditLevel::Good => "32",
    }
}

fn age_words(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn print_table(report: &AuditReport, vms: &[&AuditedVm]) {
    let mut header = vec!["", "VM", "HOST", "VTPM", "VOLUMES", "FINDINGS"];
    let names: Vec<String> =
        report.fabrics.iter().map(|name| format!("AT {}", output::plain(name))).collect();
    header.extend(names.iter().map(String::as_str));
    let rows: Vec<(&str, Vec<String>)> = vms
        .iter()
        .map(|vm| {
            let mut cells = vec![
                level(vm.level).to_owned(),
                output::plain(&vm.name),
                output::plain(&vm.host),
                vtpm(vm),
                volumes(vm),
                codes(vm),
            ];
            cells.extend(vm.can_start_at.iter().map(|one| start(one.answer).to_owned()));
            (colour(vm.level), cells)
        })
        .collect();
    output::coloured_table(&header, &rows);
}

fn vtpm(vm: &AuditedVm) -> String {
    match (vm.vtpm, vm.vtpm_age_seconds) {
        (VtpmAnswer::None, _) => "none".to_owned(),
        (VtpmAnswer::Held, Some(seconds)) => age_words(seconds),
        (VtpmAnswer::Held, None) => "held".to_owned(),
        (VtpmAnswer::NotSeen, _) => "NOT SEEN".to_owned(),
        (VtpmAnswer::NotKnown, _) => "not known".to_owned(),
    }
}

fn volumes(vm: &AuditedVm) -> String {
    let mut counts: BTreeMap<AuditState, usize> = BTreeMap::new();
    for volume in &vm.volumes {
        *counts.entry(volume.state).or_default() += 1;
    }
    let words = counts.iter().map(|(state, count)| match count {
        1 => state.to_string(),
        more => format!("{more}x {state}"),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn codes(vm: &AuditedVm) -> String {
    let counting = vm.findings.iter().filter(|one| one.level >= AuditLevel::Excepted);
    let words: Vec<&str> = counting.map(|one| one.code.word()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn start(answer: CanStart) -> &'static str {
    match answer {
        CanStart::NoneNeeded => "-",
        CanStart::Yes => "yes",
        CanStart::No => "NO",
        CanStart::Unknown => "unknown",
    }
}

fn print_vm(vm: &AuditedVm) {
    output::line(format!(
        "{} ({}), captured {} on {}; owner {}; guardians {}; last drill: never",
        output::plain(&vm.name),
        vm.vm_id,
        vm.captured,
        output::plain(&vm.host),
        listed(&vm.owner_guardians),
        listed(&vm.guardians)
    ));
    for volume in &vm.volumes {
        let number = volume.number.map(|number| format!(", volume {number}")).unwrap_or_default();
        output::line(format!(
            "  {} {}{number}: {}",
            output::paint_line(volume.state.word(), colour(volume.level)),
            output::plain(&volume.disk),
            output::plain(&volume.why)
        ));
        print_next(&volume.next, volume.exception.as_deref());
    }
    for finding in &vm.findings {
        output::line(format!(
            "  {} {}",
            output::paint_line(finding.code.word(), colour(finding.level)),
            output::plain(&finding.what)
        ));
        print_next(&finding.next, finding.exception.as_deref());
    }
}

fn print_next(next: &str, exception: Option<&str>) {
    if let Some(exception) = exception {
        output::line(format!("    excepted by {}", output::plain(exception)));
    } else if !next.is_empty() {
        output::line(format!("    next: {next}"));
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { output::plain(&names.join(", ")) }
}

/// The next steps of many VMs, each once.
fn print_steps(vms: &[&AuditedVm]) {
    let mut steps: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for vm in vms {
        for volume in vm.volumes.iter().filter(|one| one.level == AuditLevel::Finding) {
            *steps.entry((volume.state.word(), &volume.next)).or_default() += 1;
        }
        for finding in vm.findings.iter().filter(|one| one.level == AuditLevel::Finding) {
            *steps.entry((finding.code.word(), &finding.next)).or_default() += 1;
        }
    }
    output::line(
        "What to do (--vm NAME and --state STATE tell the reason of each; --html and --csv list all):",
    );
    for ((word, next), count) in steps {
        output::line(format!("  {count:>5}  {word}: {next}"));
    }
}

fn print_compromised(report: &CompromisedReport) {
    output::line("");
    output::line(format!("The key of the certificate {}:", report.thumbprint));
    for one in &report.guardians {
        let key = match one.key {
            StolenKey::Encryption => "opens VM key protectors",
            StolenKey::Signing => "signs VM key protectors, and opens none",
        };
        output::line(format!("  of {}: it {key}", output::plain(&one.guardian.name)));
    }
    for one in &report.vms {
        let named = match one.named_as {
            NamedAs::Owner => "owner",
            NamedAs::Guardian => "guardian",
            NamedAs::LastKnownGood => "in its last known good VM key protector",
        };
        output::line(format!("  VM {} ({}): {named}", output::plain(&one.vm.name), one.vm.vm_id));
    }
    for one in &report.snapshots {
        let retire = match (one.retire, one.locked_until) {
            (Retire::Now, _) => "retire it now".to_owned(),
            (Retire::AfterLock, Some(until)) => format!("retire it after {until}"),
            (Retire::AfterLock, None) => "retire it after its lock".to_owned(),
            (Retire::AfterRekey, Some(until)) => {
                format!("re-key the VM and capture it first; locked until {until}")
            }
            (Retire::AfterRekey, None) => "re-key the VM and capture it first".to_owned(),
        };
        output::line(format!(
            "  snapshot of {} captured {} on {} (records {} to {}): {retire}",
            output::plain(&one.vm.name),
            one.captured,
            output::plain(&one.host),
            one.records.0,
            one.records.1
        ));
    }
    for one in &report.companions {
        output::line(format!(
            "  {} {} on {}: {}; {}",
            one.kind,
            output::plain(&one.name),
            output::plain(&one.host),
            one.how,
            one.next
        ));
    }
    for (number, step) in report.next.iter().enumerate() {
        output::line(format!("  {}. {step}", number + 1));
    }
}
