//! Guest state files of Hyper-V (`.vmgs`): what is in them, whether a copy is whole, and what a key opens.
//!
//! A guest state keeps UEFI variables and, for some VMs, vTPM state. Two formats share one signature: a JSON document in a
//! partition (version 1) and a store of numbered files that may be encrypted (version 3); both lie in a fixed VHD. `FORMAT.md`
//! in this crate describes every byte under the names used in [`layout`].
//!
//! ```text
//! file bytes > ReadAt > footer > GPT > headers > document > devices
//!                              > headers > file table > files > Unlocked > content
//! ```
//!
//! The crate does no IO, never writes to a file that Hyper-V owns, and does not interpret what the files hold: UEFI
//! variables, vTPM state and attestation data are bytes with a name.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod checksum;
mod copies;
mod document;
mod error;
mod file;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod footer;
pub mod fuzzing;
mod gpt;
mod guest_state;
mod json;
pub mod layout;
mod read_at;
mod secret;
mod store;
mod unlock;

pub use document::{DeviceState, Document};
pub use error::{Corruption, GptDamage, OpenError, ReadError, Remark, UnlockError, Unsupported};
pub use file::{EncryptionAlgorithm, FileAttributes, FileId, StoredFile};
pub use footer::Footer;
pub use guest_state::{Contents, Format, FormatVersion, GuestState, Inspection, Report, Verdict};
pub use read_at::{OutOfBounds, ReadAt};
pub use secret::{DatastoreKey, SecretBytes};
pub use store::Store;
pub use unlock::Unlocked;
