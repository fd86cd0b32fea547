//! Documents that leave a Lifeboat process: what the vault's records and bodies say, what reports say.
//!
//! The base of every other crate of the workspace: plain values with their text forms, and the rules that
//! make a value well-formed. It does no IO, seals nothing, verifies no signature.

mod artefact;
mod audit;
mod body;
mod companion;
mod disk;
mod disk_head;
mod doctor;
mod escrow;
mod exit;
mod explain;
mod finding;
mod guardian;
mod guardian_report;
mod guest_state;
mod host_version;
mod id;
mod plan;
mod policy;
mod proof;
mod record;
mod recover;
mod report;
mod time;
mod vm;

pub use artefact::{ARTEFACTS, ArtefactKind, ArtefactRow, ArtefactTopic, Recreatable};
pub use audit::{
    AuditCode, AuditFinding, AuditLevel, AuditReport, AuditState, AuditTotals, AuditedHost, AuditedVm,
    AuditedVolume, CanStart, CompromisedCompanion, CompromisedGuardian, CompromisedReport,
    CompromisedSnapshot, CompromisedVm, NamedAs, OtherState, OtherWhat, Retire, StartAnswer, StolenKey,
    VtpmAnswer,
};
pub use body::{
    ArtefactEntry, BODY_VERSION, BodyHead, CarriedVm, CarriedWhy, FailedVm, NamesBody, PART_BYTES, PartEntry,
    RunEntry, SnapshotBody, VmEntry,
};
pub use companion::{CompanionCertificate, CompanionEntry, CompanionKind, CompanionRecord, NeedEntry};
pub use disk::{
    BitLockerInfo, ContainerKind, DiskInspectReport, EncryptionKind, ProtectorInfo, ProtectorKind,
    VolumeCipher, VolumeInfo, VolumeState,
};
pub use disk_head::{DiskFileEntry, DiskHeadEntry, DiskItemEntry, PartitionScheme, VolumeHeadEntry};
pub use doctor::{CheckOutcome, DoctorCheck, DoctorReport, StoreProtection};
pub use escrow::{
    ESCROW_BODY_VERSION, EscrowBody, EscrowEntry, EscrowImportReport, EscrowListEntry, EscrowListReport,
    EscrowRevealReport, EscrowRunSource, EscrowSource, RevealBody, SecretKind,
};
pub use exit::Exit;
pub use explain::{ExplainReport, ExplainedArtefact, Holding, Outcome, WhatIf};
pub use finding::{Finding, PRIVATE_KEY_EXPOSED, Severity};
pub use guardian::{Addressees, CertificateEntry, GuardianEntry, SignatureState};
pub use guardian_report::{
    AlgorithmEntry, AlgorithmEvidence, CheckEntry, CheckResult, GuardianChangeReport, GuardianFileForm,
    GuardianInspectReport, GuardianListReport, InspectedCertificate, KnownGuardian, VmName,
};
pub use guest_state::{GuestStateEntry, GuestStateFormat, GuestStateItem, GuestStateVerdict};
pub use host_version::{HOST_VERSIONS, HostVersion, hosts_that_run};
pub use id::{
    BadId, Class, Digest, DigestBuilder, Kind, OwnerId, RecipientSetId, Role, SubjectId, VaultId, WriterId,
};
pub use plan::{BootExpectation, DiskFit, DiskMatch, NextStep, PlanVerdict, PlanWay, PlannedDisk, Verdict};
pub use policy::{
    Cut, OwnerTerms, PolicyTerms, VAULT_FORMAT, VAULT_VERSION, VaultHead, VmSelector, WriterTerms,
};
pub use proof::{EscrowProveReport, PROOF_BODY_VERSION, ProofBody, ProofCounts, ProofEntry, ProofOutcome};
pub use record::{Content, KNOWN_CRITICAL, ObjectEntry, PolicyRef, RECORD_VERSION, Record, Tip};
pub use recover::{
    ExtractedFiles, ProofLevel, ReadBackFile, RecoverDisk, RecoverPlan, RecoverReport, RecoverVolume,
    RecoverWay, RecoveredVolume, SuspendedOverlay, VolumeEntry, WayKind, WayStanding, WrittenOutput,
};
pub use report::{
    ArtefactsReport, CheckSummary, CompanionCounts, CompanionSummary, EnrollReport, EnrolledReport,
    ErrorReport, GotArtefact, Grade, HostChangeReport, IdentityNeed, InitReport, KeptFile, PlannedFile,
    RestorePlan, RestoreReport, RestoredVm, RunReport, SnapshotSummary, SnapshotsReport, Statement,
    VmSummary, VmsReport,
};
pub use time::{BadTime, Time};
pub use vm::{
    CheckpointEntry, DISK_NOT_FOUND, DiskEntry, Layout, Pairing, SecuritySettings, StateValue, VmRecord,
    VtpmSight,
};
