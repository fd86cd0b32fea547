//! The answer sheet: what each VM of a fabric has and lacks.
//!
//! Values are in the types of the schema, under the names of `VmRecord`, so that a test can compare them as they are. The sheet
//! holds what an owner would keep secret, such as transport keys: it is for tests, and lies outside the folders of the hosts.

use std::collections::BTreeSet;

use lifeboat_schema::{
    ArtefactKind, CheckpointEntry, Class, Digest, DiskEntry, Layout, Pairing, ProtectorKind, Role,
    SecuritySettings, StateValue,
};
use serde::{Deserialize, Serialize};

use super::cast::{Player, Wrapped};
use super::options::{FabricOptions, VmKind, VmTrait, VolumeKind};

/// Name of the answer sheet in the folder of a fabric.
pub const ANSWERS_FILE: &str = "answers.json";

/// Version of the answer sheet.
pub const ANSWERS_VERSION: u32 = 3;

/// What there is in a fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Version of the sheet.
    pub version: u32,
    /// What the fabric was made from.
    pub options: FabricOptions,
    /// Number of times that it was aged.
    pub rounds: u32,
    /// Number that the next new VM gets.
    pub next_number: u32,
    /// Names of the hosts; each has a folder.
    pub hosts: Vec<String>,
    /// Owners and guardians.
    pub guardians: Vec<GuardianAnswer>,
    /// VMs that exist, by number.
    pub vms: Vec<VmAnswer>,
    /// VMs that were deleted, as they were last.
    pub deleted: Vec<VmAnswer>,
}

impl Answers {
    /// Finds an existing VM by id or name.
    pub fn vm(&self, id_or_name: &str) -> Option<&VmAnswer> {
        self.vms.iter().find(|vm| vm.vm_id == id_or_name || vm.name == id_or_name)
    }

    /// Walks the existing VMs of a kind.
    pub fn of_kind(&self, kind: VmKind) -> impl Iterator<Item = &VmAnswer> {
        self.vms.iter().filter(move |vm| vm.kind == kind)
    }

    /// Walks the existing VMs with a trait.
    pub fn with_trait(&self, special: VmTrait) -> impl Iterator<Item = &VmAnswer> {
        self.vms.iter().filter(move |vm| vm.traits.contains(&special))
    }

    /// Walks the existing VMs that lack something.
    pub fn lacking(&self, lack: Lack) -> impl Iterator<Item = &VmAnswer> {
        self.vms.iter().filter(move |vm| vm.lacks.contains(&lack))
    }

    /// Walks the existing VMs of a host.
    pub fn on_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a VmAnswer> {
        self.vms.iter().filter(move |vm| vm.host == host)
    }

    /// Walks the markers of existing and deleted VMs.
    pub fn markers(&self) -> impl Iterator<Item = &Marker> {
        self.vms.iter().chain(&self.deleted).flat_map(|vm| &vm.markers)
    }

    /// Walks the markers that a role may not find in anything it can open.
    pub fn markers_hidden_from(&self, role: Role) -> impl Iterator<Item = &Marker> {
        self.markers().filter(move |marker| !marker.is_for(role))
    }

    /// Answers the bytes of all files of existing VMs.
    pub fn total_bytes(&self) -> u64 {
        self.vms.iter().flat_map(|vm| &vm.files).map(|file| file.size).sum()
    }
}

/// An owner or guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardianAnswer {
    /// Who it is.
    pub player: Player,
    /// Name, as in the certificates.
    pub name: String,
    /// SHA-256 thumbprint of the signing certificate.
    pub signing_sha256: Digest,
    /// SHA-1 thumbprint of the signing certificate, in upper case as Windows shows it.
    pub signing_sha1: String,
    /// SHA-256 thumbprint of the encryption certificate.
    pub encryption_sha256: Digest,
    /// SHA-1 thumbprint of the encryption certificate, in upper case as Windows shows it.
    pub encryption_sha1: String,
}

/// What is true of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmAnswer {
    /// Number in the fabric; never used twice.
    pub number: u32,
    /// GUID in lower case.
    pub vm_id: String,
    /// Name; unique in the fabric.
    pub name: String,
    /// What it is.
    pub kind: VmKind,
    /// What is special about it.
    pub traits: BTreeSet<VmTrait>,
    /// Generation.
    pub generation: u8,
    /// Configuration version, such as `10.0`.
    pub configuration_version: String,
    /// Host that has it now.
    pub host: String,
    /// How its files lie.
    pub layout: Layout,
    /// Number of times that configuration and guest state changed.
    pub revision: u32,
    /// Number of times that the VM key protector was rolled and the vTPM state written.
    pub rolls: u32,
    /// Files, configuration first.
    pub files: Vec<FileAnswer>,
    /// Security settings.
    pub security: SecuritySettings,
    /// vTPM state.
    pub vtpm: Option<StateValue>,
    /// VM key protector; none when it is empty.
    pub key_protector: Option<StateValue>,
    /// Last known good VM key protector: the same bytes, as Hyper-V sets both to the newest.
    pub last_known_good_key_protector: Option<StateValue>,
    /// Transport key of the vTPM state, in hexadecimal digits; only owners and guardians could know it.
    pub transport_key: Option<String>,
    /// Whom the VM key protector is for.
    pub wrapped: Option<Wrapped>,
    /// SHA-256 thumbprint of the owner guardian's signing certificate.
    pub owner: Option<Digest>,
    /// SHA-256 thumbprints of the guardians' signing certificates, in the order of their wrappings.
    pub guardians: Vec<Digest>,
    /// Whether VM key protector and vTPM state stand in one file.
    pub pairing: Pairing,
    /// Disks that the configuration names, in its order.
    pub disks: Vec<DiskEntry>,
    /// What disk files say of themselves; empty without disk files.
    pub disk_files: Vec<DiskAnswer>,
    /// Path of the VMGS in the configuration.
    pub guest_state_path: String,
    /// Checkpoints.
    pub checkpoints: Vec<CheckpointEntry>,
    /// What it has not.
    pub lacks: BTreeSet<Lack>,
    /// What can be searched for.
    pub markers: Vec<Marker>,
}

impl VmAnswer {
    /// Finds the first file of a kind.
    pub fn file(&self, kind: ArtefactKind) -> Option<&FileAnswer> {
        self.files.iter().find(|file| file.kind == kind)
    }

    /// Tells whether no copy of its files can be whole.
    pub fn is_torn(&self) -> bool {
        self.lacks.contains(&Lack::WholeCopy)
    }
}

/// One file of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAnswer {
    /// Place in the VM's folder of an export, with `/`.
    pub path: String,
    /// Place in the folder of the fabric, with `/`, beginning with the host.
    pub place: String,
    /// What it is. Disk files are `other`: they are more than a disk head.
    pub kind: ArtefactKind,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 digest of its bytes as they lie there, torn or not.
    pub digest: Digest,
    /// Whether it is whole.
    pub state: FileState,
}

/// Whether a file is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// Whole.
    Whole,
    /// Whole, with a valid replay log that is pending.
    Dirty,
    /// Not whole, and its checksums show it.
    Torn(Tear),
}

/// How a file was torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tear {
    /// Its end is missing.
    Truncated,
    /// One bit is wrong.
    Flipped,
    /// Its second half was never written and is zero.
    HalfWritten,
}

/// What a disk file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskAnswer {
    /// Its file, as the path in the VM's folder of an export.
    pub path: String,
    /// Page-83 identity.
    pub virtual_disk_id: String,
    /// DataWriteGuid.
    pub data_write_guid: String,
    /// DataWriteGuid of the parent, for a differencing disk.
    pub parent_data_write_guid: Option<String>,
    /// Size of the virtual disk in bytes.
    pub virtual_size_bytes: u64,
    /// GPT id of the disk.
    pub gpt_disk_id: String,
    /// GPT ids of the partitions.
    pub gpt_partition_ids: Vec<String>,
    /// The encrypted volume, its third partition; none where nothing is encrypted. That of a differencing disk is its
    /// parent's.
    pub volume: Option<VolumeAnswer>,
}

/// What is true of an encrypted volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeAnswer {
    /// What encrypts it.
    pub encryption: VolumeKind,
    /// First byte on the disk.
    pub offset_bytes: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether a clear key stands in its metadata now.
    pub is_suspended: bool,
    /// BitLocker's id of the volume.
    pub volume_id: Option<String>,
    /// Its BitLocker protectors, in disk order.
    pub protectors: Vec<ProtectorAnswer>,
    /// The recovery password, if there is one; other volumes of the fabric may have the same.
    pub recovery_password: Option<String>,
    /// BLAKE3 digest of its FVE metadata region.
    pub fve_metadata: Option<Digest>,
}

/// A BitLocker protector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectorAnswer {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: ProtectorKind,
}

/// What a VM has not, of what a person may miss one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// It has no vTPM, and so no vTPM state and no VM key protector.
    Vtpm,
    /// It has vTPM state without a VM key protector: it cannot start.
    KeyProtector,
    /// No guardian but its owner can open its VM key protector.
    Guardian,
    /// The recovery fabric cannot start it, though the primary can.
    RecoveryFabric,
    /// Its virtual disks have no files here.
    DiskFiles,
    /// A file of it is torn.
    WholeCopy,
}

/// Bytes that occur in one place of one VM and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// Where they are planted.
    pub planted: Planted,
    /// Class of the objects that may hold them, of several the one that most roles can open; `None` when no object may.
    pub class: Option<Class>,
    /// The bytes to search for.
    #[serde(with = "hex_bytes")]
    pub bytes: Vec<u8>,
}

impl Marker {
    /// Tells whether a role may find the marker in what it can open.
    pub fn is_for(&self, role: Role) -> bool {
        self.class.is_some_and(|class| class.roles().contains(&role))
    }
}

/// Where a marker is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planted {
    /// The VM's name in UTF-8; known to every role, and to nobody without an identity.
    Name,
    /// The notes in the VMCX, in UTF-16.
    Notes,
    /// The vTPM state; the same bytes in every state of the VM.
    VtpmState,
    /// The vTPM state of a checkpoint.
    CheckpointVtpmState,
    /// A part of the guardian signature of the VM key protector; changes when it is rolled.
    KeyProtector,
    /// The guest state.
    GuestState,
    /// The name of a partition in the GPT, in UTF-16.
    PartitionTable,
    /// A sector of the guest's data.
    GuestData,
    /// The clear key in the FVE metadata of a suspended volume.
    ClearKey,
    /// The transport key itself, which stands in no file.
    TransportKey,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as hexadecimal digits.
mod hex_bytes {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pair = |at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (0..text.len())
            .step_by(2)
            .map(|at| pair(at).ok_or_else(|| D::Error::custom("not hexadecimal digits")))
            .collect()
    }
}
