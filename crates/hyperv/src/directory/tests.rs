//! Tests of the directory source.
//!
//! * `fixture`: hosts in temporary folders, and a sink that keeps what it gets.
//! * `finding`: which files are whose, in which layout.
//! * `checkpoint`: whose a checkpoint is.
//! * `reading`: whole, dirty, torn, damaged, vanishing, large.
//! * `describing`: what the record says.
//! * `disks`: disks of VMs: found, read, watched.
//! * `guest_state`: whole, torn, empty, encrypted, foreign guest states, and where vTPM state lies.
//! * `real_files`: files of Hyper-V and of another writer, when they are at hand.

use std::path::Path;

use super::Step;

mod checkpoint;
mod describing;
mod disks;
mod finding;
mod fixture;
mod guest_state;
mod reading;
mod real_files;

/// Called at each step of a capture.
pub(super) type Hook = Box<dyn Fn(Step, &Path) + Send + Sync>;
