//! What lies on this machine: folders, catalog, sources.

use std::fs::{File, TryLockError};
use std::path::Path;

use lifeboat_config::Config;
use lifeboat_engine::catalog::Catalog;
use lifeboat_schema::Exit;

use super::Notes;
use crate::run;

/// Less free room than this in the state folder is a finding: a catalog of 500 VMs has some 20 MiB, and SQLite writes
/// beside it.
const MIN_FREE_BYTES: u64 = 256 << 20;

pub(super) fn state_folder(config: &Config, notes: &mut Notes) {
    let folder = &config.state_folder;
    if !folder.exists() {
        notes.note("state-folder", format!("{} is not there yet; the first run makes it", folder.display()));
        return;
    }
    writable("state-folder", folder, notes);
    match File::options().read(true).open(folder.join("lock")) {
        Ok(file) => match file.try_lock() {
            Ok(()) => notes.works("state-lock", "no run holds it"),
            Err(TryLockError::WouldBlock) => notes.note("state-lock", "a run holds it at this moment"),
            Err(TryLockError::Error(error)) => notes.fails(
                "state-lock",
                format!(
                    "{} cannot be locked: {error}. Put the state folder on a local file system",
                    folder.join("lock").display()
                ),
                Exit::Failed,
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notes.works("state-lock", "no run holds it");
        }
        Err(error) => notes.fails(
            "state-lock",
            format!(
                "{} cannot be opened: {error}. Give it to the agent's account",
                folder.join("lock").display()
            ),
            Exit::NoAccess,
        ),
    }
}

/// Whether a folder of the agent can be written to, is closed to others, and has room.
pub(super) fn writable(check: &str, folder: &Path, notes: &mut Notes) {
    let shown = folder.display();
    let probe = match tempfile::Builder::new().prefix(".doctor-").tempfile_in(folder) {
        Ok(probe) => probe,
        Err(error) => {
            let what =
                format!("{shown} cannot be written to: {error}. Give it to the agent's account, with room");
            notes.fails(check, what, Exit::NoAccess);
            return;
        }
    };
    drop(probe);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if let Ok(metadata) = std::fs::metadata(folder) {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let what = format!("{shown} is open to others (mode {mode:03o}); names of VMs stand in it");
                notes.finding(check, what, "run `chmod 700` on it");
                return;
            }
        }
        if let Ok(space) = rustix::fs::statvfs(folder) {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            if free < MIN_FREE_BYTES {
                let what = format!("{shown} has {} MiB of free room", free >> 20);
                notes.finding(check, what, "free some: without room runs fail");
                return;
            }
        }
    }
    notes.works(check, format!("{shown} can be written to"));
}

pub(super) fn catalog(config: &Config, notes: &mut Notes) {
    let path = config.state_folder.join("catalog.sqlite");
    if !path.exists() {
        notes.note("catalog", "there is none yet; the first run seals everything");
        return;
    }
    let opened = Catalog::open(&path, &config.vault, &config.writer)
        .and_then(|catalog| Ok((catalog.tip()?, catalog.vms()?.len())));
    match opened {
        Ok((Some(tip), vms)) => {
            notes.works("catalog", format!("knows record {} and {vms} VMs and companions", tip.seq));
        }
        Ok((None, _)) => notes.note("catalog", "knows no record yet"),
        Err(error) => notes.fails("catalog", error.to_string(), Exit::Failed),
    }
}

pub(super) fn sources(config: &Config, notes: &mut Notes) {
    for source in run::sources(config) {
        let check = format!("source {}", source.name());
        let discovery = match source.discover() {
            Ok(discovery) => discovery,
            Err(error) => {
                notes.finding(
                    &check,
                    error.to_string(),
                    "correct the folder in the configuration, or mount it",
                );
                continue;
            }
        };
        let found = discovery.vms.len();
        match discovery.problems.first() {
            Some(problem) => {
                let what = format!(
                    "{found} found, and {} could not be looked at, such as {}: {}",
                    discovery.problems.len(),
                    problem.place,
                    problem.error
                );
                notes.finding(
                    &check,
                    what,
                    "give the agent's account the right to read there, or look at the place",
                );
            }
            None if found == 0 => {
                notes.finding(
                    &check,
                    "nothing was found",
                    "check the folder: an empty source backs up nothing",
                );
            }
            None => notes.works(&check, format!("{found} found")),
        }
    }
}
