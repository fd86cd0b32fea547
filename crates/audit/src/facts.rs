//! What the audit knows: states of VMs, generations of volumes, secrets, proofs, companions. No secret, no content.
//!
//! Taken from bodies by [`VmFacts::of`] and its like, kept by the catalog as JSON, and judged by the pure modules. Each holds
//! what a verdict rests on and nothing else, so that a fleet fits into memory.

use std::collections::BTreeMap;

use lifeboat_schema::{
    Addressees, BitLockerInfo, CarriedWhy, CertificateEntry, CompanionCertificate, CompanionEntry,
    CompanionKind, Digest, DigestBuilder, DiskEntry, DiskHeadEntry, EncryptionKind, EscrowEntry, Finding,
    GuardianEntry, OwnerId, Pairing, PartitionScheme, ProofEntry, ProofOutcome, ProtectorInfo, ProtectorKind,
    SecretKind, SignatureState, SubjectId, Time, VmRecord, VolumeHeadEntry, VolumeState as BitLockerState,
    VtpmAnswer, VtpmSight, WriterId,
};
use serde::{Deserialize, Serialize};

/// Everything that an audit rests on.
#[derive(Debug, Default)]
pub struct Facts {
    /// Names of owners.
    pub owners: BTreeMap<OwnerId, String>,
    /// Writers of snapshots.
    pub hosts: Vec<HostFacts>,
    /// VMs in each host's newest record.
    pub states: Vec<StateFacts>,
    /// Every generation of every BitLocker volume that a snapshot captured.
    pub generations: Vec<Generation>,
    /// Escrowed secrets.
    pub secrets: Vec<SecretFacts>,
    /// What was proved and refuted.
    pub proofs: Vec<ProofFacts>,
    /// Companions in each host's newest record.
    pub companions: Vec<CompanionFacts>,
    /// Owners and guardians by their id here.
    pub guardians: BTreeMap<GuardianId, GuardianEntry>,
    /// Every captured state that a record still names, with the records that do; only read for a stolen key.
    pub captures: Vec<CaptureFacts>,
    /// What could not be read.
    pub findings: Vec<Finding>,
    /// Whether there was any body, and whether one could be opened.
    pub had_bodies: bool,
    /// Whether a body was opened.
    pub opened_something: bool,
}

/// A host that writes snapshots.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Its writer id.
    pub writer: WriterId,
    /// Its name.
    pub name: String,
    /// When its newest snapshot began and ended.
    pub last_run: (Time, Time),
    /// Whether the newest policy still lets it write.
    pub is_active: bool,
}

/// One VM in a host's newest record.
#[derive(Debug, Clone)]
pub struct StateFacts {
    /// Index of the host in [`Facts::hosts`].
    pub host: usize,
    /// Owner of the body that describes it.
    pub owner: OwnerId,
    /// When its files were read.
    pub captured: Time,
    /// Set when the record only carries it.
    pub carried: Option<Carried>,
    /// What its files say.
    pub vm: VmFacts,
}

/// Why and since when an older capture stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Why.
    pub why: CarriedWhy,
    /// Since when.
    pub since: Time,
    /// The error's text where there was one.
    pub error: Option<String>,
}

/// An owner or guardian by both of its certificates.
pub type GuardianId = Digest;

/// The id of a guardian.
pub(crate) fn guardian_id(guardian: &GuardianEntry) -> GuardianId {
    let mut both = DigestBuilder::default();
    both.update(guardian.signing.sha256.as_bytes());
    both.update(guardian.encryption.sha256.as_bytes());
    both.finish()
}

/// What is known of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFacts {
    /// Its id.
    pub vm_id: String,
    /// Its name.
    pub name: String,
    /// Its vTPM state.
    pub vtpm: VtpmAnswer,
    /// Files that were not understood, and guest state that was not found; why something is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<String>,
    /// Whether VM key protector and vTPM state belong together.
    pub pairing: Pairing,
    /// Whether there is a VM key protector.
    pub has_key_protector: bool,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressed_to: Option<AddressedFacts>,
    /// Whom the last known good one is for, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_good: Option<AddressedFacts>,
    /// Its disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskFacts>,
}

/// Whom a VM key protector is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressedFacts {
    /// Owners.
    pub owners: Vec<GuardianId>,
    /// Guardians.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardians: Vec<GuardianId>,
    /// A signature does not verify.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub altered: bool,
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Its path, as the host knows it.
    pub path: String,
    /// Identity of the disk, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why nothing was captured of it, or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Nothing at all was captured of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// Neither copy of its partition table can be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub table_lost: bool,
    /// Volumes of it that are not encrypted.
    #[serde(default)]
    pub plain: u32,
    /// Its other volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeFacts>,
}

/// A volume that is, or may be, encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Number on the disk.
    pub number: u32,
    /// Its place: identity of the disk and partition, which stay when it is encrypted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// What encrypts it.
    pub encryption: EncryptionKind,
    /// BitLocker's volume id; none where no copy of the metadata can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    /// A clear key stands on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exposed: bool,
    /// Its BitLocker protectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protectors: Vec<ProtectorInfo>,
    /// Digest of its FVE metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Digest>,
}

/// FVE metadata of a volume at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// BitLocker's volume id.
    pub volume_id: String,
    /// Digest of the metadata.
    pub metadata: Digest,
    /// Place of the volume.
    pub slot: Option<String>,
    /// When it was captured last, as far as the vault knows.
    pub captured: Time,
    /// Ids of the BitLocker protectors with which a secret can be escrowed.
    pub protectors: Vec<String>,
}

/// An escrowed secret, without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFacts {
    /// What it is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens, as its source says.
    pub protector: Option<String>,
    /// Digest that names it.
    pub secret: Digest,
    /// When it was sealed.
    pub imported: Time,
    /// Where it was found.
    pub source: String,
}

/// A secret held against metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofFacts {
    /// BitLocker's volume id.
    pub volume_id: String,
    /// Digest of the metadata.
    pub metadata: Digest,
    /// The BitLocker protector that was tried.
    pub protector: String,
    /// Digest that names the secret.
    pub secret: Digest,
    /// What came of it.
    pub outcome: ProofOutcome,
    /// When it was tried.
    pub proved: Time,
}

/// A companion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanionFacts {
    /// What it is.
    pub kind: CompanionKind,
    /// Name of its file.
    pub name: String,
    /// The host that has it; filled in when it is read.
    #[serde(default)]
    pub host: String,
    /// A private key is in it.
    pub private_key: bool,
    /// Certificates in it or beside it.
    pub certificates: Vec<CompanionCertificate>,
    /// Whom the VM key protector in shielding data is for.
    pub addressed_to: Option<Addressees>,
}

/// A captured state, and the records that keep it alive.
#[derive(Debug, Clone)]
pub struct CaptureFacts {
    /// The VM's id.
    pub vm_id: String,
    /// Its name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// The host's writer id.
    pub writer: WriterId,
    /// When it was read.
    pub captured: Time,
    /// Guardians and owners in its VM key protectors, the last known good one's too.
    pub guardians: Vec<GuardianId>,
    /// `seq` of the first and the last record that keep it.
    pub records: (u64, u64),
    /// Id of the last of them, and when it ended.
    pub newest_record: (Digest, Time),
}

/// A captured state as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptCapture {
    pub(crate) subject: SubjectId,
    pub(crate) vm_id: String,
    pub(crate) name: String,
    pub(crate) captured: Time,
    pub(crate) guardians: Vec<GuardianId>,
}

impl VmFacts {
    /// Takes what a verdict needs from a record; its owners and guardians go into `guardians`.
    pub fn of(vm: &VmRecord, guardians: &mut BTreeMap<GuardianId, GuardianEntry>) -> Self {
        let mut addressed = |all: &Option<Addressees>| {
            let mut ids = |entries: &[GuardianEntry]| -> Vec<GuardianId> {
                let id = |entry: &GuardianEntry| {
                    let id = guardian_id(entry);
                    guardians.entry(id).or_insert_with(|| entry.clone());
                    id
                };
                entries.iter().map(id).collect()
            };
            all.as_ref().map(|all| AddressedFacts {
                owners: ids(&all.owners),
                guardians: ids(&all.guardians),
                altered: all.signatures == SignatureState::Invalid,
            })
        };
        let addressed_to = addressed(&vm.addressed_to);
        let last_known_good = addressed(&vm.last_known_good_addressed_to);
        let vtpm = match vm.vtpm_sight() {
            VtpmSight::Captured | VtpmSight::InGuestState => VtpmAnswer::Held,
            VtpmSight::NotSeen => VtpmAnswer::NotSeen,
            VtpmSight::NotKnown => VtpmAnswer::NotKnown,
            VtpmSight::Off | VtpmSight::NoSign => VtpmAnswer::None,
        };
        Self {
            vm_id: vm.vm_id.clone(),
            name: vm.name.clone(),
            vtpm,
            not_understood: vm.not_understood.clone(),
            pairing: vm.pairing,
            has_key_protector: vm.key_protector.is_some(),
            addressed_to,
            last_known_good,
            disks: vm.disks.iter().map(DiskFacts::of).collect(),
        }
    }

    /// Ids of all owners and guardians, of the last known good VM key protector too.
    pub(crate) fn all_guardians(&self) -> Vec<GuardianId> {
        let both = self.addressed_to.iter().chain(&self.last_known_good);
        let mut all: Vec<GuardianId> =
            both.flat_map(|one| one.owners.iter().chain(&one.guardians)).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl DiskFacts {
    fn of(disk: &DiskEntry) -> Self {
        let mut facts = Self {
            path: disk.path.clone(),
            id: None,
            problem: disk.problem.clone(),
            unread: disk.head.is_none(),
            table_lost: false,
            plain: 0,
            volumes: Vec::new(),
        };
        let Some(head) = &disk.head else { return facts };
        facts.id = disk_id(head);
        facts.table_lost = head.scheme == PartitionScheme::GptLost;
        for volume in &head.volumes {
            match is_plain(volume) {
                true => facts.plain += 1,
                false => facts.volumes.push(VolumeFacts::of(volume, facts.id.as_deref())),
            }
        }
        facts
    }
}

fn disk_id(head: &DiskHeadEntry) -> Option<String> {
    head.virtual_disk_id.clone().or_else(|| head.gpt_disk_id.clone())
}

/// Nothing on it is encrypted. A decrypted BitLocker volume still has metadata.
fn is_plain(volume: &VolumeHeadEntry) -> bool {
    let is_decrypted =
        |info: &BitLockerInfo| info.state == BitLockerState::Decrypted && !has_clear_key(&info.protectors);
    volume.encryption == EncryptionKind::None || volume.bitlocker.as_ref().is_some_and(is_decrypted)
}

fn has_clear_key(protectors: &[ProtectorInfo]) -> bool {
    protectors.iter().any(|one| one.kind == ProtectorKind::ClearKey)
}

impl VolumeFacts {
    fn of(volume: &VolumeHeadEntry, disk_id: Option<&str>) -> Self {
        let place = volume.partition_id.clone().unwrap_or_else(|| volume.offset_bytes.to_string());
        let info = volume.bitlocker.as_ref();
        Self {
            number: volume.number,
            slot: disk_id.map(|disk| format!("{disk}/{place}")),
            encryption: volume.encryption,
            volume_id: info.map(|info| info.volume_id.clone()),
            exposed: info.is_some_and(|info| {
                info.state == BitLockerState::Suspended || has_clear_key(&info.protectors)
            }),
            protectors: info.map(|info| info.protectors.clone()).unwrap_or_default(),
            metadata: volume.fve_metadata,
        }
    }

    /// Its metadata, as a generation of the volume.
    pub(crate) fn generation(&self, captured: Time) -> Option<Generation> {
        let recovery = self.protectors.iter().filter(|one| is_recovery(one.kind));
        Some(Generation {
            volume_id: self.volume_id.clone()?,
            metadata: self.metadata?,
            slot: self.slot.clone(),
            captured,
            protectors: recovery.map(|one| one.id.clone()).collect(),
        })
    }
}

/// Whether a secret of such a BitLocker protector can be escrowed.
pub(crate) fn is_recovery(kind: ProtectorKind) -> bool {
    matches!(kind, ProtectorKind::RecoveryPassword | ProtectorKind::ExternalKey)
}

impl SecretFacts {
    pub(crate) fn of(entry: &EscrowEntry) -> Self {
        Self {
            kind: entry.kind,
            protector: entry.protector.clone(),
            secret: entry.part.digest,
            imported: entry.imported,
            source: entry.source.name().to_owned(),
        }
    }
}

impl ProofFacts {
    pub(crate) fn of(entry: &ProofEntry) -> Self {
        Self {
            volume_id: entry.volume.clone(),
            metadata: entry.metadata,
            protector: entry.protector.clone(),
            secret: entry.secret,
            outcome: entry.outcome,
            proved: entry.proved,
        }
    }
}

impl CompanionFacts {
    pub(crate) fn of(entry: &CompanionEntry) -> Self {
        let companion = &entry.companion;
        Self {
            kind: companion.kind,
            name: companion.name.clone(),
            host: String::new(),
            private_key: companion.private_key,
            certificates: companion.certificates.clone(),
            addressed_to: companion.addressed_to.clone(),
        }
    }

    /// Its certificates, alone.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateEntry> {
        self.certificates.iter().map(|one| &one.certificate)
    }
}

/// Whether two certificates are of one key: the same, or one renewed with the key of the other.
pub(crate) fn is_same_key(one: &CertificateEntry, other: &CertificateEntry) -> bool {
    one.sha256 == other.sha256 || (one.public_key.is_some() && one.public_key == other.public_key)
}
