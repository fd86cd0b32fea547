//! The answers of a restore plan that programs act on: verdict, next step, what to expect at boot.
//!
//! Each has a grade and a text beside it in the plan; the text is for people and may change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Grade;

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The original files are whole: register them where they are, and restore nothing.
    RegisterOriginals,
    /// No capture holds the VM: what is left is to open its disks.
    RecoverDisk,
    /// A known obstacle stands in the way of this snapshot on this target.
    Cannot,
    /// Nothing of the target opens the VM key protector; its owner's keys can.
    OnlyWithOwnerKeys,
    /// The keys of a host's local guardian have to be on the target first.
    ImportGuardianFirst,
    /// Nothing is known that stands in the way.
    NoKnownObstacle,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NextStep {
    /// Register the original files where they are.
    RegisterInPlace,
    /// Open the disk with `lifeboat recover`.
    RecoverDisk,
    /// Take another snapshot of this VM.
    TakeAnotherSnapshot,
    /// Take a host that runs the configuration version.
    TakeAnotherHost,
    /// Bring the VM to a fabric of one of its guardians, or bring its owner's keys.
    FindGuardianOrOwner,
    /// Let the owner's keys grant access, or start it on an isolated host that has them.
    UseOwnerKeys,
    /// Import the local guardian's certificates with their keys.
    ImportLocalGuardian,
    /// Bring the disk from a disk backup.
    BringDisk,
    /// Run the script: compare, then register.
    CompareAndRegister,
}

/// What the guest does when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootExpectation {
    /// It starts as it last did.
    AsBefore,
    /// It may ask once for its recovery password.
    MayAskOnce,
    /// It asks for its recovery password.
    AsksForRecovery,
    /// It does not start from this snapshot on this target.
    DoesNotStart,
    /// That hangs on a disk that nobody has looked at.
    HangsOnDisk,
}

/// The plan's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanVerdict {
    /// What it comes to.
    pub verdict: Verdict,
    /// How sure that is.
    pub grade: Grade,
    /// The same in words.
    pub text: String,
    /// What stands in the way, each in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// What to expect at boot.
    pub boot: BootExpectation,
    /// How sure that is.
    pub boot_grade: Grade,
    /// What to do next.
    pub next: NextStep,
    /// The same in words.
    pub next_text: String,
}

/// Steps of one way, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanWay {
    /// What the way is.
    pub title: String,
    /// How sure it is that it works.
    pub grade: Grade,
    /// Its steps; a step may be a line for PowerShell.
    pub steps: Vec<String>,
}

/// A disk that was given to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedDisk {
    /// Its file, as it was given.
    pub path: String,
    /// Path that the VM's configuration has for it, where it is one of its disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_disk: Option<String>,
    /// By what it was recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<DiskMatch>,
    /// How it stands to the snapshot.
    pub fit: DiskFit,
    /// Why it cannot be read, or is not to be attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// By what a disk is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskMatch {
    /// Page-83 identity of the virtual disk.
    VirtualDiskId,
    /// Id of its GUID partition table.
    GptDiskId,
    /// Volume id in its BitLocker metadata.
    FveVolumeId,
}

/// How a disk stands to a snapshot, by its BitLocker metadata. From the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFit {
    /// Of the snapshot's generation: byte for byte the same metadata.
    SameGeneration,
    /// Neither carries BitLocker metadata that could tell.
    NotEncrypted,
    /// Of an older generation, with the same TPM protector.
    Older,
    /// Of a newer generation, with the same TPM protector.
    Newer,
    /// Of another generation, and sealed by another TPM protector, or by none.
    OtherTpm,
    /// It is no disk of this VM, as far as was captured.
    NotOfThisVm,
    /// It cannot be read.
    Unreadable,
}
