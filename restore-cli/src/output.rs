//! What a person sees: answers on standard output, everything else on standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_schema::{ErrorReport, Exit, Finding, Severity};

use crate::error::CliError;

/// Whether nobody reads standard output any more, and whether something of the answer was lost otherwise.
static IS_GONE: AtomicBool = AtomicBool::new(false);
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Writes a line of the answer. A reader that went away (`| head`) has what it wanted: the work goes on without it.
pub(crate) fn line(text: impl AsRef<str>) {
    if !IS_GONE.load(Ordering::Relaxed) {
        noted(writeln!(std::io::stdout(), "{}", text.as_ref()));
    }
}

/// Returns the exit code of a command that ended with `exit`: an answer that could not be written is a failure.
pub(crate) fn finish(exit: Exit) -> Exit {
    noted(std::io::stdout().flush());
    if IS_LOST.load(Ordering::Relaxed) && matches!(exit, Exit::Done | Exit::Findings) {
        return Exit::Failed;
    }
    exit
}

fn noted(written: std::io::Result<()>) {
    let Err(error) = written else { return };
    let is_first = !IS_GONE.swap(true, Ordering::Relaxed);
    if is_first && error.kind() != std::io::ErrorKind::BrokenPipe {
        IS_LOST.store(true, Ordering::Relaxed);
        note(format!("error: the answer cannot be written: {error}"));
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
        // Lines are ours (a configuration is shown with its place); what stands in them may be anyone's.
        let text: Vec<String> = error.text.lines().map(plain).collect();
        note(format!("{} {}", paint("error:", "31;1"), text.join("\n")));
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
        note(format!("  next: {}", plain(&finding.next)));
    }
    for (code, count) in notes.into_iter().filter(|(_, count)| *count > MAX_EQUAL_NOTES) {
        let more = count - MAX_EQUAL_NOTES;
        note(format!("{} [{code}] and {more} more like it; --json lists all", paint("note", "2")));
    }
}

/// Text from elsewhere, without what a terminal would act on or what turns the reading order.
pub(crate) fn plain(text: &str) -> String {
    let acts = |one: char| {
        one.is_control()
            || matches!(one, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
    };
    text.chars().map(|one| if acts(one) { '\u{fffd}' } else { one }).collect()
}

/// A path for people; names come from elsewhere too.
pub(crate) fn path(path: &std::path::Path) -> String {
    plain(&path.display().to_string())
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

/// Writes text of the answer as it is; it ends its lines itself.
pub(crate) fn text(text: &str) {
    if !IS_GONE.load(Ordering::Relaxed) {
        noted(std::io::stdout().write_all(text.as_bytes()));
    }
}

/// Colours text of the answer where its reader is a terminal that wants it.
pub(crate) fn paint_line(text: &str, code: &str) -> String {
    let wants = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match wants && std::io::stdout().is_terminal() {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

/// Writes rows in columns, the header first.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    in_columns(header, rows.iter().map(|row| (None, row.as_slice())));
}

/// Writes rows in columns, the header first and each row in its colour.
pub(crate) fn coloured_table(header: &[&str], rows: &[(&str, Vec<String>)]) {
    in_columns(header, rows.iter().map(|(code, row)| (Some(*code), row.as_slice())));
}

fn in_columns<'a>(header: &[&str], rows: impl Iterator<Item = (Option<&'a str>, &'a [String])> + Clone) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for (_, row) in rows.clone() {
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
    for (code, row) in rows {
        let text = format(&mut row.iter().map(String::as_str));
        line(code.map_or_else(|| text.clone(), |code| paint_line(&text, code)));
    }
}

/// A progress bar over bytes on a terminal, and nothing elsewhere.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    bar(what, "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A progress bar over things on a terminal, and nothing elsewhere.
pub(crate) fn progress_of(what: &'static str) -> ProgressBar {
    bar(what, "{msg} {bar:30} {pos}/{len} {eta}")
}

fn bar(what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(0),
        if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        },
    );
    if let Ok(style) = ProgressStyle::with_template(template) {
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
