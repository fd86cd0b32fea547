//! `lifeboat-agent doctor`: what a run needs, looked at piece by piece, with the next step for whatever is not right.
//!
//! Beside `run`: the same configuration, key, sources and store. What the store lets these credentials do is found out by doing
//! it, to objects that it makes under this host's own prefix with names drawn at random; where the store refuses to delete them
//! they stay, as objects that no record names. It never touches anything else, and commits no record.

mod place;
mod store;

use std::path::PathBuf;

use lifeboat_config::Config;
use lifeboat_schema::{CheckOutcome, DoctorCheck, DoctorReport, Exit, StoreProtection, Time};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::store::{Store, StoreError};

use crate::run::{RunError, read_key};

/// What the process brings.
pub struct DoctorWorld<'a> {
    /// Looks up one variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Now.
    pub now: Time,
    /// Draws 32 random bytes for the name of an object; nothing where the system has none.
    pub random: &'a dyn Fn() -> Option<[u8; 32]>,
}

/// Looks at everything, and opens the store by the configuration.
pub async fn examine(config: &Config, world: &DoctorWorld<'_>) -> DoctorReport {
    let store = Store::open(&config.store.url, &config.store.options, world.environment);
    examine_with(config, store, world).await
}

/// Looks at everything in a store that was opened already.
pub async fn examine_with(
    config: &Config,
    store: Result<Store, StoreError>,
    world: &DoctorWorld<'_>,
) -> DoctorReport {
    let mut notes = Notes::default();
    let key = signing_key(config, &mut notes);
    place::state_folder(config, &mut notes);
    place::catalog(config, &mut notes);
    place::sources(config, &mut notes);
    let protection = store::examine(config, store, key.as_ref(), world, &mut notes).await;
    DoctorReport {
        vault: config.vault.clone(),
        writer: config.writer.clone(),
        store: config.store.url.clone(),
        examined: world.now,
        protection,
        checks: notes.0,
    }
}

/// Where the newest report lies: metrics tell the store's protection from it.
pub fn report_path(config: &Config) -> PathBuf {
    config.state_folder.join("doctor.json")
}

/// Keeps a report for the metrics; the state folder must be there.
///
/// # Errors
/// That of the file system.
pub fn keep(config: &Config, report: &DoctorReport) -> std::io::Result<()> {
    let path = report_path(config);
    let partial = path.with_extension("json.partial");
    let json = serde_json::to_vec_pretty(report).expect("reports have only string keys");
    std::fs::write(&partial, json)?;
    std::fs::rename(&partial, &path)
}

/// The report that was kept last; nothing where there is none that this program understands.
pub fn kept(config: &Config) -> Option<DoctorReport> {
    serde_json::from_slice(&std::fs::read(report_path(config)).ok()?).ok()
}

/// The protection that was found last.
pub fn kept_protection(config: &Config) -> StoreProtection {
    kept(config).map_or(StoreProtection::Unknown, |report| report.protection)
}

/// Collects checks.
#[derive(Default)]
struct Notes(Vec<DoctorCheck>);

impl Notes {
    fn add(&mut self, check: &str, outcome: CheckOutcome, what: impl Into<String>, next: Option<&str>) {
        let (check, next) = (check.to_owned(), next.map(str::to_owned));
        self.0.push(DoctorCheck { check, outcome, what: what.into(), next, exit_code: None });
    }

    fn works(&mut self, check: &str, what: impl Into<String>) {
        self.add(check, CheckOutcome::Works, what, None);
    }

    fn note(&mut self, check: &str, what: impl Into<String>) {
        self.add(check, CheckOutcome::Note, what, None);
    }

    fn skipped(&mut self, check: &str, what: impl Into<String>) {
        self.add(check, CheckOutcome::Skipped, what, None);
    }

    fn finding(&mut self, check: &str, what: impl Into<String>, next: &str) {
        self.add(check, CheckOutcome::Finding, what, Some(next));
    }

    /// The text of our errors says what to do.
    fn fails(&mut self, check: &str, what: impl Into<String>, exit: Exit) {
        self.add(check, CheckOutcome::Fails, what, None);
        if let Some(last) = self.0.last_mut() {
            last.exit_code = Some(exit.code());
        }
    }
}

fn signing_key(config: &Config, notes: &mut Notes) -> Option<SigningKey> {
    match read_key(config) {
        Ok(key) => {
            let file = config.signing_key.display();
            notes.works("signing-key", format!("{file} is {}", key.verifying_key().fingerprint()));
            Some(key)
        }
        Err(error) => {
            notes.fails("signing-key", RunError::to_string(&error), error.exit());
            None
        }
    }
}
