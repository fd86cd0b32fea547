//! One writer's ledger, verified: which of its records count, and what is wrong with the others.
//!
//! Nothing here reads a store: the caller brings the files of the ledger, whatever storage says they are.
//! A record is never dropped in silence. It stands, stands with a doubt that is named, or does not count.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lifeboat_schema::{Digest, Finding, Kind, PolicyRef, Severity, Tip, VaultId, WriterId};

use crate::key::VerifyingKey;
use crate::policy::{PolicyChain, PolicyProblem};
use crate::record::{BadRecord, RecordName, SignedRecord};

/// What a record is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Signed, allowed, and chained without a gap to the first record.
    Good,
    /// Signed and allowed, but records before it are missing or unreadable.
    AfterGap,
    /// Two records of this writer have this `seq`, or this one follows such a pair.
    Forked,
    /// Signed by the writer, and against the policies.
    NotAllowed,
}

impl Standing {
    /// Whether a reader may use the record without being told to.
    pub const fn counts(self) -> bool {
        matches!(self, Standing::Good | Standing::AfterGap)
    }
}

/// One record with its standing.
#[derive(Debug, Clone)]
pub struct LedgerRecord {
    /// The record.
    pub signed: SignedRecord,
    /// What it is worth.
    pub standing: Standing,
}

/// One file that was listed in a ledger's folder.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    /// Its name without the folder.
    pub name: String,
    /// Its bytes, or why they could not be had.
    pub bytes: Result<Bytes, String>,
}

/// A verified ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Whose it is.
    pub writer: WriterId,
    /// Records with a valid signature, by `seq` and id.
    pub records: Vec<LedgerRecord>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Ledger {
    /// The newest record that counts.
    pub fn newest(&self) -> Option<&LedgerRecord> {
        self.counting().next_back()
    }

    /// The records that count, oldest first.
    pub fn counting(&self) -> impl DoubleEndedIterator<Item = &LedgerRecord> {
        self.records.iter().filter(|record| record.standing.counts())
    }

    /// The record of that name.
    pub fn at(&self, seq: u64, id: &Digest) -> Option<&LedgerRecord> {
        self.records.iter().find(|r| r.signed.name == RecordName { seq, id: *id })
    }

    /// Whether two records claim one place.
    pub fn is_forked(&self) -> bool {
        self.records.iter().any(|record| record.standing == Standing::Forked)
    }

    /// Compares with what a client remembers of this ledger: a remembered tip that is gone is a rollback.
    pub fn compare_with(&mut self, remembered: &Tip) {
        if self.at(remembered.seq, &remembered.id).is_some() {
            return;
        }
        let newest = self.records.last().map_or(0, |record| record.signed.name.seq);
        self.findings.push(Finding::new(
            Severity::Damage,
            "rollback",
            format!("ledger/{}/{}", self.writer, RecordName { seq: remembered.seq, id: remembered.id }),
            format!(
                "this client has seen record {} of the writer {}; the store no longer has it, and ends at {newest}",
                remembered.seq, self.writer
            ),
            "find out who put back an older state of the store, and bring the newer one back from a mirror or an older version of the objects",
        ));
    }
}

/// Verifies the files of an ordinary writer's ledger under `policies`.
pub fn verify(writer: &WriterId, files: Vec<LedgerFile>, vault: &VaultId, policies: &PolicyChain) -> Ledger {
    let keys = policies.keys_of(writer);
    let mut ledger = sort_out(writer, files, vault, &keys);
    let mut before: Option<PolicyRef> = None;
    let mut reuse = Reuse::default();
    for record in &mut ledger.records {
        if let Err(problem) = policies.judge(&record.signed, before) {
            record.standing = Standing::NotAllowed;
            ledger.findings.push(not_allowed(&record.signed, writer, &problem));
            continue;
        }
        before = record.signed.record.policy;
        if record.standing != Standing::Forked {
            reuse.check(&record.signed, &mut ledger.findings);
        }
    }
    ledger
}

/// Verifies the files of the admin ledger and gives the policies that hold.
pub fn verify_admin(files: Vec<LedgerFile>, vault: &VaultId, keys: &[VerifyingKey]) -> (Ledger, PolicyChain) {
    let mut ledger = sort_out(&WriterId::admin(), files, vault, keys);
    let mut policies = PolicyChain::default();
    let mut broken = false;
    for record in &mut ledger.records {
        if record.standing == Standing::Forked {
            // Two policies of one number: neither counts, nor what follows, until an admin settles it.
            broken = true;
            continue;
        }
        if broken {
            // Signed on top of what does not count; the finding of the first such record says it.
            record.standing = record.standing.max(Standing::NotAllowed);
            continue;
        }
        let pushed = match record.signed.record.kind {
            Kind::Policy => policies.push(&record.signed),
            // Kinds of the admin ledger that change no terms.
            Kind::Forget | Kind::Keyring | Kind::Rewrap => {
                policies.newest().map(|_| ()).ok_or(PolicyProblem::UnknownPolicy)
            }
            other => Err(PolicyProblem::KindNotAllowed(other)),
        };
        if let Err(problem) = pushed {
            record.standing = Standing::NotAllowed;
            broken = true;
            ledger.findings.push(not_allowed(&record.signed, &ledger.writer, &problem));
        }
    }
    (ledger, policies)
}

fn place(writer: &WriterId, name: &str) -> String {
    format!("ledger/{writer}/{name}")
}

fn not_allowed(signed: &SignedRecord, writer: &WriterId, problem: &PolicyProblem) -> Finding {
    Finding::new(
        Severity::Damage,
        "record-not-allowed",
        place(writer, &signed.name.to_string()),
        format!("the record does not count: {problem}"),
        "look at what this writer's key was used for; if it is stolen, retire the writer with a cut before this record",
    )
}

/// Verifies each file by itself, then the chain between them.
fn sort_out(writer: &WriterId, files: Vec<LedgerFile>, vault: &VaultId, keys: &[VerifyingKey]) -> Ledger {
    let mut findings = Vec::new();
    let mut records = Vec::new();
    for file in files {
        let at = place(writer, &file.name);
        let Ok(name) = file.name.parse::<RecordName>() else {
            findings.push(Finding::new(
                Severity::Damage,
                "foreign-file",
                at,
                "the file does not have a record's name",
                "nothing of Lifeboat wrote it: find out who did, and remove it",
            ));
            continue;
        };
        let read = file.bytes.map_err(|error| ("record-unreadable", error)).and_then(|bytes| {
            SignedRecord::verify(bytes, name, vault, writer, keys).map_err(|problem| {
                let code = match problem {
                    BadRecord::NewerVersion(_) | BadRecord::UnknownExtension(_) => "record-newer",
                    _ => "record-damaged",
                };
                (code, problem.to_string())
            })
        });
        match read {
            Ok(signed) => records.push(LedgerRecord { signed, standing: Standing::Good }),
            Err((code, what)) => findings.push(Finding::new(
                Severity::Damage,
                code,
                at,
                what,
                "bring the record back from a mirror or an older version of the object; what it names is found by no other record of that moment",
            )),
        }
    }
    records.sort_by_key(|record| record.signed.name);
    chain(writer, &mut records, &mut findings);
    Ledger { writer: writer.clone(), records, findings }
}

/// Sets the standing that the chain gives to each record.
fn chain(writer: &WriterId, records: &mut [LedgerRecord], findings: &mut Vec<Finding>) {
    let mut by_seq: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        by_seq.entry(record.signed.name.seq).or_default().push(index);
    }
    let mut standing = Standing::Good;
    let mut expected_seq = 1;
    let mut previous: Option<Digest> = None;
    for (seq, indices) in by_seq {
        if seq != expected_seq {
            findings.push(Finding::new(
                Severity::Damage,
                "ledger-gap",
                format!("ledger/{writer}"),
                if seq == expected_seq + 1 {
                    format!("record {expected_seq} is missing")
                } else {
                    format!("records {expected_seq} to {} are missing", seq - 1)
                },
                "bring them back from a mirror or older versions of the objects; later records still restore",
            ));
            standing = standing.max(Standing::AfterGap);
        } else if let [index] = indices.as_slice()
            && seq > 1
            && standing != Standing::Forked
            && records[*index].signed.record.prev != previous
        {
            findings.push(Finding::new(
                Severity::Damage,
                "chain-broken",
                place(writer, &records[*index].signed.name.to_string()),
                "the record names another predecessor than the one in the ledger",
                "the predecessor was replaced: look for its other form in a mirror",
            ));
            standing = standing.max(Standing::AfterGap);
        }
        if indices.len() > 1 {
            findings.push(Finding::new(
                Severity::Damage,
                "fork",
                format!("ledger/{writer}"),
                format!("{} records of this writer have seq {seq}", indices.len()),
                "two machines write as one, such as a host and its restored image: stop one, and enroll it anew; records from here on restore only when named",
            ));
            standing = Standing::Forked;
        }
        for index in &indices {
            records[*index].standing = standing;
        }
        previous = indices.last().map(|index| records[*index].signed.name.id);
        expected_seq = seq + 1;
    }
}

/// Holds each record to naming only objects that are new or stood in its direct predecessor.
#[derive(Default)]
struct Reuse {
    last_named_at: HashMap<Digest, u64>,
    last_seq: u64,
}

impl Reuse {
    fn check(&mut self, signed: &SignedRecord, findings: &mut Vec<Finding>) {
        let seq = signed.name.seq;
        // What a predecessor that is missing or does not count has named is not known here.
        let has_predecessor = self.last_seq + 1 == seq;
        self.last_seq = seq;
        let mut stale = 0u64;
        for object in &signed.record.objects {
            if self.last_named_at.insert(object.name, seq).is_some_and(|last| last + 1 < seq) {
                stale += 1;
            }
        }
        if stale > 0 && has_predecessor {
            findings.push(Finding::new(
                Severity::Warning,
                "stale-reuse",
                place(&signed.record.writer, &signed.name.to_string()),
                format!("the record takes up {stale} objects again that its predecessor no longer named"),
                "garbage collection may have removed them: run check --read-data, and look at which program wrote this",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
