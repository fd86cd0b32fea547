//! Any bytes as a metadata region, a BEK file, a key package and encrypt-on-write blocks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_fve::fuzzing::metadata(bytes));
