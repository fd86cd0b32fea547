//! What the writer makes, the parser reads, verifies and opens.

use lifeboat_key_protector::*;

use crate::fixtures::{CAST, VALIDITY, encode, owner_and_primary, registry, rng, transport_key};

#[test]
fn written_key_protector_reads_back_whole() {
    let bytes = encode(&[&CAST.primary, &CAST.recovery], 0x42, &CAST.owner, &EncodeOptions::default());
    let protector = KeyProtector::parse(&bytes).unwrap();
    assert_eq!(protector.original_bytes(), bytes);
    assert!(protector.has_length_prefix());
    assert!(protector.is_canonical_in_source());
    assert_eq!(protector.max_offline_unwraps(), 0);

    let owner = protector.sole_owner().unwrap();
    assert_eq!(owner.id, KeyProtectorTemplate::OWNER_ID);
    assert_eq!(owner.signing_certificate, *CAST.owner.signing_certificate());
    assert_eq!(owner.guardian_name(), GuardianName { guardian: "Owner", host: Some("HOST1") });
    assert_eq!(owner.signing_certificate.validity(), VALIDITY);
    let guardians: Vec<_> = protector.guardians().map(|one| one.guardian_name().guardian).collect();
    assert_eq!(guardians, ["Primary", "Recovery"]);

    let verification = protector.verify_with(&registry(), &transport_key(0x42));
    assert!(verification.checks().all(Check::is_valid), "{verification:?}");
    assert_eq!(verification.owners, 1);
    assert_eq!(
        protector.verify_with(&registry(), &transport_key(0x43)).transport_key_signature,
        Check::Invalid
    );
    for keys in [&CAST.owner, &CAST.primary, &CAST.recovery] {
        let opened = protector.unwrap_transport_key(keys.encryption_key(), &registry(), &mut rng(3)).unwrap();
        assert_eq!(opened.transport_key.expose(), [0x42; 32]);
        assert_eq!(opened.evidence, Evidence::Synthetic);
    }
}

#[test]
fn rolled_key_protector_is_signed_by_the_guardian() {
    let options = EncodeOptions { max_offline_unwraps: Some(7), ..EncodeOptions::default() };
    let bytes = encode(&[&CAST.primary], 0x42, &CAST.primary, &options);
    let protector = KeyProtector::parse(&bytes).unwrap();
    assert_eq!(protector.max_offline_unwraps(), 7);
    assert_eq!(protector.guardian_signature().wrapping_id, WrappingId(2));
    assert!(protector.verify_with(&registry(), &transport_key(0x42)).checks().all(Check::is_valid));
}

#[test]
fn same_seed_gives_same_bytes() {
    assert_eq!(
        encode(&[&CAST.primary], 0x42, &CAST.owner, &EncodeOptions::default()),
        encode(&[&CAST.primary], 0x42, &CAST.owner, &EncodeOptions::default())
    );
}

#[test]
fn signer_without_wrapping_is_refused() {
    let suite = AlgorithmSuite::synthetic();
    let mut rng = rng(4);
    let template = KeyProtectorTemplate::new(&CAST.owner, &[], &suite, &registry(), &mut rng).unwrap();
    let options = EncodeOptions::default();
    let refused = template.encode(&transport_key(1), &CAST.recovery, &options, &mut rng).unwrap_err();
    assert!(matches!(refused, Error::KeyMismatch { .. }));
}

#[test]
fn written_metadata_reads_back_and_verifies() {
    let bytes =
        CAST.recovery.encode_metadata(&AlgorithmSuite::synthetic(), &registry(), &mut rng(5)).unwrap();
    let metadata = GuardianMetadata::parse(&bytes).unwrap();
    assert_eq!(metadata.original_bytes(), bytes);
    assert_eq!(metadata.guardian_name().guardian, "Recovery");
    assert_eq!(metadata.encryption_certificate(), CAST.recovery.encryption_certificate());
    assert_eq!(metadata.signing_certificate(), CAST.recovery.signing_certificate());
    let verification = metadata.verify(&registry());
    assert!(verification.certificates_are_valid());
    assert_eq!(verification.document, Check::NotChecked(Unchecked::XmlSignature));
}

#[test]
fn certificates_carry_their_own_signature() {
    let certificate = CAST.owner.signing_certificate();
    assert!(certificate.check_self_signature().is_valid());
    // The last byte is the end of the signature.
    let mut altered = certificate.der().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(Certificate::parse(&altered).unwrap().check_self_signature(), Check::Invalid);
}

#[test]
fn private_key_without_wrapping_is_told() {
    let protector = KeyProtector::parse(&owner_and_primary()).unwrap();
    let refused = protector.unwrap_transport_key(CAST.recovery.encryption_key(), &registry(), &mut rng(6));
    assert_eq!(refused.err(), Some(Error::NotAddressed));
    // A signing key is no encryption key.
    assert!(protector.wrapping_for(CAST.owner.signing_key()).is_none());
}

#[test]
fn templates_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<KeyProtectorTemplate>();
    shared::<GuardianKeys>();
    shared::<KeyProtector>();
}
