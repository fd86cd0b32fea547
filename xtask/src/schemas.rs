//! `cargo xtask schemas`: the JSON Schemas of every document that leaves a process.
//!
//! The program `schemas` of the package `tests` writes them from the types; this only starts it, so that
//! xtask itself needs none of our crates.

use crate::arguments::Arguments;
use crate::{Failure, process, workspace};

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let check = arguments.flag("--check");
    arguments.finish()?;
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--package", "lifeboat-tests", "--bin", "schemas", "--"]);
    if check {
        command.arg("--check");
    }
    process::run(&mut command)
}
