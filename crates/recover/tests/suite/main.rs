//! Recovery from disks alone, through the library.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skipped"
)]

// Files out of a decrypted NTFS.
mod browse;
// Decryption to files: equal, resumable, cancellable, as far as a cut image goes.
mod decrypt;
// Volumes made for tests.
mod fixture;
// Disks that lie.
mod hostile;
// dissect on what we write, where it is installed.
mod oracle;
// Partial outputs: whose they are, and what may stand in them.
mod resume;
// Overlays in which BitLocker is suspended.
mod suspend;
// Keys, proofs, several disks, captured metadata.
mod unlock;
