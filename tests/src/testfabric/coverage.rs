//! The answer sheet of an audit: what is escrowed and proved of each volume, and what an audit must say of it.
//!
//! A fabric has volumes and no vault; which of their secrets somebody keeps is decided here, by a seed, so that every state
//! comes up. The states follow from what is planted, never from the rules of the audit.

use std::collections::BTreeMap;

use lifeboat_schema::{AuditState, Digest, ProofOutcome, ProtectorKind};

use super::answers::{Answers, DiskAnswer, VmAnswer, VolumeAnswer};
use super::options::VolumeKind;
use super::stream::Stream;

/// What is planted for all volumes, and what an audit must say.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Volumes that are, or may be, encrypted.
    pub volumes: Vec<PlannedVolume>,
    /// Secrets that are escrowed.
    pub secrets: Vec<PlannedSecret>,
    /// What was proved and refuted.
    pub proofs: Vec<PlannedProof>,
}

/// What an audit must say of one volume.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedVolume {
    /// The VM.
    pub vm_id: String,
    /// Path of the disk, as the configuration names it.
    pub disk: String,
    /// The state.
    pub state: AuditState,
    /// What an exposed volume would be without its clear key.
    pub otherwise: Option<AuditState>,
}

/// A recovery password that is escrowed.
#[derive(Debug)]
pub struct PlannedSecret {
    /// The BitLocker protector that it is filed under.
    pub protector: String,
    /// The 48 digits, right or not.
    pub password: String,
}

/// A secret held against metadata.
#[derive(Debug)]
pub struct PlannedProof {
    /// The VM whose snapshot has the metadata.
    pub vm_id: String,
    /// BitLocker's volume id.
    pub volume_id: String,
    /// The metadata.
    pub metadata: Digest,
    /// The BitLocker protector.
    pub protector: String,
    /// The 48 digits that were tried.
    pub password: String,
    /// What came of it.
    pub outcome: ProofOutcome,
}

impl Coverage {
    /// Decides what is kept of every volume; `before` is the fabric at an earlier snapshot.
    pub fn plan(before: &Answers, now: &Answers) -> Self {
        let mut coverage = Self::default();
        let earlier: BTreeMap<&str, &VmAnswer> =
            before.vms.iter().map(|vm| (vm.vm_id.as_str(), vm)).collect();
        for vm in &now.vms {
            for disk in &vm.disks {
                let file = file_of(vm, &disk.path);
                let Some(volume) = file.and_then(|file| file.volume.as_ref()) else { continue };
                let mut stream =
                    Stream::new(now.options.seed, "coverage", &[vm.number.into(), u64::from(disk.drive)]);
                let then = earlier.get(vm.vm_id.as_str()).and_then(|vm| file_of(vm, &disk.path));
                let then = then.and_then(|file| file.volume.as_ref());
                coverage.volume(vm, &disk.path, volume, then, &mut stream);
            }
        }
        coverage
    }

    fn volume(
        &mut self,
        vm: &VmAnswer,
        disk: &str,
        volume: &VolumeAnswer,
        then: Option<&VolumeAnswer>,
        stream: &mut Stream,
    ) {
        let state = match volume.encryption {
            VolumeKind::None => return,
            VolumeKind::Luks | VolumeKind::Unknown => AuditState::OtherEncryption,
            VolumeKind::Damaged => AuditState::Unreadable,
            VolumeKind::TpmOnly => match volume.protectors[0].kind {
                ProtectorKind::Tpm => AuditState::NoRecoveryProtector,
                _ => AuditState::AutoUnlockOnly,
            },
            VolumeKind::BitLocker | VolumeKind::Suspended | VolumeKind::Renewed => {
                self.bitlocker(vm, volume, then, stream)
            }
        };
        let (state, otherwise) = match volume.is_suspended {
            true => (AuditState::Exposed, Some(state)),
            false => (state, None),
        };
        self.volumes.push(PlannedVolume { vm_id: vm.vm_id.clone(), disk: disk.to_owned(), state, otherwise });
    }

    /// Plants something for a volume with a recovery password.
    fn bitlocker(
        &mut self,
        vm: &VmAnswer,
        volume: &VolumeAnswer,
        then: Option<&VolumeAnswer>,
        stream: &mut Stream,
    ) -> AuditState {
        let (protector, password) = recovery(volume);
        // Of an earlier time with another recovery password.
        let renewed = then.map(|then| (then, recovery(then))).filter(|(_, (id, _))| *id != protector);
        let mut escrow = |protector: &str, password: &str| {
            self.secrets
                .push(PlannedSecret { protector: protector.to_owned(), password: password.to_owned() });
        };
        let proof = |volume: &VolumeAnswer, protector: &str, password: &str, outcome| PlannedProof {
            vm_id: vm.vm_id.clone(),
            volume_id: volume.volume_id.clone().expect("a BitLocker volume"),
            metadata: volume.fve_metadata.expect("a BitLocker volume"),
            protector: protector.to_owned(),
            password: password.to_owned(),
            outcome,
        };
        if let Some((then, (old_protector, old_password))) = renewed
            && stream.below(4) > 0
        {
            escrow(&old_protector, &old_password);
            return match stream.below(6) {
                0 => AuditState::StaleUseless,
                4 => {
                    // Tried on the newest metadata, through those of its time: it still opens.
                    self.proofs.push(proof(volume, &old_protector, &old_password, ProofOutcome::Data));
                    AuditState::StaleButOpens
                }
                5 => {
                    // ... or no longer does.
                    self.proofs.push(proof(then, &old_protector, &old_password, ProofOutcome::Key));
                    self.proofs.push(proof(volume, &old_protector, &old_password, ProofOutcome::Refused));
                    AuditState::StaleUseless
                }
                1 => {
                    let outcome = ProofOutcome::Refused;
                    self.proofs.push(proof(then, &old_protector, &old_password, outcome));
                    AuditState::StaleUseless
                }
                2 => {
                    self.proofs.push(proof(then, &old_protector, &old_password, ProofOutcome::Key));
                    AuditState::StaleButOpens
                }
                _ => {
                    self.proofs.push(proof(then, &old_protector, &old_password, ProofOutcome::Data));
                    AuditState::StaleButOpens
                }
            };
        }
        match stream.below(10) {
            0 | 1 => AuditState::Missing,
            2 => {
                escrow(&protector, &password);
                AuditState::Escrowed
            }
            3 => {
                // Proved at an earlier time, and changed since; or not to be tried.
                escrow(&protector, &password);
                match then.filter(|then| then.fve_metadata != volume.fve_metadata) {
                    Some(then) if recovery(then).0 == protector => {
                        self.proofs.push(proof(then, &protector, &password, ProofOutcome::Data));
                    }
                    _ => self.proofs.push(proof(volume, &protector, &password, ProofOutcome::Unusable)),
                }
                AuditState::Escrowed
            }
            4 => {
                let wrong = other(&password);
                escrow(&protector, &wrong);
                self.proofs.push(proof(volume, &protector, &wrong, ProofOutcome::Refused));
                AuditState::Mismatched
            }
            5 => {
                escrow(&protector, &password);
                self.proofs.push(proof(volume, &protector, &password, ProofOutcome::Key));
                AuditState::ProvenKey
            }
            6 => {
                // Two are filed under one id, and one of them is right.
                let wrong = other(&password);
                escrow(&protector, &wrong);
                escrow(&protector, &password);
                self.proofs.push(proof(volume, &protector, &wrong, ProofOutcome::Refused));
                self.proofs.push(proof(volume, &protector, &password, ProofOutcome::Data));
                AuditState::ProvenData
            }
            _ => {
                escrow(&protector, &password);
                self.proofs.push(proof(volume, &protector, &password, ProofOutcome::Data));
                AuditState::ProvenData
            }
        }
    }
}

/// The file of a disk that a configuration names.
fn file_of<'a>(vm: &'a VmAnswer, path: &str) -> Option<&'a DiskAnswer> {
    let name = path.rsplit('\\').next().unwrap_or(path);
    vm.disk_files.iter().find(|file| file.path.rsplit('/').next() == Some(name))
}

/// Id and digits of the recovery password.
fn recovery(volume: &VolumeAnswer) -> (String, String) {
    let is_it = |kind| kind == ProtectorKind::RecoveryPassword;
    let protector = volume.protectors.iter().find(|one| is_it(one.kind)).expect("it has one");
    (protector.id.clone(), volume.recovery_password.clone().expect("it has one"))
}

/// Another recovery password than this, which no volume has.
fn other(password: &str) -> String {
    let seed = Digest::of(password.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&seed.as_bytes()[..16]);
    lifeboat_fve::RecoveryPassword::from_recovery_key(&key).expose().to_string()
}
