//! What `lifeboat recover --json` answers: the ways into a volume, and what a recovery did. No secret stands in either.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ContainerKind, Finding, Statement, Time, VolumeInfo};

/// What `lifeboat recover --plan --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverPlan {
    /// The disks, in the order given.
    pub disks: Vec<RecoverDisk>,
}

/// One disk of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverDisk {
    /// The file that was named.
    pub path: String,
    /// Kind of the file.
    pub container: ContainerKind,
    /// Parents that were found, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// The volumes.
    pub volumes: Vec<RecoverVolume>,
}

/// One volume of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverVolume {
    /// What can be seen without a key.
    pub volume: VolumeInfo,
    /// Description that Windows wrote: computer, volume and date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The ways in, the best first; empty for a volume that BitLocker does not encrypt.
    pub ways: Vec<RecoverWay>,
    /// What is known, likely or unknown here.
    pub statements: Vec<Statement>,
}

/// One way into a volume.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverWay {
    /// Which way.
    pub way: WayKind,
    /// Whether it can be gone.
    pub standing: WayStanding,
    /// Why, or what it needs.
    pub why: String,
    /// Ids of the BitLocker protectors that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protectors: Vec<String>,
}

/// A way into a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WayKind {
    /// Bring the VM back with its vTPM, from a vault.
    RestoreWithVtpm,
    /// Nothing is encrypted.
    NotEncrypted,
    /// A recovery password.
    RecoveryPassword,
    /// A secret of another time with metadata captured then.
    CapturedMetadata,
    /// A .BEK file.
    ExternalKey,
    /// An .ebek file with its shielding data file and the owner's key.
    EncryptedExternalKey,
    /// The clear key of a suspended volume.
    ClearKey,
    /// A password.
    Password,
    /// A key package with its recovery password.
    KeyPackage,
    /// The VM's own vTPM, by booting.
    Tpm,
    /// A certificate: smart card or data recovery agent.
    PublicKey,
}

/// Whether a way can be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WayStanding {
    /// Open, now: proved with what was given, or nothing is needed.
    Open,
    /// Open to whoever has the secret.
    NeedsSecret,
    /// Cannot be told from the disk alone.
    UnknownHere,
    /// Closed.
    Closed,
}

/// What `lifeboat recover --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverReport {
    /// The BitLocker volumes of all disks, opened or not.
    pub volumes: Vec<RecoveredVolume>,
    /// The output of `--to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<WrittenOutput>,
    /// The output of `--suspend-overlay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<SuspendedOverlay>,
    /// The file of `--read-back`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<ReadBackFile>,
    /// What `--list` lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<VolumeEntry>>,
    /// What `--extract` extracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extracted: Option<ExtractedFiles>,
    /// What to do next.
    pub next_steps: Vec<String>,
    /// The same for PowerShell, where there is something to type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub powershell: Option<String>,
    /// What someone should look at.
    pub findings: Vec<Finding>,
}

/// One volume, opened or not.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoveredVolume {
    /// The disk.
    pub disk: String,
    /// Number of the volume on it.
    pub number: u32,
    /// BitLocker's volume id.
    pub volume_id: String,
    /// How far a key is proved; absent where nothing opened the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofLevel>,
    /// The sector that proves it, or why nothing does.
    pub proof_detail: String,
    /// Kind of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<String>,
    /// The BitLocker protector that it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protector: Option<String>,
    /// Whether the metadata is proved genuine.
    pub metadata_authenticated: bool,
}

/// How far a key is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProofLevel {
    /// No key is needed.
    NotNeeded,
    /// It opens the volume master key.
    Key,
    /// It turns a sector of this disk into something known.
    Data,
}

/// A written output.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenOutput {
    /// The file.
    pub path: String,
    /// `raw` or `vhdx`.
    pub form: String,
    /// Plain bytes in it.
    pub plain_bytes: u64,
    /// Bytes that should be there.
    pub stated_bytes: u64,
    /// Bytes that an earlier run had written.
    pub resumed_bytes: u64,
    /// Bytes inside the output that could not be read, and are zeros.
    pub missing_bytes: u64,
    /// The first of these ranges, as offset and length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<[u64; 2]>,
}

/// An overlay or copy of a disk in which BitLocker is suspended: open to anyone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendedOverlay {
    /// The file.
    pub path: String,
    /// The disk that it is laid over and needs, unchanged, beside it; absent for a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Id of the added clear-key BitLocker protector.
    pub protector: String,
    /// Bytes of a copy that could not be read, and are zeros.
    pub missing_bytes: u64,
}

/// A file of secrets read back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadBackFile {
    /// The file.
    pub path: String,
    /// Recovery passwords in it.
    pub recovery_passwords: u64,
    /// External keys in it.
    pub external_keys: u64,
}

/// A file or folder on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeEntry {
    /// Its name; text from the guest.
    pub name: String,
    /// `file`, `folder` or `link`.
    pub kind: String,
    /// Size of a file.
    pub size_bytes: u64,
    /// When its content was last changed.
    pub modified: Time,
}

/// What was extracted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractedFiles {
    /// The folder.
    pub to: String,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What was left out, with the reason; the first thousand.
    pub left_out: Vec<String>,
}
