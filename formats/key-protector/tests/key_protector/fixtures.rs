//! One owner and two guardians, made once per test run out of a fixed seed.

use std::sync::LazyLock;

use lifeboat_key_protector::*;
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng;
use zeroize::Zeroizing;

pub(crate) const VALIDITY: Validity =
    Validity { not_before_unix_seconds: 1_767_225_600, not_after_unix_seconds: 2_082_758_400 };

pub(crate) struct Cast {
    pub(crate) owner: GuardianKeys,
    pub(crate) primary: GuardianKeys,
    pub(crate) recovery: GuardianKeys,
}

pub(crate) static CAST: LazyLock<Cast> = LazyLock::new(|| {
    let mut rng = rng(1);
    let mut make = |name| GuardianKeys::generate(name, "HOST1", VALIDITY, &mut rng).unwrap();
    Cast { owner: make("Owner"), primary: make("Primary"), recovery: make("Recovery") }
});

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn registry() -> AlgorithmRegistry {
    AlgorithmRegistry::builtin()
}

pub(crate) fn transport_key(byte: u8) -> TransportKey {
    TransportKey::new(Zeroizing::new(vec![byte; 32])).unwrap()
}

/// The same key again: private keys cannot be cloned, but written and read.
pub(crate) fn copy_of(key: &PrivateKey) -> PrivateKey {
    PrivateKey::parse_pem(&key.encode_pem().unwrap()).unwrap()
}

pub(crate) fn owner_keys(owner: &GuardianKeys) -> OwnerKeys {
    OwnerKeys { signing: copy_of(owner.signing_key()), encryption: copy_of(owner.encryption_key()) }
}

/// A key protector of the owner and the primary guardian, under the transport key 0x11..., as XML without prefix.
pub(crate) fn owner_and_primary() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let options =
            EncodeOptions { max_offline_unwraps: None, byte_order_mark: false, length_prefix: false };
        encode(&[&CAST.primary], 0x11, &CAST.owner, &options)
    });
    BYTES.clone()
}

pub(crate) fn encode(
    guardians: &[&GuardianKeys],
    transport_key_byte: u8,
    signer: &GuardianKeys,
    options: &EncodeOptions,
) -> Vec<u8> {
    let suite = AlgorithmSuite::synthetic();
    let mut rng = rng(2);
    KeyProtectorTemplate::new(&CAST.owner, guardians, &suite, &registry(), &mut rng)
        .unwrap()
        .encode(&transport_key(transport_key_byte), signer, options, &mut rng)
        .unwrap()
}
