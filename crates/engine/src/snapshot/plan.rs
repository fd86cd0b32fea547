//! What a run has to do: what was found, compared with what the last record holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use lifeboat_schema::{
    CarriedVm, CarriedWhy, Digest, FailedVm, ObjectEntry, OwnerId, VaultId, VmEntry, VmSelector,
};
use lifeboat_vault::policy::Policy;

use super::{SnapshotError, carried_vm};
use crate::catalog::{Catalog, CatalogError, HeldVm};
use crate::source::{Discovery, FoundVm, HostSource, SourceError, watched_of};

/// Bundles that may be alive for each 100 VMs, unless they are that many because they are full. With the
/// bodies this stays below 32 objects.
const BUNDLES_PER_100_VMS: usize = 22;

/// A VM to be captured.
pub(super) struct ChangedVm {
    pub key: String,
    pub source: usize,
    pub source_name: String,
    pub found: FoundVm,
    pub held: Option<HeldVm>,
    /// Whether its own files are unchanged, and only what its source watches beside them may have changed.
    pub is_refreshable: bool,
}

/// A run's work.
pub(super) struct Plan {
    /// VMs found.
    pub found: u64,
    /// Companions found.
    pub companions: u64,
    /// To be captured.
    pub changed: Vec<ChangedVm>,
    /// Their keys whose last entry may lend parts, and the bundles that it must not lend from.
    pub reusable: Vec<(String, Arc<HashSet<Digest>>)>,
    /// Unchanged: the last capture stands.
    pub standing: Vec<HeldVm>,
    /// Those of them whose row in the catalog changes all the same.
    pub freshened: Vec<HeldVm>,
    /// Not found any more, and all their objects are there.
    pub vanished: Vec<HeldVm>,
    /// Not looked at, because their source failed, or what could not be read may hide them.
    pub carried: Vec<(CarriedVm, HeldVm)>,
    /// Places that could not be read.
    pub failed: Vec<FailedVm>,
    /// Those of them that may hide VMs.
    pub dark: Vec<Dark>,
    /// Keys that the next record no longer has: neither found nor intact.
    pub gone: Vec<String>,
    /// Names of those, for people.
    pub dropped: Vec<String>,
}

/// A place that could not be read.
pub(super) struct Dark {
    source: String,
    place: String,
    error: String,
}

/// What each source found, in the order of the sources.
pub(super) type Discoveries = Vec<(String, Result<Discovery, SourceError>)>;

pub(super) async fn discover(sources: &[Arc<dyn HostSource>]) -> Result<Discoveries, String> {
    let sources = sources.to_vec();
    tokio::task::spawn_blocking(move || {
        sources.iter().map(|source| (source.name(), source.discover())).collect::<Discoveries>()
    })
    .await
    .map_err(|error| error.to_string())
}

/// Whether every object of a held VM may be named again.
pub(super) fn is_intact(held: &HeldVm, intact: &HashMap<Digest, ObjectEntry>) -> bool {
    // Knowledge that was dropped leaves no fingerprint.
    !held.fingerprint.is_empty()
        && intact.contains_key(&held.body)
        && held.bundles.iter().all(|bundle| intact.contains_key(bundle))
}

/// The owner that selects a VM: the first one that does.
pub(super) fn owner_of(
    policy: &Policy,
    vault: &VaultId,
    name: &str,
    guardian: Option<Digest>,
) -> Option<OwnerId> {
    let name = VmSelector::name_digest(vault, name);
    let selects = |selector: &VmSelector| match selector {
        VmSelector::All => true,
        VmSelector::OwnerGuardian(thumbprint) => guardian == Some(*thumbprint),
        VmSelector::Name(digest) => *digest == name,
    };
    policy.terms.owners.iter().find(|owner| owner.vms.iter().any(selects)).map(|owner| owner.id.clone())
}

/// What a plan goes by, beside what was found.
pub(super) struct Rules<'a> {
    pub policy: &'a Policy,
    pub vault: &'a VaultId,
    pub bundle_bytes: u64,
    /// Keys of those to look at, if not all.
    pub only: Option<&'a HashSet<String>>,
}

pub(super) fn make(
    discoveries: Discoveries,
    sources: &[Arc<dyn HostSource>],
    held: Vec<HeldVm>,
    intact: &HashMap<Digest, ObjectEntry>,
    rules: &Rules<'_>,
) -> Plan {
    let &Rules { policy, vault, bundle_bytes, only } = rules;
    let mut plan = Plan {
        found: 0,
        companions: 0,
        changed: Vec::new(),
        reusable: Vec::new(),
        standing: Vec::new(),
        freshened: Vec::new(),
        vanished: Vec::new(),
        carried: Vec::new(),
        failed: Vec::new(),
        dark: Vec::new(),
        gone: Vec::new(),
        dropped: Vec::new(),
    };
    let mut held: BTreeMap<String, HeldVm> = held.into_iter().map(|vm| (vm.key.clone(), vm)).collect();
    let mut taken: HashSet<String> = HashSet::new();
    let mut silent: HashMap<String, String> = HashMap::new();
    for (index, (source_name, discovery)) in discoveries.into_iter().enumerate() {
        let discovery = match discovery {
            Ok(discovery) => discovery,
            Err(error) => {
                plan.failed.push(FailedVm {
                    place: source_name.clone(),
                    vm_id: None,
                    error: error.to_string(),
                });
                silent.insert(source_name, error.to_string());
                continue;
            }
        };
        for problem in discovery.problems {
            let error = problem.error.to_string();
            if matches!(problem.error, SourceError::Unreadable { .. }) {
                let source = source_name.clone();
                plan.dark.push(Dark { source, place: problem.place.clone(), error: error.clone() });
            }
            plan.failed.push(FailedVm { place: problem.place, vm_id: None, error });
        }
        for found in discovery.vms {
            *if found.is_companion() { &mut plan.companions } else { &mut plan.found } += 1;
            // Two copies of one VM on one host are two subjects: the second carries its place.
            let mut key = found.vm_id.clone();
            if taken.contains(&key) {
                key = format!("{}@{}", found.vm_id, found.place);
            }
            if !taken.insert(key.clone()) {
                let error = "it was found twice at this place".to_owned();
                plan.failed.push(FailedVm { place: found.place, vm_id: Some(found.vm_id), error });
                continue;
            }
            let known = held.remove(&key);
            let may_stand = known.as_ref().is_some_and(|vm| {
                is_intact(vm, intact)
                    && owner_of(policy, vault, &vm.name, vm.owner_guardian).as_ref() == Some(&vm.owner)
            });
            let watched =
                known.as_ref().and_then(|vm| watched_of(&found, &vm.fingerprint)).filter(|_| may_stand);
            let is_left_out = may_stand && only.is_some_and(|only| !only.contains(&key));
            let stands =
                is_left_out || watched.is_some_and(|watched| sources[index].still_holds(&found, watched));
            let is_refreshable = watched.is_some() && !stands;
            match known {
                Some(mut vm) if stands => {
                    if vm.carried_since.take().is_some() || vm.source != source_name {
                        vm.source.clone_from(&source_name);
                        plan.freshened.push(vm.clone());
                    }
                    plan.standing.push(vm);
                    // Kept beside it, so that compaction can have the VM read again.
                    plan.changed.push(ChangedVm {
                        key,
                        source: index,
                        source_name: source_name.clone(),
                        found,
                        held: None,
                        is_refreshable,
                    });
                }
                known => plan.changed.push(ChangedVm {
                    key,
                    source: index,
                    source_name: source_name.clone(),
                    found,
                    held: known,
                    is_refreshable,
                }),
            }
        }
    }
    for (key, mut vm) in held {
        if !is_intact(&vm, intact) {
            plan.dropped.push(format!("{} ({})", vm.name, vm.vm_id));
            plan.gone.push(key);
        } else if let Some(error) = silent.get(&vm.source) {
            let since = vm.carried_since.unwrap_or(vm.captured);
            vm.carried_since = Some(since);
            plan.carried.push((carried_vm(&vm, since, CarriedWhy::Failed, Some(error.clone())), vm));
        } else {
            plan.vanished.push(vm);
        }
    }
    compact(&mut plan, intact, bundle_bytes);
    plan
}

impl Plan {
    /// Carries those that were not found and may be there all the same: their folder lies below what could not be read, or
    /// around it. `place_of` knows the folder of a VM's last capture.
    pub(super) fn carry_hidden(&mut self, place_of: impl Fn(&HeldVm) -> Option<String>) {
        if self.dark.is_empty() {
            return;
        }
        for mut vm in std::mem::take(&mut self.vanished) {
            let home = place_of(&vm);
            let hides = |dark: &&Dark| {
                let (home, place) = (Path::new(home.as_deref().unwrap_or_default()), Path::new(&dark.place));
                dark.source == vm.source
                    && home.components().next().is_some()
                    && (home.starts_with(place) || place.starts_with(home))
            };
            match self.dark.iter().find(hides) {
                Some(dark) => {
                    let since = vm.carried_since.unwrap_or(vm.captured);
                    let note = carried_vm(&vm, since, CarriedWhy::Failed, Some(dark.error.clone()));
                    vm.carried_since = Some(since);
                    self.carried.push((note, vm));
                }
                None => self.vanished.push(vm),
            }
        }
    }
}

/// Chooses VMs to be sealed anew although nothing changed, when too many small bundles are alive; drops the
/// other unchanged ones from the list of what is to be captured.
fn compact(plan: &mut Plan, intact: &HashMap<Digest, ObjectEntry>, bundle_bytes: u64) {
    let victims = victims(plan, intact, bundle_bytes);
    let mut moved: HashMap<String, HeldVm> = HashMap::new();
    plan.standing.retain(|vm| {
        let moves = vm.bundles.iter().any(|bundle| victims.contains(bundle));
        if moves {
            moved.insert(vm.key.clone(), vm.clone());
        }
        !moves
    });
    let standing: HashSet<&str> = plan.standing.iter().map(|vm| vm.key.as_str()).collect();
    plan.changed.retain(|vm| !standing.contains(vm.key.as_str()));
    plan.freshened.retain(|vm| standing.contains(vm.key.as_str()));
    let victims = Arc::new(victims);
    for vm in &mut plan.changed {
        if let Some(held) = moved.remove(&vm.key) {
            vm.held = Some(held);
        }
        // A closer look would leave it where it is.
        let moves = |held: &HeldVm| held.bundles.iter().any(|bundle| victims.contains(bundle));
        vm.is_refreshable &= !vm.held.as_ref().is_some_and(moves);
        if vm.held.is_some() {
            plan.reusable.push((vm.key.clone(), Arc::clone(&victims)));
        }
    }
}

/// The bundles to be emptied: the smallest ones, so that few bytes move.
///
/// A host whose bundles are many because they are full has nothing to gain. Bundles of VMs that cannot be
/// read again stay whatever is sealed anew, and do not count as something to gain either.
fn victims(plan: &Plan, intact: &HashMap<Digest, ObjectEntry>, bundle_bytes: u64) -> HashSet<Digest> {
    let bundles = |vm: &HeldVm| vm.bundles.clone();
    let pinned: HashSet<Digest> =
        plan.carried.iter().map(|(_, held)| held).chain(&plan.vanished).flat_map(bundles).collect();
    // Most of those that need a closer look turn out to stand.
    let refreshable = plan.changed.iter().filter(|vm| vm.is_refreshable).filter_map(|vm| vm.held.as_ref());
    let movable: HashSet<Digest> = plan
        .standing
        .iter()
        .chain(refreshable)
        .flat_map(bundles)
        .filter(|bundle| !pinned.contains(bundle))
        .collect();
    let mut by_size: Vec<(u64, Digest)> =
        movable.iter().filter_map(|name| intact.get(name).map(|object| (object.size, *name))).collect();
    by_size.sort_unstable();
    let bytes: u64 = by_size.iter().map(|(size, _)| size).sum();
    let needed = usize::try_from(bytes.div_ceil(bundle_bytes.max(1))).unwrap_or(usize::MAX);

    let vms = plan.changed.len() + plan.vanished.len() + plan.carried.len();
    let limit = BUNDLES_PER_100_VMS * vms.div_ceil(100);
    let alive = movable.len() + pinned.len();
    // Emptied down to half of the limit, and never while that would leave as many as there are.
    let keep = (limit / 2).max(needed.saturating_mul(2));
    if alive <= limit || movable.len() <= keep {
        return HashSet::new();
    }
    by_size.into_iter().take(movable.len() - keep).map(|(_, name)| name).collect()
}

/// What the last entries of changed VMs may lend: parts in bundles that are intact and not to be emptied.
pub(super) fn previous_entries(
    catalog: &Catalog,
    reusable: &[(String, Arc<HashSet<Digest>>)],
    intact: &HashMap<Digest, ObjectEntry>,
) -> Result<HashMap<String, VmEntry>, SnapshotError> {
    let mut entries = HashMap::new();
    for (key, victims) in reusable {
        let entry = catalog.entry(key).map_err(|error: CatalogError| SnapshotError::from(error))?;
        // An entry of an older program that cannot be read lends nothing.
        let Some(mut entry) = entry.and_then(|entry| entry.parse()) else {
            continue;
        };
        for artefact in &mut entry.artefacts {
            artefact
                .parts
                .retain(|part| intact.contains_key(&part.object) && !victims.contains(&part.object));
        }
        entries.insert(key.clone(), entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
