//! Time passes over a fabric: VMs change, are rolled, moved, deleted, added, and files are torn.
//!
//! A round depends on the fabric's seed and the number of the round. Files torn in an earlier round are mended first, as the
//! next write of a host mends them; then each VM has one thing happen to it at most.

use std::fs;
use std::path::Path;

use lifeboat_schema::{ArtefactKind, Digest};
use lifeboat_vmcx::{Container, Wholeness};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, FileState, Lack, Tear, VmAnswer};
use super::error::{FabricError, at};
use super::identity::VmIdentity;
use super::stream::Stream;
use super::vm::{self, Age};
use super::write::{Fabric, parallel, write_vm};

/// What happens in one round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgeOptions {
    /// Number of the round; the same number on the same fabric does the same.
    pub round: u32,
    /// Share of VMs that run for a while, in percent of all: configuration, guest state, vTPM state and VM key protector
    /// change. Above zero it is one VM at least.
    pub change_percent: f64,
    /// VMs whose VM key protector is rolled, with the vTPM state that is encrypted under it, and nothing else.
    pub roll: u32,
    /// VMs that move to the next host, with their files as they are.
    pub move_between_hosts: u32,
    /// VMs that are deleted.
    pub delete: u32,
    /// VMs that are added.
    pub add: u32,
    /// Files that are torn, each of another VM and in turn truncated, flipped and half written.
    pub tear: u32,
}

impl AgeOptions {
    /// Lets a share of the VMs run for a while.
    pub fn change(round: u32, percent: f64) -> Self {
        Self { round, change_percent: percent, ..Self::default() }
    }
}

/// What happened in one round; VMs by id, as [`Answers::vm`] finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeReport {
    /// Number of the round.
    pub round: u32,
    /// VMs whose torn files were mended.
    pub mended: Vec<String>,
    /// VMs that changed.
    pub changed: Vec<String>,
    /// VMs whose VM key protector was rolled.
    pub rolled: Vec<String>,
    /// VMs that moved.
    pub moved: Vec<MovedVm>,
    /// VMs that were deleted.
    pub deleted: Vec<String>,
    /// VMs that were added.
    pub added: Vec<String>,
    /// Files that were torn.
    pub torn: Vec<TornFile>,
}

/// A VM that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedVm {
    /// The VM.
    pub vm_id: String,
    /// Host that had it.
    pub from: String,
    /// Host that has it.
    pub to: String,
}

/// A file that was torn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TornFile {
    /// The VM.
    pub vm_id: String,
    /// Place of the file in the folder of the fabric.
    pub place: String,
    /// How.
    pub tear: Tear,
}

impl Fabric {
    /// Lets a round pass; the files and the answer sheet on disk are changed.
    ///
    /// When there are fewer VMs than the options want, less happens; the report says what did.
    ///
    /// # Errors
    /// When VMs should move and there is one host, or a file cannot be read or written. The fabric is then unusable.
    pub fn age(&mut self, options: &AgeOptions) -> Result<AgeReport, FabricError> {
        if options.move_between_hosts > 0 && self.answers.hosts.len() < 2 {
            return Err(FabricError::Option {
                option: "move_between_hosts",
                found: options.move_between_hosts.into(),
                why: "there is one host only",
            });
        }
        if !(0.0..=100.0).contains(&options.change_percent) {
            return Err(FabricError::Option {
                option: "change_percent",
                found: options.change_percent as u64,
                why: "it must be from 0 to 100",
            });
        }
        let mut report = AgeReport { round: options.round, ..AgeReport::default() };
        report.mended = self.mend()?;

        let mut stream = Stream::new(self.answers.options.seed, "age", &[options.round.into()]);
        let mut order: Vec<usize> = (0..self.answers.vms.len()).collect();
        stream.shuffle(&mut order);
        let all = order.len();
        let mut order = order.into_iter();
        let mut take = |count: usize| -> Vec<usize> { order.by_ref().take(count).collect() };
        let changes = (all as f64 * options.change_percent / 100.0).round() as usize;
        let changes = if options.change_percent > 0.0 { changes.max(1) } else { 0 };
        // Those that leave come first, so that a small fabric still shows them.
        let deleted = take(options.delete as usize);
        let moved = take(options.move_between_hosts as usize);
        let torn = take(options.tear as usize);
        let rolled = self.only_with_vtpm(&mut take, options.roll as usize);
        let changed = take(changes);

        let ids = |answers: &Answers, which: &[usize]| -> Vec<String> {
            which.iter().map(|&index| answers.vms[index].vm_id.clone()).collect()
        };
        self.advance(&changed, true)?;
        self.advance(&rolled, false)?;
        report.changed = ids(&self.answers, &changed);
        report.rolled = ids(&self.answers, &rolled);
        for index in moved {
            report.moved.push(self.move_to_next_host(index)?);
        }
        for (index, tear) in
            torn.into_iter().zip([Tear::Truncated, Tear::Flipped, Tear::HalfWritten].into_iter().cycle())
        {
            report.torn.push(self.tear(index, tear, &mut stream)?);
        }
        report.deleted = ids(&self.answers, &deleted);
        self.delete(deleted)?;
        report.added = self.add(options.add)?;
        self.answers.rounds += 1;
        self.save()?;
        Ok(report)
    }

    /// Takes VMs that have something to roll.
    fn only_with_vtpm(&self, take: &mut impl FnMut(usize) -> Vec<usize>, count: usize) -> Vec<usize> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some(&index) = take(1).first() else { break };
            if self.answers.vms[index].kind.has_vtpm() {
                taken.push(index);
            }
        }
        taken
    }

    /// Rewrites the files of VMs one step later in their lives.
    fn advance(&mut self, which: &[usize], has_run: bool) -> Result<(), FabricError> {
        let (answers, cast, dir) = (&self.answers, &self.cast, &self.dir);
        let changed = parallel(which, |&index| {
            let before = &answers.vms[index];
            let age = Age {
                host: &before.host,
                revision: before.revision + u32::from(has_run),
                rolls: before.rolls + 1,
            };
            write_vm(dir, vm::build(&answers.options, cast, before.number, age)?, Some(before))
        })?;
        for (&index, vm) in which.iter().zip(changed) {
            self.answers.vms[index] = vm;
        }
        Ok(())
    }

    fn mend(&mut self) -> Result<Vec<String>, FabricError> {
        let mut mended = Vec::new();
        for index in 0..self.answers.vms.len() {
            let before = &self.answers.vms[index];
            if before.is_torn() {
                let age = Age { host: &before.host, revision: before.revision, rolls: before.rolls };
                let built = vm::build(&self.answers.options, &self.cast, before.number, age)?;
                let vm = write_vm(&self.dir, built, Some(before))?;
                mended.push(vm.vm_id.clone());
                self.answers.vms[index] = vm;
            }
        }
        Ok(mended)
    }

    fn move_to_next_host(&mut self, index: usize) -> Result<MovedVm, FabricError> {
        let hosts = &self.answers.hosts;
        let vm = &mut self.answers.vms[index];
        let at_host = hosts.iter().position(|host| *host == vm.host).unwrap_or_default();
        let to = hosts[(at_host + 1) % hosts.len()].clone();
        let identity = VmIdentity::of(&self.answers.options, vm.number);
        for file in &mut vm.files {
            let place = vm::place(&identity, &to, &file.path);
            let (old, new) = (self.dir.join(&file.place), self.dir.join(&place));
            if let Some(folder) = new.parent() {
                fs::create_dir_all(folder).map_err(at(folder))?;
            }
            fs::rename(&old, &new).map_err(at(&new))?;
            remove_empty_folders(&self.dir, &old);
            file.place = place;
        }
        let from = std::mem::replace(&mut vm.host, to.clone());
        Ok(MovedVm { vm_id: vm.vm_id.clone(), from, to })
    }

    /// Damages the VMCX or VMRS of a VM so that its checksums show it.
    fn tear(&mut self, index: usize, tear: Tear, stream: &mut Stream) -> Result<TornFile, FabricError> {
        let vm = &mut self.answers.vms[index];
        let kind = *stream.pick(&[ArtefactKind::Configuration, ArtefactKind::RuntimeState]);
        let file = vm
            .files
            .iter_mut()
            .find(|file| file.kind == kind)
            .expect("each VM is built with a configuration and a runtime state");
        let path = self.dir.join(&file.place);
        let whole = fs::read(&path).map_err(at(&path))?;
        let torn = damage(&whole, tear, stream)
            .ok_or_else(|| FabricError::Untearable { place: file.place.clone(), how: how(tear) })?;
        fs::write(&path, &torn).map_err(at(&path))?;
        (file.size, file.digest, file.state) = (torn.len() as u64, Digest::of(&torn), FileState::Torn(tear));
        let place = file.place.clone();
        vm.lacks.insert(Lack::WholeCopy);
        Ok(TornFile { vm_id: vm.vm_id.clone(), place, tear })
    }

    fn delete(&mut self, mut which: Vec<usize>) -> Result<(), FabricError> {
        // From behind, so that indexes stay right.
        which.sort_unstable_by(|a, b| b.cmp(a));
        for index in which {
            let vm: VmAnswer = self.answers.vms.remove(index);
            for file in &vm.files {
                let path = self.dir.join(&file.place);
                fs::remove_file(&path).map_err(at(&path))?;
                remove_empty_folders(&self.dir, &path);
            }
            self.answers.deleted.push(vm);
        }
        Ok(())
    }

    fn add(&mut self, count: u32) -> Result<Vec<String>, FabricError> {
        let first = self.answers.next_number;
        let numbers: Vec<u32> = (first..first.saturating_add(count)).collect();
        let (answers, cast, dir) = (&self.answers, &self.cast, &self.dir);
        let added = parallel(&numbers, |&number| {
            let host = &answers.hosts[number as usize % answers.hosts.len()];
            let age = Age { host, revision: 0, rolls: 0 };
            write_vm(dir, vm::build(&answers.options, cast, number, age)?, None)
        })?;
        self.answers.next_number = first.saturating_add(count);
        let ids = added.iter().map(|vm| vm.vm_id.clone()).collect();
        self.answers.vms.extend(added);
        Ok(ids)
    }
}

fn how(tear: Tear) -> &'static str {
    match tear {
        Tear::Truncated => "truncating",
        Tear::Flipped => "flipping",
        Tear::HalfWritten => "half-writing",
    }
}

/// Damages a container; `None` when nothing was found that its checksums show.
fn damage(whole: &[u8], tear: Tear, stream: &mut Stream) -> Option<Vec<u8>> {
    // The bytes of file objects have no checksum, so that many flips show nowhere.
    const ATTEMPTS: u32 = 1000;
    (0..ATTEMPTS).find_map(|_| {
        let mut torn = whole.to_vec();
        match tear {
            Tear::Truncated => torn.truncate(stream.below(whole.len() as u64) as usize),
            Tear::Flipped => torn[stream.below(whole.len() as u64) as usize] ^= 1 << stream.below(8),
            Tear::HalfWritten => torn[whole.len() / 2..].fill(0),
        }
        let inspection = Container::inspect(&torn[..]).ok()?;
        (inspection.report.wholeness == Wholeness::Torn).then_some(torn)
    })
}

/// Removes the folders above a file that is gone, as far as they are empty, up to that of the host.
fn remove_empty_folders(dir: &Path, gone: &Path) {
    let folders = gone.ancestors().skip(1).take_while(|folder| folder.parent() != Some(dir));
    for folder in folders {
        // Not empty is the usual answer, and no other matters.
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
}
