//! One measured command: wall time by our clock, peak memory by GNU time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Failure, process};

/// GNU time: what measures peak memory.
const TIME: &str = "/usr/bin/time";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The first snapshot into an empty repository.
    First,
    /// The same again: nothing has changed.
    Unchanged,
    /// A check that reads all data back.
    Check,
    /// A restore of everything into an empty folder.
    Restore,
    /// `cp -r` of the tree straight after that restore: what the machine takes for writing so many files.
    Copy,
}

impl Step {
    /// The steps that are a tool's own.
    pub(crate) const OF_A_TOOL: [Step; 4] = [Step::First, Step::Unchanged, Step::Check, Step::Restore];
}

/// What one command took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// Peak memory (resident set) in KiB.
    pub(crate) peak_kib: u64,
    /// Size of the repository afterwards in KiB.
    pub(crate) repository_kib: u64,
}

/// Refuses to begin without GNU time.
pub(crate) fn needs_time() -> Result<(), Failure> {
    if process::answers(TIME, &["-v", "true"]) {
        return Ok(());
    }
    Err(format!("{TIME} (GNU time) is missing; it measures peak memory: apt-get install time"))
}

/// Runs a command under GNU time; its output is shown only if it fails.
pub(crate) fn measure(command: Command) -> Result<Sample, Failure> {
    // What earlier steps wrote must not be written back in this one's time.
    process::run(&mut Command::new("sync"))?;
    let shown = process::show(&command);
    let mut timed = Command::new(TIME);
    timed.arg("-v").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    timed.stdin(Stdio::null());
    let started = Instant::now();
    let output = timed.output().map_err(|error| format!("{TIME}: cannot be started: {error}"))?;
    let seconds = started.elapsed().as_secs_f64();
    let errors = String::from_utf8_lossy(&output.stderr);
    // A check of ours ends with 3 where it has something to say of a VM, as it has of the fabric's.
    let is_ours = Path::new(command.get_program()).file_stem().is_some_and(|name| name == "lifeboat");
    if !(output.status.success() || is_ours && output.status.code() == Some(3)) {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{shown}: {}\n{said}{errors}", output.status));
    }
    let peak_kib = peak(&errors).ok_or_else(|| format!("{TIME} did not tell the peak memory of {shown}"))?;
    Ok(Sample { seconds, peak_kib, repository_kib: 0 })
}

fn peak(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("Maximum resident set size (kbytes): "))?;
    line.parse().ok()
}

/// Space that a folder takes, as `du -sk` counts it.
pub(crate) fn size_kib(folder: &Path) -> Result<u64, Failure> {
    let text = process::output(Command::new("du").arg("-sk").arg(folder))?;
    text.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("du said: {text}"))
}

/// The middle one of several values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_read() {
        let text =
            "\tCommand being timed: \"x\"\n\tMaximum resident set size (kbytes): 73412\n\tExit status: 0\n";
        assert_eq!(peak(text), Some(73412));
        assert_eq!(peak(""), None);
    }
}
