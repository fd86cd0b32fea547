//! What Lifeboat does with virtual machines and a vault: snapshot, restore, check.
//!
//! Above `vault` and the formats, below the programs. The engine prints nothing, reads no environment and
//! has no clock of its own: times, sources and observers are handed in.

pub mod admin;
pub mod catalog;
pub mod changes;
pub mod companions;
pub mod concern;
pub mod entry;
pub mod explain;
pub mod guardians;
pub mod inventory;
pub mod restore;
pub mod silence;
pub mod snapshot;
pub mod source;

/// Threads that a program's runtime should keep for blocking work: one for each core, and four that read or write
/// while those compute: each waits long for a disk that makes files durable. Each thread more would keep memory of its own.
pub fn blocking_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) + 4
}
