//! What the commands answer with `--json`. The text on a terminal says the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ArtefactKind, CarriedVm, CarriedWhy, Class, CompanionRecord, Cut, Digest, FailedVm, Finding, PlanVerdict,
    PlanWay, PlannedDisk, PolicyRef, Role, Severity, Time, VaultId, VmName, VmRecord, WriterId,
};

/// `lifeboat init --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitReport {
    /// The new vault's id.
    pub vault: VaultId,
    /// URL of its store.
    pub store: String,
    /// Folder with keys and identities.
    pub folder: String,
    /// Files written there, with who should keep each.
    pub files: Vec<KeptFile>,
    /// What was found about the store.
    pub findings: Vec<Finding>,
}

/// A file that someone has to keep.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptFile {
    /// Name in the folder.
    pub name: String,
    /// What it is for.
    pub what: String,
    /// Where it should be kept.
    pub keep: String,
    /// Whether a passphrase protects it.
    pub protected: bool,
}

/// `lifeboat host enroll --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollReport {
    /// The vault.
    pub vault: VaultId,
    /// The host's writer id.
    pub writer: WriterId,
    /// The host's name.
    pub name: String,
    /// The policy that names it.
    pub policy: PolicyRef,
    /// Folder to carry to the host.
    pub folder: String,
}

/// `lifeboat host enroll --json` for several hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolledReport {
    /// The hosts, as they were named.
    pub hosts: Vec<EnrollReport>,
}

/// `lifeboat host rekey --json` and `lifeboat host retire --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostChangeReport {
    /// The vault.
    pub vault: VaultId,
    /// The host's writer id.
    pub writer: WriterId,
    /// Its name, where an identity at hand tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new policy.
    pub policy: PolicyRef,
    /// The last record that counts under the terms before.
    pub cut: Cut,
    /// Folder with the new key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// `lifeboat-agent run --once --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// The vault.
    pub vault: VaultId,
    /// The host's writer id.
    pub writer: WriterId,
    /// `seq` of the record that the run committed.
    pub seq: u64,
    /// Its id.
    pub record: Digest,
    /// When the run began.
    pub started: Time,
    /// When it ended.
    pub finished: Time,
    /// VMs found.
    pub found: u64,
    /// VMs captured.
    pub captured: u64,
    /// VMs whose last capture stands.
    pub unchanged: u64,
    /// Companions found, captured and unchanged.
    #[serde(default)]
    pub companions: CompanionCounts,
    /// VMs that stand with an older capture, and companions.
    pub carried: Vec<CarriedVm>,
    /// What could not be read and has no capture.
    pub failed: Vec<FailedVm>,
    /// Objects put into the store.
    pub stored_objects: u64,
    /// Bytes of these objects.
    pub stored_bytes: u64,
    /// Objects that the record keeps alive.
    pub live_objects: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// What a run did with companions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompanionCounts {
    /// Found in the folders of the configuration.
    pub found: u64,
    /// Captured.
    pub captured: u64,
    /// Unchanged: the last capture stands.
    pub unchanged: u64,
}

/// `lifeboat artefacts list --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtefactsReport {
    /// The vault.
    pub vault: VaultId,
    /// Companions, by kind and name.
    pub companions: Vec<CompanionSummary>,
    /// What is wrong with the vault, or with companions.
    pub findings: Vec<Finding>,
}

/// A companion with its newest captured state.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompanionSummary {
    /// What is known of it.
    pub companion: CompanionRecord,
    /// The host's name.
    pub host: String,
    /// The host's writer id.
    pub writer: WriterId,
    /// When it was read.
    pub captured: Time,
    /// Set when the host no longer finds it, or could not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedWhy>,
    /// VMs of the vault that it serves, as far as that can be told.
    pub serves: Vec<VmName>,
    /// Its files.
    pub files: Vec<PlannedFile>,
}

/// `lifeboat artefacts get --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GotArtefact {
    /// The vault.
    pub vault: VaultId,
    /// Id of the companion.
    pub id: String,
    /// When it was read.
    pub captured: Time,
    /// Files that were written, each compared with its signed digest.
    pub written: Vec<String>,
    /// What is wrong with the vault, or with the companion.
    pub findings: Vec<Finding>,
}

/// `lifeboat vms --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmsReport {
    /// The vault.
    pub vault: VaultId,
    /// One entry for each VM, by name.
    pub vms: Vec<VmSummary>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// A VM with its newest captured state.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSummary {
    /// The newest captured state.
    pub newest: SnapshotSummary,
    /// What its files say.
    pub vm: VmRecord,
    /// The newest carried-forward copy of another host, where one is newer than the captured state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<SnapshotSummary>,
    /// Other hosts that hold a capture of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_hosts: Vec<String>,
}

/// `lifeboat snapshots --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsReport {
    /// The vault.
    pub vault: VaultId,
    /// Snapshots, newest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// One VM in one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSummary {
    /// The VM's id.
    pub vm_id: String,
    /// The VM's name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// The host's writer id.
    pub writer: WriterId,
    /// `seq` of the record.
    pub seq: u64,
    /// Id of the record.
    pub record: Digest,
    /// When the record says it was finished.
    pub finished: Time,
    /// When the files were read.
    pub captured: Time,
    /// Set when the record only carries an older capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedWhy>,
    /// Size of its files in bytes.
    pub size_bytes: u64,
    /// Number of its files.
    pub files: u64,
}

/// How sure a statement of a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Read from files or proved.
    Known,
    /// What is documented or usual; not proved here.
    Likely,
    /// Cannot be told from what is here.
    UnknownHere,
}

impl Grade {
    /// What people read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Likely => "likely",
            Self::UnknownHere => "unknown here",
        }
    }
}

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// How sure it is.
    pub grade: Grade,
    /// What is stated.
    pub text: String,
}

/// `lifeboat restore --plan --json`, and part of `lifeboat restore --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestorePlan {
    /// What it comes to.
    pub verdict: PlanVerdict,
    /// Which identities are needed, and are here.
    pub identities: Vec<IdentityNeed>,
    /// What to find out before anything is written.
    pub first: Vec<String>,
    /// The snapshot that was chosen.
    pub snapshot: SnapshotSummary,
    /// Which rule chose it.
    pub chosen_because: String,
    /// What its files say about the VM.
    pub vm: VmRecord,
    /// Files that will be written.
    pub files: Vec<PlannedFile>,
    /// What to expect.
    pub statements: Vec<Statement>,
    /// Ways to open the VM key protector that need the owner's keys, where nothing else opens it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<PlanWay>,
    /// Disks that were given, and how they stand to the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<PlannedDisk>,
    /// SHA-1 thumbprints of the local guardian's certificates, encryption first, whose keys the target must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_guardians: Vec<String>,
    /// What is not part of a snapshot and must come from elsewhere.
    pub needed_from_elsewhere: Vec<String>,
}

/// An identity that a plan needs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityNeed {
    /// Its role.
    pub role: Role,
    /// What for.
    pub what_for: String,
    /// Whether it was given.
    pub here: bool,
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Place in the VM's folder.
    pub path: String,
    /// What it is.
    pub kind: ArtefactKind,
    /// Class of the bundles that hold it.
    pub class: Class,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 digest.
    pub digest: Digest,
}

/// `lifeboat restore --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreReport {
    /// The vault.
    pub vault: VaultId,
    /// VMs that were written.
    pub restored: Vec<RestoredVm>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// A VM that was written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoredVm {
    /// The VM's id.
    pub vm_id: String,
    /// The VM's name.
    pub name: String,
    /// When its files were read.
    pub captured: Time,
    /// Its folder.
    pub folder: String,
    /// The PowerShell script that registers it; VMs that were restored together share it.
    pub script: String,
    /// The runbook, shared likewise.
    pub runbook: String,
    /// Files written and compared with their digests.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// `lifeboat check --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSummary {
    /// The vault.
    pub vault: VaultId,
    /// Whether every object was read.
    pub read_data: bool,
    /// Roles whose identities took part.
    pub roles: Vec<Role>,
    /// Ledgers that were verified.
    pub ledgers: u64,
    /// Records with a valid signature.
    pub records: u64,
    /// Objects that records name.
    pub objects: u64,
    /// Bytes of these objects.
    pub object_bytes: u64,
    /// Objects that were read.
    pub objects_read: u64,
    /// Objects that an identity opened.
    pub objects_opened: u64,
    /// Artefacts whose every byte was found as stated.
    pub artefacts_verified: u64,
    /// Objects that no record names.
    pub unreferenced: u64,
    /// The worst severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Severity>,
    /// Everything that was found.
    pub findings: Vec<Finding>,
}

/// What every command prints with `--json` when it fails.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorReport {
    /// The exit code.
    pub exit_code: u8,
    /// What happened, why, and what to do.
    pub error: String,
}
