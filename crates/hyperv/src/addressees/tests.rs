use std::sync::LazyLock;

use lifeboat_key_protector::{
    AlgorithmSuite, EncodeOptions, GuardianKeys, KeyProtectorTemplate, TransportKey, Validity,
};
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng as _;
use zeroize::Zeroizing;

use super::*;

const VALIDITY: Validity =
    Validity { not_before_unix_seconds: 1_600_000_000, not_after_unix_seconds: 1_900_000_000 };

static KEYS: LazyLock<[GuardianKeys; 2]> = LazyLock::new(|| {
    [("Owner", 1), ("Fabric", 2)].map(|(name, seed)| {
        GuardianKeys::generate(name, "HOST1", VALIDITY, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
    })
});

/// A VM key protector of an owner and a guardian, who signed it.
fn key_protector() -> Vec<u8> {
    let [owner, guardian] = &*KEYS;
    let (mut rng, registry) = (ChaCha20Rng::seed_from_u64(3), AlgorithmRegistry::builtin());
    let suite = AlgorithmSuite::synthetic();
    let template = KeyProtectorTemplate::new(owner, &[guardian], &suite, &registry, &mut rng).unwrap();
    let key = TransportKey::new(Zeroizing::new(vec![9; 32])).unwrap();
    let options = EncodeOptions { max_offline_unwraps: Some(3), byte_order_mark: true, length_prefix: true };
    template.encode(&key, guardian, &options, &mut rng).unwrap()
}

#[test]
fn owner_and_guardians_stand_with_thumbprints_and_validity() {
    let [owner, guardian] = &*KEYS;
    let read = read(&key_protector());
    assert_eq!((read.remark, read.is_torn), (None, false));
    assert_eq!(read.owner, Some(sha256(owner.signing_certificate())));
    let addressees = read.addressees.unwrap();
    let entry = |name: &str, keys: &GuardianKeys| GuardianEntry {
        name: name.to_owned(),
        host: Some("HOST1".to_owned()),
        signing: CertificateEntry {
            sha256: sha256(keys.signing_certificate()),
            sha1: keys.signing_certificate().sha1().to_string(),
            public_key: Some(Digest::of(keys.signing_certificate().public_key_info())),
            not_before: Time::from_unix_seconds(1_600_000_000),
            not_after: Time::from_unix_seconds(1_900_000_000),
        },
        encryption: certificate(keys.encryption_certificate()),
    };
    let wanted = Addressees {
        owners: vec![entry("Owner", owner)],
        guardians: vec![entry("Fabric", guardian)],
        signed_by: sha256(guardian.signing_certificate()),
        signatures: SignatureState::ValidAsAssumed,
        max_offline_unwraps: 3,
    };
    assert_eq!(addressees, wanted);
    assert_eq!(addressees.all().count(), 2);
}

#[test]
fn an_altered_one_is_told_from_a_torn_one_and_from_an_unknown_one() {
    let bytes = key_protector();
    // One digit of a ciphertext: the document stands, its signatures do not.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = bytes.windows(13).position(|window| window == b"<CipherValue>").unwrap() + 20;
    assert!(text.contains("<CipherValue>"));
    let mut altered = bytes.clone();
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let altered = read(&altered);
    assert_eq!(altered.addressees.unwrap().signatures, SignatureState::Invalid);
    assert!(altered.remark.unwrap().contains("does not verify"));

    for length in [40, 900, bytes.len() - 1] {
        let torn = read(&bytes[..length]);
        assert!(torn.is_torn && torn.addressees.is_none() && torn.owner.is_none(), "{length}");
        assert!(torn.remark.unwrap().starts_with("is torn"));
    }
    for unknown in [vec![7; 5000], vec![0, 0, 0, 4], b"<x/>".to_vec(), [bytes.as_slice(), b"x"].concat()] {
        let unknown = read(&unknown);
        assert!(!unknown.is_torn && unknown.addressees.is_none());
        assert!(unknown.remark.unwrap().starts_with("is not understood"));
    }
}
