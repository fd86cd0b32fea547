//! What a person sees: answers on standard output, everything else on standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_schema::{ErrorReport, Finding, Severity};

use crate::error::CliError;

/// Writes a line of the answer. A reader that went away ends the process quietly.
pub(crate) fn line(text: impl AsRef<str>) {
    if writeln!(std::io::stdout(), "{}", text.as_ref()).is_err() {
        std::process::exit(0);
    }
}

/// Writes the answer as JSON.
pub(crate) fn json(value: &impl serde::Serialize) {
    line(serde_json::to_string_pretty(value).expect("reports have only string keys"));
}

/// Writes a remark for the person at the terminal.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Says how a command failed.
pub(crate) fn error(error: &CliError, as_json: bool) {
    if as_json {
        json(&ErrorReport { exit_code: error.exit.code(), error: error.text.clone() });
    } else {
        note(format!("{} {}", paint("error:", "31;1"), error.text));
    }
}

fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}

/// Colours `text` where the terminal wants it; no meaning hangs on the colour alone.
fn paint(text: &str, code: &str) -> String {
    if colour() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Notes of one code that are written out: a fleet has thousands of VMs.
const MAX_EQUAL_NOTES: usize = 3;

/// Writes findings, worst first, each with its next step.
pub(crate) fn findings(findings: &[Finding]) {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut notes: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in sorted {
        if finding.severity == Severity::Note {
            let count = notes.entry(&finding.code).or_default();
            *count += 1;
            if *count > MAX_EQUAL_NOTES {
                continue;
            }
        }
        let (word, code) = match finding.severity {
            Severity::Damage => ("DAMAGE", "31;1"),
            Severity::Warning => ("WARNING", "33;1"),
            Severity::Note => ("note", "2"),
        };
        note(format!(
            "{} [{}] {}: {}",
            paint(word, code),
            finding.code,
            plain(&finding.place),
            plain(&finding.what)
        ));
        note(format!("  next: {}", finding.next));
    }
    for (code, count) in notes.into_iter().filter(|(_, count)| *count > MAX_EQUAL_NOTES) {
        let more = count - MAX_EQUAL_NOTES;
        note(format!("{} [{code}] and {more} more like it; --json lists all", paint("note", "2")));
    }
}

/// Text from elsewhere, without what a terminal would act on.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Bytes for people: binary units, one decimal.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = count.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} {}", UNITS[0])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Writes rows in columns, the header first.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.trim_end().to_owned()
    };
    line(format(&mut header.iter().copied()));
    for row in rows {
        line(format(&mut row.iter().map(String::as_str)));
    }
}

/// A progress bar over bytes on a terminal, and nothing elsewhere.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(0),
        if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        },
    );
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_600_000, "1.5 MiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
