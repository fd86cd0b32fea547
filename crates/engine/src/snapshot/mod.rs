//! One snapshot run: every source read, what changed sealed, one record committed.
//!
//! The order of a run is fixed: the own ledger and the maintainers' tips are read first; bundles and bodies
//! go to the store before the record, which commits; the catalog learns of it in two steps around that put.
//! A VM that cannot be read does not stop the others. Nothing here knows a file format.

mod capture;
mod plan;
mod seal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use lifeboat_schema::{
    BODY_VERSION, BodyHead, CarriedVm, CarriedWhy, Class, CompanionCounts, Content, Digest, FailedVm,
    Finding, Kind, ObjectEntry, OwnerId, Record, RunEntry, Severity, Time,
};
use lifeboat_vault::outbox::{Destination, Placed};
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{Recipients, SealError, SealOptions, SealedObject, Sealer};
use lifeboat_vault::vault::VaultError;
use lifeboat_vault::writer::{self, Knowledge, Known, OwnRecord, Start, Writer};
use tokio::sync::mpsc;

use crate::catalog::{Catalog, CatalogError, HeldVm, Pending};
use crate::entry::PackedEntry;
use crate::source::HostSource;

/// Tells the time; runs have no clock of their own.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// How a run seals.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// A bundle is closed before it would have more bytes than this. Just below a power of two padding costs least.
    pub bundle_bytes: u64,
    /// How objects are compressed.
    pub seal: SealOptions,
    /// Threads that read and seal.
    pub threads: usize,
    /// Objects on their way to the store at once, beside those being sealed.
    pub uploads: usize,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        Self { bundle_bytes: 2 << 20, seal: SealOptions::default(), threads, uploads: 6 }
    }
}

/// Is told how far a run has come.
pub trait SnapshotObserver: Send + Sync {
    /// Discovery is done.
    fn planned(&self, found: u64, to_capture: u64);
    /// One VM was read, well or not.
    fn vm_done(&self, name: &str, ok: bool);
    /// An object of that many bytes is in the store.
    fn stored(&self, bytes: u64);
}

/// An observer that looks away.
pub struct Unobserved;

impl SnapshotObserver for Unobserved {
    fn planned(&self, _: u64, _: u64) {}
    fn vm_done(&self, _: &str, _: bool) {}
    fn stored(&self, _: u64) {}
}

/// Everything that a run needs.
pub struct SnapshotContext<'a> {
    /// The vault, or the outbox before it.
    pub vault: &'a dyn Destination,
    /// The host as a writer.
    pub writer: &'a Writer,
    /// The host's name for people.
    pub host: &'a str,
    /// Where VMs are.
    pub sources: &'a [Arc<dyn HostSource>],
    /// The memory between runs.
    pub catalog: &'a mut Catalog,
    /// How to seal.
    pub options: &'a SnapshotOptions,
    /// Keys of the VMs to look at; the others stand with their last capture, if they have one. All where there are none.
    pub only: Option<&'a HashSet<String>>,
    /// The clock.
    pub clock: Clock,
    /// Who watches.
    pub observer: Arc<dyn SnapshotObserver>,
}

/// Why a run ended without a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Sealing failed.
    #[error("sealing failed: {0}")]
    Seal(#[from] SealError),
    /// No owner of the policy selects a VM.
    #[error(
        "no owner of the policy has the VM {name} ({vm_id}); let an admin add an owner with `vms: all`, or one that selects it"
    )]
    NoOwner {
        /// The VM's id.
        vm_id: String,
        /// The VM's name.
        name: String,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// Earlier runs wait in a spool that this run was not given.
    #[error("earlier runs wait in the spool, and this run was not given it; nothing was committed")]
    Unsent,
    /// A thread of the run ended in a fault of the program.
    #[error("the run ended in a fault of the program: {0}; nothing was committed")]
    Fault(String),
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct SnapshotReport {
    /// The record that it committed.
    pub record: RecordName,
    /// Whether the record is in the store, or waits in the spool for it.
    pub placed: Placed,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub finished: Time,
    /// VMs found on the host.
    pub found: u64,
    /// VMs that had changed and were captured.
    pub captured: u64,
    /// VMs whose last capture stands.
    pub unchanged: u64,
    /// Companions found, captured and unchanged.
    pub companions: CompanionCounts,
    /// VMs that stand with an older capture, and companions.
    pub carried: Vec<CarriedVm>,
    /// VMs and places that could not be read and have no capture.
    pub failed: Vec<FailedVm>,
    /// Objects put into the store.
    pub stored_objects: u64,
    /// Bytes of these objects.
    pub stored_bytes: u64,
    /// Objects that the record keeps alive.
    pub live_objects: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// One captured VM with what the catalog will know of it.
pub(crate) struct Captured {
    pub held: HeldVm,
    pub entry: PackedEntry,
}

/// Runs one snapshot of all sources into the vault.
///
/// # Errors
/// [`SnapshotError`]; nothing was committed, and what was committed before stands.
pub async fn snapshot(context: SnapshotContext<'_>) -> Result<SnapshotReport, SnapshotError> {
    let started = (context.clock)();
    let SnapshotContext { vault, writer, host, sources, catalog, options, only, clock, observer } = context;

    if catalog.unsent_since()?.is_some() && !vault.has_spool() {
        return Err(SnapshotError::Unsent);
    }
    let known = Known {
        tip: catalog.tip()?,
        pending: catalog.pending()?,
        kept: catalog.kept_records()?,
        seen: catalog.seen()?,
    };
    let mut start = vault.begin(writer, Kind::Snapshot, &known).await?;
    settle_catalog(catalog, &start, &known)?;

    let held = catalog.vms()?;
    let objects: HashMap<Digest, ObjectEntry> = catalog.objects()?.into_iter().map(|o| (o.name, o)).collect();
    let intact = intact_objects(vault, writer, &start, objects).await?;

    let discoveries = plan::discover(sources).await.map_err(SnapshotError::Fault)?;
    let rules = plan::Rules {
        policy: &start.policy,
        vault: &vault.vault().id,
        bundle_bytes: options.bundle_bytes,
        only,
    };
    let mut plan = plan::make(discoveries, sources, held, &intact, &rules);
    plan.carry_hidden(|vm| catalog.place(&vm.key).ok().flatten());
    let to_capture = plan.changed.len() as u64;
    observer.planned(plan.found + plan.companions, to_capture);

    // Read and seal on threads; put sealed bundles into the store as they come.
    let (sender, receiver) = mpsc::channel::<Sealed>(2);
    let spare = Arc::new(SpareBuffers::new(options.uploads.max(1)));
    let upload = store_objects(vault, writer, receiver, &spare, &observer);
    let sealing = capture::capture_all(capture::CaptureJob {
        sources: sources.to_vec(),
        changed: plan.changed,
        previous: plan::previous_entries(catalog, &plan.reusable, &intact)?,
        policy: start.policy.clone(),
        vault: vault.vault().id.clone(),
        options: options.clone(),
        clock: Arc::clone(&clock),
        observer: Arc::clone(&observer),
        sender,
        spare: Arc::clone(&spare),
    });
    let (uploaded, sealed) = tokio::join!(upload, sealing);
    // An upload that failed is why sealing was told to stop.
    let mut stored = uploaded?;
    let outcome = sealed?;
    drop(spare);

    let mut standing = plan.standing;
    let mut freshened = plan.freshened;
    freshened.extend(outcome.standing.iter().cloned());
    standing.extend(outcome.standing);
    let mut carried = plan.carried;
    let mut failed = plan.failed;
    for failure in outcome.failed {
        match failure.held {
            Some(mut held) if plan::is_intact(&held, &intact) => {
                let since = held.carried_since.unwrap_or(held.captured);
                held.carried_since = Some(since);
                carried.push((carried_vm(&held, since, CarriedWhy::Failed, Some(failure.error)), held));
            }
            _ => failed.push(FailedVm {
                place: failure.place,
                vm_id: Some(failure.vm_id),
                error: failure.error,
            }),
        }
    }
    let now = clock();
    for (note, mut held) in plan.vanished.into_iter().map(|held| {
        let since = held.carried_since.unwrap_or(now);
        (carried_vm(&held, since, CarriedWhy::Vanished, None), held)
    }) {
        held.carried_since = Some(note.since);
        carried.push((note, held));
    }

    // Bodies: what was captured, and what this run has to say, for each owner.
    let mut captured = outcome.captured;
    let mut merged = seal::entries_of_scattered_bodies(catalog, &standing, &carried, captured.len())?;
    let mut bodies: Vec<Digest> = Vec::new();
    let owners: Vec<OwnerId> = owners_with_vms(&start, &captured, &standing, &carried);
    let mut sealer = Sealer::new(&options.seal)?;
    let mut last: Option<Sealed> = None;
    for (index, owner) in owners.iter().enumerate() {
        let mine = |id: &OwnerId| id == owner;
        let of_owner: Vec<&CarriedVm> =
            carried.iter().filter(|(_, h)| mine(&h.owner)).map(|(c, _)| c).collect();
        let is_vm = |held: &HeldVm| mine(&held.owner) && !held.is_companion();
        let new: u64 = captured.iter().filter(|c| is_vm(&c.held)).count() as u64;
        let unchanged = standing.iter().filter(|h| is_vm(h)).count() as u64;
        let failed_here = carried.iter().filter(|(c, held)| is_vm(held) && c.why == CarriedWhy::Failed);
        let mut run = RunEntry {
            found: new + unchanged + failed_here.count() as u64,
            captured: new,
            unchanged,
            carried: of_owner.into_iter().cloned().collect(),
            failed: if index == 0 { failed.clone() } else { Vec::new() },
        };
        let vms = captured.iter_mut().chain(&mut merged).filter(|c| mine(&c.held.owner)).collect();
        for vms in seal::divide(vms) {
            let head = BodyHead {
                v: BODY_VERSION,
                vault: vault.vault().id.clone(),
                writer: writer.id.clone(),
                seq: start.previous.map_or(0, |name| name.seq) + 1,
                kind: Kind::Snapshot,
                class: Class::Metadata,
                owner: owner.clone(),
            };
            // The owner's first body speaks for the run.
            let run = std::mem::take(&mut run);
            // One goes to the store while the next is sealed.
            let seal = async { seal::seal_body(&mut sealer, &start, head, host, run, &vms) };
            let (put, sealed) = tokio::join!(put_body(vault, writer, last.take(), &observer), seal);
            put?;
            let sealed = sealed?;
            for vm in vms {
                vm.held.body = sealed.entry.name;
            }
            bodies.push(sealed.entry.name);
            stored.push(sealed.entry.clone());
            last = Some(sealed);
        }
    }
    put_body(vault, writer, last, &observer).await?;
    let mut moved: HashSet<String> = HashSet::new();
    for Captured { held, .. } in &merged {
        moved.insert(held.key.clone());
        if let Some(at) = standing.iter_mut().find(|h| h.key == held.key) {
            *at = held.clone();
        } else if let Some((_, at)) = carried.iter_mut().find(|(_, h)| h.key == held.key) {
            *at = held.clone();
        }
    }

    // The record: everything alive, and which VM needs what of it.
    let finished = clock();
    let mut record =
        writer::blank_record(vault.vault(), &writer.id, Kind::Snapshot, &start, started, finished);
    let everything: Vec<&HeldVm> = captured
        .iter()
        .map(|c| &c.held)
        .chain(&standing)
        .chain(carried.iter().map(|(_, held)| held))
        .collect();
    fill_record(&mut record, &everything, &intact, &stored, bodies.into_iter());

    // Whoever is only noted otherwise keeps the entry that the catalog has.
    let mut noted: Vec<(&HeldVm, PackedEntry)> = Vec::new();
    let renoted = carried.iter().map(|(_, held)| held).chain(&freshened);
    for held in renoted.filter(|held| !moved.contains(&held.key)) {
        if let Some(entry) = catalog.entry(&held.key)? {
            noted.push((held, entry));
        }
    }
    let mut changed: Vec<(&HeldVm, &PackedEntry)> =
        Vec::with_capacity(merged.len() + captured.len() + noted.len());
    changed.extend(merged.iter().chain(&captured).map(|vm| (&vm.held, &vm.entry)));
    changed.extend(noted.iter().map(|(held, entry)| (*held, entry)));
    let live_objects = record.objects.len() as u64;
    let signed = SignedRecord::sign(record, &writer.key).map_err(VaultError::from)?;
    let own = OwnRecord { name: signed.name, bytes: signed.bytes.clone() };
    catalog.set_pending(&Pending {
        record: &own,
        objects: &signed.record.objects,
        changed: &changed,
        gone: &plan.gone,
    })?;
    let placed = vault.put_record(&writer.id, &signed).await?;
    catalog.promote(placed)?;

    start.findings.extend(plan.dropped.iter().map(|name| {
        Finding::new(
            Severity::Warning,
            "vm-dropped",
            format!("ledger/{}", writer.id),
            format!("{name} is no longer on this host, and what the store has of it cannot be named again"),
            "its older snapshots still restore: `lifeboat snapshots` and `lifeboat restore` find them",
        )
    }));
    start.findings.extend(seal::findings_of_companions(catalog, &captured, &standing)?);
    let stored_bytes = stored.iter().map(|object| object.size).sum();
    let companions = CompanionCounts {
        found: plan.companions,
        captured: captured.iter().filter(|c| c.held.is_companion()).count() as u64,
        unchanged: standing.iter().filter(|held| held.is_companion()).count() as u64,
    };
    start.findings.extend(vault.findings());
    Ok(SnapshotReport {
        record: signed.name,
        placed,
        started,
        finished,
        found: plan.found,
        captured: captured.len() as u64 - companions.captured,
        unchanged: standing.len() as u64 - companions.unchanged,
        companions,
        carried: carried.into_iter().map(|(note, _)| note).collect(),
        failed,
        stored_objects: stored.len() as u64,
        stored_bytes,
        live_objects,
        findings: std::mem::take(&mut start.findings),
    })
}

/// A sealed bundle on its way to the store.
pub(crate) struct Sealed {
    pub entry: ObjectEntry,
    pub bytes: Bytes,
}

/// Larger bundles than this grow as they are filled.
const MAX_RESERVE_BYTES: u64 = 16 << 20;

/// Buffers of stored bundles, for the next ones: fresh memory costs the kernel more than sealing costs us.
pub(crate) struct SpareBuffers {
    buffers: Mutex<Vec<Vec<u8>>>,
    max: usize,
}

impl SpareBuffers {
    fn new(max: usize) -> Self {
        Self { buffers: Mutex::new(Vec::with_capacity(max)), max }
    }

    /// Keeps the buffer of an object that is stored, unless somebody still looks at it.
    fn give(&self, bytes: Bytes) {
        let Ok(bytes) = bytes.try_into_mut() else { return };
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < self.max {
            buffers.push(bytes.into());
        }
    }

    /// An empty buffer with room for an object of `bytes` and its padding.
    pub(crate) fn take(&self, bytes: u64) -> Vec<u8> {
        let kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.clear();
        // Padmé adds less than a sixteenth from 256 KiB on; the header and the chunk that is open take the rest.
        let room = bytes.saturating_add(bytes / 16).min(MAX_RESERVE_BYTES) as usize;
        buffer.reserve(room + (128 << 10));
        buffer
    }
}

fn carried_vm(held: &HeldVm, since: Time, why: CarriedWhy, error: Option<String>) -> CarriedVm {
    CarriedVm {
        subject: held.subject.clone(),
        vm_id: held.vm_id.clone(),
        name: held.name.clone(),
        since,
        why,
        error,
    }
}

/// Brings the catalog to what the store was found to have.
fn settle_catalog(catalog: &mut Catalog, start: &Start, known: &Known) -> Result<(), CatalogError> {
    catalog.remember_seen(&start.remember)?;
    match start.knowledge {
        Knowledge::Holds if known.pending.is_some() => catalog.drop_pending(),
        Knowledge::Holds => Ok(()),
        Knowledge::PendingHolds => catalog.promote(start.placed),
        Knowledge::Dropped => catalog.drop_knowledge(start.previous),
    }
}

/// The objects that may be named again: there, of the right size, and sealed to today's recipients.
async fn intact_objects(
    vault: &dyn Destination,
    writer: &Writer,
    start: &Start,
    mut objects: HashMap<Digest, ObjectEntry>,
) -> Result<HashMap<Digest, ObjectEntry>, VaultError> {
    if objects.is_empty() {
        return Ok(objects);
    }
    let sizes = vault.object_sizes(&writer.id).await?;
    let mut sets = HashMap::new();
    objects.retain(|name, object| {
        let set = sets.entry((object.owner.clone(), object.class)).or_insert_with(|| {
            start.policy.owner(&object.owner).map(|owner| owner.recipient_set(object.class))
        });
        // A store that cannot be asked has what it had.
        let is_there = sizes.as_ref().is_none_or(|sizes| sizes.get(name) == Some(&object.size));
        is_there && set.as_ref() == Some(&object.recipients)
    });
    Ok(objects)
}

async fn store_objects(
    vault: &dyn Destination,
    writer: &Writer,
    receiver: mpsc::Receiver<Sealed>,
    spare: &SpareBuffers,
    observer: &Arc<dyn SnapshotObserver>,
) -> Result<Vec<ObjectEntry>, VaultError> {
    let objects = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|sealed| (sealed, receiver))
    });
    let mut puts = objects
        .map(|sealed| async move {
            vault.put_object(&writer.id, &sealed.entry.name, sealed.bytes.clone()).await?;
            spare.give(sealed.bytes);
            Ok::<_, VaultError>(sealed.entry)
        })
        .buffer_unordered(spare.max)
        .boxed_local();
    let mut stored = Vec::new();
    while let Some(entry) = puts.next().await {
        let entry = entry?;
        observer.stored(entry.size);
        stored.push(entry);
    }
    Ok(stored)
}

async fn put_body(
    vault: &dyn Destination,
    writer: &Writer,
    body: Option<Sealed>,
    observer: &Arc<dyn SnapshotObserver>,
) -> Result<(), VaultError> {
    let Some(body) = body else { return Ok(()) };
    vault.put_object(&writer.id, &body.entry.name, body.bytes).await?;
    observer.stored(body.entry.size);
    Ok(())
}

/// Owners that get a body: those with VMs, or the first one, so that a run without VMs leaves its word too.
fn owners_with_vms(
    start: &Start,
    captured: &[Captured],
    standing: &[HeldVm],
    carried: &[(CarriedVm, HeldVm)],
) -> Vec<OwnerId> {
    let with: HashSet<&OwnerId> = captured
        .iter()
        .map(|c| &c.held.owner)
        .chain(standing.iter().map(|h| &h.owner))
        .chain(carried.iter().map(|(_, h)| &h.owner))
        .collect();
    let owners = &start.policy.terms.owners;
    let some: Vec<OwnerId> = owners.iter().map(|o| &o.id).filter(|id| with.contains(id)).cloned().collect();
    if some.is_empty() { owners.first().map(|owner| owner.id.clone()).into_iter().collect() } else { some }
}

fn fill_record(
    record: &mut Record,
    vms: &[&HeldVm],
    intact: &HashMap<Digest, ObjectEntry>,
    stored: &[ObjectEntry],
    bodies: impl Iterator<Item = Digest>,
) {
    let new: HashMap<Digest, &ObjectEntry> = stored.iter().map(|object| (object.name, object)).collect();
    let mut alive: BTreeMap<Digest, u32> = bodies.map(|name| (name, 0)).collect();
    for vm in vms {
        alive.insert(vm.body, 0);
        alive.extend(vm.bundles.iter().map(|bundle| (*bundle, 0)));
    }
    for (index, (name, place)) in alive.iter_mut().enumerate() {
        let entry = new.get(name).copied().or_else(|| intact.get(name));
        let entry =
            entry.expect("a VM stands only while all its objects are intact or were stored in this run");
        record.objects.push(entry.clone());
        *place = u32::try_from(index).expect("a record of 16 MiB has fewer objects than 2^32");
    }
    for vm in vms {
        let mut places: Vec<u32> = vm.bundles.iter().chain([&vm.body]).map(|name| alive[name]).collect();
        places.sort_unstable();
        places.dedup();
        record.subjects.insert(vm.subject.clone(), places);
    }
}

/// Builds the entry of a sealed object and takes its bytes.
pub(crate) fn sealed_entry(
    sealed: SealedObject,
    content: Content,
    class: Class,
    owner: &OwnerId,
    start_policy: &lifeboat_vault::policy::Policy,
) -> Sealed {
    let set = start_policy.owner(owner).expect("owners come from this policy").recipient_set(class);
    let entry = writer::object_entry(&sealed, content, class, owner, &set);
    Sealed { entry, bytes: Bytes::from(sealed.bytes) }
}

/// The parsed recipients of a class of an owner.
pub(crate) fn recipients_of(
    policy: &lifeboat_vault::policy::Policy,
    owner: &OwnerId,
    class: Class,
) -> Result<Recipients, SealError> {
    let owner = policy.owner(owner).expect("owners come from this policy");
    Recipients::parse(&owner.recipients_of(class))
}
