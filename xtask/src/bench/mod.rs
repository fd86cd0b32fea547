//! `cargo xtask bench`: our speed against established tools, as ratios in one run; the tables of docs/benchmarks.md.

mod audit;
mod bitlocker;
mod document;
mod escrow;
mod fabric;
mod fleet;
mod idle;
mod measure;
mod ours;
mod peers;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Arguments;
use crate::{Failure, process};

/// Rounds that count, by default.
const RUNS: u32 = 3;

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    match arguments.command().as_deref() {
        Some("audit") => audit::run(arguments),
        Some("fabric") => fabric::run(arguments),
        Some("bitlocker") => bitlocker::run(arguments),
        Some("escrow") => escrow::run(arguments),
        Some("fleet") => fleet::run(arguments),
        Some("idle") => idle::run(arguments),
        _ => Err("say what: cargo xtask bench audit, bitlocker, escrow, fabric, fleet or idle".to_owned()),
    }
}

fn remove(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The folder of a benchmark, removed at the end.
struct Work(PathBuf);

impl Work {
    fn create(folder: Option<PathBuf>) -> Result<Self, Failure> {
        let folder = folder
            .unwrap_or_else(|| std::env::temp_dir().join(format!("lifeboat-bench-{}", std::process::id())));
        let folder =
            std::path::absolute(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        fs::create_dir(&folder)
            .map_err(|error| format!("{}: {error}; name a new folder with --dir", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is in the temporary folder, and its name tells whose it was.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first line of what `program --version` says.
pub(crate) fn version_of(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let text = process::output(Command::new(program).args(arguments))?;
    Ok(text
        .lines()
        .next()
        .unwrap_or_default()
        .split(" compiled")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned())
}
