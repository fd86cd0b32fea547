//! Errors of the crate: one variant per cause. None holds a secret.

use std::io;
use std::path::PathBuf;

/// Why a recovery failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The volume's map or cipher cannot be built.
    #[error("{0}")]
    Volume(#[from] lifeboat_fve::Error),
    /// The output exists.
    #[error("{} is there already, and nothing is overwritten; name another file", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output, or a file beside it that is written on the way, is a file of the source disk.
    #[error(
        "{} is a file of the disk that is read ({}), and a source is never written to; name another output",
        path.display(),
        source_file.display()
    )]
    IsSource {
        /// The file that would be written.
        path: PathBuf,
        /// The file of the source that it is.
        source_file: PathBuf,
    },
    /// There is not enough room.
    #[error(
        "the file system of {} has {free_bytes} bytes free, and up to {need_bytes} may be needed; choose another place{}",
        path.display(),
        if *skip_helps { ", or leave what was never written empty with --skip-unallocated" } else { "" }
    )]
    NoRoom {
        /// The output.
        path: PathBuf,
        /// Bytes free.
        free_bytes: u64,
        /// Bytes that may be needed.
        need_bytes: u64,
        /// Whether leaving unallocated blocks empty would make it fit.
        skip_helps: bool,
    },
    /// A file cannot be written, read or made.
    #[error("{} cannot be {did}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as in "cannot be written".
        did: &'static str,
        /// What the system reported.
        source: io::Error,
    },
    /// Another process writes the same output.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The partial output.
        path: PathBuf,
    },
    /// What has the name of the partial output, or of its journal, belongs to something else.
    #[error(
        "{} is not the beginning of this output (it is of another disk, of another state of the disk, of another key or form, \
         or of another program), and is neither continued nor overwritten; name another output, or look at it and remove it \
         and {} yourself",
        partial.display(),
        journal.display()
    )]
    OtherPartial {
        /// The partial output.
        partial: PathBuf,
        /// Its journal.
        journal: PathBuf,
    },
    /// The new VHDX cannot be made.
    #[error("{} cannot be written as a VHDX: {source}", path.display())]
    Vhdx {
        /// The output.
        path: PathBuf,
        /// What is wrong.
        source: lifeboat_vhdx::VhdxWriteError,
    },
    /// There can be no overlay in which BitLocker is suspended.
    #[error("no overlay can be written: {why}")]
    NotSuspendable {
        /// Why.
        why: String,
    },
    /// A person stopped it.
    #[error("interrupted; what is complete stays in {}, and the same command goes on from there", partial.display())]
    Interrupted {
        /// The partial output.
        partial: PathBuf,
    },
    /// A person stopped an extraction.
    #[error(
        "interrupted; {files} whole files are in {}, and the same command goes on: it leaves what is there as it is, and \
         names it",
        to.display()
    )]
    ExtractInterrupted {
        /// The folder.
        to: PathBuf,
        /// Files that this run wrote.
        files: u64,
    },
    /// The decrypted volume holds no file system that can be read here.
    #[error("the files of this volume cannot be listed: {why}. Decrypt it with --to and open it elsewhere")]
    NoFileSystem {
        /// What it holds instead.
        why: String,
    },
    /// A path does not exist on the volume.
    #[error("there is no {path} on this volume")]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// A folder was expected.
    #[error("{path} is a file, not a folder")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// The file system is damaged, or of a kind that is not read here.
    #[error("the file system cannot be read at {path}: {why}")]
    FileSystem {
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl RecoverError {
    pub(crate) fn file(path: &std::path::Path, did: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, did, source }
    }
}
