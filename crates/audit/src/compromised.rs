//! A stolen key: every VM, captured state, companion and guardian that it opens or that trusts it, and what to do in which order.
//!
//! The certificate names the key; another certificate with the same key is the same theft. Captured states that the key opens
//! can only be retired when a later state is free of it, and not before the vault's lock is over: that is stated by the policy,
//! as nothing in the metadata tells what the storage enforces.

use std::collections::{BTreeMap, HashMap};

use lifeboat_schema::{
    CertificateEntry, CompanionKind, CompromisedCompanion, CompromisedGuardian, CompromisedReport,
    CompromisedSnapshot, CompromisedVm, GuardianEntry, NamedAs, Retire, StolenKey, Time, VmName,
};

use crate::facts::{AddressedFacts, CompanionFacts, Facts, GuardianId, VmFacts, is_same_key};
use crate::judge::{digits, is_thumbprint};
use crate::policy::AuditPolicy;
use crate::truth::Truth;

const SECONDS_PER_DAY: i64 = 86_400;

/// Looks for everything that a stolen key reaches.
pub(crate) fn compromised(
    facts: &Facts,
    truths: &[Truth<'_>],
    policy: &AuditPolicy,
    thumbprint: &str,
    now: Time,
) -> CompromisedReport {
    let digits = digits(thumbprint);
    let stolen = stolen(facts, &digits);
    let is_stolen = |one: &CertificateEntry| stolen.iter().any(|of| is_same_key(one, of));
    let named: BTreeMap<GuardianId, StolenKey> = facts
        .guardians
        .iter()
        .filter_map(|(id, guardian)| Some((*id, key_of(guardian, &is_stolen)?)))
        .collect();
    let guardians = named
        .iter()
        .map(|(id, key)| CompromisedGuardian { guardian: facts.guardians[id].clone(), key: *key });
    let vms: Vec<CompromisedVm> = truths.iter().filter_map(|truth| of_vm(&truth.state.vm, &named)).collect();
    let snapshots = snapshots(facts, policy, &named, now);
    let companions: Vec<CompromisedCompanion> =
        facts.companions.iter().filter_map(|one| of_companion(one, &is_stolen)).collect();
    let next = next(&vms, &snapshots, &companions, named.is_empty() && companions.is_empty());
    CompromisedReport { thumbprint: digits, guardians: guardians.collect(), vms, snapshots, companions, next }
}

/// Every certificate with this thumbprint that the vault knows.
fn stolen<'f>(facts: &'f Facts, digits: &str) -> Vec<&'f CertificateEntry> {
    let of_guardians = facts.guardians.values().flat_map(|one| [&one.signing, &one.encryption]);
    let of_companions = facts.companions.iter().flat_map(CompanionFacts::certificates);
    let of_data = facts
        .companions
        .iter()
        .filter_map(|one| one.addressed_to.as_ref())
        .flat_map(|addressed| addressed.all())
        .flat_map(|one| [&one.signing, &one.encryption]);
    let all = of_guardians.chain(of_companions).chain(of_data);
    all.filter(|certificate| is_thumbprint(digits, certificate)).collect()
}

fn key_of(guardian: &GuardianEntry, is_stolen: &impl Fn(&CertificateEntry) -> bool) -> Option<StolenKey> {
    if is_stolen(&guardian.encryption) {
        Some(StolenKey::Encryption)
    } else if is_stolen(&guardian.signing) {
        Some(StolenKey::Signing)
    } else {
        None
    }
}

fn of_vm(vm: &VmFacts, named: &BTreeMap<GuardianId, StolenKey>) -> Option<CompromisedVm> {
    let find = |ids: &[GuardianId]| ids.iter().find_map(|id| named.get(id)).copied();
    let current =
        |of: fn(&AddressedFacts) -> &Vec<GuardianId>| vm.addressed_to.as_ref().and_then(|one| find(of(one)));
    let owner = current(|one| &one.owners).map(|key| (NamedAs::Owner, key));
    let guardian = || current(|one| &one.guardians).map(|key| (NamedAs::Guardian, key));
    let before = || {
        let both = vm.last_known_good.as_ref();
        both.and_then(|one| find(&one.owners).or_else(|| find(&one.guardians)))
            .map(|key| (NamedAs::LastKnownGood, key))
    };
    let (named_as, key) = owner.or_else(guardian).or_else(before)?;
    let vm = VmName { name: vm.name.clone(), vm_id: vm.vm_id.clone() };
    Some(CompromisedVm { vm, named_as, key })
}

fn snapshots(
    facts: &Facts,
    policy: &AuditPolicy,
    named: &BTreeMap<GuardianId, StolenKey>,
    now: Time,
) -> Vec<CompromisedSnapshot> {
    let opens = |id: &GuardianId| named.get(id) == Some(&StolenKey::Encryption);
    // The newest state of each VM that is free of the key.
    let mut free: HashMap<&str, Time> = HashMap::new();
    for one in facts.captures.iter().filter(|one| !one.guardians.iter().any(opens)) {
        let newest = free.entry(&one.vm_id).or_insert(one.captured);
        *newest = (*newest).max(one.captured);
    }
    let mut all: Vec<CompromisedSnapshot> = facts
        .captures
        .iter()
        .filter(|one| one.guardians.iter().any(opens))
        .map(|one| {
            let until = one.newest_record.1.unix_seconds() + i64::from(policy.lock_days) * SECONDS_PER_DAY;
            let locked_until = Some(Time::from_unix_seconds(until)).filter(|until| *until > now);
            let is_replaced = free.get(one.vm_id.as_str()).is_some_and(|newest| *newest > one.captured);
            let retire = match (is_replaced, locked_until) {
                (false, _) => Retire::AfterRekey,
                (true, Some(_)) => Retire::AfterLock,
                (true, None) => Retire::Now,
            };
            CompromisedSnapshot {
                vm: VmName { name: one.name.clone(), vm_id: one.vm_id.clone() },
                host: one.host.clone(),
                writer: one.writer.clone(),
                captured: one.captured,
                records: one.records,
                newest_record: one.newest_record.0,
                retire,
                locked_until,
            }
        })
        .collect();
    all.sort_by(|a, b| (b.captured, &a.vm.name, &a.vm.vm_id).cmp(&(a.captured, &b.vm.name, &b.vm.vm_id)));
    all
}

fn of_companion(
    companion: &CompanionFacts,
    is_stolen: &impl Fn(&CertificateEntry) -> bool,
) -> Option<CompromisedCompanion> {
    let has_certificate = companion.certificates().any(is_stolen);
    let named = companion.addressed_to.as_ref().and_then(|addressed| {
        let owner = addressed.owners.iter().find_map(|one| key_of(one, is_stolen)).map(|key| ("owner", key));
        let guardian = || addressed.guardians.iter().find_map(|one| key_of(one, is_stolen));
        owner.or_else(|| guardian().map(|key| ("guardian", key)))
    });
    let (how, next) = match (companion.kind, named, has_certificate) {
        (CompanionKind::ShieldingData, Some((what, StolenKey::Encryption)), _) => (
            format!("its secrets open with the key, as {what}"),
            "make it anew without this guardian, and change every secret in it: passwords, keys, certificates of its answer file",
        ),
        (CompanionKind::ShieldingData, Some((what, StolenKey::Signing)), _) => {
            (format!("it trusts what the key signs, as {what}"), "make it anew without this guardian")
        }
        (CompanionKind::ShieldingData, None, true) => {
            ("it names the certificate".to_owned(), "make it anew without it")
        }
        (CompanionKind::TemplateSigningKeys, _, true) => (
            "the key signs template disks".to_owned(),
            "sign the templates anew, and edit every PDK that trusts disks of the old signature",
        ),
        (_, _, true) if companion.private_key => (
            "this is the key itself".to_owned(),
            "make new certificates, escrow them, and keep this only as long as states that it opens are kept",
        ),
        (CompanionKind::GuardianMetadata, _, true) => (
            "it tells owners to trust the certificate".to_owned(),
            "take it out of every place where owners fetch guardians; publish the new one",
        ),
        (_, _, true) => ("it holds the certificate".to_owned(), "replace it with the new certificate"),
        _ => return None,
    };
    Some(CompromisedCompanion {
        kind: companion.kind,
        name: companion.name.clone(),
        host: companion.host.clone(),
        how,
        next: next.to_owned(),
    })
}

fn next(
    vms: &[CompromisedVm],
    snapshots: &[CompromisedSnapshot],
    companions: &[CompromisedCompanion],
    is_unknown: bool,
) -> Vec<String> {
    if is_unknown {
        return vec![
            "nothing in the vault names this certificate: compare the thumbprint (SHA-1 or SHA-256, of the certificate, not of the key)".to_owned(),
        ];
    }
    let mut next = Vec::new();
    let count = |retire: Retire| snapshots.iter().filter(|one| one.retire == retire).count();
    if !vms.is_empty() {
        next.push(format!(
            "re-key {} VMs: have their owners revoke the guardian (`lifeboat guardian revoke`, Set-VMKeyProtector) and grant its successor; each VM's transport key is rolled by its next start",
            vms.len()
        ));
        next.push("run the agents, so that a state without the key is captured of each".to_owned());
    }
    if !companions.is_empty() {
        next.push(format!("replace {} companions, as each says", companions.len()));
    }
    if !snapshots.is_empty() {
        next.push(format!(
            "retire the captured states that it opens: {} now, {} after their lock, {} only after their VM was re-keyed and captured; whoever copied the vault's storage and a restore identity can open them until then",
            count(Retire::Now),
            count(Retire::AfterLock),
            count(Retire::AfterRekey)
        ));
    }
    if next.is_empty() {
        next.push("no VM of the vault names it".to_owned());
    }
    next
}
