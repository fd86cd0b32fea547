//! Any bytes as a guest state, as they are and with the checksums of either format put right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_vmgs::fuzzing::open(bytes));
