//! The reading side: which VMs a vault holds, from which hosts, captured when.
//!
//! A VM is one VM across hosts: its id decides. The newest *captured* state is the one that counts; a copy
//! that a host only carries forward is shown beside it and never taken for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{
    ArtefactEntry, CarriedWhy, CompanionEntry, Content, Digest, Finding, Kind, ObjectEntry, PartEntry,
    Record, Severity, SnapshotBody, SnapshotSummary, SubjectId, Time, VmEntry, WriterId,
};
use lifeboat_vault::ledger::{Ledger, LedgerRecord};
use lifeboat_vault::seal::{Identities, SealError};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError, object_path};
use tokio::sync::Semaphore;

/// Sealed bytes of bodies that are read at one time, unless one has more: opened and parsed they take thirty times as much.
const MAX_SEALED_AT_ONCE: u32 = 512 * 1024;

/// One VM in one record.
#[derive(Clone)]
pub struct Found {
    /// The record.
    pub record: Arc<Record>,
    /// Its id.
    pub record_id: Digest,
    /// The host's name.
    pub host: Arc<str>,
    /// What was captured.
    pub entry: Arc<VmEntry>,
    /// Set when this record only carries the capture.
    pub carried: Option<CarriedWhy>,
}

impl Found {
    /// The entry of an object of this record.
    pub fn object(&self, name: &Digest) -> Option<&ObjectEntry> {
        self.record.objects.iter().find(|object| object.name == *name)
    }

    /// What lists show of it.
    pub fn summary(&self) -> SnapshotSummary {
        SnapshotSummary {
            vm_id: self.entry.vm.vm_id.clone(),
            name: self.entry.vm.name.clone(),
            host: self.host.to_string(),
            writer: self.record.writer.clone(),
            seq: self.record.seq,
            record: self.record_id,
            finished: self.record.finished,
            captured: self.entry.captured,
            carried: self.carried,
            size_bytes: self.entry.artefacts.iter().map(|artefact| artefact.size).sum(),
            files: self.entry.artefacts.len() as u64,
        }
    }
}

/// One companion in one record.
#[derive(Clone)]
pub struct FoundCompanion {
    /// The record.
    pub record: Arc<Record>,
    /// The host's name.
    pub host: Arc<str>,
    /// What was captured.
    pub entry: Arc<CompanionEntry>,
    /// Set when this record only carries the capture.
    pub carried: Option<CarriedWhy>,
}

/// The bundle of a part, as the record's `entry` for it says; damage where there is none, or one of another class.
pub(crate) fn bundle_of<'e>(
    record: &Record,
    artefact: &ArtefactEntry,
    part: &PartEntry,
    entry: Option<&'e ObjectEntry>,
) -> Result<&'e ObjectEntry, VaultError> {
    let what = match entry {
        Some(entry) if entry.class == artefact.class => return Ok(entry),
        Some(entry) => format!("it is of class {}, and {} of {}", entry.class, artefact.path, artefact.class),
        None => format!("record {} does not name this bundle of {}", record.seq, artefact.path),
    };
    Err(VaultError::Damaged { place: object_path(&record.writer, &part.object).to_string(), what })
}

/// Reads bodies, each once.
pub struct Inventory<'a> {
    vault: &'a Vault,
    ledgers: &'a Ledgers,
    identities: &'a Identities,
    /// By writer too: what one writer falsely names must not hide what another holds.
    /// None where one cannot be had.
    bodies: HashMap<(WriterId, Digest), Option<Indexed>>,
    /// What could not be read.
    pub findings: Vec<Finding>,
}

/// A body, by subject.
struct Indexed {
    host: Arc<str>,
    vms: HashMap<SubjectId, Arc<VmEntry>>,
    companions: HashMap<SubjectId, Arc<CompanionEntry>>,
    carried: HashMap<SubjectId, CarriedWhy>,
    seq: u64,
}

/// A subject of a record, in the newest of the bodies that the record gives it.
struct Described<E> {
    record: Arc<Record>,
    record_id: Digest,
    host: Arc<str>,
    entry: Arc<E>,
    carried: Option<CarriedWhy>,
}

impl<'a> Inventory<'a> {
    /// An inventory of what `identities` can read of `ledgers`.
    pub fn new(vault: &'a Vault, ledgers: &'a Ledgers, identities: &'a Identities) -> Self {
        Self { vault, ledgers, identities, bodies: HashMap::new(), findings: Vec::new() }
    }

    /// Every VM of each host's newest record.
    ///
    /// # Errors
    /// [`VaultError`] when the store is down or the identities open nothing. Damage is a finding.
    pub async fn newest(&mut self) -> Result<Vec<Found>, VaultError> {
        let ledgers = self.ledgers;
        let records: Vec<&LedgerRecord> = ledgers
            .writers
            .values()
            .filter_map(|ledger| ledger.counting().rev().find(|r| is_snapshot(r)))
            .collect();
        self.of_records(&records).await
    }

    /// Every VM of every record that counts, oldest record first.
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn all(&mut self) -> Result<Vec<Found>, VaultError> {
        let ledgers = self.ledgers;
        let records: Vec<&LedgerRecord> = ledgers
            .writers
            .values()
            .flat_map(|ledger| ledger.counting().filter(|r| is_snapshot(r)))
            .collect();
        self.of_records(&records).await
    }

    /// Every VM of the records whose id begins with `id`, whatever their standing: a person asked for this one.
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn of_record(&mut self, id: &str) -> Result<Vec<Found>, VaultError> {
        let ledgers = self.ledgers;
        let records: Vec<&LedgerRecord> = ledgers
            .writers
            .values()
            .flat_map(|ledger| &ledger.records)
            .filter(|record| is_snapshot(record) && record.signed.name.id.to_string().starts_with(id))
            .collect();
        self.of_records(&records).await
    }

    /// Every companion of each host's newest record, by kind, name and id.
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn newest_companions(&mut self) -> Result<Vec<FoundCompanion>, VaultError> {
        let ledgers = self.ledgers;
        let newest = |ledger: &'a Ledger| ledger.counting().rev().find(|r| is_snapshot(r));
        let records: Vec<&LedgerRecord> = ledgers.writers.values().filter_map(newest).collect();
        self.companions_of(&records).await
    }

    /// Every companion of every record that counts, likewise.
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn all_companions(&mut self) -> Result<Vec<FoundCompanion>, VaultError> {
        let ledgers = self.ledgers;
        let all = |ledger: &'a Ledger| ledger.counting().filter(|r| is_snapshot(r));
        let records: Vec<&LedgerRecord> = ledgers.writers.values().flat_map(all).collect();
        self.companions_of(&records).await
    }

    async fn companions_of(&mut self, records: &[&LedgerRecord]) -> Result<Vec<FoundCompanion>, VaultError> {
        self.load(records).await?;
        let found = self.described(records, |body| &body.companions).into_iter().map(|one| {
            let Described { record, host, entry, carried, .. } = one;
            FoundCompanion { record, host, entry, carried }
        });
        let mut found: Vec<FoundCompanion> = found.collect();
        found.sort_by(|a, b| {
            let key = |one: &FoundCompanion| {
                let companion = &one.entry.companion;
                (companion.kind, companion.name.to_lowercase(), companion.id.clone(), one.record.seq)
            };
            key(a).cmp(&key(b))
        });
        Ok(found)
    }

    async fn of_records(&mut self, records: &[&LedgerRecord]) -> Result<Vec<Found>, VaultError> {
        self.load(records).await?;
        let found = self.described(records, |body| &body.vms).into_iter().map(|one| {
            let Described { record, record_id, host, entry, carried } = one;
            Found { record, record_id, host, entry, carried }
        });
        Ok(found.collect())
    }

    /// The subjects of records that stand among `entries` of their bodies.
    fn described<E>(
        &self,
        records: &[&LedgerRecord],
        entries: impl Fn(&Indexed) -> &HashMap<SubjectId, Arc<E>>,
    ) -> Vec<Described<E>> {
        let mut all = Vec::new();
        for record in records {
            let shared = Arc::new(record.signed.record.clone());
            let body =
                |object: &ObjectEntry| self.bodies.get(&(shared.writer.clone(), object.name))?.as_ref();
            let of_run: Vec<&Indexed> = shared
                .objects
                .iter()
                .filter(|object| object.content == Content::Body)
                .filter_map(body)
                .collect();
            for (subject, places) in &shared.subjects {
                let described = places
                    .iter()
                    .filter_map(|place| body(shared.objects.get(*place as usize)?))
                    .filter_map(|body| Some((body, entries(body).get(subject)?)))
                    .max_by_key(|(body, _)| body.seq);
                let Some((body, entry)) = described else { continue };
                let of_run = of_run.iter().filter(|body| body.seq == shared.seq);
                all.push(Described {
                    record: Arc::clone(&shared),
                    record_id: record.signed.name.id,
                    host: Arc::clone(&body.host),
                    entry: Arc::clone(entry),
                    carried: of_run.filter_map(|body| body.carried.get(subject)).next().copied(),
                });
            }
        }
        all
    }

    /// Reads the bodies of `records` that were not read yet.
    async fn load(&mut self, records: &[&LedgerRecord]) -> Result<(), VaultError> {
        let mut wanted: BTreeMap<(WriterId, Digest), (&Record, &ObjectEntry)> = BTreeMap::new();
        for record in records.iter().map(|record| &record.signed.record) {
            for object in record.objects.iter().filter(|object| object.content == Content::Body) {
                let key = (record.writer.clone(), object.name);
                if !self.bodies.contains_key(&key) {
                    wanted.entry(key).or_insert((record, object));
                }
            }
        }
        let (vault, identities) = (self.vault, self.identities);
        let room = &Semaphore::new(MAX_SEALED_AT_ONCE as usize);
        let reads = wanted.into_iter().map(|(name, (record, object))| async move {
            let sealed = u32::try_from(object.size).unwrap_or(u32::MAX).min(MAX_SEALED_AT_ONCE);
            let _room = room.acquire_many(sealed).await.expect("it is never closed");
            match vault.read_body::<SnapshotBody>(record, object, identities).await {
                Ok(body) => Ok((name, Ok(Some(body)))),
                // Another owner's: these identities do not see its VMs.
                Err(VaultError::Seal(SealError::NoMatch)) => Ok((name, Ok(None))),
                Err(VaultError::Damaged { place, what }) => Ok((name, Err((place, what)))),
                Err(error) => Err(error),
            }
        });
        let concurrency = vault.store.concurrency().max(1);
        let mut read = std::pin::pin!(futures::stream::iter(reads).buffer_unordered(concurrency));
        // Each is made small before the next is taken in.
        while let Some((name, body)) = read.try_next().await? {
            let body = match body {
                Ok(Some(body)) => Some(index(body)),
                Ok(None) => None,
                Err((place, what)) => {
                    self.findings.push(Finding::new(
                        Severity::Damage,
                        "body-damaged",
                        place,
                        what,
                        "bring the object back from a mirror or an older version; older snapshots of its VMs may still restore",
                    ));
                    None
                }
            };
            self.bodies.insert(name, body);
        }
        Ok(())
    }

    /// Whether any body could be opened.
    pub fn opened_something(&self) -> bool {
        self.bodies.values().any(Option::is_some)
    }

    /// Whether there was any body to open.
    pub fn had_bodies(&self) -> bool {
        !self.bodies.is_empty()
    }
}

fn is_snapshot(record: &LedgerRecord) -> bool {
    record.signed.record.kind == Kind::Snapshot
}

fn index(body: SnapshotBody) -> Indexed {
    let carried = body.run.carried.iter().map(|vm| (vm.subject.clone(), vm.why)).collect();
    let host: Arc<str> = body.host.into();
    // A clone has no spare capacity, which is half of what the parser's lists take; thousands of VMs stay for long.
    let vms = body.vms.into_iter().map(|vm| (vm.subject.clone(), Arc::new(vm.clone()))).collect();
    let companions = body.companions.into_iter().map(|one| (one.subject.clone(), Arc::new(one))).collect();
    Indexed { host, vms, companions, carried, seq: body.head.seq }
}

/// A VM with its states across hosts.
pub struct VmStates {
    /// The newest captured state.
    pub newest: Found,
    /// The newest record that only carries it, if that record is newer.
    pub carried: Option<Found>,
    /// Names of other hosts that hold a capture.
    pub other_hosts: Vec<String>,
}

/// Joins what was found by VM id: the newest captured state wins. Sorted by name and id.
pub fn by_vm(found: Vec<Found>) -> Vec<VmStates> {
    let mut groups: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for vm in found {
        groups.entry(vm.entry.vm.vm_id.clone()).or_default().push(vm);
    }
    let mut states: Vec<VmStates> = groups
        .into_values()
        .filter_map(|mut group| {
            // Captured later first; of one capture, the record that made it before one that carries it.
            group.sort_by(|a, b| {
                (b.entry.captured, a.carried.is_some(), b.record.finished).cmp(&(
                    a.entry.captured,
                    b.carried.is_some(),
                    a.record.finished,
                ))
            });
            let mut group = group.into_iter();
            let newest = group.next()?;
            let mut other_hosts: Vec<String> = Vec::new();
            let mut carried = None;
            for other in group {
                if other.record.writer != newest.record.writer
                    && !other_hosts.contains(&other.host.to_string())
                {
                    other_hosts.push(other.host.to_string());
                }
                if carried.is_none()
                    && other.carried.is_some()
                    && other.record.finished > newest.record.finished
                {
                    carried = Some(other);
                }
            }
            Some(VmStates { newest, carried, other_hosts })
        })
        .collect();
    states.sort_by(|a, b| {
        let (a, b) = (&a.newest.entry.vm, &b.newest.entry.vm);
        (a.name.to_lowercase(), &a.vm_id).cmp(&(b.name.to_lowercase(), &b.vm_id))
    });
    states
}

/// Whether `wanted` is the name (case ignored) or the id (braces and case ignored) of a VM.
pub fn matches(entry: &VmEntry, wanted: &str) -> bool {
    let id = wanted.trim_matches(['{', '}']).to_lowercase();
    entry.vm.vm_id == id || entry.vm.name.to_lowercase() == wanted.to_lowercase()
}

/// Of all captures of one VM, the newest at `at` or before, or the newest of all.
pub fn choose(mut found: Vec<Found>, at: Option<Time>) -> Option<Found> {
    found.retain(|vm| at.is_none_or(|at| vm.entry.captured <= at));
    // Times have whole seconds; of two captures within one the later record has the newer.
    let key = |vm: &Found| (vm.entry.captured, vm.record.finished, vm.record.seq);
    let newest = found.iter().max_by_key(|vm| key(vm))?.clone();
    // Of one capture take the record that made it.
    found.retain(|vm| vm.record.writer == newest.record.writer && vm.entry == newest.entry);
    found.into_iter().min_by_key(|vm| vm.record.seq)
}

/// Writers whose ledger is forked or damaged: what they say needs a look.
pub fn doubtful_writers(ledgers: &Ledgers) -> Vec<WriterId> {
    ledgers
        .writers
        .values()
        .filter(|ledger| !ledger.findings.is_empty())
        .map(|ledger| ledger.writer.clone())
        .collect()
}

#[cfg(test)]
mod tests;
