//! `lifeboat host enroll`, `rekey` and `retire`.

use std::path::{Path, PathBuf};

use lifeboat_config::{Config, SourceConfig, StoreConfig};
use lifeboat_engine::admin::{read_names, rekey_writer, retire_writer};
use lifeboat_schema::{
    EnrollReport, EnrolledReport, Exit, HostChangeReport, Kind, PolicyRef, Role, WriterId,
};
use lifeboat_vault::key::SigningKey;

use super::enroll::{EnrolledWriter, Enrollment, Named, Terms, read_admin_key};
use super::{Context, NewFolder, now, write_private};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Most hosts that are enrolled at once: each has a key of its own to be made and carried.
const MAX_AT_ONCE: usize = 1000;

/// Works with the hosts that write into the vault.
#[derive(clap::Subcommand)]
pub(crate) enum Host {
    /// Lets hosts write snapshots, and writes the folders for their agents.
    Enroll(Enroll),
    /// Gives a host a new signing key; its ledger goes on.
    Rekey(Rekey),
    /// Lets a host write no more; what it wrote stays.
    Retire(Retire),
}

/// Lets hosts write snapshots, and writes the folders for their agents.
///
/// Refuses to finish until each restore and escrow identity of the policy has opened a challenge: a host whose
/// backups nobody can open is not backed up. Several hosts are let in by one policy.
#[derive(clap::Args)]
pub(crate) struct Enroll {
    /// Names of the hosts for people.
    #[arg(required_unless_present = "from")]
    name: Vec<String>,
    /// File with further names, one on each line; # begins a comment.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// New folder for the agent: configuration and signing key, to be carried to the host. With several hosts, a folder
    /// with one for each.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Admin key that signs the new policy [default: admin-1.key in the kit].
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
    /// Folder on the hosts that holds VMs, as an absolute path there; may be given again.
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
    /// Report a host after this many hours without a record.
    #[arg(long, value_name = "HOURS", default_value_t = 26)]
    max_silence: u64,
}

/// Gives a host a new signing key; its ledger goes on.
///
/// Records of the old key count up to the newest one now, and no later. Stop the agent first: a run that has begun, or waits
/// in its spool, is signed by the old key and lost. For a host that someone has got into, stop it and look at what it wrote before.
#[derive(clap::Args)]
pub(crate) struct Rekey {
    /// The host: its name, or its writer id.
    host: String,
    /// New folder for the new signing.key.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Admin key that signs the new policy [default: admin-1.key in the kit].
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
}

/// Lets a host write no more; what it wrote stays.
///
/// Its records count up to the newest one now. Its VMs can be restored as before, and its silence is no longer reported.
#[derive(clap::Args)]
pub(crate) struct Retire {
    /// The host: its name, or its writer id.
    host: String,
    /// Admin key that signs the new policy [default: admin-1.key in the kit].
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, command: &Host) -> Result<Exit, CliError> {
    match command {
        Host::Enroll(arguments) => enroll(context, arguments).await,
        Host::Rekey(arguments) => rekey(context, arguments).await,
        Host::Retire(arguments) => retire(context, arguments).await,
    }
}

async fn enroll(context: &Context, arguments: &Enroll) -> Result<Exit, CliError> {
    if let Some(root) = arguments.root.iter().find(|root| !is_absolute_somewhere(root)) {
        return Err(CliError::usage(format!(
            "--root {} is no absolute path, and the agent would look for it beside its configuration; write it as the host does",
            root.display()
        )));
    }
    let names = names(arguments)?;
    let several = names.len() > 1 || arguments.from.is_some();
    if several {
        std::fs::create_dir_all(&arguments.out)
            .map_err(|error| CliError::file(&arguments.out, "made", &error))?;
    }
    let folder = |name: &String| if several { arguments.out.join(name) } else { arguments.out.clone() };
    let named: Vec<Named> = names.iter().map(|name| (name.clone(), folder(name))).collect();
    let terms = Terms {
        prefix: "h",
        kind: Kind::Snapshot,
        max_silence_seconds: Some(arguments.max_silence.saturating_mul(3600)),
    };
    let enrolled = Enrollment::begin(context, "host", &named)
        .await?
        .sign(context, arguments.admin_key.as_deref(), terms)
        .await?;
    let roots = if arguments.root.is_empty() {
        vec![PathBuf::from(r"C:\ProgramData\Microsoft\Windows\Hyper-V")]
    } else {
        arguments.root.clone()
    };
    let mut reports = enrolled.finish("agent.toml", |one, kit, store, policy| {
        let heading = format!(
            "# Agent of the host {}. All keys are described in examples/agent.toml.",
            one.name.escape_default()
        );
        (heading, agent_config(one, kit, store, policy, &roots))
    })?;
    if several {
        context.answer(&EnrolledReport { hosts: reports }, |report| {
            for one in &report.hosts {
                output::line(format!("{}  {}  {}", one.writer, one.folder, output::plain(&one.name)));
            }
            output::line(format!(
                "{} hosts may write snapshots. Carry each its folder: a signing.key is for one host alone and decrypts nothing.",
                report.hosts.len()
            ));
        });
    } else {
        let report = reports.pop().expect("one host was enrolled");
        context.answer(&report, print_enrolled);
    }
    Ok(Exit::Done)
}

fn print_enrolled(report: &EnrollReport) {
    output::line(format!(
        "The host {} may write snapshots as {}.",
        output::plain(&report.name),
        report.writer
    ));
    output::line(format!(
        "Carry {} to the host; its signing.key is for that host alone and decrypts nothing.",
        report.folder
    ));
    output::line(
        "Check the roots in agent.toml, then on the host: lifeboat-agent run --once --config agent.toml",
    );
}

fn agent_config(
    one: &EnrolledWriter,
    kit: &Kit,
    store: &StoreConfig,
    policy: PolicyRef,
    roots: &[PathBuf],
) -> Config {
    let source = SourceConfig::Directory {
        name: "vms".to_owned(),
        roots: roots.to_vec(),
        attempts: 3,
        retry_delay_milliseconds: 500,
    };
    let (vault, writer) = (kit.vault.id.clone(), one.writer.clone());
    Config::new(vault, writer, one.name.clone(), policy, store.clone(), vec![source])
}

/// Names from the command line and the file, each of which can be a folder's where there are several.
fn names(arguments: &Enroll) -> Result<Vec<String>, CliError> {
    let mut names = arguments.name.clone();
    if let Some(path) = &arguments.from {
        let text = std::fs::read_to_string(path).map_err(|error| CliError::file(path, "read", &error))?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        names.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if names.is_empty() {
        return Err(CliError::usage("no host is named; give names, or a file with one on each line"));
    }
    if names.len() > MAX_AT_ONCE {
        return Err(CliError::usage(format!("more than {MAX_AT_ONCE} hosts at once; enroll them in parts")));
    }
    if names.len() > 1 || arguments.from.is_some() {
        let mut seen = std::collections::BTreeSet::new();
        for name in &names {
            let good = !name.starts_with('.')
                && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
            if !good {
                return Err(CliError::usage(format!(
                    "{} cannot be a folder's name: with several hosts use letters, digits, dots, - and _",
                    output::plain(name)
                )));
            }
            if !seen.insert(name.to_lowercase()) {
                return Err(CliError::usage(format!("{name} is named twice")));
            }
        }
    }
    Ok(names)
}

async fn rekey(context: &Context, arguments: &Rekey) -> Result<Exit, CliError> {
    let (kit, writer, name) = find(context, &arguments.host).await?;
    let admin = read_admin_key(context, arguments.admin_key.as_deref())?;
    let folder = NewFolder::create(&arguments.out)?;
    let key = SigningKey::generate()?;
    write_private(&folder.path("signing.key"), key.to_openssh(None)?.as_bytes())?;
    let (policy, cut) = rekey_writer(&kit.vault, &admin, &writer, &key.verifying_key(), now()).await?;
    folder.finish()?;
    Kit::open(&context.kit).await?.remember();
    let vault = kit.vault.id.clone();
    let folder = Some(arguments.out.display().to_string());
    let report = HostChangeReport { vault, writer, name, policy, cut, folder };
    context.answer(&report, |report| {
        output::line(format!(
            "{} has a new key. Records of the old one count up to number {}.",
            shown(report),
            report.cut.seq
        ));
        output::line(format!(
            "Carry {}/signing.key to the host, in place of the old one, and run its agent; its ledger goes on.",
            arguments.out.display()
        ));
    });
    Ok(Exit::Done)
}

async fn retire(context: &Context, arguments: &Retire) -> Result<Exit, CliError> {
    let (kit, writer, name) = find(context, &arguments.host).await?;
    let admin = read_admin_key(context, arguments.admin_key.as_deref())?;
    let (policy, cut) = retire_writer(&kit.vault, &admin, &writer, now()).await?;
    Kit::open(&context.kit).await?.remember();
    let report = HostChangeReport { vault: kit.vault.id.clone(), writer, name, policy, cut, folder: None };
    context.answer(&report, |report| {
        output::line(format!(
            "{} writes no more. Its records count up to number {}, and its VMs can be restored as before.",
            shown(report),
            report.cut.seq
        ));
        output::line("Take its credentials for the store away too.");
    });
    Ok(Exit::Done)
}

fn shown(report: &HostChangeReport) -> String {
    match &report.name {
        Some(name) => format!("The host {} ({})", output::plain(name), report.writer),
        None => format!("The host {}", report.writer),
    }
}

/// The writer of snapshots that is meant: by its id, or by its name where an identity of the kit opens the names.
async fn find(context: &Context, wanted: &str) -> Result<(Kit, WriterId, Option<String>), CliError> {
    let kit = Kit::open(&context.kit).await?;
    let mut names = std::collections::BTreeMap::new();
    for held in kit.identities(&context.kit, &[Role::Audit])? {
        names.extend(read_names(&kit.vault, &kit.ledgers, &held.identities).await?.writers);
    }
    let newest = kit.ledgers.policies.newest().expect("an open kit has a valid policy");
    let is_wanted = |id: &WriterId| {
        id.as_str() == wanted
            || names.get(id).is_some_and(|name| name.to_lowercase() == wanted.to_lowercase())
    };
    let found: Vec<&WriterId> =
        newest.terms.writers.iter().map(|terms| &terms.id).filter(|id| is_wanted(id)).collect();
    match found.as_slice() {
        [only] => {
            let writer = (*only).clone();
            let name = names.get(&writer).cloned();
            Ok((kit, writer, name))
        }
        [] => Err(CliError::usage(format!(
            "no writer is called {}; names are known where the audit identity is in the kit, writer ids always work",
            output::plain(wanted)
        ))),
        several => {
            let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            Err(CliError::usage(format!(
                "several writers are called {}: name one by its id: {}",
                output::plain(wanted),
                ids.join(", ")
            )))
        }
    }
}

/// Whether a path is absolute here or on Windows: hosts are often enrolled on another machine.
fn is_absolute_somewhere(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let is_separator = |at: usize| text.get(at).is_some_and(|byte| matches!(byte, b'\\' | b'/'));
    let has_drive =
        text.first().is_some_and(u8::is_ascii_alphabetic) && text.get(1) == Some(&b':') && is_separator(2);
    path.is_absolute() || has_drive || (is_separator(0) && is_separator(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_absolute_on_this_machine_or_on_windows() {
        for path in
            ["/vms", r"C:\VMs", "d:/VMs", r"\\server\share\VMs", r"\\?\Volume{1}\VMs", "//server/share"]
        {
            assert!(is_absolute_somewhere(Path::new(path)), "{path}");
        }
        for path in ["vms", "./vms", "../vms", r"VMs\a", "C:", r"C:VMs", r"\VMs", ""] {
            assert!(!is_absolute_somewhere(Path::new(path)), "{path}");
        }
    }
}
