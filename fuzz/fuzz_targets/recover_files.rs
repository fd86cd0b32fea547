//! Any bytes as a plain NTFS, whose folders are listed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_recover::fuzzing::files(bytes));
