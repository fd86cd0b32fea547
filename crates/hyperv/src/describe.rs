//! What the files of a VM say about it: from proved containers to a `VmRecord`.
//!
//! VM key protector and vTPM state are searched in configuration and runtime state alike, because it is not proved which of
//! them holds what. They are counted as captured together only if both were found in one file, and hence in one copy.
//! Nothing here is fatal: what is missing or odd is a remark, and the files are captured all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use lifeboat_engine::source::FoundVm;
use lifeboat_key_protector::layout::MAX_DOCUMENT_BYTES;
use lifeboat_schema::{
    ArtefactKind, CheckpointEntry, Digest, DigestBuilder, DiskEntry, Pairing, SecuritySettings, StateValue,
    VmRecord, hosts_that_run,
};
use lifeboat_vmcx::{
    BlobKind, BlobLocation, Container, ControllerKind, Disk, DriveType, Generation, Guid, ReadAt, ReadError,
    SecurityBlob, SecurityState, VmConfiguration,
};

use crate::guest_state::{self, GuestStateFacts};
use crate::{addressees, names};

/// Smallest VM key protector, in bytes; anything shorter says that there is none (four bytes do, and no XML fits in less).
const MIN_KEY_PROTECTOR_BYTES: u64 = 16;
/// Bytes of a value that are in memory while its digest is computed.
const CHUNK_BYTES: usize = 0x1_0000;
/// Where a VM lists its checkpoints.
const CHECKPOINT_LIST: &str = "/configuration/global_settings/snapshots/list";

/// A file of a VM after it was proved.
#[derive(Debug)]
pub(crate) struct CapturedFile<'a, R> {
    /// Its path as an artefact.
    pub(crate) path: &'a str,
    /// What it is.
    pub(crate) kind: ArtefactKind,
    /// Its content, where that is a container.
    pub(crate) container: Option<Container<R>>,
    /// What is known of it, where it is a guest state.
    pub(crate) guest_state: Option<GuestStateFacts>,
    /// What its proof remarked, without the file's name.
    pub(crate) remarks: Vec<String>,
}

/// A VM as its files describe it.
#[derive(Debug)]
pub(crate) struct Described {
    /// For the vault.
    pub(crate) record: VmRecord,
    /// SHA-256 thumbprint of the signing certificate of its only owner.
    pub(crate) owner_guardian: Option<Digest>,
    /// The file that holds a VM key protector which breaks off, and how: such a copy is not whole.
    pub(crate) torn: Option<(usize, String)>,
}

/// A read that failed, and which file's.
type Failed = (usize, io::Error);

/// Describes a VM by its files.
///
/// # Errors
/// When a file that is not in memory cannot be read.
pub(crate) fn describe<R: ReadAt<Error = io::Error>>(
    vm: &FoundVm,
    files: &[CapturedFile<'_, R>],
) -> Result<Described, Failed> {
    let mut remarks = Vec::new();
    for file in files {
        remarks.extend(file.remarks.iter().map(|remark| format!("{} {remark}", file.path)));
    }
    let machine = Machine::read(files, None)?;
    let checkpoints = checkpoints(files)?;
    // A checkpoint without its VM is described as if it were one.
    let alone = checkpoints.iter().find(|(id, _)| machine.is_empty() && id.as_str() == vm.vm_id);
    let machine = match alone {
        Some((_, checkpoint)) => {
            let whose = checkpoint.view.iter().flat_map(|view| [&view.vm_id, &view.logical_id]).flatten();
            let whose = whose.filter(|id| id.as_str() != vm.vm_id).map(Guid::as_str).next();
            remarks.push(format!(
                "these are the files of a checkpoint alone; the VM that it belongs to, {}, was not found",
                whose.unwrap_or("whose id it does not tell")
            ));
            checkpoint
        }
        None => &machine,
    };
    let view = machine.view.clone().unwrap_or_default();
    remark_on_configuration(vm, machine, &view, &mut remarks);

    let states = machine.states(files, "", &mut remarks)?;
    let key_protector = match &states.key_protector {
        Some(found) => Some(read_key_protector(files, found, "its VM key protector", &mut remarks)?),
        None => None,
    };
    let is_other = |found: &&Found<'_>| {
        states.key_protector.as_ref().is_none_or(|current| current.value.digest != found.value.digest)
    };
    let last_known_good = match states.last_known_good.as_ref().filter(is_other) {
        Some(found) => {
            Some(read_key_protector(files, found, "its last known good VM key protector", &mut remarks)?)
        }
        None => None,
    };
    let pairing = pairing(states.vtpm.as_ref(), states.key_protector.as_ref());
    let torn = match (&states.key_protector, &key_protector) {
        (Some(found), Some(read)) if read.is_torn => {
            let what = read.remark.as_deref().unwrap_or("is torn");
            Some((found.index, format!("its VM key protector {what}")))
        }
        _ => None,
    };
    let security = machine.settings(&view);
    let whose = alone.map(|(id, _)| id);
    let guest_state = files
        .iter()
        .filter(|file| checkpoint_id(file.kind, file.path).as_ref() == whose)
        .find_map(|file| Some(file.guest_state.as_ref()?.entry(file.path)));
    remarks.extend(guest_state::remark_on_vtpm(
        security.tpm_enabled == Some(true),
        states.vtpm.is_some(),
        guest_state.as_ref(),
    ));
    let needs_key = security.tpm_enabled == Some(true) || states.vtpm.is_some();
    if needs_key && states.key_protector.is_none() {
        // What protects a guest state is not this kind of VM key protector, as far as is known.
        let consequence = match (&states.vtpm, &guest_state) {
            (None, Some(state)) if state.vtpm => "whether its guest state needs one is not known",
            _ => "restored like this it does not start",
        };
        remarks.push(format!("it has a vTPM and no VM key protector was found: {consequence}"));
    }
    let mut entries = Vec::with_capacity(checkpoints.len());
    for (id, checkpoint) in &checkpoints {
        let states = checkpoint.states(files, &format!("checkpoint {id}: "), &mut remarks)?;
        entries.push(CheckpointEntry {
            id: id.as_str().to_owned(),
            name: checkpoint.view.as_ref().and_then(|view| view.name.clone()),
            vtpm: states.vtpm.map(|found| found.value),
            key_protector: states.key_protector.map(|found| found.value),
        });
    }
    remark_on_listed_checkpoints(files, &checkpoints, &mut remarks);

    let configuration_version = view.version.map(|version| version.to_string());
    let runs_on = configuration_version.as_deref().map(hosts_that_run).unwrap_or_default();
    let owner_guardian = key_protector.as_ref().and_then(|read| read.owner);
    let record = VmRecord {
        vm_id: vm.vm_id.clone(),
        name: view.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| vm.vm_id.clone()),
        generation: match view.generation {
            Some(Generation::One) => Some(1),
            Some(Generation::Two) => Some(2),
            _ => None,
        },
        configuration_version,
        runs_on: runs_on.into_iter().map(str::to_owned).collect(),
        layout: vm.layout,
        place: vm.place.clone(),
        security,
        pairing,
        vtpm: states.vtpm.map(|found| found.value),
        key_protector: states.key_protector.map(|found| found.value),
        addressed_to: key_protector.and_then(|read| read.addressees),
        last_known_good_key_protector: states.last_known_good.map(|found| found.value),
        last_known_good_addressed_to: last_known_good.and_then(|read| read.addressees),
        disks: disks(&view),
        guest_state_path: view.guest_state_path,
        guest_state,
        checkpoints: entries,
        not_understood: not_understood(files),
        remarks,
    };
    Ok(Described { record, owner_guardian, torn })
}

/// What one VM's, or one checkpoint's, containers say.
#[derive(Debug, Default)]
struct Machine {
    /// The configuration.
    view: Option<VmConfiguration>,
    /// Security keys by file, runtime states first: that is where keys and state are expected.
    security: Vec<(usize, SecurityState)>,
}

impl Machine {
    /// Reads the containers of the VM, or of the checkpoint with an id.
    fn read<R: ReadAt<Error = io::Error>>(
        files: &[CapturedFile<'_, R>],
        checkpoint: Option<&Guid>,
    ) -> Result<Self, Failed> {
        let mut machine = Machine::default();
        for (index, file) in files.iter().enumerate() {
            let Some(container) = &file.container else { continue };
            if checkpoint_id(file.kind, file.path).as_ref() != checkpoint {
                continue;
            }
            match file.kind {
                ArtefactKind::Configuration | ArtefactKind::CheckpointConfiguration => {
                    let view = VmConfiguration::read(container).map_err(|error| (index, error))?;
                    machine.security.push((index, view.security.clone()));
                    machine.view.get_or_insert(view);
                }
                _ => machine.security.insert(0, (index, SecurityState::of(container.tree()))),
            }
        }
        Ok(machine)
    }

    fn is_empty(&self) -> bool {
        self.security.is_empty()
    }

    /// A setting of the configuration, else of the runtime state.
    fn setting(&self, read: impl Fn(&SecurityState) -> Option<bool>) -> Option<bool> {
        self.security.iter().rev().find_map(|(_, state)| read(state))
    }

    fn settings(&self, view: &VmConfiguration) -> SecuritySettings {
        let encrypt = self.setting(|state| state.encrypt_state_migration);
        SecuritySettings {
            tpm_enabled: self.setting(|state| state.tpm_enabled),
            shielding_requested: self.setting(|state| state.shielding_requested),
            encrypt_state_and_migration: encrypt
                .or_else(|| self.setting(|state| state.data_protection_requested)),
            secure_boot: view.secure_boot_enabled,
            secure_boot_template: view
                .secure_boot_template_id
                .as_ref()
                .filter(|id| !id.is_nil())
                .map(|id| id.as_str().to_owned()),
        }
    }

    /// Every value of a kind that is not empty, with its digest.
    fn found<R: ReadAt<Error = io::Error>>(
        &self,
        files: &[CapturedFile<'_, R>],
        kind: BlobKind,
        min_bytes: u64,
    ) -> Result<Vec<Found<'_>>, Failed> {
        let mut all = Vec::new();
        for (index, state) in &self.security {
            let Some(container) = files.get(*index).and_then(|file| file.container.as_ref()) else {
                continue;
            };
            for blob in state.blobs.iter().filter(|blob| blob.kind == kind && blob.size_bytes() >= min_bytes)
            {
                let digest = digest(container, blob).map_err(|error| (*index, error))?;
                let value = StateValue {
                    digest,
                    size: blob.size_bytes(),
                    file: files[*index].path.to_owned(),
                    key: blob.path.clone(),
                };
                all.push(Found { index: *index, blob, value });
            }
        }
        Ok(all)
    }

    /// Picks vTPM state and VM key protectors: of several such that come from one file.
    fn states<R: ReadAt<Error = io::Error>>(
        &self,
        files: &[CapturedFile<'_, R>],
        whose: &str,
        remarks: &mut Vec<String>,
    ) -> Result<States<'_>, Failed> {
        let mut pick = |what: &str, kind, min_bytes, preferred: Option<usize>| -> Result<_, Failed> {
            let mut all = self.found(files, kind, min_bytes)?;
            let differ = all.iter().any(|found| found.value.digest != all[0].value.digest);
            if differ {
                let places: Vec<&str> = all.iter().map(|found| found.value.file.as_str()).collect();
                remarks.push(format!(
                    "{whose}there are different values of its {what} in {}",
                    places.join(" and ")
                ));
            }
            let at = all.iter().position(|found| Some(found.index) == preferred).unwrap_or(0);
            Ok((!all.is_empty()).then(|| all.swap_remove(at)))
        };
        let file_of = |found: &Option<Found<'_>>| found.as_ref().map(|found| found.index);
        let mut vtpm = pick("vTPM state", BlobKind::VtpmNvram, 1, None)?;
        let key_protector =
            pick("VM key protector", BlobKind::KeyProtector, MIN_KEY_PROTECTOR_BYTES, file_of(&vtpm))?;
        if file_of(&key_protector) != file_of(&vtpm) && vtpm.is_some() {
            // The VM key protector is in one file only, which may hold vTPM state too.
            let all = self.found(files, BlobKind::VtpmNvram, 1)?;
            vtpm = all.into_iter().find(|found| Some(found.index) == file_of(&key_protector)).or(vtpm);
        }
        let last_known_good = pick(
            "last known good VM key protector",
            BlobKind::LastKnownGoodKeyProtector,
            MIN_KEY_PROTECTOR_BYTES,
            file_of(&key_protector),
        )?;
        match pairing(vtpm.as_ref(), key_protector.as_ref()) {
            Pairing::Mixed => remarks.push(format!(
                "{whose}its VM key protector and its vTPM state lie in different files, so nothing shows that they belong \
                 together"
            )),
            Pairing::KeyProtectorMissing => {
                remarks.push(format!("{whose}there is vTPM state and no VM key protector that could open it"));
            }
            Pairing::None | Pairing::CapturedTogether | Pairing::Torn | Pairing::Opens => {}
        }
        Ok(States { vtpm, key_protector, last_known_good })
    }
}

/// A value and the file it was found in.
#[derive(Debug)]
struct Found<'a> {
    index: usize,
    blob: &'a SecurityBlob,
    value: StateValue,
}

struct States<'a> {
    vtpm: Option<Found<'a>>,
    key_protector: Option<Found<'a>>,
    last_known_good: Option<Found<'a>>,
}

fn pairing(vtpm: Option<&Found<'_>>, key_protector: Option<&Found<'_>>) -> Pairing {
    match (vtpm, key_protector) {
        (None, _) => Pairing::None,
        (Some(_), None) => Pairing::KeyProtectorMissing,
        (Some(vtpm), Some(key_protector)) if vtpm.index == key_protector.index => Pairing::CapturedTogether,
        (Some(_), Some(_)) => Pairing::Mixed,
    }
}

/// The VM's own files that may hold vTPM state and were not read: what they hold is not known.
fn not_understood<R>(files: &[CapturedFile<'_, R>]) -> Vec<String> {
    let is_dark = |file: &&CapturedFile<'_, R>| match file.kind {
        ArtefactKind::Configuration | ArtefactKind::RuntimeState => file.container.is_none(),
        ArtefactKind::GuestState => file.guest_state.as_ref().is_none_or(GuestStateFacts::is_dark),
        _ => false,
    };
    files.iter().filter(is_dark).map(|file| file.path.to_owned()).collect()
}

/// The id of the checkpoint that a file belongs to.
fn checkpoint_id(kind: ArtefactKind, path: &str) -> Option<Guid> {
    let of_checkpoint = matches!(
        kind,
        ArtefactKind::CheckpointConfiguration
            | ArtefactKind::CheckpointRuntimeState
            | ArtefactKind::CheckpointGuestState
    );
    of_checkpoint.then(|| names::leading_guid(path.rsplit('/').next().unwrap_or_default()))?
}

fn checkpoints<R: ReadAt<Error = io::Error>>(
    files: &[CapturedFile<'_, R>],
) -> Result<BTreeMap<Guid, Machine>, Failed> {
    let mut checkpoints = BTreeMap::new();
    let ids: BTreeSet<Guid> = files.iter().filter_map(|file| checkpoint_id(file.kind, file.path)).collect();
    for id in ids {
        let machine = Machine::read(files, Some(&id))?;
        checkpoints.insert(id, machine);
    }
    Ok(checkpoints)
}

/// Computes the digest of a value without holding it whole.
fn digest<R: ReadAt<Error = io::Error>>(container: &Container<R>, blob: &SecurityBlob) -> io::Result<Digest> {
    let range = match &blob.location {
        BlobLocation::Inline(bytes) => return Ok(Digest::of(bytes)),
        BlobLocation::FileObject(range) => *range,
    };
    let mut builder = DigestBuilder::default();
    let mut buffer = vec![0; CHUNK_BYTES.min(range.size as usize)];
    let mut done = 0;
    while done < u64::from(range.size) {
        let need = (u64::from(range.size) - done).min(CHUNK_BYTES as u64) as usize;
        container.read_at(range.offset + done, &mut buffer[..need]).map_err(failed_read)?;
        builder.update(&buffer[..need]);
        done += need as u64;
    }
    Ok(builder.finish())
}

fn failed_read(error: ReadError<io::Error>) -> io::Error {
    match error {
        ReadError::Read(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Reads whom a VM key protector is for; what is odd about it is a remark.
fn read_key_protector<R: ReadAt<Error = io::Error>>(
    files: &[CapturedFile<'_, R>],
    found: &Found<'_>,
    whose: &str,
    remarks: &mut Vec<String>,
) -> Result<addressees::Read, Failed> {
    let nothing =
        |remark: Option<String>| addressees::Read { owner: None, addressees: None, remark, is_torn: false };
    let container = files.get(found.index).and_then(|file| file.container.as_ref());
    let read = match container.map(|container| found.blob.read(container, MAX_DOCUMENT_BYTES)) {
        Some(Ok(bytes)) => addressees::read(&bytes),
        Some(Err(ReadError::Read(error))) => return Err((found.index, error)),
        Some(Err(error)) => nothing(Some(format!("is not understood: {error}"))),
        None => nothing(None),
    };
    remarks.extend(read.remark.iter().map(|remark| format!("{whose} {remark}")));
    Ok(read)
}

fn disks(view: &VmConfiguration) -> Vec<DiskEntry> {
    // SCSI controllers are instances with one controller each; Hyper-V counts them in the order of the manifest.
    let mut scsi: Vec<&Guid> = Vec::new();
    let instances = view.devices.iter().map(|device| &device.instance);
    for instance in instances.chain(view.disks.iter().map(|disk| &disk.instance)) {
        let is_scsi = view
            .disks
            .iter()
            .any(|disk| disk.instance == *instance && disk.controller == ControllerKind::Scsi)
            || view.devices.iter().any(|device| device.instance == *instance && is_scsi_class(&device.class));
        if is_scsi && !scsi.contains(&instance) {
            scsi.push(instance);
        }
    }
    let is_disk = |disk: &&Disk| {
        let other = [DriveType::ISO, DriveType::VFD, DriveType::NONE];
        let kind = disk.drive_type.as_ref().map(|kind| kind.0.as_str()).unwrap_or_default();
        !other.into_iter().any(|other| kind.eq_ignore_ascii_case(other))
    };
    let entry = |disk: &Disk| {
        let path = disk.path.clone()?;
        let before = scsi.iter().position(|instance| **instance == disk.instance).unwrap_or(0) as u32;
        Some(DiskEntry {
            controller: disk.controller.to_string().to_ascii_lowercase(),
            controller_number: disk.controller_number.saturating_add(before),
            drive: disk.drive_number,
            path,
            head: None,
            problem: None,
        })
    };
    view.disks.iter().filter(is_disk).filter_map(entry).collect()
}

/// Class of a SCSI controller, which counts even without drives.
fn is_scsi_class(class: &Guid) -> bool {
    class.as_str() == "d422512d-2bf2-4752-809d-7b82b5fcb1b4"
}

fn remark_on_configuration(
    vm: &FoundVm,
    machine: &Machine,
    view: &VmConfiguration,
    remarks: &mut Vec<String>,
) {
    if machine.view.is_none() {
        remarks.push("there is no configuration that can be read; the files are kept as they are".to_owned());
        return;
    }
    match &view.vm_id {
        Some(id) if id.as_str() != vm.vm_id && !machine.is_empty() => remarks.push(format!(
            "its configuration carries the VM id {id}, its files the id {}; the id of the files counts",
            vm.vm_id
        )),
        _ => {}
    }
    if view.name.as_deref().unwrap_or_default().is_empty() {
        remarks.push("its configuration carries no name; its id stands for it".to_owned());
    }
    if let Some(Generation::Other(subtype)) = view.generation {
        remarks.push(format!("its generation is not known: subtype {subtype}"));
    }
    if let [first, rest @ ..] = view.unexpected.as_slice() {
        remarks.push(format!(
            "its configuration has {} values of an unexpected form, such as {} ({} instead of {})",
            rest.len() + 1,
            first.path,
            first.found,
            first.wanted
        ));
    }
}

fn remark_on_listed_checkpoints<R: ReadAt<Error = io::Error>>(
    files: &[CapturedFile<'_, R>],
    found: &BTreeMap<Guid, Machine>,
    remarks: &mut Vec<String>,
) {
    let configuration = files.iter().find(|file| file.kind == ArtefactKind::Configuration);
    let Some(container) = configuration.and_then(|file| file.container.as_ref()) else { return };
    for id in listed_checkpoints(container).into_iter().filter(|id| !found.contains_key(id)) {
        remarks.push(format!("its configuration lists checkpoint {id}, and no file of it was found"));
    }
}

/// Checkpoints that a configuration lists; the form of the list is unverified, so any GUID in it counts.
pub(crate) fn listed_checkpoints<R: ReadAt>(container: &Container<R>) -> Vec<Guid> {
    let mut listed = Vec::new();
    let mut open: Vec<_> = container.tree().get(CHECKPOINT_LIST).into_iter().collect();
    while let Some(node) = open.pop() {
        listed.extend(node.as_str().and_then(Guid::parse).filter(|id| !id.is_nil()));
        open.extend(node.children());
    }
    listed.sort();
    listed.dedup();
    listed
}
