//! All files of one VM, and what the answer sheet says of them.
//!
//! A VM is a function of the options, its number, its revision and its rolls: nothing is read from disk to age it.

use lifeboat_schema::{
    ArtefactKind, CheckpointEntry, Class, Digest, DiskEntry, Layout, Pairing, SecuritySettings, StateValue,
};
use lifeboat_vhdx::SparseImage;
use lifeboat_vmcx::{BlobKind, TreeBuilder, VmcxWriter, WriteOptions};
use std::collections::BTreeSet;

use super::answers::{DiskAnswer, FileAnswer, FileState, Lack, Marker, Planted, VmAnswer, hex};
use super::cast::{Cast, Player};
use super::configuration::{self, ConfigurationState, WINDOWS_TEMPLATE};
use super::disk::{self, DiskMarkers, NewDisk};
use super::error::FabricError;
use super::guest_state;
use super::identity::{CheckpointIdentity, DiskIdentity, VmIdentity, upper};
use super::options::{DiskFiles, FabricOptions, VmKind, VmTrait, VolumeKind};
use super::runtime_state::{self, SecretState};
use super::stream::Stream;
use super::volume::{self, VolumeRole};

/// Number of pending entries in the log of a dirty file; the first is superseded by a later one.
const PENDING_ENTRIES: u32 = 4;

/// The folders of an export.
const MACHINES: &str = "Virtual Machines";
const SNAPSHOTS: &str = "Snapshots";
const DISKS: &str = "Virtual Hard Disks";

/// Bytes of a file.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    Sparse(SparseImage),
}

/// A VM whose files are not written yet.
pub(crate) struct BuiltVm {
    pub(crate) answer: VmAnswer,
    /// Contents of `answer.files`, in their order.
    pub(crate) contents: Vec<Content>,
}

/// Where a VM stands in its life.
#[derive(Clone, Copy)]
pub(crate) struct Age<'a> {
    pub(crate) host: &'a str,
    pub(crate) revision: u32,
    pub(crate) rolls: u32,
}

/// The bytes that are planted in a VM, the same all its life.
struct Markers {
    notes: [u8; 32],
    vtpm: [u8; 32],
    checkpoint_vtpm: [u8; 32],
    guest_state: [u8; 32],
}

struct Builder<'a> {
    options: &'a FabricOptions,
    cast: &'a Cast,
    vm: VmIdentity,
    age: Age<'a>,
    files: Vec<FileAnswer>,
    contents: Vec<Content>,
}

/// Makes a VM.
pub(crate) fn build(
    options: &FabricOptions,
    cast: &Cast,
    number: u32,
    age: Age<'_>,
) -> Result<BuiltVm, FabricError> {
    let vm = VmIdentity::of(options, number);
    Builder { options, cast, vm, age, files: Vec::new(), contents: Vec::new() }.build()
}

impl Builder<'_> {
    fn build(mut self) -> Result<BuiltVm, FabricError> {
        let mut stream = self.stream("markers", &[]);
        let markers = Markers {
            notes: stream.marker(),
            vtpm: stream.marker(),
            checkpoint_vtpm: stream.marker(),
            guest_state: stream.marker(),
        };
        let secrets =
            SecretState::make(self.options, self.cast, &self.vm, self.age.rolls, "vm", &markers.vtpm)?;
        let id = self.vm.upper_id();
        let guest_state_path = self.windows_path(MACHINES, &format!("{id}.vmgs"));
        let (disk_paths, parent_paths) = self.disk_paths();

        let notes = format!("{} (LB {})", text(&markers.notes), self.vm.number);
        let mut tree = configuration::tree(
            &self.vm,
            ConfigurationState {
                id: self.vm.vm_id,
                name: &self.vm.name,
                is_checkpoint: false,
                disk_paths: &disk_paths,
                guest_state_path: &guest_state_path,
                notes: &notes,
                revision: self.age.revision,
                random: self
                    .stream("configuration", &[self.age.revision.into()])
                    .bytes(self.options.sizes.configuration_random_bytes as usize),
            },
        );
        if let Some(secrets) = &secrets
            && self.vm.has(VmTrait::KeyProtectorInConfiguration)
        {
            secrets.put_key_protector(&mut tree);
        }
        let is_dirty = self.vm.has(VmTrait::DirtyConfiguration);
        let sequence = self.age.revision.max(self.age.rolls) + 1;
        let configuration = format!("{MACHINES}/{id}.vmcx");
        self.container(&configuration, ArtefactKind::Configuration, &tree, sequence, is_dirty)?;

        let mut memory = self.stream("memory", &[self.age.rolls.into()]);
        let memory = self.vm.has(VmTrait::SavedState).then_some(&mut memory);
        let tree = runtime_state::tree(&self.vm, secrets.as_ref(), memory);
        let is_dirty = self.vm.has(VmTrait::DirtyRuntimeState);
        let runtime = format!("{MACHINES}/{id}.vmrs");
        self.container(&runtime, ArtefactKind::RuntimeState, &tree, self.age.rolls + 1, is_dirty)?;
        self.guest_state(
            &format!("{MACHINES}/{id}.vmgs"),
            ArtefactKind::GuestState,
            &mut self.stream("guest state", &[self.age.revision.into()]),
            self.age.revision + 1,
            &markers.guest_state,
        );
        let checkpoint = self.checkpoint(&markers, &parent_paths)?;
        let mut disk_files = Vec::new();
        let mut planted = self.planted(&markers, secrets.as_ref(), checkpoint.is_some());
        if self.options.disks == DiskFiles::Sparse {
            self.disks(&parent_paths, &mut disk_files, &mut planted)?;
        }
        let holder =
            if self.vm.has(VmTrait::KeyProtectorInConfiguration) { &configuration } else { &runtime };
        let answer = self.answer(secrets.as_ref(), (holder, &runtime), checkpoint, disk_files, planted);
        let mut answer = VmAnswer { guest_state_path, ..answer };
        answer.disks = self.disk_entries(&disk_paths);
        answer.files = self.files;
        Ok(BuiltVm { answer, contents: self.contents })
    }

    fn stream(&self, purpose: &str, numbers: &[u64]) -> Stream {
        let numbers: Vec<u64> =
            std::iter::once(self.vm.number.into()).chain(numbers.iter().copied()).collect();
        Stream::new(self.options.seed, purpose, &numbers)
    }

    fn windows_path(&self, folder: &str, file: &str) -> String {
        format!(r"{}\{folder}\{file}", self.vm.windows_folder())
    }

    /// Paths of the disks as the VM names them, and of those that a checkpoint left behind.
    fn disk_paths(&self) -> (Vec<String>, Vec<String>) {
        let path = |file: &str| self.windows_path(DISKS, file);
        let current = |disk: &DiskIdentity| path(&self.vm.current_disk_file(disk));
        let disks = &self.vm.disks;
        (disks.iter().map(current).collect(), disks.iter().map(|disk| path(&disk.file_name)).collect())
    }

    fn container(
        &mut self,
        path: &str,
        kind: ArtefactKind,
        tree: &TreeBuilder,
        sequence: u32,
        is_dirty: bool,
    ) -> Result<(), FabricError> {
        let options = WriteOptions {
            // Sequences have 16 bits; zero and one less than it are left out.
            header_sequence: (sequence % 0xfffe + 1) as u16,
            pending_entries: if is_dirty { PENDING_ENTRIES } else { 0 },
            ..WriteOptions::default()
        };
        let bytes = VmcxWriter::with_options(options).encode(tree)?;
        let state = if is_dirty { FileState::Dirty } else { FileState::Whole };
        self.file(path, kind, Content::Bytes(bytes), state);
        Ok(())
    }

    fn guest_state(
        &mut self,
        path: &str,
        kind: ArtefactKind,
        stream: &mut Stream,
        sequence: u32,
        marker: &[u8],
    ) {
        let bytes = self.options.sizes.guest_state_bytes as usize;
        let store = guest_state::encode(bytes, sequence, self.vm.vm_id.to_bytes(), marker, stream);
        self.file(path, kind, Content::Bytes(store), FileState::Whole);
    }

    fn file(&mut self, path: &str, kind: ArtefactKind, content: Content, state: FileState) {
        let (size, digest) = match &content {
            Content::Bytes(bytes) => (bytes.len() as u64, Digest::of(bytes)),
            Content::Sparse(image) => {
                let bytes = image.to_bytes();
                (bytes.len() as u64, Digest::of(&bytes))
            }
        };
        let place = place(&self.vm, self.age.host, path);
        self.files.push(FileAnswer { path: path.to_owned(), place, kind, size, digest, state });
        self.contents.push(content);
    }

    /// Makes the checkpoint, which does not change any more.
    fn checkpoint(
        &mut self,
        markers: &Markers,
        disk_paths: &[String],
    ) -> Result<Option<CheckpointEntry>, FabricError> {
        let Some(CheckpointIdentity { id, name }) = &self.vm.checkpoint else { return Ok(None) };
        let (id, name) = (*id, name.clone());
        let secrets =
            SecretState::make(self.options, self.cast, &self.vm, 0, "checkpoint", &markers.checkpoint_vtpm)?;
        let path = |extension: &str| format!("{SNAPSHOTS}/{}.{extension}", upper(id));
        let guest_state_path = self.windows_path(SNAPSHOTS, &format!("{}.vmgs", upper(id)));
        let tree = configuration::tree(
            &self.vm,
            ConfigurationState {
                id,
                name: &name,
                is_checkpoint: true,
                disk_paths,
                guest_state_path: &guest_state_path,
                notes: "",
                revision: 0,
                random: Vec::new(),
            },
        );
        self.container(&path("vmcx"), ArtefactKind::CheckpointConfiguration, &tree, 1, false)?;
        let tree = runtime_state::tree(&self.vm, secrets.as_ref(), None);
        self.container(&path("vmrs"), ArtefactKind::CheckpointRuntimeState, &tree, 1, false)?;
        let mut stream = self.stream("checkpoint guest state", &[]);
        let kind = ArtefactKind::CheckpointGuestState;
        self.guest_state(&path("vmgs"), kind, &mut stream, 1, &markers.guest_state);
        let (vtpm, key_protector) = values(secrets.as_ref(), (&path("vmrs"), &path("vmrs")));
        let id = id.to_string();
        Ok(Some(CheckpointEntry { id, name: Some(name), vtpm, key_protector }))
    }

    fn disks(
        &mut self,
        parent_paths: &[String],
        answers: &mut Vec<DiskAnswer>,
        planted: &mut Vec<Marker>,
    ) -> Result<(), FabricError> {
        for (index, parent_path) in parent_paths.iter().enumerate() {
            let mut stream = self.stream("disk", &[index as u64]);
            let DiskIdentity { file_name, virtual_size_bytes } = &self.vm.disks[index];
            let (file_name, size) = (file_name.clone(), *virtual_size_bytes);
            let current = self.vm.current_disk_file(&self.vm.disks[index]);
            let markers = DiskMarkers { partition_name: stream.marker(), guest_data: stream.marker() };
            // With a checkpoint the parent does not change any more.
            let generation = if current == file_name { self.age.revision } else { 0 };
            let kind = VolumeKind::of(self.options.volumes, self.vm.number + 3 * index as u32);
            let role = VolumeRole { has_vtpm: self.vm.plan.kind.has_vtpm(), is_data: index > 0 };
            let numbers = [index as u64, generation.into()];
            let (mut once, mut now) =
                (self.stream("volume", &[index as u64]), self.stream("volume now", &numbers));
            let volume = volume::make(kind, role, generation, &mut once, &mut now);
            if let Some(key) = volume.as_ref().and_then(|volume| volume.clear_key) {
                planted.push(marker(Planted::ClearKey, Some(Class::Secret), key.to_vec()));
            }
            let mut writes = self.stream("disk writes", &numbers);
            let base = disk::dynamic(size, &markers, volume.as_ref(), &mut stream, &mut writes)?;
            let units = markers.partition_name.iter().flat_map(|byte| [*byte, 0]).collect();
            planted.push(marker(Planted::PartitionTable, Some(Class::DiskHead), units));
            planted.push(marker(Planted::GuestData, None, markers.guest_data.to_vec()));
            let child = if current == file_name {
                None
            } else {
                let mut writes = self.stream("child writes", &[index as u64, self.age.revision.into()]);
                Some(disk::differencing(size, &base, &file_name, parent_path, &mut stream, &mut writes)?)
            };
            let parent_guid = base.ids.data_write_guid;
            self.disk_file(&file_name, base, size, None, answers);
            if let Some(child) = child {
                self.disk_file(&current, child, size, Some(parent_guid.to_string()), answers);
            }
        }
        Ok(())
    }

    fn disk_file(
        &mut self,
        file_name: &str,
        disk: NewDisk,
        virtual_size_bytes: u64,
        parent_data_write_guid: Option<String>,
        answers: &mut Vec<DiskAnswer>,
    ) {
        let path = format!("{DISKS}/{file_name}");
        self.file(&path, ArtefactKind::Other, Content::Sparse(disk.image), FileState::Whole);
        answers.push(DiskAnswer {
            path,
            virtual_disk_id: disk.ids.virtual_disk_id.to_string(),
            data_write_guid: disk.ids.data_write_guid.to_string(),
            parent_data_write_guid,
            virtual_size_bytes,
            gpt_disk_id: disk.gpt_disk_id.to_string(),
            gpt_partition_ids: disk.gpt_partition_ids.iter().map(ToString::to_string).collect(),
            volume: disk.volume,
        });
    }

    fn disk_entries(&self, paths: &[String]) -> Vec<DiskEntry> {
        let controller = if self.vm.plan.kind == VmKind::GenerationOne { "ide" } else { "scsi" };
        let entry = |(path, drive): (&String, u32)| DiskEntry {
            controller: controller.to_owned(),
            controller_number: 0,
            drive,
            path: path.clone(),
            head: None,
            problem: None,
        };
        paths.iter().zip(0..).map(entry).collect()
    }

    fn planted(&self, markers: &Markers, secrets: Option<&SecretState>, has_checkpoint: bool) -> Vec<Marker> {
        let machine = Some(Class::Machine);
        let notes = markers.notes.iter().flat_map(|byte| [*byte, 0]).collect();
        let mut planted = vec![
            marker(Planted::Name, Some(Class::Metadata), self.vm.name.clone().into_bytes()),
            marker(Planted::Notes, machine, notes),
            marker(Planted::GuestState, machine, markers.guest_state.to_vec()),
        ];
        if let Some(secrets) = secrets {
            planted.push(marker(Planted::VtpmState, machine, markers.vtpm.to_vec()));
            if has_checkpoint {
                let bytes = markers.checkpoint_vtpm.to_vec();
                planted.push(marker(Planted::CheckpointVtpmState, machine, bytes));
            }
            if let Some(bytes) = secrets.key_protector_marker() {
                planted.push(marker(Planted::KeyProtector, machine, bytes));
                planted.push(marker(Planted::TransportKey, None, secrets.transport_key.clone()));
            }
        }
        planted
    }

    fn answer(
        &self,
        secrets: Option<&SecretState>,
        holders: (&str, &str),
        checkpoint: Option<CheckpointEntry>,
        disk_files: Vec<DiskAnswer>,
        markers: Vec<Marker>,
    ) -> VmAnswer {
        let vm = &self.vm;
        let kind = vm.plan.kind;
        let (vtpm, key_protector) = values(secrets, holders);
        let last_known_good_key_protector = key_protector
            .clone()
            .map(|value| StateValue { key: BlobKind::LastKnownGoodKeyProtector.path().to_owned(), ..value });
        let wrapped = key_protector.is_some().then_some(vm.wrapped);
        let pairing = match (&vtpm, &key_protector) {
            (None, _) => Pairing::None,
            (Some(_), None) => Pairing::KeyProtectorMissing,
            (Some(vtpm), Some(key_protector)) if vtpm.file == key_protector.file => Pairing::CapturedTogether,
            (Some(_), Some(_)) => Pairing::Mixed,
        };
        let lacks = [
            (Lack::Vtpm, !kind.has_vtpm()),
            (Lack::KeyProtector, vtpm.is_some() && key_protector.is_none()),
            (Lack::Guardian, wrapped.is_some_and(|wrapped| wrapped.guardians().is_empty())),
            (Lack::RecoveryFabric, wrapped.is_some_and(|wrapped| wrapped.primary && !wrapped.recovery)),
            (Lack::DiskFiles, disk_files.is_empty()),
        ];
        let is_second = kind.generation() == 2;
        let of_vtpm = |truth: bool| kind.has_vtpm().then_some(truth);
        let template = if is_second { WINDOWS_TEMPLATE } else { "00000000-0000-0000-0000-000000000000" };
        let thumbprint = |player: Player| signing_sha256(self.cast, player);
        VmAnswer {
            number: vm.number,
            vm_id: vm.vm_id.to_string(),
            name: vm.name.clone(),
            kind,
            traits: vm.plan.traits.clone(),
            generation: kind.generation(),
            configuration_version: format!("{}.{}", vm.version.0, vm.version.1),
            host: self.age.host.to_owned(),
            layout: vm.layout,
            revision: self.age.revision,
            rolls: self.age.rolls,
            files: Vec::new(),
            security: SecuritySettings {
                tpm_enabled: of_vtpm(true),
                shielding_requested: of_vtpm(kind == VmKind::Shielded),
                encrypt_state_and_migration: of_vtpm(kind != VmKind::LocalMode),
                secure_boot: Some(is_second),
                secure_boot_template: Some(template.to_owned()),
            },
            vtpm,
            key_protector,
            last_known_good_key_protector,
            transport_key: wrapped.and(secrets).map(|secrets| hex(&secrets.transport_key)),
            owner: wrapped.map(|wrapped| thumbprint(wrapped.owner)),
            guardians: wrapped
                .map(|wrapped| wrapped.guardians().into_iter().map(thumbprint).collect())
                .unwrap_or_default(),
            wrapped,
            pairing,
            disks: Vec::new(),
            disk_files,
            guest_state_path: String::new(),
            checkpoints: checkpoint.into_iter().collect(),
            lacks: lacks
                .into_iter()
                .filter_map(|(lack, is_so)| is_so.then_some(lack))
                .collect::<BTreeSet<_>>(),
            markers,
        }
    }
}

/// Answers the place of a file below the fabric's folder.
pub(crate) fn place(vm: &VmIdentity, host: &str, path: &str) -> String {
    match vm.layout {
        Layout::Live => format!("{host}/{}/{path}", super::LIVE_FOLDER),
        Layout::Export => format!("{host}/{}/{}/{path}", super::EXPORT_FOLDER, vm.name),
    }
}

/// The SHA-256 thumbprint of a player's signing certificate.
pub(crate) fn signing_sha256(cast: &Cast, player: Player) -> Digest {
    Digest::from_bytes(cast.keys(player).signing_certificate().sha256().0)
}

/// Describes vTPM state and VM key protector, which stand in the files `holders` (VM key protector, vTPM state).
fn values(secrets: Option<&SecretState>, holders: (&str, &str)) -> (Option<StateValue>, Option<StateValue>) {
    let value = |bytes: &[u8], file: &str, kind: BlobKind| StateValue {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        file: file.to_owned(),
        key: kind.path().to_owned(),
    };
    let vtpm = secrets.map(|secrets| value(&secrets.vtpm, holders.1, BlobKind::VtpmNvram));
    let key_protector = secrets
        .and_then(SecretState::whole_key_protector)
        .map(|bytes| value(bytes, holders.0, BlobKind::KeyProtector));
    (vtpm, key_protector)
}

fn marker(planted: Planted, class: Option<Class>, bytes: Vec<u8>) -> Marker {
    Marker { planted, class, bytes }
}

fn text(marker: &[u8; 32]) -> String {
    marker.iter().map(|byte| char::from(*byte)).collect()
}
