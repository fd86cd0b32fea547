//! From a vault to facts: bodies that the catalog does not have are read, then everything comes out of the catalog.
//!
//! Damage is a finding, and is looked at again each time; bodies that are sealed to others are passed over.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{
    Content, Digest, EscrowBody, Finding, Kind, NamesBody, ObjectEntry, OwnerId, Record, Severity,
    SnapshotBody, WriterId,
};
use lifeboat_vault::ledger::{Ledger, LedgerRecord};
use lifeboat_vault::seal::{Identities, SealError};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};

use crate::catalog::{BodyKey, BodyState, Catalog, KeptBody, SnapshotFacts};
use crate::error::AuditError;
use crate::facts::{
    CaptureFacts, Carried, CompanionFacts, Facts, HostFacts, ProofFacts, SecretFacts, StateFacts, VmFacts,
};
use crate::proofs::read_proofs;

/// Brings `catalog` up to what `ledgers` have, as far as `identities` open it, and gives all facts; captured states of the
/// past too, if `with_captures`.
///
/// # Errors
/// [`AuditError`] when the store is down or the catalog cannot be used. Damage in the vault is a finding.
pub async fn read(
    vault: &Vault,
    ledgers: &Ledgers,
    identities: &Identities,
    catalog: &mut Catalog,
    with_captures: bool,
) -> Result<Facts, AuditError> {
    let mut facts = Facts::default();
    let mut names = Names::default();
    names.read(vault, ledgers, identities).await?;
    let mut bodies = refresh(vault, ledgers, identities, catalog, &mut facts.findings).await?;
    facts.had_bodies = !bodies.is_empty() || !facts.findings.is_empty();
    facts.opened_something = bodies.values().any(|body| body.state != BodyState::Foreign);
    load(ledgers, catalog, &bodies, &names, &mut facts)?;
    if with_captures {
        facts.captures = captures(ledgers, catalog, &bodies, &facts.hosts)?;
    }
    bodies.clear();
    facts.owners = names.owners;
    Ok(facts)
}

/// Names that the newest policy gives to owners and writers.
#[derive(Default)]
struct Names {
    owners: BTreeMap<OwnerId, String>,
    writers: BTreeMap<WriterId, String>,
}

impl Names {
    async fn read(
        &mut self,
        vault: &Vault,
        ledgers: &Ledgers,
        identities: &Identities,
    ) -> Result<(), AuditError> {
        let newest = ledgers.admin.counting().rev().find(|one| one.signed.record.kind == Kind::Policy);
        let Some(record) = newest.map(|one| &one.signed.record) else { return Ok(()) };
        for object in bodies_of(record) {
            match vault.read_body::<NamesBody>(record, object, identities).await {
                Ok(body) => {
                    self.owners.extend(body.owners);
                    self.writers.extend(body.writers);
                }
                // Names are for people; a list without them is still a list. `check` says what is damaged.
                Err(VaultError::Seal(SealError::NoMatch) | VaultError::Damaged { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn bodies_of(record: &Record) -> impl Iterator<Item = &ObjectEntry> {
    record.objects.iter().filter(|object| object.content == Content::Body)
}

/// The newest snapshot of a ledger that counts.
fn newest_snapshot(ledger: &Ledger) -> Option<&LedgerRecord> {
    ledger.counting().rev().find(|one| one.signed.record.kind == Kind::Snapshot)
}

/// A body that is to be read.
struct Wanted<'l> {
    record: &'l LedgerRecord,
    object: &'l ObjectEntry,
    /// Its VMs are those of now.
    is_present: bool,
    /// What stays of it is here already.
    is_kept: bool,
}

/// What a body gave.
enum Got {
    Snapshot { owner: OwnerId, host: String, seq: u64, facts: SnapshotFacts },
    Escrow(Vec<SecretFacts>),
    Proofs(Vec<ProofFacts>),
    Foreign,
    Damaged { place: String, what: String },
}

/// Reads what the catalog lacks.
async fn refresh(
    vault: &Vault,
    ledgers: &Ledgers,
    identities: &Identities,
    catalog: &mut Catalog,
    findings: &mut Vec<Finding>,
) -> Result<HashMap<BodyKey, KeptBody>, AuditError> {
    let mut positions = catalog.positions()?;
    let stands = |(writer, (seq, id)): (&WriterId, &(u64, Digest))| {
        let ledger = ledgers.writers.get(writer);
        ledger.and_then(|ledger| ledger.at(*seq, id)).is_some_and(|record| record.standing.counts())
    };
    if !positions.iter().all(stands) {
        // Rolled back, forked or no longer allowed: what was taken from it must go.
        catalog.clear()?;
        positions.clear();
    }
    let mut bodies = catalog.bodies()?;
    let mut present: HashSet<BodyKey> = HashSet::new();
    let mut wanted: BTreeMap<(WriterId, Digest), Wanted<'_>> = BTreeMap::new();
    for (writer, ledger) in &ledgers.writers {
        let newest = newest_snapshot(ledger).map(|record| record.signed.name);
        for record in ledger.counting() {
            let signed = &record.signed;
            if !matches!(signed.record.kind, Kind::Snapshot | Kind::Escrow | Kind::Proof) {
                continue;
            }
            let is_newest = Some(signed.name) == newest;
            for object in bodies_of(&signed.record) {
                let key = (writer.clone(), object.name);
                let state = bodies.get(&key).map(|body| body.state);
                if is_newest {
                    present.insert(key.clone());
                }
                let is_wanted = match state {
                    None => true,
                    Some(BodyState::Past) => is_newest,
                    Some(BodyState::Read | BodyState::Foreign) => false,
                };
                if is_wanted {
                    let is_kept = state.is_some();
                    let one = Wanted { record, object, is_present: is_newest, is_kept };
                    // Named by several records: what the newest one makes of it counts.
                    wanted.entry(key).and_modify(|one| one.is_present |= is_newest).or_insert(one);
                }
            }
        }
    }
    let reads = wanted.into_iter().map(|(key, one)| async move {
        let got = read_one(vault, &one, identities).await?;
        Ok::<_, VaultError>((key, one, got))
    });
    let mut reads = futures::stream::iter(reads).buffer_unordered(vault.store.concurrency().max(1));
    catalog.begin()?;
    let mut unread: HashSet<WriterId> = HashSet::new();
    loop {
        let next = match reads.try_next().await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                catalog.roll_back();
                return Err(error.into());
            }
        };
        let (key, one, got) = next;
        if let Got::Damaged { place, what } = got {
            unread.insert(key.0);
            findings.push(damage(place, what));
            continue;
        }
        match keep(catalog, &key, &one, got) {
            Ok(body) => drop(bodies.insert(key, body)),
            Err(error) => {
                catalog.roll_back();
                return Err(error);
            }
        }
    }
    drop(reads);
    let kept = catalog.keep_present(&mut bodies, &present).and_then(|_| {
        for (writer, ledger) in ledgers.writers.iter().filter(|(writer, _)| !unread.contains(*writer)) {
            if let Some(newest) = ledger.newest().map(|record| record.signed.name)
                && positions.get(writer) != Some(&(newest.seq, newest.id))
            {
                catalog.set_position(writer, newest.seq, &newest.id)?;
            }
        }
        Ok(())
    });
    if let Err(error) = kept {
        catalog.roll_back();
        return Err(error);
    }
    catalog.commit()?;
    // Of a body that is gone from every record nothing is asked any more.
    Ok(bodies)
}

async fn read_one(vault: &Vault, wanted: &Wanted<'_>, identities: &Identities) -> Result<Got, VaultError> {
    let record = &wanted.record.signed.record;
    let got = match record.kind {
        Kind::Snapshot => vault.read_body(record, wanted.object, identities).await.map(snapshot),
        Kind::Escrow => vault
            .read_body::<EscrowBody>(record, wanted.object, identities)
            .await
            .map(|body| Got::Escrow(body.entries.iter().map(SecretFacts::of).collect())),
        _ => read_proofs(vault, wanted.record, wanted.object, identities).await.map(Got::Proofs),
    };
    match got {
        Err(VaultError::Seal(SealError::NoMatch)) => Ok(Got::Foreign),
        Err(VaultError::Damaged { place, what }) => Ok(Got::Damaged { place, what }),
        other => other,
    }
}

fn snapshot(body: SnapshotBody) -> Got {
    let mut facts = SnapshotFacts::default();
    for entry in &body.vms {
        let vm = VmFacts::of(&entry.vm, &mut facts.guardians);
        facts.vms.push((entry.subject.clone(), entry.captured, vm));
    }
    for one in body.run.carried {
        facts.carried.push((one.subject, Carried { why: one.why, since: one.since, error: one.error }));
    }
    for entry in &body.companions {
        facts.companions.push((entry.subject.clone(), CompanionFacts::of(entry)));
    }
    Got::Snapshot { owner: body.head.owner, host: body.host, seq: body.head.seq, facts }
}

fn keep(catalog: &Catalog, key: &BodyKey, one: &Wanted<'_>, got: Got) -> Result<KeptBody, AuditError> {
    let kind = one.record.signed.record.kind;
    let plain = |state| KeptBody { state, owner: None, host: String::new(), seq: one.record.signed.name.seq };
    let body = match got {
        Got::Snapshot { owner, host, seq, facts } => {
            if !one.is_kept {
                catalog.put_past(key, &facts)?;
            }
            if one.is_present {
                catalog.put_present(key, &facts)?;
            }
            let state = if one.is_present { BodyState::Read } else { BodyState::Past };
            KeptBody { state, owner: Some(owner), host, seq }
        }
        Got::Escrow(secrets) => {
            catalog.put_secrets(&secrets)?;
            plain(BodyState::Read)
        }
        Got::Proofs(proofs) => {
            catalog.put_proofs(&proofs)?;
            plain(BodyState::Read)
        }
        Got::Foreign | Got::Damaged { .. } => plain(BodyState::Foreign),
    };
    catalog.put_body(key, kind, &body)?;
    Ok(body)
}

fn damage(place: String, what: String) -> Finding {
    Finding::new(
        Severity::Damage,
        "body-damaged",
        place,
        what,
        "bring the object back from a mirror or an older version; until then this audit is not whole",
    )
}

/// Puts the facts together, as each host's newest record names them.
fn load(
    ledgers: &Ledgers,
    catalog: &Catalog,
    bodies: &HashMap<BodyKey, KeptBody>,
    names: &Names,
    facts: &mut Facts,
) -> Result<(), AuditError> {
    facts.generations = catalog.generations()?;
    facts.secrets = catalog.secrets()?;
    facts.proofs = catalog.proofs()?;
    facts.guardians = catalog.guardians()?;
    let mut vms = catalog.vms()?;
    let carried = catalog.carried()?;
    let mut companions = catalog.companions()?;
    let policy = ledgers.policies.newest();
    for (writer, ledger) in &ledgers.writers {
        let Some(newest) = newest_snapshot(ledger) else { continue };
        let record = &newest.signed.record;
        let kept: Vec<(BodyKey, &KeptBody)> = bodies_of(record)
            .filter_map(|object| {
                let key = (writer.clone(), object.name);
                bodies.get(&key).map(|body| (key, body))
            })
            .filter(|(_, body)| body.state == BodyState::Read)
            .collect();
        let of_body = kept.iter().map(|(_, body)| body.host.clone()).next();
        let name = of_body.or_else(|| names.writers.get(writer).cloned());
        let may_write = |terms: &lifeboat_schema::WriterTerms| {
            terms.id == *writer && terms.kinds.contains(&Kind::Snapshot)
        };
        let host = facts.hosts.len();
        facts.hosts.push(HostFacts {
            writer: writer.clone(),
            name: name.unwrap_or_else(|| writer.to_string()),
            last_run: (record.started, record.finished),
            is_active: policy.is_some_and(|policy| policy.terms.writers.iter().any(may_write)),
        });
        for (subject, places) in &record.subjects {
            let named = places.iter().filter_map(|place| record.objects.get(usize::try_from(*place).ok()?));
            let mut keys: Vec<(u64, BodyKey)> = named
                .filter(|object| object.content == Content::Body)
                .filter_map(|object| {
                    let key = (writer.clone(), object.name);
                    bodies.get(&key).map(|body| (body.seq, key))
                })
                .collect();
            // A subject stands in the newest of the bodies that the record gives it.
            keys.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
            let by_run = kept.iter().filter(|(_, body)| body.seq == record.seq);
            let carried = by_run
                .filter_map(|(key, _)| carried.get(key).and_then(|all| all.get(subject)))
                .next()
                .cloned();
            for (_, key) in keys {
                if let Some((captured, vm)) = vms.get_mut(&key).and_then(|all| all.remove(subject)) {
                    let Some(owner) = bodies[&key].owner.clone() else { break };
                    facts.states.push(StateFacts { host, owner, captured, carried, vm });
                    break;
                }
                if let Some(one) = companions.get_mut(&key).and_then(|all| all.remove(subject)) {
                    let host = facts.hosts[host].name.clone();
                    facts.companions.push(CompanionFacts { host, ..one });
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Every captured state that a record still names, with the first and the last record that do.
fn captures(
    ledgers: &Ledgers,
    catalog: &Catalog,
    bodies: &HashMap<BodyKey, KeptBody>,
    hosts: &[HostFacts],
) -> Result<Vec<CaptureFacts>, AuditError> {
    let kept = catalog.captures()?;
    let mut all: BTreeMap<(BodyKey, usize), CaptureFacts> = BTreeMap::new();
    for (writer, ledger) in &ledgers.writers {
        let host = hosts.iter().find(|host| host.writer == *writer);
        let host = host.map_or_else(|| writer.to_string(), |host| host.name.clone());
        for record in ledger.counting() {
            let (signed, name) = (&record.signed.record, record.signed.name);
            if signed.kind != Kind::Snapshot {
                continue;
            }
            for object in bodies_of(signed) {
                let key = (writer.clone(), object.name);
                let of_body = kept.get(&key).into_iter().flatten().enumerate();
                for (index, one) in of_body {
                    let places = signed.subjects.get(&one.subject).into_iter().flatten();
                    let mut named = places.filter_map(|place| {
                        let object = signed.objects.get(usize::try_from(*place).ok()?)?;
                        Some((bodies.get(&(writer.clone(), object.name))?.seq, object.name))
                    });
                    // It counts while it is the newest of the bodies in which this record has the subject.
                    let newest = named.by_ref().max_by_key(|(seq, _)| *seq);
                    if newest.is_none_or(|(_, newest)| newest != object.name) {
                        continue;
                    }
                    let state = all.entry((key.clone(), index)).or_insert_with(|| CaptureFacts {
                        vm_id: one.vm_id.clone(),
                        name: one.name.clone(),
                        host: host.clone(),
                        writer: writer.clone(),
                        captured: one.captured,
                        guardians: one.guardians.clone(),
                        records: (name.seq, name.seq),
                        newest_record: (name.id, signed.finished),
                    });
                    state.records.1 = name.seq;
                    state.newest_record = (name.id, signed.finished);
                }
            }
        }
    }
    Ok(all.into_values().collect())
}
