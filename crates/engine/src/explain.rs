//! Every artefact of the table for one VM: held or not, since when, and what becomes of the VM if some are lost.
//!
//! From metadata alone: the audit identity suffices. What stands outside of the vault (the owner's safe, the directory, paper)
//! is not known here, and is said to be so.

use lifeboat_schema::{
    ARTEFACTS, Addressees, ArtefactRow, ArtefactTopic, CompanionKind, EncryptionKind, ExplainedArtefact,
    Grade, Holding, Outcome, Pairing, ProtectorKind, Statement, Time, VmRecord, VtpmSight, WhatIf,
};

use crate::concern::why_not_known;
use crate::inventory::{Found, FoundCompanion};

/// What is known of a VM and of what is kept beside it.
pub struct Facts<'a> {
    newest: &'a Found,
    /// When it was captured first, as far as the vault still knows.
    first: Time,
    companions: &'a [FoundCompanion],
}

/// What a row says of one VM.
struct Answer {
    holding: Holding,
    since: Option<Time>,
    what: String,
    today: String,
}

impl Answer {
    fn new(holding: Holding, since: Option<Time>, what: impl Into<String>, today: &str) -> Self {
        Self { holding, since, what: what.into(), today: today.to_owned() }
    }

    fn not_needed(what: &str) -> Self {
        Self::new(Holding::NotNeeded, None, what, "")
    }
}

impl<'a> Facts<'a> {
    /// Takes the newest capture of a VM, the time of its first one, and the newest companions of the vault.
    pub fn new(newest: &'a Found, first: Time, companions: &'a [FoundCompanion]) -> Self {
        Self { newest, first, companions }
    }

    /// One entry for each row of the table, in its order.
    pub fn explain(&self) -> Vec<ExplainedArtefact> {
        ARTEFACTS.iter().map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &ArtefactRow) -> ExplainedArtefact {
        let Answer { holding, since, what, today } = self.answer(row.topic);
        let text = |text: &str| text.to_owned();
        ExplainedArtefact {
            topic: row.topic,
            name: text(row.name),
            holding,
            since,
            what,
            recreatable: row.recreatable,
            how: text(row.how),
            if_lost: text(row.if_lost),
            if_stolen: text(row.if_stolen),
            today,
        }
    }

    fn answer(&self, topic: ArtefactTopic) -> Answer {
        match topic {
            ArtefactTopic::VmFiles => self.vm_files(),
            ArtefactTopic::VtpmState => self.vtpm_state(),
            ArtefactTopic::KeyProtector => self.key_protector(),
            ArtefactTopic::Guardians => self.guardians(),
            ArtefactTopic::LocalGuardianKeys => self.local_guardian_keys(),
            ArtefactTopic::OwnerKeys => self.owner_keys(),
            ArtefactTopic::RecoverySecrets => self.recovery_secrets(),
            ArtefactTopic::FveMetadata => self.fve_metadata(),
            ArtefactTopic::ShieldingData => self.shielding_data(),
            ArtefactTopic::VolumeSignatureCatalog => self.of_template(
                &[CompanionKind::VolumeSignatureCatalog],
                "name a folder with the .vsc files (kind volume-signature-catalog) in agent.toml",
            ),
            ArtefactTopic::TemplateDisk => self.of_template(
                &[CompanionKind::TemplateDisk, CompanionKind::TemplateSigningKeys],
                "name folders with template disks and their signing PFX (template-disk, template-signing-keys) in agent.toml",
            ),
            ArtefactTopic::HgsState => self.hgs_state(),
        }
    }

    fn vm(&self) -> &VmRecord {
        &self.newest.entry.vm
    }

    fn captured(&self) -> Time {
        self.newest.entry.captured
    }

    /// Whether anything may be sealed to this VM's vTPM: what was not seen counts as there.
    fn has_vtpm(&self) -> bool {
        !matches!(self.vm().vtpm_sight(), VtpmSight::Off | VtpmSight::NoSign)
    }

    /// For what lies in files that were not understood.
    fn not_known(&self) -> Answer {
        Answer::new(
            Holding::UnknownHere,
            None,
            format!("not known: {}", why_not_known(self.vm())),
            "keep the VM's recovery passwords, and look at the remarks of `lifeboat vms --json`",
        )
    }

    fn addressees(&self) -> Option<&Addressees> {
        self.vm().addressed_to.as_ref()
    }

    /// A guarded fabric starts it; else, with a VM key protector, its host alone.
    fn is_guarded(&self) -> Option<bool> {
        self.addressees().map(|addressees| !addressees.guardians.is_empty())
    }

    fn bitlocker_volumes(&self) -> Vec<&lifeboat_schema::VolumeHeadEntry> {
        let heads = self.vm().disks.iter().filter_map(|disk| disk.head.as_ref());
        heads
            .flat_map(|head| &head.volumes)
            .filter(|one| one.encryption == EncryptionKind::Bitlocker)
            .collect()
    }

    fn companions_of(&self, kinds: &[CompanionKind]) -> Vec<&'a FoundCompanion> {
        self.companions.iter().filter(|one| kinds.contains(&one.entry.companion.kind)).collect()
    }

    fn vm_files(&self) -> Answer {
        let files = self.newest.entry.artefacts.iter().filter(|one| one.kind.is_vm_file()).count();
        let what = format!("{files} files, captured {} on {}", self.captured(), self.newest.host);
        match self.newest.carried {
            None => Answer::new(Holding::Held, Some(self.first), what, ""),
            Some(_) => Answer::new(
                Holding::Partly,
                Some(self.first),
                format!("{what}; the host's newest record only carries it forward"),
                "find out why the host no longer captures it: look at its last run",
            ),
        }
    }

    fn vtpm_state(&self) -> Answer {
        let vm = self.vm();
        let since = Some(self.captured());
        match (&vm.vtpm, &vm.guest_state) {
            (Some(state), _) => {
                Answer::new(Holding::Held, since, format!("{} bytes in {}", state.size, state.file), "")
            }
            (None, Some(state)) if state.vtpm => {
                Answer::new(Holding::Held, since, format!("in the guest state {}", state.file), "")
            }
            _ if vm.vtpm_sight() == VtpmSight::NotKnown => self.not_known(),
            _ if self.has_vtpm() => Answer::new(
                Holding::NotHeld,
                None,
                "it has a vTPM, and no state of it was found in its files",
                "keep the VM's recovery passwords, and look at the remarks of `lifeboat vms --json`",
            ),
            _ => Answer::not_needed("it has no vTPM"),
        }
    }

    fn key_protector(&self) -> Answer {
        let vm = self.vm();
        let since = Some(self.captured());
        match (&vm.key_protector, vm.pairing) {
            (None, _) if !self.has_vtpm() => Answer::not_needed("it has no vTPM"),
            (None, _) if vm.vtpm_sight() == VtpmSight::NotKnown => self.not_known(),
            (None, _) => Answer::new(
                Holding::NotHeld,
                None,
                "none was found in its files",
                "look at Get-VMKeyProtector on its host; never make a new one for it: that orphans the vTPM",
            ),
            (Some(_), Pairing::Torn) => Answer::new(
                Holding::NotHeld,
                since,
                "it breaks off, and opens nothing",
                "capture the VM again; look into an older snapshot (lifeboat snapshots)",
            ),
            (Some(_), Pairing::Mixed) => Answer::new(
                Holding::Partly,
                since,
                "it stands in another file than the vTPM state: nothing shows that they belong together",
                "capture the VM from a shadow copy or an export",
            ),
            (Some(_), Pairing::CapturedTogether | Pairing::Opens) => {
                Answer::new(Holding::Held, since, "captured together with the vTPM state", "")
            }
            (Some(_), Pairing::None | Pairing::KeyProtectorMissing) => {
                Answer::new(Holding::Held, since, "nothing shows which vTPM state it opens", "")
            }
        }
    }

    fn guardians(&self) -> Answer {
        let Some(addressees) = self.addressees() else {
            return match self.vm().key_protector {
                Some(_) => Answer::new(
                    Holding::UnknownHere,
                    None,
                    "its VM key protector is not understood",
                    "save it with Get-VMKeyProtector, and run `lifeboat guardian inspect`",
                ),
                None => Answer::not_needed("it has no VM key protector"),
            };
        };
        let names = |all: &[lifeboat_schema::GuardianEntry]| {
            all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let guardians = match addressees.guardians.as_slice() {
            [] => "no guardian".to_owned(),
            some => format!("guardians {}", names(some)),
        };
        let what = format!("owner {}, {guardians}: in its VM key protector", names(&addressees.owners));
        Answer::new(Holding::Held, Some(self.captured()), what, "")
    }

    /// Keys of a kind: those whose certificates stand in the VM key protector as `wanted`.
    fn keys(&self, kind: CompanionKind, today: &str) -> Answer {
        let wanted: Vec<_> = self
            .addressees()
            .into_iter()
            .flat_map(|addressees| &addressees.owners)
            .flat_map(|owner| [owner.signing.sha256, owner.encryption.sha256])
            .collect();
        let mut all = self.companions_of(&[kind]);
        // The certificate beside a PFX is no key.
        all.retain(|one| one.entry.companion.private_key);
        let certified = |one: &&&FoundCompanion| {
            let certificates = &one.entry.companion.certificates;
            certificates.iter().any(|certificate| wanted.contains(&certificate.certificate.sha256))
        };
        let fitting: Vec<_> = all.iter().filter(certified).collect();
        let names = |all: &[&&FoundCompanion]| {
            all.iter().map(|one| one.entry.companion.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let covered = wanted.iter().filter(|wanted| {
            let has = |one: &&&FoundCompanion| {
                one.entry.companion.certificates.iter().any(|one| one.certificate.sha256 == **wanted)
            };
            fitting.iter().any(has)
        });
        let since = fitting.iter().map(|one| one.entry.captured).min();
        match (fitting.len(), covered.count()) {
            (0, _) => {
                let blind = all.iter().filter(|one| one.entry.companion.certificates.is_empty()).count();
                match blind {
                    0 => {
                        Answer::new(Holding::NotHeld, None, "no PFX of this guardian is in the vault", today)
                    }
                    some => Answer::new(
                        Holding::UnknownHere,
                        None,
                        format!("{some} PFX files are held that do not tell whose they are"),
                        "put each one's certificate beside it under the same name (.cer), so that it can be told",
                    ),
                }
            }
            (_, covered) if covered == wanted.len() => {
                Answer::new(Holding::Held, since, format!("sealed to escrow: {}", names(&fitting)), "")
            }
            _ => Answer::new(
                Holding::Partly,
                since,
                format!("sealed to escrow: {}; of its two certificates only one is there", names(&fitting)),
                "add the PFX of the other certificate: signing and encryption are both needed",
            ),
        }
    }

    fn local_guardian_keys(&self) -> Answer {
        match self.is_guarded() {
            Some(false) => self.keys(
                CompanionKind::LocalGuardianKeys,
                "on its host export both certificates of the guardian with their private keys (Get-HgsGuardian, \
                 Export-PfxCertificate), and name their folder (kind local-guardian-keys) in agent.toml",
            ),
            Some(true) => Answer::not_needed("a guarded fabric starts it, no local guardian"),
            None => Answer::not_needed("no VM key protector of it is known"),
        }
    }

    fn owner_keys(&self) -> Answer {
        match self.is_guarded() {
            Some(true) => self.keys(
                CompanionKind::OwnerKeys,
                "have the owner's two PFX files escrowed: name their folder (kind owner-keys) in the agent.toml of a machine \
                 of the owner",
            ),
            Some(false) => Answer::not_needed("its owner is the local guardian of its host"),
            None => Answer::not_needed("no VM key protector of it is known"),
        }
    }

    fn recovery_secrets(&self) -> Answer {
        let volumes = self.bitlocker_volumes();
        let unread = self.vm().disks.iter().filter(|disk| disk.head.is_none()).count();
        if volumes.is_empty() {
            return match unread {
                0 => Answer::not_needed("none of its disks has a BitLocker volume"),
                some => Answer::new(
                    Holding::UnknownHere,
                    None,
                    format!("{some} of its disks were not read"),
                    "make its disks readable for the agent: `lifeboat vms --json` says why they are not",
                ),
            };
        }
        let has_secret = |volume: &&&lifeboat_schema::VolumeHeadEntry| {
            let protectors = volume.bitlocker.iter().flat_map(|info| &info.protectors);
            protectors
                .into_iter()
                .any(|one| matches!(one.kind, ProtectorKind::RecoveryPassword | ProtectorKind::ExternalKey))
        };
        let with = volumes.iter().filter(has_secret).count();
        if with < volumes.len() {
            return Answer::new(
                Holding::NotHeld,
                None,
                format!(
                    "{} of its {} BitLocker volumes have no recovery protector",
                    volumes.len() - with,
                    volumes.len()
                ),
                "add one in the guest: manage-bde -protectors -add C: -RecoveryPassword, and keep what it prints",
            );
        }
        Answer::new(
            Holding::UnknownHere,
            None,
            format!(
                "its {with} BitLocker volumes have recovery protectors; whether somebody keeps the secrets is not told here"
            ),
            "`lifeboat escrow list --vm` tells what the vault keeps of them; what is kept elsewhere (AD DS, Entra ID, paper) import or try",
        )
    }

    fn fve_metadata(&self) -> Answer {
        let volumes = self.bitlocker_volumes();
        let held = volumes.iter().filter(|volume| volume.fve_metadata.is_some()).count();
        let unread = self.vm().disks.iter().filter(|disk| disk.head.is_none());
        let problems: Vec<_> = unread.filter_map(|disk| disk.problem.as_deref()).collect();
        let since = Some(self.captured());
        match (held, volumes.len(), problems.first()) {
            (_, _, Some(problem)) => Answer::new(
                if held > 0 { Holding::Partly } else { Holding::UnknownHere },
                since.filter(|_| held > 0),
                format!("of {held} volumes; a disk was not read: {problem}"),
                "make its disks readable for the agent",
            ),
            (_, 0, None) if self.vm().disks.iter().all(|disk| disk.head.is_some()) => {
                Answer::not_needed("none of its disks has a BitLocker volume")
            }
            (_, 0, None) => Answer::new(
                Holding::UnknownHere,
                None,
                "its disks were not read",
                "make its disks readable for the agent",
            ),
            (held, all, None) if held == all => Answer::new(
                Holding::Held,
                since,
                format!("of all {all} volumes, with their boot sectors"),
                "",
            ),
            (held, all, None) => Answer::new(
                Holding::Partly,
                since,
                format!("of {held} of {all} volumes"),
                "look at its disks: `lifeboat disk inspect`",
            ),
        }
    }

    fn shielding_data(&self) -> Answer {
        let all = self.companions_of(&[CompanionKind::ShieldingData]);
        let fitting: Vec<_> = all.iter().filter(|one| one.entry.companion.serves(self.vm())).collect();
        let today = "name the folder of the shielding data it was made with (kind shielding-data, with its ingredients) in agent.toml";
        if fitting.is_empty() {
            return match (self.vm().security.shielding_requested, all.len()) {
                (Some(true), 0) => {
                    Answer::new(Holding::NotHeld, None, "no shielding data are in the vault", today)
                }
                (Some(true), some) => Answer::new(
                    Holding::UnknownHere,
                    None,
                    format!(
                        "{some} shielding data files are in the vault, and none tells that it served this VM"
                    ),
                    "name its VMs with `vms = [...]` at the folder in agent.toml",
                ),
                _ => Answer::not_needed("it is not shielded"),
            };
        }
        let missing: Vec<&str> = fitting
            .iter()
            .flat_map(|one| &one.entry.companion.needs)
            .filter(|need| need.held.is_empty())
            .map(|need| need.what.as_str())
            .collect();
        let names: Vec<&str> = fitting.iter().map(|one| one.entry.companion.name.as_str()).collect();
        let since = fitting.iter().map(|one| one.entry.captured).min();
        if missing.is_empty() {
            return Answer::new(
                Holding::Held,
                since,
                format!("{}, with its ingredients", names.join(", ")),
                "",
            );
        }
        Answer::new(
            Holding::Partly,
            since,
            format!("{}; to make it again these are missing: {}", names.join(", "), missing.join(", ")),
            "put them into the folder of its ingredients",
        )
    }

    /// What a template is made of; which template a VM came from, nothing tells.
    fn of_template(&self, kinds: &[CompanionKind], today: &str) -> Answer {
        let all = self.companions_of(kinds);
        if self.vm().security.shielding_requested != Some(true) && all.is_empty() {
            return Answer::not_needed("it is not shielded");
        }
        let since = all.iter().map(|one| one.entry.captured).min();
        let lacking: Vec<&str> = kinds
            .iter()
            .filter(|kind| self.companions_of(&[**kind]).is_empty())
            .map(|kind| kind.name())
            .collect();
        match (all.len(), lacking.as_slice()) {
            (0, _) => Answer::new(Holding::NotHeld, None, "none is in the vault", today),
            (some, []) => Answer::new(
                Holding::Held,
                since,
                format!("{some} in the vault; which of them this VM came from is not told"),
                "",
            ),
            (some, lacking) => Answer::new(
                Holding::Partly,
                since,
                format!("{some} in the vault; lacking: {}", lacking.join(", ")),
                today,
            ),
        }
    }

    fn hgs_state(&self) -> Answer {
        if self.is_guarded() != Some(true) {
            return Answer::not_needed("no guarded fabric starts it");
        }
        let all = self.companions_of(&[CompanionKind::HgsState]);
        let since = all.iter().map(|one| one.entry.captured).max();
        if all.is_empty() {
            return Answer::new(
                Holding::NotHeld,
                None,
                "no HGS export is in the vault",
                "have its administrator run Export-HgsServerState, and name the folder (kind hgs-state) in agent.toml",
            );
        }
        let mut missing: Vec<&str> = all
            .iter()
            .flat_map(|one| &one.entry.companion.needs)
            .filter(|need| need.held.is_empty())
            .map(|need| need.what.as_str())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let what = format!("{} exports; of which fabric is not told", all.len());
        if missing.is_empty() {
            return Answer::new(Holding::Held, since, what, "keep the export's password elsewhere");
        }
        Answer::new(
            Holding::Partly,
            since,
            format!("{what}; an export leaves out, and nothing beside it holds: {}", missing.join("; ")),
            "put these beside the export, into the folder of its ingredients",
        )
    }

    /// What becomes of the VM if these are lost where they lie now.
    pub fn what_if(&self, lost: &[ArtefactTopic]) -> WhatIf {
        let mut walk = Walk { facts: self, lost, steps: Vec::new(), grade: Grade::Known };
        let outcome = walk.outcome();
        WhatIf { lost: lost.to_vec(), outcome, grade: walk.grade, steps: walk.steps }
    }
}

/// A walk through a loss.
struct Walk<'f, 'a> {
    facts: &'f Facts<'a>,
    lost: &'f [ArtefactTopic],
    steps: Vec<Statement>,
    grade: Grade,
}

impl Walk<'_, '_> {
    fn is_lost(&self, topic: ArtefactTopic) -> bool {
        self.lost.contains(&topic)
    }

    fn is_held(&self, topic: ArtefactTopic) -> bool {
        self.facts.answer(topic).holding == Holding::Held
    }

    fn say(&mut self, grade: Grade, text: impl Into<String>) {
        self.grade = self.grade.max(grade);
        self.steps.push(Statement { grade, text: text.into() });
    }

    fn outcome(&mut self) -> Outcome {
        let has_vtpm = self.facts.has_vtpm();
        let needed = |topic: &ArtefactTopic| self.facts.answer(*topic).holding != Holding::NotNeeded;
        let touching: Vec<ArtefactTopic> = self.lost.iter().copied().filter(needed).collect();
        for topic in self.lost.iter().filter(|topic| !touching.contains(topic)) {
            let why = self.facts.answer(*topic).what;
            self.steps.push(Statement {
                grade: Grade::Known,
                text: format!("{}: not needed: {why}", topic.word()),
            });
        }
        if touching.is_empty() {
            return Outcome::Unharmed;
        }
        let files = [ArtefactTopic::VmFiles, ArtefactTopic::VtpmState, ArtefactTopic::KeyProtector];
        let must_restore = files.iter().any(|topic| self.is_lost(*topic));
        let mut starts = true;
        if must_restore {
            let captured = self.facts.captured();
            if self.restores() {
                let name = &self.facts.vm().name;
                self.say(Grade::Known, format!("`lifeboat restore {name:?}`: its files as captured {captured}, vTPM state and VM key protector of one copy; the disks come from your disk backup"));
                if has_vtpm && self.is_lost(ArtefactTopic::RecoverySecrets) {
                    self.say(Grade::Likely, "if the guest's BitLocker was resealed after that, the disk asks for its recovery password, which is among the lost: without another way in its data are gone");
                } else if has_vtpm {
                    self.say(Grade::Likely, "if the guest's BitLocker was resealed after that, the disk asks once for its recovery password");
                }
            } else {
                self.say(Grade::Known, "the vault does not hold vTPM state and VM key protector that belong together: the vTPM is gone");
                starts = false;
            }
        }
        if starts && has_vtpm {
            match self.opens() {
                Some(outcome) => {
                    return if must_restore || outcome != Outcome::Unharmed {
                        outcome.max(Outcome::Starts)
                    } else {
                        self.minor(&touching)
                    };
                }
                None => starts = false,
            }
        }
        if starts {
            return if must_restore { Outcome::Starts } else { self.minor(&touching) };
        }
        self.by_secret()
    }

    /// Losses that stop nothing today.
    fn minor(&mut self, touching: &[ArtefactTopic]) -> Outcome {
        for topic in touching {
            let row = ARTEFACTS.iter().find(|row| row.topic == *topic);
            let impact = row.map_or("", |row| row.if_lost);
            let held = match self.facts.answer(*topic).holding {
                Holding::Held => "the vault holds it",
                Holding::Partly => "the vault holds a part of it",
                _ => "the vault does not hold it",
            };
            self.say(Grade::Known, format!("{}: the VM goes on; {held}; {impact}", topic.word()));
        }
        Outcome::Unharmed
    }

    /// Whether what the vault holds of the VM starts with its vTPM.
    fn restores(&self) -> bool {
        let fits = |topic| {
            let holding = self.facts.answer(topic).holding;
            matches!(holding, Holding::Held | Holding::NotNeeded)
        };
        fits(ArtefactTopic::VtpmState) && fits(ArtefactTopic::KeyProtector)
    }

    /// Who opens the VM key protector; `None`: nobody.
    fn opens(&mut self) -> Option<Outcome> {
        match self.facts.is_guarded() {
            None => {
                self.say(
                    Grade::UnknownHere,
                    "whom its VM key protector is for, so whether anybody can open it",
                );
                Some(Outcome::Unharmed)
            }
            Some(false) if !self.is_lost(ArtefactTopic::LocalGuardianKeys) => {
                self.say(
                    Grade::Likely,
                    "its host's local guardian opens the VM key protector, as long as that host lives",
                );
                Some(Outcome::Unharmed)
            }
            Some(false) if self.is_held(ArtefactTopic::LocalGuardianKeys) => {
                self.say(Grade::Known, "both PFX files of its local guardian are in the vault: `lifeboat artefacts get` with the escrow identity");
                self.say(Grade::Likely, "import them on the new host into \"Shielded VM Local Certificates\" and register them with New-HgsGuardian, before the VM starts");
                Some(Outcome::Starts)
            }
            Some(false) => {
                self.say(Grade::Known, "nobody else can open its VM key protector: the local guardian's keys are not in the vault");
                None
            }
            Some(true) if !self.is_lost(ArtefactTopic::HgsState) => {
                self.say(Grade::Likely, "an HGS of its guardians opens the VM key protector");
                Some(Outcome::Unharmed)
            }
            Some(true) => self.without_hgs(),
        }
    }

    fn without_hgs(&mut self) -> Option<Outcome> {
        if self.is_held(ArtefactTopic::HgsState) {
            self.say(Grade::Likely, "the vault holds the HGS export and what it leaves out: set up an HGS, Import-HgsServerState with the export's password");
            return Some(Outcome::Starts);
        }
        if self.is_held(ArtefactTopic::OwnerKeys) {
            self.say(
                Grade::Known,
                "the owner's keys are in the vault: `lifeboat artefacts get` with the escrow identity",
            );
            self.say(Grade::Likely, "with them grant a new fabric's guardian access (Grant-HgsKeyProtectorAccess), or register them on an isolated local-mode host");
            return Some(Outcome::StartsAfterGrant);
        }
        if !self.is_lost(ArtefactTopic::OwnerKeys) {
            self.say(
                Grade::UnknownHere,
                "whether the owner still has both PFX files: with them access is granted to a new fabric",
            );
            return Some(Outcome::StartsAfterGrant);
        }
        self.say(Grade::Known, "neither HGS nor the owner's keys are left, and the vault does not hold them: nobody opens the VM key protector");
        None
    }

    /// Without the vTPM.
    fn by_secret(&mut self) -> Outcome {
        let secrets = self.facts.answer(ArtefactTopic::RecoverySecrets).holding;
        if secrets == Holding::NotNeeded {
            self.say(
                Grade::Known,
                "none of its disks is encrypted by BitLocker: build the VM anew and attach them",
            );
            return Outcome::DataByRecoverySecret;
        }
        if self.is_lost(ArtefactTopic::RecoverySecrets) || secrets == Holding::NotHeld {
            self.say(
                Grade::Known,
                "without vTPM and without a recovery secret nothing that is known here opens its disks",
            );
            return Outcome::NoKnownWay;
        }
        if self.is_lost(ArtefactTopic::FveMetadata) && !self.is_held(ArtefactTopic::FveMetadata) {
            self.say(
                Grade::Known,
                "the disks' FVE metadata are lost and not in the vault: no key opens them",
            );
            return Outcome::NoKnownWay;
        }
        self.say(
            Grade::UnknownHere,
            "whether a recovery secret is kept: with one, `lifeboat recover` opens the disks",
        );
        if self.is_lost(ArtefactTopic::FveMetadata) {
            self.say(
                Grade::Known,
                "the vault holds their FVE metadata, which take the place of the lost ones",
            );
        }
        Outcome::DataByRecoverySecret
    }
}
