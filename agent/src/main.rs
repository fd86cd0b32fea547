//! `lifeboat-agent`: the service for hosts.

mod manage;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory as _, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_agent::agent::Outside;
use lifeboat_agent::clock::SystemClock;
use lifeboat_agent::doctor::{self, DoctorWorld};
use lifeboat_agent::escrow::{self, EscrowError, run_escrow_once};
use lifeboat_agent::jobs;
use lifeboat_agent::log::{self, Surroundings};
use lifeboat_agent::reporter::Reporter;
use lifeboat_agent::run::{RunError, World, exit_of, run_once};
use lifeboat_agent::service::{self, Asked, Requests, Service};
use lifeboat_agent::supervisor::Supervisor;
use lifeboat_agent::watchers::{WatchClock, Watchers};
use lifeboat_config::Config;
use lifeboat_engine::snapshot::{SnapshotObserver, Unobserved};
use lifeboat_schema::{
    CarriedWhy, CheckOutcome, CompanionCounts, DoctorReport, ErrorReport, EscrowImportReport, Exit,
    RunReport, Time,
};

/// Backs up what virtual machines with a vTPM cannot live without, into a sealed vault.
#[derive(Parser)]
#[command(name = "lifeboat-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs as a service: snapshots and other jobs when they are due, and VMs that change. With --once and the importer.toml
    /// of `lifeboat escrow enroll`, imports recovery secrets.
    Run {
        /// Snapshot all sources once and end.
        #[arg(long)]
        once: bool,
        /// The agent's configuration, or an importer's (importer.toml).
        #[arg(long, value_name = "FILE", env = "LIFEBOAT_AGENT_CONFIG")]
        config: PathBuf,
        /// Answer in JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Looks at everything that a run needs, and at what the store lets these credentials do.
    ///
    /// Writes small objects under this host's own prefix and tries to replace and delete them; nothing else is touched.
    /// Exit codes: 0 all works; 3 works, with findings; 1, 2, 4 or 5 what runs would end with.
    Doctor {
        /// The agent's configuration.
        #[arg(long, value_name = "FILE", env = "LIFEBOAT_AGENT_CONFIG")]
        config: PathBuf,
        /// Answer in JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Installs the agent as a service of systemd, or takes it away.
    #[command(subcommand)]
    Service(manage::Service),
    /// Writes completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes manual pages into a folder.
    Man {
        /// The folder; made if it is not there.
        folder: PathBuf,
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
    // A service says what it does, as its configuration wants; a command answers.
    if !matches!(arguments.command, Command::Run { once: false, .. }) {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_env("LIFEBOAT_LOG").unwrap_or_else(|_| "warn".into()),
            )
            .init();
    }
    let exit = match arguments.command {
        Command::Run { once: true, config, json } if escrow::is_importer(&config) => {
            run_importer(&config, json)
        }
        Command::Run { once: true, config, json } => run(&config, json),
        Command::Run { once: false, config, json } => serve(&config, json),
        Command::Doctor { config, json } => examine(&config, json),
        Command::Service(command) => manage::run(&command),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "lifeboat-agent",
                &mut std::io::stdout(),
            );
            Exit::Done
        }
        Command::Man { folder } => manage::man(Arguments::command(), &folder),
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

/// Runs an importer of recovery secrets.
fn run_importer(path: &std::path::Path, json: bool) -> Exit {
    let world = lifeboat_importer::World { environment: &|name| std::env::var(name).ok(), clock: &now };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|source| EscrowError::from(RunError::Folder { path: path.to_owned(), source }));
    match runtime.and_then(|runtime| runtime.block_on(run_escrow_once(path, &world))) {
        Ok(report) => {
            tracing::info!(sealed = report.sealed, "importer's run ended");
            if json {
                print_json(&report);
            } else {
                print_import(&report);
            }
            lifeboat_importer::exit_of(&report)
        }
        Err(error) => {
            let exit = error.exit();
            print_error(&error.to_string(), exit, json);
            exit
        }
    }
}

fn examine(path: &std::path::Path, json: bool) -> Exit {
    let examined = read(path).map_err(|error| error.to_string()).and_then(|config| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let world = DoctorWorld {
            environment: &|name| std::env::var(name).ok(),
            now: now(),
            random: &|| {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).ok().map(|()| bytes)
            },
        };
        let report = runtime.map_err(|error| error.to_string())?.block_on(doctor::examine(&config, &world));
        // Metrics read it; a first look before the first run has nowhere to keep it.
        if config.state_folder.is_dir()
            && let Err(error) = doctor::keep(&config, &report)
        {
            tracing::warn!(%error, "the report could not be kept for the metrics");
        }
        Ok(report)
    });
    match examined {
        Ok(report) if json => {
            print_json(&report);
            report.exit()
        }
        Ok(report) => {
            print_examined(&report);
            report.exit()
        }
        Err(error) => {
            print_error(&error, Exit::Usage, json);
            Exit::Usage
        }
    }
}

fn read(path: &Path) -> Result<Config, RunError> {
    Ok(Config::read_with(path, &mut std::env::vars())?)
}

fn runtime(path: &Path) -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(lifeboat_engine::blocking_threads(4))
        .enable_all()
        .build()
        .map_err(|source| RunError::Folder { path: path.to_owned(), source })
}

/// Runs until a signal ends it.
fn serve(path: &Path, json: bool) -> Exit {
    let result = read(path).and_then(|config| {
        let runtime = runtime(path)?;
        let environment = |name: &str| std::env::var(name).ok();
        let level = environment("LIFEBOAT_LOG");
        log::begin(&config.log, level.as_deref(), Surroundings::of_process(environment))
            .map_err(|error| RunError::Log { error })?;
        let clock = Arc::new(SystemClock::default());
        let outside = Outside::new(clock, Arc::new(Unobserved), environment);
        let exit = runtime.block_on(async {
            // First of all: who asks early is heard too.
            let mut signals =
                Signals::new().map_err(|source| RunError::Folder { path: path.to_owned(), source })?;
            let watch_clock: WatchClock = Arc::new(now);
            let watchers = Watchers::start(&config, Arc::clone(&watch_clock)).await;
            let reporter = Reporter::begin(watchers, Supervisor::find(environment), watch_clock);
            let service = Service::open(config, outside, jobs::built_in(), Box::new(reporter))?;
            tracing::info!(writer = %service.agent().writer.id, "the agent runs");
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

fn print_import(report: &EscrowImportReport) {
    for source in &report.sources {
        let new = source.found - source.known;
        print_line(&format!(
            "{} ({}): {} found, {new} new, {} problems",
            source.name,
            source.source.name(),
            source.found,
            source.problems
        ));
    }
    match report.record {
        Some(record) => print_line(&format!("{} recovery secrets sealed; record {record}", report.sealed)),
        None => print_line("Nothing new was sealed."),
    }
    for finding in &report.findings {
        print_line(&format!("{}: {}\n  next: {}", finding.place, finding.what, finding.next));
    }
}

fn print_examined(report: &DoctorReport) {
    for check in &report.checks {
        let mark = match check.outcome {
            CheckOutcome::Works => "works",
            CheckOutcome::Note => "note",
            CheckOutcome::Finding => "FINDING",
            CheckOutcome::Fails => "FAILS",
            CheckOutcome::Skipped => "skipped",
        };
        print_line(&format!("{mark:8} {}: {}", check.check, check.what));
        if let Some(next) = &check.next {
            print_line(&format!("         next: {next}"));
        }
    }
    print_line(&format!("Protection against these credentials: {}.", report.protection.word()));
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
