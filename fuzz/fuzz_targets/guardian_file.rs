//! Files of owners and guardians: what they are, and private keys in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat_guardian::{GuardianFile, PrivateMaterial};

fuzz_target!(|data: &[u8]| {
    let _ = GuardianFile::read(data);
    let _ = PrivateMaterial::find(data);
});
