//! The virtual disks of a VM: where they lie below the roots, and reading their heads.
//!
//! A configuration names a disk by the path that the host knew, on a drive that may not be there: in an export, a shadow
//! copy, a mounted volume. So the file is looked for below the VM's folder and the roots, by the longest end of that path.
//! A head is small and read every time that a file of the disk has other attributes; its content changes rarely, so a source
//! can tell afterwards that nothing changed but attributes.
//!
//! A running VM writes its disks all the time. What is read then is proved by its own checksums, and read again until two
//! reads agree. Nothing is followed out of the roots, whatever a disk says of its parent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_disk::{DiskError, ImageFile, ImageFiles, ParentSearch, open_disk};
use lifeboat_engine::source::{FileStat, FoundVm};
use lifeboat_schema::{Class, Digest, DiskEntry};

use super::open;
use super::watch::{Watched, WatchedFile};
use super::{DirectoryOptions, DirectorySource};
use crate::disk_head::{self, CapturedHead};
use crate::names;

/// Reads of a disk that changes while it is read.
const ATTEMPTS: usize = 4;
/// Age of a write from which on a further one would change the attributes.
const SETTLED: Duration = Duration::from_secs(2);
/// Entries of a folder that are compared with a name in another case.
const MAX_ENTRIES: usize = 4096;
/// Folder of heads in the layout of an export; Hyper-V knows none of this name.
const FOLDER: &str = "Disk Heads";

/// A head, as the artefacts that it becomes.
#[derive(Debug)]
pub(crate) struct HeadFile {
    pub(crate) path: String,
    pub(crate) class: Class,
    pub(crate) bytes: Vec<u8>,
}

/// Reads the head of every disk of a VM into the record's entries.
pub(crate) fn read_all(
    source: &DirectorySource,
    vm: &FoundVm,
    disks: &mut [DiskEntry],
) -> (Vec<HeadFile>, Watched) {
    let (mut files, mut watched) = (Vec::new(), Watched::default());
    let mut taken: Vec<String> = Vec::new();
    let places = Places::of(source, vm);
    for (index, disk) in disks.iter_mut().enumerate() {
        let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let mut name = format!("{}-{}-{}", letters(&disk.controller), disk.controller_number, disk.drive);
        if taken.contains(&name) {
            name = format!("{name}-{index}");
        }
        taken.push(name.clone());
        match places.read(&disk.path, &mut watched) {
            Ok(captured) => {
                let CapturedHead { mut entry, head, secret } = captured;
                let path = format!("{FOLDER}/{name}.tar");
                entry.artefact = Some(path.clone());
                files.push(HeadFile { path, class: Class::DiskHead, bytes: head });
                if let Some(bytes) = secret {
                    let path = format!("{FOLDER}/{name}.secret.tar");
                    entry.secret_artefact = Some(path.clone());
                    files.push(HeadFile { path, class: Class::Secret, bytes });
                }
                disk.head = Some(entry);
            }
            Err(problem) => disk.problem = Some(problem),
        }
    }
    (files, watched)
}

/// Reads the disks again of which attributes changed; gives what to watch from now on if the heads are as they were.
pub(crate) fn refresh(source: &DirectorySource, vm: &FoundVm, watched: &Watched) -> Option<Watched> {
    let places = Places::of(source, vm);
    let mut now = Watched::default();
    for disk in &watched.disks {
        if disk.files.iter().all(WatchedFile::is_unchanged) {
            now.disks.push(disk.clone());
        } else {
            let _ = places.read(&disk.path, &mut now);
            if now.disks.last().map(|disk| disk.digest) != Some(disk.digest) {
                return None;
            }
        }
    }
    Some(now)
}

/// Where disks of one VM are looked for.
struct Places<'a> {
    home: PathBuf,
    roots: &'a [PathBuf],
    options: &'a DirectoryOptions,
}

impl<'a> Places<'a> {
    fn of(source: &'a DirectorySource, vm: &FoundVm) -> Self {
        Self { home: PathBuf::from(&vm.place), roots: &source.roots, options: &source.options }
    }

    /// Reads a disk by the path that its configuration has, and adds its files to what is watched.
    fn read(&self, windows_path: &str, watched: &mut Watched) -> Result<CapturedHead, String> {
        let Some(path) = self.find(windows_path) else {
            let missing = self.expected(windows_path).map(|path| WatchedFile { path, stat: None });
            let problem =
                "its file was not found below the roots; make the folder that it lies in a root".to_owned();
            watched.push(windows_path, &problem, None, missing.into_iter().collect());
            return Err(problem);
        };
        if self.is_excluded(&path) {
            let problem = "its place is left out by the configuration".to_owned();
            watched.push(windows_path, &problem, None, Vec::new());
            return Err(problem);
        }
        let (result, paths) = self.read_settled(&path);
        let files = paths.into_iter().map(WatchedFile::now).collect();
        let result = result.map_err(|error| problem_of(&error));
        match &result {
            Ok(captured) => watched.push(windows_path, "", Some(captured), files),
            Err(problem) => watched.push(windows_path, problem, None, files),
        }
        result
    }

    /// Reads until nothing changed meanwhile, or two reads agree; of a disk that never rests the last read counts.
    fn read_settled(&self, path: &Path) -> (Result<CapturedHead, disk_head::Failed>, Vec<PathBuf>) {
        let files = RootedFiles { roots: self.roots };
        let mut last: Option<CapturedHead> = None;
        let mut attempt = 1;
        loop {
            let before = open::stat_at(path).ok();
            let opened = open_disk(&files, path, &ParentSearch::default());
            let disk = match opened {
                Ok(disk) => disk,
                Err(_) if attempt < ATTEMPTS && open::stat_at(path).ok() != before => {
                    attempt += 1;
                    continue;
                }
                Err(error) => return (Err(error.into()), vec![path.to_owned()]),
            };
            let result = disk_head::capture(&disk);
            let paths = disk.files().to_vec();
            drop(disk);
            let is_settled = open::stat_at(path).ok() == before;
            match result {
                Ok(head) if is_settled || attempt >= ATTEMPTS || last.as_ref() == Some(&head) => {
                    return (Ok(head), paths);
                }
                Err(error) if is_settled || attempt >= ATTEMPTS => return (Err(error), paths),
                Ok(head) => last = Some(head),
                Err(_) => {}
            }
            attempt += 1;
        }
    }

    /// Finds the file of a disk.
    fn find(&self, windows_path: &str) -> Option<PathBuf> {
        let parts = parts(windows_path)?;
        let exact = |base: &Path, parts: &[&str]| {
            let path = parts.iter().fold(base.to_owned(), |path, part| path.join(part));
            path.symlink_metadata().is_ok().then_some(path)
        };
        // In the VM's folder the name alone suffices, below a root it could be another VM's.
        let bases = || {
            std::iter::once((self.home.as_path(), 1)).chain(self.roots.iter().map(|root| (root.as_path(), 2)))
        };
        let look = |find: &dyn Fn(&Path, &[&str]) -> Option<PathBuf>| {
            bases().find_map(|(base, fewest)| {
                (0..parts.len())
                    .filter(|from| parts.len() - from >= fewest)
                    .find_map(|from| find(base, &parts[from..]))
            })
        };
        let beside = |find: &dyn Fn(&Path, &[&str]) -> Option<PathBuf>| {
            find(&self.home, &[names::DISKS, parts.last()?])
        };
        look(&exact)
            .or_else(|| beside(&exact))
            .or_else(|| look(&in_any_case))
            .or_else(|| beside(&in_any_case))
    }

    /// Where a disk that is not there would be expected.
    fn expected(&self, windows_path: &str) -> Option<PathBuf> {
        Some(self.home.join(names::DISKS).join(parts(windows_path)?.last()?))
    }

    fn is_excluded(&self, path: &Path) -> bool {
        if self.options.exclude.is_empty() {
            return false;
        }
        let Some(relative) = self.roots.iter().find_map(|root| path.strip_prefix(root).ok()) else {
            return false;
        };
        let mut places = relative.ancestors().filter(|place| !place.as_os_str().is_empty());
        places.any(|place| self.options.exclude.iter().any(|pattern| pattern.matches(place)))
    }
}

/// The parts of a Windows path without its drive; none for a path that leads upwards, or to no file.
fn parts(windows_path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = windows_path
        .split(['\\', '/'])
        .filter(|part| !matches!(*part, "" | "." | "?") && !part.ends_with(':'))
        .collect();
    let leads_up = parts.contains(&"..") || parts.iter().any(|part| part.contains('\0'));
    (!leads_up && !parts.is_empty()).then_some(parts)
}

/// Follows names in any case, as the file systems of Hyper-V do.
fn in_any_case(base: &Path, parts: &[&str]) -> Option<PathBuf> {
    let mut path = base.to_owned();
    for part in parts {
        let exact = path.join(part);
        path = if exact.symlink_metadata().is_ok() {
            exact
        } else {
            let entries = std::fs::read_dir(&path).ok()?.take(MAX_ENTRIES).filter_map(Result::ok);
            let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            path.join(names.find(|name| name.eq_ignore_ascii_case(part))?)
        };
    }
    Some(path)
}

fn problem_of(error: &disk_head::Failed) -> String {
    let is_in_use = match error {
        disk_head::Failed::Disk(DiskError::File { source, .. }) => open::is_in_use(source),
        _ => false,
    };
    if is_in_use {
        return "its file is in use by another program; take the snapshot from a shadow copy".to_owned();
    }
    error.to_string()
}

impl WatchedFile {
    /// A file with its attributes of now; those of a file that was just written are not kept, as they prove nothing.
    fn now(path: PathBuf) -> Self {
        let stat = open::stat_at(&path).ok();
        let stat =
            stat.map(|stat| if is_settled(&stat) { stat } else { FileStat { modified_ns: 0, ..stat } });
        Self { path, stat }
    }

    /// Tells whether the file has the attributes that it had.
    pub(crate) fn is_unchanged(&self) -> bool {
        open::stat_at(&self.path).ok() == self.stat
    }
}

fn is_settled(stat: &FileStat) -> bool {
    let written = u64::try_from(stat.modified_ns.max(stat.changed_ns)).map(Duration::from_nanos);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Clocks that disagree tell nothing.
    matches!((written, now), (Ok(written), Ok(now)) if now.checked_sub(written).is_none_or(|age| age >= SETTLED))
}

/// Files below the roots.
struct RootedFiles<'a> {
    roots: &'a [PathBuf],
}

impl RootedFiles<'_> {
    /// Tells whether a folder lies below a root, links resolved.
    fn holds(&self, folder: &Path) -> io::Result<bool> {
        let folder = std::fs::canonicalize(folder)?;
        Ok(self
            .roots
            .iter()
            .filter_map(|root| std::fs::canonicalize(root).ok())
            .any(|root| folder.starts_with(root)))
    }
}

impl ImageFiles for RootedFiles<'_> {
    type File = ImageFile;

    fn open(&self, path: &Path) -> io::Result<ImageFile> {
        let (file, stat) = open::open(path)?;
        Ok(ImageFile::new(file, stat.size))
    }

    fn open_parent(&self, path: &Path) -> io::Result<ImageFile> {
        if self.holds(path.parent().unwrap_or(Path::new("")))? {
            self.open(path)
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it lies outside of the roots"))
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.holds(folder)? {
            return Ok(Vec::new());
        }
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }
}

/// What a head's content is, for the comparison with a later read.
pub(crate) fn content_digest(problem: &str, captured: Option<&CapturedHead>) -> Digest {
    let mut builder = lifeboat_schema::DigestBuilder::default();
    builder.update(problem.as_bytes());
    if let Some(CapturedHead { entry, head, secret }) = captured {
        // Debug output is total and has no secret: entries hold none.
        builder.update(format!("{entry:?}").as_bytes());
        builder.update(head);
        builder.update(secret.as_deref().unwrap_or_default());
    }
    builder.finish()
}
