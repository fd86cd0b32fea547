#![no_main]

use lifeboat_key_protector::{AlgorithmRegistry, KeyProtector, SavedKeyProtector};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(saved) = SavedKeyProtector::decode(bytes) else { return };
    let Ok(protector) = KeyProtector::parse(&saved.value) else { return };
    assert_eq!(protector.original_bytes(), saved.value);
    assert_eq!(protector.owners().count() + protector.guardians().count(), protector.wrappings().len());
    let _ = (protector.verify(&AlgorithmRegistry::builtin()), protector.is_canonical_in_source());
});
