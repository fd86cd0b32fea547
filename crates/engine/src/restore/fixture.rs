//! Snapshots for tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_schema::{
    ArtefactEntry, ArtefactKind, Class, Digest, DiskEntry, Kind, Layout, RECORD_VERSION, Record, SubjectId,
    Time, VaultId, VmEntry, VmRecord,
};

use crate::inventory::Found;

/// An artefact of no bytes.
pub(super) fn empty(path: &str) -> ArtefactEntry {
    ArtefactEntry {
        path: path.to_owned(),
        kind: ArtefactKind::Configuration,
        class: Class::Metadata,
        size: 0,
        digest: Digest::of(b""),
        parts: vec![],
    }
}

/// A VM with one disk.
pub(super) fn found(name: &str, id: &str, disk: &str, artefacts: Vec<ArtefactEntry>) -> Found {
    let at = Time::from_unix_seconds(1_700_000_000);
    let record = Record {
        v: RECORD_VERSION,
        critical: vec![],
        vault: VaultId::of(b"vault"),
        writer: "h-host".parse().unwrap(),
        seq: 1,
        prev: None,
        kind: Kind::Snapshot,
        policy: None,
        seen: vec![],
        started: at,
        finished: at,
        objects: vec![],
        subjects: BTreeMap::new(),
        terms: None,
    };
    let vm = VmRecord {
        disks: vec![DiskEntry {
            controller: "scsi".to_owned(),
            controller_number: 0,
            drive: 1,
            path: disk.to_owned(),
            head: None,
            problem: None,
        }],
        ..VmRecord::unexplored(id, name, Layout::Export, "place")
    };
    Found {
        record_id: Digest::of(b"record"),
        record: Arc::new(record),
        host: "host".into(),
        entry: Arc::new(VmEntry { subject: SubjectId::random([1; 10]), captured: at, vm, artefacts }),
        carried: None,
    }
}
