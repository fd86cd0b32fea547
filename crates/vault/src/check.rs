//! Checking a vault: without keys against names, signatures, chains and sizes; with identities down to the
//! last byte.
//!
//! A check goes on past the first bad block and names everything that it finds. It repairs nothing.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{
    ArtefactEntry, ArtefactKind, BodyHead, CompanionEntry, Content, Digest, EscrowBody, EscrowEntry, Finding,
    Kind, NamesBody, ObjectEntry, OwnerId, ProofBody, Record, RevealBody, Role, Severity, SnapshotBody,
    VmEntry, WriterId,
};

use crate::fetch::{self, MAX_OBJECT_IN_MEMORY_BYTES, member};
use crate::ledger::Standing;
use crate::policy::PolicyChain;
use crate::seal::{Header, Identities, MemberRef, ObjectKey, Opener, SealError};
use crate::store::{Entry, StoreError};
use crate::vault::{Ledgers, Vault, VaultError, object_path};

/// An identity that takes part in a check, with the role it is for.
pub struct RoleIdentity {
    /// The owner it belongs to.
    pub owner: OwnerId,
    /// The role.
    pub role: Role,
    /// The identity.
    pub identities: Identities,
}

/// What to check.
#[derive(Default)]
pub struct CheckOptions {
    /// Read every object, not only its size.
    pub read_data: bool,
    /// Identities that must open every object of their classes. Without `read_data`, bodies are read.
    pub identities: Vec<RoleIdentity>,
    /// Is shown every VM of every snapshot body that was opened, with the head of that body; on any thread, and
    /// before the body's place in its ledger was compared.
    pub on_vm: Option<OnVm>,
    /// Is shown every companion likewise.
    pub on_companion: Option<OnCompanion>,
}

/// Looks at a VM's entry while a check has it at hand.
pub type OnVm = Box<dyn Fn(&BodyHead, &VmEntry) + Send + Sync>;
/// Looks at a companion's entry likewise.
pub type OnCompanion = Box<dyn Fn(&BodyHead, &CompanionEntry) + Send + Sync>;

/// Is told how far a check has come.
pub trait CheckObserver: Send + Sync {
    /// How many objects and bytes will be read.
    fn planned(&self, objects: u64, bytes: u64);
    /// One object of that many bytes is done.
    fn object_done(&self, bytes: u64);
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Ledgers that were verified.
    pub ledgers: u64,
    /// Records with a valid signature.
    pub records: u64,
    /// Objects that records name.
    pub objects: u64,
    /// Bytes of these objects.
    pub object_bytes: u64,
    /// Objects that were read whole.
    pub objects_read: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Objects that at least one identity opened.
    pub objects_opened: u64,
    /// Artefacts whose parts were all found, with the digests that bodies state.
    pub artefacts_verified: u64,
    /// Objects that no record names: what interrupted runs left.
    pub unreferenced: u64,
    /// Everything that is wrong or worth knowing.
    pub findings: Vec<Finding>,
}

const BRING_BACK: &str = "bring the object back from a mirror or an older version; the next run of this host seals anew what it still has";

/// One object with the record that names it last.
struct Target {
    writer: WriterId,
    entry: ObjectEntry,
    record: Arc<Record>,
    record_id: Digest,
    /// How many recipients its header must have, where the policy is known.
    recipients: Option<usize>,
    /// Whether the record's predecessor is there, so that this record is surely the first to name it.
    first_is_known: bool,
}

/// Members that bodies state of each bundle, by the offset of their frames.
type Expected = HashMap<(WriterId, Digest), BTreeMap<u64, MemberRef>>;

/// What bodies state, by writer, `seq` and record id: of two that contradict each other the older one stands, in
/// whatever order their bodies were read.
type Statements = BTreeMap<(WriterId, u64, Digest), Vec<Stated>>;

/// Objects of one record by name: a record may name as many as 16 MiB hold, and each part is looked up.
type Objects<'a> = HashMap<Digest, &'a ObjectEntry>;

impl Vault {
    /// Checks everything that `ledgers` name. What the ledgers themselves found is part of the report.
    ///
    /// # Errors
    /// Only what ends the check: the store is down or denies access.
    pub async fn check(
        &self,
        ledgers: &Ledgers,
        options: CheckOptions,
        observer: &dyn CheckObserver,
    ) -> Result<CheckReport, VaultError> {
        let mut report = CheckReport {
            findings: ledgers.findings().cloned().collect(),
            ledgers: ledgers.all().filter(|ledger| !ledger.records.is_empty()).count() as u64,
            records: ledgers.all().map(|ledger| ledger.records.len() as u64).sum(),
            ..CheckReport::default()
        };
        let targets = targets(ledgers);
        report.objects = targets.len() as u64;
        report.object_bytes = total(targets.values());
        let present = self.compare_listing(ledgers, &targets, &mut report).await?;

        let keyed = !options.identities.is_empty();
        let (bodies, bundles): (Vec<Target>, Vec<Target>) = targets
            .into_values()
            .filter(|t| present.contains(&(t.writer.clone(), t.entry.name)))
            .partition(|t| t.entry.content == Content::Body);
        let mut to_read: Vec<&Target> = Vec::new();
        if options.read_data || keyed {
            to_read.extend(&bodies);
        }
        if options.read_data {
            to_read.extend(&bundles);
        }
        observer.planned(to_read.len() as u64, total(to_read.iter().copied()));

        let options = Arc::new(options);
        let mut expected = Expected::new();
        let mut statements = Statements::new();
        if options.read_data || keyed {
            let outcomes =
                self.read_all(bodies, &options, &Arc::new(Expected::new()), observer, &mut report).await?;
            for outcome in outcomes {
                for stated in outcome.artefacts {
                    let record = (outcome.writer.clone(), stated.record.seq, stated.record_id);
                    statements.entry(record).or_default().push(stated);
                }
            }
            for ((writer, ..), stated) in &mut statements {
                let Some(record) = stated.first().map(|first| Arc::clone(&first.record)) else { continue };
                let objects = objects(&record);
                stated.retain(|stated| {
                    expect_parts(writer, stated, &objects, &mut expected)
                        .map_err(|finding| report.findings.push(finding))
                        .is_ok()
                });
            }
        }
        if options.read_data {
            self.read_all(bundles, &options, &Arc::new(expected), observer, &mut report).await?;
            let broken: BTreeSet<String> =
                report.findings.iter().map(|finding| finding.place.clone()).collect();
            for ((writer, ..), stated) in &statements {
                let Some(first) = stated.first() else { continue };
                let objects = objects(&first.record);
                for stated in stated {
                    self.check_artefact(writer, stated, &objects, &options, &broken, &mut report).await?;
                }
            }
        }
        report.findings.sort_by(|a, b| (b.severity, &a.place, &a.code).cmp(&(a.severity, &b.place, &b.code)));
        Ok(report)
    }

    /// Compares what the store lists with what records name; gives the objects that are there in full size.
    async fn compare_listing(
        &self,
        ledgers: &Ledgers,
        targets: &BTreeMap<(WriterId, Digest), Target>,
        report: &mut CheckReport,
    ) -> Result<BTreeSet<(WriterId, Digest)>, VaultError> {
        let known: BTreeSet<WriterId> = ledgers.all().map(|ledger| ledger.writer.clone()).collect();
        let mut present = BTreeSet::new();
        let mut listed = self.store.list_stream("objects", None)?;
        while let Some(entry) = listed.try_next().await? {
            let (path, size) = match entry {
                Entry::Object(listed) => (listed.path.to_string(), listed.size_bytes),
                Entry::Foreign(name) => {
                    report.findings.push(foreign(&name, "its name is not one that Lifeboat gives"));
                    continue;
                }
            };
            let Some((writer, name)) = parse_object_path(&path).filter(|(writer, _)| known.contains(writer))
            else {
                report
                    .findings
                    .push(foreign(&path, "no policy names its writer, or its name is not one of an object"));
                continue;
            };
            match targets.get(&(writer.clone(), name)) {
                None => report.unreferenced += 1,
                Some(target) if target.entry.size != size => report.findings.push(damage(
                    "object-size",
                    path,
                    format!("it has {size} bytes, and the record says {}", target.entry.size),
                )),
                Some(_) => {
                    present.insert((writer, name));
                }
            }
        }
        for ((writer, name), target) in targets {
            let wrong_size = || {
                report
                    .findings
                    .iter()
                    .any(|f| f.code == "object-size" && f.place == object_path(writer, name).to_string())
            };
            if !present.contains(&(writer.clone(), *name)) && !wrong_size() {
                let what = format!("the object is missing; record {} names it", target.record.seq);
                report.findings.push(damage("object-missing", object_path(writer, name).to_string(), what));
            }
        }
        if report.unreferenced > 0 {
            report.findings.push(Finding::new(
                Severity::Note,
                "unreferenced",
                "objects/",
                format!(
                    "{} objects stand in no record: runs that were interrupted left them",
                    report.unreferenced
                ),
                "nothing to do; they hold nothing that a record needs",
            ));
        }
        Ok(present)
    }

    /// Counts an artefact whose bundles were read and found whole; joins the parts of a large one and hashes
    /// them once more, because each was only compared by itself.
    async fn check_artefact(
        &self,
        writer: &WriterId,
        stated: &Stated,
        objects: &Objects<'_>,
        options: &CheckOptions,
        broken: &BTreeSet<String>,
        report: &mut CheckReport,
    ) -> Result<(), VaultError> {
        let artefact = &stated.artefact;
        let reads = |identity: &&RoleIdentity| artefact.class.roles().contains(&identity.role);
        let Some(owner) = artefact.parts.first().and_then(|part| objects.get(&part.object)).map(|e| &e.owner)
        else {
            return Ok(());
        };
        let Some(identity) =
            options.identities.iter().filter(reads).find(|identity| identity.owner == *owner)
        else {
            return Ok(());
        };
        if artefact.parts.iter().any(|part| broken.contains(object_path(writer, &part.object).as_str())) {
            return Ok(());
        }
        if artefact.parts.len() > 1 {
            let mut hasher = lifeboat_schema::DigestBuilder::default();
            for part in &artefact.parts {
                let Some(entry) = objects.get(&part.object) else { return Ok(()) };
                match self.read_member(writer, entry, part, &identity.identities).await {
                    Ok(content) => hasher.update(&content),
                    // What one writer stated ends nobody else's check.
                    Err(error @ (VaultError::Damaged { .. } | VaultError::Seal(_))) => {
                        report.findings.push(damage(
                            "artefact-unreadable",
                            stated.place(),
                            format!("a part of it in bundle {} is not to be had: {error}", part.object),
                        ));
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            if hasher.finish() != artefact.digest {
                report.findings.push(damage(
                    "artefact-digest",
                    stated.place(),
                    "its parts together do not have the digest that its body states",
                ));
                return Ok(());
            }
        }
        report.artefacts_verified += 1;
        Ok(())
    }

    async fn read_all(
        &self,
        targets: Vec<Target>,
        options: &Arc<CheckOptions>,
        expected: &Arc<Expected>,
        observer: &dyn CheckObserver,
        report: &mut CheckReport,
    ) -> Result<Vec<Outcome>, VaultError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let reads = targets.into_iter().map(|target| async move {
            // Checked here although the listing showed this size: who writes the record may have put the object.
            if target.entry.size > MAX_OBJECT_IN_MEMORY_BYTES {
                let what = format!(
                    "the record gives it {} bytes, and an object has at most {MAX_OBJECT_IN_MEMORY_BYTES}: it was not read",
                    target.entry.size
                );
                return Ok((target, Err(what)));
            }
            let bytes = match self
                .store
                .read(&object_path(&target.writer, &target.entry.name), target.entry.size)
                .await
            {
                Ok(bytes) => Ok(bytes),
                Err(
                    error @ (StoreError::NotFound { .. }
                    | StoreError::TooLarge { .. }
                    | StoreError::Short { .. }),
                ) => Err(error.to_string()),
                Err(error) => return Err(VaultError::Store(error)),
            };
            Ok((target, bytes))
        });
        let mut outcomes = Vec::new();
        let mut stream = futures::stream::iter(reads)
            .buffer_unordered(self.store.concurrency().clamp(1, threads))
            .map_ok(|(target, bytes)| {
                let (options, expected) = (Arc::clone(options), Arc::clone(expected));
                async move {
                    tokio::task::spawn_blocking(move || check_object(&target, bytes, &options, &expected))
                        .await
                        .map_err(|panic| VaultError::Damaged {
                            place: "objects/".into(),
                            what: format!("a check ended early: {panic}"),
                        })
                }
            })
            .try_buffer_unordered(threads);
        while let Some(outcome) = stream.try_next().await? {
            observer.object_done(outcome.bytes);
            report.objects_read += 1;
            report.bytes_read = report.bytes_read.saturating_add(outcome.bytes);
            report.objects_opened += u64::from(outcome.opened);
            report.findings.extend(outcome.findings.iter().cloned());
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

/// What one object gave.
struct Outcome {
    writer: WriterId,
    bytes: u64,
    opened: bool,
    artefacts: Vec<Stated>,
    findings: Vec<Finding>,
}

/// An artefact as a body states it.
struct Stated {
    record: Arc<Record>,
    record_id: Digest,
    /// The body that states it.
    body: Digest,
    artefact: ArtefactEntry,
}

impl Stated {
    /// Says which artefact it is, for findings.
    fn place(&self) -> String {
        format!("{} of record {}", self.artefact.path, self.record.seq)
    }
}

/// Bytes of all of them. Each size is a writer's word, so the sum may be past every number.
fn total<'a>(targets: impl Iterator<Item = &'a Target>) -> u64 {
    targets.map(|target| target.entry.size).fold(0, u64::saturating_add)
}

fn objects(record: &Record) -> Objects<'_> {
    record.objects.iter().map(|object| (object.name, object)).collect()
}

/// All objects that records with a valid signature name, whatever their standing.
fn targets(ledgers: &Ledgers) -> BTreeMap<(WriterId, Digest), Target> {
    let mut targets: BTreeMap<(WriterId, Digest), Target> = BTreeMap::new();
    for ledger in ledgers.all() {
        let present: BTreeSet<u64> = ledger.records.iter().map(|record| record.signed.name.seq).collect();
        for record in ledger.records.iter().filter(|record| record.standing != Standing::NotAllowed) {
            let seq = record.signed.name.seq;
            let first_is_known = seq == 1 || present.contains(&(seq - 1));
            let shared = Arc::new(record.signed.record.clone());
            for entry in &shared.objects {
                // The first record that names an object is the one that its body repeats.
                targets.entry((ledger.writer.clone(), entry.name)).or_insert_with(|| Target {
                    writer: ledger.writer.clone(),
                    entry: entry.clone(),
                    record: Arc::clone(&shared),
                    record_id: record.signed.name.id,
                    recipients: recipients(&ledgers.policies, &shared, entry),
                    first_is_known,
                });
            }
        }
    }
    targets
}

/// How many recipients the object's header must have.
fn recipients(policies: &PolicyChain, record: &Record, entry: &ObjectEntry) -> Option<usize> {
    let policy = match (&record.policy, record.kind) {
        // A policy's own objects are sealed under its own terms.
        (_, Kind::Policy) => policies.iter().find(|policy| policy.place.seq == record.seq),
        (Some(place), _) => policies.at(place),
        (None, _) => None,
    };
    policy.and_then(|policy| policy.owner(&entry.owner)).map(|owner| owner.recipients_of(entry.class).len())
}

fn parse_object_path(path: &str) -> Option<(WriterId, Digest)> {
    let mut segments = path.split('/');
    let (Some("objects"), Some(writer), Some(name), None) =
        (segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return None;
    };
    Some((writer.parse().ok()?, name.strip_suffix(".age")?.parse().ok()?))
}

fn damage(code: &str, place: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding::new(Severity::Damage, code, place, what, BRING_BACK)
}

fn foreign(place: &str, what: &str) -> Finding {
    Finding::new(
        Severity::Damage,
        "foreign-file",
        place,
        what,
        "nothing of Lifeboat wrote it for this vault: find out who did, and remove it",
    )
}

/// Notes where the parts of an artefact must be. A statement that cannot be true is damage of the body that
/// makes it: it replaces nothing that was stated before, and the artefact is followed no further.
fn expect_parts(
    writer: &WriterId,
    stated: &Stated,
    objects: &Objects<'_>,
    expected: &mut Expected,
) -> Result<(), Finding> {
    let artefact = &stated.artefact;
    let wrong = |what: String| {
        let place = object_path(writer, &stated.body).to_string();
        Err(damage("body-contradiction", place, format!("{}: {what}", stated.place())))
    };
    let total = artefact.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
    if total != Some(artefact.size) {
        return wrong(format!("its parts do not add up to {} bytes", artefact.size));
    }
    if let [only] = artefact.parts.as_slice()
        && only.digest != artefact.digest
    {
        return wrong("its one part has another digest than the whole".to_owned());
    }
    for part in &artefact.parts {
        let named = objects.get(&part.object);
        if named.is_none_or(|object| object.content != Content::Bundle || object.class != artefact.class) {
            return wrong(format!("its record names no bundle {} of class {}", part.object, artefact.class));
        }
        match expected.entry((writer.clone(), part.object)).or_default().entry(part.offset) {
            MapEntry::Vacant(free) => {
                free.insert(member(part));
            }
            MapEntry::Occupied(taken) if *taken.get() == member(part) => {}
            MapEntry::Occupied(_) => {
                return wrong(format!(
                    "at offset {} of bundle {} it states another member than was stated before",
                    part.offset, part.object
                ));
            }
        }
    }
    Ok(())
}

/// Checks one object as far as the identities reach.
fn check_object(
    target: &Target,
    bytes: Result<Bytes, String>,
    options: &CheckOptions,
    expected: &Expected,
) -> Outcome {
    let entry = &target.entry;
    let mut outcome = Outcome {
        writer: target.writer.clone(),
        bytes: entry.size,
        opened: false,
        artefacts: Vec::new(),
        findings: Vec::new(),
    };
    if let Err(finding) = check_bytes(target, bytes, options, expected, &mut outcome) {
        outcome.findings.push(finding);
    }
    outcome
}

fn check_bytes(
    target: &Target,
    bytes: Result<Bytes, String>,
    options: &CheckOptions,
    expected: &Expected,
    outcome: &mut Outcome,
) -> Result<(), Finding> {
    let entry = &target.entry;
    let place = object_path(&target.writer, &entry.name).to_string();
    let found = |code: &str, what: String| damage(code, place.clone(), what);
    let bytes = bytes.map_err(|what| found("object-damaged", what))?;
    if bytes.len() as u64 != entry.size {
        return Err(found(
            "object-size",
            format!("it has {} bytes, and the record says {}", bytes.len(), entry.size),
        ));
    }
    if Digest::of(&bytes) != entry.name {
        return Err(found("object-damaged", "its bytes do not have the digest that is its name".to_owned()));
    }
    let header = Header::parse(&bytes).map_err(|error| found("object-malformed", error.to_string()))?;
    if header.header_bytes != entry.header {
        let what =
            format!("its header has {} bytes, and the record says {}", header.header_bytes, entry.header);
        return Err(found("object-malformed", what));
    }
    if Digest::of(&bytes[header.header_bytes as usize..]) != entry.payload {
        return Err(found(
            "object-malformed",
            "its payload does not have the digest that the record states".to_owned(),
        ));
    }
    if let Some(recipients) = target.recipients
        && header.stanzas != recipients
    {
        let what = format!("its header has {} stanzas for {recipients} recipients", header.stanzas);
        return Err(found("recipient-count", what));
    }
    let mut key = None;
    for identity in &options.identities {
        if identity.owner != entry.owner || !entry.class.roles().contains(&identity.role) {
            continue;
        }
        match ObjectKey::open(&bytes, entry.header, entry.size, &identity.identities) {
            Ok(opened) => key = Some(opened),
            Err(SealError::NoMatch) => outcome.findings.push(found(
                "not-sealed-to-role",
                format!("the {} identity does not open this object of class {}", identity.role, entry.class),
            )),
            Err(error) => return Err(found("object-malformed", error.to_string())),
        }
    }
    let Some(key) = key else { return Ok(()) };
    outcome.opened = true;
    let bytes = bytes.try_into_mut().map(Vec::from).unwrap_or_else(|shared| shared.to_vec());
    let plaintext = key.open_all(bytes, 1).map_err(|error| found("object-malformed", error.to_string()))?;
    match entry.content {
        Content::Body => {
            check_body(target, &plaintext, options, outcome).map_err(|what| found("body-malformed", what))
        }
        Content::Bundle => {
            let none = BTreeMap::new();
            let members = expected.get(&(target.writer.clone(), entry.name)).unwrap_or(&none);
            check_bundle(&plaintext, members).map_err(|what| found("bundle-malformed", what))
        }
    }
}

/// Parses a body as what its record's kind says it is.
fn check_body(
    target: &Target,
    plaintext: &[u8],
    options: &CheckOptions,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let (record, entry) = (&target.record, &target.entry);
    let text = |error: VaultError| error.to_string();
    let head = match record.kind {
        Kind::Snapshot => {
            let body: SnapshotBody = fetch::parse_body(record, entry, plaintext).map_err(text)?;
            let record = Arc::clone(record);
            if let Some(on_vm) = &options.on_vm {
                body.vms.iter().for_each(|vm| on_vm(&body.head, vm));
            }
            if let Some(on_companion) = &options.on_companion {
                body.companions.iter().for_each(|one| on_companion(&body.head, one));
            }
            outcome.artefacts = body
                .vms
                .into_iter()
                .flat_map(|vm| vm.artefacts)
                .chain(body.companions.into_iter().flat_map(|companion| companion.artefacts))
                .map(|artefact| Stated {
                    record: Arc::clone(&record),
                    record_id: target.record_id,
                    body: entry.name,
                    artefact,
                })
                .collect();
            body.head
        }
        Kind::Escrow => {
            let body: EscrowBody = fetch::parse_body(record, entry, plaintext).map_err(text)?;
            let stated = |secret: EscrowEntry| Stated {
                record: Arc::clone(record),
                record_id: target.record_id,
                body: entry.name,
                artefact: artefact_of(secret),
            };
            outcome.artefacts = body.entries.into_iter().map(stated).collect();
            body.head
        }
        Kind::Proof => fetch::parse_body::<ProofBody>(record, entry, plaintext).map_err(text)?.head,
        Kind::Reveal => fetch::parse_body::<RevealBody>(record, entry, plaintext).map_err(text)?.head,
        Kind::Policy => fetch::parse_body::<NamesBody>(record, entry, plaintext).map_err(text)?.head,
        // Kinds whose bodies this version neither writes nor reads: the head is what can be compared.
        _ => fetch::parse_body::<AnyBody>(record, entry, plaintext).map_err(text)?.head,
    };
    if head.seq != record.seq && target.first_is_known {
        return Err(format!(
            "it was sealed for record {}, and record {} names it first",
            head.seq, record.seq
        ));
    }
    Ok(())
}

/// An escrowed secret as what it is in the store: one member of one bundle.
fn artefact_of(secret: EscrowEntry) -> ArtefactEntry {
    ArtefactEntry {
        path: format!("{} {}", secret.kind.name(), secret.protector.as_deref().unwrap_or("without an id")),
        kind: ArtefactKind::Other,
        class: secret.class,
        size: secret.part.size,
        digest: secret.part.digest,
        parts: vec![secret.part],
    }
}

/// The head of a body of any kind.
#[derive(serde::Deserialize)]
struct AnyBody {
    head: BodyHead,
}

impl fetch::Body for AnyBody {
    fn head(&self) -> &BodyHead {
        &self.head
    }
}

/// Members that no body states may stand in a bundle too (attempts that were given up); this is their most.
const MAX_UNSTATED_BYTES: u64 = 64 << 30;

fn check_bundle(plaintext: &[u8], expected: &BTreeMap<u64, MemberRef>) -> Result<(), String> {
    let stated: u64 = expected.values().map(|member| member.size).fold(0, u64::saturating_add);
    let mut found = 0usize;
    let mut opener = Opener::new().map_err(|error| error.to_string())?;
    let mut mismatch = None;
    opener
        .walk_bundle(plaintext, stated.saturating_add(MAX_UNSTATED_BYTES), |member, _content| {
            match expected.get(&member.offset) {
                Some(wanted) if *wanted == member => found += 1,
                Some(_) => mismatch = Some(member.offset),
                None => {}
            }
            Ok::<(), SealError>(())
        })
        .map_err(|error| error.to_string())?;
    if let Some(offset) = mismatch {
        return Err(format!("the member at offset {offset} is another than the body states"));
    }
    if found != expected.len() {
        return Err(format!("{} members that bodies state are not in it", expected.len() - found));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
