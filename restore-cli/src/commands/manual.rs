//! `lifeboat completions` and `lifeboat man`: made from the arguments themselves, so that they cannot differ.

use std::path::Path;

use clap::CommandFactory as _;
use lifeboat_schema::Exit;

use super::Arguments;
use crate::error::CliError;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Exit, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lifeboat", &mut text);
    crate::output::line(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Done)
}

/// Writes a page for the program and each of its commands.
pub(crate) fn pages(folder: &Path) -> Result<Exit, CliError> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|error| CliError::file(folder, "written to", &error))?;
    Ok(Exit::Done)
}
