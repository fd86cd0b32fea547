//! Snapshots for tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_schema::{
    Addressees, ArtefactEntry, ArtefactKind, BitLockerInfo, CertificateEntry, Class, ContainerKind, Digest,
    DiskEntry, DiskHeadEntry, EncryptionKind, GuardianEntry, Kind, Layout, Pairing, PartitionScheme,
    ProtectorInfo, ProtectorKind, RECORD_VERSION, Record, SignatureState, StateValue, SubjectId, Time,
    VaultId, VmEntry, VmRecord, VolumeCipher, VolumeHeadEntry, VolumeState,
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

/// Path of the disk of [`shielded`].
pub(super) const DISK: &str = r"D:\VMs\web\os.vhdx";

/// A guardian whose certificates are valid until a time.
pub(super) fn guardian(name: &str, until: i64) -> GuardianEntry {
    let certificate = |what: &str| {
        let digest = Digest::of(format!("{name} {what}").as_bytes());
        CertificateEntry {
            sha256: digest,
            sha1: digest.to_string()[..40].to_uppercase(),
            public_key: Some(Digest::of(format!("{name} {what} key").as_bytes())),
            not_before: Time::from_unix_seconds(0),
            not_after: Time::from_unix_seconds(until),
        }
    };
    GuardianEntry {
        name: name.to_owned(),
        host: None,
        signing: certificate("signing"),
        encryption: certificate("encryption"),
    }
}

/// The head of a disk with one BitLocker volume: its page-83 id, its generation, its TPM protector, and when its protectors
/// last changed.
pub(super) fn head(id: &str, generation: &str, tpm: &str, changed: i64) -> DiskHeadEntry {
    let protector = |id: &str, kind| ProtectorInfo {
        id: id.to_owned(),
        kind,
        modified: Time::from_unix_seconds(changed),
    };
    let volume = VolumeHeadEntry {
        number: 3,
        offset_bytes: 1 << 20,
        size_bytes: 1 << 30,
        partition_id: None,
        partition_type: None,
        encryption: EncryptionKind::Bitlocker,
        bitlocker: Some(BitLockerInfo {
            version: 2,
            volume_id: format!("volume of {id}"),
            state: VolumeState::Encrypted,
            cipher: VolumeCipher::AesXts128,
            metadata_copies: 3,
            metadata_copies_valid: 3,
            protectors: vec![
                protector(tpm, ProtectorKind::Tpm),
                protector("password", ProtectorKind::RecoveryPassword),
            ],
        }),
        fve_metadata: Some(Digest::of(generation.as_bytes())),
    };
    DiskHeadEntry {
        container: ContainerKind::Vhdx,
        chain: vec![],
        virtual_size_bytes: 1 << 30,
        sector_size_bytes: 512,
        virtual_disk_id: Some(id.to_owned()),
        scheme: PartitionScheme::Gpt,
        gpt_disk_id: Some(format!("table of {id}")),
        volumes: vec![volume],
        items: vec![],
        artefact: None,
        secret_artefact: None,
    }
}

/// A shielded VM, captured whole at a time, with this head of its disk.
pub(super) fn shielded(captured: i64, head: DiskHeadEntry) -> Found {
    let mut found = found("web", "0a1b", DISK, vec![empty("Virtual Machines/0A1B.vmcx")]);
    let value = |what: &str| StateValue {
        digest: Digest::of(format!("{what} of {captured}").as_bytes()),
        size: 1,
        file: "Virtual Machines/0A1B.vmrs".to_owned(),
        key: what.to_owned(),
    };
    let entry = Arc::make_mut(&mut found.entry);
    entry.captured = Time::from_unix_seconds(captured);
    let vm = &mut entry.vm;
    vm.generation = Some(2);
    vm.configuration_version = Some("10.0".to_owned());
    vm.runs_on = vec!["Windows Server 2022".to_owned(), "Windows Server 2025".to_owned()];
    vm.security.tpm_enabled = Some(true);
    vm.security.secure_boot = Some(true);
    vm.security.secure_boot_template = Some("1734c6e8-3154-4dda-ba5f-a874cc483422".to_owned());
    (vm.vtpm, vm.key_protector) = (Some(value("vtpm")), Some(value("key protector")));
    vm.pairing = Pairing::CapturedTogether;
    vm.addressed_to = Some(Addressees {
        owners: vec![guardian("Owner", i64::MAX / 4)],
        guardians: vec![guardian("Fabric", 5_000)],
        signed_by: guardian("Fabric", 0).signing.sha256,
        signatures: SignatureState::Valid,
        max_offline_unwraps: 0,
    });
    vm.disks[0].head = Some(head);
    let record = Arc::make_mut(&mut found.record);
    (record.seq, record.finished) = (captured as u64, entry.captured);
    found
}
