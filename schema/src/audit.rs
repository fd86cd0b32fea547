//! What `lifeboat audit` answers: which VMs and volumes could not be brought back today, and what to do about each.
//!
//! Words only; the rules that lead to them stand in `lifeboat-audit`. Holds no secret.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CarriedWhy, CompanionKind, Digest, Finding, GuardianEntry, OwnerId, Pairing, ProtectorInfo, Time,
    VaultId, VmName, WriterId,
};

/// How a volume that is, or may be, encrypted could be opened without its VM. Worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum AuditState {
    /// It has recovery protectors, and the vault holds no secret of any of them.
    Missing,
    /// It has no recovery protector: only the TPM, a password or a certificate opens it.
    NoRecoveryProtector,
    /// Its only recovery protectors are external keys, without a TPM beside them, and none is escrowed.
    AutoUnlockOnly,
    /// What is escrowed for its BitLocker protectors was tried, and does not open them.
    Mismatched,
    /// What is escrowed belongs to BitLocker protectors that the volume no longer has, and no proof says that it opens
    /// this volume's metadata of any time.
    StaleUseless,
    /// What is on the disk was not captured, or cannot be understood.
    Unreadable,
    /// A clear key stands on the disk: anyone can read it.
    Exposed,
    /// What is escrowed belongs to BitLocker protectors that the volume no longer has, and opens captured metadata of an
    /// earlier time of it.
    StaleButOpens,
    /// A secret of one of its BitLocker protectors is escrowed, and not proved against its newest metadata.
    Escrowed,
    /// It is encrypted by something else, or nothing that is known begins there.
    OtherEncryption,
    /// An escrowed secret opens the volume master key of its newest captured metadata.
    ProvenKey,
    /// An escrowed secret turns a captured sector into something known, with its newest captured metadata.
    ProvenData,
}

impl AuditState {
    /// Every state, worst first.
    pub const ALL: [Self; 12] = [
        Self::Missing,
        Self::NoRecoveryProtector,
        Self::AutoUnlockOnly,
        Self::Mismatched,
        Self::StaleUseless,
        Self::Unreadable,
        Self::Exposed,
        Self::StaleButOpens,
        Self::Escrowed,
        Self::OtherEncryption,
        Self::ProvenKey,
        Self::ProvenData,
    ];

    /// The word for it, as policies and reports have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::NoRecoveryProtector => "NO-RECOVERY-PROTECTOR",
            Self::AutoUnlockOnly => "AUTO-UNLOCK-ONLY",
            Self::Mismatched => "MISMATCHED",
            Self::StaleUseless => "STALE-USELESS",
            Self::Unreadable => "UNREADABLE",
            Self::Exposed => "EXPOSED",
            Self::StaleButOpens => "STALE-BUT-OPENS",
            Self::Escrowed => "ESCROWED",
            Self::OtherEncryption => "OTHER-ENCRYPTION",
            Self::ProvenKey => "PROVEN-KEY",
            Self::ProvenData => "PROVEN-DATA",
        }
    }
}

impl fmt::Display for AuditState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What about a VM, or a host, someone should know. Worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum AuditCode {
    /// No host finds it any more.
    Vanished,
    /// Its host could not read it whole; an older capture stands.
    CaptureFailed,
    /// It has a vTPM, and no capture shows its state.
    VtpmStateNotSeen,
    /// Files that would tell of a vTPM were not understood, or not there.
    VtpmStateNotKnown,
    /// The newest look at its vTPM state is older than the policy allows.
    VtpmStateOld,
    /// There is vTPM state and no VM key protector.
    KeyProtectorMissing,
    /// Its VM key protector breaks off.
    KeyProtectorTorn,
    /// Its VM key protector has a signature that does not verify.
    KeyProtectorAltered,
    /// VM key protector and vTPM state come from different files.
    NotCapturedTogether,
    /// Nobody can say whom its VM key protector is for.
    KeyProtectorNotUnderstood,
    /// Its only secret lives where it is needed itself.
    Circular,
    /// The private keys of the local guardian that starts it are not in the vault.
    LocalKeyNotEscrowed,
    /// No guardian of a fabric that it must start at stands in its VM key protector.
    CannotStartAt,
    /// A proof that its volumes rest on is older than the policy allows.
    ProofOld,
    /// An exception of the policy is over.
    ExceptionOver,
    /// A host has written nothing for longer than the policy allows.
    HostSilent,
    /// Its host no longer finds it, and other hosts were not heard since.
    GoneFromHost,
    /// Several hosts have it at one time: a replica, or a copy.
    Replica,
    /// Nobody ever tried to bring it back.
    NeverDrilled,
}

impl AuditCode {
    /// Every code, worst first.
    pub const ALL: [Self; 19] = [
        Self::Vanished,
        Self::CaptureFailed,
        Self::VtpmStateNotSeen,
        Self::VtpmStateNotKnown,
        Self::VtpmStateOld,
        Self::KeyProtectorMissing,
        Self::KeyProtectorTorn,
        Self::KeyProtectorAltered,
        Self::NotCapturedTogether,
        Self::KeyProtectorNotUnderstood,
        Self::Circular,
        Self::LocalKeyNotEscrowed,
        Self::CannotStartAt,
        Self::ProofOld,
        Self::ExceptionOver,
        Self::HostSilent,
        Self::GoneFromHost,
        Self::Replica,
        Self::NeverDrilled,
    ];

    /// The word for it, as policies and reports have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vanished => "VANISHED",
            Self::CaptureFailed => "CAPTURE-FAILED",
            Self::VtpmStateNotSeen => "VTPM-STATE-NOT-SEEN",
            Self::VtpmStateNotKnown => "VTPM-STATE-NOT-KNOWN",
            Self::VtpmStateOld => "VTPM-STATE-OLD",
            Self::KeyProtectorMissing => "KEY-PROTECTOR-MISSING",
            Self::KeyProtectorTorn => "KEY-PROTECTOR-TORN",
            Self::KeyProtectorAltered => "KEY-PROTECTOR-ALTERED",
            Self::NotCapturedTogether => "NOT-CAPTURED-TOGETHER",
            Self::KeyProtectorNotUnderstood => "KEY-PROTECTOR-NOT-UNDERSTOOD",
            Self::Circular => "CIRCULAR",
            Self::LocalKeyNotEscrowed => "LOCAL-KEY-NOT-ESCROWED",
            Self::CannotStartAt => "CANNOT-START-AT",
            Self::ProofOld => "PROOF-OLD",
            Self::ExceptionOver => "EXCEPTION-OVER",
            Self::HostSilent => "HOST-SILENT",
            Self::GoneFromHost => "GONE-FROM-HOST",
            Self::Replica => "REPLICA",
            Self::NeverDrilled => "NEVER-DRILLED",
        }
    }
}

impl fmt::Display for AuditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What the policy makes of something. Worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditLevel {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It would count, and an exception of the policy covers it.
    Excepted,
    /// It counts: the audit is below the bar.
    Finding,
}

/// `lifeboat audit --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    /// The vault.
    pub vault: VaultId,
    /// When it was made.
    pub made: Time,
    /// What the options left of the whole, in the words of the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// What the counts below come to.
    pub totals: AuditTotals,
    /// Fabrics whose guardians are known, by name.
    pub fabrics: Vec<String>,
    /// Hosts, by name.
    pub hosts: Vec<AuditedHost>,
    /// VMs, worst first.
    pub vms: Vec<AuditedVm>,
    /// Findings that are no VM's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub general: Vec<AuditFinding>,
    /// With `--compromised`: what a stolen key opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<CompromisedReport>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// Counts of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditTotals {
    /// VMs.
    pub vms: u64,
    /// VMs without anything that counts.
    pub vms_good: u64,
    /// Volumes that are, or may be, encrypted.
    pub volumes: u64,
    /// Volumes that are not encrypted; they stand in no list.
    pub volumes_plain: u64,
    /// Volumes by state; all states are there.
    pub states: BTreeMap<String, u64>,
    /// Findings of VMs and hosts by code.
    pub codes: BTreeMap<String, u64>,
    /// Everything that counts: above zero the audit is below the bar.
    pub counted: u64,
    /// What exceptions cover.
    pub excepted: u64,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditedHost {
    /// Its name; its writer id where no body of it can be read.
    pub name: String,
    /// Its writer id.
    pub writer: WriterId,
    /// When its newest snapshot ended.
    pub last_run: Time,
    /// VMs that it has now.
    pub vms: u64,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditedVm {
    /// Its id.
    pub vm_id: String,
    /// Its name.
    pub name: String,
    /// Owner whose recipients its objects are sealed to.
    pub owner: OwnerId,
    /// The owner's name, where the vault has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// Host of the newest captured state.
    pub host: String,
    /// When that state was read.
    pub captured: Time,
    /// When its host last found the files as they were then, or read them.
    pub seen: Time,
    /// Set when that host's newest record only carries the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedWhy>,
    /// Other hosts whose newest record has a state of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<OtherState>,
    /// Its vTPM state.
    pub vtpm: VtpmAnswer,
    /// Seconds since its vTPM state was last seen; none where no state is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtpm_age_seconds: Option<u64>,
    /// Whether VM key protector and vTPM state were captured together.
    pub pairing: Pairing,
    /// Names of owner guardians in its VM key protector.
    pub owner_guardians: Vec<String>,
    /// Names of guardians in its VM key protector.
    pub guardians: Vec<String>,
    /// Whether each known fabric can start it.
    pub can_start_at: Vec<StartAnswer>,
    /// When it was last brought back for trial. No drill can be recorded yet: always absent, which means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<Time>,
    /// Volumes that are, or may be, encrypted; worst first.
    pub volumes: Vec<AuditedVolume>,
    /// What someone should know of the VM itself, worst first.
    pub findings: Vec<AuditFinding>,
    /// The worst of its volumes and findings.
    pub level: AuditLevel,
}

/// A state of a VM on another host than the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherState {
    /// The host.
    pub host: String,
    /// When it was read.
    pub captured: Time,
    /// What it is.
    pub what: OtherWhat,
}

/// What a state on another host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OtherWhat {
    /// Left behind when the VM moved: that host only carries it, or was not heard since.
    LeftBehind,
    /// That host had the VM after the state that counts was read elsewhere: a replica, or a copy.
    Replica,
}

/// What is held of a VM's vTPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VtpmAnswer {
    /// It has none.
    None,
    /// Its state is held.
    Held,
    /// It has one, and no state of it was seen.
    NotSeen,
    /// Cannot be told from what was captured.
    NotKnown,
}

/// Whether a fabric can start a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartAnswer {
    /// The fabric.
    pub fabric: String,
    /// The answer.
    pub answer: CanStart,
}

/// Whether a fabric's guardian opens a VM key protector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CanStart {
    /// The VM has no VM key protector: any host starts it.
    NoneNeeded,
    /// A guardian of the fabric stands in it.
    Yes,
    /// None does.
    No,
    /// The VM key protector is not understood, or missing.
    Unknown,
}

/// One volume of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditedVolume {
    /// Path of the disk, as the host knows it.
    pub disk: String,
    /// Number on the disk; none where the disk itself could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// BitLocker's volume id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    /// Its BitLocker protectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protectors: Vec<ProtectorInfo>,
    /// How it could be opened.
    pub state: AuditState,
    /// Of an exposed volume: what it would be without the clear key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<AuditState>,
    /// When the proof that the state rests on was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<Time>,
    /// What the policy makes of it.
    pub level: AuditLevel,
    /// The reason.
    pub why: String,
    /// What to do next; empty where there is nothing to do.
    pub next: String,
    /// Who answers for the exception that covers it, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
}

/// Something that someone should know, with its next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditFinding {
    /// What it is.
    pub code: AuditCode,
    /// What the policy makes of it.
    pub level: AuditLevel,
    /// What was found.
    pub what: String,
    /// What to do next.
    pub next: String,
    /// Who answers for the exception that covers it, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
}

/// What a stolen key opens, and what trusts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompromisedReport {
    /// The thumbprint that was asked for.
    pub thumbprint: String,
    /// Owners and guardians with this certificate, or another one of the same key.
    pub guardians: Vec<CompromisedGuardian>,
    /// VMs whose newest state it opens or signs.
    pub vms: Vec<CompromisedVm>,
    /// Captured states whose VM key protector names it, newest first.
    pub snapshots: Vec<CompromisedSnapshot>,
    /// Shielding data, keys and metadata that hold or trust it.
    pub companions: Vec<CompromisedCompanion>,
    /// What to do, in order.
    pub next: Vec<String>,
}

/// An owner or guardian whose certificate was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompromisedGuardian {
    /// Who it is.
    pub guardian: GuardianEntry,
    /// Which of its keys.
    pub key: StolenKey,
}

/// What a key of a guardian is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StolenKey {
    /// It opens VM key protectors.
    Encryption,
    /// It signs VM key protectors, and opens none.
    Signing,
}

/// How a VM key protector names a stolen key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NamedAs {
    /// As its owner.
    Owner,
    /// As a guardian.
    Guardian,
    /// Only in the last known good VM key protector.
    LastKnownGood,
}

/// A VM whose newest state names a stolen key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompromisedVm {
    /// The VM.
    pub vm: VmName,
    /// How it names the key.
    pub named_as: NamedAs,
    /// Which key.
    pub key: StolenKey,
}

/// A captured state that names a stolen key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompromisedSnapshot {
    /// The VM.
    pub vm: VmName,
    /// Host and its writer id.
    pub host: String,
    /// The host's writer id.
    pub writer: WriterId,
    /// When the state was read.
    pub captured: Time,
    /// Records that keep it alive: the first and the last.
    pub records: (u64, u64),
    /// The newest record that keeps it.
    pub newest_record: Digest,
    /// What can be done about it.
    pub retire: Retire,
    /// Until when it cannot be removed, by the minimum age that the policy states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
}

/// What can be done about a captured state that a stolen key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Retire {
    /// A later state of the VM does not name the key: this one is not needed for a restore.
    Now,
    /// As before, and still under lock.
    AfterLock,
    /// No later state is free of the key: re-key the VM and capture it first.
    AfterRekey,
}

/// A companion that holds or trusts a stolen key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompromisedCompanion {
    /// What it is.
    pub kind: CompanionKind,
    /// Its name.
    pub name: String,
    /// The host that has it.
    pub host: String,
    /// How it stands to the key.
    pub how: String,
    /// What to do next.
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_json_and_lists_are_whole() {
        for (index, state) in AuditState::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
            assert_eq!(state as usize, index);
        }
        for (index, code) in AuditCode::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
            assert_eq!(code as usize, index);
        }
    }
}
