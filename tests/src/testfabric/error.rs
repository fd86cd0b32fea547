//! Why a fabric cannot be made, opened or aged.

use std::io;
use std::path::{Path, PathBuf};

/// Why a fabric cannot be made, opened or aged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// A file or folder.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The folder for a new fabric has something in it.
    #[error("{} is not empty; a fabric is made in a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The answer sheet cannot be read or written.
    #[error("answer sheet")]
    Answers(#[from] serde_json::Error),
    /// The answer sheet is of another version of this program.
    #[error("the answer sheet has version {found}, this program knows {known}")]
    Version {
        /// Version that was found.
        found: u32,
        /// Version that this program writes.
        known: u32,
    },
    /// An option does not go.
    #[error("{option} is {found}: {why}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        found: u64,
        /// The rule.
        why: &'static str,
    },
    /// No damage of that kind shows in the file.
    #[error("{place}: no {how} damage was found that its checksums show")]
    Untearable {
        /// The file.
        place: String,
        /// Kind of damage.
        how: &'static str,
    },
    /// The VM key protector or a certificate.
    #[error("VM key protector")]
    KeyProtector(#[from] lifeboat_key_protector::Error),
    /// The VMCX or VMRS.
    #[error("VMCX or VMRS")]
    Vmcx(#[from] lifeboat_vmcx::WriteError),
    /// The VHDX.
    #[error("VHDX")]
    Vhdx(#[from] lifeboat_vhdx::VhdxWriteError),
}

/// Adds the path to an error of the system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> FabricError + '_ {
    move |source| FabricError::Io { path: path.to_owned(), source }
}
