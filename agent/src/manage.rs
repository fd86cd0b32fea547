//! `lifeboat-agent service`, and manual pages: what an administrator does once.

use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_agent::unit::{self, UNIT_NAME, UnitOptions};
use lifeboat_config::Config;
use lifeboat_schema::Exit;

use crate::{print_error, print_line};

/// Where systemd takes units of the administrator from.
const UNIT_FOLDER: &str = "/etc/systemd/system";

#[derive(clap::Subcommand)]
pub(crate) enum Service {
    /// Writes the unit for this host and enables it; starts nothing.
    Install {
        /// The agent's configuration.
        #[arg(long, value_name = "FILE", env = "LIFEBOAT_AGENT_CONFIG")]
        config: PathBuf,
        /// Account that the agent runs under; it must be there.
        #[arg(long, default_value = "lifeboat")]
        user: String,
        /// Let it read files of every account (CAP_DAC_READ_SEARCH), where group membership and ACLs do not do.
        #[arg(long)]
        read_all_files: bool,
        /// Folder for the unit; another one than systemd's own is not enabled.
        #[arg(long, value_name = "DIR", default_value = UNIT_FOLDER)]
        unit_folder: PathBuf,
        /// Only show the unit.
        #[arg(long)]
        print: bool,
    },
    /// Stops the service, disables it and removes the unit that `install` wrote; configuration and state stay.
    Uninstall {
        /// Folder of the unit.
        #[arg(long, value_name = "DIR", default_value = UNIT_FOLDER)]
        unit_folder: PathBuf,
    },
}

pub(crate) fn run(command: &Service) -> Exit {
    let done = match command {
        Service::Install { config, user, read_all_files, unit_folder, print } => {
            install(config, user, *read_all_files, unit_folder, *print)
        }
        Service::Uninstall { unit_folder } => uninstall(unit_folder),
    };
    match done {
        Ok(()) => Exit::Done,
        Err((exit, error)) => {
            print_error(&error, exit, false);
            exit
        }
    }
}

type Failure = (Exit, String);

fn install(
    config: &Path,
    user: &str,
    read_all_files: bool,
    folder: &Path,
    print: bool,
) -> Result<(), Failure> {
    let usage = |error: String| (Exit::Usage, error);
    let file = std::path::absolute(config).map_err(|error| usage(error.to_string()))?;
    let config = Config::read(&file).map_err(|error| usage(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| (Exit::Failed, error.to_string()))?;
    let options = UnitOptions {
        program,
        config: file,
        state_folder: config.state_folder,
        vault_folder: config.store.url.strip_prefix("file://").map(PathBuf::from),
        user: user.to_owned(),
        read_all_files,
    };
    if print {
        let text = options.text().map_err(|error| usage(error.to_string()))?;
        print_line(text.trim_end());
        return Ok(());
    }
    if !succeeds("id", &["-u", user]) {
        return Err(usage(format!(
            "there is no account {user}; make one that can do nothing else: useradd --system --home-dir /var/lib/lifeboat-agent --shell /usr/sbin/nologin {user}"
        )));
    }
    let path = unit::install(&options, folder).map_err(|error| (Exit::Failed, error.to_string()))?;
    print_line(&format!("{} is written.", path.display()));
    if managed(folder) {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", UNIT_NAME])?;
        print_line(
            "It is enabled, and starts with the machine. Now: systemctl start lifeboat-agent; journalctl -fu lifeboat-agent",
        );
    } else {
        print_line("systemd does not run here, or takes no units from there: nothing was enabled.");
    }
    print_line(&format!(
        "Its configuration, signing key and state must be readable for {user} alone; lifeboat-agent doctor --config {} looks at them.",
        options.config.display()
    ));
    Ok(())
}

fn uninstall(folder: &Path) -> Result<(), Failure> {
    if managed(folder) && folder.join(UNIT_NAME).exists() {
        systemctl(&["disable", "--now", UNIT_NAME])?;
    }
    let removed = unit::uninstall(folder).map_err(|error| (Exit::Failed, error.to_string()))?;
    if !removed {
        print_line(&format!("{} is not there.", folder.join(UNIT_NAME).display()));
        return Ok(());
    }
    if managed(folder) {
        systemctl(&["daemon-reload"])?;
    }
    print_line(
        "The service is gone. Configuration, signing key and state are as they were; the vault still lets this host write: lifeboat host retire ends that.",
    );
    Ok(())
}

fn managed(folder: &Path) -> bool {
    folder == Path::new(UNIT_FOLDER) && Path::new("/run/systemd/system").is_dir()
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    if succeeds("systemctl", arguments) {
        return Ok(());
    }
    Err((Exit::Failed, format!("systemctl {} failed; run it yourself to see why", arguments.join(" "))))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Writes a page for the program and each of its commands.
pub(crate) fn man(command: clap::Command, folder: &Path) -> Exit {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    match written {
        Ok(()) => Exit::Done,
        Err(error) => {
            print_error(&format!("{} cannot be written to: {error}", folder.display()), Exit::Failed, false);
            Exit::Failed
        }
    }
}
