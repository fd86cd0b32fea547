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

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let seconds = arguments.value("--seconds")?.unwrap_or(10);
    let target: Option<String> = arguments.value("--target")?;
    arguments.finish()?;
    match smoke(seconds, target.as_deref())? {
        None => Ok(()),
        Some(why) => {
            println!("SKIPPED: {why}");
            Ok(())
        }
    }
}

/// Runs all targets or one for `seconds` each; answers why nothing was run where that is so.
pub(crate) fn smoke(seconds: u32, only: Option<&str>) -> Result<Option<String>, Failure> {
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
    for target in &targets {
        let mut command = cargo_fuzz("run");
        command.args([target, "--"]);
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY_MEBIBYTES}"),
            format!("-timeout={INPUT_SECONDS}"),
            "-verbosity=0".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        println!("fuzz {target}");
        if let Err(failure) = process::run(&mut command) {
            failed.push(format!("{target}: {failure}"));
        }
    }
    if failed.is_empty() { Ok(None) } else { Err(failed.join("\n")) }
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
}
