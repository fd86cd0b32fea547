//! Heads of virtual disks: what a record tells of them, who may read which part, their generations, and what a run costs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use lifeboat_disk_head::{DiskHead, PieceName};
use lifeboat_engine::inventory::{Found, Inventory};
use lifeboat_fve::{Credential, Metadata, SectorCipher, prove_boot_sectors};
use lifeboat_schema::{
    ArtefactEntry, ArtefactKind, Class, ContainerKind, Digest, DiskHeadEntry, EncryptionKind,
    PartitionScheme, Role, VolumeState,
};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::{AgeOptions, DiskFiles, FabricOptions, VmAnswer, VolumeAnswer, VolumeKind};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::{Memory, VaultError};

use crate::life::{assert_clean, newest};
use crate::told;

fn with_disks(vms: u32, seed: u64) -> FabricOptions {
    FabricOptions { disks: DiskFiles::Sparse, ..tiny_fabric(vms, seed) }
}

/// A vault with one run of a fabric of every kind of volume.
async fn stage() -> Stage {
    Stage::in_memory(&with_disks(20, 71)).await
}

/// The disk file that a VM writes to now, and what the answer sheet says of its volume.
fn volumes(vm: &VmAnswer) -> impl Iterator<Item = (&str, Option<&VolumeAnswer>)> {
    vm.disks.iter().map(|entry| {
        let name = entry.path.rsplit('\\').next().unwrap_or_default();
        let file = vm.disk_files.iter().find(|file| file.path.ends_with(name)).expect("its file");
        (name, file.volume.as_ref())
    })
}

/// The whole artefact, read with these identities.
async fn read(
    stage: &Stage,
    found: &Found,
    artefact: &ArtefactEntry,
    identities: &Identities,
) -> Result<Vec<u8>, VaultError> {
    let mut bytes = Vec::new();
    for part in &artefact.parts {
        let object = found.object(&part.object).expect("the record names it");
        assert_eq!(object.class, artefact.class);
        bytes.extend(stage.vault.read_member(&found.record.writer, object, part, identities).await?);
    }
    assert_eq!(Digest::of(&bytes), artefact.digest);
    Ok(bytes)
}

fn artefact<'a>(found: &'a Found, path: &str) -> &'a ArtefactEntry {
    found.entry.artefacts.iter().find(|artefact| artefact.path == path).expect("the artefact is there")
}

fn head_of<'a>(found: &'a Found, name: &str) -> &'a DiskHeadEntry {
    let heads = found.entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref());
    heads.into_iter().find(|head| head.chain[0].name == name).expect("the disk has a head")
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_tells_of_every_disk_what_the_answer_sheet_knows() {
    let stage = stage().await;
    // The audit identity suffices.
    let all = newest(&stage.vault, &stage.identity(Role::Audit)).await;
    let mut seen = BTreeSet::new();
    for vm in &stage.fabric.answers().vms {
        let found = all.iter().find(|found| found.entry.vm.vm_id == vm.vm_id).expect("captured");
        let record = &found.entry.vm;
        assert!(record.disks.iter().all(|disk| disk.problem.is_none()), "{:?}", record.disks);
        assert!(record.disks.iter().zip(&vm.disks).all(|(one, other)| one.is_same_place(other)));
        assert_eq!(record.runs_on, lifeboat_schema::hosts_that_run(&vm.configuration_version));
        let owner = record.addressed_to.as_ref().map(|addressees| addressees.owners[0].signing.sha256);
        assert_eq!(owner, vm.owner);
        let guardians = record.addressed_to.iter().flat_map(|addressees| &addressees.guardians);
        assert_eq!(guardians.map(|one| one.signing.sha256).collect::<Vec<_>>(), vm.guardians);
        for (name, volume) in volumes(vm) {
            let head = head_of(found, name);
            let file = vm.disk_files.iter().find(|file| file.path.ends_with(name)).expect("its file");
            let is_child = file.parent_data_write_guid.is_some();
            assert_eq!(head.container, if is_child { ContainerKind::Avhdx } else { ContainerKind::Vhdx });
            let guids: Vec<_> = head.chain.iter().map(|file| file.data_write_guid.clone()).collect();
            let parent = file.parent_data_write_guid.clone().map(Some);
            assert_eq!(
                guids,
                [Some(Some(file.data_write_guid.clone())), parent].into_iter().flatten().collect::<Vec<_>>()
            );
            assert_eq!(head.virtual_disk_id.as_ref(), Some(&file.virtual_disk_id));
            assert_eq!(
                (head.scheme, head.gpt_disk_id.as_ref()),
                (PartitionScheme::Gpt, Some(&file.gpt_disk_id))
            );
            assert_eq!(head.virtual_size_bytes, file.virtual_size_bytes);
            let partitions: Vec<_> =
                head.volumes.iter().filter_map(|volume| volume.partition_id.clone()).collect();
            assert_eq!(partitions, file.gpt_partition_ids);
            seen.insert(volume.map_or(VolumeKind::None, |volume| volume.encryption));
            check_volume(head, volume);
        }
    }
    assert_eq!(seen.len(), 6, "every kind of volume: {seen:?}");
}

fn check_volume(head: &DiskHeadEntry, volume: Option<&VolumeAnswer>) {
    let encrypted: Vec<_> =
        head.volumes.iter().filter(|volume| volume.encryption != EncryptionKind::None).collect();
    let Some(volume) = volume else {
        assert!(encrypted.is_empty() && head.secret_artefact.is_none(), "{encrypted:?}");
        return;
    };
    let [found] = encrypted.as_slice() else { panic!("{encrypted:?}") };
    assert_eq!((found.offset_bytes, found.size_bytes), (volume.offset_bytes, volume.size_bytes));
    assert_eq!(found.fve_metadata, volume.fve_metadata);
    assert_eq!(head.secret_artefact.is_some(), volume.is_suspended);
    let kind = match volume.encryption {
        VolumeKind::Luks => EncryptionKind::Luks,
        VolumeKind::Unknown => EncryptionKind::Unknown,
        _ => EncryptionKind::Bitlocker,
    };
    assert_eq!(found.encryption, kind);
    assert_eq!(found.bitlocker.is_some(), volume.encryption.is_bitlocker());
    if let Some(bitlocker) = &found.bitlocker {
        assert_eq!(Some(&bitlocker.volume_id), volume.volume_id.as_ref());
        let state = if volume.is_suspended { VolumeState::Suspended } else { VolumeState::Encrypted };
        assert_eq!((bitlocker.state, bitlocker.metadata_copies_valid), (state, 3));
        let protectors: Vec<_> = bitlocker.protectors.iter().map(|one| (one.id.clone(), one.kind)).collect();
        let wanted: Vec<_> = volume.protectors.iter().map(|one| (one.id.clone(), one.kind)).collect();
        assert_eq!(protectors, wanted);
    }
}

/// The line of the threat model: restore and audit identities together do not open a suspended volume; escrow does.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_captured_while_suspended_opens_for_escrow_alone() {
    let stage = stage().await;
    let both = {
        let text = [Role::Restore, Role::Audit].map(|role| stage.identity_text(role).to_owned()).join("\n");
        Identities::parse(text.as_bytes(), None, lifeboat_vault::seal::NoCallbacks).expect("two identities")
    };
    let escrow = stage.identity(Role::Escrow);
    let all = newest(&stage.vault, &both).await;
    let keys: Vec<Vec<u8>> = stage
        .fabric
        .answers()
        .markers()
        .filter(|marker| marker.class == Some(Class::Secret))
        .map(|marker| marker.bytes.clone())
        .collect();
    let (mut suspended, mut regions, mut refused) = (0, 0, 0);
    for found in &all {
        // Whatever the two identities open of the VM: no clear key is in it, and no metadata in it opens.
        for one in &found.entry.artefacts {
            match read(&stage, found, one, &both).await {
                Ok(bytes) => {
                    assert!(!keys.iter().any(|key| holds(&bytes, key)), "{} holds a clear key", one.path);
                    if one.kind == ArtefactKind::DiskHead {
                        for piece in DiskHead::parse(&bytes).expect("a head").pieces {
                            if let PieceName::FveMetadata { .. } = piece.name {
                                let metadata = Metadata::parse(&piece.bytes).expect("it parses");
                                assert!(metadata.unlock(&Credential::ClearKey).is_err());
                                regions += 1;
                            }
                        }
                    }
                }
                Err(_) => {
                    assert_eq!(one.class, Class::Secret, "{} does not open", one.path);
                    refused += 1;
                }
            }
        }
        for head in found.entry.vm.disks.iter().filter_map(|disk| disk.head.as_ref()) {
            let Some(secret) = &head.secret_artefact else { continue };
            suspended += 1;
            // Escrow opens the volume key with what was captured, and the key proves itself on the captured sectors.
            let secret =
                read(&stage, found, artefact(found, secret), &escrow).await.expect("escrow reads it");
            let secret = DiskHead::parse(&secret).expect("an archive");
            let shown = artefact(found, head.artefact.as_ref().expect("an artefact"));
            let shown = read(&stage, found, shown, &escrow).await.expect("escrow reads heads");
            let shown = DiskHead::parse(&shown).expect("an archive");
            let volume = head.volumes.iter().find(|volume| volume.bitlocker.is_some()).expect("BitLocker");
            assert_eq!(secret.fve_metadata(volume.offset_bytes).count(), 3);
            let (_, region) = secret.fve_metadata(volume.offset_bytes).next().expect("a region");
            assert_eq!(Some(Digest::of(region)), volume.fve_metadata);
            let metadata = Metadata::parse(region).expect("whole");
            let unlocked = metadata.unlock(&Credential::ClearKey).expect("the clear key opens it");
            let key = metadata.volume_key(&unlocked.vmk).expect("a volume key");
            let place = PieceName::RelocatedSectors {
                volume: volume.offset_bytes,
                offset: metadata.virtualized_block,
            };
            let sectors = &shown.piece(&place).expect("relocated sectors")[..8192];
            let cipher = SectorCipher::new(&key, 512).expect("a cipher");
            prove_boot_sectors(&cipher, metadata.virtualized_block, sectors).expect("the key reaches data");
        }
    }
    let wanted = stage.fabric.answers().vms.iter().flat_map(volumes);
    let wanted = wanted.filter(|(_, volume)| volume.is_some_and(|volume| volume.is_suspended)).count();
    assert_eq!((suspended, refused), (wanted, wanted));
    assert!(wanted >= 2 && keys.len() >= wanted && regions > 20);
    told(&format!("disk heads: {wanted} suspended volumes, {regions} regions without a key"));
}

/// The FVE metadata of every VM's first disk in each record, by `seq`, all of them read.
async fn generations(stage: &Stage) -> BTreeMap<u64, BTreeMap<String, Vec<u8>>> {
    let identities = stage.identity(Role::Restore);
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let mut inventory = Inventory::new(&stage.vault, &ledgers, &identities);
    let mut all: BTreeMap<u64, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for found in inventory.all().await.expect("bodies") {
        let Some(head) = &found.entry.vm.disks[0].head else { continue };
        let path = head.artefact.as_ref().expect("an artefact");
        let bytes = read(stage, &found, artefact(&found, path), &identities).await.expect("it is there");
        let head = DiskHead::parse(&bytes).expect("a head");
        let region =
            head.pieces.into_iter().find(|piece| matches!(piece.name, PieceName::FveMetadata { .. }));
        if let Some(region) = region {
            all.entry(found.record.seq).or_default().insert(found.entry.vm.vm_id.clone(), region.bytes);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_generation_of_fve_metadata_stays_with_its_snapshot() {
    let mut stage = stage().await;
    let mut expected = vec![stage.fabric.answers().clone()];
    for round in 1..=2 {
        stage.fabric.age(&AgeOptions::change(round, 100.0)).expect("all change");
        expected.push(stage.fabric.answers().clone());
        let report = stage.run(0).await.expect("a run");
        assert_eq!((report.captured, report.failed.len()), (20, 0));
    }
    let kept = generations(&stage).await;
    assert_eq!(kept.len(), 3);
    let mut changed = 0;
    for vm in &expected[0].vms {
        let digests: Vec<Option<Digest>> = expected
            .iter()
            .map(|answers| {
                let vm = answers.vm(&vm.vm_id).expect("no VM goes");
                volumes(vm).next().and_then(|(_, volume)| volume?.fve_metadata)
            })
            .collect();
        for ((seq, regions), digest) in kept.iter().zip(&digests) {
            let region = regions.get(&vm.vm_id);
            assert_eq!(region.is_some(), digest.is_some(), "record {seq} of {}", vm.name);
            let Some(region) = region else { continue };
            // Blanked where it is a secret, the very bytes elsewhere.
            let answers = &expected[*seq as usize - 1];
            let suspended = volumes(answers.vm(&vm.vm_id).expect("there")).next();
            let is_suspended =
                suspended.is_some_and(|(_, volume)| volume.is_some_and(|one| one.is_suspended));
            assert_eq!(Some(Digest::of(region)) == *digest, !is_suspended, "record {seq} of {}", vm.name);
        }
        changed += usize::from(digests[0].is_some() && digests[0] != digests[1] && digests[1] != digests[2]);
    }
    assert!(changed > 8, "{changed} volumes had three generations");
    assert_clean(&stage.check().await.expect("a check"), "three generations");
    told(&format!("disk heads: {changed} volumes with three generations each, all of them read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_only_looks_changed_costs_no_capture() {
    let stage = stage().await;
    // Long enough that the attributes of files just written count.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    for (what, touch) in
        [("nothing", false), ("nothing again", false), ("times", true), ("nothing after times", false)]
    {
        if touch {
            let answers = stage.fabric.answers();
            let files =
                answers.vms.iter().flat_map(|vm| vm.files.iter().filter(|file| file.path.ends_with("vhdx")));
            for file in files {
                let open =
                    std::fs::File::options().write(true).open(stage.fabric.path_of(file)).expect("a disk");
                open.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("its time");
            }
        }
        let report = stage.run(0).await.expect("a run");
        assert_eq!((report.captured, report.unchanged, report.stored_objects), (0, 20, 1), "{what}");
    }
    assert_clean(&stage.check().await.expect("a check"), "after touching");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_writes_the_machines_files_and_no_heads() {
    let stage = stage().await;
    assert_eq!(stage.assert_all_come_back().await, 20);
}
