//! One run of one writer: where it goes on from, and how its record is committed.
//!
//! The rules here are what garbage collection and rollback detection rest on (`docs/design/` and DESIGN
//! section 4): the own ledger and the maintainers' tips are read before anything is sealed; a run names only
//! objects of its own or of its direct predecessor; when the store's tip is not the one that this writer
//! remembers, in either direction, all knowledge of objects is dropped.

use bytes::Bytes;
use lifeboat_schema::{
    Class, Content, Digest, Finding, Kind, ObjectEntry, OwnerId, PolicyRef, RecipientSetId, Record, Severity,
    Tip, WriterId,
};

use crate::key::SigningKey;
use crate::ledger::Ledger;
use crate::outbox::Placed;
use crate::policy::{Policy, PolicyChain, PolicyProblem};
use crate::record::{RecordName, SignedRecord};
use crate::seal::SealedObject;
use crate::store::Created;
use crate::vault::{Vault, VaultError, object_path, record_path};

/// How many of its newest records a writer looks through for a fork.
const FORK_WINDOW: u64 = 64;

/// Who writes, and with which key.
pub struct Writer {
    /// The writer's id.
    pub id: WriterId,
    /// Its key.
    pub key: SigningKey,
}

/// A record of one's own, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRecord {
    /// Place and id.
    pub name: RecordName,
    /// Line and armour.
    pub bytes: Bytes,
}

/// What a writer remembers of its ledger.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The newest record known to be committed.
    pub tip: Option<RecordName>,
    /// The record that the last run was about to commit when it ended.
    pub pending: Option<OwnRecord>,
    /// The newest committed records, oldest first.
    pub kept: Vec<OwnRecord>,
    /// The newest records seen of the admin's and the maintainers' ledgers.
    pub seen: Vec<Tip>,
}

/// What the store's state means for what this writer remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// The remembered record is the newest one.
    Holds,
    /// The record that was about to be committed is in the store.
    PendingHolds,
    /// The store has another state: what is remembered of objects is worth nothing.
    Dropped,
}

/// The beginning of a run.
#[derive(Debug)]
pub struct Start {
    /// The policy that the run is under.
    pub policy: Policy,
    /// The record that the run's record follows.
    pub previous: Option<RecordName>,
    /// Whether reuse is allowed.
    pub knowledge: Knowledge,
    /// The maintainers' marks to state in the record.
    pub seen: Vec<Tip>,
    /// Newest records of other ledgers, to be remembered.
    pub remember: Vec<Tip>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Where the record that is gone on from is.
    pub placed: Placed,
    /// The admin ledger's files that verified, oldest first.
    pub admin: Vec<OwnRecord>,
}

/// The newest policy, which must let `writer` write records of `kind` with its key.
pub(crate) fn policy_for(
    policies: &PolicyChain,
    writer: &Writer,
    kind: Kind,
    store: &str,
) -> Result<Policy, VaultError> {
    let policy = policies.newest().cloned().ok_or_else(|| VaultError::NoPolicy {
        store: store.to_owned(),
        why: "no policy record is valid".to_owned(),
    })?;
    let refused = |problem| VaultError::NotAllowed { writer: writer.id.clone(), problem };
    let terms = policy.writer(&writer.id).ok_or_else(|| refused(PolicyProblem::UnknownWriter))?;
    if !terms.kinds.contains(&kind) {
        return Err(refused(PolicyProblem::KindNotAllowed(kind)));
    }
    if policy.key(&writer.id) != Some(&writer.key.verifying_key()) {
        return Err(refused(PolicyProblem::OtherKey));
    }
    Ok(policy)
}

/// The files of a ledger whose signatures hold.
pub(crate) fn records_of(ledger: &Ledger) -> Vec<OwnRecord> {
    let own = |signed: &SignedRecord| OwnRecord { name: signed.name, bytes: signed.bytes.clone() };
    ledger.records.iter().map(|record| own(&record.signed)).collect()
}

impl Vault {
    /// Begins a run of `writer` that will commit a record of `kind`.
    ///
    /// # Errors
    /// [`VaultError::PolicyRolledBack`] and [`VaultError::NotAllowed`] end the run before anything is
    /// written; [`VaultError::Store`].
    pub async fn begin(&self, writer: &Writer, kind: Kind, known: &Known) -> Result<Start, VaultError> {
        let admin = WriterId::admin();
        let seen_policy = known.seen.iter().find(|tip| tip.writer == admin);
        let (mut ledger, policies) = self.policies(None).await?;
        if let Some(seen) = seen_policy
            && ledger.at(seen.seq, &seen.id).is_none()
        {
            return Err(VaultError::PolicyRolledBack { store: self.store.describe(), seq: seen.seq });
        }
        let mut findings = std::mem::take(&mut ledger.findings);
        let policy = policy_for(&policies, writer, kind, &self.store.describe())?;

        let (previous, knowledge) =
            self.find_tip(writer, known, &policies.keys_of(&writer.id), &mut findings).await?;

        let mut remember: Vec<Tip> = Vec::new();
        if let Some(newest) = ledger.newest() {
            remember.push(Tip { writer: admin, seq: newest.signed.name.seq, id: newest.signed.name.id });
        }
        let mut seen = Vec::new();
        for maintainer in policy.terms.writers.iter().filter(|w| w.kinds.contains(&Kind::Mark)) {
            let remembered = known.seen.iter().find(|tip| tip.writer == maintainer.id);
            if let Some(tip) =
                self.maintainer_tip(&maintainer.id, &policies, remembered, &mut findings).await?
            {
                seen.push(tip.clone());
                remember.push(tip);
            }
        }
        let admin = records_of(&ledger);
        let placed = Placed::Stored;
        Ok(Start { policy, previous, knowledge, seen, remember, findings, placed, admin })
    }

    /// The newest mark of a maintainer, never older than the one remembered.
    async fn maintainer_tip(
        &self,
        maintainer: &WriterId,
        policies: &PolicyChain,
        remembered: Option<&Tip>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Tip>, VaultError> {
        let ledger = self.ledger(maintainer, policies).await?;
        findings.extend(ledger.findings.iter().cloned());
        let newest = ledger.counting().rev().find(|r| r.signed.record.kind == Kind::Mark).map(|r| Tip {
            writer: maintainer.clone(),
            seq: r.signed.name.seq,
            id: r.signed.name.id,
        });
        if let Some(remembered) = remembered
            && newest.as_ref().is_none_or(|tip| tip.seq < remembered.seq)
        {
            findings.push(rollback(maintainer, remembered.seq, newest.map_or(0, |tip| tip.seq)));
            return Ok(Some(remembered.clone()));
        }
        Ok(newest)
    }

    /// Compares the store's newest record of `writer` with what it remembers.
    async fn find_tip(
        &self,
        writer: &Writer,
        known: &Known,
        keys: &[crate::key::VerifyingKey],
        findings: &mut Vec<Finding>,
    ) -> Result<(Option<RecordName>, Knowledge), VaultError> {
        // Enough to see the remembered tip, what follows it, and a recent fork, without listing years of records.
        let from =
            known.tip.map(|tip| format!("ledger/{}/{:010}", writer.id, tip.seq.saturating_sub(FORK_WINDOW)));
        let mut names = self.record_names(&writer.id, from.as_deref()).await?;
        if names.is_empty() && from.is_some() {
            names = self.record_names(&writer.id, None).await?;
        }
        let store_seq = names.last().map_or(0, |name| name.seq);
        if let Some(pair) = names.windows(2).find(|pair| pair[0].seq == pair[1].seq) {
            findings.push(Finding::new(
                Severity::Damage,
                "fork",
                format!("ledger/{}", writer.id),
                format!("several records of this writer have seq {}; records from there on do not count", pair[0].seq),
                "another machine writes as this one, such as its restored image: stop one of the two, and enroll this host anew",
            ));
        }
        if let Some(pending) = &known.pending
            && pending.name.seq == store_seq
            && names.contains(&pending.name)
        {
            return Ok((Some(pending.name), Knowledge::PendingHolds));
        }
        match known.tip {
            None if names.is_empty() => Ok((None, Knowledge::Holds)),
            Some(tip) if tip.seq == store_seq && names.contains(&tip) => Ok((Some(tip), Knowledge::Holds)),
            Some(tip) if tip.seq >= store_seq => {
                findings.push(rollback(&writer.id, tip.seq, store_seq));
                self.put_back(writer, known, store_seq).await?;
                Ok((Some(tip), Knowledge::Dropped))
            }
            _ => {
                // The store is ahead: a lost or older catalog. Go on from the newest record that is ours.
                let newest = self.newest_of_ours(writer, &names, keys, findings).await?;
                Ok((newest.or(known.tip), Knowledge::Dropped))
            }
        }
    }

    pub(crate) async fn record_names(
        &self,
        writer: &WriterId,
        after: Option<&str>,
    ) -> Result<Vec<RecordName>, VaultError> {
        let listing = self.store.list(&format!("ledger/{writer}"), after).await?;
        let mut names: Vec<RecordName> =
            listing.objects.iter().filter_map(|listed| listed.path.file_name().parse().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn newest_of_ours(
        &self,
        writer: &Writer,
        names: &[RecordName],
        keys: &[crate::key::VerifyingKey],
        findings: &mut Vec<Finding>,
    ) -> Result<Option<RecordName>, VaultError> {
        for name in names.iter().rev() {
            let file = self.read_files(vec![record_path(&writer.id, name)]).await?.pop();
            let checked = file
                .ok_or_else(|| "it was not read".to_owned())
                .and_then(|file| file.bytes)
                .and_then(|bytes| {
                    SignedRecord::verify(bytes, *name, &self.id, &writer.id, keys)
                        .map_err(|bad| bad.to_string())
                });
            match checked {
                Ok(_) => return Ok(Some(*name)),
                Err(what) => findings.push(Finding::new(
                    Severity::Damage,
                    "record-damaged",
                    record_path(&writer.id, name).to_string(),
                    what,
                    "bring the record back from a mirror or an older version of the object",
                )),
            }
        }
        Ok(None)
    }

    /// Puts kept records back that the store has lost, oldest first.
    async fn put_back(&self, writer: &Writer, known: &Known, store_seq: u64) -> Result<(), VaultError> {
        for record in known.kept.iter().filter(|record| record.name.seq > store_seq) {
            self.store.create_record(&record_path(&writer.id, &record.name), record.bytes.clone()).await?;
        }
        // The tip itself may share its seq with a foreign record.
        if let Some(tip) = known.kept.last().filter(|record| Some(record.name) == known.tip) {
            self.store.create_record(&record_path(&writer.id, &tip.name), tip.bytes.clone()).await?;
        }
        Ok(())
    }

    /// Puts a sealed object under the writer's prefix. Nothing refers to it before a record does.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn put_object(
        &self,
        writer: &WriterId,
        name: &Digest,
        bytes: Bytes,
    ) -> Result<Created, VaultError> {
        Ok(self.store.create_object(&object_path(writer, name), bytes).await?)
    }

    /// Puts a signed record: this commits it.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn put_record(&self, writer: &WriterId, record: &SignedRecord) -> Result<Created, VaultError> {
        Ok(self.store.create_record(&record_path(writer, &record.name), record.bytes.clone()).await?)
    }

    /// Sizes of a writer's objects in the store.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn object_sizes(
        &self,
        writer: &WriterId,
    ) -> Result<std::collections::HashMap<Digest, u64>, VaultError> {
        let listing = self.store.list(&format!("objects/{writer}"), None).await?;
        let sizes = listing.objects.iter().filter_map(|listed| {
            let name = listed.path.file_name().strip_suffix(".age")?.parse().ok()?;
            Some((name, listed.size_bytes))
        });
        Ok(sizes.collect())
    }
}

fn rollback(writer: &WriterId, remembered: u64, found: u64) -> Finding {
    Finding::new(
        Severity::Damage,
        "rollback",
        format!("ledger/{writer}"),
        format!(
            "record {remembered} was committed and seen; the store now ends at {found} or has another in its place"
        ),
        "find out who put back an older state of the store; what this writer still had was put back, and all was sealed anew",
    )
}

/// The entry of a sealed object for a record.
pub fn object_entry(
    sealed: &SealedObject,
    content: Content,
    class: Class,
    owner: &OwnerId,
    recipients: &RecipientSetId,
) -> ObjectEntry {
    ObjectEntry {
        name: sealed.name,
        content,
        class,
        owner: owner.clone(),
        size: sealed.bytes.len() as u64,
        header: sealed.header_bytes,
        payload: sealed.payload,
        recipients: recipients.clone(),
    }
}

/// The fields of a record that its run fixes, ready for objects and subjects.
pub fn blank_record(
    vault: &Vault,
    writer: &WriterId,
    kind: Kind,
    start: &Start,
    started: lifeboat_schema::Time,
    finished: lifeboat_schema::Time,
) -> Record {
    Record {
        v: lifeboat_schema::RECORD_VERSION,
        critical: Vec::new(),
        vault: vault.id.clone(),
        writer: writer.clone(),
        seq: start.previous.map_or(0, |name| name.seq) + 1,
        prev: start.previous.map(|name| name.id),
        kind,
        policy: Some(PolicyRef { seq: start.policy.place.seq, id: start.policy.place.id }),
        seen: start.seen.clone(),
        started,
        finished,
        objects: Vec::new(),
        subjects: Default::default(),
        terms: None,
    }
}
