//! Bringing a VM's files back, in the layout of Export-VM.
//!
//! What is to be done is decided before anything is written: `facts` and `decide`, put into `words` by `plan`; `choose` takes
//! the snapshot.
//!
//! Files are written below a temporary name, compared with the digest that the signed chain states, and
//! only when all VMs are complete their folders get their names. Nothing existing is overwritten, and of a restore
//! that fails or is interrupted nothing is left. A VM of which the vault is damaged stays away and keeps no other
//! VM away. On Linux all bytes are on stable storage before the first of them gets its name; elsewhere the system writes
//! back in its own time, as after any copy. Registering the VM is left to a script and a person: see `runbook`.

mod choose;
mod decide;
mod facts;
#[cfg(test)]
mod fixture;
mod names;
mod plan;
mod runbook;
mod words;
mod write;

pub use choose::{Rule, choose_for, vms_of_disks};
pub use facts::{Circumstances, GivenDisk, KnownFabric, Original, Survey};
pub(crate) use names::checked_path;
pub use plan::{plan, plan_without_capture};
pub use write::{RestoreFailure, RestoreObserver, RestoreOptions, Restored, Unobserved, restore};

use std::path::PathBuf;

use lifeboat_schema::Digest;
use lifeboat_vault::vault::VaultError;

/// Why files could not be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The vault refused, failed or is damaged.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The destination cannot be written.
    #[error(
        "{path} cannot be written: {source}. {}; nothing of the vault was touched", advice(.source)
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Something is there already.
    #[error(
        "{path} is there already, and nothing is overwritten; choose another folder with --to, or move it away"
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A path in a body would leave the VM's folder or cannot be a file's.
    #[error(
        "the snapshot names a file {path:?}, which {why}; it is not written. Show this to whoever runs the host: its agent or its key did what it should not"
    )]
    BadPath {
        /// The path.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The parts of an artefact are not what its entry says.
    #[error(
        "{path} does not have the digest {expected} that its snapshot states; it is not kept. Run `lifeboat check --read-data`"
    )]
    WrongDigest {
        /// The file.
        path: String,
        /// The digest that the body states.
        expected: Digest,
    },
    /// A thread ended in a fault of the program.
    #[error(
        "the restore ended in a fault of the program: {0}. Nothing got its name, and what was written was removed"
    )]
    Fault(String),
    /// It failed, and what was written so far could not be removed.
    #[error(
        "{cause}. What was written until then is still in {path}, and cannot be removed: {source}. It is incomplete: remove it"
    )]
    Left {
        /// Why the restore failed.
        cause: Box<RestoreError>,
        /// The file or folder.
        path: PathBuf,
        /// Why it could not be removed.
        #[source]
        source: std::io::Error,
    },
}

impl RestoreError {
    /// Whether it says something of some VMs, so that others may come back: what the vault holds of them, or names that
    /// the file system does not take.
    fn is_of_some_vms(&self) -> bool {
        matches!(
            self,
            Self::Vault(VaultError::Damaged { .. }) | Self::BadPath { .. } | Self::WrongDigest { .. }
        ) || self.is_refused_name()
    }

    /// Whether the file system of the destination does not take a name: too long, or with a letter that it has not.
    pub fn is_refused_name(&self) -> bool {
        use std::io::ErrorKind::{InvalidFilename, InvalidInput};
        // EILSEQ of Linux and macOS has no kind of its own.
        let is_refused = |source: &std::io::Error| {
            matches!(source.kind(), InvalidFilename | InvalidInput)
                || (cfg!(unix) && matches!(source.raw_os_error(), Some(84 | 92)))
        };
        matches!(self, Self::Write { source, .. } if is_refused(source))
    }

    /// Why the restore failed, whatever it left.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Left { cause, .. } => cause.cause(),
            other => other,
        }
    }
}

/// What to do about a destination that cannot be written.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "Free space or choose another folder with --to"
        }
        _ => "Look at the folder and its rights, or choose another with --to",
    }
}
