//! What there is to protect: the table of DESIGN section 1, as data.
//!
//! Audit, explain and the recovery walk print from this table, so that no two of them tell a different story.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Class;

/// What a captured file or secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ArtefactKind {
    /// VMCX: configuration of a VM.
    Configuration,
    /// VMRS: runtime state of a VM, as far as known with VM key protector and vTPM state.
    RuntimeState,
    /// VMGS: guest state of a VM.
    GuestState,
    /// VMCX of a checkpoint.
    CheckpointConfiguration,
    /// VMRS of a checkpoint.
    CheckpointRuntimeState,
    /// VMGS of a checkpoint.
    CheckpointGuestState,
    /// Captured head of a virtual disk, as a tar archive: partition tables, metadata items, FVE metadata without clear
    /// keys, boot sectors. No content.
    DiskHead,
    /// FVE metadata in which a clear key stands, or may stand: a recovery secret, as a tar archive.
    DiskSecret,
    /// A companion's file: no file of a VM.
    Companion,
    /// A file of the VM that this program does not understand, kept byte-exact.
    Other,
}

impl ArtefactKind {
    /// Tells whether Hyper-V wrote the file, so that a restored VM has it too; what was read of disks is for recovery.
    pub fn is_vm_file(self) -> bool {
        !matches!(self, Self::DiskHead | Self::DiskSecret | Self::Companion)
    }
}

/// Whether and how an artefact could be had again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recreatable {
    /// It is unique.
    No,
    /// It can be made again from something else.
    Yes,
    /// It can, if what it was made from is held.
    IfIngredientsHeld,
}

/// A row of the table by the word that commands take for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtefactTopic {
    /// Configuration, runtime state, guest state, checkpoints.
    VmFiles,
    /// vTPM state.
    VtpmState,
    /// VM key protector.
    KeyProtector,
    /// Public certificates of guardians.
    Guardians,
    /// Local guardian certificates with private keys.
    LocalGuardianKeys,
    /// Private keys of the owner guardian.
    OwnerKeys,
    /// BitLocker recovery secrets.
    RecoverySecrets,
    /// FVE metadata.
    FveMetadata,
    /// Shielding data.
    ShieldingData,
    /// Volume signature catalog.
    VolumeSignatureCatalog,
    /// Template disk and its signing certificate.
    TemplateDisk,
    /// HGS server state.
    HgsState,
}

impl ArtefactTopic {
    /// All topics, in the order of the table.
    pub const ALL: [ArtefactTopic; 12] = [
        ArtefactTopic::VmFiles,
        ArtefactTopic::VtpmState,
        ArtefactTopic::KeyProtector,
        ArtefactTopic::Guardians,
        ArtefactTopic::LocalGuardianKeys,
        ArtefactTopic::OwnerKeys,
        ArtefactTopic::RecoverySecrets,
        ArtefactTopic::FveMetadata,
        ArtefactTopic::ShieldingData,
        ArtefactTopic::VolumeSignatureCatalog,
        ArtefactTopic::TemplateDisk,
        ArtefactTopic::HgsState,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::VmFiles => "vm-files",
            Self::VtpmState => "vtpm-state",
            Self::KeyProtector => "key-protector",
            Self::Guardians => "guardians",
            Self::LocalGuardianKeys => "local-guardian-keys",
            Self::OwnerKeys => "owner-keys",
            Self::RecoverySecrets => "recovery-secrets",
            Self::FveMetadata => "fve-metadata",
            Self::ShieldingData => "shielding-data",
            Self::VolumeSignatureCatalog => "volume-signature-catalog",
            Self::TemplateDisk => "template-disk",
            Self::HgsState => "hgs-state",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArtefactRow {
    /// Which row it is.
    pub topic: ArtefactTopic,
    /// What it is called.
    pub name: &'static str,
    /// Where it lies.
    pub lies: &'static str,
    /// Whether it could be had again.
    pub recreatable: Recreatable,
    /// How, or why not.
    pub how: &'static str,
    /// What its loss means.
    pub if_lost: &'static str,
    /// What its theft means; empty when nothing.
    pub if_stolen: &'static str,
    /// The class it is sealed under.
    pub class: Class,
}

/// The table: every artefact that a VM with a vTPM depends on.
pub const ARTEFACTS: &[ArtefactRow] = &[
    ArtefactRow {
        topic: ArtefactTopic::VmFiles,
        name: "VM configuration, runtime state, guest state, checkpoints",
        lies: "host",
        recreatable: Recreatable::No,
        how: "a VM can be built anew, but not with this vTPM",
        if_lost: "the VM must be rebuilt and its vTPM is gone",
        if_stolen: "",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::VtpmState,
        name: "vTPM state",
        lies: "host: runtime state (VMRS) as far as known, or guest state (VMGS)",
        recreatable: Recreatable::No,
        how: "unique, and it changes over the VM's whole life",
        if_lost: "the disk asks for its recovery password; without one the data are gone",
        if_stolen: "",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::KeyProtector,
        name: "VM key protector, and last known good",
        lies: "host: written together with the vTPM state",
        recreatable: Recreatable::No,
        how: "rolled at every start; a new one does not open the old vTPM state",
        if_lost: "the vTPM state cannot be decrypted",
        if_stolen: "with a stolen guardian key, old ones in backups open",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::Guardians,
        name: "guardians (public certificates)",
        lies: "VM key protector, HGS metadata, host store",
        recreatable: Recreatable::Yes,
        how: "from HGS metadata",
        if_lost: "an annoyance",
        if_stolen: "",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::LocalGuardianKeys,
        name: "local guardian certificates with private keys",
        lies: "host store \"Shielded VM Local Certificates\"",
        recreatable: Recreatable::No,
        how: "the keys exist only there",
        if_lost: "every local-mode vTPM of that host",
        if_stolen: "every local-mode vTPM of that host",
        class: Class::Secret,
    },
    ArtefactRow {
        topic: ArtefactTopic::OwnerKeys,
        name: "owner guardian private keys",
        lies: "the owner's PFX files",
        recreatable: Recreatable::No,
        how: "the keys exist only there",
        if_lost: "no second way into the vTPM",
        if_stolen: "all VMs of that owner",
        class: Class::Secret,
    },
    ArtefactRow {
        topic: ArtefactTopic::RecoverySecrets,
        name: "BitLocker recovery secrets",
        lies: "AD DS, Entra ID, MBAM, files, paper",
        recreatable: Recreatable::No,
        how: "only while the volume can still be unlocked another way",
        if_lost: "with the vTPM lost too: all encrypted volumes",
        if_stolen: "that volume",
        class: Class::Secret,
    },
    ArtefactRow {
        topic: ArtefactTopic::FveMetadata,
        name: "BitLocker (FVE) metadata, every generation",
        lies: "virtual disk",
        recreatable: Recreatable::No,
        how: "written by BitLocker alone",
        if_lost: "even a right key opens nothing",
        if_stolen: "with an old key: today's disk",
        class: Class::DiskHead,
    },
    ArtefactRow {
        topic: ArtefactTopic::ShieldingData,
        name: "shielding data (PDK) and its ingredients",
        lies: "owner",
        recreatable: Recreatable::IfIngredientsHeld,
        how: "from answer file, RDP certificate, policy and volume signature catalog; an .ebek needs this very file",
        if_lost: "an annoyance, or the last way in",
        if_stolen: "the secrets in it",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::VolumeSignatureCatalog,
        name: "volume signature catalog (VSC)",
        lies: "template disk",
        recreatable: Recreatable::Yes,
        how: "from its template disk",
        if_lost: "an annoyance",
        if_stolen: "",
        class: Class::Machine,
    },
    ArtefactRow {
        topic: ArtefactTopic::TemplateDisk,
        name: "shielded template disk's signing certificate",
        lies: "library; owner",
        recreatable: Recreatable::No,
        how: "the disk can be made again, the certificate cannot",
        if_lost: "old shielding data trust no new disk",
        if_stolen: "shielding data that trust it must be edited",
        class: Class::Secret,
    },
    ArtefactRow {
        topic: ArtefactTopic::HgsState,
        name: "HGS server state",
        lies: "HGS",
        recreatable: Recreatable::No,
        how: "exported by its administrator under a password",
        if_lost: "every VM must be re-keyed by its owner",
        if_stolen: "encrypted by its export password",
        class: Class::Machine,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_topic_in_order() {
        let rows: Vec<ArtefactTopic> = ARTEFACTS.iter().map(|row| row.topic).collect();
        assert_eq!(rows, ArtefactTopic::ALL);
        for topic in ArtefactTopic::ALL {
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.word());
        }
    }
}
