//! Lifeboat in the benchmark: the released programs, a vault in a folder, the default configuration.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::fabric::{Place, Tool};
use super::version_of;
use crate::bench::measure::Step;
use crate::{Failure, demo, process, workspace};

/// Name of our column.
pub(crate) const NAME: &str = "Lifeboat";

pub(crate) struct Ours {
    programs: PathBuf,
    vms: u32,
    live_objects: Cell<u64>,
}

impl Ours {
    pub(crate) fn new(programs: PathBuf, vms: u32) -> Self {
        Self { programs, vms, live_objects: Cell::new(0) }
    }

    /// Objects that the newest snapshot stands on, bundles and bodies.
    pub(crate) fn live_objects(&self) -> u64 {
        self.live_objects.get()
    }

    /// Writes the tree: one synthetic host without disks, a folder for each VM, as every tool restores it.
    pub(crate) fn generate(&self, work: &Path) -> Result<(), Failure> {
        let mut command = self.program("testfabric");
        command.args([
            "generate",
            "--disks",
            "none",
            "--layout",
            "export",
            "--vms",
            &self.vms.to_string(),
            "--out",
        ]);
        process::run(command.arg(work.join("fabric")))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(workspace::program(&self.programs, name));
        command.env_remove("LIFEBOAT_KIT").env_remove("LIFEBOAT_AGENT_CONFIG");
        command
    }
}

fn kit(place: &Place) -> PathBuf {
    place.state.join("kit")
}

fn config(place: &Place) -> PathBuf {
    place.state.join("agent/agent.toml")
}

impl Tool for Ours {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String, Failure> {
        let said = version_of(
            &workspace::program(&self.programs, "lifeboat").display().to_string(),
            &["--version"],
        )?;
        let commit = process::output(
            Command::new("git").current_dir(workspace::root()).args(["describe", "--always", "--dirty"]),
        )?;
        Ok(format!("{said} ({})", commit.trim()))
    }

    fn init(&self, place: &Place) -> Result<(), Failure> {
        let store = demo::file_url(&place.repository);
        let mut init = self.program("lifeboat");
        init.args(["init", "--json", "--no-passphrase", "--store", &store, "--out"]).arg(kit(place));
        process::quiet(&mut init)?;
        let mut enroll = self.program("lifeboat");
        enroll.args(["host", "enroll", "hv01", "--json", "--root"]).arg(&place.tree);
        enroll.arg("--out").arg(place.state.join("agent")).arg("--kit").arg(kit(place));
        process::quiet(&mut enroll)
    }

    fn command(&self, step: Step, place: &Place) -> Result<Command, Failure> {
        let mut command = match step {
            Step::First | Step::Unchanged => {
                let mut agent = self.program("lifeboat-agent");
                agent.args(["run", "--once", "--config"]).arg(config(place));
                return Ok(agent);
            }
            Step::Check => {
                let mut check = self.program("lifeboat");
                check.args(["check", "--read-data"]);
                check
            }
            Step::Restore => {
                let mut restore = self.program("lifeboat");
                restore.args(["restore", "--all", "--to"]).arg(&place.restored);
                restore
            }
            Step::Copy => return Err("a copy is not our step".to_owned()),
        };
        command.arg("--kit").arg(kit(place));
        Ok(command)
    }

    /// Compares each file that the answer sheet names, and asks the agent how many objects are live.
    fn compare(&self, place: &Place) -> Result<(), Failure> {
        let fabric = place.tree.parent().ok_or("the tree lies in no folder")?;
        let text = fs::read_to_string(fabric.join("answers.json"))
            .map_err(|error| format!("answers.json: {error}"))?;
        let answers: Value = serde_json::from_str(&text).map_err(|error| format!("answers.json: {error}"))?;
        let mut compared = 0;
        for vm in answers["vms"].as_array().into_iter().flatten() {
            let name = vm["name"].as_str().unwrap_or_default();
            for file in vm["files"].as_array().into_iter().flatten() {
                let (place_of, path) =
                    (file["place"].as_str().unwrap_or_default(), file["path"].as_str().unwrap_or_default());
                let original =
                    fs::read(fabric.join(place_of)).map_err(|error| format!("{place_of}: {error}"))?;
                let restored = place.restored.join(name).join(path);
                let restored =
                    fs::read(&restored).map_err(|error| format!("{}: {error}", restored.display()))?;
                if original != restored {
                    return Err(format!("{name}/{path} was not restored byte for byte"));
                }
                compared += 1;
            }
        }
        if compared < self.vms {
            return Err(format!("only {compared} files of {} VMs were compared", self.vms));
        }
        let mut agent = self.program("lifeboat-agent");
        agent.args(["run", "--once", "--json", "--config"]).arg(config(place));
        let report: Value = serde_json::from_str(&process::output(&mut agent)?)
            .map_err(|error| format!("run report: {error}"))?;
        self.live_objects
            .set(report["live_objects"].as_u64().ok_or("the run report counts no live objects")?);
        Ok(())
    }
}
