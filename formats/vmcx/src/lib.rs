//! Reader, writer and typed view of the HyperVStorage container: `.vmcx`, `.vmrs` and `.vsv` files.
//!
//! The container is a tree of named values with two headers, object tables, key tables and a replay log; `FORMAT.md` in this
//! crate describes every byte under the names used in [`layout`]. [`Container`] reads it through a positioned-read port
//! ([`ReadAt`]), applies a pending replay log in memory and answers a [`Tree`]; [`Container::inspect`] says whether a copy is
//! whole, dirty or torn, and why. [`VmConfiguration`] is what a backup wants to know of a VM. [`VmcxWriter`] builds containers
//! for fixtures and synthetic hosts.
//!
//! ```text
//! file bytes > ReadAt > headers > replay overlay > object tables > key tables > Tree > VmConfiguration
//! ```
//!
//! The crate does no IO, never writes to a file that Hyper-V owns, and does not interpret VM key protectors, vTPM state or
//! saved memory: these are bytes with a place where they were found.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod build;
mod checksum;
mod container;
mod error;
mod guid;
mod header;
mod keys;
pub mod layout;
mod objects;
mod read_at;
mod replay;
mod security;
mod tree;
mod view;
mod write;

pub use build::{BuilderNode, TreeBuilder};
pub use container::{Container, Facts, FileRange, Inspection, Report, Wholeness};
pub use error::{Corruption, OpenError, ReadError, Remark, WriteError};
pub use guid::Guid;
pub use header::{ContainerHeader, FormatVersion};
pub use objects::ObjectKind;
pub use read_at::{OutOfBounds, ReadAt};
pub use replay::ReplayLog;
pub use security::{
    BlobKind, BlobLocation, FoundBlob, Repository, SecurityBlob, SecurityState, UnknownKey, find_blob,
};
pub use tree::{Children, KeyFlags, KeyKind, Node, Tree, Value};
pub use view::{
    ConfigurationVersion, ControllerKind, Device, Disk, DriveType, FileTime, Generation, NetworkAdapter,
    UnexpectedValue, VmConfiguration,
};
pub use write::{StringNul, VmcxWriter, WriteOptions};
