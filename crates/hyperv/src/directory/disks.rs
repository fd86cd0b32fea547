//! The virtual disks of a VM: where they lie below the roots, and reading their heads.
//!
//! A configuration names a disk by the path that the host knew, on a drive that may not be there: in an export, a shadow
//! copy, a mounted volume. So the file is looked for below the VM's folder and the roots, by the longest end of that path.
//! A head may hold a key and is sealed to the VM's owner, so another VM's disk must never be taken for it: a folder that is
//! not this VM's alone needs an end that says more than a name, and where several files fit equally none is taken.
//!
//! A head is small and read every time that a file of the disk has other attributes; its content changes rarely, so a source
//! can tell afterwards that nothing changed but attributes.
//!
//! A running VM writes its disks all the time. What is read then is proved by its own checksums, and read again until two
//! reads agree. Nothing is followed out of the roots, whatever a disk says of its parent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_disk::{DiskError, ImageFile, ImageFiles, ParentSearch, open_disk};
use lifeboat_engine::source::{FileStat, FoundVm, SinkError};
use lifeboat_schema::{Class, DISK_NOT_FOUND, Digest, DiskEntry, Layout};

use super::listing::Listings;
use super::open;
use super::walk;
use super::watch::{Watched, WatchedDisk, WatchedFile};
use super::{DirectoryOptions, DirectorySource};
use crate::disk_head::{self, CapturedHead};
use crate::names;

/// Reads of a disk that changes while it is read.
const ATTEMPTS: usize = 4;
/// Age of a write from which on a further one would change the attributes.
const SETTLED: Duration = Duration::from_secs(2);
/// Most bytes of heads that are kept of one VM; a head has some hundred KiB.
const MAX_HEADS_BYTES: usize = 64 << 20;
/// Folder of heads in the layout of an export; Hyper-V knows none of this name.
const FOLDER: &str = "Disk Heads";

/// A head, as the artefacts that it becomes.
#[derive(Debug)]
pub(crate) struct HeadFile {
    pub(crate) path: String,
    pub(crate) class: Class,
    pub(crate) bytes: Vec<u8>,
}

/// Reads the head of every disk of a VM into the record's entries, and gives each away before the next is read.
///
/// # Errors
/// Those of `take`.
pub(crate) fn read_all(
    source: &DirectorySource,
    vm: &FoundVm,
    disks: &mut [DiskEntry],
    take: &mut dyn FnMut(HeadFile) -> Result<(), SinkError>,
) -> Result<Watched, SinkError> {
    let mut watched = Watched::default();
    let mut taken: Vec<String> = Vec::new();
    let mut left = MAX_HEADS_BYTES;
    let places = Places::of(source, vm);
    for (index, disk) in disks.iter_mut().enumerate() {
        let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let mut name = format!("{}-{}-{}", letters(&disk.controller), disk.controller_number, disk.drive);
        if taken.contains(&name) {
            name = format!("{name}-{index}");
        }
        taken.push(name.clone());
        match places.read(&disk.path, &mut watched).and_then(|captured| within(&mut left, captured)) {
            Ok(captured) => {
                let CapturedHead { mut entry, head, secret, left_out } = captured;
                disk.problem = left_out;
                let path = format!("{FOLDER}/{name}.tar");
                entry.artefact = Some(path.clone());
                take(HeadFile { path, class: Class::DiskHead, bytes: head })?;
                if let Some(bytes) = secret {
                    let path = format!("{FOLDER}/{name}.secret.tar");
                    entry.secret_artefact = Some(path.clone());
                    take(HeadFile { path, class: Class::Secret, bytes })?;
                }
                disk.head = Some(entry);
            }
            Err(problem) => disk.problem = Some(problem),
        }
    }
    Ok(watched)
}

/// Takes a head's bytes from what is left of the VM's. The disk stays watched like one whose head was kept.
fn within(left: &mut usize, captured: CapturedHead) -> Result<CapturedHead, String> {
    let bytes = captured.head.len() + captured.secret.as_ref().map_or(0, Vec::len);
    *left = left.checked_sub(bytes).ok_or_else(|| {
        format!(
            "its head has {bytes} bytes, and all heads of a VM may have {MAX_HEADS_BYTES}; it is left out"
        )
    })?;
    Ok(captured)
}

/// Tells whether every disk is as it was, by attributes alone. One that could not be read is tried again.
pub(crate) fn still_hold(source: &DirectorySource, vm: &FoundVm, watched: &Watched) -> bool {
    let places = Places::of(source, vm);
    watched.disks.iter().all(|disk| places.holds(disk))
}

/// Reads the disks again of which attributes changed; gives what to watch from now on if the heads are as they were.
pub(crate) fn refresh(source: &DirectorySource, vm: &FoundVm, watched: &Watched) -> Option<Watched> {
    let places = Places::of(source, vm);
    let mut now = Watched::default();
    for disk in &watched.disks {
        if places.holds(disk) {
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
    /// Whether the home is this VM's alone, so that a name in it suffices.
    is_own_home: bool,
    roots: &'a [PathBuf],
    options: &'a DirectoryOptions,
    listings: Listings<'a>,
}

/// Follows names below a folder.
type Follow<'a> = fn(&Listings<'a>, &Path, &[&str]) -> Option<PathBuf>;

impl<'a> Places<'a> {
    fn of(source: &'a DirectorySource, vm: &FoundVm) -> Self {
        Self {
            home: PathBuf::from(&vm.place),
            is_own_home: vm.layout == Layout::Export,
            roots: &source.roots,
            options: &source.options,
            listings: Listings::new(&source.roots, &source.root_listings),
        }
    }

    /// Tells whether a disk is as it was: its files, or that there is none to be read.
    fn holds(&self, disk: &WatchedDisk) -> bool {
        if disk.files.is_empty() {
            let is_same = |problem: String| content_digest(&problem, None) == disk.digest;
            return self.locate(&disk.path).err().is_some_and(is_same);
        }
        disk.files.iter().all(WatchedFile::is_unchanged)
    }

    /// Reads a disk by the path that its configuration has, and adds its files to what is watched.
    fn read(&self, windows_path: &str, watched: &mut Watched) -> Result<CapturedHead, String> {
        let result = self.locate(windows_path).and_then(|path| {
            let (result, paths) = self.read_settled(&path);
            let head = result.map_err(|error| problem_of(&error))?;
            Ok((head, paths))
        });
        // Of a disk with a problem no file is watched: it is tried again in each run.
        match result {
            Ok((head, paths)) => {
                let files = paths.into_iter().map(WatchedFile::now).collect();
                watched.push(windows_path, "", Some(&head), files);
                Ok(head)
            }
            Err(problem) => {
                watched.push(windows_path, &problem, None, Vec::new());
                Err(problem)
            }
        }
    }

    /// Finds the file of a disk, or says why none is to be read.
    fn locate(&self, windows_path: &str) -> Result<PathBuf, String> {
        match self.find(windows_path).as_slice() {
            [] => Err(DISK_NOT_FOUND.to_owned()),
            [path] if self.is_excluded(path) => Err("its place is left out by the configuration".to_owned()),
            [path] => Ok(path.clone()),
            [first, second, ..] => Err(format!(
                "which file it is cannot be told: {} and {} both fit its path; make roots that hold only one of them",
                first.display(),
                second.display()
            )),
        }
    }

    /// Reads until nothing changed meanwhile, or two reads agree; of a disk that never rests the last read counts.
    fn read_settled(&self, path: &Path) -> (Result<CapturedHead, disk_head::DiskHeadError>, Vec<PathBuf>) {
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

    /// Finds the file of a disk: one, or those that fit equally.
    fn find(&self, windows_path: &str) -> Vec<PathBuf> {
        let Some(parts) = parts(windows_path) else { return Vec::new() };
        // Where the paths of the host are those of this machine.
        let stated = Path::new(windows_path);
        let is_below = self.roots.iter().any(|root| stated.starts_with(root));
        if stated.is_absolute() && is_below && stated.symlink_metadata().is_ok() {
            return vec![stated.to_owned()];
        }
        let follows: [Follow<'a>; 2] = [Listings::exact, Listings::in_any_case];
        let looks = follows.iter().map(|follow| self.look(windows_path, &parts, *follow));
        looks.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
    }

    fn look(&self, windows_path: &str, parts: &[&str], follow: Follow<'a>) -> Vec<PathBuf> {
        let at_home = || (0..parts.len()).find_map(|from| follow(&self.listings, &self.home, &parts[from..]));
        if self.is_own_home
            && let Some(path) = at_home()
        {
            return vec![path];
        }
        let shared = std::iter::once(&self.home).filter(|_| !self.is_own_home).chain(self.roots);
        let mut found: Vec<(usize, PathBuf)> = shared
            .filter_map(|base| {
                let mut ends = (0..parts.len()).filter(|&from| is_telling(base, windows_path, parts, from));
                ends.find_map(|from| {
                    Some((parts.len() - from, follow(&self.listings, base, &parts[from..])?))
                })
            })
            .collect();
        let longest = found.iter().map(|(length, _)| *length).max();
        found.retain(|(length, _)| Some(*length) == longest);
        // Roots may lie in each other, or be named twice.
        let canonical = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        found.sort_by_cached_key(|(_, path)| canonical(path));
        found.dedup_by_key(|(_, path)| canonical(path));
        let mut found: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
        if found.is_empty() && self.is_own_home {
            let beside =
                parts.last().and_then(|name| follow(&self.listings, &self.home, &[names::DISKS, name]));
            found.extend(beside);
        }
        found
    }

    fn is_excluded(&self, path: &Path) -> bool {
        let mut places = path
            .ancestors()
            .take_while(|place| self.roots.iter().any(|root| place.starts_with(root) && place != root));
        places.any(|place| match (place.parent(), place.file_name().and_then(|name| name.to_str())) {
            (Some(folder), Some(name)) => walk::is_excluded(self.options, self.roots, folder, name),
            _ => false,
        })
    }
}

/// Tells whether the end of a path says enough below a folder that may hold disks of several VMs: beside the file's name the
/// name of a folder, which may be that of `base` itself. The folder that every VM has for its disks says nothing.
fn is_telling(base: &Path, windows_path: &str, parts: &[&str], from: usize) -> bool {
    let says = |part: &str| !part.eq_ignore_ascii_case(names::DISKS);
    let drive = |path: &str| path.get(..2).filter(|start| start.ends_with(':')).map(str::to_ascii_lowercase);
    let is_base = |part: &str| {
        let name = base.file_name().and_then(|name| name.to_str());
        let on_another = match (drive(windows_path), base.to_str().and_then(drive)) {
            (Some(stated), Some(base)) => stated != base,
            _ => false,
        };
        says(part) && !on_another && name.is_some_and(|name| name.eq_ignore_ascii_case(part))
    };
    let above = from.checked_sub(1).is_some_and(|above| is_base(parts[above]));
    parts[from..].iter().filter(|part| says(part)).count() + usize::from(above) >= 2
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

fn problem_of(error: &disk_head::DiskHeadError) -> String {
    let is_in_use = match error {
        disk_head::DiskHeadError::Disk(DiskError::File { source, .. }) => open::is_in_use(source),
        disk_head::DiskHeadError::Disk(DiskError::ParentUnusable { why, .. }) => {
            matches!(why.as_ref(), DiskError::File { source, .. } if open::is_in_use(source))
        }
        _ => false,
    };
    if is_in_use {
        return "a file of it is in use by another program; take the snapshot from a shadow copy".to_owned();
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
pub(crate) struct RootedFiles<'a> {
    pub(crate) roots: &'a [PathBuf],
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

    /// A folder on the way may be a link, as nobody has walked it.
    fn open(&self, path: &Path) -> io::Result<ImageFile> {
        if !self.holds(path.parent().unwrap_or(Path::new("")))? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it lies outside of the roots"));
        }
        let (file, stat) = open::open(path)?;
        Ok(ImageFile::new(file, stat.size))
    }

    fn open_parent(&self, path: &Path) -> io::Result<ImageFile> {
        self.open(path)
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
    if let Some(CapturedHead { entry, head, secret, .. }) = captured {
        // Debug output is total and has no secret: entries hold none.
        builder.update(format!("{entry:?}").as_bytes());
        builder.update(head);
        builder.update(secret.as_deref().unwrap_or_default());
    }
    builder.finish()
}
