//! `lifeboat`: the operator's and auditor's command.

mod commands;
mod error;
mod kit;
mod output;
mod secrets;
mod shell;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    let json = arguments.json;
    let exit = match commands::run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            output::error(&error, json);
            error.exit
        }
    };
    ExitCode::from(output::finish(exit).code())
}
