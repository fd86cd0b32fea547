//! Partition tables of a disk: GPT in both copies, and MBR with extended partitions.
//!
//! Disk > table > partition; `FORMAT.md` tells the bytes. [`PartitionTables::read`] reads what stands at the start and
//! the end of a disk, through whatever the caller reads disks with. Damage is a value: a table that does not hold is
//! reported with the broken rule, and the other copy, or nothing, takes its place.
//!
//! The crate writes nothing, repairs nothing and does not look into partitions.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gpt;
pub mod layout;
mod mbr;
mod tables;
#[cfg(test)]
mod tests;

pub use error::{GptDamage, MbrDamage};
pub use gpt::{GptPartition, GptTable};
pub use mbr::{MbrPartition, MbrTable, MbrType};
pub use tables::{Partition, PartitionTables, Scheme};
pub use uguid::Guid;
