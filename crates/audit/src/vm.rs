//! The verdict on one VM: its vTPM, its VM key protector, who can start it, its volumes.
//!
//! What a policy makes of each is decided here too, so that a list and its counts cannot differ.

use lifeboat_schema::{
    AuditCode, AuditFinding, AuditLevel, AuditState, AuditedVm, AuditedVolume, CanStart, CompanionKind,
    OtherState, Pairing, StartAnswer, Time, VtpmAnswer,
};

use crate::facts::{DiskFacts, Facts, GuardianId, VmFacts, is_same_key};
use crate::judge::Fabric;
use crate::policy::{AuditPolicy, MaximumAge};
use crate::truth::{Presence, Truth, seconds_between};
use crate::volume::{self, Known, VolumeVerdict};

/// What every VM is judged with.
pub(crate) struct Judge<'f> {
    pub(crate) facts: &'f Facts,
    pub(crate) known: Known<'f>,
    pub(crate) fabrics: &'f [Fabric],
    pub(crate) policy: &'f AuditPolicy,
    pub(crate) now: Time,
}

const SECONDS_PER_DAY: u64 = 86_400;

/// An age for people.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / SECONDS_PER_DAY),
    }
}

impl Judge<'_> {
    /// Everything about a VM but what it needs of others.
    pub(crate) fn vm(&self, truth: &Truth<'_>) -> AuditedVm {
        let state = truth.state;
        let vm = &state.vm;
        let host = &self.facts.hosts[state.host];
        let is_held = vm.vtpm == VtpmAnswer::Held;
        let names = |ids: &[GuardianId]| -> Vec<String> {
            ids.iter().filter_map(|id| self.facts.guardians.get(id)).map(|one| one.name.clone()).collect()
        };
        let mut volumes: Vec<AuditedVolume> = vm.disks.iter().flat_map(|disk| self.disk(vm, disk)).collect();
        volumes.sort_by_key(|one| one.state);
        let mut audited = AuditedVm {
            vm_id: vm.vm_id.clone(),
            name: vm.name.clone(),
            owner: state.owner.clone(),
            owner_name: self.facts.owners.get(&state.owner).cloned(),
            host: host.name.clone(),
            captured: state.captured,
            seen: truth.seen,
            carried: state.carried.as_ref().map(|carried| carried.why),
            elsewhere: truth
                .others
                .iter()
                .map(|(other, what)| OtherState {
                    host: self.facts.hosts[other.host].name.clone(),
                    captured: other.captured,
                    what: *what,
                })
                .collect(),
            vtpm: vm.vtpm,
            vtpm_age_seconds: is_held.then(|| seconds_between(truth.seen, self.now)),
            pairing: vm.pairing,
            owner_guardians: vm.addressed_to.as_ref().map(|one| names(&one.owners)).unwrap_or_default(),
            guardians: vm.addressed_to.as_ref().map(|one| names(&one.guardians)).unwrap_or_default(),
            can_start_at: self
                .fabrics
                .iter()
                .map(|fabric| StartAnswer { fabric: fabric.name.clone(), answer: self.can_start(vm, fabric) })
                .collect(),
            last_drill: None,
            volumes,
            findings: Vec::new(),
            level: AuditLevel::Good,
        };
        self.presence(truth, &mut audited);
        self.vtpm(vm, &mut audited);
        self.key_protector(vm, &mut audited);
        self.starts(&mut audited);
        self.proofs(&mut audited);
        self.say(&mut audited, AuditCode::NeverDrilled, "nobody ever tried to bring it back", "bring it back into a scratch folder (`lifeboat restore --to`), look at its plan, and write down that you did");
        self.close(&mut audited);
        audited
    }

    /// Sorts what is said of a VM and draws its level from it.
    pub(crate) fn close(&self, vm: &mut AuditedVm) {
        vm.findings.sort_by_key(|one| (std::cmp::Reverse(one.level), one.code));
        let levels = vm.findings.iter().map(|one| one.level).chain(vm.volumes.iter().map(|one| one.level));
        vm.level = levels.max().unwrap_or(AuditLevel::Good);
    }

    /// Says something of a VM, as the policy takes it.
    pub(crate) fn say(
        &self,
        vm: &mut AuditedVm,
        code: AuditCode,
        what: impl Into<String>,
        next: impl Into<String>,
    ) {
        let level = self.policy.code(code);
        let (level, exception) = self.excepted(&vm.vm_id, &vm.name, code.word(), level);
        if level != AuditLevel::Good {
            vm.findings.push(AuditFinding { code, level, what: what.into(), next: next.into(), exception });
        }
    }

    /// Whether an exception covers what would count.
    fn excepted(
        &self,
        vm_id: &str,
        name: &str,
        word: &str,
        level: AuditLevel,
    ) -> (AuditLevel, Option<String>) {
        if level != AuditLevel::Finding {
            return (level, None);
        }
        let mut all = self.policy.exceptions(vm_id, name, word);
        match all.find(|one| self.now <= one.until) {
            Some(one) => {
                let text = format!("{} until {}: {}", one.owner, one.until_date, one.why);
                (AuditLevel::Excepted, Some(text))
            }
            None => (level, None),
        }
    }

    fn disk(&self, vm: &VmFacts, disk: &DiskFacts) -> Vec<AuditedVolume> {
        let whole_disk = |why: String| {
            let verdict = VolumeVerdict { state: AuditState::Unreadable, otherwise: None, proved: None, why };
            self.audited(vm, disk, None, verdict)
        };
        if disk.unread {
            let why = disk.problem.clone().unwrap_or_else(|| "nothing was captured of it".to_owned());
            return vec![whole_disk(why)];
        }
        let mut all: Vec<AuditedVolume> = Vec::new();
        if disk.table_lost {
            all.push(whole_disk(
                "it had a GUID partition table, and neither copy can be used: its volumes are not known"
                    .to_owned(),
            ));
        }
        for one in &disk.volumes {
            let verdict = volume::judge(one, &self.known);
            all.push(self.audited(vm, disk, Some(one), verdict));
        }
        all
    }

    fn audited(
        &self,
        vm: &VmFacts,
        disk: &DiskFacts,
        volume: Option<&crate::facts::VolumeFacts>,
        verdict: VolumeVerdict,
    ) -> AuditedVolume {
        let VolumeVerdict { state, otherwise, proved, why } = verdict;
        let level = self.policy.state(state);
        let (level, exception) = self.excepted(&vm.vm_id, &vm.name, state.word(), level);
        AuditedVolume {
            disk: disk.path.clone(),
            number: volume.map(|one| one.number),
            volume_id: volume.and_then(|one| one.volume_id.clone()),
            protectors: volume.map(|one| one.protectors.clone()).unwrap_or_default(),
            state,
            otherwise,
            proved,
            level,
            why,
            next: volume::next(state).to_owned(),
            exception,
        }
    }

    fn presence(&self, truth: &Truth<'_>, vm: &mut AuditedVm) {
        let host = vm.host.clone();
        match truth.presence {
            Presence::Present => {}
            Presence::Failed => {
                let carried = truth.state.carried.as_ref();
                let error = carried.and_then(|one| one.error.as_deref()).unwrap_or("no reason was recorded");
                let what = format!("{host} found it and could not read it whole: {error}");
                self.say(vm, AuditCode::CaptureFailed, what, "mend what stands in the way; until then the capture is as old as it is");
            }
            Presence::Gone(since) => self.say(
                vm,
                AuditCode::GoneFromHost,
                format!("{host} no longer finds it since {since}, and other hosts did not run since: it may have moved"),
                "wait for the next run of the other hosts, or run their agents",
            ),
            Presence::Vanished(since) => self.say(
                vm,
                AuditCode::Vanished,
                format!("no host finds it any more; {host} since {since}"),
                "if it was deleted on purpose, except it here until its last capture is retired; if not, look for its files first, then `lifeboat restore`",
            ),
        }
        let replicas: Vec<String> = vm
            .elsewhere
            .iter()
            .filter(|one| one.what == lifeboat_schema::OtherWhat::Replica)
            .map(|one| one.host.clone())
            .collect();
        if !replicas.is_empty() {
            let what = format!("{} has it too at this time: a replica, or a copy", replicas.join(", "));
            self.say(
                vm,
                AuditCode::Replica,
                what,
                "nothing, if it is a replica; two copies of one vTPM must never run at one time",
            );
        }
    }

    fn vtpm(&self, facts: &VmFacts, vm: &mut AuditedVm) {
        match vm.vtpm {
            VtpmAnswer::NotSeen => self.say(
                vm,
                AuditCode::VtpmStateNotSeen,
                "it has a vTPM, and no captured file shows its state",
                "look at the remarks of `lifeboat vms --json`; until it is captured, its recovery secrets are all there is",
            ),
            VtpmAnswer::NotKnown => {
                let files = match facts.not_understood.as_slice() {
                    [] => "its files do not tell".to_owned(),
                    files => format!("{} could not be read", files.join(" and ")),
                };
                self.say(
                    vm,
                    AuditCode::VtpmStateNotKnown,
                    format!("whether it has vTPM state is not known: {files}"),
                    "look at the remarks of `lifeboat vms --json`; keep the recovery secrets of its disks",
                );
            }
            VtpmAnswer::Held | VtpmAnswer::None => {}
        }
        let limit = self.policy.maximum_age.vtpm_state_days;
        if let Some(seconds) = vm.vtpm_age_seconds
            && MaximumAge::is_over(limit, seconds)
        {
            let what = format!(
                "its vTPM state was last seen {} ago; the policy allows {} days",
                age(seconds),
                limit.unwrap_or_default()
            );
            self.say(
                vm,
                AuditCode::VtpmStateOld,
                what,
                "find out why its host's agent did not run, or no longer finds it",
            );
        }
    }

    fn key_protector(&self, facts: &VmFacts, vm: &mut AuditedVm) {
        const KEEP: &str = "keep older snapshots and the recovery secrets of its disks; never make a new VM key protector: that orphans the vTPM";
        match vm.pairing {
            Pairing::Mixed => self.say(
                vm,
                AuditCode::NotCapturedTogether,
                "its VM key protector and its vTPM state lie in different files: nothing shows that they belong together",
                "capture it from a shadow copy or an export",
            ),
            Pairing::KeyProtectorMissing => self.say(
                vm,
                AuditCode::KeyProtectorMissing,
                "there is vTPM state, and no VM key protector that could open it",
                KEEP,
            ),
            Pairing::Torn => self.say(vm, AuditCode::KeyProtectorTorn, "its VM key protector breaks off", KEEP),
            Pairing::None | Pairing::CapturedTogether | Pairing::Opens => {}
        }
        let both = facts.addressed_to.iter().chain(&facts.last_known_good);
        if both.into_iter().any(|one| one.altered) {
            self.say(
                vm,
                AuditCode::KeyProtectorAltered,
                "a signature of its VM key protector does not verify: it was altered, or is damaged",
                "compare it with older snapshots; ask who wrote to the host's files",
            );
        }
        if facts.has_key_protector && facts.addressed_to.is_none() {
            self.say(
                vm,
                AuditCode::KeyProtectorNotUnderstood,
                "whom its VM key protector is for cannot be told",
                "save it with Get-VMKeyProtector, and run `lifeboat guardian inspect`",
            );
        }
        if let Some(addressed) = facts.addressed_to.as_ref().filter(|one| one.guardians.is_empty()) {
            self.local_key(&addressed.owners, vm);
        }
    }

    /// A VM in local mode starts with the private keys of its owner alone, which lie on its host.
    fn local_key(&self, owners: &[GuardianId], vm: &mut AuditedVm) {
        let keys = || {
            self.facts.companions.iter().filter(|one| {
                one.private_key
                    && matches!(one.kind, CompanionKind::LocalGuardianKeys | CompanionKind::OwnerKeys)
            })
        };
        let is_held = |id: &GuardianId| {
            self.facts.guardians.get(id).is_some_and(|guardian| {
                [&guardian.signing, &guardian.encryption].into_iter().all(|wanted| {
                    keys().flat_map(|one| one.certificates()).any(|one| is_same_key(one, wanted))
                })
            })
        };
        if owners.iter().any(is_held) {
            return;
        }
        let blind = keys().filter(|one| one.certificates.is_empty()).count();
        let mut what = format!(
            "it runs in local mode: only {} opens its VM key protector, whose private keys are not in the vault",
            vm.owner_guardians.join(", ")
        );
        if blind > 0 {
            what += &format!("; {blind} PFX files are held that do not tell whose they are");
        }
        self.say(
            vm,
            AuditCode::LocalKeyNotEscrowed,
            what,
            "on its host export both certificates of the guardian with their private keys (Get-HgsGuardian, Export-PfxCertificate), and name their folder (kind local-guardian-keys) in agent.toml",
        );
    }

    /// Whether a guardian of a fabric stands in the VM key protector.
    fn can_start(&self, vm: &VmFacts, fabric: &Fabric) -> CanStart {
        if !vm.has_key_protector {
            return match vm.pairing {
                Pairing::KeyProtectorMissing | Pairing::Torn => CanStart::Unknown,
                _ if vm.vtpm == VtpmAnswer::NotKnown => CanStart::Unknown,
                _ => CanStart::NoneNeeded,
            };
        }
        let Some(addressed) = &vm.addressed_to else { return CanStart::Unknown };
        let mut all = addressed.owners.iter().chain(&addressed.guardians);
        let is_of_fabric = |id: &GuardianId| {
            let guardian = self.facts.guardians.get(id);
            guardian.is_some_and(|guardian| {
                fabric.certificates.iter().any(|one| is_same_key(one, &guardian.encryption))
            })
        };
        if all.any(is_of_fabric) { CanStart::Yes } else { CanStart::No }
    }

    fn starts(&self, vm: &mut AuditedVm) {
        let no: Vec<String> = vm
            .can_start_at
            .iter()
            .filter(|one| one.answer == CanStart::No)
            .map(|one| one.fabric.clone())
            .collect();
        for fabric in no {
            let is_required = |name: &String| name.eq_ignore_ascii_case(&fabric);
            if self.policy.must_start_at.iter().any(is_required) {
                self.say(
                    vm,
                    AuditCode::CannotStartAt,
                    format!("no guardian of {fabric} stands in its VM key protector"),
                    "have its owner grant access (Grant-HgsKeyProtectorAccess, or `lifeboat guardian grant`), then capture it again",
                );
            }
        }
    }

    fn proofs(&self, vm: &mut AuditedVm) {
        let oldest = vm.volumes.iter().filter_map(|one| one.proved).min();
        let limit = self.policy.maximum_age.proof_days;
        if let Some(oldest) = oldest
            && MaximumAge::is_over(limit, seconds_between(oldest, self.now))
        {
            let what = format!(
                "a proof of it is {} old; the policy allows {} days",
                age(seconds_between(oldest, self.now)),
                limit.unwrap_or_default()
            );
            self.say(vm, AuditCode::ProofOld, what, "prove its secrets again: `lifeboat escrow prove --all`");
        }
    }
}
