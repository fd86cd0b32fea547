//! What a fabric is made of, read back by the crates that own the formats.

use std::collections::{BTreeSet, HashMap};

use lifeboat_key_protector::{AlgorithmRegistry, Check, KeyProtector, TransportKey};
use lifeboat_schema::{ArtefactKind, Class, Digest, Pairing, Role, StateValue};
use lifeboat_vhdx::{SparseImage, VhdxChain, VhdxReader, WriteAt as _};
use lifeboat_vmcx::{BlobKind, Container, SecurityBlob, VmConfiguration, Wholeness};
use lifeboat_vmgs::{FileId, GuestState, Verdict};
use tempfile::TempDir;

use super::answers::{FileState, Lack, Planted, VmAnswer};
use super::*;

fn fabric(options: &FabricOptions) -> (TempDir, Fabric) {
    let dir = tempfile::tempdir().unwrap();
    let fabric = Fabric::generate(dir.path().join("fabric"), options).unwrap();
    (dir, fabric)
}

fn everything(vms: u32, seed: u64) -> FabricOptions {
    FabricOptions {
        hosts: 2,
        layout: FabricLayout::Mixed,
        disks: DiskFiles::Sparse,
        ..FabricOptions::new(vms, seed)
    }
}

/// A container of a VM with its view.
struct Opened {
    bytes: Vec<u8>,
    view: VmConfiguration,
    wholeness: Wholeness,
}

impl Opened {
    fn of(fabric: &Fabric, file: &FileAnswer) -> Self {
        let bytes = fabric.read(file).unwrap();
        let inspection = Container::inspect(&bytes[..]).unwrap();
        assert_eq!(inspection.report.corruptions, [], "{}", file.place);
        let wholeness = inspection.report.wholeness;
        let view = VmConfiguration::read(&inspection.container.expect("readable")).unwrap();
        assert_eq!(view.unexpected, [], "{}", file.place);
        assert_eq!(view.security.unknown_keys, [], "{}", file.place);
        Self { bytes, view, wholeness }
    }

    fn blob(&self, kind: BlobKind) -> Option<Vec<u8>> {
        let read =
            |blob: &SecurityBlob| blob.read(&Container::open(&self.bytes[..]).unwrap(), 1 << 20).unwrap();
        self.view.security.blob(kind).map(read)
    }
}

/// Reads what a value of the answer sheet stands for.
fn value(fabric: &Fabric, vm: &VmAnswer, value: &StateValue) -> Vec<u8> {
    let file = vm.files.iter().find(|file| file.path == value.file).expect("a file of the VM");
    let kind = BlobKind::ALL.into_iter().find(|kind| kind.path() == value.key).expect("a known key");
    let bytes = Opened::of(fabric, file).blob(kind).expect("the value is there");
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (value.digest, value.size));
    bytes
}

#[test]
fn every_file_is_what_the_answer_sheet_says() {
    let (_dir, fabric) = fabric(&everything(VMS_PER_MIX * 2, 7));
    assert_eq!(fabric.compare().unwrap(), []);
    for vm in &fabric.answers().vms {
        for file in &vm.files {
            let kinds = [ArtefactKind::CheckpointConfiguration, ArtefactKind::CheckpointRuntimeState];
            if kinds.contains(&file.kind) {
                assert_eq!(Opened::of(&fabric, file).wholeness, Wholeness::Whole);
            }
            if [ArtefactKind::GuestState, ArtefactKind::CheckpointGuestState].contains(&file.kind) {
                check_guest_state(&fabric.read(file).unwrap());
            }
        }
        check_configuration(&fabric, vm);
        check_runtime_state(&fabric, vm);
        for checkpoint in &vm.checkpoints {
            assert!(vm.files.iter().any(|file| file.path.to_lowercase().contains(&checkpoint.id)));
            for state in checkpoint.vtpm.iter().chain(&checkpoint.key_protector) {
                value(&fabric, vm, state);
            }
        }
    }
}

/// The writer of the fabric and the reader share no code.
fn check_guest_state(bytes: &[u8]) {
    let lifeboat_vmgs::Inspection { report, guest_state, .. } = GuestState::inspect(bytes).unwrap();
    assert_eq!(report.verdict, Verdict::Whole, "{report:?}");
    assert!(report.corruptions.is_empty() && report.remarks.is_empty(), "{report:?}");
    let guest_state = guest_state.unwrap();
    let files = guest_state.store().unwrap().files().iter().map(|file| file.id());
    let names: Vec<_> = files.filter_map(FileId::name).collect();
    let [first, ..] = names[..] else { panic!("no file has a name") };
    assert_eq!(
        (first, names.contains(&"VM_UNIQUE_ID"), names.contains(&"ATTEST")),
        ("FILE_TABLE", true, true)
    );
    let nvram = guest_state.read(FileId::BIOS_NVRAM, bytes.len()).unwrap();
    let name: Vec<u8> = "Synthetic".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(nvram.windows(name.len()).any(|window| window == name));
}

fn check_configuration(fabric: &Fabric, vm: &VmAnswer) {
    let file = vm.file(ArtefactKind::Configuration).unwrap();
    let Opened { view, wholeness, .. } = Opened::of(fabric, file);
    assert_eq!(wholeness == Wholeness::Whole, file.state == FileState::Whole);
    assert_eq!(matches!(wholeness, Wholeness::Dirty { pending_entries: 4 }), file.state == FileState::Dirty);
    assert_eq!(file.state == FileState::Dirty, vm.traits.contains(&VmTrait::DirtyConfiguration));
    assert_eq!(view.vm_id.as_ref().map(|id| id.as_str()), Some(&vm.vm_id[..]));
    assert_eq!(view.logical_id, view.vm_id);
    assert_eq!(view.name.as_ref(), Some(&vm.name));
    assert_eq!(view.generation.map(|generation| generation.to_string()), Some(vm.generation.to_string()));
    assert_eq!(view.version.as_ref().map(ToString::to_string).as_ref(), Some(&vm.configuration_version));
    // 2026-01-01 to some time in May.
    let created = view.creation_time.unwrap().unix_seconds();
    assert!((1_767_225_600..1_780_000_000).contains(&created), "{created}");
    assert_eq!(view.guest_state_path.as_ref(), Some(&vm.guest_state_path));
    assert_eq!(view.secure_boot_enabled, vm.security.secure_boot);
    assert_eq!(
        view.secure_boot_template_id.as_ref().map(|id| id.as_str().to_owned()),
        vm.security.secure_boot_template
    );
    assert_eq!(view.security.tpm_enabled, vm.security.tpm_enabled);
    assert_eq!(view.security.shielding_requested, vm.security.shielding_requested);
    assert_eq!(view.security.encrypt_state_migration, vm.security.encrypt_state_and_migration);
    let disks: Vec<_> = view
        .hard_disks()
        .map(|disk| {
            (disk.controller.to_string().to_lowercase(), disk.drive_number, disk.path.clone().unwrap())
        })
        .collect();
    let expected = vm.disks.iter().map(|disk| (disk.controller.clone(), disk.drive, disk.path.clone()));
    assert_eq!(disks, expected.collect::<Vec<_>>());
    let has_key = view.security.blob(BlobKind::KeyProtector).is_some();
    assert_eq!(has_key, vm.traits.contains(&VmTrait::KeyProtectorInConfiguration));
}

fn check_runtime_state(fabric: &Fabric, vm: &VmAnswer) {
    let file = vm.file(ArtefactKind::RuntimeState).unwrap();
    let opened = Opened::of(fabric, file);
    assert_eq!(opened.wholeness == Wholeness::Whole, file.state == FileState::Whole);
    assert_eq!(file.state == FileState::Dirty, vm.traits.contains(&VmTrait::DirtyRuntimeState));
    assert_eq!(opened.view.security.is_empty(), vm.lacks.contains(&Lack::Vtpm));
    let container = Container::open(&opened.bytes[..]).unwrap();
    let has_memory = container.tree().get("/savedstate/RamBlock0").is_some();
    assert_eq!(has_memory, vm.traits.contains(&VmTrait::SavedState));

    assert_eq!(vm.vtpm.is_some(), vm.kind.has_vtpm());
    if let Some(vtpm) = &vm.vtpm {
        assert_eq!(value(fabric, vm, vtpm).len(), 40_000);
    }
    assert_eq!(vm.pairing == Pairing::KeyProtectorMissing, vm.lacks.contains(&Lack::KeyProtector));
    let in_file = opened.blob(BlobKind::KeyProtector);
    if vm.traits.contains(&VmTrait::KeyProtectorEmpty) {
        assert_eq!(in_file, Some(vec![0, 0, 0, 4]));
    } else if vm.traits.contains(&VmTrait::KeyProtectorAbsent) {
        assert_eq!(in_file, None);
    }
    let Some(key_protector) = &vm.key_protector else { return };
    let bytes = value(fabric, vm, key_protector);
    let last_known_good = vm.last_known_good_key_protector.as_ref().unwrap();
    assert_eq!(value(fabric, vm, last_known_good), bytes);
    check_key_protector(fabric, vm, &bytes);
}

fn check_key_protector(fabric: &Fabric, vm: &VmAnswer, bytes: &[u8]) {
    let registry = AlgorithmRegistry::builtin();
    let protector = KeyProtector::parse(bytes).unwrap();
    assert!(protector.has_length_prefix());
    let thumbprint = |wrapping: &lifeboat_key_protector::Wrapping| {
        Digest::from_bytes(wrapping.signing_certificate.sha256().0)
    };
    assert_eq!(protector.sole_owner().ok().map(thumbprint), vm.owner);
    assert_eq!(protector.guardians().map(thumbprint).collect::<Vec<_>>(), vm.guardians);
    let transport_key = vm.transport_key.as_ref().unwrap();
    let wrapped = vm.wrapped.unwrap();
    for player in [wrapped.owner].into_iter().chain(wrapped.guardians()) {
        let key = fabric.cast().keys(player).encryption_key();
        let mut generator = stream::Stream::new(1, "test", &[]).generator();
        let opened = protector.unwrap_transport_key(key, &registry, &mut generator).unwrap();
        assert_eq!(answers::hex(opened.transport_key.expose()), *transport_key);
        let key = TransportKey::new(opened.transport_key.expose().to_vec().into()).unwrap();
        assert!(protector.verify_with(&registry, &key).checks().all(Check::is_valid));
        let guardian = fabric.answers().guardians.iter().find(|one| one.player == player).unwrap();
        assert_eq!(guardian.signing_sha256, vm::signing_sha256(fabric.cast(), player));
        assert!(protector.wrappings().iter().any(|one| one.guardian_name().guardian == guardian.name));
    }
}

#[test]
fn each_mix_has_every_kind_and_trait() {
    let (_dir, fabric) = fabric(&FabricOptions::new(VMS_PER_MIX * 3, 11));
    let vms = &fabric.answers().vms;
    for mix in vms.chunks(VMS_PER_MIX as usize) {
        assert_eq!(mix.iter().map(|vm| vm.kind).collect::<BTreeSet<_>>().len(), 5);
        assert_eq!(mix.iter().flat_map(|vm| &vm.traits).collect::<BTreeSet<_>>().len(), 7);
    }
    assert!(
        vms[..16].iter().zip(&vms[16..]).any(|(one, other)| one.kind != other.kind),
        "mixes are shuffled"
    );
    let owners: BTreeSet<_> = vms.iter().filter_map(|vm| vm.owner).collect();
    assert_eq!(owners.len(), 3, "two tenants and local mode");
    for lack in [Lack::Vtpm, Lack::KeyProtector, Lack::Guardian, Lack::RecoveryFabric, Lack::DiskFiles] {
        assert_ne!(fabric.answers().lacking(lack).count(), 0, "{lack:?}");
    }
    assert_eq!(fabric.answers().with_trait(VmTrait::SavedState).count(), 6);
    assert_eq!(fabric.answers().of_kind(VmKind::Shielded).count(), 18);
    let names: BTreeSet<_> = vms.iter().map(|vm| (&vm.name, &vm.vm_id)).collect();
    assert_eq!(names.len(), vms.len());
}

#[test]
fn mix_can_be_chosen() {
    let plan = VmPlan::new(VmKind::LocalMode, [VmTrait::SavedState]);
    let (_dir, fabric) =
        fabric(&FabricOptions { mix: Mix::Only(vec![plan.clone()]), ..FabricOptions::new(3, 1) });
    assert!(fabric.answers().vms.iter().all(|vm| (vm.kind, &vm.traits) == (plan.kind, &plan.traits)));
}

#[test]
fn same_seed_repeats_every_byte() {
    let options = everything(VMS_PER_MIX, 3);
    let (_one_dir, one) = fabric(&options);
    let (_other_dir, mut other) = fabric(&options);
    assert_eq!(one.answers(), other.answers());
    // Digests are taken before the files are written.
    assert_eq!((one.compare().unwrap(), other.compare().unwrap()), (vec![], vec![]));
    let (_third_dir, third) = fabric(&FabricOptions { seed: 4, ..options });
    // A runtime state without vTPM state has nothing of its VM in it.
    let digests = |fabric: &Fabric| {
        let files = fabric.answers().vms.iter().flat_map(|vm| &vm.files);
        files.filter(|file| file.kind != ArtefactKind::RuntimeState).map(|file| file.digest).collect()
    };
    let (first, third): (BTreeSet<Digest>, BTreeSet<Digest>) = (digests(&one), digests(&third));
    assert!(first.is_disjoint(&third));

    // Two fabrics age alike, and one that was opened again like one that was not.
    let age = AgeOptions {
        round: 5,
        change_percent: 20.0,
        roll: 1,
        move_between_hosts: 1,
        delete: 1,
        add: 1,
        tear: 3,
    };
    let mut one = Fabric::open(one.dir()).unwrap();
    assert_eq!(one.age(&age).unwrap(), other.age(&age).unwrap());
    assert_eq!(one.answers(), other.answers());
    assert_eq!(Fabric::open(one.dir()).unwrap().answers(), one.answers());
}

#[test]
fn markers_stand_where_the_answer_sheet_says() {
    let (_dir, fabric) = fabric(&everything(VMS_PER_MIX, 9));
    let answers = fabric.answers();
    let markers: Vec<(&VmAnswer, &Marker)> =
        answers.vms.iter().flat_map(|vm| vm.markers.iter().map(move |marker| (vm, marker))).collect();
    let mut found = vec![BTreeSet::new(); markers.len()];
    for (vm, file) in answers.vms.iter().flat_map(|vm| vm.files.iter().map(move |file| (vm, file))) {
        for index in search(&written_pages(&fabric.read(file).unwrap()), &markers) {
            assert_eq!(markers[index].0.vm_id, vm.vm_id);
            found[index].insert(file.kind);
        }
    }
    for ((vm, marker), found) in markers.iter().zip(found) {
        let in_configuration = vm.traits.contains(&VmTrait::KeyProtectorInConfiguration);
        let expected: &[ArtefactKind] = match marker.planted {
            Planted::Notes => &[ArtefactKind::Configuration],
            Planted::KeyProtector if in_configuration => &[ArtefactKind::Configuration],
            Planted::VtpmState | Planted::KeyProtector => &[ArtefactKind::RuntimeState],
            Planted::CheckpointVtpmState => &[ArtefactKind::CheckpointRuntimeState],
            Planted::GuestState if vm.checkpoints.is_empty() => &[ArtefactKind::GuestState],
            Planted::GuestState => &[ArtefactKind::GuestState, ArtefactKind::CheckpointGuestState],
            Planted::PartitionTable | Planted::GuestData | Planted::ClearKey => &[ArtefactKind::Other],
            Planted::TransportKey => &[],
            // Too short to search for: it stands in several encodings, in names of files too.
            Planted::Name => {
                assert_eq!(marker.bytes, vm.name.as_bytes());
                &[]
            }
        };
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{:?} of {}", marker.planted, vm.name);
    }
    assert_eq!(markers.iter().map(|(_, marker)| marker.planted).collect::<BTreeSet<_>>().len(), 10);
    let hidden: BTreeSet<_> = answers.markers_hidden_from(Role::Restore).map(|marker| marker.class).collect();
    assert_eq!(hidden, [None, Some(Class::Secret)].into());
    let hidden: BTreeSet<_> = answers.markers_hidden_from(Role::Escrow).map(|marker| marker.class).collect();
    assert_eq!(hidden, [None, Some(Class::Machine)].into());
}

/// The pages of a file that are not all zero.
fn written_pages(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(4096).filter(|page| *page != &[0; 4096][..page.len()]).flatten().copied().collect()
}

/// Answers which markers stand in `bytes`, by a part in their middle that is random in all of them.
fn search(bytes: &[u8], markers: &[(&VmAnswer, &Marker)]) -> BTreeSet<usize> {
    const PART: std::ops::Range<usize> = 16..24;
    let parts = markers.iter().enumerate().filter(|(_, (_, marker))| marker.bytes.len() >= PART.end);
    let parts: HashMap<&[u8], usize> = parts.map(|(index, (_, one))| (&one.bytes[PART], index)).collect();
    let hits = bytes.windows(PART.len()).enumerate().filter_map(|(at, part)| {
        let index = *parts.get(part)?;
        bytes.get(at.checked_sub(PART.start)?..)?.starts_with(&markers[index].1.bytes).then_some(index)
    });
    hits.collect()
}

#[test]
fn disks_have_identities_and_partition_tables() {
    let mix = Mix::Only(vec![
        VmPlan::new(VmKind::Shielded, [VmTrait::Checkpoint]),
        VmPlan::new(VmKind::GenerationOne, []),
    ]);
    let (_dir, fabric) = fabric(&FabricOptions { mix, disks: DiskFiles::Sparse, ..FabricOptions::new(8, 2) });
    let mut chains = 0;
    for vm in &fabric.answers().vms {
        let reader = |disk: &DiskAnswer| {
            let file = vm.files.iter().find(|file| file.path == disk.path).expect("its file");
            let mut image = SparseImage::new();
            image.write_all_at(0, &fabric.read(file).unwrap()).unwrap();
            VhdxReader::open(image).unwrap()
        };
        for disk in &vm.disk_files {
            let top = reader(disk);
            assert_eq!(top.identity().virtual_disk_id.to_string(), disk.virtual_disk_id);
            assert_eq!(top.identity().data_write_guid.to_string(), disk.data_write_guid);
            assert_eq!(top.identity().virtual_size_bytes, disk.virtual_size_bytes);
            let linkage = top.parent().map(|locator| locator.linkage().to_string());
            assert_eq!(linkage, disk.parent_data_write_guid);
            let mut layers = vec![top];
            if let Some(parent) = &disk.parent_data_write_guid {
                layers.push(reader(vm.disk_files.iter().find(|one| one.data_write_guid == *parent).unwrap()));
                chains += 1;
            }
            check_gpt(&VhdxChain::new(layers).unwrap(), disk);
        }
        // The configuration names the files that the VM writes to.
        for entry in &vm.disks {
            let name = entry.path.rsplit('\\').next().unwrap();
            assert!(vm.disk_files.iter().any(|disk| disk.path.ends_with(name)), "{name}");
        }
    }
    assert_ne!(chains, 0);
}

fn check_gpt(chain: &VhdxChain<SparseImage>, disk: &DiskAnswer) {
    let read = |offset: u64, count: usize| {
        let mut bytes = vec![0; count];
        chain.read_at(offset, &mut bytes).unwrap();
        bytes
    };
    let field = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    for (own, other) in [(512, disk.virtual_size_bytes - 512), (disk.virtual_size_bytes - 512, 512)] {
        let mut header = read(own, 92);
        assert_eq!(&header[..8], b"EFI PART");
        assert_eq!((field(&header, 24) * 512, field(&header, 32) * 512), (own, other));
        let id = lifeboat_vhdx::Guid::from_bytes(header[56..72].try_into().unwrap());
        assert_eq!(id.to_string(), disk.gpt_disk_id);
        let entries = read(field(&header, 72) * 512, 128 * 128);
        let checksum = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(checksum(&header, 88), crc32fast::hash(&entries));
        let ids: Vec<_> = entries
            .chunks(128)
            .map(|entry| lifeboat_vhdx::Guid::from_bytes(entry[16..32].try_into().unwrap()).to_string())
            .take(disk.gpt_partition_ids.len())
            .collect();
        assert_eq!(ids, disk.gpt_partition_ids);
        let stored = checksum(&header, 16);
        header[16..20].fill(0);
        assert_eq!(stored, crc32fast::hash(&header));
    }
}

#[test]
fn aging_does_what_it_says() {
    let (_dir, mut fabric) = fabric(&FabricOptions { hosts: 3, ..FabricOptions::new(48, 21) });
    let before = fabric.answers().clone();
    let options = AgeOptions {
        round: 1,
        change_percent: 10.0,
        roll: 4,
        move_between_hosts: 3,
        delete: 2,
        add: 4,
        tear: 6,
    };
    let report = fabric.age(&options).unwrap();
    let after = fabric.answers();
    assert_eq!(fabric.compare().unwrap(), []);
    assert_eq!((after.vms.len(), after.deleted.len(), after.rounds), (50, 2, 1));
    let counts =
        [&report.changed, &report.rolled, &report.deleted, &report.added, &report.mended].map(Vec::len);
    assert_eq!((counts, report.moved.len(), report.torn.len()), ([5, 4, 2, 4, 0], 3, 6));

    for vm in &before.vms {
        let Some(now) = after.vm(&vm.vm_id) else {
            assert!(report.deleted.contains(&vm.vm_id));
            assert!(vm.files.iter().all(|file| !fabric.path_of(file).exists()));
            continue;
        };
        let changed: BTreeSet<ArtefactKind> = vm
            .files
            .iter()
            .zip(&now.files)
            .filter(|(old, new)| old.digest != new.digest)
            .map(|(old, _)| old.kind)
            .collect();
        let runtime = ArtefactKind::RuntimeState;
        let moved = report.moved.iter().find(|moved| moved.vm_id == vm.vm_id);
        if report.changed.contains(&vm.vm_id) {
            let all = [ArtefactKind::Configuration, runtime, ArtefactKind::GuestState];
            assert_eq!(changed, all.into());
            assert_eq!(now.revision, 1);
        } else if report.rolled.contains(&vm.vm_id) {
            assert!(changed.contains(&runtime) && !changed.contains(&ArtefactKind::GuestState));
            assert_eq!((now.revision, now.rolls), (0, 1));
            assert_ne!((&vm.vtpm, &vm.key_protector), (&now.vtpm, &now.key_protector));
        } else if let Some(torn) = report.torn.iter().find(|torn| torn.vm_id == vm.vm_id) {
            assert!(now.is_torn() && changed.len() == 1);
            let file = now.files.iter().find(|file| file.place == torn.place).unwrap();
            assert_eq!(file.state, FileState::Torn(torn.tear));
            let report = Container::inspect(&fabric.read(file).unwrap()[..]).unwrap().report;
            assert_eq!(report.wholeness, Wholeness::Torn);
        } else {
            assert!(changed.is_empty(), "{}", vm.name);
        }
        match moved {
            Some(moved) => assert_eq!((&vm.host, &now.host), (&moved.from, &moved.to)),
            None => assert_eq!(vm.host, now.host),
        }
        assert_eq!(moved.is_some(), vm.files[0].place != now.files[0].place);
    }
    for id in &report.added {
        assert!(before.vm(id).is_none() && after.vm(id).is_some());
    }
    let tears: BTreeSet<Tear> = report.torn.iter().map(|torn| torn.tear).collect();
    assert_eq!(tears.len(), 3);
    // Rolled VM key protectors are signed by the fabric, and still hold.
    for vm in after.vms.iter().filter(|vm| vm.rolls > 0 && vm.key_protector.is_some()) {
        let bytes = value(&fabric, vm, vm.key_protector.as_ref().unwrap());
        check_key_protector(&fabric, vm, &bytes);
        let signer = KeyProtector::parse(&bytes).unwrap().guardian_signature().wrapping_id.0;
        assert_eq!(signer, if vm.kind == VmKind::LocalMode { 1 } else { 2 });
    }

    let report = fabric.age(&AgeOptions::change(2, 0.0)).unwrap();
    assert_eq!((report.mended.len(), report.changed.len()), (6, 0));
    assert!(fabric.answers().vms.iter().all(|vm| !vm.is_torn()));
    assert_eq!(fabric.compare().unwrap(), []);
}

#[test]
fn small_fabric_survives_large_wishes() {
    let (_dir, mut fabric) = fabric(&FabricOptions { hosts: 2, ..FabricOptions::new(3, 5) });
    let options =
        AgeOptions { round: 1, roll: 9, move_between_hosts: 9, delete: 1, tear: 9, ..AgeOptions::default() };
    let report = fabric.age(&options).unwrap();
    assert_eq!((report.deleted.len(), report.moved.len(), report.torn.len()), (1, 2, 0));
    assert_eq!(fabric.compare().unwrap(), []);
}

#[test]
fn exports_are_compared_with_their_vm() {
    let (_dir, fabric) =
        fabric(&FabricOptions { layout: FabricLayout::Export, ..everything(VMS_PER_MIX, 13) });
    assert_eq!(fabric.roots("host-1"), [fabric.host_dir("host-1").join(EXPORT_FOLDER)]);
    for vm in &fabric.answers().vms {
        let folder = fabric.host_dir(&vm.host).join(EXPORT_FOLDER).join(&vm.name);
        assert_eq!(vm.compare_export(&folder).unwrap(), []);
        // Disks are not compared, and files beside are no difference.
        std::fs::write(folder.join("restore.ps1"), "#").unwrap();
        std::fs::remove_file(folder.join(&vm.disk_files[0].path)).unwrap();
        assert_eq!(vm.compare_export(&folder).unwrap(), []);
        let [configuration, runtime, ..] = &vm.files[..] else { panic!("three files at least") };
        std::fs::remove_file(folder.join(&configuration.path)).unwrap();
        std::fs::write(folder.join(&runtime.path), "other").unwrap();
        assert_eq!(
            vm.compare_export(&folder).unwrap(),
            [Difference::Missing(configuration.path.clone()), Difference::Changed(runtime.path.clone())]
        );
    }
    assert_ne!(fabric.compare().unwrap(), []);
}

#[test]
fn what_does_not_go_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("something"), "").unwrap();
    let refused = Fabric::generate(dir.path(), &FabricOptions::new(1, 1)).err();
    assert!(matches!(refused, Some(FabricError::NotEmpty { .. })));
    let sizes = Sizes { guest_state_bytes: 1000, ..Sizes::default() };
    let refused = Fabric::generate(dir.path(), &FabricOptions { sizes, ..FabricOptions::new(1, 1) }).err();
    assert!(matches!(refused, Some(FabricError::Option { option: "guest_state_bytes", .. })));
    let mut fabric = Fabric::generate(dir.path().join("new"), &FabricOptions::new(1, 1)).unwrap();
    let refused = fabric.age(&AgeOptions { move_between_hosts: 1, ..AgeOptions::default() }).err();
    assert!(matches!(refused, Some(FabricError::Option { option: "move_between_hosts", .. })));
    assert!(matches!(Fabric::open(dir.path()), Err(FabricError::Io { .. })));
}
