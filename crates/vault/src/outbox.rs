//! Where a run puts what it seals: the store, or, while the store is down, a spool on this host.
//!
//! A run asks a [`Destination`]. A [`Vault`] is one that fails with its store; an [`Outbox`] goes on without it:
//! the run is then under the policy, the marks and the tip that were last seen, and its record says so by its
//! `seen`. Spooled runs go up in the order in which they were sealed, and only onto the tip that they were sealed
//! on. `docs/design/0007-spool.md` has the reasons. It knows no clock and retries nothing.

mod spool;
mod standby;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{Digest, Finding, Kind, Severity, Tip, WriterId};

pub use self::spool::{Spool, SpoolError, SpooledRun};
pub use self::standby::Standby;

use crate::policy::PolicyChain;
use crate::record::{RecordName, SignedRecord};
use crate::store::{Created, StoreError};
use crate::vault::{Vault, VaultError, record_path};
use crate::writer::{self, Knowledge, Known, Start, Writer};

/// Spooled objects that are on their way to the store at once.
const OBJECTS_AT_ONCE: usize = 4;

/// How many records before the first spooled one are listed.
const LOOK_BACK: u64 = 64;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// In the store: it is committed.
    Stored,
    /// In the spool of its host: it will be committed.
    Spooled,
}

/// Takes what a run seals.
#[async_trait]
pub trait Destination: Send + Sync {
    /// The vault that it leads to.
    fn vault(&self) -> &Vault;

    /// Begins a run, as [`Vault::begin`].
    ///
    /// # Errors
    /// As [`Vault::begin`].
    async fn begin(&self, writer: &Writer, kind: Kind, known: &Known) -> Result<Start, VaultError>;

    /// Sizes of the writer's objects in the store; nothing where the store cannot be asked.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    async fn object_sizes(&self, writer: &WriterId) -> Result<Option<HashMap<Digest, u64>>, VaultError>;

    /// Puts a sealed object.
    ///
    /// # Errors
    /// [`VaultError`].
    async fn put_object(&self, writer: &WriterId, name: &Digest, bytes: Bytes) -> Result<(), VaultError>;

    /// Puts the signed record, which ends the run.
    ///
    /// # Errors
    /// [`VaultError`].
    async fn put_record(&self, writer: &WriterId, record: &SignedRecord) -> Result<Placed, VaultError>;

    /// Whether earlier runs of the writer may wait behind it.
    fn has_spool(&self) -> bool {
        false
    }

    /// What is to be said of this run.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

#[async_trait]
impl Destination for Vault {
    fn vault(&self) -> &Vault {
        self
    }

    async fn begin(&self, writer: &Writer, kind: Kind, known: &Known) -> Result<Start, VaultError> {
        Vault::begin(self, writer, kind, known).await
    }

    async fn object_sizes(&self, writer: &WriterId) -> Result<Option<HashMap<Digest, u64>>, VaultError> {
        Vault::object_sizes(self, writer).await.map(Some)
    }

    async fn put_object(&self, writer: &WriterId, name: &Digest, bytes: Bytes) -> Result<(), VaultError> {
        Vault::put_object(self, writer, name, bytes).await.map(drop)
    }

    async fn put_record(&self, writer: &WriterId, record: &SignedRecord) -> Result<Placed, VaultError> {
        Vault::put_record(self, writer, record).await.map(|_| Placed::Stored)
    }
}

/// Slows writes down.
#[async_trait]
pub trait Pace: Send + Sync {
    /// Waits until so many bytes may be sent.
    async fn before(&self, bytes: u64);
}

/// How the spooled runs fit onto what the store has.
#[derive(Debug)]
pub enum Attached {
    /// They follow its tip.
    Fits {
        /// Runs whose records are in the store already: only the answer was lost.
        there: Vec<SpooledRun>,
        /// Runs that are to be sent, in this order.
        waiting: Vec<SpooledRun>,
    },
    /// They do not, and never will: they must be given up.
    Differs {
        /// What is different.
        why: String,
    },
}

/// A vault with a spool before it.
pub struct Outbox {
    vault: Vault,
    spool: Arc<Spool>,
    standby: Standby,
    /// Why this run goes to the spool, if it does.
    detour: Mutex<Option<String>>,
    pace: Option<Arc<dyn Pace>>,
    /// What an earlier run left unsealed is destroyed before this run's first write.
    swept: tokio::sync::OnceCell<()>,
}

impl Outbox {
    /// An outbox for one run. `detour` says why the run is not to try the store, if it is not.
    pub fn new(vault: Vault, spool: Arc<Spool>, standby: Standby, detour: Option<String>) -> Self {
        Self { vault, spool, standby, detour: Mutex::new(detour), pace: None, swept: Default::default() }
    }

    /// The same with `pace` before every write to the store.
    #[must_use]
    pub fn paced(mut self, pace: Option<Arc<dyn Pace>>) -> Self {
        self.pace = pace;
        self
    }

    /// Why this run goes to the spool, if it does.
    pub fn detour(&self) -> Option<String> {
        self.route().clone()
    }

    /// Leaves the store alone from here on.
    pub fn take_detour(&self, why: String) {
        self.route().get_or_insert(why);
    }

    /// Compares the spooled runs with what the store has. `seen` are the tips that were seen before.
    ///
    /// # Errors
    /// [`VaultError`]: the store cannot be asked, or the spool not read.
    pub async fn attach(&self, writer: &Writer, seen: &[Tip]) -> Result<Attached, VaultError> {
        let differs = |why: &str| Ok(Attached::Differs { why: why.to_owned() });
        let runs = self.spool.runs()?;
        let Some(first) = runs.first() else {
            return Ok(Attached::Fits { there: Vec::new(), waiting: Vec::new() });
        };
        let mut records = Vec::with_capacity(runs.len());
        for run in &runs {
            let bytes = self.spool.record(run)?;
            let keys = [writer.key.verifying_key()];
            match SignedRecord::verify(bytes, run.name, &self.vault.id, &writer.id, &keys) {
                Ok(signed) => records.push(signed),
                Err(bad) => return differs(&format!("the spooled record {} is damaged: {bad}", run.name)),
            }
        }
        if records.windows(2).any(|pair| pair[1].record.prev != Some(pair[0].name.id)) {
            return differs("the spooled records are no chain");
        }

        let (ledger, policies) = self.vault.policies(None).await?;
        let admin = WriterId::admin();
        if let Some(tip) = seen.iter().find(|tip| tip.writer == admin)
            && ledger.at(tip.seq, &tip.id).is_none()
        {
            return Err(VaultError::PolicyRolledBack { store: self.vault.store.describe(), seq: tip.seq });
        }
        let from = first.name.seq.saturating_sub(LOOK_BACK);
        let after = (from > 0).then(|| format!("ledger/{}/{from:010}", writer.id));
        let names = self.vault.record_names(&writer.id, after.as_deref()).await?;
        let base = records[0].record.prev.map(|id| RecordName { seq: first.name.seq - 1, id });
        if base.is_some_and(|base| !names.contains(&base)) {
            return differs("the store no longer has the record that the spooled ones follow");
        }
        if names.iter().any(|name| name.seq >= first.name.seq && runs.iter().all(|run| run.name != *name)) {
            return differs("the store has records of this writer that the spooled ones do not follow");
        }
        let there = runs.iter().take_while(|run| names.contains(&run.name)).count();
        if names.iter().filter(|name| name.seq >= first.name.seq).count() != there {
            return differs("the store has a later spooled record and lacks an earlier one");
        }
        if let Some(why) = refused(&policies, &records[there..]) {
            return differs(&why);
        }
        let waiting = runs[there..].to_vec();
        Ok(Attached::Fits { there: runs[..there].to_vec(), waiting })
    }

    /// Sends one spooled run: its objects, then its record. It stays in the spool until it is removed.
    ///
    /// # Errors
    /// [`VaultError::Store`], or [`SpoolError::Damaged`] in [`VaultError::Spool`].
    pub async fn send(&self, writer: &WriterId, run: &SpooledRun) -> Result<(), VaultError> {
        let objects = self.spool.objects(run)?;
        futures::stream::iter(objects)
            .map(|name| async move {
                let bytes = self.spool.object(run, &name)?;
                self.wait(bytes.len()).await;
                self.vault.put_object(writer, &name, bytes).await.map(drop)
            })
            .buffer_unordered(OBJECTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let record = self.spool.record(run)?;
        self.wait(record.len()).await;
        self.vault.store.create_record(&record_path(writer, &run.name), record).await?;
        Ok(())
    }

    /// Begins a run without the store, from what was last seen of it.
    fn begin_without(
        &self,
        cause: &str,
        writer: &Writer,
        kind: Kind,
        known: &Known,
    ) -> Result<Start, VaultError> {
        let lacks = |why: &str| VaultError::NoStandby { cause: cause.to_owned(), why: why.to_owned() };
        let (ledger, policies) = self.standby.policies(&self.vault)?;
        let admin = WriterId::admin();
        let seen_policy = known.seen.iter().find(|tip| tip.writer == admin);
        if policies.newest().is_none() || seen_policy.is_some_and(|t| ledger.at(t.seq, &t.id).is_none()) {
            return Err(lacks("the policy that was last seen is not kept here"));
        }
        let policy = writer::policy_for(&policies, writer, kind, &self.vault.store.describe())?;
        let last = self.spool.runs()?.last().map(|run| run.name);
        let pending = known.pending.as_ref().map(|pending| pending.name);
        let (previous, knowledge, placed) = match last {
            Some(last) if pending == Some(last) => (Some(last), Knowledge::PendingHolds, Placed::Spooled),
            Some(last) if known.tip == Some(last) => (Some(last), Knowledge::Holds, Placed::Spooled),
            Some(_) => {
                return Err(lacks("the catalog is not the one that the spooled runs were sealed with"));
            }
            // Nothing of that run went this way, so the store has all its objects, and perhaps its record: sending it
            // once more settles which. A run that left objects here had not begun to send its record.
            None if let Some(pending) = &known.pending
                && !self.spool.has_open_objects()? =>
            {
                self.spool.seal(&pending.name, &pending.bytes)?;
                (Some(pending.name), Knowledge::PendingHolds, Placed::Spooled)
            }
            None => (known.tip, Knowledge::Holds, Placed::Stored),
        };
        let marks = policy.terms.writers.iter().filter(|terms| terms.kinds.contains(&Kind::Mark));
        let seen = marks.filter_map(|terms| known.seen.iter().find(|tip| tip.writer == terms.id)).cloned();
        let seen: Vec<Tip> = seen.collect();
        Ok(Start {
            policy,
            previous,
            knowledge,
            seen,
            // Nothing was seen that was not seen before.
            remember: known.seen.clone(),
            findings: Vec::new(),
            placed,
            admin: Vec::new(),
        })
    }

    async fn wait(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.before(bytes as u64).await;
        }
    }

    async fn spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let spool = Arc::clone(&self.spool);
        match tokio::task::spawn_blocking(move || work(&spool)).await {
            Ok(result) => Ok(result?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn route(&self) -> MutexGuard<'_, Option<String>> {
        self.detour.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a policy does not take the records, if one does not.
fn refused(policies: &PolicyChain, records: &[SignedRecord]) -> Option<String> {
    let mut before = None;
    for signed in records {
        if let Err(problem) = policies.judge(signed, before) {
            return Some(format!("the spooled record {} would not count: {problem}", signed.name));
        }
        before = signed.record.policy;
    }
    None
}

#[async_trait]
impl Destination for Outbox {
    fn vault(&self) -> &Vault {
        &self.vault
    }

    async fn begin(&self, writer: &Writer, kind: Kind, known: &Known) -> Result<Start, VaultError> {
        if self.detour().is_none() && !self.spool.runs()?.is_empty() {
            self.take_detour("earlier runs wait in the spool".to_owned());
        }
        if self.detour().is_none() {
            match self.vault.begin(writer, kind, known).await {
                Ok(start) => {
                    self.standby.keep_admin(&start.admin)?;
                    return Ok(start);
                }
                Err(error) if error.is_outage() => self.take_detour(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let cause = self.detour().unwrap_or_default();
        self.begin_without(&cause, writer, kind, known)
    }

    async fn object_sizes(&self, writer: &WriterId) -> Result<Option<HashMap<Digest, u64>>, VaultError> {
        if self.detour().is_some() {
            return Ok(None);
        }
        match self.vault.object_sizes(writer).await {
            Ok(sizes) => Ok(Some(sizes)),
            Err(error) if error.is_outage() => {
                self.take_detour(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn put_object(&self, writer: &WriterId, name: &Digest, bytes: Bytes) -> Result<(), VaultError> {
        self.swept.get_or_try_init(|| self.spool(Spool::discard_open)).await?;
        if self.detour().is_none() {
            self.wait(bytes.len()).await;
        }
        if self.detour().is_none() {
            match self.vault.put_object(writer, name, bytes.clone()).await {
                Ok(Created::Written | Created::AlreadyThere) => return Ok(()),
                Err(error) if error.is_outage() => self.take_detour(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let name = *name;
        self.spool(move |spool| spool.put(&name, &bytes)).await
    }

    async fn put_record(&self, writer: &WriterId, record: &SignedRecord) -> Result<Placed, VaultError> {
        if self.detour().is_none() {
            match self.vault.put_record(writer, record).await {
                Ok(_) => return Ok(Placed::Stored),
                // Whether it arrived all the same is seen when the spool is sent.
                Err(error) if error.is_outage() => self.take_detour(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let (name, bytes) = (record.name, record.bytes.clone());
        self.spool(move |spool| spool.seal(&name, &bytes)).await?;
        Ok(Placed::Spooled)
    }

    fn has_spool(&self) -> bool {
        true
    }

    fn findings(&self) -> Vec<Finding> {
        let spooled = |why: String| {
            Finding::new(
                Severity::Warning,
                "spooled",
                self.vault.store.describe(),
                format!("this run is sealed and waits on this host: {why}"),
                "bring the store back; the next run sends what waits, in order",
            )
        };
        self.detour().map(spooled).into_iter().collect()
    }
}

/// Whether an error says that another record stands in the place of one's own.
pub fn is_conflict(error: &VaultError) -> bool {
    matches!(error, VaultError::Store(StoreError::Conflict { .. }))
}

#[cfg(test)]
mod tests;
