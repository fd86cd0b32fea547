//! The commands, one file each: arguments whose doc comments are the help, and a function.

mod artefacts;
mod audit;
mod check;
mod disk;
mod enroll;
mod escrow;
mod explain;
mod guardian;
mod host;
mod init;
mod manual;
mod recover;
mod restore;
mod snapshots;
mod vms;

use clap::{Parser, Subcommand};
use lifeboat_schema::{Exit, Time};

use crate::error::CliError;
use crate::kit::KitArguments;
use crate::output;

/// Lists, checks and brings back what Lifeboat keeps of virtual machines with a vTPM.
///
/// Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 done with findings; 4 damage or tampering;
/// 5 no access; 130 interrupted.
#[derive(Parser)]
#[command(name = "lifeboat", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Answer in JSON on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    kit: KitArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new vault, with its keys and identities.
    Init(init::Init),
    /// Works with the hosts that write into the vault.
    #[command(subcommand)]
    Host(host::Host),
    /// Lists the VMs, each with its newest captured state.
    Vms(vms::Vms),
    /// Lists the snapshots of one VM or of all.
    Snapshots(snapshots::Snapshots),
    /// Brings a VM's files back, with a script and a runbook.
    Restore(restore::Restore),
    /// Checks the vault: signatures, chains, objects, and with --read-data every byte.
    Check(check::Check),
    /// Lists which VMs and volumes could not be brought back today, why, and what to do.
    Audit(Box<audit::Audit>),
    /// Keeps BitLocker recovery secrets: imports, lists and reveals them.
    #[command(subcommand)]
    Escrow(escrow::Escrow),
    /// Explains everything that a VM depends on, and with --lose what its loss would mean.
    Explain(explain::Explain),
    /// Lists what is kept beside VMs (shielding data, keys, HGS exports and the like), and brings it back.
    #[command(subcommand)]
    Artefacts(artefacts::Artefacts),
    /// Tells who can open the VMs' key protectors, looks at guardians' files, and grants or revokes a guardian.
    #[command(subcommand)]
    Guardian(guardian::Guardian),
    /// Looks at disk images, without any key and without a vault.
    #[command(subcommand)]
    Disk(disk::Disk),
    /// Writes completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes manual pages into a folder.
    Man {
        /// The folder; made if it is not there.
        folder: std::path::PathBuf,
    },
    /// Opens BitLocker volumes when only the disks survive: plans, proves keys, decrypts, gets files. Needs no vault.
    Recover(Box<recover::Recover>),
}

/// What every command gets.
pub(crate) struct Context {
    pub(crate) json: bool,
    pub(crate) kit: KitArguments,
}

pub(crate) fn run(arguments: Arguments) -> Result<Exit, CliError> {
    let context = Context { json: arguments.json, kit: arguments.kit };
    // These work on local files alone, and stop in their own way when they are interrupted.
    match &arguments.command {
        Command::Disk(command) => return disk::run(&context, command),
        Command::Recover(command) => return recover::run(&context, command),
        Command::Completions { shell } => return manual::completions(*shell),
        Command::Man { folder } => return manual::pages(folder),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(lifeboat_engine::blocking_threads(1))
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, format!("the program could not start: {error}")))?;
    runtime.block_on(async {
        let command = async {
            match arguments.command {
                Command::Init(command) => init::run(&context, &command).await,
                Command::Host(command) => host::run(&context, &command).await,
                Command::Vms(command) => vms::run(&context, &command).await,
                Command::Snapshots(command) => snapshots::run(&context, &command).await,
                Command::Restore(command) => restore::run(&context, &command).await,
                Command::Check(command) => check::run(&context, &command).await,
                Command::Audit(command) => audit::run(&context, &command).await,
                Command::Escrow(command) => escrow::run(&context, &command).await,
                Command::Explain(command) => explain::run(&context, &command).await,
                Command::Artefacts(command) => artefacts::run(&context, &command).await,
                Command::Guardian(command) => guardian::run(&context, &command).await,
                Command::Disk(command) => disk::run(&context, &command),
                Command::Recover(command) => recover::run(&context, &command),
                Command::Completions { shell } => manual::completions(shell),
                Command::Man { folder } => manual::pages(&folder),
            }
        };
        tokio::select! {
            result = command => result,
            _ = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Interrupted, "interrupted")),
        }
    })
}

impl Context {
    /// Gives the answer: as JSON, or as `print` shows it.
    fn answer<R: serde::Serialize>(&self, report: &R, print: impl FnOnce(&R)) {
        if self.json {
            output::json(report);
        } else {
            print(report);
        }
    }
}

/// Now, by this machine's clock.
pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Random bytes for ids.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        CliError::new(Exit::Failed, format!("the operating system gave no random bytes: {error}"))
    })?;
    Ok(bytes)
}

/// Says that a file is there, where a new one should be written.
pub(crate) fn is_there(path: &std::path::Path) -> CliError {
    CliError::usage(format!(
        "{} is there already, and nothing is overwritten; name another file",
        path.display()
    ))
}

/// Writes a new file that only its owner reads.
pub(crate) fn write_private(path: &std::path::Path, content: &[u8]) -> Result<(), CliError> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all())).map_err(
        |error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => is_there(path),
            _ => CliError::file(path, "written", &error),
        },
    )
}

/// A folder in the making: it gets its name when everything in it is there, and goes if it never does.
pub(crate) struct NewFolder {
    partial: std::path::PathBuf,
    wanted: std::path::PathBuf,
    done: bool,
}

impl NewFolder {
    pub(crate) fn create(wanted: &std::path::Path) -> Result<Self, CliError> {
        if wanted.symlink_metadata().is_ok() {
            return Err(CliError::usage(format!(
                "{} is there already, and nothing is overwritten; name another folder",
                wanted.display()
            )));
        }
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = wanted.with_file_name(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&partial).map_err(|error| CliError::file(&partial, "made", &error))?;
        Ok(Self { partial, wanted: wanted.to_owned(), done: false })
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.partial.join(name)
    }

    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        std::fs::rename(&self.partial, &self.wanted)
            .map_err(|error| CliError::file(&self.wanted, "made", &error))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.done {
            // Keys of a vault that was not made open nothing.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}
