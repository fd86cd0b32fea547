//! Sealed documents that a record's objects of content `body` hold: everything that has a name.
//!
//! Each body repeats vault, writer, `seq`, kind and class of the record it was sealed for; a reader compares
//! them, so that a body cannot be passed off in another place.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Class, Digest, Kind, OwnerId, SubjectId, Time, VaultId, VmRecord, WriterId};

/// Newest version of the body format, which a snapshot's body has. Version 1 lacks what `VmRecord` says of guardians,
/// host versions and disk heads.
pub const BODY_VERSION: u32 = 2;

/// The part that every body begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyHead {
    /// Format version of the body, 1 to [`BODY_VERSION`].
    pub v: u32,
    /// The vault it was sealed for.
    pub vault: VaultId,
    /// Who sealed it.
    pub writer: WriterId,
    /// `seq` of the record that named it first; a later record of the same writer may go on naming it.
    pub seq: u64,
    /// Kind of that record.
    pub kind: Kind,
    /// Class of the object that holds it.
    pub class: Class,
    /// Owner to whose recipients it is sealed.
    pub owner: OwnerId,
}

/// Body of a `snapshot` record: what one run of a host found, for one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotBody {
    /// Where it belongs.
    pub head: BodyHead,
    /// The host's name for people.
    pub host: String,
    /// What the run that sealed this body has to say of itself.
    pub run: RunEntry,
    /// VMs captured by that run.
    pub vms: Vec<VmEntry>,
}

/// One run of a host, as far as it concerns one owner; a further body of the same run and owner says nothing anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunEntry {
    /// VMs that the run found on the host.
    pub found: u64,
    /// VMs that had changed and were captured.
    pub captured: u64,
    /// VMs whose files had not changed; their last capture stands.
    pub unchanged: u64,
    /// VMs of which an older capture is carried forward, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<CarriedVm>,
    /// VMs, or whole sources, that could not be read and have no older capture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedVm>,
}

/// A VM that stands in a snapshot with an older capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CarriedVm {
    /// The VM's subject id in this writer's records.
    pub subject: SubjectId,
    /// The VM's id.
    pub vm_id: String,
    /// The VM's name.
    pub name: String,
    /// Since when it is carried.
    pub since: Time,
    /// Why it was not captured.
    pub why: CarriedWhy,
    /// The error's text where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why an older capture stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedWhy {
    /// Its files are no longer found on this host.
    Vanished,
    /// Its files were found and could not be read whole.
    Failed,
}

/// A VM or source that could not be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedVm {
    /// Where it was looked for, as the source names it.
    pub place: String,
    /// The VM's id as far as it could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// What happened.
    pub error: String,
}

/// One captured VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmEntry {
    /// The VM's subject id in this writer's records.
    pub subject: SubjectId,
    /// When its files were read.
    pub captured: Time,
    /// What the files say about it.
    pub vm: VmRecord,
    /// The files, byte-exact.
    pub artefacts: Vec<ArtefactEntry>,
}

/// One file, as captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtefactEntry {
    /// Place in the VM's folder of an export, with `/`: for example `Virtual Machines/<id>.vmcx`.
    pub path: String,
    /// What it is.
    pub kind: crate::ArtefactKind,
    /// Class of the bundles that hold it.
    pub class: Class,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 digest of the whole file.
    pub digest: Digest,
    /// Where its bytes are, in order; each part but the last has 4 MiB. None for an empty file.
    pub parts: Vec<PartEntry>,
}

/// A part of an artefact: one member of one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Name of the bundle; it counts only if the record names it too.
    pub object: Digest,
    /// Where the member's zstd frame begins in the bundle's plaintext.
    pub offset: u64,
    /// Size of that frame.
    pub length: u64,
    /// Size of the part's bytes.
    pub size: u64,
    /// BLAKE3 digest of the part's bytes, which is the member's name.
    pub digest: Digest,
}

/// Bytes of an artefact's parts but the last.
pub const PART_BYTES: u64 = 4 << 20;

/// Body of a `policy` record: the names that people use for random ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamesBody {
    /// Where it belongs.
    pub head: BodyHead,
    /// Names of owners.
    pub owners: BTreeMap<OwnerId, String>,
    /// Names of writers.
    pub writers: BTreeMap<WriterId, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of every version of the format, in the form that programs of that version wrote; never made anew.
    const WRITTEN: [(u32, &str); 2] = [
        (1, include_str!("../fixtures/snapshot-body-v1.json")),
        (2, include_str!("../fixtures/snapshot-body-v2.json")),
    ];

    #[test]
    fn bodies_of_every_version_are_read_and_lose_nothing() {
        for (version, text) in WRITTEN {
            let body: SnapshotBody = serde_json::from_str(text).unwrap();
            assert_eq!(body.head.v, version);
            assert!(!body.vms.is_empty());
            let again = serde_json::to_value(&body).unwrap();
            assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        assert_eq!(WRITTEN.last().map(|(version, _)| *version), Some(BODY_VERSION));
    }

    #[test]
    fn a_body_of_version_2_tells_of_guardians_and_disks() {
        let body: SnapshotBody = serde_json::from_str(WRITTEN[1].1).unwrap();
        let machines = || body.vms.iter().map(|entry| &entry.vm);
        assert!(machines().any(|vm| vm.addressed_to.is_some() && !vm.runs_on.is_empty()));
        let heads = || machines().flat_map(|vm| &vm.disks).filter_map(|disk| disk.head.as_ref());
        assert!(heads().any(|head| head.secret_artefact.is_some()));
        let old: SnapshotBody = serde_json::from_str(WRITTEN[0].1).unwrap();
        assert!(old.vms.iter().all(|entry| entry.vm.disks.iter().all(|disk| disk.head.is_none())));
    }
}
