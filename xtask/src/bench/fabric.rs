//! `cargo xtask bench fabric`: our speed against restic, borg and rustic, on one tree in one run.
//!
//! The tree is testfabric's. Each round runs every tool once, ours first, with empty repositories and in folders of
//! its own; round 0 warms up and does not count; medians of the others are compared with the targets. All
//! files are in the page cache: this measures the tools, not the disk. A round takes 2.5 times the tree's size for
//! each tool.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::measure::{self, Sample, Step};
use super::ours::Ours;
use super::peers::Peer;
use super::table::Results;
use super::{RUNS, Work, document, remove};
use crate::arguments::Arguments;
use crate::{Failure, demo};

/// VMs of the default tree.
const VMS: u32 = 5000;

/// Folders of one benchmark.
pub(crate) struct Place {
    /// What is backed up: one synthetic host.
    pub(crate) tree: PathBuf,
    /// The repository or vault of the tool whose turn it is.
    pub(crate) repository: PathBuf,
    /// Caches, keys and settings of that tool.
    pub(crate) state: PathBuf,
    /// Where it restores to.
    pub(crate) restored: PathBuf,
    /// Where `cp -r` copies the tree to.
    pub(crate) copied: PathBuf,
}

/// A tool whose turn it is: the commands that are measured.
pub(crate) trait Tool {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// Its version.
    fn version(&self) -> Result<String, Failure>;
    /// Makes an empty repository; not measured.
    fn init(&self, place: &Place) -> Result<(), Failure>;
    /// The command of a step.
    fn command(&self, step: Step, place: &Place) -> Result<Command, Failure>;
    /// Compares what was restored with the tree, byte for byte.
    fn compare(&self, place: &Place) -> Result<(), Failure>;
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let vms: u32 = arguments.value("--vms")?.unwrap_or(VMS);
    let runs: u32 = arguments.value("--runs")?.unwrap_or(RUNS);
    let folder = arguments.path("--dir")?;
    let write = !arguments.flag("--no-write");
    arguments.finish()?;
    if vms == 0 || runs == 0 {
        return Err("--vms and --runs are at least 1".to_owned());
    }
    measure::needs_time()?;
    let programs = demo::build_released()?;
    let work = Work::create(folder)?;
    let ours = Ours::new(programs, vms);
    ours.generate(&work.0)?;
    let tree = work.0.join("fabric/host-1");
    let rounds = work.0.join("round");
    let peers = Peer::on_path();
    let tools: Vec<&dyn Tool> =
        std::iter::once(&ours as &dyn Tool).chain(peers.iter().map(|peer| peer as &dyn Tool)).collect();
    let mut results = Results::new(vms, runs, &tree, &tools)?;
    for round in 0..=runs {
        // Nothing is removed within a round: a file system is slower for whoever writes after that.
        remove(&rounds)?;
        for tool in &tools {
            println!("round {round} of {runs}: {}", tool.name());
            let folder = rounds.join(tool.name());
            let place = Place {
                tree: tree.clone(),
                repository: folder.join("repository"),
                state: folder.join("state"),
                restored: folder.join("restored"),
                copied: folder.join("copied"),
            };
            let samples = one_round(*tool, &place)?;
            if round > 0 {
                results.add(tool.name(), samples);
                results.live_objects = ours.live_objects();
            }
        }
    }
    let table = results.markdown();
    println!("\n{table}");
    if write {
        document::write("fabric", &table)?;
    }
    Ok(())
}

/// Everything that is measured of one tool, from an empty repository.
fn one_round(tool: &dyn Tool, place: &Place) -> Result<Vec<(Step, Sample)>, Failure> {
    for folder in [&place.state, &place.restored, &place.copied] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    tool.init(place)?;
    let mut samples = Vec::new();
    for step in Step::OF_A_TOOL {
        let mut sample = measure::measure(tool.command(step, place)?)?;
        sample.repository_kib = measure::size_kib(&place.repository)?;
        samples.push((step, sample));
    }
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(place.tree.join(".")).arg(&place.copied);
    samples.push((Step::Copy, measure::measure(copy)?));
    tool.compare(place)?;
    Ok(samples)
}
