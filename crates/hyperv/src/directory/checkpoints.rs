//! Whose a checkpoint is.
//!
//! Beside exactly one VM a checkpoint is that VM's, and nothing is read. Beside several, or none, these are asked in turn:
//!
//! 1. the checkpoint's own configuration: a VM beside it has the id that is named there (`properties/global_id` or
//!    `settings/global/logical_id`; which of them holds the VM's id on a real host is unverified, so both count);
//! 2. the configurations of the VMs beside it: one names the checkpoint below `global_settings/snapshots/list` (the form of
//!    the list is unverified, so any GUID there counts);
//! 3. all other VMs, by the id of step 1: a VM may keep its checkpoints on another volume.
//!
//! Answers are kept as long as the file's attributes are equal. If a file that answered before cannot be read now, its old
//! answer stands, so that the capture of its VM finds it torn.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use lifeboat_engine::source::{FileStat, FoundFile, SourceError};
use lifeboat_schema::{ArtefactKind, PART_BYTES};
use lifeboat_vmcx::{Container, Guid, VmConfiguration};

use super::group::Homes;
use super::open::{self, Content};
use crate::{describe, proof};

/// Most threads that read configurations.
const MAX_THREADS: usize = 4;

/// Files of one checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) id: Guid,
    pub(crate) files: Vec<FoundFile>,
}

impl Checkpoint {
    fn configuration(&self) -> Option<&FoundFile> {
        self.files.iter().find(|file| file.kind == ArtefactKind::CheckpointConfiguration)
    }

    /// The file that messages name.
    pub(crate) fn place(&self) -> String {
        self.configuration().unwrap_or(&self.files[0]).location.display().to_string()
    }
}

/// What configurations said, by file.
#[derive(Debug, Default)]
pub(crate) struct Memory(HashMap<PathBuf, Answer>);

#[derive(Debug)]
struct Answer {
    stat: FileStat,
    claims: Claims,
    /// Whether the discovery in progress has asked for it.
    is_wanted: bool,
}

/// Ids in a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Claims {
    /// Whose it is.
    ids: Vec<Guid>,
    /// Checkpoints that it lists.
    listed: Vec<Guid>,
}

impl Memory {
    /// Reads those of the configurations that changed since they were read; answers those that cannot be read.
    fn refresh<'a>(&mut self, files: impl Iterator<Item = &'a FoundFile>) -> HashMap<PathBuf, SourceError> {
        let mut changed = Vec::new();
        for file in files {
            let known = self.0.get_mut(&file.location);
            let is_current = known.as_ref().is_some_and(|answer| answer.stat == file.stat);
            if let Some(answer) = known {
                answer.is_wanted = true;
            }
            if !is_current {
                changed.push(file);
            }
        }
        let mut errors = HashMap::new();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let share = changed.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let readers: Vec<_> = changed
                .chunks(share)
                .map(|files| {
                    scope.spawn(move || {
                        let mut bytes = Vec::new();
                        files.iter().map(|file| read(&file.location, &mut bytes)).collect::<Vec<_>>()
                    })
                })
                .collect();
            let answers = readers.into_iter().flat_map(|reader| match reader.join() {
                Ok(answers) => answers,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            for (file, answer) in changed.iter().zip(answers) {
                match answer {
                    Ok((stat, claims)) => {
                        self.0.insert(file.location.clone(), Answer { stat, claims, is_wanted: true });
                    }
                    Err(error) => drop(errors.insert(file.location.clone(), error)),
                }
            }
        });
        errors
    }

    fn claims(&self, file: Option<&FoundFile>) -> Option<&Claims> {
        file.and_then(|file| self.0.get(&file.location)).map(|answer| &answer.claims)
    }

    /// Drops what this discovery did not ask for.
    fn forget_unwanted(&mut self) {
        self.0.retain(|_, answer| std::mem::take(&mut answer.is_wanted));
    }
}

/// Gives each checkpoint to its VM; `lost` is told of those that have none, and why.
pub(crate) fn assign(
    homes: &mut Homes,
    memory: &mut Memory,
    mut lost: impl FnMut(&OsStr, Checkpoint, SourceError),
) {
    let mut open: Vec<(OsString, Checkpoint)> = Vec::new();
    for (place, home) in homes.iter_mut() {
        let checkpoints = std::mem::take(&mut home.checkpoints);
        match home.vms.as_mut_slice() {
            [vm] => vm.files.extend(checkpoints.into_iter().flat_map(|checkpoint| checkpoint.files)),
            _ => open.extend(checkpoints.into_iter().map(|checkpoint| (place.clone(), checkpoint))),
        }
    }
    if open.is_empty() {
        memory.forget_unwanted();
        return;
    }
    let mut errors = memory.refresh(open.iter().filter_map(|(_, checkpoint)| checkpoint.configuration()));
    let mut by_id: HashMap<Guid, Vec<(OsString, usize)>> = HashMap::new();
    for (place, home) in homes.iter() {
        for (index, vm) in home.vms.iter().enumerate() {
            by_id.entry(vm.id.clone()).or_default().push((place.clone(), index));
        }
    }
    open.retain_mut(|(place, checkpoint)| {
        let claims = memory.claims(checkpoint.configuration());
        let ids = claims.map(|claims| claims.ids.as_slice()).unwrap_or_default();
        let mut vms = ids.iter().filter_map(|id| by_id.get(id)).flatten();
        let beside = vms.find(|(home, _)| home == place);
        let vm = beside.and_then(|(_, index)| homes.get_mut(place)?.vms.get_mut(*index));
        match vm {
            Some(vm) => vm.files.append(&mut checkpoint.files),
            None => return true,
        }
        false
    });
    // Only now are the configurations of the VMs worth a read.
    let places: BTreeSet<&OsString> = open.iter().map(|(place, _)| place).collect();
    let beside = || places.iter().filter_map(|&place| Some((place, homes.get(place)?)));
    drop(memory.refresh(beside().flat_map(|(_, home)| &home.vms).filter_map(|vm| vm.configuration())));
    let mut listed = HashMap::new();
    for (place, home) in beside() {
        for (index, vm) in home.vms.iter().enumerate() {
            let claims = memory.claims(vm.configuration());
            let ids = claims.map(|claims| claims.listed.as_slice()).unwrap_or_default();
            listed.extend(ids.iter().map(|id| ((place.clone(), id.clone()), index)));
        }
    }
    for (place, mut checkpoint) in open {
        let claims = memory.claims(checkpoint.configuration()).cloned().unwrap_or_default();
        let key = (place, checkpoint.id.clone());
        let mut elsewhere = claims.ids.iter().filter_map(|id| by_id.get(id)).flatten();
        let found = match listed.get(&key) {
            Some(index) => Ok((&key.0, *index)),
            None => match (elsewhere.next(), elsewhere.next()) {
                (Some((place, index)), None) => Ok((place, *index)),
                (Some(_), Some(_)) => Err("there are several VMs that it may belong to".to_owned()),
                (None, _) => Err(match claims.ids.iter().find(|id| **id != checkpoint.id) {
                    Some(id) => format!("it belongs to VM {id}, which was not found"),
                    None => "it names no VM, and no VM beside it names it".to_owned(),
                }),
            },
        };
        let what = match found {
            Ok((home, index)) => {
                if let Some(vm) = homes.get_mut(home).and_then(|home| home.vms.get_mut(index)) {
                    vm.files.append(&mut checkpoint.files);
                }
                continue;
            }
            Err(what) => what,
        };
        let unread = checkpoint.configuration().and_then(|file| errors.remove(&file.location));
        let error = unread.unwrap_or_else(|| SourceError::Contradiction {
            place: checkpoint.place(),
            what: format!(
                "whose checkpoint {} is cannot be told: {what}; it is captured alone",
                checkpoint.id
            ),
        });
        lost(&key.0, checkpoint, error);
    }
    memory.forget_unwanted();
}

/// Reads the ids in a configuration, with the attributes it had.
fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(FileStat, Claims), SourceError> {
    let place = || path.display().to_string();
    let unreadable = |source| SourceError::Unreadable { place: place(), source };
    let (file, stat) = open::open(path).map_err(unreadable)?;
    bytes.clear();
    if stat.size > PART_BYTES {
        let what = format!("{} bytes are too many for the configuration of a checkpoint", stat.size);
        return Err(SourceError::Contradiction { place: place(), what });
    }
    open::read_held(&file, stat.size, bytes).map_err(unreadable)?;
    let inspection = Container::inspect(Content::Held(bytes)).map_err(unreadable)?;
    let torn = |what| SourceError::Torn { place: place(), what, attempts: 1 };
    match proof::judge(&inspection.report) {
        Err(damage) if !damage.is_tolerable => return Err(torn(damage.what)),
        _ => {}
    }
    let Some(container) = inspection.container else { return Err(torn("it is no container".to_owned())) };
    let view = VmConfiguration::read(&container).map_err(unreadable)?;
    // Usually the two are one.
    let logical_id = view.logical_id.filter(|id| view.vm_id.as_ref() != Some(id));
    let ids = view.vm_id.into_iter().chain(logical_id).collect();
    Ok((stat, Claims { ids, listed: describe::listed_checkpoints(&container) }))
}
