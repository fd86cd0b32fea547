//! VHDX (and VHD) virtual disks: a reader that never writes, with log replay and differencing chains, and a writer of new files.
//!
//! File > log, regions > metadata, BAT > blocks > sectors; `FORMAT.md` tells the bytes. [`VhdxReader`] opens one file,
//! [`VhdxChain`] a differencing disk with its parents, [`VhdxWriter`] makes a new one; [`vhd`] reads the older format. The reader answers ranges
//! ([`VhdxReader::resolve`]): where each part of a virtual range lies, so that the caller reads payload itself.
//!
//! The crate does no IO of its own: bytes come through [`ReadAt`] and go through [`WriteAt`]. It never changes an
//! existing file, never opens a path that a file names, and does not interpret what the guest wrote.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bat;
mod blocks;
mod chain;
mod checksum;
mod error;
mod extent;
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod layers;
pub mod layout;
mod locator;
pub mod log;
mod metadata;
mod overlay;
mod port;
mod reader;
mod region;
mod verify;
pub mod vhd;
mod write;

pub use chain::VhdxChain;
pub use error::{BlockKind, Corruption, LocatorRule, RangeRule, VhdxError, VhdxWriteError};
pub use extent::{Extent, LocalSource, Source};
pub use header::Header;
pub use locator::ParentLocator;
pub use metadata::{MetadataFlags, MetadataItem, MetadataTable};
pub use port::{PortError, ReadAt, SparseImage, WriteAt};
pub use reader::{DiskIdentity, DiskKind, VhdxReader};
pub use region::{Region, RegionTable};
pub use uguid::{Guid, guid};
pub use verify::BatReport;
pub use write::{
    BlockMark, CarriedItem, DEFAULT_BLOCK_BYTES, DEFAULT_DIFFERENCING_BLOCK_BYTES, NewDiskIds, NewDiskKind,
    PendingLog, VhdxOptions, VhdxWriteReport, VhdxWriter,
};
