#![no_main]

use lifeboat_key_protector::{AlgorithmRegistry, GuardianMetadata};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(metadata) = GuardianMetadata::parse(bytes) else { return };
    assert_eq!(metadata.original_bytes(), bytes);
    let _ = (metadata.verify(&AlgorithmRegistry::builtin()), metadata.guardian_name());
    let _ = metadata.signing_certificate().check_self_signature();
});
