//! Where image files come from: a port, and the files of this machine.
//!
//! A caller that captures over another way (a shadow copy, a counting wrapper, memory) brings its own [`ImageFiles`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use lifeboat_vhdx::{PortError, ReadAt};

/// Files that may be disks or parents of disks.
pub trait ImageFiles {
    /// An opened file; read-only.
    type File: ReadAt;

    /// Opens the file that a person named.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that another file named, or that lies beside it. Only regular files: a path from a disk must not
    /// reach a device or a pipe.
    ///
    /// # Errors
    /// Whatever the system reports; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    fn open_parent(&self, path: &Path) -> io::Result<Self::File>;

    /// Lists the files of a folder.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalFiles;

impl ImageFiles for LocalFiles {
    type File = ImageFile;

    fn open(&self, path: &Path) -> io::Result<ImageFile> {
        ImageFile::open(path)
    }

    fn open_parent(&self, path: &Path) -> io::Result<ImageFile> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        ImageFile::open(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        Ok(paths)
    }
}

/// A file of this machine, opened for reading only.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    size_bytes: u64,
}

impl ImageFile {
    /// Opens a regular file or a block device for reading.
    ///
    /// # Errors
    /// Whatever the system reports; [`io::ErrorKind::InvalidInput`] for a folder, a pipe or a character device.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Looked at first: opening a pipe would wait for a writer.
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !is_block_device(kind) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a disk"));
        }
        let mut file = File::open(path)?;
        // A device states no length, but its end can be sought.
        let size_bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self::new(file, size_bytes))
    }

    /// A file that its caller has opened and found to have `size_bytes`.
    pub fn new(file: File, size_bytes: u64) -> Self {
        Self { file, size_bytes }
    }
}

#[cfg(unix)]
fn is_block_device(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&kind)
}

#[cfg(not(unix))]
fn is_block_device(_: std::fs::FileType) -> bool {
    false
}

impl ReadAt for ImageFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let length = buffer.len() as u64;
        PortError::check_range(offset, length, self.size_bytes)?;
        read_exact_at(&self.file, offset, buffer).map_err(|error| PortError::Access {
            offset,
            length,
            source: Box::new(error),
        })
    }
}

/// Fills `buffer` with the bytes of a file at `offset`, without moving its cursor where the system can.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
#[cfg(unix)]
pub fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with the bytes of a file at `offset`. Moves its cursor: the system does so.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
#[cfg(windows)]
pub fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(have) => {
                buffer = &mut buffer[have..];
                offset += have as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
