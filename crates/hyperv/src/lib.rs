//! Host sources: where the files of virtual machines are found, and how a whole copy of each is read.
//!
//! [`DirectorySource`] implements the engine's port `HostSource` over folders: a live Hyper-V root, exported VMs, a shadow
//! copy, a mounted cluster volume. It reads through `lifeboat-vmcx` and `lifeboat-vmgs`, which say whether a copy is whole,
//! and `lifeboat-key-protector`, which says whose VM it is.
//!
//! [`read_disk_head`] says of one file what a capture says of a host's.
//!
//! [`CompanionSource`] finds what VMs depend on beside their own files: shielding data, keys of guardians, template disks.
//!
//! [`HgsSource`] asks a Host Guardian Service for the metadata of its guardian.
//!
//! A source seals nothing, keeps nothing between runs, and never writes to a file or folder that it finds.

mod addressees;
mod capture_sink;
mod companions;
mod describe;
mod directory;
mod disk_head;
mod error;
mod guest_state;
mod hgs;
mod names;
mod proof;

pub use companions::{CompanionFolder, CompanionSource};
pub use directory::{DirectoryOptions, DirectorySource};
pub use disk_head::{DiskHeadError, read_disk_head};
pub use error::BadPattern;
pub use exclude::ExcludePattern;
pub use hgs::HgsSource;

mod exclude;
