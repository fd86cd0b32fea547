//! Runs that wait on this host for the store: sealed objects and the signed record, nothing else.
//!
//! A run fills `open/`; with its record the folder gets the record's name in one step, and only then is it a run.
//! Whatever is found in `open/` later belongs to a run that ended before it was sealed: it is never adopted, and the
//! next run destroys it with its first write. Nothing here can be read by who holds the folder: every object is an age
//! file, and the record names no VM.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lifeboat_schema::Digest;

use crate::record::{MAX_RECORD_BYTES, RecordName};

/// The run that is being sealed.
const OPEN: &str = "open";
/// Its record, beside its objects.
const RECORD: &str = "record";
/// Folders that are being destroyed begin so.
const GONE: &str = "gone-";
/// Ends the names of objects.
const OBJECT_SUFFIX: &str = ".age";

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A file of it cannot be read or written.
    #[error("the spool's {path} cannot be used: {source}. Give the agent room, and the right to write there")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// It has as many bytes as it may have.
    #[error(
        "the spool {folder} is full: it holds {held} of {max} bytes, and {need} more are needed. What it holds goes up when the store is back; until then raise spool.max_mebibytes, or bring the store back"
    )]
    Full {
        /// Its folder.
        folder: PathBuf,
        /// Bytes that it holds.
        held: u64,
        /// Bytes that it may hold.
        max: u64,
        /// Bytes that were to be added.
        need: u64,
    },
    /// What it holds is not what was sealed.
    #[error(
        "{path} in the spool is damaged: {what}. Its run and those after it are given up and sealed anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// One run that waits, by its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledRun {
    /// The record's place and id.
    pub name: RecordName,
    folder: PathBuf,
}

/// The folder of runs that wait. One process uses it at a time: whoever holds the agent's lock.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    held: AtomicU64,
}

impl Spool {
    /// Opens the spool in `folder`, makes it where there is none, and ends what a process that died was deleting.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(|source| at(folder, source))?;
        let spool = Self { folder: folder.to_owned(), max_bytes, held: AtomicU64::new(0) };
        for name in spool.names(folder)? {
            if name.starts_with(GONE) {
                destroy(&folder.join(name))?;
            }
        }
        let mut held = folder_bytes(&folder.join(OPEN));
        for run in spool.runs()? {
            held += spool.run_bytes(&run)?;
        }
        spool.held.store(held, Ordering::Relaxed);
        Ok(spool)
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that it may hold.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The runs that wait, in the order in which they were sealed.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn runs(&self) -> Result<Vec<SpooledRun>, SpoolError> {
        let mut runs: Vec<SpooledRun> = self
            .names(&self.folder)?
            .into_iter()
            .filter_map(|name| {
                let folder = self.folder.join(&name);
                Some(SpooledRun { name: format!("{name}.json").parse().ok()?, folder })
            })
            .collect();
        runs.sort_by_key(|run| run.name);
        Ok(runs)
    }

    /// Adds an object to the run that is being sealed.
    ///
    /// # Errors
    /// [`SpoolError`]; the run cannot be sealed then.
    pub fn put(&self, name: &Digest, bytes: &[u8]) -> Result<(), SpoolError> {
        self.write(&format!("{name}{OBJECT_SUFFIX}"), bytes)
    }

    /// Seals the run: with its record it is one.
    ///
    /// # Errors
    /// [`SpoolError`]; the run is none then.
    pub fn seal(&self, name: &RecordName, record: &[u8]) -> Result<(), SpoolError> {
        self.write(RECORD, record)?;
        let open = self.folder.join(OPEN);
        sync_folder(&open)?;
        let sealed = self.folder.join(folder_name(name));
        fs::rename(&open, &sealed).map_err(|source| at(&sealed, source))?;
        sync_folder(&self.folder)
    }

    /// Whether a run that was never sealed has left objects.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn has_open_objects(&self) -> Result<bool, SpoolError> {
        let open = self.folder.join(OPEN);
        Ok(open.is_dir() && self.names(&open)?.iter().any(|name| name.ends_with(OBJECT_SUFFIX)))
    }

    /// Destroys the run that is being sealed.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn discard_open(&self) -> Result<(), SpoolError> {
        let open = self.folder.join(OPEN);
        let bytes = folder_bytes(&open);
        destroy(&open)?;
        self.held.fetch_sub(bytes.min(self.held_bytes()), Ordering::Relaxed);
        Ok(())
    }

    /// The record of a run: line and armour, not verified.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn record(&self, run: &SpooledRun) -> Result<Bytes, SpoolError> {
        let path = run.folder.join(RECORD);
        let size = fs::metadata(&path).map_err(|source| at(&path, source))?.len();
        if size > MAX_RECORD_BYTES {
            return Err(SpoolError::Damaged { path, what: format!("{size} bytes are no record") });
        }
        fs::read(&path).map(Bytes::from).map_err(|source| at(&path, source))
    }

    /// The objects of a run.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn objects(&self, run: &SpooledRun) -> Result<Vec<Digest>, SpoolError> {
        let mut objects: Vec<Digest> = self
            .names(&run.folder)?
            .iter()
            .filter_map(|name| name.strip_suffix(OBJECT_SUFFIX)?.parse().ok())
            .collect();
        objects.sort_unstable();
        Ok(objects)
    }

    /// An object of a run, compared with its name.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn object(&self, run: &SpooledRun, name: &Digest) -> Result<Bytes, SpoolError> {
        let path = run.folder.join(format!("{name}{OBJECT_SUFFIX}"));
        let bytes = fs::read(&path).map_err(|source| at(&path, source))?;
        let found = Digest::of(&bytes);
        if found != *name {
            return Err(SpoolError::Damaged { path, what: format!("its digest is {found}") });
        }
        Ok(bytes.into())
    }

    /// Bytes of a run.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn run_bytes(&self, run: &SpooledRun) -> Result<u64, SpoolError> {
        fs::metadata(&run.folder).map_err(|source| at(&run.folder, source))?;
        Ok(folder_bytes(&run.folder))
    }

    /// Destroys a run: it is in the store, or given up.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn remove(&self, run: &SpooledRun) -> Result<(), SpoolError> {
        let bytes = folder_bytes(&run.folder);
        // In one step it is no run any more, however far its files are deleted.
        let gone = self.folder.join(format!("{GONE}{}", folder_name(&run.name)));
        match fs::rename(&run.folder, &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(at(&run.folder, source)),
        }
        self.held.fetch_sub(bytes.min(self.held_bytes()), Ordering::Relaxed);
        destroy(&gone)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        let need = bytes.len() as u64;
        let held = self.held.fetch_add(need, Ordering::Relaxed);
        if held.saturating_add(need) > self.max_bytes {
            self.held.fetch_sub(need, Ordering::Relaxed);
            let (folder, max) = (self.folder.clone(), self.max_bytes);
            return Err(SpoolError::Full { folder, held, max, need });
        }
        let open = self.folder.join(OPEN);
        let path = open.join(name);
        let write = || {
            fs::create_dir_all(&open)?;
            let mut file = fs::File::create(&path)?;
            file.write_all(bytes)?;
            // A run that is sealed stays whole through a power cut.
            file.sync_all()
        };
        write().map_err(|source| {
            self.held.fetch_sub(need, Ordering::Relaxed);
            at(&path, source)
        })
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, SpoolError> {
        let wrap = |source| at(folder, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(wrap)? {
            // A name that is no text is none that we gave.
            names.extend(entry.map_err(wrap)?.file_name().into_string().ok());
        }
        Ok(names)
    }
}

fn folder_name(name: &RecordName) -> String {
    format!("{:010}-{}", name.seq, name.id)
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn destroy(folder: &Path) -> Result<(), SpoolError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| at(folder, source)),
    }
}

/// Makes names in a folder last.
fn sync_folder(folder: &Path) -> Result<(), SpoolError> {
    #[cfg(unix)]
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(|source| at(folder, source))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn at(path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { path: path.to_owned(), source }
}
