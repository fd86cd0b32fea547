//! Tells people of trouble, that it is over, and how things are: by signed requests and by mail.
//!
//! `judge` decides what is worth telling, from how runs went and from what was told before; it knows no network. `send` tells it.
//! What was told is remembered in the state folder, so that a restart does not tell it again. Texts are those of reports and
//! errors, which hold no secret.

mod send;

use std::path::{Path, PathBuf};

use lifeboat_config::{Config, NotifyConfig};
use lifeboat_schema::Time;
use serde::{Deserialize, Serialize};

pub use self::send::{SendError, Sender, signature};
use crate::outcome::RunOutcome;

/// Most troubles that a message lists; the rest is counted.
const MAX_LISTED: usize = 20;

/// Longest line of a message in characters.
const MAX_LINE_CHARS: usize = 500;

/// Why someone is told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// Runs fail, or VMs cannot be read.
    Trouble,
    /// They do no more.
    Recovered,
    /// How things are, told at intervals.
    Digest,
}

/// One message; the body of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Why.
    pub kind: MessageKind,
    /// Id of the vault.
    pub vault: String,
    /// The host's writer id.
    pub writer: String,
    /// The host's name.
    pub host: String,
    /// When.
    pub at: Time,
    /// One line.
    pub subject: String,
    /// The rest, a line each.
    pub lines: Vec<String>,
}

impl Message {
    /// The message as mail has it.
    pub fn text(&self) -> String {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        format!(
            "{}\n\n{lines}\nHost {}, writer {}, vault {}, at {}.\n",
            self.subject, self.host, self.writer, self.vault, self.at
        )
    }
}

/// What was told, and what happened since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Told {
    /// Jobs in trouble: since when, and when it was told last.
    troubles: Vec<Trouble>,
    /// When the last digest was sent, or when counting for the first began.
    digest: Option<Time>,
    /// Runs since then.
    runs: u64,
    /// Those that committed nothing.
    failed: u64,
    /// VMs captured since then.
    captured: u64,
    /// Bytes stored since then.
    stored_bytes: u64,
    /// VMs of the last run that committed.
    found: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    job: String,
    since: Time,
    told: Time,
    /// What was told, so that other trouble is told at once.
    what: Vec<String>,
}

/// Decides what is worth telling.
pub struct Notifier {
    config: NotifyConfig,
    vault: String,
    writer: String,
    host: String,
    path: PathBuf,
    told: Told,
}

impl Notifier {
    /// A notifier that goes on from what the state folder remembers.
    pub fn open(config: &Config) -> Self {
        let path = config.state_folder.join("notify.json");
        Self {
            config: config.notify.clone(),
            vault: config.vault.to_string(),
            writer: config.writer.to_string(),
            host: config.host.clone(),
            told: read(&path),
            path,
        }
    }

    /// What to tell after a run; nothing where nothing changed.
    pub fn run_ended(&mut self, outcome: &RunOutcome) -> Vec<Message> {
        let now = outcome.finished;
        let mut messages = Vec::new();
        self.count(outcome);
        let troubles = outcome.troubles();
        let known = self.told.troubles.iter().position(|one| one.job == outcome.job);
        match (troubles.is_empty(), known) {
            (true, None) => {}
            (true, Some(at)) => {
                let over = self.told.troubles.remove(at);
                let subject = format!("{}: {} is well again", self.host, outcome.job);
                let lines = vec![format!("It had been in trouble since {}.", over.since)];
                messages.push(self.message(MessageKind::Recovered, now, subject, lines));
            }
            (false, known) => {
                let kinds = kinds_of(outcome);
                let since = known.map_or(now, |at| self.told.troubles[at].since);
                let repeat = i64::from(self.config.repeat_hours) * 3600;
                let tell = known.is_none_or(|at| {
                    let known = &self.told.troubles[at];
                    let waited = now.unix_seconds().saturating_sub(known.told.unix_seconds());
                    // A clock that was set back must not silence anything.
                    waited >= repeat || waited < 0 || kinds.iter().any(|kind| !known.what.contains(kind))
                });
                if tell {
                    let subject = match &outcome.result {
                        Err(failure) => {
                            format!("{}: {} fails ({})", self.host, outcome.job, failure.cause.word())
                        }
                        Ok(_) => {
                            format!("{}: {} needs a look ({} things)", self.host, outcome.job, troubles.len())
                        }
                    };
                    messages.push(self.message(MessageKind::Trouble, now, subject, troubles));
                    let trouble = Trouble { job: outcome.job.to_owned(), since, told: now, what: kinds };
                    match known {
                        Some(at) => self.told.troubles[at] = trouble,
                        None => self.told.troubles.push(trouble),
                    }
                }
            }
        }
        messages.extend(self.digest_due(now));
        self.keep();
        messages
    }

    fn count(&mut self, outcome: &RunOutcome) {
        let told = &mut self.told;
        told.digest.get_or_insert(outcome.started);
        told.runs += 1;
        match &outcome.result {
            Ok(report) => {
                told.captured += report.captured;
                told.stored_bytes += report.stored_bytes;
                told.found = report.found;
            }
            Err(_) => told.failed += 1,
        }
    }

    /// The digest, where it is time for it; the service asks after each run and at least once a day.
    fn digest_due(&mut self, now: Time) -> Option<Message> {
        let interval = self.config.digest.seconds()?;
        let last = self.told.digest?;
        if now.unix_seconds().saturating_sub(last.unix_seconds()) < interval {
            return None;
        }
        let told = &self.told;
        let mut lines = vec![
            format!("Since {last}: {} runs, {} of them failed.", told.runs, told.failed),
            format!(
                "{} captures, {} bytes stored. {} VMs at the last run.",
                told.captured, told.stored_bytes, told.found
            ),
        ];
        lines.extend(told.troubles.iter().map(|one| format!("In trouble since {}: {}.", one.since, one.job)));
        let well = if told.troubles.is_empty() { "all is well" } else { "needs a look" };
        let subject = format!("{}: {well}", self.host);
        let message = self.message(MessageKind::Digest, now, subject, lines);
        let troubles = std::mem::take(&mut self.told.troubles);
        self.told = Told { troubles, digest: Some(now), found: self.told.found, ..Told::default() };
        Some(message)
    }

    fn message(&self, kind: MessageKind, at: Time, subject: String, lines: Vec<String>) -> Message {
        let more = lines.len().saturating_sub(MAX_LISTED);
        let mut lines: Vec<String> = lines.iter().take(MAX_LISTED).map(|line| one_line(line)).collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Message {
            kind,
            vault: self.vault.clone(),
            writer: self.writer.clone(),
            host: one_line(&self.host),
            at,
            subject: one_line(&subject),
            lines,
        }
    }

    fn keep(&self) {
        let partial = self.path.with_extension("json.partial");
        let json = serde_json::to_vec(&self.told).expect("plain values");
        let kept = std::fs::write(&partial, json).and_then(|()| std::fs::rename(&partial, &self.path));
        if let Err(error) = kept {
            tracing::warn!(%error, "what was told could not be remembered; a restart may tell it again");
        }
    }
}

/// What trouble it is, without what differs from run to run.
fn kinds_of(outcome: &RunOutcome) -> Vec<String> {
    match &outcome.result {
        Err(failure) => vec![failure.cause.word().to_owned()],
        Ok(report) => {
            let carried =
                report.carried.iter().filter(|vm| vm.error.is_some()).map(|vm| format!("vm {}", vm.vm_id));
            let failed = report.failed.iter().map(|vm| format!("place {}", vm.place));
            let findings = report.findings.iter().map(|one| format!("{} {}", one.code, one.place));
            carried.chain(failed).chain(findings).collect()
        }
    }
}

/// Names of VMs and paths may hold anything: a message's line stays one, and short.
fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE_CHARS).collect();
    if text.chars().nth(MAX_LINE_CHARS).is_some() {
        line.push('…');
    }
    line
}

/// A file that is not there or cannot be read is a beginning: at worst something is told twice.
fn read(path: &Path) -> Told {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
