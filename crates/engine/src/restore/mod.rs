//! Bringing a VM's files back, in the layout of Export-VM.
//!
//! Files are written below a temporary name, compared with the digest that the signed chain states, and
//! only a VM folder that is complete gets its own name. Nothing existing is overwritten. Registering the VM
//! is left to a script and a person: see `runbook`.

#[cfg(test)]
mod fixture;
mod names;
mod plan;
mod runbook;
mod write;

pub use plan::{hypervisor_versions, plan};
pub use write::{RestoreObserver, RestoreOptions, Unobserved, restore};

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
        "{path} cannot be written: {source}. Free space or choose another folder with --to; nothing of the vault was touched"
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
        "the restore ended in a fault of the program: {0}; files written so far are below a temporary name"
    )]
    Fault(String),
}
