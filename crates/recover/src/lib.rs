//! Recovery when only disks survive: which ways into a volume are open, proof of a key, and what comes out of it.
//!
//! Above [`lifeboat_disk`] and the format crates, without a vault: a [`SourceDisk`] has [`LockedVolume`]s,
//! [`open_volume`] opens one, and a [`PlainVolume`] is copied ([`decrypt_to`]), browsed ([`NtfsBrowser`]) or asked for
//! its other secrets ([`read_back_text`]); [`suspend_to`] lets its VM boot without asking. [`plan()`] says which ways are open, [`HandoverCard`] where a secret may
//! still be, [`next_steps`] what to do with what came out.
//!
//! Deliberately prints nothing, asks nobody, reads no environment and no clock, takes random ids from its caller, and
//! never writes to a source disk.

#![forbid(unsafe_code)]

mod browse;
mod card;
mod copy;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod keys;
mod matching;
mod place;
mod plain;
mod plan;
mod read_back;
mod source;
mod space;
mod steps;
mod suspend;
mod target;
mod unlock;

pub use browse::{Entry, EntryKind, ExtractOptions, ExtractReport, NtfsBrowser};
pub use card::HandoverCard;
pub use copy::{DecryptOptions, DecryptReport, MAX_REPORTED_RANGES, Observer, Unobserved, decrypt_to};
pub use error::RecoverError;
pub use keys::{KeyFileError, parse_recovery_passwords};
pub use matching::{OpenedDisk, open_together};
pub use plain::{PlainDisk, PlainSource, PlainVolume};
pub use plan::plan;
pub use read_back::read_back_text;
pub use source::{CapturedMetadata, LockedVolume, SourceDisk, VolumePlace};
pub use steps::{NextSteps, Outcome, next_steps};
pub use suspend::{SuspendOptions, SuspendReport, suspend_to};
pub use target::{OutputKind, partial_path};
pub use unlock::{KeyProof, OpenFailure, Opened, open_volume};
