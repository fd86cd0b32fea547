//! `cargo xtask oracles`: our readers and writers against other implementations of the same formats.
//!
//! Runs the tests whose module is called `oracle` or `oracles`. They find the other programs themselves, qemu-img on
//! the PATH and dissect.hypervisor in the Python that `LIFEBOAT_DISSECT_PYTHON` names, and say `skipped: why` where
//! one is not there; `.ci/run` installs them. What each cannot read stands in the `ORACLES.md` of the format.

use std::collections::BTreeSet;
use std::process::Command;

use crate::arguments::Arguments;
use crate::{Failure, process, workspace};

/// After this the step has failed; on two idle cores it takes one.
const LIMIT_MINUTES: u32 = 6;
/// BitLocker volumes of the sample; all 300 take ten minutes, see `formats/fve/ORACLES.md`.
const VOLUMES: &str = "24";
/// Set by whoever has installed dislocker, dissect.fve and cryptsetup.
const BITLOCKER_VARIABLE: &str = "LIFEBOAT_BITLOCKER_ORACLES";

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.finish()?;
    for why in compare()? {
        println!("SKIPPED: {why}");
    }
    Ok(())
}

/// Runs everything that can be run, and answers why the rest cannot.
pub(crate) fn compare() -> Result<Vec<String>, Failure> {
    let mut skipped = skips(&tests(&["oracle"], "0")?);
    if std::env::var_os(BITLOCKER_VARIABLE).is_some() {
        skipped.extend(skips(&tests(&["--ignored", "oracles::other_readers_agree"], VOLUMES)?));
    } else {
        skipped.insert(format!(
            "BitLocker: {BITLOCKER_VARIABLE} does not say that dislocker, dissect.fve and cryptsetup are installed"
        ));
    }
    Ok(skipped.into_iter().collect())
}

/// Runs tests in the programs that `cargo test --workspace` has built, and answers what they said.
fn tests(choice: &[&str], volumes: &str) -> Result<String, Failure> {
    let cargo = workspace::cargo();
    let mut command = if process::answers("timeout", &["--version"]) {
        let mut limited = Command::new("timeout");
        limited.args(["--kill-after=10".to_owned(), format!("{LIMIT_MINUTES}m")]).arg(cargo.get_program());
        limited
    } else {
        println!("`timeout` is not on the PATH: there is no limit of {LIMIT_MINUTES} minutes");
        Command::new(cargo.get_program())
    };
    command.current_dir(workspace::root()).env("LIFEBOAT_ORACLE_VOLUMES", volumes);
    command.args(["test", "--workspace", "--test", "suite", "--test", "it", "--"]);
    command.args(choice).arg("--nocapture");
    println!("$ {}", process::show(&command));
    let said = process::output(&mut command);
    if let Ok(said) = &said {
        let told = |line: &&str| line.contains(" ... ") || line.contains("skipped: ");
        said.lines().filter(told).for_each(|line| println!("{line}"));
    }
    said
}

/// The reasons that tests gave for not comparing.
fn skips(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(|line| line.split_once("skipped: ")).map(|(_, why)| why.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_once_each() {
        let said = "test a ... skipped: no qemu\nok\nskipped: no qemu\nskipped: no dissect\ntest b ... ok\n";
        assert_eq!(skips(said).into_iter().collect::<Vec<_>>(), ["no dissect", "no qemu"]);
    }
}
