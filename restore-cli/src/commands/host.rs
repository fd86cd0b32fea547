//! `lifeboat host enroll`.

use std::path::{Path, PathBuf};

use lifeboat_config::{Config, SnapshotConfig, SourceConfig, StoreConfig};
use lifeboat_engine::admin::add_writer;
use lifeboat_schema::{EnrollReport, Exit, Kind, Role, WriterId, WriterTerms};
use lifeboat_vault::key::SigningKey;

use super::init::open_challenge;
use super::{Context, NewFolder, now, random, write_private};
use crate::error::CliError;
use crate::kit::{Kit, KitFile};
use crate::output;
use crate::secrets::read_signing_key;

/// Works with the hosts that write into the vault.
#[derive(clap::Subcommand)]
pub(crate) enum Host {
    /// Lets a host write snapshots, and writes the folder for its agent.
    Enroll(Enroll),
}

/// Lets a host write snapshots, and writes the folder for its agent.
///
/// Refuses to finish until each restore and escrow identity of the policy has opened a challenge: a host whose
/// backups nobody can open is not backed up.
#[derive(clap::Args)]
pub(crate) struct Enroll {
    /// Name of the host for people.
    name: String,
    /// New folder for the agent: configuration and signing key, to be carried to the host.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Admin key that signs the new policy [default: admin-1.key in the kit].
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
    /// Folder on the host that holds VMs, as an absolute path there; may be given again.
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
    /// Report the host after this many hours without a record.
    #[arg(long, value_name = "HOURS", default_value_t = 26)]
    max_silence: u64,
}

pub(crate) async fn run(context: &Context, command: &Host) -> Result<Exit, CliError> {
    match command {
        Host::Enroll(arguments) => enroll(context, arguments).await,
    }
}

async fn enroll(context: &Context, arguments: &Enroll) -> Result<Exit, CliError> {
    if arguments.name.trim().is_empty() || arguments.name.chars().any(char::is_control) {
        return Err(CliError::usage("the host's name is empty or has control characters"));
    }
    if let Some(root) = arguments.root.iter().find(|root| !is_absolute_somewhere(root)) {
        return Err(CliError::usage(format!(
            "--root {} is no absolute path, and the agent would look for it beside its configuration; write it as the host does",
            root.display()
        )));
    }
    let folder = NewFolder::create(&arguments.out)?;
    let file = KitFile::read(&context.kit.kit)?;
    let kit = Kit::open(&context.kit).await?;
    if let Some(finding) = kit.ledgers.admin.findings.first() {
        return Err(CliError::new(Exit::Damage, format!("{}: {}", finding.place, finding.what)));
    }
    challenge_all(context, &kit)?;
    let admin_path = arguments.admin_key.clone().unwrap_or_else(|| context.kit.kit.join("admin-1.key"));
    let admin = read_signing_key(&admin_path, &context.kit.passphrases)?;

    let key = SigningKey::generate()?;
    let writer = WriterId::random("h", random()?);
    write_private(&folder.path("signing.key"), key.to_openssh(None)?.as_bytes())?;
    let terms = WriterTerms {
        id: writer.clone(),
        key: key.verifying_key().to_openssh(),
        kinds: vec![Kind::Snapshot],
        max_silence_seconds: Some(arguments.max_silence.saturating_mul(3600)),
        cut: None,
    };
    let policy = add_writer(&kit.vault, &admin, terms, &arguments.name, now()).await?;
    Kit::open(&context.kit).await?.remember();

    let roots = if arguments.root.is_empty() {
        vec![PathBuf::from(r"C:\ProgramData\Microsoft\Windows\Hyper-V")]
    } else {
        arguments.root.clone()
    };
    let config = Config {
        vault: kit.vault.id.clone(),
        writer: writer.clone(),
        host: arguments.name.clone(),
        policy,
        signing_key: "signing.key".into(),
        state_folder: "state".into(),
        store: StoreConfig { url: file.store.url.clone(), options: file.store.options },
        snapshot: SnapshotConfig::default(),
        sources: vec![SourceConfig::Directory {
            name: "vms".to_owned(),
            roots,
            attempts: 3,
            retry_delay_milliseconds: 500,
        }],
    };
    let text = toml::to_string_pretty(&config)
        .map_err(|error| CliError::new(Exit::Failed, format!("agent.toml could not be written: {error}")))?;
    let text = format!(
        "# Agent of the host {}. All keys are described in examples/agent.toml.\n{text}",
        arguments.name.escape_default()
    );
    write_private(&folder.path("agent.toml"), text.as_bytes())?;
    folder.finish()?;

    let report = EnrollReport {
        vault: kit.vault.id.clone(),
        writer,
        name: arguments.name.clone(),
        policy,
        folder: arguments.out.display().to_string(),
    };
    if context.json {
        output::json(&report);
    } else {
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
    Ok(Exit::Done)
}

/// Whether a path is absolute here or on Windows: hosts are often enrolled on another machine.
fn is_absolute_somewhere(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let is_separator = |at: usize| text.get(at).is_some_and(|byte| matches!(byte, b'\\' | b'/'));
    let has_drive =
        text.first().is_some_and(u8::is_ascii_alphabetic) && text.get(1) == Some(&b':') && is_separator(2);
    path.is_absolute() || has_drive || (is_separator(0) && is_separator(1))
}

/// Has every restore and escrow recipient of the policy opened by an identity that is at hand.
pub(super) fn challenge_all(context: &Context, kit: &Kit) -> Result<(), CliError> {
    let held = kit.identities(&context.kit, &[Role::Restore, Role::Escrow])?;
    let newest = kit.ledgers.policies.newest().expect("an open kit has a valid policy");
    for owner in &newest.terms.owners {
        for role in [Role::Restore, Role::Escrow] {
            for recipient in owner.recipients.get(&role).into_iter().flatten() {
                let opened = held.iter().any(|held| open_challenge(&held.identities, recipient).is_ok());
                if !opened {
                    return Err(CliError::new(
                        Exit::NoAccess,
                        format!(
                            "no {role} identity at hand opens what is sealed to {recipient}; nothing is enrolled. Put {role}.identity into the kit for this moment, or name it with --identity"
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
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
