//! Any bytes as a whole volume: recognised, opened with its clear key, mapped and read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_fve::fuzzing::volume(bytes));
