//! Integration tests of lifeboat-fve, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic and print, in their helper functions too"
)]

/// Volumes of our own fixture writer: every cipher, BitLocker protector, conversion and damage.
mod fixtures;
/// Lying, torn and flipped bytes.
mod hostile;
/// Other BitLocker readers on our fixtures, where they are installed.
mod oracles;
/// Volume images of other projects, where they are present.
mod real_images;
/// Finding and unpacking test data.
mod test_data;
