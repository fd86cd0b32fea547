//! Names in folders, read once: a disk is looked for by every end of its path, in every folder where it may be.
//!
//! Roots are listed once for all VMs of a run, because thousands of VMs look into the same few; other folders once for the
//! VM at hand. Deliberately no cache beyond that: what appears meanwhile is found by the next run.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Most entries of a folder that are taken; a name in another case is not found among those that follow.
const MAX_ENTRIES: usize = 4096;

/// The names in one folder.
#[derive(Debug, Default)]
struct Listing {
    /// As they are written.
    names: HashSet<String>,
    /// By the name in lower case; of several that differ only in case one.
    lower: HashMap<String, String>,
    /// Whether there are no others.
    is_whole: bool,
}

impl Listing {
    fn of(folder: &Path) -> Self {
        let Ok(entries) = std::fs::read_dir(folder) else {
            // What cannot be listed may still have the file that is asked for; of what is not there nothing can be.
            let is_whole = folder.symlink_metadata().is_err();
            return Self { is_whole, ..Self::default() };
        };
        let mut listing = Self { is_whole: true, ..Self::default() };
        for (index, entry) in entries.enumerate() {
            let Ok(entry) = entry else {
                listing.is_whole = false;
                continue;
            };
            if index >= MAX_ENTRIES {
                listing.is_whole = false;
                break;
            }
            // No path of a configuration names what is not Unicode.
            if let Ok(name) = entry.file_name().into_string() {
                listing.lower.entry(name.to_lowercase()).or_insert_with(|| name.clone());
                listing.names.insert(name);
            }
        }
        listing
    }

    /// Tells whether a name may be there as it is written.
    fn may_have(&self, name: &str) -> bool {
        !self.is_whole || self.names.contains(name)
    }

    /// A name that differs in nothing but its case.
    fn alike(&self, name: &str) -> Option<&String> {
        self.lower.get(&name.to_lowercase())
    }
}

/// Listings of the roots, for all VMs of a run.
#[derive(Debug, Default)]
pub(super) struct RootListings(Mutex<HashMap<PathBuf, Arc<Listing>>>);

impl RootListings {
    /// Forgets what was read.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of(&self, root: &Path) -> Arc<Listing> {
        let mut listings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = listings.get(root) {
            return Arc::clone(known);
        }
        let listing = Arc::new(Listing::of(root));
        listings.insert(root.to_owned(), Arc::clone(&listing));
        listing
    }
}

/// Listings for one VM.
pub(super) struct Listings<'a> {
    roots: &'a [PathBuf],
    of_roots: &'a RootListings,
    others: RefCell<HashMap<PathBuf, Arc<Listing>>>,
}

impl<'a> Listings<'a> {
    /// Has read nothing yet.
    pub(super) fn new(roots: &'a [PathBuf], of_roots: &'a RootListings) -> Self {
        Self { roots, of_roots, others: RefCell::default() }
    }

    fn of(&self, folder: &Path) -> Arc<Listing> {
        if self.roots.iter().any(|root| root == folder) {
            return self.of_roots.of(folder);
        }
        if let Some(known) = self.others.borrow().get(folder) {
            return Arc::clone(known);
        }
        let listing = Arc::new(Listing::of(folder));
        self.others.borrow_mut().insert(folder.to_owned(), Arc::clone(&listing));
        listing
    }

    /// Follows names as they are.
    pub(super) fn exact(&self, base: &Path, parts: &[&str]) -> Option<PathBuf> {
        let first = parts.first()?;
        if !self.of(base).may_have(first) {
            return None;
        }
        let path = parts.iter().fold(base.to_owned(), |path, part| path.join(part));
        path.symlink_metadata().is_ok().then_some(path)
    }

    /// Follows names in any case, as the file systems of Hyper-V do.
    pub(super) fn in_any_case(&self, base: &Path, parts: &[&str]) -> Option<PathBuf> {
        let mut path = base.to_owned();
        for part in parts {
            let listing = self.of(&path);
            let exact = path.join(part);
            path = if listing.may_have(part) && exact.symlink_metadata().is_ok() {
                exact
            } else {
                path.join(listing.alike(part)?)
            };
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_followed_as_written_first_and_then_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        for file in ["Ärger/disk.vhdx", "both/DISK.VHDX", "both/disk.vhdx"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), b"").unwrap();
        }
        let (roots, of_roots) = ([root.clone()], RootListings::default());
        let listings = Listings::new(&roots, &of_roots);
        let any = |parts: &[&str]| listings.in_any_case(&root, parts);
        assert_eq!(listings.exact(&root, &["ärger", "disk.vhdx"]), None);
        assert_eq!(any(&["ÄRGER", "Disk.vhdx"]), Some(root.join("Ärger/disk.vhdx")), "not only in ASCII");
        assert_eq!(any(&["BOTH", "DISK.VHDX"]), Some(root.join("both/DISK.VHDX")), "as written comes first");
        assert_eq!(any(&["none", "disk.vhdx"]), None);
        assert_eq!(listings.exact(&root.join("none"), &["disk.vhdx"]), None);
    }

    #[test]
    fn what_comes_is_found_by_the_next_run_and_in_a_folder_of_too_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let (roots, of_roots) = ([folder.path().to_owned()], RootListings::default());
        let exact = |name: &str| Listings::new(&roots, &of_roots).exact(&roots[0], &[name]);
        assert_eq!(exact("late"), None);
        fs::write(folder.path().join("late"), b"").unwrap();
        of_roots.clear();
        assert_eq!(exact("late"), Some(folder.path().join("late")));
        for number in 0..=MAX_ENTRIES {
            fs::write(folder.path().join(number.to_string()), b"").unwrap();
        }
        of_roots.clear();
        assert!((0..=MAX_ENTRIES).all(|number| exact(&number.to_string()).is_some()));
    }
}
