//! What those who watch an agent are told, compared with the vault; and that what the examples ask for is told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use lifeboat_agent::doctor;
use lifeboat_agent::metrics::{Metrics, SpoolDepth};
use lifeboat_agent::outcome::{FailureCause, RunFailure, RunOutcome};
use lifeboat_agent::run::{RunError, run_report};
use lifeboat_config::Config;
use lifeboat_engine::snapshot::SnapshotReport;
use lifeboat_schema::{CarriedWhy, StoreProtection, Time};
use lifeboat_tests::stage::Stage;
use lifeboat_tests::testfabric::AgeOptions;
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::VaultError;

use crate::doctor::{config_of, examined, two_hosts};

async fn stage(seed: u64) -> Stage {
    let store = Store::open("memory://", &StoreOptions::default(), &|_| None).expect("open");
    two_hosts(store, "memory://", seed).await
}

fn outcome(config: &Config, report: SnapshotReport) -> RunOutcome {
    let (started, finished) = (report.started, report.finished);
    RunOutcome { job: "snapshot", started, finished, result: Ok(run_report(config, report)) }
}

/// The value of a line of the metrics.
#[track_caller]
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
    found.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line} is not in\n{text}"))
}

fn seconds(time: Time) -> f64 {
    f64::from(i32::try_from(time.unix_seconds()).expect("before 2038"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_agree_with_the_vault_after_failures_and_restarts() {
    let mut stage = stage(81).await;
    let config = config_of(&stage, 0);
    let metrics = Metrics::new(&config);
    let report = stage.run(0).await.expect("a run");
    let first = report.finished;
    metrics.run_ended(&outcome(&config, report));
    let text = metrics.render().expect("a catalog");
    assert_eq!(value(&text, "lifeboat_vms{state=\"current\"}"), 2.0);
    assert_eq!(value(&text, "lifeboat_committed_seq"), 2.0);
    assert_eq!(value(&text, "lifeboat_committed_timestamp_seconds"), seconds(first));
    assert_eq!(value(&text, "lifeboat_store_protection{state=\"unknown\"}"), 1.0);

    // One VM is torn: its age is that of the last run that found it whole.
    stage.fabric.age(&AgeOptions { round: 1, tear: 4, ..AgeOptions::default() }).expect("time passes");
    let report = stage.run(0).await.expect("a run");
    let torn: Vec<String> = report
        .carried
        .iter()
        .filter(|vm| vm.why == CarriedWhy::Failed)
        .map(|vm| format!("{{vm_id=\"{}\",vm=\"{}\"}}", vm.vm_id, vm.name))
        .collect();
    assert!(!torn.is_empty(), "something was torn");
    let ended = outcome(&config, report);
    assert!(!ended.troubles().is_empty());
    metrics.run_ended(&ended);
    let second = ended.finished;
    // The store fails: nothing that is committed changes.
    let cause = VaultError::from(
        Store::open("s3://x/y", &StoreOptions::default(), &|_| None).expect_err("no credentials"),
    );
    let failure = RunFailure::of(&RunError::Vault(cause));
    assert_eq!(failure.cause, FailureCause::Configuration);
    let now = stage.now();
    metrics.run_ended(&RunOutcome { job: "snapshot", started: now, finished: now, result: Err(failure) });
    metrics.set_spool(SpoolDepth { runs: 2, bytes: 4096, oldest: Some(first) });
    metrics.set_next_run("snapshot", Some(now));
    // A restart knows the same of what is committed, and counts anew.
    let restarted = Metrics::new(&config).render().expect("a catalog");
    let text = metrics.render().expect("a catalog");
    for text in [&text, &restarted] {
        assert_eq!(value(text, "lifeboat_committed_timestamp_seconds"), seconds(second));
        assert_eq!(
            value(text, "lifeboat_vms{state=\"carried\"}"),
            f64::from(u32::try_from(torn.len()).expect("few"))
        );
        for labels in &torn {
            let good = value(text, &format!("lifeboat_vm_last_good_timestamp_seconds{labels}"));
            assert!(good <= seconds(first), "{good} of {labels}");
            assert!(
                value(text, &format!("lifeboat_vm_captured_timestamp_seconds{labels}")) <= seconds(first)
            );
        }
    }
    assert_eq!(value(&text, "lifeboat_runs_total{job=\"snapshot\",result=\"committed\"}"), 2.0);
    assert_eq!(value(&text, "lifeboat_failures_total{job=\"snapshot\",cause=\"configuration\"}"), 1.0);
    assert_eq!(value(&restarted, "lifeboat_failures_total{job=\"snapshot\",cause=\"configuration\"}"), 0.0);
    assert_eq!(value(&text, "lifeboat_last_run_exit_code"), 2.0);
    assert_eq!(value(&text, "lifeboat_spool_bytes"), 4096.0);
    assert!(!metrics.readiness().ok, "the last run failed");

    // What doctor found is told from then on.
    let report = examined(&config, stage.vault.store.clone(), stage.now()).await;
    doctor::keep(&config, &report).expect("the state folder is there");
    assert_eq!(doctor::kept_protection(&config), StoreProtection::Unprotected);
    let text = metrics.render().expect("a catalog");
    assert_eq!(value(&text, "lifeboat_store_protection{state=\"unprotected\"}"), 1.0);
    assert_eq!(value(&text, "lifeboat_store_protection{state=\"unknown\"}"), 0.0);

    // A catalog that cannot be read is an error, not an agent without VMs.
    std::fs::write(
        config.state_folder.join("catalog.sqlite"),
        b"no database, and long enough to be looked at",
    )
    .expect("written");
    assert!(Metrics::new(&config).render().is_err());
}

/// Everything that an agent can tell, in use.
async fn all_names() -> BTreeSet<String> {
    let stage = stage(82).await;
    let config = config_of(&stage, 0);
    let metrics = Arc::new(Metrics::new(&config));
    metrics.run_ended(&outcome(&config, stage.run(0).await.expect("a run")));
    metrics.set_spool(SpoolDepth { runs: 1, bytes: 1, oldest: Some(stage.now()) });
    metrics.set_next_run("snapshot", Some(stage.now()));
    doctor::keep(&config, &examined(&config, stage.vault.store.clone(), stage.now()).await).expect("kept");
    let text = metrics.render().expect("a catalog");
    let sample = |line: &str| {
        let end = line.find(['{', ' ']).expect("a sample has a value");
        line[..end].to_owned()
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_the_examples_name_is_told() {
    let told = all_names().await;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/monitoring");
    for (file, least) in [("lifeboat-alerts.yml", 8), ("grafana-dashboard.json", 10)] {
        let text = std::fs::read_to_string(folder.join(file)).expect(file);
        if file.ends_with("json") {
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        }
        let mut named = BTreeSet::new();
        for (at, _) in text.match_indices("lifeboat_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            named.insert(name);
        }
        assert!(named.len() >= least, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, and told are {told:?}");
    }
    // The page that documents them names each.
    let page = std::fs::read_to_string(folder.join("../../docs/monitoring.md")).expect("docs/monitoring.md");
    for name in &told {
        let name = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
        assert!(page.contains(name), "docs/monitoring.md does not name {name}");
    }
}
