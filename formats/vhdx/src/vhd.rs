//! VHD, the format before VHDX: fixed, dynamic and differencing disks, read-only.
//!
//! A VHD ends in a footer; dynamic and differencing disks begin with a copy of it, followed by a header, a block
//! allocation table and blocks with a sector bitmap each. All numbers are big-endian. The format has no log: a file is
//! what it is. [`VhdReader`] opens one file, [`VhdChain`] a differencing disk with its parents.
//!
//! Not read: footers of 511 bytes (before 2004) and disks split over several files.

mod chain;
mod error;
pub mod layout;
mod reader;

pub use chain::VhdChain;
pub use error::{VhdCorruption, VhdError};
pub use layout::VhdId;
pub use reader::{VhdIdentity, VhdKind, VhdParent, VhdReader};
