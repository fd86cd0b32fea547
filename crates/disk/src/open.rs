//! Opening a disk: the container by its signature, and the parents of a differencing disk.
//!
//! A child names its parent by identity and by path. The identity decides; the paths are hints written by whoever wrote
//! the file. Looked for, in this order: the child's relative path, the parent's file name in the child's folder and in
//! the folders that the caller names, the absolute path where the caller allows it, and at last every disk file in
//! these folders. Deliberately never accepts a parent in another state than the one from which the child was made.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_vhdx::layout::{FILE_SIGNATURE, MAX_CHAIN_DISKS};
use lifeboat_vhdx::vhd::{VhdChain, VhdError, VhdId, VhdReader};
use lifeboat_vhdx::{Guid, ReadAt, VhdxChain, VhdxReader};

use crate::disk::{Layers, VirtualDisk};
use crate::error::DiskError;
use crate::files::ImageFiles;

/// Disk files of one folder that are opened at most in search of a parent: no host keeps more in one.
const MAX_CANDIDATES: usize = 1024;

/// Where parents are looked for.
#[derive(Clone, Debug, Default)]
pub struct ParentSearch {
    /// Folders beside that of the child.
    pub folders: Vec<PathBuf>,
    /// Whether the absolute path that a child states may be opened. Not for disks from strangers.
    pub absolute_paths: bool,
}

/// Opens a disk image with its parents.
///
/// # Errors
/// [`DiskError`] names the file and what is wrong with it. A file without a known signature is a raw image, never an
/// error.
pub fn open_disk<S: ImageFiles>(
    files: &S,
    path: &Path,
    search: &ParentSearch,
) -> Result<VirtualDisk<S::File>, DiskError> {
    let file = files.open(path).map_err(|source| file_error(path, source))?;
    if file.size_bytes() == 0 {
        return Err(DiskError::Empty { path: path.to_owned() });
    }
    let mut signature = [0; FILE_SIGNATURE.len()];
    if file.size_bytes() >= signature.len() as u64 {
        file.read_exact_at(0, &mut signature)?;
    }
    if signature == FILE_SIGNATURE {
        let first =
            VhdxReader::open(file).map_err(|source| DiskError::Vhdx { path: path.to_owned(), source })?;
        return open_vhdx(files, path, search, first);
    }
    match VhdReader::open(&file) {
        Err(VhdError::NotVhd) => Ok(VirtualDisk::raw(file, path)),
        Err(source) => Err(DiskError::Vhd { path: path.to_owned(), source }),
        Ok(_) => {
            let first =
                VhdReader::open(file).map_err(|source| DiskError::Vhd { path: path.to_owned(), source })?;
            open_vhd(files, path, search, first)
        }
    }
}

fn file_error(path: &Path, source: io::Error) -> DiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::InvalidInput => DiskError::NotAFile { path },
        _ => DiskError::File { path, source },
    }
}

fn open_vhdx<S: ImageFiles>(
    files: &S,
    path: &Path,
    search: &ParentSearch,
    first: VhdxReader<S::File>,
) -> Result<VirtualDisk<S::File>, DiskError> {
    let (mut disks, mut paths) = (vec![first], vec![path.to_owned()]);
    // Each turn adds one disk, up to the limit.
    while let (Some(child), Some(child_path)) = (disks.last(), paths.last())
        && let Some(locator) = child.parent()
    {
        if disks.len() >= MAX_CHAIN_DISKS {
            return Err(DiskError::ChainTooLong { path: path.to_owned(), max: MAX_CHAIN_DISKS });
        }
        let wanted = Wanted {
            child: child_path,
            relative: locator.relative_path(),
            absolute: locator.absolute_path(),
            identity: format!("DataWriteGuid {}", locator.linkage()),
        };
        let accept = |path: &Path, file: S::File| {
            let reader =
                VhdxReader::open(file).map_err(|source| DiskError::Vhdx { path: path.to_owned(), source })?;
            Ok(Some(reader).filter(|reader| locator.accepts(reader.header().data_write_guid)))
        };
        let (parent_path, parent) = find_parent(files, &wanted, search, &["vhdx", "avhdx"], accept)?;
        let state = parent.header().data_write_guid;
        let is_known = disks.iter().any(|disk| disk.header().data_write_guid == state);
        disks.push(parent);
        paths.push(parent_path);
        if is_known {
            // A circle, which the chain refuses; no need to walk it up to the limit.
            break;
        }
    }
    let chain = VhdxChain::new(disks).map_err(|source| DiskError::Vhdx { path: path.to_owned(), source })?;
    Ok(VirtualDisk::new(Layers::Vhdx(chain), paths))
}

fn open_vhd<S: ImageFiles>(
    files: &S,
    path: &Path,
    search: &ParentSearch,
    first: VhdReader<S::File>,
) -> Result<VirtualDisk<S::File>, DiskError> {
    let (mut disks, mut paths) = (vec![first], vec![path.to_owned()]);
    while let (Some(child), Some(child_path)) = (disks.last(), paths.last())
        && let Some(link) = child.parent()
    {
        if disks.len() >= MAX_CHAIN_DISKS {
            return Err(DiskError::ChainTooLong { path: path.to_owned(), max: MAX_CHAIN_DISKS });
        }
        let wanted = Wanted {
            child: child_path,
            relative: link.relative_path.as_deref().or(Some(link.name.as_str())),
            absolute: link.absolute_path.as_deref(),
            identity: format!("id {}", vhd_id(link.id)),
        };
        let accept = |path: &Path, file: S::File| {
            let reader =
                VhdReader::open(file).map_err(|source| DiskError::Vhd { path: path.to_owned(), source })?;
            Ok(Some(reader).filter(|reader| reader.identity().id == link.id))
        };
        let (parent_path, parent) = find_parent(files, &wanted, search, &["vhd", "avhd"], accept)?;
        let is_known = disks.iter().any(|disk| disk.identity().id == parent.identity().id);
        disks.push(parent);
        paths.push(parent_path);
        if is_known {
            break;
        }
    }
    let chain = VhdChain::new(disks).map_err(|source| DiskError::Vhd { path: path.to_owned(), source })?;
    Ok(VirtualDisk::new(Layers::Vhd(chain), paths))
}

/// A VHD's identity as a GUID is written.
fn vhd_id(id: VhdId) -> Guid {
    Guid::from_bytes(id.0)
}

/// What a child says about its parent.
struct Wanted<'a> {
    child: &'a Path,
    relative: Option<&'a str>,
    absolute: Option<&'a str>,
    identity: String,
}

/// Finds the parent of a disk. `accept` opens a file as a disk, and gives it back if it is the parent.
fn find_parent<S: ImageFiles, R>(
    files: &S,
    wanted: &Wanted<'_>,
    search: &ParentSearch,
    extensions: &[&str],
    accept: impl Fn(&Path, S::File) -> Result<Option<R>, DiskError>,
) -> Result<(PathBuf, R), DiskError> {
    let folder = wanted.child.parent().unwrap_or(Path::new(""));
    let name = [wanted.relative, wanted.absolute].into_iter().flatten().find_map(file_name);
    let folders: Vec<&Path> =
        std::iter::once(folder).chain(search.folders.iter().map(PathBuf::as_path)).collect();
    let mut named: Vec<PathBuf> = Vec::new();
    named.extend(wanted.relative.and_then(relative).map(|path| folder.join(path)));
    if let Some(name) = name {
        named.extend(folders.iter().map(|folder| folder.join(name)));
    }
    if search.absolute_paths {
        named.extend(wanted.absolute.map(PathBuf::from));
    }
    let unusable = |why: DiskError| DiskError::ParentUnusable {
        path: wanted.child.to_owned(),
        wanted: wanted.identity.clone(),
        why: Box::new(why),
    };
    // Of the files with the parent's name: why the first of them is not it.
    let mut trouble: Option<DiskError> = None;
    let mut tried: Vec<PathBuf> = vec![wanted.child.to_owned()];
    let mut look = |path: PathBuf, is_named: bool| {
        if tried.contains(&path) {
            return None;
        }
        tried.push(path.clone());
        let opened = match files.open_parent(&path) {
            Ok(file) => accept(&path, file),
            Err(source) if source.kind() == io::ErrorKind::NotFound => return None,
            Err(source) => Err(file_error(&path, source)),
        };
        let why = match opened {
            Ok(Some(parent)) => return Some((path, parent)),
            Ok(None) => DiskError::ParentChanged {
                path: wanted.child.to_owned(),
                parent: path,
                wanted: wanted.identity.clone(),
            },
            Err(error) => unusable(error),
        };
        if is_named {
            trouble.get_or_insert(why);
        }
        None
    };
    for path in named {
        if let Some(found) = look(path, true) {
            return Ok(found);
        }
    }
    let mut unlisted: Option<DiskError> = None;
    for folder in &folders {
        let mut candidates = match files.list(folder) {
            Ok(candidates) => candidates,
            Err(source) => {
                if source.kind() != io::ErrorKind::NotFound {
                    unlisted.get_or_insert(unusable(file_error(&shown(folder), source)));
                }
                continue;
            }
        };
        candidates.retain(|path| {
            path.extension()
                .and_then(|extension| extension.to_str())
                .is_some_and(|extension| extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)))
        });
        candidates.sort();
        for path in candidates.into_iter().take(MAX_CANDIDATES) {
            if let Some(found) = look(path, false) {
                return Ok(found);
            }
        }
    }
    Err(trouble.or(unlisted).unwrap_or_else(|| DiskError::ParentNotFound {
        path: wanted.child.to_owned(),
        name: name.map(str::to_owned),
        wanted: wanted.identity.clone(),
        searched: folders.iter().map(|folder| shown(folder)).collect(),
    }))
}

fn shown(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// The last part of a Windows path.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit(['\\', '/']).next().filter(|name| !name.is_empty() && *name != "." && *name != "..")
}

/// A relative Windows path as a path of this machine; none when it is absolute in any sense.
fn relative(path: &str) -> Option<PathBuf> {
    if path.contains(':') || path.starts_with(['\\', '/']) {
        return None;
    }
    Some(path.split(['\\', '/']).filter(|part| !part.is_empty() && *part != ".").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_paths() {
        assert_eq!(file_name(".\\Base.vhdx"), Some("Base.vhdx"));
        assert_eq!(file_name("C:\\disks\\a.vhdx"), Some("a.vhdx"));
        assert_eq!(file_name("C:\\disks\\"), None);
        assert_eq!(relative(".\\a.vhdx"), Some(PathBuf::from("a.vhdx")));
        assert_eq!(relative("..\\base\\a.vhdx"), Some(PathBuf::from("../base/a.vhdx")));
        for absolute in ["C:\\a.vhdx", "\\\\server\\a.vhdx", "/dev/sda", "\\\\?\\Volume{1}\\a"] {
            assert_eq!(relative(absolute), None, "{absolute}");
        }
    }
}
