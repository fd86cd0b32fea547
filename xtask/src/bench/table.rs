//! The results as a Markdown table: medians, ratios and targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::document::{machine, number};
use super::fabric::Tool;
use super::measure::{Sample, Step, median};
use super::ours::NAME;
use crate::Failure;

/// Of the best peer's time, ours may be at most this for the first snapshot.
const FIRST_RATIO: f64 = 0.6;
/// The same for a run that finds nothing changed.
const UNCHANGED_RATIO: f64 = 0.35;
/// The same for a check that reads all data.
const CHECK_RATIO: f64 = 0.8;
/// Of the time of `cp -r` straight after it, a restore may take at most this.
const RESTORE_RATIO: f64 = 1.1;
/// Of restic's peak memory, ours may be at most this.
const MEMORY_RATIO: f64 = 1.0;
/// Of restic's repository, the vault may be at most this.
const SIZE_RATIO: f64 = 1.05;
/// Live bundles per 100 VMs.
const BUNDLES_PER_100_VMS: f64 = 32.0;

/// All that was measured.
pub(crate) struct Results {
    vms: u32,
    runs: u32,
    /// One line on the tree, one on the machine, one for each tool.
    facts: Vec<String>,
    /// Tools in the order of their columns, ours first.
    names: Vec<&'static str>,
    samples: BTreeMap<(&'static str, Step), Vec<Sample>>,
    /// Objects that our newest snapshot stands on.
    pub(crate) live_objects: u64,
}

impl Results {
    pub(crate) fn new(vms: u32, runs: u32, tree_folder: &Path, tools: &[&dyn Tool]) -> Result<Self, Failure> {
        let mut facts = vec![tree(tree_folder)?, machine()];
        for tool in tools {
            let version = tool.version()?;
            let named = version.to_lowercase().contains(&tool.name().to_lowercase());
            facts.push(if named { version } else { format!("{} {version}", tool.name()) });
        }
        let names = tools.iter().map(|tool| tool.name()).collect();
        Ok(Self { vms, runs, facts, names, samples: BTreeMap::new(), live_objects: 0 })
    }

    pub(crate) fn add(&mut self, tool: &'static str, samples: Vec<(Step, Sample)>) {
        for (step, sample) in samples {
            self.samples.entry((tool, step)).or_default().push(sample);
        }
    }

    fn median(&self, tool: &str, step: Step, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let found = self.samples.iter().find(|((name, at), _)| *name == tool && *at == step);
        median(found?.1.iter().map(of).collect())
    }

    fn seconds(&self, tool: &str, step: Step) -> Option<f64> {
        self.median(tool, step, |sample| sample.seconds)
    }

    /// The highest median of any step, in MiB.
    fn memory(&self, tool: &str) -> Option<f64> {
        let steps = Step::OF_A_TOOL.iter();
        let peaks =
            steps.filter_map(|&step| self.median(tool, step, |sample| sample.peak_kib as f64 / 1024.0));
        peaks.max_by(f64::total_cmp)
    }

    /// The repository after the first snapshot, in MiB.
    fn size(&self, tool: &str) -> Option<f64> {
        self.median(tool, Step::First, |sample| sample.repository_kib as f64 / 1024.0)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let header: Vec<&str> = self.names.to_vec();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| | {} | ratio | target | |", header.join(" | "));
        let _ = writeln!(text, "|---|{}---|---|---|", "---|".repeat(self.names.len()));
        let timed = [
            ("first snapshot, s", Step::First, FIRST_RATIO),
            ("unchanged run, s", Step::Unchanged, UNCHANGED_RATIO),
            ("check, all data read, s", Step::Check, CHECK_RATIO),
        ];
        for (what, step, most) in timed {
            let values = self.names.iter().map(|name| self.seconds(name, step)).collect();
            let best = self.peers().filter_map(|name| self.seconds(name, step)).min_by(f64::total_cmp);
            self.row(&mut text, what, values, best, &format!("≤ {most} of the best peer"), most);
        }
        let values = self.names.iter().map(|name| self.seconds(name, Step::Restore)).collect();
        let copy = self.seconds(NAME, Step::Copy);
        self.row(
            &mut text,
            "restore of everything, s",
            values,
            copy,
            &format!("≤ {RESTORE_RATIO} of `cp -r` after it"),
            RESTORE_RATIO,
        );
        let values: Vec<String> =
            self.names.iter().map(|name| number(self.seconds(name, Step::Copy))).collect();
        let _ = writeln!(text, "| `cp -r` straight after, s | {} | | control | |", values.join(" | "));
        let values = self.names.iter().map(|name| self.memory(name)).collect();
        self.row(
            &mut text,
            "peak memory of any step, MiB",
            values,
            self.memory("restic"),
            "≤ restic's",
            MEMORY_RATIO,
        );
        let values = self.names.iter().map(|name| self.size(name)).collect();
        self.row(
            &mut text,
            "vault or repository, MiB",
            values,
            self.size("restic"),
            &format!("≤ {SIZE_RATIO} of restic's"),
            SIZE_RATIO,
        );
        let objects = self.live_objects as f64 * 100.0 / f64::from(self.vms);
        let verdict = if objects <= BUNDLES_PER_100_VMS { "met" } else { "MISSED" };
        let others = " |".repeat(self.names.len() - 1);
        let _ = writeln!(
            text,
            "| live objects per 100 VMs | {objects:.1} |{others} | ≤ {BUNDLES_PER_100_VMS} bundles (bodies count here too) | {verdict} |"
        );
        let _ = writeln!(text, "\nMedian of {} after one warm-up. {}.", self.runs, self.facts.join(". "));
        let _ =
            writeln!(text, "\nMade by `cargo xtask bench fabric --vms {} --runs {}`.", self.vms, self.runs);
        text
    }

    fn peers(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied().filter(|name| *name != NAME)
    }

    /// A row with a value for each tool; ours, the first, is judged against `against`.
    fn row(
        &self,
        text: &mut String,
        what: &str,
        values: Vec<Option<f64>>,
        against: Option<f64>,
        target: &str,
        most: f64,
    ) {
        let ratio = values.first().copied().flatten().zip(against).map(|(ours, theirs)| ours / theirs);
        let (shown, verdict) = match ratio {
            None => ("–".to_owned(), "not measured"),
            Some(ratio) => (format!("{ratio:.2}"), if ratio <= most { "met" } else { "MISSED" }),
        };
        let values: Vec<String> = values.into_iter().map(number).collect();
        let _ = writeln!(text, "| {what} | {} | {shown} | {target} | {verdict} |", values.join(" | "));
    }
}

fn tree(path: &Path) -> Result<String, Failure> {
    let (mut files, mut bytes) = (0u64, 0u64);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                bytes += metadata.len();
            }
        }
    }
    Ok(format!("The tree: {files} files, {} MiB", bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results {
            vms: 200,
            runs: 3,
            facts: vec!["A machine".to_owned()],
            names: vec![NAME, "restic", "borg"],
            samples: BTreeMap::new(),
            live_objects: 20,
        };
        for (tool, seconds, mebibytes) in [(NAME, 1.0, 60), ("restic", 2.0, 70), ("borg", 1.5, 50)] {
            for extra in [0.0, 9.0, 0.1] {
                let sample = Sample {
                    seconds: seconds + extra,
                    peak_kib: mebibytes << 10,
                    repository_kib: mebibytes << 10,
                };
                results.add(tool, Step::OF_A_TOOL.iter().map(|&step| (step, sample)).collect());
                results.add(tool, vec![(Step::Copy, Sample { seconds: 2.0, ..sample })]);
            }
        }
        results
    }

    #[test]
    fn ours_is_judged_against_the_best_peer() {
        let text = results().markdown();
        let row = |begin: &str| text.lines().find(|line| line.starts_with(begin)).expect(begin).to_owned();
        // Medians: 1.1, 2.1 and 1.6 seconds.
        assert_eq!(
            row("| first"),
            "| first snapshot, s | 1.10 | 2.10 | 1.60 | 0.69 | ≤ 0.6 of the best peer | MISSED |"
        );
        assert_eq!(
            row("| check"),
            "| check, all data read, s | 1.10 | 2.10 | 1.60 | 0.69 | ≤ 0.8 of the best peer | met |"
        );
        assert!(row("| restore").contains("| 0.55 | ≤ 1.1 of `cp -r` after it | met |"));
        assert!(row("| peak").contains("| 60.00 | 70.00 | 50.00 | 0.86 | ≤ restic's | met |"));
        assert!(row("| live").contains("| 10.0 |"), "{}", row("| live"));
        let cells = |line: &str| line.matches('|').count();
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(table.iter().all(|line| cells(line) == cells(table[0])), "{text}");
    }

    #[test]
    fn without_peers_nothing_is_claimed() {
        let mut results = results();
        results.names.truncate(1);
        results.samples.retain(|(name, _), _| *name == NAME);
        let text = results.markdown();
        assert_eq!(text.matches("not measured").count(), 5, "{text}");
    }
}
