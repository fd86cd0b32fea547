//! Any bytes as a disk image: container, parents, partition tables, volumes, capture.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_disk::fuzzing::image(bytes));
