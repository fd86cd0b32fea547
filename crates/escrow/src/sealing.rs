//! Secrets into the vault: each to those who may have it, and one record that says which there are.
//!
//! An `escrow` record names only what its own run sealed; those before it stand, because nothing but an admin's `forget`
//! ends them. What was sealed before, with nothing new to say of it, is not sealed again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use lifeboat_schema::{
    BodyHead, Class, Content, Digest, ESCROW_BODY_VERSION, EscrowBody, EscrowEntry, EscrowRunSource,
    EscrowSource, Finding, Kind, ObjectEntry, OwnerId, OwnerTerms, PartEntry, SecretKind, Severity, Time,
};
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{BundleWriter, MemberRef, Recipients, SealError, SealOptions, Sealer};
use lifeboat_vault::vault::{Vault, VaultError};
use lifeboat_vault::writer::{self, Knowledge, OwnRecord, Writer};

use crate::error::Trouble;
use crate::found::{FoundSecret, Import};
use crate::state::{Sealed, State, StateError};

/// A bundle is closed when it has that many bytes; just below a power of two padding costs least.
const BUNDLE_BYTES: u64 = (2 << 20) - (64 << 10);
/// Findings about what could not be read, of one source; more are counted.
const MAX_SOURCE_FINDINGS: usize = 1000;

/// Why a run of an importer committed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Sealing failed.
    #[error("sealing failed: {0}")]
    Seal(#[from] SealError),
    /// The policy has no such owner.
    #[error("the newest policy names no owner {0}; enroll the importer anew for one that there is")]
    NoOwner(OwnerId),
}

/// What one source gave, with its name.
pub struct NamedImport {
    /// A file, or the address of a service.
    pub name: String,
    /// What it gave.
    pub import: Import,
    /// How far the source was read, to go on from there next time.
    pub cursor: Option<String>,
}

/// An importer at work.
pub struct Importer<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// The importer as a writer.
    pub writer: &'a Writer,
    /// Its name for people.
    pub name: &'a str,
    /// Whose secrets they are.
    pub owner: &'a OwnerId,
    /// When the run began.
    pub started: Time,
    /// The clock.
    pub clock: &'a (dyn Fn() -> Time + Sync),
}

/// What a run did.
#[derive(Debug)]
pub struct SealingReport {
    /// The record; none where there was nothing new.
    pub record: Option<RecordName>,
    /// What was read.
    pub sources: Vec<EscrowRunSource>,
    /// Secrets that were sealed.
    pub sealed: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// A secret that is to be sealed, with what its entry says. The part is filled in when it is.
struct New<'i> {
    found: &'i FoundSecret,
    /// Name of its source.
    from: &'i str,
    entry: EscrowEntry,
    mark: Digest,
}

impl Importer<'_> {
    /// Prepares a run: what the store has decides what is still known. Ask [`State::cursor`] after this.
    ///
    /// # Errors
    /// [`SealingError`]; nothing was written to the vault.
    pub async fn begin(&self, state: &mut State) -> Result<writer::Start, SealingError> {
        let known = state.known();
        let start = self.vault.begin(self.writer, Kind::Escrow, &known).await?;
        state.remember_seen(&start.remember);
        match start.knowledge {
            Knowledge::Holds => state.drop_pending(),
            Knowledge::PendingHolds => state.promote(),
            Knowledge::Dropped => state.drop_knowledge(start.previous),
        }
        let owner = self.terms(&start)?;
        // Sealed to other recipients than today's: sealed anew, as far as the sources still have it.
        let recipients = recipients_mark(owner);
        if state.sealed_for() != Some(recipients.as_str()) {
            state.drop_knowledge(start.previous);
            state.set_sealed_for(recipients);
        }
        state.save()?;
        Ok(start)
    }

    fn terms<'s>(&self, start: &'s writer::Start) -> Result<&'s OwnerTerms, SealingError> {
        start.policy.owner(self.owner).ok_or_else(|| SealingError::NoOwner(self.owner.clone()))
    }

    /// Seals what is new in `imports`, and commits one record.
    ///
    /// # Errors
    /// [`SealingError`]; nothing was committed.
    pub async fn seal(
        &self,
        mut start: writer::Start,
        imports: &[NamedImport],
        state: &mut State,
    ) -> Result<SealingReport, SealingError> {
        let owner = self.terms(&start)?.clone();
        let mut findings = std::mem::take(&mut start.findings);
        let (new, sources) = self.choose(imports, state, &mut findings);
        // What could not be read is asked for again, such as after rights were granted.
        let read_whole = imports.iter().filter(|one| !one.import.has_losses());
        let cursors: BTreeMap<String, String> =
            read_whole.filter_map(|one| Some((one.name.clone(), one.cursor.clone()?))).collect();
        if new.is_empty() {
            state.set_cursors(cursors);
            state.save()?;
            return Ok(SealingReport { record: None, sources, sealed: 0, findings });
        }

        let sealed: Vec<Sealed> = new
            .iter()
            .map(|one| Sealed {
                mark: one.mark,
                kind: one.entry.kind,
                secret: one.entry.part.digest,
                protector: one.entry.protector.clone(),
                from: Some(one.from.to_owned()),
            })
            .collect();
        let mut sealer = Sealer::new(&SealOptions::default())?;
        let mut objects = Vec::new();
        let mut entries = Vec::with_capacity(new.len());
        for class in [Class::Secret, Class::Machine] {
            self.seal_class(&mut sealer, &owner, class, &new, &mut entries, &mut objects).await?;
        }
        let body = EscrowBody {
            head: BodyHead {
                v: ESCROW_BODY_VERSION,
                vault: self.vault.id.clone(),
                writer: self.writer.id.clone(),
                seq: start.previous.map_or(0, |name| name.seq) + 1,
                kind: Kind::Escrow,
                class: Class::Metadata,
                owner: owner.id.clone(),
            },
            importer: self.name.to_owned(),
            sources: sources.clone(),
            entries,
        };
        let json = serde_json::to_vec(&body).expect("bodies have only string keys");
        let recipients = Recipients::parse(&owner.recipients_of(Class::Metadata))?;
        let object = sealer.seal_body(&recipients, &json)?;
        objects.push(self.put(object, Content::Body, Class::Metadata, &owner).await?);

        let finished = (self.clock)();
        let mut record =
            writer::blank_record(self.vault, &self.writer.id, Kind::Escrow, &start, self.started, finished);
        record.objects = objects;
        let signed = SignedRecord::sign(record, &self.writer.key).map_err(VaultError::from)?;
        let own = OwnRecord { name: signed.name, bytes: signed.bytes.clone() };
        let count = sealed.len() as u64;
        state.set_pending(&own, sealed, cursors)?;
        self.vault.put_record(&self.writer.id, &signed).await?;
        state.promote();
        state.save()?;
        Ok(SealingReport { record: Some(signed.name), sources, sealed: count, findings })
    }

    /// What is new, and what there is to say of the rest.
    fn choose<'i>(
        &self,
        imports: &'i [NamedImport],
        state: &State,
        findings: &mut Vec<Finding>,
    ) -> (Vec<New<'i>>, Vec<EscrowRunSource>) {
        let mut marks: HashSet<Digest> = state.sealed().iter().map(|one| one.mark).collect();
        let mut by_protector: HashMap<String, BTreeSet<Digest>> = HashMap::new();
        for one in state.sealed().iter().filter(|one| one.kind == SecretKind::RecoveryPassword) {
            if let Some(protector) = &one.protector {
                by_protector.entry(protector.clone()).or_default().insert(one.secret);
            }
        }
        let mut new: Vec<New<'i>> = Vec::new();
        let mut sources = Vec::new();
        for NamedImport { name, import, .. } in imports {
            let mut known = 0;
            let mut in_source: HashSet<(Option<String>, Digest)> = HashSet::new();
            let mut twice = 0u64;
            for found in &import.found {
                let one = self.entry(name, import, found);
                let (protector, secret) = (one.entry.protector.clone(), one.entry.part.digest);
                if !in_source.insert((protector.clone(), secret)) {
                    twice += 1;
                }
                // A key package stands beside the password of its protector.
                if let Some(protector) = protector.filter(|_| one.entry.kind == SecretKind::RecoveryPassword)
                {
                    let secrets = by_protector.entry(protector.clone()).or_default();
                    if !secrets.contains(&secret) && !secrets.is_empty() {
                        findings.push(conflict(&protector, name));
                    }
                    secrets.insert(secret);
                }
                // What was read back says nothing that is not known of the same secret from elsewhere.
                let is_held = import.source == EscrowSource::ReadBack
                    && state
                        .sealed()
                        .iter()
                        .any(|held| held.secret == secret && held.protector == one.entry.protector);
                if !is_held && marks.insert(one.mark) {
                    new.push(one);
                } else {
                    known += 1;
                }
            }
            if twice > 0 {
                findings.push(Finding::new(
                    Severity::Note,
                    "escrow-duplicate",
                    name,
                    format!("{twice} of its secrets stand in it more than once"),
                    "nothing: each is kept once",
                ));
            }
            self.problems(name, import, findings);
            sources.push(EscrowRunSource {
                source: import.source,
                name: name.clone(),
                found: import.found.len() as u64,
                known,
                problems: (import.problems.len() + import.more_problems) as u64,
            });
        }
        (new, sources)
    }

    fn problems(&self, name: &str, import: &Import, findings: &mut Vec<Finding>) {
        for problem in import.problems.iter().take(MAX_SOURCE_FINDINGS) {
            let severity = if problem.what.loses() { Severity::Warning } else { Severity::Note };
            let place = format!("{name}, {}", problem.place);
            findings.push(Finding::new(
                severity,
                "escrow-unreadable",
                place,
                problem.what.to_string(),
                next(&problem.what),
            ));
        }
        let more = import.problems.len().saturating_sub(MAX_SOURCE_FINDINGS) + import.more_problems;
        if more > 0 {
            findings.push(Finding::new(
                Severity::Warning,
                "escrow-unreadable",
                name,
                format!("{more} more things in it could not be read"),
                "mend the first ones, then import it again",
            ));
        }
    }

    fn entry<'i>(&self, name: &'i str, import: &Import, found: &'i FoundSecret) -> New<'i> {
        let secret = Digest::of(&found.secret.expose());
        let kind = found.secret.kind();
        let hints = &found.hints;
        let origin = match &found.place {
            crate::Place::Whole => name.to_owned(),
            place => format!("{name}, {place}"),
        };
        let entry = EscrowEntry {
            kind,
            protector: found.protector.map(|id| id.to_string()),
            source: import.source,
            origin,
            imported: self.started,
            recorded: found.time,
            computer: hints.computer.clone(),
            volume: hints.volume.map(|id| id.to_string()),
            mount: hints.mount.clone(),
            disclosed: hints.is_disclosed,
            class: kind.class(),
            part: PartEntry { object: secret, offset: 0, length: 0, size: 0, digest: secret },
        };
        let mark = mark(&entry, found.is_time_of_file);
        New { found, from: name, entry, mark }
    }

    /// Seals the secrets of one class into bundles.
    async fn seal_class(
        &self,
        sealer: &mut Sealer,
        owner: &OwnerTerms,
        class: Class,
        new: &[New<'_>],
        entries: &mut Vec<EscrowEntry>,
        objects: &mut Vec<ObjectEntry>,
    ) -> Result<(), SealingError> {
        let recipients = Recipients::parse(&owner.recipients_of(class))?;
        let mut bundle: Option<(BundleWriter, Vec<(EscrowEntry, MemberRef)>)> = None;
        // Within one bundle equal secrets are one member.
        let mut members: HashMap<Digest, MemberRef> = HashMap::new();
        for one in new.iter().filter(|one| one.entry.class == class) {
            if bundle.is_none() {
                bundle = Some((BundleWriter::create(sealer, &recipients)?, Vec::new()));
                members.clear();
            }
            let (open, waiting) = bundle.as_mut().expect("there is one");
            let member = match members.get(&one.entry.part.digest) {
                Some(member) => *member,
                None => {
                    let member = open.append(sealer, &one.found.secret.expose())?;
                    members.insert(one.entry.part.digest, member);
                    member
                }
            };
            waiting.push((one.entry.clone(), member));
            if open.sealed_bytes() >= BUNDLE_BYTES
                && let Some((full, waiting)) = bundle.take()
            {
                self.finish(sealer, owner, class, full, waiting, entries, objects).await?;
            }
        }
        if let Some((last, waiting)) = bundle {
            self.finish(sealer, owner, class, last, waiting, entries, objects).await?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one step of seal_class, with all that it has at hand")]
    async fn finish(
        &self,
        sealer: &mut Sealer,
        owner: &OwnerTerms,
        class: Class,
        bundle: BundleWriter,
        waiting: Vec<(EscrowEntry, MemberRef)>,
        entries: &mut Vec<EscrowEntry>,
        objects: &mut Vec<ObjectEntry>,
    ) -> Result<(), SealingError> {
        let object = self.put(bundle.finish(sealer)?, Content::Bundle, class, owner).await?;
        entries.extend(waiting.into_iter().map(|(entry, member)| EscrowEntry {
            part: PartEntry {
                object: object.name,
                offset: member.offset,
                length: member.length,
                size: member.size,
                digest: member.digest,
            },
            ..entry
        }));
        objects.push(object);
        Ok(())
    }

    async fn put(
        &self,
        sealed: lifeboat_vault::seal::SealedObject,
        content: Content,
        class: Class,
        owner: &OwnerTerms,
    ) -> Result<ObjectEntry, SealingError> {
        let entry = writer::object_entry(&sealed, content, class, &owner.id, &owner.recipient_set(class));
        self.vault.put_object(&self.writer.id, &entry.name, Bytes::from(sealed.bytes)).await?;
        Ok(entry)
    }
}

/// Stands for the recipients of everything that an importer seals.
fn recipients_mark(owner: &OwnerTerms) -> String {
    [Class::Metadata, Class::Secret, Class::Machine]
        .map(|class| owner.recipient_set(class).to_string())
        .join(" ")
}

/// Stands for all that an entry says, but where and when it was imported, and when its file was last touched.
fn mark(entry: &EscrowEntry, is_time_of_file: bool) -> Digest {
    let recorded = entry.recorded.filter(|_| !is_time_of_file);
    let said = (
        (entry.kind, &entry.protector, entry.part.digest, entry.source, recorded),
        (&entry.computer, &entry.volume, &entry.mount, entry.disclosed),
    );
    Digest::of(&serde_json::to_vec(&said).expect("entries have only string keys"))
}

fn conflict(protector: &str, name: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        "escrow-conflict",
        format!("{name}, {protector}"),
        "another recovery password is known for this BitLocker protector; both are kept",
        "one of the two is wrong: `lifeboat escrow prove` tells which, where a snapshot holds the volume's metadata",
    )
}

fn next(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Password(_) | Trouble::DamagedId => {
            "compare it with where it was copied from, and import it again"
        }
        Trouble::NoId => {
            "nothing: `lifeboat escrow prove` looks for its volume; an export with ids saves that"
        }
        Trouble::NotReadable(_) => "give the account the right to read recovery passwords, and import again",
        Trouble::NotGiven { .. } | Trouble::NotAsked(_) => {
            "look at what the service says; the next run asks for what is not sealed yet"
        }
        Trouble::OnlyListed(_) => "fetch each key, or let Lifeboat ask Entra ID itself",
        Trouble::Nothing | Trouble::Empty => "give the file that the export wrote",
        _ => "export it again, and import that",
    }
}
