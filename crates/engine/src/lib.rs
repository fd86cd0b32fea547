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

/// Threads that a program's runtime should keep for blocking work: one for each core, and `waiting` more that read or write while
/// those compute. Each thread keeps memory of its own; a disk that makes files durable keeps each waiting for long.
pub fn blocking_threads(waiting: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) + waiting
}
