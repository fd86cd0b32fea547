//! Reading and sealing on threads: each worker takes the next VM, and fills bundles of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lifeboat_schema::{
    ArtefactEntry, ArtefactKind, Class, CompanionEntry, CompanionRecord, Content, Digest, DigestBuilder,
    OwnerId, PART_BYTES, PartEntry, SubjectId, VaultId, VmEntry, VmRecord,
};
use lifeboat_vault::policy::Policy;
use lifeboat_vault::seal::{BundleWriter, MemberRef, Recipients, Sealer};
use tokio::sync::mpsc;

use super::plan::{ChangedVm, owner_of};
use super::{
    Captured, Clock, Sealed, SnapshotError, SnapshotObserver, SnapshotOptions, SpareBuffers, recipients_of,
    sealed_entry,
};
use crate::catalog::HeldVm;
use crate::entry::{BodyEntry, EntryWriter, MAX_ENTRY_BYTES};
use crate::source::{CaptureSink, HostSource, SinkError, SourceError, VmIdentity, remember, watched_of};

/// What the workers share.
pub(super) struct CaptureJob {
    pub sources: Vec<Arc<dyn HostSource>>,
    pub changed: Vec<ChangedVm>,
    pub previous: HashMap<String, VmEntry>,
    pub policy: Policy,
    pub vault: VaultId,
    pub options: SnapshotOptions,
    pub clock: Clock,
    pub observer: Arc<dyn SnapshotObserver>,
    pub sender: mpsc::Sender<Sealed>,
    pub spare: Arc<SpareBuffers>,
}

/// What became of the VMs.
#[derive(Default)]
pub(super) struct Outcome {
    pub captured: Vec<Captured>,
    pub failed: Vec<FailedCapture>,
    /// VMs of which nothing changed but attributes; their last capture stands.
    pub standing: Vec<HeldVm>,
}

/// A VM that could not be read.
pub(super) struct FailedCapture {
    pub place: String,
    pub vm_id: String,
    pub error: String,
    pub held: Option<HeldVm>,
}

pub(super) async fn capture_all(job: CaptureJob) -> Result<Outcome, SnapshotError> {
    if job.changed.is_empty() {
        return Ok(Outcome::default());
    }
    tokio::task::spawn_blocking(move || capture_on_threads(job))
        .await
        .map_err(|error| SnapshotError::Fault(error.to_string()))?
}

fn capture_on_threads(mut job: CaptureJob) -> Result<Outcome, SnapshotError> {
    let changed: Vec<ChangedVm> = std::mem::take(&mut job.changed);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = job.options.threads.clamp(1, changed.len());
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let result = Worker::new(&job).and_then(|worker| worker.run(&changed, &next, &stop));
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err(SnapshotError::Fault("a worker panicked".into())))
            })
            .collect::<Vec<_>>()
    });
    let mut outcome = Outcome::default();
    for result in results {
        let part = result?;
        outcome.captured.extend(part.captured);
        outcome.failed.extend(part.failed);
        outcome.standing.extend(part.standing);
    }
    // The same order whatever the threads did.
    outcome.captured.sort_by(|a, b| a.held.key.cmp(&b.held.key));
    outcome.standing.sort_by(|a, b| a.key.cmp(&b.key));
    outcome.failed.sort_by(|a, b| (&a.place, &a.vm_id).cmp(&(&b.place, &b.vm_id)));
    Ok(outcome)
}

/// A part whose bundle may have no name yet.
enum PartDraft {
    Reused(PartEntry),
    New { bundle: usize, member: MemberRef },
}

struct ArtefactDraft {
    path: String,
    kind: ArtefactKind,
    class: Class,
    size: u64,
    digest: Digest,
    parts: Vec<PartDraft>,
}

/// What a source said of what it captured.
enum Described {
    Vm(Box<VmRecord>),
    Companion(Box<CompanionRecord>),
}

impl Described {
    fn id_and_name(&self) -> (String, String) {
        match self {
            Self::Vm(vm) => (vm.vm_id.clone(), vm.name.clone()),
            Self::Companion(companion) => (companion.id.clone(), companion.name.clone()),
        }
    }
}

struct VmDraft {
    held: HeldVm,
    captured: lifeboat_schema::Time,
    record: Described,
    artefacts: Vec<ArtefactDraft>,
}

impl VmDraft {
    /// Numbers of the bundles that hold its new parts.
    fn bundles(&self) -> impl Iterator<Item = usize> {
        self.artefacts.iter().flat_map(|artefact| &artefact.parts).filter_map(|part| match part {
            PartDraft::Reused(_) => None,
            PartDraft::New { bundle, .. } => Some(*bundle),
        })
    }
}

struct Open {
    number: usize,
    writer: BundleWriter,
}

struct Worker<'a> {
    job: &'a CaptureJob,
    sealer: Sealer,
    recipients: HashMap<(OwnerId, Class), Recipients>,
    open: HashMap<(OwnerId, Class), Open>,
    /// Names of finished bundles, by number.
    names: Vec<Option<Digest>>,
    /// VMs of which a bundle is not finished yet.
    drafts: Vec<VmDraft>,
    captured: Vec<Captured>,
    entries: EntryWriter,
}

impl<'a> Worker<'a> {
    fn new(job: &'a CaptureJob) -> Result<Self, SnapshotError> {
        Ok(Self {
            job,
            sealer: Sealer::new(&job.options.seal)?,
            recipients: HashMap::new(),
            open: HashMap::new(),
            names: Vec::new(),
            drafts: Vec::new(),
            captured: Vec::new(),
            entries: EntryWriter::new().map_err(no_context)?,
        })
    }

    fn run(
        mut self,
        changed: &[ChangedVm],
        next: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Result<Outcome, SnapshotError> {
        let (mut failed, mut standing) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let Some(vm) = changed.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Some(held) = self.refresh(vm) {
                self.job.observer.vm_done(&held.name, true);
                standing.push(held);
                continue;
            }
            match self.capture(vm)? {
                Ok(draft) => {
                    self.job.observer.vm_done(&draft.held.name, true);
                    self.drafts.push(draft);
                }
                Err(error) => {
                    self.job.observer.vm_done(&vm.found.vm_id, false);
                    failed.push(FailedCapture {
                        place: vm.found.place.clone(),
                        vm_id: vm.found.vm_id.clone(),
                        error: error.to_string(),
                        held: vm.held.clone(),
                    });
                }
            }
        }
        let open: Vec<_> = self.open.drain().collect();
        for ((owner, class), bundle) in open {
            self.close(&owner, class, bundle)?;
        }
        self.finish_drafts()?;
        Ok(Outcome { captured: self.captured, failed, standing })
    }

    /// A VM whose last capture stands after a closer look.
    fn refresh(&self, vm: &ChangedVm) -> Option<HeldVm> {
        let mut held = vm.held.clone().filter(|_| vm.is_refreshable)?;
        let watched = watched_of(&vm.found, &held.fingerprint)?;
        let watched = self.job.sources[vm.source].refresh(&vm.found, watched)?;
        held.fingerprint = remember(&vm.found, &watched);
        held.carried_since = None;
        held.source.clone_from(&vm.source_name);
        Some(held)
    }

    fn capture(&mut self, vm: &ChangedVm) -> Result<Result<VmDraft, SourceError>, SnapshotError> {
        let captured = (self.job.clock)();
        let mut sink = Sink {
            lent: self.job.previous.get(&vm.key).map(lent_parts).unwrap_or_default(),
            lender: vm.held.as_ref().map(|held| held.owner.clone()),
            worker: self,
            owner: None,
            guardian: None,
            artefacts: Vec::new(),
            current: None,
            watched: Vec::new(),
            fatal: None,
        };
        let source = Arc::clone(&sink.worker.job.sources[vm.source]);
        let record = if vm.found.is_companion() {
            source
                .capture_companion(&vm.found, &mut sink)
                .map(|record| Described::Companion(Box::new(record)))
        } else {
            source.capture(&vm.found, &mut sink).map(|record| Described::Vm(Box::new(record)))
        };
        let Sink { owner, guardian, artefacts, watched, fatal, .. } = sink;
        if let Some(fatal) = fatal {
            return Err(fatal);
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        let Some(owner) = owner else {
            let what = "its source handed over nothing".to_owned();
            return Ok(Err(SourceError::Contradiction { place: vm.found.place.clone(), what }));
        };
        let subject = match &vm.held {
            Some(held) => held.subject.clone(),
            None => random_subject()?,
        };
        if let Err(bytes) = fits(&record, &artefacts) {
            let what = format!(
                "what is to be said of it takes {bytes} bytes, and a body has room for {MAX_ENTRY_BYTES}: it has too many files"
            );
            return Ok(Err(SourceError::Contradiction { place: vm.found.place.clone(), what }));
        }
        let (vm_id, name) = record.id_and_name();
        let held = HeldVm {
            key: vm.key.clone(),
            subject,
            vm_id,
            name,
            source: vm.source_name.clone(),
            owner,
            owner_guardian: guardian,
            fingerprint: remember(&vm.found, &watched),
            captured,
            carried_since: None,
            // Both are known when bundles and body are sealed.
            body: Digest::from_bytes([0; 32]),
            bundles: Vec::new(),
        };
        Ok(Ok(VmDraft { held, captured, record, artefacts }))
    }

    /// Puts a content into the open bundle of its owner and class.
    fn append(
        &mut self,
        owner: &OwnerId,
        class: Class,
        bytes: &[u8],
    ) -> Result<(usize, MemberRef), SnapshotError> {
        let key = (owner.clone(), class);
        // Closed before it would grow past the limit. What counts is the compressed size: guest states are mostly
        // zeros, and a bundle for each of them would never be compacted.
        let mut packed = None;
        if let Some(open) = self.open.get_mut(&key) {
            match open.writer.append_within(&mut self.sealer, bytes, self.job.options.bundle_bytes)? {
                Ok(member) => return Ok((open.number, member)),
                Err(too_much) => packed = Some(too_much),
            }
        }
        if let Some(full) = self.open.remove(&key) {
            self.close(owner, class, full)?;
        }
        if !self.open.contains_key(&key) {
            if !self.recipients.contains_key(&key) {
                let recipients = recipients_of(&self.job.policy, owner, class)?;
                self.recipients.insert(key.clone(), recipients);
            }
            self.sealer.recycle(self.job.spare.take(self.job.options.bundle_bytes));
            let writer = BundleWriter::create(&mut self.sealer, &self.recipients[&key])?;
            self.names.push(None);
            self.open.insert(key.clone(), Open { number: self.names.len() - 1, writer });
        }
        let open = self.open.get_mut(&key).expect("it was put there above");
        let member = match packed {
            Some(packed) => open.writer.append_packed(&packed)?,
            None => open.writer.append(&mut self.sealer, bytes)?,
        };
        Ok((open.number, member))
    }

    fn close(&mut self, owner: &OwnerId, class: Class, bundle: Open) -> Result<(), SnapshotError> {
        let sealed = bundle.writer.finish(&mut self.sealer)?;
        self.names[bundle.number] = Some(sealed.name);
        self.finish_drafts()?;
        let sealed = sealed_entry(sealed, Content::Bundle, class, owner, &self.job.policy);
        self.job
            .sender
            .blocking_send(sealed)
            .map_err(|_| SnapshotError::Fault("the store took no more objects".to_owned()))
    }

    /// Packs the entries of VMs whose bundles are all finished: thousands of descriptions are not kept.
    fn finish_drafts(&mut self) -> Result<(), SnapshotError> {
        let mut number = 0;
        while let Some(draft) = self.drafts.get(number) {
            if draft.bundles().any(|bundle| self.names[bundle].is_none()) {
                number += 1;
                continue;
            }
            let (held, entry) = finish(self.drafts.swap_remove(number), &self.names);
            let entry = self.entries.pack(&entry).map_err(no_context)?;
            self.captured.push(Captured { held, entry });
        }
        Ok(())
    }
}

fn no_context(error: std::io::Error) -> SnapshotError {
    SnapshotError::Fault(format!("zstd: {error}"))
}

fn random_subject() -> Result<SubjectId, SnapshotError> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(|error| SnapshotError::Random(error.to_string()))?;
    Ok(SubjectId::random(random))
}

/// Parts that the last capture of a VM can lend, by class, digest and size.
fn lent_parts(entry: &VmEntry) -> HashMap<(Class, Digest, u64), PartEntry> {
    let mut lent = HashMap::new();
    for artefact in &entry.artefacts {
        for part in &artefact.parts {
            lent.insert((artefact.class, part.digest, part.size), part.clone());
        }
    }
    lent
}

/// Tells whether the entry of a VM can be packed and unpacked, or how large it may become: an upper bound, as the names of
/// bundles, which all have one length, are not known yet.
fn fits(record: &Described, artefacts: &[ArtefactDraft]) -> Result<(), usize> {
    // Keys, numbers and digests of an artefact and of a part, rounded up.
    const ARTEFACT_BYTES: usize = 512;
    const PART_BYTES: usize = 384;
    let parts: usize = artefacts.iter().map(|artefact| artefact.parts.len()).sum();
    // A control character of a path takes six letters.
    let paths: usize = artefacts.iter().map(|artefact| artefact.path.len() * 6).sum();
    let of_record = match record {
        Described::Vm(vm) => json_bytes(vm),
        Described::Companion(companion) => json_bytes(companion),
    };
    let bytes = ARTEFACT_BYTES * (artefacts.len() + 1) + PART_BYTES * parts + paths + of_record;
    if bytes > MAX_ENTRY_BYTES { Err(bytes) } else { Ok(()) }
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("records have only string keys");
    count.0
}

/// Gives every part its bundle's name.
fn finish(draft: VmDraft, names: &[Option<Digest>]) -> (HeldVm, BodyEntry) {
    let VmDraft { mut held, captured, record, artefacts } = draft;
    let artefacts: Vec<ArtefactEntry> = artefacts
        .into_iter()
        .map(|artefact| ArtefactEntry {
            path: artefact.path,
            kind: artefact.kind,
            class: artefact.class,
            size: artefact.size,
            digest: artefact.digest,
            parts: artefact
                .parts
                .into_iter()
                .map(|part| match part {
                    PartDraft::Reused(part) => part,
                    PartDraft::New { bundle, member } => PartEntry {
                        object: names[bundle].expect("its bundles are finished"),
                        offset: member.offset,
                        length: member.length,
                        size: member.size,
                        digest: member.digest,
                    },
                })
                .collect(),
        })
        .collect();
    held.bundles =
        artefacts.iter().flat_map(|artefact| artefact.parts.iter().map(|part| part.object)).collect();
    held.bundles.sort_unstable();
    held.bundles.dedup();
    let subject = held.subject.clone();
    let entry = match record {
        Described::Vm(vm) => BodyEntry::Vm(Box::new(VmEntry { subject, captured, vm: *vm, artefacts })),
        Described::Companion(companion) => BodyEntry::Companion(Box::new(CompanionEntry {
            subject,
            captured,
            companion: *companion,
            artefacts,
        })),
    };
    (held, entry)
}

struct Current {
    draft: ArtefactDraft,
    /// Only for files of more than one part.
    whole: Option<DigestBuilder>,
    ended: bool,
}

struct Sink<'w, 'a> {
    worker: &'w mut Worker<'a>,
    lent: HashMap<(Class, Digest, u64), PartEntry>,
    /// Whose bundles the lent parts lie in.
    lender: Option<OwnerId>,
    owner: Option<OwnerId>,
    guardian: Option<Digest>,
    artefacts: Vec<ArtefactDraft>,
    current: Option<Current>,
    watched: Vec<u8>,
    /// What ends the whole run, not only this VM.
    fatal: Option<SnapshotError>,
}

impl Sink<'_, '_> {
    fn fail(&mut self, error: SnapshotError) -> SinkError {
        let text = error.to_string();
        self.fatal = Some(error);
        SinkError(text)
    }

    fn seal_part(
        &mut self,
        owner: &OwnerId,
        class: Class,
        bytes: &[u8],
    ) -> Result<(PartDraft, Digest), SnapshotError> {
        if !self.lent.is_empty() {
            let digest = Digest::of(bytes);
            if let Some(part) = self.lent.get(&(class, digest, bytes.len() as u64)) {
                return Ok((PartDraft::Reused(part.clone()), digest));
            }
        }
        let (bundle, member) = self.worker.append(owner, class, bytes)?;
        let digest = member.digest;
        Ok((PartDraft::New { bundle, member }, digest))
    }
}

impl CaptureSink for Sink<'_, '_> {
    fn begin_vm(&mut self, identity: &VmIdentity<'_>) -> Result<(), SinkError> {
        self.artefacts.clear();
        self.current = None;
        self.watched.clear();
        let job = self.worker.job;
        self.guardian = identity.owner_guardian;
        self.owner = owner_of(&job.policy, &job.vault, identity.name, identity.owner_guardian);
        if self.owner.is_none() {
            // This VM cannot be sealed to anyone; the others can.
            let error =
                SnapshotError::NoOwner { vm_id: identity.vm_id.to_owned(), name: identity.name.to_owned() };
            return Err(SinkError(error.to_string()));
        }
        if self.owner != self.lender {
            // The new owner could not open what is sealed to the old one.
            self.lent.clear();
        }
        Ok(())
    }

    fn begin_file(&mut self, path: &str, kind: ArtefactKind, class: Class) -> Result<(), SinkError> {
        let empty = Digest::of(b"");
        let draft =
            ArtefactDraft { path: path.to_owned(), kind, class, size: 0, digest: empty, parts: Vec::new() };
        self.current = Some(Current { draft, whole: None, ended: false });
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (Some(owner), Some(mut current)) = (self.owner.clone(), self.current.take()) else {
            return Err(
                self.fail(SnapshotError::Fault("a source gave bytes before it began a file".to_owned()))
            );
        };
        if current.ended || bytes.len() as u64 > PART_BYTES {
            return Err(self.fail(SnapshotError::Fault("a source gave parts of a wrong size".to_owned())));
        }
        current.ended = (bytes.len() as u64) < PART_BYTES;
        let (part, digest) = match self.seal_part(&owner, current.draft.class, bytes) {
            Ok(sealed) => sealed,
            Err(error) => return Err(self.fail(error)),
        };
        if current.draft.parts.is_empty() {
            current.draft.digest = digest;
            if !current.ended {
                let mut whole = DigestBuilder::default();
                whole.update(bytes);
                current.whole = Some(whole);
            }
        } else if let Some(whole) = &mut current.whole {
            whole.update(bytes);
        }
        current.draft.size += bytes.len() as u64;
        current.draft.parts.push(part);
        self.current = Some(current);
        Ok(())
    }

    fn end_file(&mut self) -> Result<Digest, SinkError> {
        let Some(current) = self.current.take() else {
            return Err(
                self.fail(SnapshotError::Fault("a source ended a file that it had not begun".to_owned()))
            );
        };
        let mut draft = current.draft;
        if let Some(whole) = current.whole {
            draft.digest = whole.finish();
        }
        let digest = draft.digest;
        self.artefacts.push(draft);
        Ok(digest)
    }

    fn watch(&mut self, watched: Vec<u8>) {
        self.watched = watched;
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::Layout;

    use super::*;

    #[test]
    fn a_vm_of_too_many_files_is_refused_before_its_entry_is_packed() {
        let record = || Described::Vm(Box::new(VmRecord::unexplored("id", "vm", Layout::Live, "a place")));
        let files = |count: usize| -> Vec<ArtefactDraft> {
            let draft = |number| ArtefactDraft {
                path: format!("Snapshots/{number}.vmcx"),
                kind: ArtefactKind::Configuration,
                class: Class::Machine,
                size: 0,
                digest: Digest::of(b""),
                parts: Vec::new(),
            };
            (0..count).map(draft).collect()
        };
        assert_eq!(fits(&record(), &files(10_000)), Ok(()));
        let size = fits(&record(), &files(200_000)).unwrap_err();
        assert!(size > MAX_ENTRY_BYTES, "{size}");
    }
}
