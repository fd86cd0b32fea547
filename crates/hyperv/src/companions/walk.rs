//! The files of a companion folder: regular files, no links, a few folders deep, in an order that repeats.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use lifeboat_engine::source::{
    COMPANION_PREFIX, Discovery, DiscoveryProblem, FoundFile, FoundVm, SourceError,
};
use lifeboat_schema::{ArtefactKind, CompanionKind, Layout};

use super::CompanionFolder;
use crate::directory::open;

/// Folders below the configured one that are looked into.
const MAX_DEPTH: usize = 4;
/// Most files of one folder: what VMs depend on is few; more is a wrong folder.
pub(super) const MAX_FILES: usize = 4096;
/// Where ingredients stand in the ids of a folder.
const INGREDIENTS: &str = "ingredients";
/// Endings of template disks.
const DISK_ENDINGS: [&str; 2] = [".vhdx", ".vhd"];

/// Finds the companions of a folder.
///
/// # Errors
/// When the folder, or that of its ingredients, cannot be read, or holds more files than it should.
pub(super) fn discover(options: &CompanionFolder) -> Result<Discovery, SourceError> {
    let mut discovery = Discovery::default();
    let mut places = vec![(options.folder.clone(), String::new(), options.kind)];
    if let Some(ingredients) = &options.ingredients {
        places.push((ingredients.clone(), format!("{INGREDIENTS}/"), CompanionKind::Ingredient));
    }
    let mut ids = BTreeSet::new();
    for (folder, prefix, kind) in places {
        let files = files(&folder, &mut discovery.problems)
            .map_err(|source| SourceError::Unreadable { place: folder.display().to_string(), source })?;
        for (relative, location) in files {
            let is_disk = DISK_ENDINGS.iter().any(|ending| relative.to_lowercase().ends_with(ending));
            let inside = options.ingredients.as_ref().is_some_and(|other| location.starts_with(other));
            if (kind == CompanionKind::TemplateDisk && !is_disk)
                || (inside && kind != CompanionKind::Ingredient)
            {
                continue;
            }
            let id = format!("{COMPANION_PREFIX}{}/{prefix}{relative}", options.name);
            if !ids.insert(id.to_lowercase()) {
                discovery
                    .problems
                    .push(problem(&location, "another file of this folder has the same name in other case"));
                continue;
            }
            match open::stat_at(&location) {
                Ok(stat) => discovery.vms.push(FoundVm {
                    vm_id: id,
                    place: location.display().to_string(),
                    layout: Layout::Export,
                    files: vec![FoundFile {
                        path: relative.rsplit('/').next().unwrap_or_default().to_owned(),
                        location,
                        kind: ArtefactKind::Companion,
                        stat,
                    }],
                }),
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let place = location.display().to_string();
                    let error = SourceError::Unreadable { place: place.clone(), source };
                    discovery.problems.push(DiscoveryProblem { place, error });
                }
            }
        }
    }
    Ok(discovery)
}

/// The relative paths of a folder's files, with `/`; none where it cannot be read.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let found = files(folder, &mut Vec::new()).unwrap_or_default();
    found.into_iter().map(|(relative, _)| relative).collect()
}

fn files(folder: &Path, problems: &mut Vec<DiscoveryProblem>) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                problems.push(problem(&entry.path(), "its name is no text"));
                continue;
            };
            let relative = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                problems.push(problem(
                    &entry.path(),
                    "it is a symbolic link, and these are not followed; put the file itself here",
                ));
            } else if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), format!("{relative}/"), depth + 1));
            } else if kind.is_dir() {
                problems.push(problem(&entry.path(), "it lies too deep in the folder"));
            } else if kind.is_file() {
                if found.len() == MAX_FILES {
                    return Err(io::Error::other(format!(
                        "it holds more than {MAX_FILES} files: is it the right folder?"
                    )));
                }
                found.push((relative, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn problem(place: &Path, what: &str) -> DiscoveryProblem {
    let place = place.display().to_string();
    DiscoveryProblem {
        error: SourceError::Contradiction { place: place.clone(), what: what.to_owned() },
        place,
    }
}
