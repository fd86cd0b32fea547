//! From files to VMs: which files are one VM's, and how it lies there.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_engine::source::{Discovery, DiscoveryProblem, FoundFile, FoundVm, SourceError};
use lifeboat_schema::{ArtefactKind, Layout};
use lifeboat_vmcx::Guid;

use super::checkpoints::{self, Checkpoint, Memory};
use super::walk::{StoreFile, Walked};
use crate::names::{self, FolderRole};

/// Folders that hold VMs and checkpoints, by path.
pub(crate) type Homes = BTreeMap<OsString, Home>;

/// VMs and checkpoints of one folder.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// VMs, those of one `Virtual Machines` folder together.
    pub(crate) vms: Vec<Vm>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Files whose names say nothing.
    unnamed: Vec<FoundFile>,
}

/// A VM under construction.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) id: Guid,
    pub(crate) files: Vec<FoundFile>,
}

impl Vm {
    /// The file with its configuration.
    pub(crate) fn configuration(&self) -> Option<&FoundFile> {
        self.files.iter().find(|file| file.kind == ArtefactKind::Configuration)
    }
}

/// Makes VMs of what a walk has found.
pub(crate) fn group(walked: Walked, roots: &[PathBuf], memory: &mut Memory) -> Discovery {
    let Walked { folders, homes_with_disks, mut problems } = walked;
    let mut homes = Homes::new();
    for folder in folders {
        take_folder(homes.entry(folder.home).or_default(), folder.role, folder.files);
    }
    for home in homes.values_mut() {
        settle_unnamed(home, &mut problems);
        home.vms.retain(|vm| is_a_vm(vm, &mut problems));
    }
    let mut alone = Vec::new();
    checkpoints::assign(&mut homes, memory, |home, checkpoint, error| {
        problems.push(DiscoveryProblem { place: checkpoint.place(), error });
        alone.push(FoundVm {
            vm_id: checkpoint.id.as_str().to_owned(),
            place: home.to_string_lossy().into_owned(),
            layout: Layout::Live,
            files: in_order(checkpoint.files),
        });
    });
    let mut vms = alone;
    for (place, home) in homes {
        let is_export = home.vms.len() == 1
            && (homes_with_disks.contains(&place) || !roots.iter().any(|root| *root.as_os_str() == place));
        let layout = if is_export { Layout::Export } else { Layout::Live };
        let place = place.to_string_lossy();
        vms.extend(home.vms.into_iter().map(|vm| FoundVm {
            vm_id: vm.id.as_str().to_owned(),
            place: place.to_string(),
            layout,
            files: in_order(vm.files),
        }));
    }
    vms.sort_by(|a, b| {
        (&a.vm_id, &a.place, &a.files[0].location).cmp(&(&b.vm_id, &b.place, &b.files[0].location))
    });
    Discovery { vms, problems }
}

/// Sorts the files of a folder by the GUIDs in their names.
fn take_folder(home: &mut Home, role: FolderRole, files: Vec<StoreFile>) {
    let of_vms = role == FolderRole::Machines;
    let folder = if of_vms { names::MACHINES } else { names::SNAPSHOTS };
    let mut places: HashMap<Guid, usize> = HashMap::new();
    for StoreFile { relative, location, stat } in files {
        let id = names::leading_guid(relative.split('/').next().unwrap_or_default());
        let depth = relative.bytes().filter(|&byte| byte == b'/').count();
        let kind = names::kind(role, &relative, depth);
        let file = FoundFile { path: format!("{folder}/{relative}"), location, kind, stat };
        let Some(id) = id else {
            home.unnamed.push(file);
            continue;
        };
        let next = if of_vms { home.vms.len() } else { home.checkpoints.len() };
        let at = *places.entry(id.clone()).or_insert(next);
        match (at == next, of_vms) {
            (true, true) => home.vms.push(Vm { id, files: vec![file] }),
            (true, false) => home.checkpoints.push(Checkpoint { id, files: vec![file] }),
            (false, true) => home.vms[at].files.push(file),
            (false, false) => home.checkpoints[at].files.push(file),
        }
    }
}

/// Gives files without a GUID to the only VM, or says that they should have one.
fn settle_unnamed(home: &mut Home, problems: &mut Vec<DiscoveryProblem>) {
    for file in std::mem::take(&mut home.unnamed) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        match home.vms.as_mut_slice() {
            [vm] => vm.files.push(file),
            _ if names::looks_like_a_vm_file(name) => {
                contradiction(
                    &file.location,
                    "its name does not begin with the id of a VM or checkpoint",
                    problems,
                );
            }
            // Belongs to no VM as far as can be told, and looks like none.
            _ => {}
        }
    }
}

/// Tells whether files named after a GUID are a VM, and reports a VM without configuration.
fn is_a_vm(vm: &Vm, problems: &mut Vec<DiscoveryProblem>) -> bool {
    /// Extensions of configurations and states, today's and of versions before 8.0.
    const OWN: [&str; 6] = ["vmcx", "vmrs", "vmgs", "xml", "bin", "vsv"];
    let is_own =
        |file: &FoundFile| OWN.into_iter().any(|own| names::extension(&file.path).eq_ignore_ascii_case(own));
    if !vm.files.iter().any(is_own) {
        let what = "it is named after a VM's id, and there is no configuration or state with that id";
        contradiction(&vm.files[0].location, what, problems);
        return false;
    }
    let is_old = |file: &FoundFile| names::extension(&file.path).eq_ignore_ascii_case("xml");
    if vm.configuration().is_none() && !vm.files.iter().any(is_old) {
        let what = format!(
            "there are files of VM {}, and no configuration; they are captured as they are, and make no VM that starts",
            vm.id
        );
        contradiction(&vm.files[0].location, &what, problems);
    }
    true
}

fn contradiction(place: &Path, what: &str, problems: &mut Vec<DiscoveryProblem>) {
    let place = place.display().to_string();
    let error = SourceError::Contradiction { place: place.clone(), what: what.to_owned() };
    problems.push(DiscoveryProblem { place, error });
}

/// Puts configuration, runtime state and guest state first, checkpoints last.
fn in_order(mut files: Vec<FoundFile>) -> Vec<FoundFile> {
    let rank = |file: &FoundFile| {
        let of_checkpoint = file.path.starts_with(names::SNAPSHOTS);
        (of_checkpoint, if of_checkpoint { ArtefactKind::Other } else { file.kind })
    };
    files.sort_by(|a, b| (rank(a), &a.path).cmp(&(rank(b), &b.path)));
    files
}
