use lifeboat_schema::{
    BitLockerInfo, ContainerKind, DISK_NOT_FOUND, DiskHeadEntry, Layout, VolumeCipher, VolumeHeadEntry,
    VolumeState,
};

use super::*;

fn disk(head: Option<DiskHeadEntry>, problem: Option<&str>) -> DiskEntry {
    DiskEntry {
        controller: "scsi".to_owned(),
        controller_number: 0,
        drive: 1,
        path: r"D:\os.vhdx".to_owned(),
        head,
        problem: problem.map(str::to_owned),
    }
}

fn head(scheme: PartitionScheme, bitlocker: Option<Option<u32>>) -> DiskHeadEntry {
    let volumes = bitlocker.map(|valid| VolumeHeadEntry {
        number: 3,
        offset_bytes: 1 << 20,
        size_bytes: 1 << 30,
        partition_id: None,
        partition_type: None,
        encryption: EncryptionKind::Bitlocker,
        bitlocker: valid.map(|metadata_copies_valid| BitLockerInfo {
            version: 2,
            volume_id: "v".to_owned(),
            state: VolumeState::Encrypted,
            cipher: VolumeCipher::AesXts128,
            metadata_copies: 3,
            metadata_copies_valid,
            protectors: vec![],
        }),
        fve_metadata: None,
    });
    DiskHeadEntry {
        container: ContainerKind::Vhdx,
        chain: vec![],
        virtual_size_bytes: 1 << 30,
        sector_size_bytes: 512,
        virtual_disk_id: None,
        scheme,
        gpt_disk_id: None,
        volumes: volumes.into_iter().collect(),
        items: vec![],
        artefact: None,
        secret_artefact: None,
    }
}

#[test]
fn each_concern_has_its_code_and_severity() {
    let check = |change: &dyn Fn(&mut VmRecord), wanted: &[(&str, Severity)]| {
        let mut vm = VmRecord::unexplored("id", "web", Layout::Export, "place");
        vm.generation = Some(1);
        change(&mut vm);
        let found = concerns(&vm);
        let found: Vec<_> = found.iter().map(|one| (one.code.as_str(), one.severity)).collect();
        assert_eq!(found, wanted);
    };
    let disks = |one: DiskEntry| move |vm: &mut VmRecord| vm.disks = vec![one.clone()];
    check(&|_| {}, &[]);
    check(&|vm| vm.generation = None, &[("vtpm-state-not-known", Severity::Warning)]);
    check(&|vm| vm.security.tpm_enabled = Some(true), &[("vtpm-state-not-seen", Severity::Warning)]);
    check(&|vm| vm.pairing = Pairing::Mixed, &[("key-protector-mixed", Severity::Warning)]);
    check(&|vm| vm.pairing = Pairing::Torn, &[("key-protector-torn", Severity::Warning)]);
    check(&|vm| vm.pairing = Pairing::KeyProtectorMissing, &[("key-protector-missing", Severity::Warning)]);
    check(&|vm| vm.remarks = vec!["a".to_owned(), "b".to_owned()], &[("vm-remarks", Severity::Note)]);
    check(&disks(disk(None, Some(DISK_NOT_FOUND))), &[("disk-elsewhere", Severity::Note)]);
    check(&disks(disk(None, Some("is torn"))), &[("disk-not-captured", Severity::Warning)]);
    check(&disks(disk(Some(head(PartitionScheme::Gpt, Some(Some(3)))), None)), &[]);
    check(
        &disks(disk(Some(head(PartitionScheme::Gpt, Some(Some(2)))), None)),
        &[("bitlocker-metadata-damaged", Severity::Warning)],
    );
    check(
        &disks(disk(Some(head(PartitionScheme::Gpt, Some(None))), None)),
        &[("bitlocker-metadata-unusable", Severity::Warning)],
    );
    check(
        &disks(disk(Some(head(PartitionScheme::GptLost, None)), None)),
        &[("partition-table-lost", Severity::Warning)],
    );
}
