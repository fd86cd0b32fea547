//! Any bytes as the other documents of a vault: its head, bodies, keys and addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_vault::fuzzing::documents(bytes));
