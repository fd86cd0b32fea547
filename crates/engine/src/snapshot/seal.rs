//! Bodies of a run: sealing them, and keeping their number small.

use std::collections::HashMap;

use lifeboat_schema::{CarriedVm, Class, Content, Digest, OwnerId, SnapshotBody};
use lifeboat_vault::seal::Sealer;
use lifeboat_vault::writer::Start;

use super::{Captured, Sealed, SnapshotError, recipients_of, sealed_entry};
use crate::catalog::{Catalog, HeldVm};

/// Bodies that may be alive for each 100 VMs, beside the run's own.
const BODIES_PER_100_VMS: usize = 8;

pub(super) fn seal_body(
    sealer: &mut Sealer,
    start: &Start,
    owner: &OwnerId,
    body: &SnapshotBody,
) -> Result<Sealed, SnapshotError> {
    let json = serde_json::to_vec(body).expect("bodies have only string keys");
    let recipients = recipients_of(&start.policy, owner, Class::Metadata)?;
    let sealed = sealer.seal_body(&recipients, &json)?;
    Ok(sealed_entry(sealed, Content::Body, Class::Metadata, owner, &start.policy))
}

/// When too many bodies are alive: the entries of those that describe the fewest VMs, to be sealed anew in
/// this run's body. The catalog has them; no file is read again.
pub(super) fn entries_of_scattered_bodies(
    catalog: &Catalog,
    standing: &[HeldVm],
    carried: &[(CarriedVm, HeldVm)],
    captured: usize,
) -> Result<Vec<Captured>, SnapshotError> {
    let held: Vec<&HeldVm> = standing.iter().chain(carried.iter().map(|(_, held)| held)).collect();
    let mut uses: HashMap<Digest, usize> = HashMap::new();
    for vm in &held {
        *uses.entry(vm.body).or_default() += 1;
    }
    let limit = BODIES_PER_100_VMS * (held.len() + captured).div_ceil(100);
    if uses.len() < limit {
        return Ok(Vec::new());
    }
    let mut by_use: Vec<(usize, Digest)> = uses.into_iter().map(|(body, vms)| (vms, body)).collect();
    by_use.sort_unstable();
    let scattered: Vec<Digest> =
        by_use.iter().take(by_use.len() - limit / 2).map(|(_, body)| *body).collect();
    let mut merged = Vec::new();
    for vm in held.into_iter().filter(|vm| scattered.contains(&vm.body)) {
        let Some(json) = catalog.entry(&vm.key)? else { continue };
        // An entry that this program cannot read stays in its old body.
        let Ok(entry) = serde_json::from_slice(&json) else { continue };
        merged.push(Captured { held: vm.clone(), entry });
    }
    Ok(merged)
}
