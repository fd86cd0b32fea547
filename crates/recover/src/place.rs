//! Places to write to: never a file of the source, never over what is there, a name only for what is whole.
//!
//! Who writes an output or a file beside it comes through here: a name is compared with the files of the source as the
//! system tells files apart, not by its text; a new file is made, never opened; a finished one gets its name without
//! replacing another.
//!
//! Deliberately knows nothing of what is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::RecoverError;

/// Refuses a name that leads to a file of the source, by whatever link.
pub(crate) fn refuse_source(path: &Path, source_files: &[PathBuf]) -> Result<(), RecoverError> {
    // What is neither a file nor a disk cannot be a source, and opening a pipe would wait for a writer.
    if !path.metadata().is_ok_and(|metadata| !metadata.is_dir() && !is_pipe(&metadata)) {
        return Ok(());
    }
    for source_file in source_files {
        // A source whose name is gone has no other one that could be compared.
        if same_file::is_same_file(path, source_file).unwrap_or(false) {
            let (path, source_file) = (path.to_owned(), source_file.clone());
            return Err(RecoverError::IsSource { path, source_file });
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_pipe(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_char_device()
}

#[cfg(not(unix))]
fn is_pipe(_: &std::fs::Metadata) -> bool {
    false
}

/// Tells whether anything has the name, a link to nowhere included.
pub(crate) fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Makes a new file that only its owner reads; what has the name already, links included, is an error.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Opens a file that an earlier run made, for writing; none where it is a link or no plain file.
pub(crate) fn open_own(path: &Path) -> io::Result<Option<File>> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(None);
    }
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
    );
    options.open(path).map(Some)
}

/// Gives a whole file its name, without replacing another.
pub(crate) fn give_name(partial: &Path, name: &Path) -> io::Result<()> {
    // A hard link refuses what exists; a rename would replace it. Where there are no hard links, look first.
    match std::fs::hard_link(partial, name) {
        Ok(()) => std::fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if is_taken(name) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(partial, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_there_is_opened_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("there"), b"there").unwrap();
        std::fs::write(path("part"), b"new").unwrap();
        assert_eq!(create_new(&path("there")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            give_name(&path("part"), &path("there")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        give_name(&path("part"), &path("whole")).unwrap();
        assert!(!is_taken(&path("part")) && is_taken(&path("whole")));
        assert_eq!(std::fs::read(path("there")).unwrap(), b"there");
        assert!(open_own(&path("there")).unwrap().is_some());
        assert!(open_own(folder.path()).unwrap().is_none());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
            assert!(is_taken(&path("link")) && open_own(&path("link")).unwrap().is_none());
            assert_eq!(create_new(&path("link")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
    }

    #[test]
    fn a_source_is_known_by_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("disk"), b"disk").unwrap();
        std::fs::write(path("other"), b"disk").unwrap();
        std::fs::hard_link(path("disk"), path("hard")).unwrap();
        let is_refused = |name: &str| refuse_source(&path(name), &[path("gone"), path("disk")]).is_err();
        assert!(is_refused("disk") && is_refused("hard"));
        assert!(!is_refused("other") && !is_refused("none") && !is_refused("."));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("disk", path("link")).unwrap();
            assert!(is_refused("link"));
        }
    }
}
