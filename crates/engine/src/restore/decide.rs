//! The decision of a restore plan: facts in, verdict out.
//!
//! A plan is asked one thing: what is to be done now. The answer hangs on five facts, each a closed list, so that a test walks
//! all of their combinations. How the facts are found stands in `facts`, how the answer is worded in `words`.
//!
//! Deliberately knows no names, no files and no text, and never answers that a VM key protector be made anew.

use lifeboat_schema::{BootExpectation, DiskFit, Grade, NextStep, Verdict};

/// What became of the original files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Originals {
    /// Nobody has looked.
    NotSurveyed,
    /// None were found where was looked.
    NotFound,
    /// Some were found, and they are not whole, or older than the snapshot.
    NotUsable,
    /// They were found whole, and are not older than the snapshot.
    Whole,
}

/// What the snapshot holds of vTPM state and VM key protector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Capture {
    /// No vTPM, as far as the files say.
    NoVtpm,
    /// Both from one copy of one file.
    Together,
    /// From different files.
    Mixed,
    /// The VM key protector breaks off.
    Torn,
    /// vTPM state without a VM key protector.
    KeyProtectorMissing,
    /// vTPM state in the guest state; what opens it is not known.
    InGuestState,
    /// There should be vTPM state, or there may be, and none was seen.
    NotSeen,
}

/// Who can open the VM key protector on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// There is none to be opened.
    NotNeeded,
    /// A guardian of the target.
    Guardian {
        /// Whether one of its certificates is no longer valid, which a guarded fabric does not ask.
        is_expired: bool,
    },
    /// No guardian of the target.
    NoneOfTarget,
    /// No guardian of the target, but its owner's keys are at hand.
    OwnerKeysOnly,
    /// A host's local guardian alone.
    LocalGuardian,
    /// The guardians of the target were not given.
    TargetNotGiven,
    /// The VM key protector does not say: it is not understood.
    NotUnderstood,
}

/// Whether the target runs the configuration version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// It does, by the public table of versions.
    Runs,
    /// It does not.
    DoesNotRun,
    /// The target was not given, or the version is not known.
    NotKnown,
}

/// The disks that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Disks {
    /// None were.
    NotGiven,
    /// The worst of them stands so to the snapshot.
    Given(DiskFit),
    /// There are disks, and no capture holds their VM.
    Only,
}

/// Everything that a decision hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    /// What became of the original files.
    pub originals: Originals,
    /// What the snapshot holds.
    pub capture: Capture,
    /// Who can open the VM key protector.
    pub key: Key,
    /// Whether the target runs the configuration version.
    pub version: Version,
    /// The disks.
    pub disks: Disks,
}

/// What stands in the way of a snapshot on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    /// The VM key protector breaks off.
    Torn,
    /// There is vTPM state and no VM key protector.
    KeyProtectorMissing,
    /// No guardian of the target is among those of the VM key protector.
    NoGuardian,
    /// The target does not run the configuration version.
    Version,
}

impl Obstacle {
    /// How sure it is. The table of versions is documented, not asked of the host.
    fn grade(self) -> Grade {
        match self {
            Self::Torn | Self::KeyProtectorMissing | Self::NoGuardian => Grade::Known,
            Self::Version => Grade::Likely,
        }
    }

    /// What helps against it.
    fn next(self) -> NextStep {
        match self {
            Self::Torn | Self::KeyProtectorMissing => NextStep::TakeAnotherSnapshot,
            Self::NoGuardian => NextStep::FindGuardianOrOwner,
            Self::Version => NextStep::TakeAnotherHost,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What it comes to.
    pub verdict: Verdict,
    /// How sure that is.
    pub grade: Grade,
    /// What stands in the way, the hardest first; empty where nothing of the snapshot is needed.
    pub obstacles: Vec<Obstacle>,
    /// What to expect at boot.
    pub boot: BootExpectation,
    /// How sure that is.
    pub boot_grade: Grade,
    /// What to do next.
    pub next: NextStep,
}

/// Decides.
#[must_use]
pub(crate) fn decide(facts: &Facts) -> Decision {
    // Whatever else is true, whole originals are newer than any snapshot of them.
    if facts.originals == Originals::Whole {
        return Decision {
            verdict: Verdict::RegisterOriginals,
            grade: Grade::Known,
            obstacles: Vec::new(),
            boot: BootExpectation::AsBefore,
            boot_grade: Grade::Likely,
            next: NextStep::RegisterInPlace,
        };
    }
    if facts.disks == Disks::Only {
        return Decision {
            verdict: Verdict::RecoverDisk,
            grade: Grade::Known,
            obstacles: Vec::new(),
            boot: BootExpectation::AsksForRecovery,
            boot_grade: Grade::Likely,
            next: NextStep::RecoverDisk,
        };
    }
    let obstacles = obstacles(facts);
    if let Some(first) = obstacles.first() {
        let grade = obstacles.iter().map(|one| one.grade()).min().unwrap_or(Grade::UnknownHere);
        let (boot, next) = (BootExpectation::DoesNotStart, first.next());
        return Decision { verdict: Verdict::Cannot, grade, boot, boot_grade: grade, next, obstacles };
    }
    let (verdict, next) = match facts.key {
        Key::OwnerKeysOnly => (Verdict::OnlyWithOwnerKeys, NextStep::UseOwnerKeys),
        Key::LocalGuardian => (Verdict::ImportGuardianFirst, NextStep::ImportLocalGuardian),
        _ => match facts.disks {
            Disks::NotGiven | Disks::Given(DiskFit::NotOfThisVm | DiskFit::Unreadable) => {
                (Verdict::NoKnownObstacle, NextStep::BringDisk)
            }
            Disks::Given(_) | Disks::Only => (Verdict::NoKnownObstacle, NextStep::CompareAndRegister),
        },
    };
    let (boot, of_disk) = boot(facts);
    let grade = certainty(facts);
    Decision { verdict, grade, obstacles, boot, boot_grade: grade.max(of_disk), next }
}

/// What stands in the way.
fn obstacles(facts: &Facts) -> Vec<Obstacle> {
    let of_capture = match facts.capture {
        Capture::Torn => Some(Obstacle::Torn),
        Capture::KeyProtectorMissing => Some(Obstacle::KeyProtectorMissing),
        _ => None,
    };
    let of_key = (facts.key == Key::NoneOfTarget).then_some(Obstacle::NoGuardian);
    let of_version = (facts.version == Version::DoesNotRun).then_some(Obstacle::Version);
    [of_capture, of_key, of_version].into_iter().flatten().collect()
}

/// How sure it can be that nothing stands in the way.
fn certainty(facts: &Facts) -> Grade {
    let of_capture = match facts.capture {
        Capture::NoVtpm | Capture::Together => Grade::Likely,
        _ => Grade::UnknownHere,
    };
    let of_key = match facts.key {
        Key::NotNeeded | Key::Guardian { .. } | Key::OwnerKeysOnly | Key::LocalGuardian => Grade::Likely,
        Key::NoneOfTarget | Key::TargetNotGiven | Key::NotUnderstood => Grade::UnknownHere,
    };
    let of_version = match facts.version {
        Version::Runs => Grade::Likely,
        Version::DoesNotRun | Version::NotKnown => Grade::UnknownHere,
    };
    of_capture.max(of_key).max(of_version)
}

/// What the disk does at boot, if the vTPM opens.
fn boot(facts: &Facts) -> (BootExpectation, Grade) {
    if facts.capture == Capture::NoVtpm {
        return (BootExpectation::AsBefore, Grade::Likely);
    }
    match facts.disks {
        Disks::Given(DiskFit::SameGeneration) => (BootExpectation::AsBefore, Grade::Likely),
        // Sealed to this vTPM by a protector that both have; what it measured meanwhile may differ.
        Disks::Given(DiskFit::Older | DiskFit::Newer) => (BootExpectation::MayAskOnce, Grade::Likely),
        Disks::Given(DiskFit::OtherTpm) => (BootExpectation::AsksForRecovery, Grade::Likely),
        Disks::Given(DiskFit::NotEncrypted) => (BootExpectation::AsBefore, Grade::Likely),
        Disks::Given(DiskFit::NotOfThisVm | DiskFit::Unreadable) | Disks::NotGiven | Disks::Only => {
            (BootExpectation::HangsOnDisk, Grade::UnknownHere)
        }
    }
}

#[cfg(test)]
mod tests;
