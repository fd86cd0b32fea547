//! Any bytes as a PFX that no password protects.
#![no_main]

use zeroize::Zeroizing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = lifeboat_keys::parse_pfx(bytes, &Zeroizing::new(String::new()));
});
