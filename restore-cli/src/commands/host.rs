//! `lifeboat host enroll`.

use std::path::{Path, PathBuf};

use lifeboat_config::{Config, SnapshotConfig, SourceConfig};
use lifeboat_schema::{Exit, Kind};

use super::Context;
use super::enroll::{Enrollment, Terms};
use crate::error::CliError;
use crate::output;

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
    if let Some(root) = arguments.root.iter().find(|root| !is_absolute_somewhere(root)) {
        return Err(CliError::usage(format!(
            "--root {} is no absolute path, and the agent would look for it beside its configuration; write it as the host does",
            root.display()
        )));
    }
    let terms = Terms {
        prefix: "h",
        kind: Kind::Snapshot,
        max_silence_seconds: Some(arguments.max_silence.saturating_mul(3600)),
    };
    let enrolled = Enrollment::begin(context, "host", &arguments.name, &arguments.out)
        .await?
        .sign(context, arguments.admin_key.as_deref(), terms)
        .await?;

    let roots = if arguments.root.is_empty() {
        vec![PathBuf::from(r"C:\ProgramData\Microsoft\Windows\Hyper-V")]
    } else {
        arguments.root.clone()
    };
    let config = Config {
        vault: enrolled.kit.vault.id.clone(),
        writer: enrolled.writer.clone(),
        host: arguments.name.clone(),
        policy: enrolled.policy,
        signing_key: "signing.key".into(),
        state_folder: "state".into(),
        store: enrolled.store.clone(),
        snapshot: SnapshotConfig::default(),
        sources: vec![SourceConfig::Directory {
            name: "vms".to_owned(),
            roots,
            attempts: 3,
            retry_delay_milliseconds: 500,
        }],
        artefacts: Vec::new(),
        schedule: Default::default(),
        watch: Default::default(),
        spool: Default::default(),
        upload: Default::default(),
        service: Default::default(),
    };
    let heading = format!(
        "# Agent of the host {}. All keys are described in examples/agent.toml.",
        arguments.name.escape_default()
    );
    let report = enrolled.finish("agent.toml", &heading, &config)?;
    context.answer(&report, |report| {
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
    });
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
