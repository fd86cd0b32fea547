//! `cargo xtask fuzz`: a short run of every fuzz target, so that none rots.
//!
//! Works with the stable compiler: no sanitizer is used (our parsers have no `unsafe`), and libFuzzer's
//! coverage needs none. It installs nothing.

use std::process::Command;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::{Failure, process, workspace};

/// Most memory that a target may take, in MiB: parsers allocate within named maxima far below.
const MEMORY_MEBIBYTES: u32 = 2048;

/// Seconds after which one input counts as an endless loop.
const INPUT_SECONDS: u32 = 20;

/// Where a target's first inputs lie, if it has any, from the root.
const SEEDS: &str = "fuzz/seeds";

/// When a target has run long enough: whichever comes first.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) seconds: u32,
    pub(crate) executions: Option<u64>,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let executions = arguments.value("--runs")?;
    let seconds = arguments.value("--seconds")?.unwrap_or(if executions.is_some() { 3600 } else { 10 });
    let target: Option<String> = arguments.value("--target")?;
    arguments.finish()?;
    match smoke(Limits { seconds, executions }, target.as_deref())? {
        None => Ok(()),
        Some(why) => {
            println!("SKIPPED: {why}");
            Ok(())
        }
    }
}

/// Runs all targets or one, and prints a table; answers why nothing was run where that is so.
pub(crate) fn smoke(limits: Limits, only: Option<&str>) -> Result<Option<String>, Failure> {
    let mut targets = targets()?;
    if let Some(only) = only {
        targets.retain(|target| target == only);
        if targets.is_empty() {
            return Err(format!("there is no fuzz target `{only}`"));
        }
    }
    if !process::answers("cargo", &["fuzz", "--version"]) {
        return Ok(Some("cargo-fuzz is not installed (cargo install cargo-fuzz --locked)".to_owned()));
    }
    let started = Instant::now();
    process::run(cargo_fuzz("build").args(only))?;
    println!("{} fuzz targets built in {:.0} s", targets.len(), started.elapsed().as_secs_f64());
    let mut failed = Vec::new();
    let mut table = "| target | executions | seconds | result |\n|---|---|---|---|\n".to_owned();
    for target in &targets {
        println!("fuzz {target}");
        let started = Instant::now();
        let (executions, result) = one(target, limits)?;
        let seconds = started.elapsed().as_secs_f64();
        let said = if result.is_ok() { "no finding" } else { "FAILED" };
        table.push_str(&format!("| `{target}` | {executions} | {seconds:.0} | {said} |\n"));
        if let Err(failure) = result {
            failed.push(format!("{target}: {failure}"));
        }
    }
    println!("\n{table}");
    if failed.is_empty() { Ok(None) } else { Err(failed.join("\n")) }
}

/// Runs a target; answers how often, and what it found.
fn one(target: &str, limits: Limits) -> Result<(u64, Result<(), Failure>), Failure> {
    let mut command = cargo_fuzz("run");
    command.arg(target);
    let seeds = workspace::root().join(SEEDS).join(target);
    if seeds.is_dir() {
        let corpus = workspace::root().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
        command.arg(corpus).arg(seeds);
    }
    command.args([
        "--".to_owned(),
        format!("-max_total_time={}", limits.seconds),
        format!("-rss_limit_mb={MEMORY_MEBIBYTES}"),
        format!("-timeout={INPUT_SECONDS}"),
        "-verbosity=0".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    command.args(limits.executions.map(|executions| format!("-runs={executions}")));
    let shown = process::show(&command);
    let output = command.output().map_err(|error| format!("{shown}: cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let executions = executed(&said).unwrap_or_default();
    if output.status.success() {
        return Ok((executions, Ok(())));
    }
    Ok((executions, Err(format!("{shown}: {}\n{said}", output.status))))
}

/// How many inputs libFuzzer says that it ran.
fn executed(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

fn cargo_fuzz(verb: &str) -> Command {
    let mut command = workspace::cargo();
    // cargo-fuzz adds flags that the compiler keeps for nightly.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", verb, "--sanitizer", "none"]);
    command
}

/// The targets: one file each, and each of them in the manifest.
fn targets() -> Result<Vec<String>, Failure> {
    let fuzz = workspace::root().join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml"))
        .map_err(|error| format!("fuzz/Cargo.toml: {error}"))?;
    let mut targets = Vec::new();
    let files = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .map_err(|error| format!("fuzz/fuzz_targets: {error}"))?;
    for file in files {
        let name = file.map_err(|error| format!("fuzz/fuzz_targets: {error}"))?.file_name();
        let name = name.to_string_lossy();
        let Some(target) = name.strip_suffix(".rs") else { continue };
        if !manifest.contains(&format!("name = \"{target}\"")) {
            return Err(format!("fuzz/Cargo.toml does not name the target {target}"));
        }
        targets.push(target.to_owned());
    }
    targets.sort();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_target_is_in_the_manifest() {
        let targets = super::targets().expect("fuzz/");
        assert!(targets.contains(&"vmcx_tree".to_owned()), "{targets:?}");
    }

    #[test]
    fn executions_are_read() {
        assert_eq!(super::executed("a\nstat::number_of_executed_units: 1234\nb"), Some(1234));
        assert_eq!(super::executed("Done"), None);
    }
}
