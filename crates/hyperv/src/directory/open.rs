//! Files as the operating system shows them: attributes, opening without following links, reads at positions.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use lifeboat_engine::source::FileStat;
use lifeboat_vmcx::ReadAt;

/// Attributes of a file.
#[cfg(unix)]
pub(crate) fn stat(metadata: &Metadata) -> FileStat {
    use std::os::unix::fs::MetadataExt as _;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileStat {
        size: metadata.len(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        file_id: metadata.ino(),
    }
}

/// Attributes of a file; times of change and file numbers are not to be had without `unsafe` here.
#[cfg(not(unix))]
pub(crate) fn stat(metadata: &Metadata) -> FileStat {
    use std::time::UNIX_EPOCH;
    let modified_ns = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => after.as_nanos() as i128,
        Ok(Err(before)) => -(before.duration().as_nanos() as i128),
        Err(_) => 0,
    };
    FileStat { size: metadata.len(), modified_ns, changed_ns: 0, file_id: 0 }
}

/// Opens a regular file for reading, and gives its attributes.
///
/// A link in the last place of the path is not followed, and a pipe does not block. Folders above it may have become links
/// since they were walked: whoever can do that owns the VM's files anyway, and wins a copy of a file in the sealed vault.
///
/// # Errors
/// The operating system's, or that it is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<(File, FileStat)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits() as i32);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok((file, stat(&metadata)))
}

/// Attributes of what lies at a path now, without following a link.
///
/// # Errors
/// The operating system's.
pub(crate) fn stat_at(path: &Path) -> io::Result<FileStat> {
    std::fs::symlink_metadata(path).map(|metadata| stat(&metadata))
}

/// Tells whether an error says that another program has the file to itself (Windows sharing and lock violations).
pub(crate) fn is_in_use(error: &io::Error) -> bool {
    const SHARING_VIOLATION: i32 = 32;
    const LOCK_VIOLATION: i32 = 33;
    cfg!(windows) && matches!(error.raw_os_error(), Some(SHARING_VIOLATION | LOCK_VIOLATION))
}

/// The content of a file: its very bytes in memory, or the open file where it is too large for that.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// All bytes.
    Held(&'a [u8]),
    /// The open file and its size in bytes.
    Open(&'a File, u64),
}

impl ReadAt for Content<'_> {
    type Error = io::Error;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self {
            Content::Held(bytes) => {
                ReadAt::read_exact_at(*bytes, offset, buf).map_err(|_| io::ErrorKind::UnexpectedEof.into())
            }
            Content::Open(file, _) => lifeboat_disk::read_exact_at(file, offset, buf),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Content::Held(bytes) => ReadAt::len(*bytes),
            Content::Open(_, size_bytes) => *size_bytes,
        }
    }
}

/// Reads a file of `size_bytes` to the end of `bytes`.
///
/// # Errors
/// The operating system's; [`io::ErrorKind::UnexpectedEof`] when the file has become shorter or longer.
pub(crate) fn read_held(mut file: &File, size_bytes: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    use std::io::Read as _;
    // One byte more than expected, so that growth is seen and the end needs no further call.
    bytes.reserve(usize::try_from(size_bytes).map_err(io::Error::other)? + 1);
    let read = file.by_ref().take(size_bytes + 1).read_to_end(bytes)? as u64;
    if read == size_bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
