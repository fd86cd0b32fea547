//! Bodies of a run: sealing them, and keeping their number small.

use std::collections::HashMap;

use lifeboat_schema::{BodyHead, CarriedVm, Class, Content, Digest, Finding, RunEntry, SnapshotBody};
use lifeboat_vault::seal::Sealer;
use lifeboat_vault::writer::Start;

use super::{Captured, Sealed, SnapshotError, recipients_of, sealed_entry};
use crate::catalog::{Catalog, HeldVm};
use crate::entry::{EntryReader, PackedEntry};

/// Bodies that may be alive for each 100 VMs, beside the run's own.
const BODIES_PER_100_VMS: usize = 8;

/// JSON of the entries of one body, about: a host with more VMs than that has several bodies for an owner, which
/// whoever reads or writes them holds one by one.
const BODY_JSON_BYTES: usize = 4 << 20;

/// Room for what stands in a body beside its entries.
const BODY_ROOM_BYTES: usize = 64 * 1024;

/// Splits the VMs of one owner into bodies, in their order.
pub(super) fn divide(vms: Vec<&mut Captured>) -> Vec<Vec<&mut Captured>> {
    let mut bodies = vec![Vec::new()];
    let mut bytes = 0;
    for vm in vms {
        let size = EntryReader::json_bytes(&vm.entry).unwrap_or(0);
        if bytes > 0 && bytes + size > BODY_JSON_BYTES {
            bodies.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        bodies.last_mut().expect("there is one from the start").push(vm);
    }
    bodies
}

pub(super) fn seal_body(
    sealer: &mut Sealer,
    start: &Start,
    head: BodyHead,
    host: &str,
    run: RunEntry,
    vms: &[&mut Captured],
) -> Result<Sealed, SnapshotError> {
    let owner = head.owner.clone();
    let of = |companions: bool| {
        vms.iter().filter(move |vm| vm.held.is_companion() == companions).map(|vm| &vm.entry)
    };
    let json = body_json(head, host, run, of(false), of(true))?;
    let recipients = recipients_of(&start.policy, &owner, Class::Metadata)?;
    let sealed = sealer.seal_body(&recipients, &json)?;
    Ok(sealed_entry(sealed, Content::Body, Class::Metadata, &owner, &start.policy))
}

/// JSON of a [`SnapshotBody`] whose VMs and companions are encoded already, as they were when they were captured.
fn body_json<'a>(
    head: BodyHead,
    host: &str,
    run: RunEntry,
    vms: impl Iterator<Item = &'a PackedEntry> + Clone,
    companions: impl Iterator<Item = &'a PackedEntry> + Clone,
) -> Result<Vec<u8>, SnapshotError> {
    let fault = |what: &str| SnapshotError::Fault(what.to_owned());
    let sizes =
        vms.clone().chain(companions.clone()).map(|entry| EntryReader::json_bytes(entry).unwrap_or(0) + 1);
    // In one piece from the start: it would stand there twice while it grows.
    let mut json = Vec::with_capacity(sizes.sum::<usize>() + BODY_ROOM_BYTES);
    let empty = SnapshotBody { head, host: host.to_owned(), run, vms: Vec::new(), companions: Vec::new() };
    serde_json::to_writer(&mut json, &empty).expect("bodies have only string keys");
    // The entries go between the brackets, which a test shows to be the last but one; companions follow, if there are any.
    const END: &[u8] = b"]}";
    json.truncate(json.len() - END.len());
    let mut reader = EntryReader::new().ok_or_else(|| fault("zstd has no memory"))?;
    let mut append = |json: &mut Vec<u8>, before: &[u8], entry| {
        json.extend_from_slice(before);
        reader.append(entry, json).ok_or_else(|| fault("an entry that was packed cannot be unpacked"))
    };
    for (number, entry) in vms.enumerate() {
        append(&mut json, if number > 0 { b"," } else { b"" }, entry)?;
    }
    for (number, entry) in companions.enumerate() {
        append(&mut json, if number > 0 { b"," } else { b"],\"companions\":[" }, entry)?;
    }
    json.extend_from_slice(END);
    Ok(json)
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
        let Some(entry) = catalog.entry(&vm.key)? else { continue };
        // An entry that this program cannot read stays in its old body.
        let is_read =
            if vm.is_companion() { entry.parse_companion().is_some() } else { entry.parse().is_some() };
        if is_read {
            merged.push(Captured { held: vm.clone(), entry });
        }
    }
    Ok(merged)
}

/// What is to be said of the companions that a record holds, those unchanged too: a key that lies open is told until it
/// does not.
pub(super) fn findings_of_companions(
    catalog: &Catalog,
    captured: &[Captured],
    standing: &[HeldVm],
) -> Result<Vec<Finding>, SnapshotError> {
    let mut entries: Vec<PackedEntry> =
        captured.iter().filter(|one| one.held.is_companion()).map(|one| one.entry.clone()).collect();
    for held in standing.iter().filter(|held| held.is_companion()) {
        entries.extend(catalog.entry(&held.key)?);
    }
    let read = entries.iter().filter_map(PackedEntry::parse_companion);
    Ok(read.flat_map(|entry| entry.companion.findings).collect())
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::{
        CompanionEntry, CompanionKind, CompanionRecord, Kind, Layout, SubjectId, Time, VaultId, VmEntry,
        VmRecord,
    };

    use super::*;
    use crate::entry::EntryWriter;

    fn vm(name: &str, remark_bytes: usize) -> VmEntry {
        let mut entry = VmEntry {
            subject: SubjectId::random([7; 10]),
            captured: Time::from_unix_seconds(1_700_000_000),
            vm: VmRecord::unexplored(name, name, Layout::Live, "a place"),
            artefacts: Vec::new(),
        };
        entry.vm.remarks = vec!["r".repeat(remark_bytes)];
        entry
    }

    fn companion(number: u8) -> CompanionEntry {
        CompanionEntry {
            subject: SubjectId::random([number; 10]),
            captured: Time::from_unix_seconds(1_700_000_000),
            companion: CompanionRecord::new(
                format!("companion/pdk/{number}"),
                CompanionKind::ShieldingData,
                number.to_string(),
                "a place".to_owned(),
            ),
            artefacts: Vec::new(),
        }
    }

    fn pack(entry: &VmEntry) -> PackedEntry {
        EntryWriter::new().unwrap().pack(entry).unwrap()
    }

    #[test]
    fn a_body_of_packed_entries_has_the_json_of_the_document() {
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
        for count in [0, 1, 3] {
            let vms: Vec<VmEntry> = (0..count).map(|number| vm(&format!("VM {number}"), 10)).collect();
            let packed: Vec<PackedEntry> = vms.iter().map(pack).collect();
            for beside in [0, 1, 2] {
                let companions: Vec<CompanionEntry> = (0..beside).map(companion).collect();
                let mut writer = EntryWriter::new().unwrap();
                let others: Vec<PackedEntry> =
                    companions.iter().map(|one| writer.pack(one).unwrap()).collect();
                let json =
                    body_json(head.clone(), "hv01", run.clone(), packed.iter(), others.iter()).unwrap();
                let (head, run, vms) = (head.clone(), run.clone(), vms.clone());
                let document = SnapshotBody { head, host: "hv01".to_owned(), run, vms, companions };
                assert_eq!(String::from_utf8(json).unwrap(), serde_json::to_string(&document).unwrap());
            }
        }
    }

    #[test]
    fn bodies_are_divided_in_order_and_none_is_empty_but_the_only_one() {
        let sizes = |remarks: &[usize]| {
            let mut vms: Vec<Captured> = remarks
                .iter()
                .enumerate()
                .map(|(number, bytes)| {
                    let held = crate::catalog::HeldVm {
                        key: number.to_string(),
                        subject: SubjectId::random([7; 10]),
                        vm_id: String::new(),
                        name: String::new(),
                        source: String::new(),
                        owner: "o-x".parse().unwrap(),
                        owner_guardian: None,
                        fingerprint: Vec::new(),
                        captured: Time::from_unix_seconds(1),
                        carried_since: None,
                        body: Digest::of(b"none"),
                        bundles: Vec::new(),
                    };
                    Captured { held, entry: pack(&vm("VM", *bytes)) }
                })
                .collect();
            let bodies = divide(vms.iter_mut().collect());
            let order: Vec<usize> = bodies.iter().flatten().map(|vm| vm.held.key.parse().unwrap()).collect();
            assert!(order.iter().copied().eq(0..remarks.len()));
            bodies.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0]);
        assert_eq!(sizes(&[10; 5]), [5]);
        assert_eq!(sizes(&[BODY_JSON_BYTES + 1]), [1]);
        assert_eq!(sizes(&[BODY_JSON_BYTES / 3; 5]), [2, 2, 1]);
        assert_eq!(sizes(&[10, BODY_JSON_BYTES, 10]), [1, 1, 1]);
    }
}
