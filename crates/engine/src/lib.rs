//! What Lifeboat does with virtual machines and a vault: snapshot, restore, check.
//!
//! Above `vault` and the formats, below the programs. The engine prints nothing, reads no environment and
//! has no clock of its own: times, sources and observers are handed in.

pub mod admin;
pub mod catalog;
pub mod inventory;
pub mod restore;
pub mod snapshot;
pub mod source;
