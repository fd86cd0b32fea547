//! Granting and revoking with the owner's keys.

use lifeboat_key_protector::algorithm::AlgorithmRole;
use lifeboat_key_protector::*;

use crate::fixtures::{CAST, copy_of, encode, owner_and_primary, owner_keys, registry, rng, transport_key};

fn metadata_of(keys: &GuardianKeys) -> GuardianMetadata {
    let bytes = keys.encode_metadata(&AlgorithmSuite::synthetic(), &registry(), &mut rng(9)).unwrap();
    GuardianMetadata::parse(&bytes).unwrap()
}

fn opened_by(protector: &KeyProtector, keys: &GuardianKeys) -> Result<Vec<u8>, Error> {
    protector
        .unwrap_transport_key(keys.encryption_key(), &registry(), &mut rng(10))
        .map(|opened| opened.transport_key.expose().to_vec())
}

#[test]
fn granted_guardian_opens_the_same_key_until_revoked() {
    let owner = owner_keys(&CAST.owner);
    let utf16: Vec<u8> = {
        let text = String::from_utf8(owner_and_primary()).unwrap();
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let forms = [
        owner_and_primary(),
        encode(&[&CAST.primary], 0x11, &CAST.owner, &EncodeOptions::default()),
        encode(
            &[&CAST.primary],
            0x11,
            &CAST.primary,
            &EncodeOptions { max_offline_unwraps: Some(3), ..EncodeOptions::default() },
        ),
        utf16,
    ];
    for bytes in forms {
        let before = KeyProtector::parse(&bytes).unwrap();
        assert_eq!(opened_by(&before, &CAST.recovery), Err(Error::NotAddressed));
        let mut rng = rng(11);
        let granted = before.grant(&owner, &metadata_of(&CAST.recovery), &registry(), &mut rng).unwrap();
        assert_eq!(granted.has_length_prefix(), before.has_length_prefix());
        assert_eq!(granted.encoding(), before.encoding());
        assert_eq!(granted.max_offline_unwraps(), before.max_offline_unwraps());
        assert_eq!(granted.guardian_signature().wrapping_id, WrappingId(1));
        // What was signed is carried over as it was.
        let old = before.wrappings_bytes();
        let end_tag = if before.encoding() == Encoding::Utf8 { 1 } else { 2 } * "</Wrappings>".len();
        assert!(granted.wrappings_bytes().starts_with(&old[..old.len() - end_tag]));
        for keys in [&CAST.owner, &CAST.primary, &CAST.recovery] {
            assert_eq!(opened_by(&granted, keys), Ok(vec![0x11; 32]));
        }
        let verification = granted.verify_with(&registry(), &transport_key(0x11));
        assert!(verification.checks().all(Check::is_valid));
        assert_eq!(granted.guardians().last().unwrap().guardian_name().guardian, "Recovery");

        let revoked = granted.revoke(&owner, WrappingId(3), &registry(), &mut rng).unwrap();
        assert_eq!(revoked.wrappings_bytes(), before.wrappings_bytes());
        assert_eq!(opened_by(&revoked, &CAST.recovery), Err(Error::NotAddressed));
        assert_eq!(opened_by(&revoked, &CAST.owner), Ok(vec![0x11; 32]));

        // The other guardian first: the number of a dropped wrapping may come back.
        let other = granted.revoke(&owner, WrappingId(2), &registry(), &mut rng).unwrap();
        let again = other.grant(&owner, &metadata_of(&CAST.primary), &registry(), &mut rng).unwrap();
        assert_eq!(again.guardians().map(|one| one.id.0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(opened_by(&again, &CAST.primary), Ok(vec![0x11; 32]));
    }
}

#[test]
fn grant_needs_the_keys_of_the_owner() {
    let protector = KeyProtector::parse(&owner_and_primary()).unwrap();
    let guardian = metadata_of(&CAST.recovery);
    let refused = |keys: &OwnerKeys| protector.grant(keys, &guardian, &registry(), &mut rng(12)).err();
    let not_the_owner = |role| Some(Error::NotTheOwner { role, owner: WrappingId(1) });
    assert_eq!(refused(&owner_keys(&CAST.primary)), not_the_owner(AlgorithmRole::Signature));
    let half = OwnerKeys {
        signing: copy_of(CAST.owner.signing_key()),
        encryption: copy_of(CAST.primary.encryption_key()),
    };
    assert_eq!(refused(&half), not_the_owner(AlgorithmRole::KeyTransport));
    assert_eq!(
        protector.revoke(&half, WrappingId(2), &registry(), &mut rng(12)).err(),
        not_the_owner(AlgorithmRole::KeyTransport)
    );
}

#[test]
fn grant_refuses_what_it_cannot_vouch_for() {
    let owner = owner_keys(&CAST.owner);
    let protector = KeyProtector::parse(&owner_and_primary()).unwrap();
    let mut rng = rng(13);
    assert_eq!(
        protector.grant(&owner, &metadata_of(&CAST.primary), &registry(), &mut rng),
        Err(Error::AlreadyGranted { id: WrappingId(2) })
    );

    // Metadata whose encryption certificate is somebody else's.
    let recovery = String::from_utf8(metadata_of(&CAST.recovery).original_bytes().to_vec()).unwrap();
    let primary = String::from_utf8(metadata_of(&CAST.primary).original_bytes().to_vec()).unwrap();
    let certificate = |text: &str| {
        let start = text.find("<EncryptionCertificate>").unwrap();
        text[start..start + text[start..].find("</").unwrap()].to_owned()
    };
    let other_owner = encode(&[], 0x11, &CAST.owner, &EncodeOptions::default());
    let other_owner = KeyProtector::parse(&other_owner).unwrap();
    let forged = recovery.replace(&certificate(&recovery), &certificate(&primary));
    let forged = GuardianMetadata::parse(forged.as_bytes()).unwrap();
    assert_eq!(forged.verify(&registry()).encryption_certificate, Check::Invalid);
    assert!(matches!(
        other_owner.grant(&owner, &forged, &registry(), &mut rng),
        Err(Error::NotVerified { .. })
    ));

    // A key protector whose guardian signature is broken, although its transport key still verifies.
    let text = String::from_utf8(owner_and_primary()).unwrap();
    let wrong_signer = text.replace(" WrappingId=\"1\"", " WrappingId=\"2\"");
    let wrong_signer = KeyProtector::parse(wrong_signer.as_bytes()).unwrap();
    assert!(matches!(
        wrong_signer.grant(&owner, &metadata_of(&CAST.recovery), &registry(), &mut rng),
        Err(Error::NotVerified { .. })
    ));
    // Altered wrappings.
    let altered = text.replacen("<Wrappings>", "<Wrappings> ", 1);
    let altered = KeyProtector::parse(altered.as_bytes()).unwrap();
    assert_eq!(
        altered.grant(&owner, &metadata_of(&CAST.recovery), &registry(), &mut rng),
        Err(Error::SelfTest)
    );
}

#[test]
fn revoke_keeps_the_chains_whole() {
    let owner = owner_keys(&CAST.owner);
    let options = EncodeOptions { byte_order_mark: false, length_prefix: false, ..EncodeOptions::default() };
    let text =
        String::from_utf8(encode(&[&CAST.primary, &CAST.recovery], 0x11, &CAST.owner, &options)).unwrap();
    let revoke = |text: &str, id| {
        let protector = KeyProtector::parse(text.as_bytes()).unwrap();
        protector.revoke(&owner, WrappingId(id), &registry(), &mut rng(14)).err()
    };
    assert_eq!(revoke(&text, 1), Some(Error::OwnerCannotBeRevoked { id: WrappingId(1) }));
    assert_eq!(revoke(&text, 9), Some(Error::NoSuchWrapping { id: WrappingId(9) }));
    let at = text.rfind("ParentWrappingId=\"1\"").unwrap();
    let chained = format!("{}ParentWrappingId=\"2\"{}", &text[..at], &text[at + 20..]);
    assert_eq!(revoke(&chained, 2), Some(Error::HasDependants { id: WrappingId(2), child: WrappingId(3) }));
}
