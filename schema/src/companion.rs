//! Companions: what VMs depend on and no file of a VM holds, kept from folders that `agent.toml` names.
//!
//! Shielding data, volume signature catalogs, guardian metadata, HGS exports, private keys of owners and guardians, template
//! disks. What is known of each stands here, for the audit; the bytes are artefacts of the class that their kind has.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Addressees, ArtefactEntry, CertificateEntry, Class, DiskHeadEntry, Finding, SubjectId, Time};

/// What a companion is; a folder of `agent.toml` holds companions of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CompanionKind {
    /// Shielding data file (PDK).
    ShieldingData,
    /// Volume signature catalog (VSC).
    VolumeSignatureCatalog,
    /// Guardian metadata (XML), or certificates of guardians.
    GuardianMetadata,
    /// Export of an HGS (Export-HgsServerState).
    HgsState,
    /// PFX files of an owner guardian.
    OwnerKeys,
    /// PFX files of a local guardian.
    LocalGuardianKeys,
    /// PFX files with which template disks are signed.
    TemplateSigningKeys,
    /// Shielded template disk: its identity and what its metadata hold, not its content.
    TemplateDisk,
    /// What shielding data or an HGS are made from or need beside them: answer files, certificates, lists.
    Ingredient,
}

impl CompanionKind {
    /// The class that its bytes are sealed under, unless a private key is found where none belongs.
    pub fn class(self) -> Class {
        match self {
            Self::ShieldingData | Self::VolumeSignatureCatalog | Self::GuardianMetadata | Self::HgsState => {
                Class::Machine
            }
            Self::OwnerKeys | Self::LocalGuardianKeys | Self::TemplateSigningKeys | Self::Ingredient => {
                Class::Secret
            }
            Self::TemplateDisk => Class::DiskHead,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShieldingData => "shielding data (PDK)",
            Self::VolumeSignatureCatalog => "volume signature catalog",
            Self::GuardianMetadata => "guardian metadata",
            Self::HgsState => "HGS export",
            Self::OwnerKeys => "owner keys",
            Self::LocalGuardianKeys => "local guardian keys",
            Self::TemplateSigningKeys => "template-signing keys",
            Self::TemplateDisk => "template disk",
            Self::Ingredient => "ingredient",
        }
    }
}

impl fmt::Display for CompanionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One captured companion, in the body of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompanionEntry {
    /// Its subject id in this writer's records.
    pub subject: SubjectId,
    /// When it was read.
    pub captured: Time,
    /// What is known of it.
    pub companion: CompanionRecord,
    /// Its bytes.
    pub artefacts: Vec<ArtefactEntry>,
}

/// What is known of a companion; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompanionRecord {
    /// Its identity on its host: `companion/`, the name of the configured folder, and the path in it.
    pub id: String,
    /// What it is.
    pub kind: CompanionKind,
    /// Name of the file.
    pub name: String,
    /// The file, as the host knows it.
    pub place: String,
    /// Whether a private key was recognised in it; what is in a PFX under a password counts as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private_key: bool,
    /// Certificates that stand in it or in the certificate file beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CompanionCertificate>,
    /// Whom the VM key protector in shielding data is for; found by search, as their format is not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressed_to: Option<Addressees>,
    /// VMs, by name or id, that the configuration says it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<String>,
    /// What it is made from, or leaves out, and which of it lay beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<NeedEntry>,
    /// Identity and metadata items of a template disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskHeadEntry>,
    /// What a person should do something about, such as a private key that lies open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A certificate of a companion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompanionCertificate {
    /// Name of the guardian, or the subject.
    pub name: String,
    /// The host that made it, for a local guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Thumbprints and validity.
    pub certificate: CertificateEntry,
}

/// Something that a companion needs beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeedEntry {
    /// What it is.
    pub what: String,
    /// How to have it, where it is missing.
    pub how: String,
    /// Files that are taken for it; none where it is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
}

impl CompanionRecord {
    /// A companion of which nothing is known but where it is.
    pub fn new(id: String, kind: CompanionKind, name: String, place: String) -> Self {
        Self {
            id,
            kind,
            name,
            place,
            private_key: false,
            certificates: Vec::new(),
            addressed_to: None,
            vms: Vec::new(),
            needs: Vec::new(),
            disk: None,
            findings: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Tells whether a certificate of it stands in a VM key protector, or the configuration names the VM.
    pub fn serves(&self, vm: &crate::VmRecord) -> bool {
        let is_named = |wanted: &String| {
            wanted.trim_matches(['{', '}']).to_lowercase() == vm.vm_id
                || wanted.to_lowercase() == vm.name.to_lowercase()
        };
        let of_vm: Vec<_> = vm
            .addressed_to
            .iter()
            .chain(&vm.last_known_good_addressed_to)
            .flat_map(Addressees::all)
            .flat_map(|guardian| [guardian.signing.sha256, guardian.encryption.sha256])
            .collect();
        let own = self.certificates.iter().map(|one| one.certificate.sha256);
        // Shielding data make VMs of their owner; that their guardians guard others too says nothing.
        let owners = self.addressed_to.iter().flat_map(|addressees| &addressees.owners);
        let mut all = own.chain(owners.map(|owner| owner.signing.sha256));
        self.vms.iter().any(is_named) || all.any(|thumbprint| of_vm.contains(&thumbprint))
    }
}
