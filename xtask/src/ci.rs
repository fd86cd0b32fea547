//! `cargo xtask ci`: everything that a submission must pass, one step after the other.
//!
//! A step that fails does not stop the others; a step that cannot run says `SKIPPED` and why. `.ci/run`
//! installs the tools and calls this.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::{Failure, documents, fuzz, layers, oracles, process, workspace};

/// Seconds that each fuzz target gets.
const FUZZ_SECONDS: u32 = 10;

/// How a step ended that did not fail.
enum Done {
    Passed,
    Skipped(String),
}

type Step = (&'static str, fn() -> Result<Done, Failure>);

/// From cheap to dear, so that most mistakes show early.
const STEPS: &[Step] = &[
    ("format", format),
    ("documents", documents_step),
    ("layers", layers_step),
    ("dependencies", dependencies),
    ("tests (README)", tests),
    ("schemas", schemas),
    ("clippy", clippy),
];

/// What `--quick` leaves out. Oracles come first, as they take the tests' own programs.
const LONG_STEPS: &[Step] = &[
    ("oracles", oracles_step),
    ("documentation", documentation),
    ("fuzz", fuzz_step),
    ("demo (README)", demo),
];

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let quick = arguments.flag("--quick");
    arguments.finish()?;
    let before = tree()?;
    let mut rows: Vec<(&str, Duration, Result<Done, Failure>)> = Vec::new();
    let long = if quick { &[] } else { LONG_STEPS };
    for (name, step) in STEPS.iter().chain(long) {
        println!("\n=== {name}");
        let started = Instant::now();
        let result = step();
        match &result {
            Ok(Done::Passed) => {}
            Ok(Done::Skipped(why)) => println!("SKIPPED: {why}"),
            Err(failure) => println!("FAILED: {failure}"),
        }
        rows.push((name, started.elapsed(), result));
    }
    let started = Instant::now();
    rows.push(("clean tree", started.elapsed(), unchanged(&before, &tree()?)));

    println!("\n=== summary");
    for (name, time, result) in &rows {
        let (word, why) = match result {
            Ok(Done::Passed) => ("passed", ""),
            Ok(Done::Skipped(why)) => ("SKIPPED", why.as_str()),
            Err(failure) => ("FAILED", failure.lines().next().unwrap_or_default()),
        };
        println!("{:>6.0} s  {word:<8} {name:<16} {why}", time.as_secs_f64());
    }
    let total: f64 = rows.iter().map(|(_, time, _)| time.as_secs_f64()).sum();
    println!("{total:>6.0} s  in all");
    let failed: Vec<&str> =
        rows.iter().filter(|(_, _, result)| result.is_err()).map(|(name, _, _)| *name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("these steps failed: {}", failed.join(", "))) }
}

fn cargo(arguments: &str) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments.split(' '));
    command
}

fn run_all(commands: impl IntoIterator<Item = Command>) -> Result<Done, Failure> {
    for mut command in commands {
        println!("$ {}", process::show(&command));
        process::run(&mut command)?;
    }
    Ok(Done::Passed)
}

fn format() -> Result<Done, Failure> {
    run_all([cargo("fmt --all --check"), cargo("fmt --manifest-path fuzz/Cargo.toml --check")])
}

fn clippy() -> Result<Done, Failure> {
    run_all([cargo("clippy --workspace --all-targets -- -D warnings")])
}

fn documentation() -> Result<Done, Failure> {
    let mut command = cargo("doc --no-deps --workspace");
    command.env("RUSTDOCFLAGS", "-D warnings");
    run_all([command])
}

fn documents_step() -> Result<Done, Failure> {
    none_wrong(documents::check()?)
}

fn layers_step() -> Result<Done, Failure> {
    none_wrong(layers::check()?)
}

fn none_wrong(wrong: Vec<String>) -> Result<Done, Failure> {
    if wrong.is_empty() { Ok(Done::Passed) } else { Err(wrong.join("\n")) }
}

/// Compares with the program that the tests have built: another cargo call would build half of it anew, with
/// other features.
fn schemas() -> Result<Done, Failure> {
    let program = workspace::program(&workspace::built("debug")?, "schemas");
    run_all([{
        let mut command = Command::new(program);
        command.current_dir(workspace::root()).arg("--check");
        command
    }])
}

fn dependencies() -> Result<Done, Failure> {
    if !process::answers("cargo", &["deny", "--version"]) {
        return Ok(Done::Skipped(
            "cargo-deny is not installed (cargo install cargo-deny --locked)".to_owned(),
        ));
    }
    run_all([cargo("deny check --hide-inclusion-graph licenses bans sources")])?;
    // The database is a git repository, which not every network reaches.
    if process::run(&mut cargo("deny fetch db")).is_err() {
        return Ok(Done::Skipped(
            "advisories: database not reachable (licenses, bans and sources passed)".to_owned(),
        ));
    }
    run_all([cargo("deny check advisories")])
}

fn oracles_step() -> Result<Done, Failure> {
    let skipped = oracles::compare()?;
    Ok(if skipped.is_empty() { Done::Passed } else { Done::Skipped(skipped.join("; ")) })
}

fn fuzz_step() -> Result<Done, Failure> {
    Ok(match fuzz::smoke(fuzz::Limits { seconds: FUZZ_SECONDS, executions: None }, None)? {
        None => Done::Passed,
        Some(why) => Done::Skipped(why),
    })
}

fn tests() -> Result<Done, Failure> {
    readme("Test")
}

fn demo() -> Result<Done, Failure> {
    readme("Try it")
}

/// Runs a command of the README exactly as it stands there.
fn readme(heading: &str) -> Result<Done, Failure> {
    let line = documents::readme_command(heading)?;
    let mut command = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    command.args([if cfg!(windows) { "/C" } else { "-c" }, &line]).current_dir(workspace::root());
    println!("$ {line}");
    process::run(&mut command)?;
    Ok(Done::Passed)
}

/// What git sees as changed.
fn tree() -> Result<String, Failure> {
    process::output(Command::new("git").current_dir(workspace::root()).args(["status", "--porcelain"]))
}

fn unchanged(before: &str, after: &str) -> Result<Done, Failure> {
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|there| there == *line)).collect();
    if new.is_empty() {
        Ok(Done::Passed)
    } else {
        Err(format!("the steps changed the tree: {}", new.join(", ")))
    }
}
