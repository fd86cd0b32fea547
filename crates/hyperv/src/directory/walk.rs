//! Walking the roots: folders and attributes, no content.
//!
//! Several threads share one stack of folders. What they find is put in order afterwards, so that a walk over the same
//! tree gives the same answer.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lifeboat_engine::source::{DiscoveryProblem, FileStat, SourceError};

use super::{DirectoryOptions, open};
use crate::names::{self, FolderRole};

/// Most threads that walk: a warm cache keeps two busy, a share on a network a few more.
const MAX_THREADS: usize = 4;

/// Most folders that a thread takes at once.
const MAX_SHARE: usize = 32;

/// Deepest folder below `<GUID>` folders that is looked into; Hyper-V makes none.
const MAX_DEPTH_IN_VM: usize = 4;

/// Most folders that one walk enters. More is not a tree of VMs, and a cycle of mounts must end.
const MAX_FOLDERS: usize = 1 << 20;

/// A `Virtual Machines` or `Snapshots` folder.
#[derive(Debug)]
pub(crate) struct StoreFolder {
    /// The folder that it lies in: place of one or many VMs.
    pub(crate) home: OsString,
    /// Which of the two it is.
    pub(crate) role: FolderRole,
    /// The folder itself.
    pub(crate) path: PathBuf,
    /// The files in it and in its `<GUID>` folders, by path.
    pub(crate) files: Vec<StoreFile>,
}

/// A file in one of these folders.
#[derive(Debug)]
pub(crate) struct StoreFile {
    /// Path below the folder, with `/`.
    pub(crate) relative: String,
    /// What to open.
    pub(crate) location: PathBuf,
    /// Its attributes.
    pub(crate) stat: FileStat,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Folders of VMs and checkpoints, by path.
    pub(crate) folders: Vec<StoreFolder>,
    /// Folders with a folder of virtual disks.
    pub(crate) homes_with_disks: HashSet<OsString>,
    /// Trouble, by place.
    pub(crate) problems: Vec<DiscoveryProblem>,
}

impl Walked {
    fn problem(&mut self, place: &Path, error: SourceError) {
        self.problems.push(DiscoveryProblem { place: place.display().to_string(), error });
    }

    fn unreadable(&mut self, place: &Path, source: io::Error) {
        let error = SourceError::Unreadable { place: place.display().to_string(), source };
        self.problem(place, error);
    }

    fn contradiction(&mut self, place: &Path, what: &str) {
        let error = SourceError::Contradiction { place: place.display().to_string(), what: what.to_owned() };
        self.problem(place, error);
    }

    fn append(&mut self, mut other: Walked) {
        self.folders.append(&mut other.folders);
        self.homes_with_disks.extend(other.homes_with_disks);
        self.problems.append(&mut other.problems);
    }
}

/// A folder to enter.
struct Task {
    path: PathBuf,
    /// Folders between the root and this one.
    depth: u32,
    /// For a folder of VMs or checkpoints: its role and home.
    store: Option<(FolderRole, OsString)>,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// Threads that may still add tasks.
    busy: usize,
    /// Threads that wait for tasks.
    waiting: usize,
    entered: usize,
    /// Targets of links that were followed.
    followed: HashSet<PathBuf>,
}

struct Walk<'a> {
    roots: &'a [PathBuf],
    options: &'a DirectoryOptions,
    queue: Mutex<Queue>,
    more: Condvar,
}

/// Walks roots that exist.
pub(crate) fn walk(roots: &[PathBuf], options: &DirectoryOptions) -> Walked {
    let tasks = roots.iter().map(|root| {
        let role = root.file_name().and_then(|name| name.to_str()).map_or(FolderRole::Plain, FolderRole::of);
        let store = match (role, root.parent()) {
            (FolderRole::Machines | FolderRole::Snapshots, Some(home)) => Some((role, home.into())),
            _ => None,
        };
        Task { path: root.clone(), depth: 0, store }
    });
    let queue = Queue { tasks: tasks.collect(), ..Queue::default() };
    let walk = Walk { roots, options, queue: Mutex::new(queue), more: Condvar::new() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let mut walked = Walked::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk.work())).collect();
        walked.append(walk.work());
        for other in others {
            match other.join() {
                Ok(part) => walked.append(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    // A folder reached twice, over overlapping roots or a link, counts once, under its own home if it can.
    walked.folders.sort_by(|a, b| {
        // Compared as text: paths compare by component, which is slow.
        let foreign = |folder: &StoreFolder| folder.path.parent() != Some(Path::new(&folder.home));
        a.path
            .as_os_str()
            .cmp(b.path.as_os_str())
            .then_with(|| (foreign(a), &a.home).cmp(&(foreign(b), &b.home)))
    });
    walked.folders.dedup_by(|later, first| later.path.as_os_str() == first.path.as_os_str());
    walked.problems.sort_by(|a, b| a.place.cmp(&b.place));
    walked.problems.dedup_by(|later, first| later.place == first.place);
    walked
}

impl Walk<'_> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> Walked {
        let mut walked = Walked::default();
        let (mut mine, mut found) = (Vec::new(), Vec::new());
        let mut queue = self.queue();
        loop {
            if let Some(last) = queue.tasks.last() {
                if queue.entered >= MAX_FOLDERS {
                    walked.contradiction(&last.path, "there are too many folders below the roots to be VMs");
                    queue.tasks.clear();
                    continue;
                }
                // A fair share at once, so that many small folders do not cost a lock each.
                let share = (queue.tasks.len() / (2 * MAX_THREADS)).clamp(1, MAX_SHARE);
                let from = queue.tasks.len() - share;
                mine.extend(queue.tasks.drain(from..));
                queue.entered += share;
                queue.busy += 1;
                drop(queue);
                // A panic would leave the others waiting, so it must not get by.
                let guard = Done(self);
                for task in mine.drain(..) {
                    self.enter(task, &mut walked, &mut found);
                }
                std::mem::forget(guard);
                queue = self.queue();
                queue.busy -= 1;
                queue.tasks.append(&mut found);
                if queue.waiting > 0 && (queue.busy == 0 || !queue.tasks.is_empty()) {
                    self.more.notify_all();
                }
            } else if queue.busy == 0 {
                return walked;
            } else {
                queue.waiting += 1;
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.waiting -= 1;
            }
        }
    }

    fn enter(&self, task: Task, walked: &mut Walked, found: &mut Vec<Task>) {
        let entries = match std::fs::read_dir(&task.path) {
            Ok(entries) => entries,
            // It was there a moment ago; what vanishes is not found.
            Err(error) if error.kind() == io::ErrorKind::NotFound && task.depth > 0 => return,
            Err(error) => return walked.unreadable(&task.path, error),
        };
        let mut files = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => self.look_at(&task, &entry, &mut files, walked, found),
                Err(error) => walked.unreadable(&task.path, error),
            }
        }
        if let Some((role, home)) = task.store
            && !files.is_empty()
        {
            files.sort_by(|a: &StoreFile, b: &StoreFile| a.relative.cmp(&b.relative));
            walked.folders.push(StoreFolder { home, role, path: task.path, files });
        }
    }

    fn look_at(
        &self,
        task: &Task,
        entry: &DirEntry,
        files: &mut Vec<StoreFile>,
        walked: &mut Walked,
        found: &mut Vec<Task>,
    ) {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return walked
                .contradiction(&entry.path(), "its name is not Unicode, so no path in a vault can name it");
        };
        if is_excluded(self.options, self.roots, &task.path, name) {
            return;
        }
        let (path, kind) = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => match self.follow(task, &entry.path(), name, walked) {
                Some(target) => target,
                None => return,
            },
            Ok(kind) => (PathBuf::new(), kind),
            Err(error) => return walked.unreadable(&entry.path(), error),
        };
        let path = || if path.as_os_str().is_empty() { entry.path() } else { path.clone() };
        if kind.is_dir() {
            match FolderRole::of(name) {
                FolderRole::Foreign => {}
                FolderRole::Disks => drop(walked.homes_with_disks.insert(task.path.clone().into())),
                role @ (FolderRole::Machines | FolderRole::Snapshots) => {
                    let store = Some((role, task.path.clone().into()));
                    found.push(Task { path: path(), depth: task.depth + 1, store });
                }
                FolderRole::Plain if task.store.is_some() && names::leading_guid(name).is_some() => {
                    self.enter_vm_folder(&path(), name, files, walked);
                }
                FolderRole::Plain if task.depth < self.options.max_depth => {
                    found.push(Task { path: path(), depth: task.depth + 1, store: None });
                }
                FolderRole::Plain => {}
            }
            if names::looks_like_a_vm_file(name) {
                walked.contradiction(&entry.path(), "it is named like a file of a VM and is a folder");
            }
        } else if task.store.is_some() {
            take_file(entry, path(), name.to_owned(), kind, files, walked);
        } else if names::looks_like_a_vm_file(name) && names::leading_guid(name).is_some() {
            let what = "it lies in none of the folders `Virtual Machines` and `Snapshots`, so that a VM and a checkpoint \
                        cannot be told apart; move it into one of them";
            walked.contradiction(&entry.path(), what);
        }
    }

    /// Takes every file below a `<GUID>` folder, where saved state lies.
    fn enter_vm_folder(&self, path: &Path, name: &str, files: &mut Vec<StoreFile>, walked: &mut Walked) {
        let mut open = vec![(path.to_owned(), name.to_owned(), 1)];
        while let Some((path, relative, depth)) = open.pop() {
            let entries = match std::fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    walked.unreadable(&path, error);
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        walked.unreadable(&path, error);
                        break;
                    }
                };
                let name = entry.file_name();
                let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else {
                    walked
                        .contradiction(&entry.path(), "its name is not Unicode or its type is not to be had");
                    continue;
                };
                if is_excluded(self.options, self.roots, &path, name) {
                    continue;
                }
                let relative = format!("{relative}/{name}");
                if kind.is_dir() && depth < MAX_DEPTH_IN_VM {
                    open.push((entry.path(), relative, depth + 1));
                } else if kind.is_dir() {
                    walked.contradiction(&entry.path(), "it lies too deep in a VM's folder to be Hyper-V's");
                } else {
                    take_file(&entry, entry.path(), relative, kind, files, walked);
                }
            }
        }
    }

    /// Resolves a link if that is wanted and it stays in the roots; says so if it hides what may be a VM.
    fn follow(
        &self,
        task: &Task,
        link: &Path,
        name: &str,
        walked: &mut Walked,
    ) -> Option<(PathBuf, FileType)> {
        // A link to nothing, or to itself, hides no VM.
        let metadata = std::fs::metadata(link).ok()?;
        if !metadata.is_dir() && task.store.is_none() && !names::looks_like_a_vm_file(name) {
            return None;
        }
        if !self.options.follow_links {
            walked.contradiction(
                link,
                "it is a symbolic link, and these are not followed; make its target a root, or exclude it",
            );
            return None;
        }
        let target = match std::fs::canonicalize(link) {
            Ok(target) => target,
            Err(error) => {
                walked.unreadable(link, error);
                return None;
            }
        };
        let below = self.roots.iter().find_map(|root| {
            let rest = target.strip_prefix(std::fs::canonicalize(root).ok()?).ok()?;
            Some(if rest.as_os_str().is_empty() { root.clone() } else { root.join(rest) })
        });
        let Some(target) = below else {
            walked.contradiction(
                link,
                "it is a symbolic link that leaves the roots; make its target a root, or exclude it",
            );
            return None;
        };
        let first_time = !metadata.is_dir() || self.queue().followed.insert(target.clone());
        first_time.then(|| (target, metadata.file_type()))
    }
}

/// Tells whether the configuration leaves a place out by its own name; a folder above it is asked for separately.
pub(super) fn is_excluded(options: &DirectoryOptions, roots: &[PathBuf], folder: &Path, name: &str) -> bool {
    if options.exclude.is_empty() {
        return false;
    }
    let root = roots.iter().find_map(|root| folder.strip_prefix(root).ok());
    let relative = root.unwrap_or(folder).join(name);
    options.exclude.iter().any(|pattern| pattern.matches(&relative))
}

/// Wakes the other threads if this one panics.
struct Done<'a, 'b>(&'a Walk<'b>);

impl Drop for Done<'_, '_> {
    fn drop(&mut self) {
        self.0.queue().busy -= 1;
        self.0.more.notify_all();
    }
}

fn take_file(
    entry: &DirEntry,
    location: PathBuf,
    relative: String,
    kind: FileType,
    files: &mut Vec<StoreFile>,
    walked: &mut Walked,
) {
    let name = relative.rsplit('/').next().unwrap_or_default();
    if names::is_payload(name) {
        return;
    }
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    if !kind.is_file() {
        walked.contradiction(&location, "it lies among a VM's files and is no regular file");
        return;
    }
    // The entry's own attributes are those of the link.
    let stat =
        if is_link { open::stat_at(&location) } else { entry.metadata().map(|found| open::stat(&found)) };
    match stat {
        Ok(stat) => files.push(StoreFile { relative, location, stat }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => walked.unreadable(&location, error),
    }
}
