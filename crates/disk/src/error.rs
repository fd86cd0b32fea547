//! Errors of the crate: one variant per cause.
//!
//! What is wrong with a partition table or a BitLocker volume is no error here but part of the answer.

use std::io;
use std::path::PathBuf;

use lifeboat_vhdx::vhd::VhdError;
use lifeboat_vhdx::{PortError, VhdxError};

/// Why a disk image cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// The file is neither a regular file nor a block device.
    #[error("{} is neither a file nor a disk", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is a VHDX, but not a whole one.
    #[error("{} cannot be opened as a VHDX: {source}", path.display())]
    Vhdx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VhdxError,
    },
    /// The file is a VHD, but not a whole one.
    #[error("{} cannot be opened as a VHD: {source}", path.display())]
    Vhd {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VhdError,
    },
    /// No file was found that is the parent of a differencing disk.
    #[error(
        "{} is a differencing disk and its parent {} ({wanted}) was not found in {}; put it beside the disk, or name its folder",
        path.display(),
        name.as_deref().unwrap_or("(no name stated)"),
        folders(searched)
    )]
    ParentNotFound {
        /// The child.
        path: PathBuf,
        /// File name of the parent, as the child states it.
        name: Option<String>,
        /// Identity of the parent, in words.
        wanted: String,
        /// Folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// The file with the parent's name is another state of it.
    #[error(
        "{} is the parent of {} by name, but not in the state from which the child was made ({wanted}); \
         putting the two together would give a silently damaged disk",
        parent.display(),
        path.display()
    )]
    ParentChanged {
        /// The child.
        path: PathBuf,
        /// The file with the parent's name.
        parent: PathBuf,
        /// Identity of the parent, in words.
        wanted: String,
    },
    /// The file that a differencing disk names as its parent is there, and is no disk that can be read; or the folder in
    /// which to look cannot be.
    #[error("{} is a differencing disk, and what may be its parent ({wanted}) cannot be used: {why}", path.display())]
    ParentUnusable {
        /// The child.
        path: PathBuf,
        /// Identity of the parent, in words.
        wanted: String,
        /// What is wrong with the parent.
        why: Box<DiskError>,
    },
    /// The chain of parents is longer than Hyper-V makes.
    #[error("{} has more than {max} parents behind it", path.display())]
    ChainTooLong {
        /// The disk that was asked for.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A part of the disk cannot be read.
    #[error("reading the disk failed: {}", error_chain(source))]
    Read {
        /// What happened.
        #[from]
        source: PortError,
    },
}

fn folders(searched: &[PathBuf]) -> String {
    match searched {
        [] => "any folder".to_owned(),
        some => some.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

/// An error with its causes, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
