//! `lifeboat-agent`: the service for hosts.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_agent::agent::{Agent, Outside};
use lifeboat_agent::clock::SystemClock;
use lifeboat_agent::jobs;
use lifeboat_agent::run::{RunError, World, exit_of, run_once};
use lifeboat_agent::service::{self, Asked, JobEnded, Requests, Service, ServiceObserver};
use lifeboat_config::Config;
use lifeboat_engine::snapshot::{SnapshotObserver, Unobserved};
use lifeboat_schema::{CarriedWhy, CompanionCounts, ErrorReport, Exit, RunReport, Time};

/// Backs up what virtual machines with a vTPM cannot live without, into a sealed vault.
#[derive(Parser)]
#[command(name = "lifeboat-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs as a service: snapshots and other jobs when they are due, and VMs that change.
    Run {
        /// Snapshot all sources once and end.
        #[arg(long)]
        once: bool,
        /// The agent's configuration.
        #[arg(long, value_name = "FILE", env = "LIFEBOAT_AGENT_CONFIG")]
        config: PathBuf,
        /// Answer in JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Works with the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Checks a configuration and says what it means, without touching the vault.
    Check {
        /// The agent's configuration.
        #[arg(long, value_name = "FILE", env = "LIFEBOAT_AGENT_CONFIG")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A service says what it does; a command answers.
    let level = if matches!(arguments.command, Command::Run { once: false, .. }) { "info" } else { "warn" };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LIFEBOAT_LOG").unwrap_or_else(|_| level.into()),
        )
        .init();
    let exit = match arguments.command {
        Command::Run { once: true, config, json } => run(&config, json),
        Command::Run { once: false, config, json } => serve(&config, json),
        Command::Config { command: ConfigCommand::Check { config } } => check(&config),
    };
    ExitCode::from(exit.code())
}

fn run(path: &Path, json: bool) -> Exit {
    let result = read(path).and_then(|config| {
        let runtime = runtime(path)?;
        let world = World {
            environment: &|name| std::env::var(name).ok(),
            clock: Arc::new(now),
            observer: Arc::new(Bar::new()),
        };
        runtime.block_on(run_once(&config, world))
    });
    match result {
        Ok(report) => {
            tracing::info!(
                seq = report.seq,
                found = report.found,
                captured = report.captured,
                "run committed"
            );
            if json {
                print_json(&report)
            } else {
                print_report(&report)
            }
            exit_of(&report)
        }
        Err(error) => {
            let exit = error.exit();
            print_error(&error.to_string(), exit, json);
            exit
        }
    }
}

fn read(path: &Path) -> Result<Config, RunError> {
    Ok(Config::read_with(path, &mut std::env::vars())?)
}

fn runtime(path: &Path) -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(lifeboat_engine::blocking_threads())
        .enable_all()
        .build()
        .map_err(|source| RunError::Folder { path: path.to_owned(), source })
}

/// Runs until a signal ends it.
fn serve(path: &Path, json: bool) -> Exit {
    let result = read(path).and_then(|config| {
        let runtime = runtime(path)?;
        let clock = Arc::new(SystemClock::default());
        let outside = Outside::new(clock, Arc::new(Unobserved), |name| std::env::var(name).ok());
        let service = Service::open(config, outside, jobs::built_in(), Box::new(Log))?;
        tracing::info!(writer = %service.agent().writer.id, "the agent runs");
        let exit = runtime.block_on(async {
            let mut signals =
                Signals::new().map_err(|source| RunError::Folder { path: path.to_owned(), source })?;
            service::serve(service, &mut signals, &|| read(path)).await
        });
        // A read that hangs on a dead share must not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        exit
    });
    result.unwrap_or_else(|error| {
        let exit = error.exit();
        print_error(&error.to_string(), exit, json);
        exit
    })
}

/// Signals of the operating system.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }
}

#[async_trait::async_trait(?Send)]
impl Requests for Signals {
    #[cfg(unix)]
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Asked {
        // Without a handler there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Asked::Stop
    }
}

/// Writes what a service does to the log: one line for each job.
struct Log;

impl ServiceObserver for Log {
    fn ended(&self, ended: &JobEnded, agent: &Agent) {
        let JobEnded { name, took, exit, summary, findings, .. } = ended;
        let (code, milliseconds) = (exit.code(), took.as_millis() as u64);
        let (spool_bytes, failures) = (agent.spooled_bytes(), agent.breaker.failures());
        match exit {
            Exit::Done => tracing::info!(job = name, exit = code, milliseconds, spool_bytes, "{summary}"),
            Exit::Findings => {
                tracing::warn!(job = name, exit = code, milliseconds, spool_bytes, failures, "{summary}");
            }
            _ => tracing::error!(job = name, exit = code, milliseconds, spool_bytes, failures, "{summary}"),
        }
        for finding in findings {
            tracing::warn!(job = name, code = %finding.code, place = %finding.place, next = %finding.next, "{}", finding.what);
        }
    }
}

/// A bar over VMs on a terminal, and nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("Capturing {bar:30} {pos}/{len} VMs {eta}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl SnapshotObserver for Bar {
    fn planned(&self, _: u64, to_capture: u64) {
        self.0.set_length(to_capture);
    }

    fn vm_done(&self, name: &str, ok: bool) {
        self.0.inc(1);
        if !ok {
            tracing::warn!(vm = name, "could not be captured");
        }
    }

    fn stored(&self, _: u64) {}
}

fn check(path: &Path) -> Exit {
    let checked = read(path).and_then(|config| Ok((service::check(&config, &jobs::built_in())?, config)));
    match checked {
        Ok((schedules, config)) => {
            print_line(&format!(
                "{}: host {} writes as {} into the vault {} at {}; {} source(s), {} folder(s) of artefacts; the folders themselves are looked at by a run",
                path.display(),
                config.host,
                config.writer,
                config.vault,
                config.store.url,
                config.sources.len(),
                config.artefacts.len()
            ));
            for (job, schedule) in schedules {
                match schedule.and_then(|schedule| schedule.next_after(now())) {
                    Some(next) => print_line(&format!("{job}: due next at {next}")),
                    None => print_line(&format!("{job}: never")),
                }
            }
            Exit::Done
        }
        Err(error) => {
            print_error(&error.to_string(), error.exit(), false);
            error.exit()
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[expect(clippy::print_stdout, reason = "the program's answer goes to standard output")]
fn print_line(text: &str) {
    println!("{text}");
}

fn print_json(value: &impl serde::Serialize) {
    print_line(&serde_json::to_string_pretty(value).expect("reports have only string keys"));
}

#[expect(clippy::print_stderr, reason = "errors go to standard error")]
fn print_error(text: &str, exit: Exit, json: bool) {
    if json {
        print_json(&ErrorReport { exit_code: exit.code(), error: text.to_owned() });
    } else {
        eprintln!("error: {text}");
    }
}

fn print_report(report: &RunReport) {
    print_line(&format!(
        "Record {} committed: {} VMs found, {} captured, {} unchanged, {} carried forward, {} failed.",
        report.seq,
        report.found,
        report.captured,
        report.unchanged,
        report.carried.len(),
        report.failed.len()
    ));
    if report.companions != CompanionCounts::default() {
        let CompanionCounts { found, captured, unchanged } = report.companions;
        print_line(&format!(
            "Artefacts beside VMs: {found} found, {captured} captured, {unchanged} unchanged."
        ));
    }
    print_line(&format!(
        "{} objects with {} bytes stored; the snapshot stands on {} objects.",
        report.stored_objects, report.stored_bytes, report.live_objects
    ));
    for vm in &report.carried {
        let why = match vm.why {
            CarriedWhy::Vanished => "no longer found on this host",
            CarriedWhy::Failed => "could not be read",
        };
        let error = vm.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        print_line(&format!("carried forward: {} ({}), {why} since {}{error}", vm.name, vm.vm_id, vm.since));
    }
    for vm in &report.failed {
        print_line(&format!("failed: {}: {}", vm.place, vm.error));
    }
    for finding in &report.findings {
        print_line(&format!("{}: {}\n  next: {}", finding.place, finding.what, finding.next));
    }
}
