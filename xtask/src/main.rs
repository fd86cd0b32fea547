//! `cargo xtask`: what developers and CI run.
//!
//! Starts cargo, git and our own programs, and looks at the sources. It depends on none of our crates, so
//! that it is built in seconds, and it installs nothing: what is missing is said and skipped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's program talks to its terminal")]

mod arguments;
mod bench;
mod ci;
mod demo;
mod documents;
mod fuzz;
mod kills;
mod layers;
mod oracles;
mod process;
mod schemas;
mod workspace;

use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--out DIR]                  the main job end to end, on a synthetic host; leaves a folder to explore
  ci [--quick]                      everything that CI checks; --quick leaves out documentation, fuzzing, demo
  layers                            which crate may use which (DESIGN section 8)
  documents                         README, links, file lengths, machine paths
  schemas [--check]                 write (or compare) the JSON Schemas in schema/json
  oracles                           our readers and writers against qemu-img, dissect, dislocker, as far as they are there
  fuzz [--seconds 10] [--runs N] [--target T]
                                    a short run of every fuzz target; needs cargo-fuzz
  kills [--times 200]               kills the agent at random moments, and looks what was lost
  bench audit [--vms 10000] [--runs 3] [--dir DIR] [--programs DIR] [--no-write]
                                    an audit from a cold and a warm catalog; writes docs/benchmarks.md
  bench idle [--vms 500] [--seconds 300] [--dir DIR] [--programs DIR]
                                    memory and processor time of an agent on a host where nothing happens
  bench bitlocker [--mib 1024] [--runs 3] [--dir DIR] [--programs DIR] [--no-write]
                                    decrypting BitLocker against dislocker, cp and cryptsetup; writes docs/benchmarks.md
  bench escrow [--entries 50000] [--vms 2000] [--dir DIR] [--programs DIR] [--no-write]
                                    importing a directory and proving escrowed secrets; writes docs/benchmarks.md
  bench fabric [--vms 5000] [--runs 3] [--dir DIR] [--no-write]
                                    our speed against restic, borg and rustic; writes docs/benchmarks.md
  bench fleet [--agents 100] [--vms 50] [--rounds 3] [--store URL] [--rgw-socket PATH] [--dir DIR] [--programs DIR] [--no-write]
                                    many agents at once into one store; writes docs/benchmarks.md
";

/// What a command says when it did not succeed: what, why, what to do.
type Failure = String;

fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    let result = match arguments.command().as_deref() {
        Some("demo") => demo::run(arguments),
        Some("ci") => ci::run(arguments),
        Some("layers") => layers::run(arguments),
        Some("documents") => documents::run(arguments),
        Some("schemas") => schemas::run(arguments),
        Some("oracles") => oracles::run(arguments),
        Some("fuzz") => fuzz::run(arguments),
        Some("kills") => kills::run(arguments),
        Some("bench") => bench::run(arguments),
        Some("help") | None => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprint!("error: there is no command `{other}`\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
