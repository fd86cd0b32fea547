//! What the agent tells those who watch it: OpenMetrics, and whether it is alive and ready.
//!
//! The ages of VMs come from the catalog, which holds what is committed, and not from what a run believed; so they are right
//! after a restart and when runs fail. Durations and failures are counted since the process began. It serves nothing itself
//! (see `listener`).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifeboat_config::Config;
use lifeboat_engine::catalog::{Catalog, CatalogError};
use lifeboat_schema::{Record, Severity, Time};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::doctor;
use crate::outcome::{FailureCause, RunOutcome};

/// The service loop counts as stuck when it has not shown itself for so long.
const MAX_SILENCE_SECONDS: u64 = 300;

/// Upper bounds of the durations of runs, in seconds.
const DURATIONS: [f64; 10] = [0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0];

type Labels = Vec<(String, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// What waits in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolDepth {
    /// Runs that wait.
    pub runs: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// When the oldest was sealed.
    pub oldest: Option<Time>,
}

/// Everything that is told of one agent.
pub struct Metrics {
    config: Config,
    durations: Histogram,
    stored_bytes: Counter,
    stored_objects: Counter,
    runs: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<LastRun>,
    spool: SpoolDepth,
    next: BTreeMap<String, Time>,
    alive: Option<Time>,
    stopping: bool,
}

struct LastRun {
    finished: Time,
    seconds: i64,
    exit: u8,
    findings: [u64; 3],
}

/// Whether the agent is well, for `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Whether it is.
    pub ok: bool,
    /// Why not, or what it does.
    pub what: String,
}

impl Metrics {
    /// The metrics of an agent with this configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            durations: Histogram::new(DURATIONS),
            stored_bytes: Counter::default(),
            stored_objects: Counter::default(),
            runs: Family::default(),
            failures: Family::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it holds is plain values, whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how a run went.
    pub fn run_ended(&self, outcome: &RunOutcome) {
        let seconds = outcome.finished.unix_seconds().saturating_sub(outcome.started.unix_seconds()).max(0);
        let labels = |name: &str, value: &str| vec![label("job", outcome.job), label(name, value)];
        let mut findings = [0; 3];
        match &outcome.result {
            Ok(report) => {
                self.runs.get_or_create(&labels("result", "committed")).inc();
                self.stored_bytes.inc_by(report.stored_bytes);
                self.stored_objects.inc_by(report.stored_objects);
                for finding in &report.findings {
                    findings[severity_index(finding.severity)] += 1;
                }
            }
            Err(failure) => {
                self.runs.get_or_create(&labels("result", "failed")).inc();
                self.failures.get_or_create(&labels("cause", failure.cause.word())).inc();
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a run takes fewer than 2^53 seconds")]
        self.durations.observe(seconds as f64);
        let (finished, exit) = (outcome.finished, outcome.exit().code());
        self.state().last = Some(LastRun { finished, seconds, exit, findings });
    }

    /// Takes in what waits in the spool.
    pub fn set_spool(&self, depth: SpoolDepth) {
        self.state().spool = depth;
    }

    /// Takes in when a job is due next; nothing where it is never.
    pub fn set_next_run(&self, job: &str, at: Option<Time>) {
        match at {
            Some(at) => self.state().next.insert(job.to_owned(), at),
            None => self.state().next.remove(job),
        };
    }

    /// The service loop shows that it goes round.
    pub fn show_alive(&self, now: Time) {
        self.state().alive = Some(now);
    }

    /// The service stops: it is ready no more.
    pub fn stopping(&self) {
        self.state().stopping = true;
    }

    /// Whether the process does what it should, for a supervisor that would start it again.
    pub fn health(&self, now: Time) -> Health {
        match self.state().alive {
            None => Health { ok: true, what: "starting".to_owned() },
            Some(alive) => {
                let silent = now.unix_seconds().abs_diff(alive.unix_seconds());
                if silent > MAX_SILENCE_SECONDS {
                    Health { ok: false, what: format!("the service loop has not gone round for {silent} s") }
                } else {
                    Health { ok: true, what: "running".to_owned() }
                }
            }
        }
    }

    /// Whether snapshots are being made: the catalog can be read, and the last run, if there was one, committed.
    pub fn readiness(&self) -> Health {
        let not = |what: &str| Health { ok: false, what: what.to_owned() };
        {
            let state = self.state();
            if state.stopping {
                return not("stopping");
            }
            // 0 and 3 are runs that committed.
            match &state.last {
                None => {}
                Some(last) if last.exit == 0 || last.exit == 3 => {}
                Some(last) => return not(&format!("the last run ended with {}", last.exit)),
            }
        }
        match self.committed() {
            Ok(Some(_)) => Health { ok: true, what: "snapshots are committed".to_owned() },
            Ok(None) => not("no snapshot is committed yet"),
            // Names of paths stay in the log: this may be asked over the network.
            Err(_) => not("the catalog cannot be read"),
        }
    }

    /// Everything in the text form of OpenMetrics. Reads the catalog: blocks.
    ///
    /// # Errors
    /// [`CatalogError`] where the catalog cannot be read; half of the truth would look like the whole.
    pub fn render(&self) -> Result<String, CatalogError> {
        let committed = self.committed()?;
        let mut registry = Registry::with_prefix("lifeboat");
        self.register_process(&mut registry);
        self.register_protection(&mut registry);
        if let Some(committed) = committed {
            committed.register(&mut registry);
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing into a string does not fail");
        Ok(text)
    }

    fn register_process(&self, registry: &mut Registry) {
        let version = vec![label("version", env!("CARGO_PKG_VERSION")), label("host", &self.config.host)];
        gauge(registry, "agent", "The agent; always 1", [(version, 1.0)]);
        // Every cause is there from the start: an alert on an increase sees the first failure.
        for cause in FailureCause::ALL {
            let _ =
                self.failures.get_or_create(&vec![label("job", "snapshot"), label("cause", cause.word())]);
        }
        for result in ["committed", "failed"] {
            let _ = self.runs.get_or_create(&vec![label("job", "snapshot"), label("result", result)]);
        }
        registry.register("runs", "Runs since the agent began", self.runs.clone());
        registry.register("failures", "Runs that committed nothing, by cause", self.failures.clone());
        registry.register("run_duration_seconds", "How long runs took", self.durations.clone());
        registry.register("stored_bytes", "Bytes put into the store", self.stored_bytes.clone());
        registry.register("stored_objects", "Objects put into the store", self.stored_objects.clone());
        let state = self.state();
        if let Some(last) = &state.last {
            gauge(registry, "last_run_timestamp_seconds", "When the last run ended", at(last.finished));
            gauge(
                registry,
                "last_run_duration_seconds",
                "How long the last run took",
                one(float(last.seconds)),
            );
            gauge(
                registry,
                "last_run_exit_code",
                "How the last run ended: 0 well, 3 with findings",
                one(f64::from(last.exit)),
            );
            let findings = [Severity::Note, Severity::Warning, Severity::Damage].map(|severity| {
                let word = ["note", "warning", "damage"][severity_index(severity)];
                (vec![label("severity", word)], float(last.findings[severity_index(severity)].cast_signed()))
            });
            gauge(registry, "last_run_findings", "Findings of the last run", findings);
        }
        gauge(
            registry,
            "spool_runs",
            "Sealed runs that wait for the store",
            one(float(state.spool.runs.cast_signed())),
        );
        gauge(
            registry,
            "spool_bytes",
            "Bytes that wait for the store",
            one(float(state.spool.bytes.cast_signed())),
        );
        if let Some(oldest) = state.spool.oldest {
            gauge(
                registry,
                "spool_oldest_timestamp_seconds",
                "When the oldest waiting run was sealed",
                at(oldest),
            );
        }
        let next = state.next.iter().map(|(job, at)| (vec![label("job", job)], float(at.unix_seconds())));
        gauge(registry, "next_run_timestamp_seconds", "When a job is due", next.collect::<Vec<_>>());
    }

    fn register_protection(&self, registry: &mut Registry) {
        let report = doctor::kept(&self.config);
        let found = doctor::kept_protection(&self.config);
        let states = lifeboat_schema::StoreProtection::ALL
            .map(|state| (vec![label("state", state.word())], f64::from(u8::from(state == found))));
        gauge(
            registry,
            "store_protection",
            "1 for what keeps objects from this host's own credentials",
            states,
        );
        if let Some(report) = report {
            gauge(
                registry,
                "store_examined_timestamp_seconds",
                "When doctor last looked",
                at(report.examined),
            );
        }
    }

    /// What the last committed record holds; nothing where there is none.
    fn committed(&self) -> Result<Option<Committed>, CatalogError> {
        let path = self.config.state_folder.join("catalog.sqlite");
        if !path.exists() {
            return Ok(None);
        }
        let catalog = Catalog::open(&path, &self.config.vault, &self.config.writer)?;
        let Some(tip) = catalog.tip()? else { return Ok(None) };
        let record = catalog.kept_records()?.into_iter().find(|record| record.name == tip);
        let finished = record.and_then(|record| finished_of(&record.bytes));
        let objects = catalog.objects()?;
        let bytes = objects.iter().map(|object| object.size).sum();
        let vms = catalog.vms()?;
        let (companions, vms) = vms.into_iter().partition::<Vec<_>, _>(|vm| vm.is_companion());
        Ok(Some(Committed {
            seq: tip.seq,
            finished,
            objects: objects.len() as u64,
            bytes,
            companions: companions.len() as u64,
            vms: vms
                .into_iter()
                .map(|vm| Vm {
                    id: vm.key,
                    name: vm.name,
                    captured: vm.captured,
                    carried_since: vm.carried_since,
                })
                .collect(),
        }))
    }
}

struct Committed {
    seq: u64,
    finished: Option<Time>,
    objects: u64,
    bytes: u64,
    companions: u64,
    vms: Vec<Vm>,
}

struct Vm {
    id: String,
    name: String,
    captured: Time,
    carried_since: Option<Time>,
}

impl Committed {
    fn register(&self, registry: &mut Registry) {
        gauge(
            registry,
            "committed_seq",
            "Number of the last committed record",
            one(float(self.seq.cast_signed())),
        );
        if let Some(finished) = self.finished {
            gauge(
                registry,
                "committed_timestamp_seconds",
                "When the last committed record was finished",
                at(finished),
            );
        }
        gauge(
            registry,
            "live_objects",
            "Objects that the last record keeps alive",
            one(float(self.objects.cast_signed())),
        );
        gauge(registry, "live_bytes", "Bytes of these objects", one(float(self.bytes.cast_signed())));
        let carried = self.vms.iter().filter(|vm| vm.carried_since.is_some()).count() as u64;
        let current = self.vms.len() as u64 - carried;
        let counts = [("current", current), ("carried", carried)]
            .map(|(state, count)| (vec![label("state", state)], float(count.cast_signed())));
        gauge(registry, "vms", "VMs of the last record: found as they are, or carried forward", counts);
        gauge(
            registry,
            "companions",
            "Artefacts beside VMs of the last record",
            one(float(self.companions.cast_signed())),
        );
        let labels = |vm: &Vm| vec![label("vm_id", &vm.id), label("vm", &vm.name)];
        let captured = self.vms.iter().map(|vm| (labels(vm), float(vm.captured.unix_seconds())));
        gauge(
            registry,
            "vm_captured_timestamp_seconds",
            "When the VM's files that are held were read",
            captured.collect::<Vec<_>>(),
        );
        // A VM that is not carried forward was as captured when the run ended; one that cannot be read counts from its capture.
        let good = self.vms.iter().map(|vm| {
            let good = vm.carried_since.or(self.finished).unwrap_or(vm.captured);
            (labels(vm), float(good.unix_seconds()))
        });
        gauge(
            registry,
            "vm_last_good_timestamp_seconds",
            "Until when a committed snapshot was the VM's state",
            good.collect::<Vec<_>>(),
        );
    }
}

/// When a record of one's own says that it was finished.
fn finished_of(bytes: &[u8]) -> Option<Time> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice::<Record>(line).ok().map(|record| record.finished)
}

fn severity_index(severity: Severity) -> usize {
    match severity {
        Severity::Note => 0,
        Severity::Warning => 1,
        Severity::Damage => 2,
    }
}

fn label(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "counts, sizes and times stay far below 2^53")]
fn float(value: i64) -> f64 {
    value as f64
}

fn one(value: f64) -> [(Labels, f64); 1] {
    [(Vec::new(), value)]
}

fn at(time: Time) -> [(Labels, f64); 1] {
    one(float(time.unix_seconds()))
}

fn gauge(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
    let values: Vec<(Labels, f64)> = values.into_iter().collect();
    // A family writes empty braces where there is no label.
    if let [(labels, value)] = values.as_slice()
        && labels.is_empty()
    {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(*value);
        registry.register(name, help, gauge);
        return;
    }
    let family = Gauges::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}
