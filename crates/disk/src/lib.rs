//! Disk images of virtual machines: which container, which parents, which volumes, and what encrypts each.
//!
//! Joins the format crates over files: [`open_disk`] makes a [`VirtualDisk`] of a VHDX or VHD with its parents, or of a
//! raw image; [`DiskLayout`] lists its [`DiskVolume`]s; [`FveCapture`] takes what a backup must keep of a BitLocker
//! volume; [`inspect`] says all of it in one document. Files come through the port [`ImageFiles`], bytes through
//! [`ReadAt`], so that a caller can count, cache or fake both.
//!
//! Deliberately writes nothing, unlocks nothing, and reads no more of a disk than the answer needs.

#![forbid(unsafe_code)]

mod capture;
mod disk;
mod error;
mod files;
#[cfg(feature = "fixtures")]
pub mod fixtures;
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
mod layout;
mod open;
mod probe;
mod volume;

pub use capture::{FveCapture, FveRegion, HEAD_BYTES};
pub use disk::{Container, DiskExtent, DiskFacts, VirtualDisk};
pub use error::{DiskError, error_chain};
pub use files::{ImageFile, ImageFiles, LocalFiles, read_exact_at};
pub use inspect::inspect;
pub use layout::{DiskLayout, DiskVolume, PartitionFacts};
pub use lifeboat_vhdx::{PortError, ReadAt};
pub use open::{ParentSearch, open_disk};
pub use probe::{Encryption, PlainContent, probe};
pub use volume::VolumeReader;
