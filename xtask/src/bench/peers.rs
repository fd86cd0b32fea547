//! The established tools: restic, borg and rustic, as far as they are on PATH, with their usual settings.
//!
//! restic and rustic compress as they do by default, borg with zstd,3; borg encrypts with repokey-blake2.
//! Passwords are those of throw-away repositories; caches and settings stay in the benchmark's folder.

use std::process::Command;

use super::fabric::{Place, Tool};
use super::version_of;
use crate::bench::measure::Step;
use crate::{Failure, process};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Restic,
    Borg,
    Rustic,
}

const PASSWORD: &str = "benchmark";

/// Name of borg's archive whose content is restored.
const FIRST_ARCHIVE: &str = "::first";

impl Peer {
    /// The tools that can be run here.
    pub(crate) fn on_path() -> Vec<Peer> {
        let all = [(Peer::Restic, "version"), (Peer::Borg, "--version"), (Peer::Rustic, "--version")];
        let mut found = Vec::new();
        for (peer, version) in all {
            if process::answers(peer.name(), &[version]) {
                found.push(peer);
            } else {
                println!("{} is not on PATH: left out", peer.name());
            }
        }
        found
    }

    fn tool(self, place: &Place) -> Command {
        let mut command = Command::new(self.name());
        let (repository, state) = (&place.repository, &place.state);
        command.current_dir(&place.tree);
        // No profile of the user is read.
        command.env("XDG_CONFIG_HOME", state.join("config"));
        match self {
            Peer::Restic => {
                command.env("RESTIC_REPOSITORY", repository).env("RESTIC_PASSWORD", PASSWORD);
                command.env("RESTIC_CACHE_DIR", state).arg("-q");
            }
            Peer::Borg => {
                command.env("BORG_REPO", repository).env("BORG_PASSPHRASE", PASSWORD);
                command.env("BORG_BASE_DIR", state);
            }
            Peer::Rustic => {
                command.env("RUSTIC_REPOSITORY", repository).env("RUSTIC_PASSWORD", PASSWORD);
                command.env("RUSTIC_CACHE_DIR", state).env("RUSTIC_NO_PROGRESS", "true");
                command.args(["--log-level", "warn"]);
            }
        }
        command
    }
}

impl Tool for Peer {
    fn name(&self) -> &'static str {
        match self {
            Peer::Restic => "restic",
            Peer::Borg => "borg",
            Peer::Rustic => "rustic",
        }
    }

    fn version(&self) -> Result<String, Failure> {
        version_of(self.name(), &[if *self == Peer::Restic { "version" } else { "--version" }])
    }

    fn init(&self, place: &Place) -> Result<(), Failure> {
        let mut command = self.tool(place);
        command.arg("init");
        if *self == Peer::Borg {
            command.arg("--encryption=repokey-blake2");
        }
        process::quiet(&mut command)
    }

    fn command(&self, step: Step, place: &Place) -> Result<Command, Failure> {
        let mut command = self.tool(place);
        match (self, step) {
            (Peer::Borg, Step::First) => {
                command.args(["create", "--compression", "zstd,3", FIRST_ARCHIVE, "."])
            }
            (Peer::Borg, Step::Unchanged) => {
                command.args(["create", "--compression", "zstd,3", "::second", "."])
            }
            (Peer::Borg, Step::Check) => command.args(["check", "--verify-data"]),
            (Peer::Borg, Step::Restore) => {
                command.current_dir(&place.restored).args(["extract", FIRST_ARCHIVE])
            }
            (_, Step::First | Step::Unchanged) => command.args(["backup", "."]),
            (_, Step::Check) => command.args(["check", "--read-data"]),
            (Peer::Restic, Step::Restore) => {
                command.args(["restore", "latest", "--target"]).arg(&place.restored)
            }
            (Peer::Rustic, Step::Restore) => command.args(["restore", "latest"]).arg(&place.restored),
            (_, Step::Copy) => return Err("a copy is no tool's step".to_owned()),
        };
        Ok(command)
    }

    fn compare(&self, place: &Place) -> Result<(), Failure> {
        process::quiet(Command::new("diff").arg("-rq").arg(&place.tree).arg(&place.restored))
            .map_err(|failure| format!("{}: the restored tree differs: {failure}", self.name()))
    }
}
