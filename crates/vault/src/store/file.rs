//! `file://`: a folder of this machine as an object store.
//!
//! Reads and listings are `object_store`'s own. Writing is ours, because a vault asks for more: a new object
//! is staged beside its final name, synced, named by a step that can never replace another object, and the
//! folder is synced, so that an answered create survives a power cut and a crash leaves at most a staged
//! file, which no listing shows. Nothing is ever overwritten, and nothing here deletes a finished object
//! unless told to.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempPath;

use super::options::FileCreate;

/// Name of this store in `object_store`'s errors.
const STORE: &str = "file";

/// A folder as an object store that writes durably and never overwrites.
#[derive(Debug)]
pub(super) struct FileStore {
    local: LocalFileSystem,
    writer: Arc<Writer>,
}

/// What the blocking half of a create needs.
#[derive(Debug)]
struct Writer {
    file_create: FileCreate,
    folders: Mutex<HashMap<PathBuf, Arc<FolderSync>>>,
}

impl FileStore {
    /// Opens the folder `root`, which must exist.
    pub(super) fn open(root: &Path, file_create: FileCreate) -> Result<Self> {
        let local = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        let writer = Writer { file_create, folders: Mutex::default() };
        Ok(Self { local, writer: Arc::new(writer) })
    }
}

/// Creates the folder `root` and its parents for the owner alone, durably. An existing folder is left as it is.
pub(super) fn create_root(root: &Path) -> io::Result<()> {
    create_folders(root)
}

impl fmt::Display for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}

fn not_supported(what: &str) -> Error {
    Error::NotSupported { source: format!("a file:// store does not {what}").into() }
}

#[async_trait::async_trait]
impl ObjectStore for FileStore {
    async fn put_opts(
        &self,
        location: &Location,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode != PutMode::Create {
            return Err(not_supported("overwrite"));
        }
        let path = self.local.path_to_filesystem(location)?;
        let writer = Arc::clone(&self.writer);
        tokio::task::spawn_blocking(move || writer.create(&path, &payload)).await?.map_err(
            |(path, source)| {
                let path = path.display().to_string();
                match source.kind() {
                    io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
                    io::ErrorKind::PermissionDenied => {
                        Error::PermissionDenied { path, source: source.into() }
                    }
                    _ => Error::Generic { store: STORE, source: source.into() },
                }
            },
        )?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(
        &self,
        _: &Location,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported("write in parts"))
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.local.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Location>>,
    ) -> BoxStream<'static, Result<Location>> {
        self.local.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Location>,
        offset: &Location,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Location, _: &Location, _: CopyOptions) -> Result<()> {
        Err(not_supported("copy"))
    }
}

impl Writer {
    /// Writes one new file, durably; an error names the path that it is about.
    fn create(&self, path: &Path, payload: &PutPayload) -> std::result::Result<(), (PathBuf, io::Error)> {
        let folder = path.parent().expect("a checked name below the root has a parent");
        self.create_in(folder, path, payload).map_err(|source| (path.to_owned(), source))
    }

    fn create_in(&self, folder: &Path, path: &Path, payload: &PutPayload) -> io::Result<()> {
        if path.symlink_metadata().is_ok() {
            // Whoever wrote it may not have synced the folder yet, and our caller will rely on it.
            self.sync_folder(folder)?;
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (mut file, staged) = match stage(folder, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folders(folder)?;
                stage(folder, path)?
            }
            staged => staged?,
        };
        for chunk in payload {
            file.write_all(chunk)?;
        }
        file.sync_all()?;
        // Closed first: Windows renames no open file.
        drop(file);
        let published = publish(staged, path, self.file_create);
        if matches!(&published, Err(error) if error.kind() != io::ErrorKind::AlreadyExists) {
            return published;
        }
        self.sync_folder(folder)?;
        published
    }

    /// Makes the names in `folder` durable; creates that finish together share one sync.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let sync = {
            let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(folders.entry(folder.to_owned()).or_default())
        };
        sync.sync(folder)
    }
}

/// Opens a staged file beside `path`, for the owner alone, and the guard that removes it again.
///
/// Its name ends in `#` and digits: `object_store` neither lists nor opens such names, and no
/// [`super::StorePath`] can be one.
fn stage(folder: &Path, path: &Path) -> io::Result<(File, TempPath)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    loop {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!("#{}", u64::from_le_bytes(random)));
        let staged = folder.join(name);
        match options.open(&staged) {
            Ok(file) => return Ok((file, TempPath::try_from_path(staged)?)),
            // Only after 2^64 leftovers would this not end.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Gives the staged file its final name, without ever replacing a file of that name.
fn publish(staged: TempPath, path: &Path, file_create: FileCreate) -> io::Result<()> {
    if file_create != FileCreate::HardLink {
        match rename_without_replacing(staged, path) {
            Ok(()) => return Ok(()),
            Err((Some(staged), error))
                if file_create == FileCreate::Auto && error.kind() == io::ErrorKind::Unsupported =>
            {
                return hard_link(&staged, path);
            }
            Err((_, error)) => return Err(error),
        }
    }
    hard_link(&staged, path)
}

/// Renames where the system can refuse to replace; gives the guard back where it cannot.
#[cfg(target_os = "linux")]
fn rename_without_replacing(
    staged: TempPath,
    path: &Path,
) -> std::result::Result<(), (Option<TempPath>, io::Error)> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, &*staged, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {
            // Its staged name is gone; there is nothing left to remove.
            drop(staged.keep());
            Ok(())
        }
        // An old kernel, or a file system without it: NFS, some FUSE file systems.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err((Some(staged), no_safe_naming())),
        Err(error) => Err((Some(staged), error.into())),
    }
}

/// Renames by the system's own call, which on Windows can refuse to replace.
#[cfg(windows)]
fn rename_without_replacing(
    staged: TempPath,
    path: &Path,
) -> std::result::Result<(), (Option<TempPath>, io::Error)> {
    staged.persist_noclobber(path).map_err(|error| (Some(error.path), error.error))
}

/// Gives the guard back: this system has no such rename that we know.
#[cfg(not(any(target_os = "linux", windows)))]
fn rename_without_replacing(
    staged: TempPath,
    _: &Path,
) -> std::result::Result<(), (Option<TempPath>, io::Error)> {
    Err((Some(staged), no_safe_naming()))
}

/// Links the staged file to its final name, which fails where that exists. Dropping the guard afterwards
/// removes the staged name; a crash before that leaves a name that nobody lists.
fn hard_link(staged: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(staged, path).map_err(|error| {
        // Linux answers EPERM where a file system has no hard links (vfat, exfat).
        #[cfg(unix)]
        let cannot = error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
        #[cfg(not(unix))]
        let cannot = false;
        if cannot || error.kind() == io::ErrorKind::Unsupported { no_safe_naming() } else { error }
    })
}

fn no_safe_naming() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the file system cannot name a finished file without risk of replacing another \
         (no rename that refuses to replace, or no hard links)",
    )
}

/// Creates `folder` and its missing parents for the owner alone, and makes their names durable.
fn create_folders(folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut next = Some(folder);
    while let Some(folder) = next
        && !folder.exists()
    {
        missing.push(folder);
        next = folder.parent();
    }
    for folder in missing.into_iter().rev() {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(folder) {
            // Another writer was faster; its name may not be durable yet either.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
        if let Some(parent) = folder.parent() {
            sync_names(parent)?;
        }
    }
    Ok(())
}

/// Syncs the names in one folder, once for all who wait for it.
#[derive(Debug, Default)]
struct FolderSync {
    /// Number of the last request for a sync.
    requested: AtomicU64,
    /// All requests up to this number have been served.
    served: Mutex<u64>,
}

impl FolderSync {
    fn sync(&self, folder: &Path) -> io::Result<()> {
        let mine = self.requested.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if *served >= mine {
            // A sync that began after our name was given has ended.
            return Ok(());
        }
        let upto = self.requested.load(Ordering::SeqCst);
        sync_names(folder)?;
        *served = upto;
        Ok(())
    }
}

/// Syncs a folder. Windows has no such call; its journal orders names after the data we have synced.
fn sync_names(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return File::open(folder)?.sync_all();
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}
