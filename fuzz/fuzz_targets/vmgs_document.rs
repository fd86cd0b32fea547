//! Any text as the document of a guest state.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_vmgs::fuzzing::document(bytes));
