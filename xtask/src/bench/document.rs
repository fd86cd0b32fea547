//! docs/benchmarks.md: a table for each benchmark between marks; the rest of the text is people's.

use std::fs;
use std::process::Command;

use crate::{Failure, process, workspace};

/// Where the tables go, from the root.
const DOCUMENT: &str = "docs/benchmarks.md";

fn marks(name: &str) -> (String, String) {
    (format!("<!-- bench {name}: begin -->"), format!("<!-- bench {name}: end -->"))
}

/// Puts the table of a benchmark between its marks in the document.
pub(crate) fn write(name: &str, table: &str) -> Result<(), Failure> {
    let path = workspace::root().join(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let text = replace(&text, name, table).ok_or_else(|| {
        let (begin, end) = marks(name);
        format!("{DOCUMENT}: the lines `{begin}` and `{end}` are missing; the table belongs between them")
    })?;
    fs::write(&path, text).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    println!("written to {DOCUMENT}");
    Ok(())
}

/// The text with `table` between the marks; none if they are missing.
fn replace(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = marks(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{table}\n{end}{after}"))
}

/// A number of a table.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or(
        "–".to_owned(),
        |value| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") },
    )
}

/// What was measured on.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let system = process::output(Command::new("uname").arg("-sr")).unwrap_or_default();
    format!(
        "{}, {cores} cores, {}, load {load} at the start",
        cpu.unwrap_or_else(|| "unknown processor".to_owned()),
        system.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_document_stays() {
        let (begin, end) = marks("fabric");
        let text = format!("# A\n{begin}\nold\n{end}\nrest\n");
        assert_eq!(
            replace(&text, "fabric", "new\n").as_deref(),
            Some(&*format!("# A\n{begin}\n\nnew\n\n{end}\nrest\n"))
        );
        assert_eq!(replace(&text, "bitlocker", "new"), None);
    }
}
