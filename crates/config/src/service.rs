//! How the agent runs as a service: when its jobs are due, what it watches, and what it does without the store.
//!
//! Keys, defaults and ranges. What a cron expression or a time zone means is the agent's to say.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When each job is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Snapshots of all sources.
    pub snapshot: JobSchedule,
    /// Reads a sample of this host's objects back and compares them with their names.
    pub check_sample: JobSchedule,
    /// Imports of recovery secrets, on a management server; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escrow_import: Option<JobSchedule>,
    /// Proofs of recovery secrets, on a management server; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prove: Option<JobSchedule>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            snapshot: JobSchedule::at("0 * * * *"),
            check_sample: JobSchedule::at("30 3 * * *"),
            escrow_import: None,
            prove: None,
        }
    }
}

/// When one job is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSchedule {
    /// Five fields as in a crontab (minute, hour, day of the month, month, day of the week), or `never`.
    pub cron: String,
    /// Time zone of the expression: `system`, a name such as `Europe/Berlin`, or a POSIX rule.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// The job is begun up to so many seconds later, always the same number on one host (0 to 86,400).
    #[serde(default = "default_jitter_seconds")]
    pub jitter_seconds: u32,
    /// Whether what was missed, asleep or down, is caught up, once.
    #[serde(default = "yes")]
    pub catch_up: bool,
}

impl JobSchedule {
    /// The defaults with this expression.
    pub fn at(cron: &str) -> Self {
        Self {
            cron: cron.to_owned(),
            time_zone: default_time_zone(),
            jitter_seconds: default_jitter_seconds(),
            catch_up: true,
        }
    }
}

/// Snapshots of VMs that change, between the scheduled ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Whether to watch.
    pub enabled: bool,
    /// A VM is captured when its files have not changed for so long (1 to 600).
    pub quiet_seconds: u32,
    /// And after so long whether they rest or not (1 to 3,600).
    pub longest_wait_seconds: u32,
    /// A VM is captured again no sooner than so many seconds after its last capture; the schedule does not ask (0 to 86,400).
    pub floor_seconds: u32,
    /// How often to look where the system tells of no changes (5 to 3,600).
    pub poll_seconds: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            quiet_seconds: 10,
            longest_wait_seconds: 40,
            floor_seconds: 60,
            poll_seconds: 20,
        }
    }
}

/// Where sealed runs wait while the store is down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Whether runs go on without the store.
    pub enabled: bool,
    /// The folder; relative to `state_folder`.
    pub folder: PathBuf,
    /// Most that it may hold (1 to 1,048,576).
    pub max_mebibytes: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { enabled: true, folder: "spool".into(), max_mebibytes: 1024 }
    }
}

/// How much is sent, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UploadConfig {
    /// Most KiB a second, on average over an object; 0: as fast as it goes.
    pub max_kibibytes_per_second: u64,
    /// The only time of the day at which the store is asked, such as `22:00-06:00`; empty: always. Runs at other times are
    /// sealed into the spool.
    pub window: String,
    /// Time zone of the window, as of a schedule.
    pub time_zone: String,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self { max_kibibytes_per_second: 0, window: String::new(), time_zone: default_time_zone() }
    }
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// When asked to stop, a job that is under way may go on for so long (0 to 3,600).
    pub stop_grace_seconds: u32,
    /// Objects that the job `check_sample` reads (1 to 10,000).
    pub sample_objects: u32,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self { stop_grace_seconds: 60, sample_objects: 20 }
    }
}

fn default_time_zone() -> String {
    "system".to_owned()
}

fn default_jitter_seconds() -> u32 {
    300
}

fn yes() -> bool {
    true
}

/// The first value that is out of its range: its key, and why.
pub(crate) fn out_of_range(
    schedule: &ScheduleConfig,
    watch: &WatchConfig,
    spool: &SpoolConfig,
    upload: &UploadConfig,
    service: &ServiceConfig,
) -> Option<(&'static str, &'static str)> {
    let jobs = [
        Some(&schedule.snapshot),
        Some(&schedule.check_sample),
        schedule.escrow_import.as_ref(),
        schedule.prove.as_ref(),
    ];
    let rules = [
        (
            jobs.into_iter().flatten().all(|job| job.jitter_seconds <= 86_400),
            "schedule.*.jitter_seconds",
            "must be 0 to 86400",
        ),
        ((1..=600).contains(&watch.quiet_seconds), "watch.quiet_seconds", "must be 1 to 600"),
        ((1..=3600).contains(&watch.longest_wait_seconds), "watch.longest_wait_seconds", "must be 1 to 3600"),
        (watch.floor_seconds <= 86_400, "watch.floor_seconds", "must be 0 to 86400"),
        ((5..=3600).contains(&watch.poll_seconds), "watch.poll_seconds", "must be 5 to 3600"),
        ((1..=1 << 20).contains(&spool.max_mebibytes), "spool.max_mebibytes", "must be 1 to 1048576"),
        (!spool.folder.as_os_str().is_empty(), "spool.folder", "is empty; name a folder"),
        (
            upload.window.is_empty() || spool.enabled,
            "upload.window",
            "needs the spool: set spool.enabled = true, or leave the window empty",
        ),
        (service.stop_grace_seconds <= 3600, "service.stop_grace_seconds", "must be 0 to 3600"),
        ((1..=10_000).contains(&service.sample_objects), "service.sample_objects", "must be 1 to 10000"),
    ];
    rules.into_iter().find(|(holds, ..)| !holds).map(|(_, key, why)| (key, why))
}
