//! `lifeboat artefacts`: what is kept beside VMs, and getting it back.

use std::path::PathBuf;

use lifeboat_engine::companions::{newest_of_each, summary, write};
use lifeboat_engine::inventory::{FoundCompanion, Inventory, by_vm};
use lifeboat_schema::{ArtefactsReport, Class, CompanionSummary, Exit, GotArtefact, Role};

use super::Context;
use super::vms::no_access_if_nothing_opens;
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Works with artefacts beside VMs: shielding data, catalogs, guardians, keys, HGS exports, template disks.
#[derive(clap::Subcommand)]
pub(crate) enum Artefacts {
    /// Lists them, with the VMs that each serves.
    List(List),
    /// Writes one back, byte for byte as it was captured. Private keys need the escrow identity.
    Get(Get),
}

/// Lists artefacts beside VMs.
#[derive(clap::Args)]
pub(crate) struct List {
    /// List those of older records too, which their host's newest record no longer has.
    #[arg(long)]
    all: bool,
}

/// Writes one artefact back.
#[derive(clap::Args)]
pub(crate) struct Get {
    /// Its id, as `artefacts list` shows it, or its file's name where that is one.
    #[arg(value_name = "ID")]
    id: String,
    /// Host that captured it, where several have one with this id (name or writer id).
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Folder to write into; nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(crate) async fn run(context: &Context, command: &Artefacts) -> Result<Exit, CliError> {
    match command {
        Artefacts::List(arguments) => list(context, arguments).await,
        Artefacts::Get(arguments) => get(context, arguments).await,
    }
}

async fn list(context: &Context, arguments: &List) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Audit, Role::Restore, Role::Escrow])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let vms = by_vm(inventory.newest().await?);
    let found =
        if arguments.all { inventory.all_companions().await? } else { inventory.newest_companions().await? };
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    let companions: Vec<CompanionSummary> =
        newest_of_each(found).iter().map(|one| summary(one, &vms)).collect();
    let mut findings = kit.findings_with(&mut inventory.findings);
    findings.extend(companions.iter().flat_map(|one| one.companion.findings.iter().cloned()));
    kit.remember();
    let report = ArtefactsReport { vault: kit.vault.id.clone(), companions, findings };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

fn print(report: &ArtefactsReport) {
    if report.companions.is_empty() {
        output::line(
            "The vault holds no artefacts beside VMs. Name their folders as [[artefact]] in agent.toml.",
        );
    }
    for one in &report.companions {
        let companion = &one.companion;
        let carried = one.carried.map_or("", |_| ", carried forward");
        let size: u64 = one.files.iter().map(|file| file.size).sum();
        output::line(output::plain(&companion.id));
        output::line(format!(
            "  {}, {}, captured {} on {}{carried}; sealed to {}",
            companion.kind,
            output::bytes(size),
            one.captured,
            output::plain(&one.host),
            roles(&one.files.iter().map(|file| file.class).collect::<Vec<_>>())
        ));
        for certificate in &companion.certificates {
            output::line(format!(
                "  certificate: {}, {}",
                output::plain(&certificate.name),
                certificate.certificate.sha1
            ));
        }
        if let Some(disk) = &companion.disk {
            let id = disk.virtual_disk_id.as_deref().unwrap_or("none");
            output::line(format!(
                "  disk: {} bytes, identity {id}, {} metadata items",
                disk.virtual_size_bytes,
                disk.items.len()
            ));
        }
        let vms: Vec<String> = one.serves.iter().map(|vm| output::plain(&vm.name)).collect();
        if !vms.is_empty() {
            output::line(format!("  serves: {}", vms.join(", ")));
        }
        for need in &companion.needs {
            let held: Vec<String> = need.held.iter().map(|name| output::plain(name)).collect();
            match held.is_empty() {
                true => output::line(format!("  MISSING: {}: {}", need.what, need.how)),
                false => output::line(format!("  beside it: {}: {}", need.what, held.join(", "))),
            }
        }
        for remark in &companion.remarks {
            output::line(format!("  {}", output::plain(remark)));
        }
    }
    if !report.companions.is_empty() {
        output::line(format!("{} artefacts beside VMs", report.companions.len()));
    }
    output::findings(&report.findings);
}

/// Roles whose identities open all of these classes.
fn roles_of(classes: &[Class]) -> Vec<Role> {
    let opens = |role: &Role| classes.iter().all(|class| class.roles().contains(role));
    [Role::Restore, Role::Escrow, Role::Audit].into_iter().filter(opens).collect()
}

fn roles(classes: &[Class]) -> String {
    let roles: Vec<String> = roles_of(classes).iter().map(ToString::to_string).collect();
    roles.join(" and ")
}

async fn get(context: &Context, arguments: &Get) -> Result<Exit, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let mut identity = kit.one_identity(&context.kit, &[Role::Restore, Role::Escrow, Role::Audit])?;
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let found = inventory.all_companions().await?;
    no_access_if_nothing_opens(&inventory, &identity.path)?;
    let mut findings = kit.findings_with(&mut inventory.findings);
    let chosen = choose(found, &arguments.id, arguments.host.as_deref())?;
    let companion = &chosen.entry.companion;
    let classes: Vec<Class> = chosen.entry.artefacts.iter().map(|artefact| artefact.class).collect();
    let wanted = roles_of(&classes);
    let opens = |held: &crate::kit::HeldIdentity| {
        held.opens.iter().any(|(owner, role)| {
            wanted.contains(role) && chosen.record.objects.iter().any(|object| object.owner == *owner)
        })
    };
    if !opens(&identity) {
        let refused = |path: &std::path::Path| {
            CliError::new(
                Exit::NoAccess,
                format!(
                    "{} is sealed to {} only, and {} is none of these; give the identity of that role with --identity",
                    output::plain(&companion.id),
                    roles(&classes),
                    path.display()
                ),
            )
        };
        if !context.kit.identity.is_empty() {
            return Err(refused(&identity.path));
        }
        identity = kit.one_identity(&context.kit, &wanted)?;
        if !opens(&identity) {
            return Err(refused(&identity.path));
        }
    }
    std::fs::create_dir_all(&arguments.to).map_err(|error| CliError::file(&arguments.to, "made", &error))?;
    let written = write(&kit.vault, &chosen, &identity.identities, &arguments.to).await?;
    kit.remember();
    findings.extend(companion.findings.iter().cloned());
    let report = GotArtefact {
        vault: kit.vault.id.clone(),
        id: companion.id.clone(),
        captured: chosen.entry.captured,
        written: written.iter().map(|path| path.display().to_string()).collect(),
        findings,
    };
    if context.json {
        output::json(&report);
    } else {
        for path in &report.written {
            output::line(format!("{path}: as captured {}, compared with its signed digest", report.captured));
        }
        output::findings(&report.findings);
    }
    Ok(Exit::of(&report.findings))
}

/// The newest capture of the companion that is meant.
fn choose(found: Vec<FoundCompanion>, wanted: &str, host: Option<&str>) -> Result<FoundCompanion, CliError> {
    let mut fitting = newest_of_each(found);
    let is_on = |one: &FoundCompanion, host: &str| {
        one.host.eq_ignore_ascii_case(host) || one.record.writer.as_str() == host
    };
    let is_id = |one: &FoundCompanion| one.entry.companion.id == wanted;
    if fitting.iter().any(is_id) {
        fitting.retain(is_id);
    } else {
        fitting.retain(|one| one.entry.companion.name == wanted);
    }
    let mut ids: Vec<String> = fitting.iter().map(|one| one.entry.companion.id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        return Err(CliError::usage(format!(
            "{} artefacts are named {wanted:?}; give the id of one: {}",
            ids.len(),
            ids.join(", ")
        )));
    }
    // The same id on two hosts need not be the same thing.
    let mut hosts: Vec<String> = fitting.iter().map(|one| one.host.to_string()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    if let Some(host) = host {
        fitting.retain(|one| is_on(one, host));
    } else if hosts.len() > 1 {
        return Err(CliError::usage(format!(
            "{} hosts have an artefact {wanted:?}; name one with --host: {}",
            hosts.len(),
            hosts.join(", ")
        )));
    }
    if fitting.is_empty() && !hosts.is_empty() {
        return Err(CliError::usage(format!(
            "no such host has the artefact {wanted:?}; these have one: {}",
            hosts.join(", ")
        )));
    }
    fitting.into_iter().max_by_key(|one| (one.entry.captured, one.record.seq)).ok_or_else(|| {
        CliError::new(
            Exit::Failed,
            format!(
                "the vault holds no artefact {wanted:?}; `lifeboat artefacts list --all` shows what there is"
            ),
        )
    })
}
