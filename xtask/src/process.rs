//! Programs that are started, shown and judged by their exit code.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::Failure;

/// Runs a command with our own terminal; anything but exit code 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = show(command);
    let status = command.status().map_err(|error| format!("{shown}: cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// Runs a command and answers its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{shown}: cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{shown}: its answer is not UTF-8"))
}

/// Runs a command and shows what it said only if it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<(), Failure> {
    let shown = show(command);
    let output = command.output().map_err(|error| format!("{shown}: cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
}

/// Whether `name` with `arguments` runs at all.
pub(crate) fn answers(name: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    // Cargo names itself by its full path to those that it starts.
    let is_cargo = std::env::var_os("CARGO").is_some_and(|cargo| cargo == command.get_program());
    let program = if is_cargo { OsStr::new("cargo") } else { command.get_program() };
    let words = [program].into_iter().chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_commands_can_be_typed() {
        let mut command = Command::new("lifeboat");
        command.args(["restore", "it's", "--to", "a b", ""]);
        assert_eq!(show(&command), r"lifeboat restore 'it'\''s' --to 'a b' ''");
    }
}
