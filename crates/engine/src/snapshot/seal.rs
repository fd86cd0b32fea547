//! Bodies of a run: sealing them, and keeping their number small.

use std::collections::HashMap;

use lifeboat_schema::{
    BodyHead, CarriedVm, Class, CompanionEntry, Content, Digest, Finding, OwnerId, RunEntry, VmEntry,
};
use lifeboat_vault::seal::Sealer;
use lifeboat_vault::writer::Start;
use serde_json::value::{RawValue, to_raw_value};

use super::{Captured, Sealed, SnapshotError, recipients_of, sealed_entry};
use crate::catalog::{Catalog, HeldVm};

/// Bodies that may be alive for each 100 VMs, beside the run's own.
const BODIES_PER_100_VMS: usize = 8;

/// A [`SnapshotBody`](lifeboat_schema::SnapshotBody) whose VMs are encoded already, as thousands of
/// entries were when they were captured. A test holds the two to one JSON.
#[derive(serde::Serialize)]
pub(super) struct BorrowedBody<'a> {
    pub(super) head: BodyHead,
    pub(super) host: &'a str,
    pub(super) run: RunEntry,
    pub(super) vms: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) companions: Vec<&'a RawValue>,
}

/// Room for what stands in a body beside its entries.
const BODY_ROOM_BYTES: usize = 64 * 1024;

pub(super) fn seal_body(
    sealer: &mut Sealer,
    start: &Start,
    owner: &OwnerId,
    body: &BorrowedBody<'_>,
) -> Result<Sealed, SnapshotError> {
    // In one piece from the start: a body of thousands of VMs would stand there twice while it grows.
    let entries: usize = body.vms.iter().chain(&body.companions).map(|entry| entry.get().len() + 1).sum();
    let mut json = Vec::with_capacity(entries + BODY_ROOM_BYTES);
    serde_json::to_writer(&mut json, body).expect("bodies have only string keys");
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
        let Some(json) = again(vm, &json) else { continue };
        merged.push(Captured { held: vm.clone(), json });
    }
    Ok(merged)
}

/// The entry of the catalog, read and encoded once more; `None` if this program cannot read it.
fn again(held: &HeldVm, json: &[u8]) -> Option<Box<RawValue>> {
    let encoded = if held.is_companion() {
        to_raw_value(&serde_json::from_slice::<CompanionEntry>(json).ok()?)
    } else {
        to_raw_value(&serde_json::from_slice::<VmEntry>(json).ok()?)
    };
    Some(encoded.expect("entries have only string keys"))
}

/// What is to be said of the companions that a record holds, those unchanged too: a key that lies open is told until it
/// does not.
pub(super) fn findings_of_companions(
    catalog: &Catalog,
    captured: &[Captured],
    standing: &[HeldVm],
) -> Result<Vec<Finding>, SnapshotError> {
    let mut findings = Vec::new();
    let mut take = |json: &[u8]| {
        if let Ok(entry) = serde_json::from_slice::<CompanionEntry>(json) {
            findings.extend(entry.companion.findings);
        }
    };
    captured.iter().filter(|one| one.held.is_companion()).for_each(|one| take(one.json.get().as_bytes()));
    for held in standing.iter().filter(|held| held.is_companion()) {
        if let Some(json) = catalog.entry(&held.key)? {
            take(&json);
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::{Kind, SnapshotBody, VaultId};

    use super::*;

    #[test]
    fn the_borrowed_body_has_the_json_of_the_document() {
        let head = BodyHead {
            v: 1,
            vault: VaultId::of(b"x"),
            writer: "h-x".parse().unwrap(),
            seq: 3,
            kind: Kind::Snapshot,
            class: Class::Metadata,
            owner: "o-x".parse().unwrap(),
        };
        let run = RunEntry { found: 1, captured: 0, unchanged: 1, carried: vec![], failed: vec![] };
        let borrowed = BorrowedBody {
            head: head.clone(),
            host: "hv01",
            run: run.clone(),
            vms: vec![],
            companions: vec![],
        };
        let document = SnapshotBody { head, host: "hv01".to_owned(), run, vms: vec![], companions: vec![] };
        assert_eq!(serde_json::to_string(&borrowed).unwrap(), serde_json::to_string(&document).unwrap());
    }
}
