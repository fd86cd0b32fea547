//! Host sources: where the files of virtual machines are found, and how a whole copy of each is read.
//!
//! [`DirectorySource`] implements the engine's port `HostSource` over folders: a live Hyper-V root, exported VMs, a shadow
//! copy, a mounted cluster volume. It reads through `lifeboat-vmcx` and `lifeboat-vmgs`, which say whether a copy is whole,
//! and `lifeboat-key-protector`, which says whose VM it is.
//!
//! [`read_disk_head`] and [`read_guardian_metadata`] say of one file what a capture says of a host's.
//!
//! A source seals nothing, keeps nothing between runs, and never writes to a file or folder that it finds.

mod addressees;
mod describe;
mod directory;
mod disk_head;
mod error;
mod guest_state;
mod names;
mod proof;

pub use addressees::read_guardian_metadata;
pub use directory::{DirectoryOptions, DirectorySource};
pub use disk_head::{DiskHeadError, read_disk_head};
pub use error::BadPattern;
pub use exclude::ExcludePattern;

mod exclude;
