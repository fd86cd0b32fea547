//! What is known of one VM from its files: the audit's view, which holds no secret and no content.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Addressees, Digest, DiskHeadEntry, GuestStateEntry};

/// A VM as its captured files describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmRecord {
    /// The VM's id: a GUID in lower case without braces.
    pub vm_id: String,
    /// The VM's name.
    pub name: String,
    /// 1 or 2, where the configuration says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u8>,
    /// Configuration version, such as `10.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_version: Option<String>,
    /// Host versions that run this configuration version, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs_on: Vec<String>,
    /// How its files lay on the host.
    pub layout: Layout,
    /// Folder that they lay in, as the source names it.
    pub place: String,
    /// Security settings of the configuration.
    pub security: SecuritySettings,
    /// vTPM state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtpm: Option<StateValue>,
    /// VM key protector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_protector: Option<StateValue>,
    /// Whom the VM key protector is for, where it is understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressed_to: Option<Addressees>,
    /// Last known good VM key protector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_good_key_protector: Option<StateValue>,
    /// Whom the last known good VM key protector is for, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_good_addressed_to: Option<Addressees>,
    /// Whether VM key protector and vTPM state come from one file copy.
    pub pairing: Pairing,
    /// Virtual disks that the configuration names.
    pub disks: Vec<DiskEntry>,
    /// Path of the guest-state file that the configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_state_path: Option<String>,
    /// Guest state that was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_state: Option<GuestStateEntry>,
    /// Checkpoints, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointEntry>,
    /// Captured files of the VM itself whose content is not understood, or not all of it: what they hold is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<String>,
    /// What about these files a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl VmRecord {
    /// A VM of which no more is known than these: no setting, no vTPM state, no VM key protector, no disk.
    pub fn unexplored(
        vm_id: impl Into<String>,
        name: impl Into<String>,
        layout: Layout,
        place: impl Into<String>,
    ) -> Self {
        Self {
            vm_id: vm_id.into(),
            name: name.into(),
            generation: None,
            configuration_version: None,
            runs_on: Vec::new(),
            layout,
            place: place.into(),
            security: SecuritySettings::default(),
            vtpm: None,
            key_protector: None,
            addressed_to: None,
            last_known_good_key_protector: None,
            last_known_good_addressed_to: None,
            pairing: Pairing::None,
            disks: Vec::new(),
            guest_state_path: None,
            guest_state: None,
            checkpoints: Vec::new(),
            not_understood: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Tells what the capture saw of vTPM state. What was not seen is not said to be absent.
    pub fn vtpm_sight(&self) -> VtpmSight {
        let security = &self.security;
        let is_wanted = security.tpm_enabled == Some(true) || security.shielding_requested == Some(true);
        let was_read = self.generation.is_some() || self.configuration_version.is_some();
        let is_named_and_missing = self.guest_state_path.is_some() && self.guest_state.is_none();
        if self.vtpm.is_some() {
            VtpmSight::Captured
        } else if self.guest_state.as_ref().is_some_and(|state| state.vtpm) {
            VtpmSight::InGuestState
        } else if is_wanted || self.key_protector.is_some() {
            VtpmSight::NotSeen
        } else if security.tpm_enabled == Some(false) || self.generation == Some(1) {
            VtpmSight::Off
        } else if !was_read || !self.not_understood.is_empty() || is_named_and_missing {
            VtpmSight::NotKnown
        } else {
            VtpmSight::NoSign
        }
    }
}

/// What a capture saw of a VM's vTPM state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtpmSight {
    /// It lies in configuration or runtime state; [`Pairing`] says beside which VM key protector.
    Captured,
    /// It lies in the guest state.
    InGuestState,
    /// The VM has a vTPM, or a VM key protector, and no captured file shows vTPM state.
    NotSeen,
    /// Files that would tell were not understood, or not there.
    NotKnown,
    /// There is none: the configuration says that the vTPM is off, or the VM is of generation 1, which has none.
    Off,
    /// Everything was read, and nothing speaks of a vTPM.
    NoSign,
}

/// How the files of a VM lay on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `Virtual Machines`, `Snapshots` and disks of many VMs below one root.
    Live,
    /// One folder per VM, as Export-VM writes it.
    Export,
}

/// Security settings; a setting that the configuration does not carry is absent, which Hyper-V takes for false.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecuritySettings {
    /// A vTPM is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_enabled: Option<bool>,
    /// The shielded policy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shielding_requested: Option<bool>,
    /// State and migration traffic are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt_state_and_migration: Option<bool>,
    /// Secure Boot is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Id of the Secure Boot template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot_template: Option<String>,
}

/// A value found in a configuration or runtime-state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateValue {
    /// BLAKE3 digest of the value's bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Captured file that holds it, as its artefact's path.
    pub file: String,
    /// Key in that file.
    pub key: String,
}

/// What can be said of VM key protector and vTPM state belonging together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// The VM has no vTPM state.
    None,
    /// Both were read from one copy of one file.
    CapturedTogether,
    /// They stand in different files of one capture.
    Mixed,
    /// vTPM state without a VM key protector.
    KeyProtectorMissing,
    /// One of them is not whole, though its file is: the VM key protector breaks off. A capture of today refuses that.
    Torn,
    /// From one file copy, and an owner's or guardian's key verified the transport-key signature with a confirmed
    /// algorithm. A host holds no such key, so no capture says this; who has the key can.
    Opens,
}

/// A virtual disk by its place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskEntry {
    /// `ide` or `scsi`.
    pub controller: String,
    /// Number of the controller.
    pub controller_number: u32,
    /// Number of the drive on it.
    pub drive: u32,
    /// Path as the host knows it.
    pub path: String,
    /// What was captured of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<DiskHeadEntry>,
    /// Why nothing, or not all that should be, was captured of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// [`DiskEntry::problem`] of a disk that lies where no source looks.
pub const DISK_NOT_FOUND: &str =
    "its file was not found below the roots; make the folder that it lies in a root";

impl DiskEntry {
    /// Tells whether the disk lies where no source looks, which is usual where disks are other tools' to back up.
    pub fn is_elsewhere(&self) -> bool {
        self.problem.as_deref() == Some(DISK_NOT_FOUND)
    }

    /// Tells whether two entries are the same place of a configuration, whatever was captured of the disk.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place =
            |disk: &Self| (disk.controller.clone(), disk.controller_number, disk.drive, disk.path.clone());
        place(self) == place(other)
    }
}

/// A checkpoint whose configuration was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointEntry {
    /// The checkpoint's id: a GUID in lower case without braces.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its vTPM state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtpm: Option<StateValue>,
    /// Its VM key protector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_protector: Option<StateValue>,
}
