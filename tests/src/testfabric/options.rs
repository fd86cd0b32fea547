//! What to make: how many VMs, of which kinds, in which layout.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::FabricError;
use super::stream::Stream;

/// Choices for a fabric. Start from [`FabricOptions::new`] and change fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FabricOptions {
    /// Number of VMs.
    pub vms: u32,
    /// Everything but the RSA keys follows from it.
    pub seed: u64,
    /// The RSA keys of owners and guardians follow from it. It is apart from `seed`, because making keys takes seconds and
    /// fabrics of one process can share them.
    pub guardian_seed: u64,
    /// Number of hosts, over which the VMs are spread.
    pub hosts: u32,
    /// How the files lie.
    pub layout: FabricLayout,
    /// Whether virtual disks have files.
    pub disks: DiskFiles,
    /// Which kinds of VM there are.
    pub mix: Mix,
    /// Sizes of what fills the files.
    pub sizes: Sizes,
    /// What encrypts the volumes, and how many disks there are.
    #[serde(default)]
    pub volumes: VolumeMix,
}

impl FabricOptions {
    /// Creates the options of one host in the live layout, with all kinds of VM and without disk files.
    pub fn new(vms: u32, seed: u64) -> Self {
        Self {
            vms,
            seed,
            guardian_seed: 0,
            hosts: 1,
            layout: FabricLayout::Live,
            disks: DiskFiles::None,
            mix: Mix::All,
            sizes: Sizes::default(),
            volumes: VolumeMix::Usual,
        }
    }

    pub(crate) fn check(&self) -> Result<(), FabricError> {
        let rule = |option, found: u64, good: bool, why| match good {
            true => Ok(()),
            false => Err(FabricError::Option { option, found, why }),
        };
        let sizes = &self.sizes;
        let guest_state = u64::from(sizes.guest_state_bytes);
        rule("hosts", self.hosts.into(), (1..=1000).contains(&self.hosts), "there are 1 to 1000 hosts")?;
        rule("vms", self.vms.into(), self.vms <= 1_000_000, "there are at most 1000000 VMs")?;
        rule(
            "guest_state_bytes",
            guest_state,
            guest_state.is_multiple_of(4096) && (65_536..=64 << 20).contains(&guest_state),
            "it must be a multiple of 4096 from 64 KiB to 64 MiB",
        )?;
        rule(
            "vtpm_state_bytes",
            sizes.vtpm_state_bytes.into(),
            (4096..=16 << 20).contains(&sizes.vtpm_state_bytes),
            "it must be from 4 KiB to 16 MiB, so that the value is a file object with room for its marker",
        )?;
        rule(
            "configuration_random_bytes",
            sizes.configuration_random_bytes.into(),
            sizes.configuration_random_bytes <= 16 << 20,
            "it must be at most 16 MiB",
        )
    }
}

/// How the files of a fabric lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FabricLayout {
    /// `Hyper-V/Virtual Machines`, `Snapshots` and disks of all VMs together.
    Live,
    /// A folder per VM below `Exports`, as Export-VM writes it.
    Export,
    /// Some this way, some that way.
    Mixed,
}

/// Whether virtual disks have files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFiles {
    /// The configuration names disks that are not there.
    None,
    /// Sparse VHDX files with a partition table and the heads of volumes, most of them encrypted.
    Sparse,
}

/// What encrypts the volume that a machine starts from, or the first one of a disk with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// Nothing.
    None,
    /// BitLocker with a recovery password.
    BitLocker,
    /// BitLocker whose only way in is the TPM, or a key on another volume.
    TpmOnly,
    /// BitLocker that is suspended in each even generation of its metadata: a clear key stands on the disk.
    Suspended,
    /// LUKS.
    Luks,
    /// Something that nothing tells.
    Unknown,
    /// BitLocker whose recovery password is another one in each next generation of its metadata.
    Renewed,
    /// BitLocker of which no copy of the metadata can be used.
    Damaged,
}

/// Which kinds of volume there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeMix {
    /// Half of them plain BitLocker, on one disk for most VMs.
    #[default]
    Usual,
    /// Of each kind some, on two disks for most VMs.
    Every,
}

impl VolumeKind {
    /// Of each ten numbers, every kind; half of them plain BitLocker.
    pub(crate) fn of(mix: VolumeMix, number: u32) -> Self {
        match mix {
            VolumeMix::Every if number % 13 < 3 => return Self::Renewed,
            VolumeMix::Every if number % 13 == 3 => return Self::Damaged,
            VolumeMix::Usual | VolumeMix::Every => {}
        }
        match number % 10 {
            0 => Self::Suspended,
            1 => Self::Luks,
            2 => Self::Unknown,
            3 => Self::TpmOnly,
            4 => Self::None,
            _ => Self::BitLocker,
        }
    }

    /// Tells whether BitLocker encrypts it.
    pub fn is_bitlocker(self) -> bool {
        matches!(self, Self::BitLocker | Self::TpmOnly | Self::Suspended | Self::Renewed | Self::Damaged)
    }
}

/// Sizes of what fills the files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Random bytes in the VMCX.
    pub configuration_random_bytes: u32,
    /// vTPM state in the VMRS.
    pub vtpm_state_bytes: u32,
    /// VMGS without its footer; half of it is zero.
    pub guest_state_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { configuration_random_bytes: 12_000, vtpm_state_bytes: 40_000, guest_state_bytes: 128 << 10 }
    }
}

/// What a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmKind {
    /// Generation 2, shielded, on a guarded host.
    Shielded,
    /// Generation 2, encryption supported, on a guarded host.
    EncryptionSupported,
    /// Generation 2 with a vTPM in local mode: its VM key protector has an owner and no guardian.
    LocalMode,
    /// Generation 2 without a vTPM.
    WithoutVtpm,
    /// Generation 1, which has no vTPM.
    GenerationOne,
}

impl VmKind {
    /// Tells whether such a VM has a vTPM.
    pub fn has_vtpm(self) -> bool {
        matches!(self, Self::Shielded | Self::EncryptionSupported | Self::LocalMode)
    }

    /// Answers the generation.
    pub fn generation(self) -> u8 {
        if self == Self::GenerationOne { 1 } else { 2 }
    }
}

/// What is special about a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmTrait {
    /// It has a checkpoint, with configuration, runtime state and guest state of its own.
    Checkpoint,
    /// Its runtime state holds saved memory.
    SavedState,
    /// Its VMCX has pending log entries, which are valid.
    DirtyConfiguration,
    /// Its VMRS has pending log entries, which are valid.
    DirtyRuntimeState,
    /// It has vTPM state and no key for a VM key protector.
    KeyProtectorAbsent,
    /// It has vTPM state and a VM key protector of length zero (`00 00 00 04`).
    KeyProtectorEmpty,
    /// Its VM key protector is in the VMCX and its vTPM state in the VMRS.
    KeyProtectorInConfiguration,
}

/// What one VM is, and what is special about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmPlan {
    /// What it is.
    pub kind: VmKind,
    /// What is special about it. Traits of the VM key protector say nothing of a VM without vTPM.
    pub traits: BTreeSet<VmTrait>,
}

impl VmPlan {
    /// Plans a VM.
    pub fn new(kind: VmKind, traits: impl IntoIterator<Item = VmTrait>) -> Self {
        Self { kind, traits: traits.into_iter().collect() }
    }
}

/// Which kinds of VM there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Of each [`VMS_PER_MIX`] VMs in the order of their numbers, every kind and every trait; the seed orders them.
    All,
    /// These in turn.
    Only(Vec<VmPlan>),
}

/// Number of VMs among which [`Mix::All`] has every kind and trait.
pub const VMS_PER_MIX: u32 = EVERYTHING.len() as u32;

const EVERYTHING: [(VmKind, Option<VmTrait>); 16] = [
    (VmKind::Shielded, None),
    (VmKind::Shielded, None),
    (VmKind::Shielded, Some(VmTrait::Checkpoint)),
    (VmKind::Shielded, Some(VmTrait::DirtyRuntimeState)),
    (VmKind::Shielded, Some(VmTrait::SavedState)),
    (VmKind::Shielded, Some(VmTrait::KeyProtectorAbsent)),
    (VmKind::EncryptionSupported, None),
    (VmKind::EncryptionSupported, None),
    (VmKind::EncryptionSupported, Some(VmTrait::KeyProtectorEmpty)),
    (VmKind::EncryptionSupported, Some(VmTrait::DirtyConfiguration)),
    (VmKind::LocalMode, None),
    (VmKind::LocalMode, Some(VmTrait::Checkpoint)),
    (VmKind::LocalMode, Some(VmTrait::KeyProtectorInConfiguration)),
    (VmKind::WithoutVtpm, None),
    (VmKind::GenerationOne, None),
    (VmKind::GenerationOne, Some(VmTrait::SavedState)),
];

impl Mix {
    /// Answers the plan of a VM by its number.
    pub(crate) fn plan(&self, seed: u64, number: u32) -> VmPlan {
        match self {
            Mix::Only(plans) if !plans.is_empty() => plans[number as usize % plans.len()].clone(),
            Mix::All | Mix::Only(_) => {
                let mut slots = EVERYTHING;
                Stream::new(seed, "mix", &[u64::from(number / VMS_PER_MIX)]).shuffle(&mut slots);
                let (kind, special) = slots[(number % VMS_PER_MIX) as usize];
                VmPlan::new(kind, special)
            }
        }
    }
}
