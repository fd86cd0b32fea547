//! Who can open the VMs' key protectors: the certificates that the newest captures name, turned round.
//!
//! From metadata alone: the audit identity suffices. That a guardian stands in a VM key protector does not say that
//! anybody still has its private key.

use std::collections::BTreeMap;

use lifeboat_schema::{
    Addressees, CompanionCertificate, CompanionKind, Digest, GuardianEntry, KnownGuardian, Time, VmName,
    VmRecord,
};

use crate::inventory::{FoundCompanion, VmStates};
use crate::restore::KnownFabric;

/// How a VM key protector names a guardian.
#[derive(Clone, Copy)]
enum Part {
    Owner,
    Guardian,
    LastKnownGood,
}

/// Every owner and guardian of these VMs, by name, with the VMs that each can open.
pub fn known_guardians(vms: &[VmStates], now: Time) -> Vec<KnownGuardian> {
    let mut known: BTreeMap<(Digest, Digest), KnownGuardian> = BTreeMap::new();
    for vm in vms.iter().map(|state| &state.newest.entry.vm) {
        let mut named: Vec<(&GuardianEntry, Part)> = Vec::new();
        if let Some(current) = &vm.addressed_to {
            named.extend(parts(current));
        }
        let is_current = |one: &GuardianEntry, named: &[(&GuardianEntry, Part)]| {
            named.iter().any(|(other, _)| identity(other) == identity(one))
        };
        if let Some(before) = &vm.last_known_good_addressed_to {
            let gone: Vec<_> = before.all().filter(|one| !is_current(one, &named)).collect();
            named.extend(gone.into_iter().map(|one| (one, Part::LastKnownGood)));
        }
        for (guardian, part) in named {
            let entry = known.entry(identity(guardian)).or_insert_with(|| KnownGuardian {
                guardian: guardian.clone(),
                is_expired: is_expired(guardian, now),
                owns: Vec::new(),
                guards: Vec::new(),
                formerly: Vec::new(),
            });
            match part {
                Part::Owner => entry.owns.push(vm_name(vm)),
                Part::Guardian => entry.guards.push(vm_name(vm)),
                Part::LastKnownGood => entry.formerly.push(vm_name(vm)),
            }
        }
    }
    let mut known: Vec<KnownGuardian> = known.into_values().collect();
    known.sort_by(|a, b| {
        let key = |one: &KnownGuardian| (one.guardian.name.to_lowercase(), one.guardian.host.clone());
        (key(a), identity(&a.guardian)).cmp(&(key(b), identity(&b.guardian)))
    });
    known
}

/// VMs that have a VM key protector and do not tell whom it is for.
pub fn not_understood(vms: &[VmStates]) -> Vec<VmName> {
    vms.iter()
        .map(|state| &state.newest.entry.vm)
        .filter(|vm| vm.key_protector.is_some() && vm.addressed_to.is_none())
        .map(vm_name)
        .collect()
}

/// The fabrics whose guardian metadata, or certificates, are among companions.
pub fn known_fabrics(companions: &[FoundCompanion]) -> Vec<KnownFabric> {
    let of_companion = |found: &FoundCompanion| {
        let record = &found.entry.companion;
        // Metadata begin with the primary pair, signing first. Whether a certificate alone is one to which things are
        // encrypted, only a VM key protector tells: each stands for itself.
        let fabric = |one: &CompanionCertificate| KnownFabric {
            guardian: GuardianEntry {
                name: one.name.clone(),
                host: one.host.clone(),
                signing: record.certificates.first().unwrap_or(one).certificate.clone(),
                encryption: one.certificate.clone(),
            },
            place: record.place.clone(),
            captured: found.entry.captured,
        };
        record.certificates.iter().map(fabric).collect::<Vec<_>>()
    };
    let metadata =
        companions.iter().filter(|one| one.entry.companion.kind == CompanionKind::GuardianMetadata);
    metadata.flat_map(of_companion).collect()
}

/// Tells whether the validity of one of a guardian's certificates is over. A guarded fabric does not look at it.
pub fn is_expired(guardian: &GuardianEntry, now: Time) -> bool {
    guardian.signing.not_after < now || guardian.encryption.not_after < now
}

fn parts(addressees: &Addressees) -> impl Iterator<Item = (&GuardianEntry, Part)> {
    let owners = addressees.owners.iter().map(|owner| (owner, Part::Owner));
    owners.chain(addressees.guardians.iter().map(|guardian| (guardian, Part::Guardian)))
}

/// What one guardian is: both of its certificates.
fn identity(guardian: &GuardianEntry) -> (Digest, Digest) {
    (guardian.signing.sha256, guardian.encryption.sha256)
}

pub(crate) fn vm_name(vm: &VmRecord) -> VmName {
    VmName { name: vm.name.clone(), vm_id: vm.vm_id.clone() }
}
