//! Any bytes as the signed line of a ledger.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_vault::fuzzing::record(bytes));
