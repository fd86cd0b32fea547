//! The shared synthetic set: made with other implementations of XML, X.509 and RSA, with known answers.

use std::path::PathBuf;

use lifeboat_key_protector::*;

use crate::fixtures::{registry, rng};

/// The folder of the samples, or `None` with a word on the terminal where it is absent.
pub(crate) fn folder() -> Option<PathBuf> {
    let data = std::env::var_os("LIFEBOAT_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("kps");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: test data not found");
    None
}

struct Sample {
    name: &'static str,
    guardians: &'static [&'static str],
    signer: u32,
    transport_key: &'static str,
    openers: &'static [&'static str],
}

const SAMPLES: [Sample; 4] = [
    Sample {
        name: "kp_owner_only",
        guardians: &[],
        signer: 1,
        transport_key: "tk_before_roll",
        openers: &["owner"],
    },
    Sample {
        name: "kp_owner_hgs",
        guardians: &["PrimaryFabric"],
        signer: 1,
        transport_key: "tk_before_roll",
        openers: &["owner", "primaryfabric"],
    },
    Sample {
        name: "kp_rolled_by_hgs",
        guardians: &["PrimaryFabric"],
        signer: 2,
        transport_key: "tk_after_roll",
        openers: &["owner", "primaryfabric"],
    },
    Sample {
        name: "kp_after_grant_dr",
        guardians: &["PrimaryFabric", "DrFabric"],
        signer: 1,
        transport_key: "tk_after_roll",
        openers: &["owner", "primaryfabric", "drfabric"],
    },
];

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_sample_gives_its_known_answers() {
    let Some(folder) = folder() else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&read("synthetic_answers.json")).unwrap();
    for sample in &SAMPLES {
        let expected = unhex(answers[sample.transport_key].as_str().unwrap());
        for extension in ["xml", "bin"] {
            let bytes = read(&format!("synthetic_{}.{extension}", sample.name));
            let protector = KeyProtector::parse(&bytes).unwrap();
            assert_eq!(protector.original_bytes(), bytes);
            assert_eq!(protector.has_length_prefix(), extension == "bin");
            assert_eq!(protector.max_offline_unwraps(), 0);
            assert!(protector.is_canonical_in_source());
            let owner = protector.sole_owner().unwrap();
            assert_eq!(owner.id, WrappingId(1));
            assert_eq!(owner.guardian_name(), GuardianName { guardian: "Owner", host: Some("SYNTHHOST") });
            assert_eq!(owner.signing_certificate.validity().not_before_unix_seconds, 1_767_225_600);
            assert!(owner.signing_certificate.check_self_signature().is_valid());
            let guardians: Vec<_> = protector.guardians().map(|one| one.guardian_name().guardian).collect();
            assert_eq!(guardians, sample.guardians);
            assert_eq!(protector.guardian_signature().wrapping_id, WrappingId(sample.signer));

            let without = protector.verify(&registry());
            assert!(without.is_valid_without_transport_key(), "{}: {without:?}", sample.name);
            assert_eq!(without.transport_key_signature, Check::NotChecked(Unchecked::TransportKeyNotGiven));
            for opener in ["owner", "primaryfabric", "drfabric"] {
                let pem = String::from_utf8(read(&format!("synthetic_{opener}_enc.key.pem"))).unwrap();
                let key = PrivateKey::parse_pem(&pem).unwrap();
                let opened = protector.unwrap_transport_key(&key, &registry(), &mut rng(1));
                if !sample.openers.contains(&opener) {
                    assert_eq!(opened.err(), Some(Error::NotAddressed));
                    continue;
                }
                let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
                assert_eq!(opened.transport_key.expose(), expected);
                let verification = protector.verify_with(&registry(), &opened.transport_key);
                assert!(verification.checks().all(Check::is_valid));
            }
        }
    }
}

#[test]
fn value_without_key_protector_is_named() {
    let Some(folder) = folder() else { return };
    let bytes = std::fs::read(folder.join("synthetic_no_kp.bin")).unwrap();
    assert_eq!(KeyProtector::parse(&bytes), Err(Error::NoKeyProtector));
}

#[test]
fn guardian_metadata_samples_verify() {
    let Some(folder) = folder() else { return };
    for (name, guardian) in [("hgs", "PrimaryFabric"), ("dr", "DrFabric")] {
        let bytes = std::fs::read(folder.join(format!("synthetic_guardian_metadata_{name}.xml"))).unwrap();
        let metadata = GuardianMetadata::parse(&bytes).unwrap();
        assert_eq!(metadata.version(), 1);
        assert_eq!(metadata.id(), Some("synthetic"));
        assert_eq!(metadata.guardian_name().guardian, guardian);
        assert!(metadata.has_xml_signature());
        assert!(metadata.other_signing_certificates().is_empty());
        assert!(metadata.verify(&registry()).certificates_are_valid());
    }
}

#[test]
fn dr_guardian_of_the_samples_can_be_granted_and_revoked() {
    let Some(folder) = folder() else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let key = |name: &str| {
        PrivateKey::parse_pem(std::str::from_utf8(&read(&format!("synthetic_{name}.key.pem"))).unwrap())
            .unwrap()
    };
    let owner = OwnerKeys { signing: key("owner_sign"), encryption: key("owner_enc") };
    let rolled = KeyProtector::parse(&read("synthetic_kp_rolled_by_hgs.bin")).unwrap();
    let guardian = GuardianMetadata::parse(&read("synthetic_guardian_metadata_dr.xml")).unwrap();
    let mut rng = rng(7);
    let before = rolled
        .unwrap_transport_key(&owner.encryption, &registry(), &mut rng)
        .unwrap_or_else(|e| panic!("{e}"));
    let granted = rolled.grant(&owner, &guardian, &registry(), &mut rng).unwrap();
    let at_dr = granted
        .unwrap_transport_key(&key("drfabric_enc"), &registry(), &mut rng)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(at_dr.transport_key.expose(), before.transport_key.expose());
    let revoked = granted.revoke(&owner, at_dr.wrapping_id, &registry(), &mut rng).unwrap();
    assert_eq!(revoked.wrappings_bytes(), rolled.wrappings_bytes());
    let after = revoked
        .unwrap_transport_key(&owner.encryption, &registry(), &mut rng)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(after.transport_key.expose(), before.transport_key.expose());
}
