//! `cargo xtask bench audit`: how long an audit of many VMs takes, from a cold catalog and from a warm one.
//!
//! The vault is made by testfabric: real records and sealed bodies of invented VMs, in a local folder. Cold is `--rebuild`:
//! every body is read and opened; warm is the same command straight after. Round 0 warms up and does not count.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure::{self, Sample, median};
use super::{RUNS, Work, document, remove, version_of};
use crate::arguments::Arguments;
use crate::{Failure, demo, process, workspace};

/// VMs, each with two volumes.
const VMS: u32 = 10_000;
/// Hosts over which they are spread.
const HOSTS: u32 = 20;
/// Most seconds from a warm catalog.
const WARM_SECONDS: f64 = 1.0;
/// Most seconds from a cold one.
const COLD_SECONDS: f64 = 15.0;

/// One way to ask.
struct Step {
    what: &'static str,
    arguments: &'static [&'static str],
    most_seconds: Option<f64>,
}

const STEPS: [Step; 4] = [
    Step { what: "cold catalog", arguments: &["audit", "--rebuild"], most_seconds: Some(COLD_SECONDS) },
    Step { what: "warm catalog", arguments: &["audit"], most_seconds: Some(WARM_SECONDS) },
    Step { what: "warm, as JSON", arguments: &["audit", "--json"], most_seconds: None },
    Step { what: "warm, as HTML", arguments: &["audit", "--html"], most_seconds: None },
];

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let vms: u32 = arguments.value("--vms")?.unwrap_or(VMS);
    let runs: u32 = arguments.value("--runs")?.unwrap_or(RUNS);
    let folder = arguments.path("--dir")?;
    let programs = arguments.path("--programs")?;
    let write = !arguments.flag("--no-write");
    arguments.finish()?;
    if vms == 0 || runs == 0 {
        return Err("--vms and --runs are at least 1".to_owned());
    }
    measure::needs_time()?;
    let programs = match programs {
        Some(folder) => folder,
        None => demo::build_released()?,
    };
    let work = Work::create(folder)?;
    let fleet = work.0.join("fleet");
    let mut generate = Command::new(workspace::program(&programs, "testfabric"));
    generate.args(["vault", "--vms", &vms.to_string(), "--hosts", &HOSTS.to_string(), "--out"]).arg(&fleet);
    println!("$ {}", process::show(&generate));
    process::run(&mut generate)?;
    let lifeboat = workspace::program(&programs, "lifeboat");
    let mut samples: Vec<Vec<Sample>> = STEPS.iter().map(|_| Vec::new()).collect();
    for round in 0..=runs {
        println!("round {round} of {runs}");
        for (step, all) in STEPS.iter().zip(&mut samples) {
            let sample = measure::measure(command(&lifeboat, &fleet, &work.0, step)?)?;
            if round > 0 {
                all.push(sample);
            }
        }
    }
    let vault = measure::size_kib(&fleet.join("vault"))? / 1024;
    let commit = process::output(
        Command::new("git").current_dir(workspace::root()).args(["describe", "--always", "--dirty"]),
    )?;
    let said = version_of(&lifeboat.display().to_string(), &["--version"])?;
    let facts = format!("{}. {said} ({})", document::machine(), commit.trim());
    let text = format!(
        "{}\nMedian of {runs} after one warm-up. {vms} VMs with two BitLocker volumes each on {HOSTS} hosts, {vault} MiB of vault in a folder. {facts}.\n\nMade by `cargo xtask bench audit --vms {vms} --runs {runs}`.\n",
        table(&samples)
    );
    println!("\n{text}");
    if write {
        document::write("audit", &text)?;
    }
    Ok(())
}

fn command(lifeboat: &Path, fleet: &Path, work: &Path, step: &Step) -> Result<Command, Failure> {
    let mut command = Command::new(lifeboat);
    command.env_remove("LIFEBOAT_KIT").arg("--kit").arg(fleet.join("kit")).args(step.arguments);
    if step.arguments.last() == Some(&"--html") {
        let pages: PathBuf = work.join("pages");
        remove(&pages)?;
        fs::create_dir(&pages).map_err(|error| format!("{}: {error}", pages.display()))?;
        command.arg(pages.join("audit.html"));
    }
    Ok(command)
}

fn table(samples: &[Vec<Sample>]) -> String {
    let mut text = "| | s | peak memory, MiB | target | |\n|---|---|---|---|---|\n".to_owned();
    for (step, all) in STEPS.iter().zip(samples) {
        let seconds = median(all.iter().map(|one| one.seconds).collect());
        let peak = median(all.iter().map(|one| one.peak_kib as f64 / 1024.0).collect());
        let (target, verdict) = match (step.most_seconds, seconds) {
            (None, _) => (String::new(), ""),
            (Some(most), Some(seconds)) if seconds <= most => (format!("≤ {most} s"), "met"),
            (Some(most), Some(_)) => (format!("≤ {most} s"), "MISSED"),
            (Some(most), None) => (format!("≤ {most} s"), "not measured"),
        };
        text.push_str(&format!(
            "| {} | {} | {} | {target} | {verdict} |\n",
            step.what,
            document::number(seconds),
            document::number(peak)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_judged() {
        let sample = |seconds| Sample { seconds, peak_kib: 50 << 10, repository_kib: 0 };
        let text = table(&[vec![sample(16.0)], vec![sample(0.5)], vec![sample(2.0)], Vec::new()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| cold catalog | 16.00 | 50.00 | ≤ 15 s | MISSED |");
        assert_eq!(lines[3], "| warm catalog | 0.50 | 50.00 | ≤ 1 s | met |");
        assert_eq!(lines[4], "| warm, as JSON | 2.00 | 50.00 |  |  |");
        assert_eq!(lines[5], "| warm, as HTML | – | – |  |  |");
    }
}
