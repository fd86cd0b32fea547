//! What the jobs of a service work with: a configuration, the lock, the catalog, the spool, and the way to the store.
//!
//! Held for the life of the service. A job that needs more opens it itself. It decides when the store is asked: not
//! outside of the upload window, and not while the breaker is open.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use lifeboat_config::Config;
use lifeboat_engine::catalog::Catalog;
use lifeboat_engine::snapshot::{SnapshotContext, SnapshotObserver, snapshot};
use lifeboat_engine::source::HostSource;
use lifeboat_schema::RunReport;
use lifeboat_vault::outbox::{Destination, Outbox, Pace, Placed, Spool, Standby};
use lifeboat_vault::store::{Store, StoreError};
use lifeboat_vault::vault::{Vault, VaultError};
use lifeboat_vault::writer::Writer;

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::run::{self, RunError};
use crate::spooling::{self, Sent};
use crate::upload::{Throttle, Window};

/// Opens the store of a configuration.
pub type OpenStore = Box<dyn Fn(&Config) -> Result<Store, RunError> + Send + Sync>;

/// The world outside of the agent.
pub struct Outside {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Who watches snapshots.
    pub observer: Arc<dyn SnapshotObserver>,
    /// Opens the store, each time that it is opened anew.
    pub open_store: OpenStore,
}

impl Outside {
    /// The world as the operating system shows it; `environment` looks up one variable.
    pub fn new(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn SnapshotObserver>,
        environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { clock, observer, open_store: Box::new(move |config| run::open_store(config, &environment)) }
    }
}

/// An agent that runs.
pub struct Agent {
    /// Its configuration.
    pub config: Config,
    /// The world outside.
    pub outside: Outside,
    /// Its memory.
    pub catalog: Catalog,
    /// The host as a writer.
    pub writer: Writer,
    /// How the store did of late.
    pub breaker: Breaker,
    sources: Vec<Arc<dyn HostSource>>,
    store: Option<Store>,
    spool: Option<Arc<Spool>>,
    standby: Standby,
    window: Option<Window>,
    pace: Option<Arc<dyn Pace>>,
    _lock: File,
}

impl Agent {
    /// Takes the lock, and opens what is on this host; the store is not asked.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn open(config: Config, outside: Outside) -> Result<Self, RunError> {
        let window = Window::new(&config.upload)?;
        run::create_private_folder(&config.state_folder)?;
        let lock = run::lock(&config)?;
        let writer = Writer { id: config.writer.clone(), key: run::read_key(&config)? };
        let catalog = run::open_catalog(&config)?;
        let spool = spool_of(&config)?;
        Ok(Self {
            sources: run::sources(&config),
            store: None,
            spool,
            standby: run::standby(&config),
            window,
            pace: Throttle::of(&config.upload, &outside.clock),
            breaker: Breaker::default(),
            _lock: lock,
            config,
            outside,
            catalog,
            writer,
        })
    }

    /// Goes on with another configuration of the same agent.
    ///
    /// # Errors
    /// [`RunError`]; the old one stays then.
    pub fn reload(&mut self, config: Config) -> Result<(), RunError> {
        let fixed = [
            (config.vault != self.config.vault, "the vault"),
            (config.writer != self.config.writer, "the writer"),
            (config.state_folder != self.config.state_folder, "state_folder"),
            (config.spool.folder != self.config.spool.folder, "spool.folder"),
        ];
        if let Some((_, what)) = fixed.into_iter().find(|(changed, _)| *changed) {
            return Err(RunError::Reload { what });
        }
        let window = Window::new(&config.upload)?;
        let key = run::read_key(&config)?;
        let spool = spool_of(&config)?;
        self.window = window;
        self.writer = Writer { id: config.writer.clone(), key };
        self.spool = spool;
        self.pace = Throttle::of(&config.upload, &self.outside.clock);
        self.sources = run::sources(&config);
        self.store = None;
        self.breaker = Breaker::default();
        self.config = config;
        Ok(())
    }

    /// Where VMs are looked for.
    pub fn sources(&self) -> &[Arc<dyn HostSource>] {
        &self.sources
    }

    /// Bytes in the spool.
    pub fn spooled_bytes(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.held_bytes())
    }

    /// How many sealed runs wait.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn spooled_runs(&self) -> Result<usize, RunError> {
        match &self.spool {
            Some(spool) => Ok(spool.runs().map_err(VaultError::from)?.len()),
            None => Ok(0),
        }
    }

    /// Why the store is not to be asked now, if it is not.
    pub fn detour(&self) -> Option<String> {
        let (clock, breaker) = (&self.outside.clock, &self.breaker);
        if let Some(window) = self.window.as_ref().filter(|window| !window.is_open(clock.now())) {
            return Some(format!("the store is asked only at {}", window.text()));
        }
        let now = clock.elapsed();
        (!breaker.allows(now)).then(|| {
            let seconds = (breaker.until() - now).as_secs();
            format!("the store failed {} times and is asked again in {seconds} s", breaker.failures())
        })
    }

    /// The vault, where it is to be asked now.
    ///
    /// # Errors
    /// [`RunError`]; an outage is noted.
    pub async fn vault(&mut self) -> Result<Vault, RunError> {
        let opened = match self.open_store() {
            Ok(store) => Vault::open(store, &self.config.vault).await.map_err(RunError::from),
            Err(error) => Err(error),
        };
        self.note(opened.as_ref().map(drop));
        opened
    }

    /// Sends what waits in the spool, if anything does and the store may be asked.
    ///
    /// # Errors
    /// [`RunError`], except that the store failed.
    pub async fn send_spool(&mut self) -> Result<Option<Sent>, RunError> {
        let Some(spool) = self.spool.clone() else { return Ok(None) };
        let findings = spooling::settle(&mut self.catalog, &spool)?;
        let waits = !spool.runs().map_err(VaultError::from)?.is_empty();
        if findings.is_empty() && (!waits || self.detour().is_some()) {
            return Ok(None);
        }
        let mut sent = Sent { findings, ..Sent::default() };
        if waits && self.detour().is_none() {
            match self.vault().await {
                Ok(vault) => {
                    let outbox = Outbox::new(vault, Arc::clone(&spool), self.standby.clone(), None);
                    let outbox = outbox.paced(self.pace.clone());
                    let more = spooling::send(&outbox, &spool, &self.writer, &mut self.catalog).await?;
                    match more.stopped {
                        Some(_) => self.failed(),
                        None => self.breaker.succeeded(),
                    }
                    sent.findings.extend(more.findings);
                    sent = Sent { findings: sent.findings, ..more };
                }
                Err(error) if is_outage(&error) => sent.stopped = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(sent))
    }

    /// One snapshot: into the store, or into the spool while the store is down. `only` has the keys of the VMs to look at,
    /// if not all.
    ///
    /// # Errors
    /// [`RunError`]; no record was made.
    pub async fn snapshot(
        &mut self,
        only: Option<&HashSet<String>>,
    ) -> Result<(RunReport, Placed), RunError> {
        let sent = self.send_spool().await?.unwrap_or_default();
        let report = match self.spool.clone().filter(|_| self.config.spool.enabled) {
            None => {
                if self.spooled_runs()? > 0 {
                    let cause = sent.stopped.or_else(|| self.detour()).unwrap_or_default();
                    return Err(RunError::Waiting { cause });
                }
                let vault = self.vault().await?;
                self.snapshot_into(&vault, only).await
            }
            Some(spool) => {
                let detour = sent.stopped.or_else(|| self.detour());
                let tried = detour.is_none();
                let (vault, cause) = match self.open_store() {
                    Ok(store) => self.standby.open_vault(store, &self.config.vault, detour).await?,
                    Err(error) if is_outage(&error) => {
                        // No request goes to it: every one of this run makes the detour.
                        let nowhere = Store::open("memory://", &Default::default(), &|_| None)
                            .map_err(VaultError::from)?;
                        let why = Some(error.to_string());
                        self.standby.open_vault(nowhere, &self.config.vault, why).await?
                    }
                    Err(error) => return Err(error),
                };
                let outbox = Outbox::new(vault, spool, self.standby.clone(), cause).paced(self.pace.clone());
                let report = self.snapshot_into(&outbox, only).await;
                match outbox.detour() {
                    Some(_) if tried => self.failed(),
                    None => self.breaker.succeeded(),
                    Some(_) => {}
                }
                report
            }
        };
        if let Err(RunError::Snapshot(lifeboat_engine::snapshot::SnapshotError::Vault(error))) = &report
            && error.is_outage()
        {
            self.failed();
        }
        let (mut report, placed) = report?;
        report.findings.extend(sent.findings);
        Ok((report, placed))
    }

    async fn snapshot_into(
        &mut self,
        destination: &dyn Destination,
        only: Option<&HashSet<String>>,
    ) -> Result<(RunReport, Placed), RunError> {
        let clock = Arc::clone(&self.outside.clock);
        let report = snapshot(SnapshotContext {
            vault: destination,
            writer: &self.writer,
            host: &self.config.host,
            sources: &self.sources,
            catalog: &mut self.catalog,
            options: &run::options(&self.config),
            only,
            clock: Arc::new(move || clock.now()),
            observer: Arc::clone(&self.outside.observer),
        })
        .await?;
        let placed = report.placed;
        Ok((run::run_report(&self.config, report), placed))
    }

    fn open_store(&mut self) -> Result<Store, RunError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = (self.outside.open_store)(&self.config)?;
        // A folder is looked at each time: a share that is not mounted is no vault without a head.
        if !self.config.store.url.starts_with("file:") {
            self.store = Some(store.clone());
        }
        Ok(store)
    }

    fn note(&mut self, result: Result<(), &RunError>) {
        match result {
            Ok(()) => self.breaker.succeeded(),
            Err(error) if is_outage(error) => self.failed(),
            Err(_) => {}
        }
    }

    fn failed(&mut self) {
        self.breaker.failed(self.outside.clock.elapsed());
        // Opened anew with the credentials that there are then.
        self.store = None;
    }
}

fn spool_of(config: &Config) -> Result<Option<Arc<Spool>>, RunError> {
    // One that was turned off may still hold runs, which are sent.
    if config.spool.enabled || config.spool.folder.is_dir() {
        return Ok(Some(Arc::new(run::open_spool(config)?)));
    }
    Ok(None)
}

/// Whether the store is why: down, full, without access, or a folder that is not mounted.
pub fn is_outage(error: &RunError) -> bool {
    match error {
        RunError::Vault(VaultError::Store(StoreError::Configuration { what, .. })) => {
            // A share that is not mounted looks like a wrong path; only at the first start it may be one.
            what.starts_with("the folder of ")
        }
        RunError::Vault(error) => error.is_outage(),
        RunError::Snapshot(lifeboat_engine::snapshot::SnapshotError::Vault(error)) => error.is_outage(),
        RunError::Credentials(_) => true,
        _ => false,
    }
}
