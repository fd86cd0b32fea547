//! The jobs that an agent can be given, and where each finds its schedule.
//!
//! A job is added by one more [`Entry`] in [`built_in`]: the service knows none of them by name.

use async_trait::async_trait;
use lifeboat_config::{JobSchedule, ScheduleConfig};
use lifeboat_engine::snapshot::SnapshotError;
use lifeboat_schema::{Digest, Exit, Finding, RunReport, Severity};
use lifeboat_vault::outbox::Placed;
use lifeboat_vault::store::StoreError;
use lifeboat_vault::vault::{VaultError, object_path};

use crate::agent::Agent;
use crate::run::{RunError, exit_of};

/// How a job ended that did what it is for.
#[derive(Debug)]
pub struct JobEnd {
    /// The exit code that the same deed as a command would have.
    pub exit: Exit,
    /// What was done, in a line.
    pub summary: String,
    /// What someone should know.
    pub findings: Vec<Finding>,
    /// The report of a snapshot.
    pub snapshot: Option<RunReport>,
}

/// Something that is done when it is due.
#[async_trait(?Send)]
pub trait Job: Send {
    /// Its name: the key of its schedule, with dashes.
    fn name(&self) -> &'static str;

    /// Whether an agent that never did it does it at once.
    fn is_due_at_first(&self) -> bool {
        false
    }

    /// Does it once.
    ///
    /// # Errors
    /// [`RunError`]; it is tried again before its time then.
    async fn run(&self, agent: &mut Agent) -> Result<JobEnd, RunError>;
}

/// Where a job's schedule is in a configuration.
pub type ScheduleOf = fn(&ScheduleConfig) -> Option<&JobSchedule>;

/// A job with the place of its schedule.
pub struct Entry {
    /// The job.
    pub job: Box<dyn Job>,
    /// Its schedule in a configuration.
    pub schedule: ScheduleOf,
}

/// Places of schedules whose jobs a program may lack.
pub(crate) const OPTIONAL: [(&str, ScheduleOf); 2] = [
    ("escrow-import", |schedule| schedule.escrow_import.as_ref()),
    ("prove", |schedule| schedule.prove.as_ref()),
];

/// The jobs of this program.
pub fn built_in() -> Vec<Entry> {
    vec![
        Entry { job: Box::new(Snapshot), schedule: |schedule| Some(&schedule.snapshot) },
        Entry { job: Box::new(CheckSample), schedule: |schedule| Some(&schedule.check_sample) },
    ]
}

/// Snapshots all sources.
pub struct Snapshot;

#[async_trait(?Send)]
impl Job for Snapshot {
    fn name(&self) -> &'static str {
        "snapshot"
    }

    fn is_due_at_first(&self) -> bool {
        true
    }

    async fn run(&self, agent: &mut Agent) -> Result<JobEnd, RunError> {
        let (report, placed) = agent.snapshot(None).await?;
        Ok(end_of_snapshot(report, placed))
    }
}

/// How a snapshot ended, for whoever asks about jobs.
pub(crate) fn end_of_snapshot(report: RunReport, placed: Placed) -> JobEnd {
    let place = match placed {
        Placed::Stored => "committed",
        Placed::Spooled => "sealed into the spool",
    };
    JobEnd {
        exit: exit_of(&report),
        summary: format!(
            "record {} {place}: {} VMs found, {} captured, {} unchanged, {} carried, {} failed",
            report.seq,
            report.found,
            report.captured,
            report.unchanged,
            report.carried.len(),
            report.failed.len()
        ),
        findings: report.findings.clone(),
        snapshot: Some(report),
    }
}

/// Reads some of the objects of the newest record back, others each time, and compares them with their names.
pub struct CheckSample;

#[async_trait(?Send)]
impl Job for CheckSample {
    fn name(&self) -> &'static str {
        "check-sample"
    }

    async fn run(&self, agent: &mut Agent) -> Result<JobEnd, RunError> {
        let now = agent.outside.clock.now();
        // What waits in the spool is not in the store yet.
        if agent.catalog.unsent_since()?.is_some() || agent.detour().is_some() {
            let summary = "nothing was read: the store is not asked now".to_owned();
            return Ok(JobEnd { exit: Exit::Done, summary, findings: Vec::new(), snapshot: None });
        }
        let vault = agent.vault().await?;
        let mut objects = agent.catalog.objects()?;
        objects.sort_by_cached_key(|object| Digest::of(format!("{now}{}", object.name).as_bytes()));
        objects.truncate(agent.config.service.sample_objects as usize);
        let (mut findings, mut bytes) = (Vec::new(), 0);
        for object in &objects {
            let path = object_path(&agent.writer.id, &object.name);
            let wrong = match vault.store.read(&path, object.size).await {
                Ok(read) => {
                    bytes += read.len() as u64;
                    let found = Digest::of(&read);
                    (found != object.name).then(|| format!("its digest is {found}"))
                }
                Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => {
                    Some(error.to_string())
                }
                Err(error) => return Err(SnapshotError::from(VaultError::from(error)).into()),
            };
            findings.extend(wrong.map(|what| {
                Finding::new(
                    Severity::Damage,
                    "object-damaged",
                    path.to_string(),
                    what,
                    "run `lifeboat check --read-data`, and bring the object back from a mirror or an older version",
                )
            }));
        }
        let summary = format!("{} objects read, {bytes} bytes, {} damaged", objects.len(), findings.len());
        Ok(JobEnd { exit: Exit::of(&findings), summary, findings, snapshot: None })
    }
}
