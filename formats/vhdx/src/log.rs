//! The log: updates of the file's own structures that were written, but perhaps not applied.
//!
//! The log is a ring of entries. When the current header carries a log id, the entries of the active sequence must
//! be replayed before anything but the headers is read; when it carries none, old entries in the ring mean nothing.
//! [`entry`] parses and encodes one entry, [`sequence`] finds the active sequence. MS-VHDX 2.3.
//!
//! Replay happens in memory: an overlay holds the result, and the file stays as it is.

pub mod entry;
pub mod sequence;
