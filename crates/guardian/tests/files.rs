//! Files of owners and guardians in every form, and private keys where none belong.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifeboat_guardian::{GuardianFile, MAX_FILE_BYTES, PrivateMaterial, inspect};
use lifeboat_key_protector::{
    AlgorithmRegistry, AlgorithmSuite, EncodeOptions, GuardianKeys, KeyProtectorTemplate, TransportKey,
    Validity,
};
use lifeboat_schema::{CheckResult, GuardianFileForm, PRIVATE_KEY_EXPOSED, Severity, Time};
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng as _;

const VALIDITY: Validity =
    Validity { not_before_unix_seconds: 1_600_000_000, not_after_unix_seconds: 1_900_000_000 };

struct Made {
    owner: GuardianKeys,
    metadata: Vec<u8>,
    key_protector: Vec<u8>,
    pem: String,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let owner = GuardianKeys::generate("Owner", "ADMIN1", VALIDITY, &mut rng).expect("fixtures are made");
    let fabric = GuardianKeys::generate("Fabric", "HGS1", VALIDITY, &mut rng).expect("fixtures are made");
    let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
    let metadata = fabric.encode_metadata(&suite, &registry, &mut rng).expect("fixtures are made");
    let template = KeyProtectorTemplate::new(&owner, &[&fabric], &suite, &registry, &mut rng)
        .expect("fixtures are made");
    let transport_key = TransportKey::new(vec![7; 32].into()).expect("fixtures are made");
    let key_protector = template
        .encode(&transport_key, &owner, &EncodeOptions::default(), &mut rng)
        .expect("fixtures are made");
    let pem = owner.signing_key().encode_pem().expect("fixtures are made").to_string();
    Made { owner, metadata, key_protector, pem }
});

fn pem_certificate() -> String {
    let base64 = STANDARD.encode(MADE.owner.signing_certificate().der());
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("fixtures are made"))
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn utf16(text: &str) -> Vec<u8> {
    [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn report(name: &str, bytes: &[u8]) -> lifeboat_schema::GuardianInspectReport {
    inspect(name, bytes, None, Time::from_unix_seconds(1_700_000_000))
}

/// What a file is, and the codes of its findings.
#[track_caller]
fn check(name: &str, bytes: &[u8], form: GuardianFileForm, codes: &[&str]) {
    let report = report(name, bytes);
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!((report.form, found.as_slice()), (form, codes), "{name}: {:?}", report.problem);
}

#[test]
fn every_form_is_known_by_its_bytes() {
    let made = &*MADE;
    let decimal: Vec<String> = made.key_protector.iter().map(u8::to_string).collect();
    let key = GuardianFileForm::KeyProtector;
    check("kp.bin", &made.key_protector, key, &[]);
    check("kp.txt", decimal.join("\r\n").as_bytes(), key, &[]);
    check("kp.txt", &utf16(&decimal.join("\r\n")), key, &[]);
    check("kp.b64", STANDARD.encode(&made.key_protector).as_bytes(), key, &[]);
    check("kp.bin", &[0, 0, 0, 4], GuardianFileForm::NoKeyProtector, &[]);
    check("metadata.xml", &made.metadata, GuardianFileForm::GuardianMetadata, &[]);
    let der = made.owner.signing_certificate().der();
    check("a.cer", der, GuardianFileForm::Certificates, &[]);
    check("a.cer", STANDARD.encode(der).as_bytes(), GuardianFileForm::Certificates, &[]);
    check("a.pem", (pem_certificate() + &pem_certificate()).as_bytes(), GuardianFileForm::Certificates, &[]);
    check("a.key", made.pem.as_bytes(), GuardianFileForm::PrivateKey, &["private-key-unprotected"]);
    check("notes.txt", b"call the owner", GuardianFileForm::Unknown, &[]);
    check("empty", b"", GuardianFileForm::Unknown, &[]);
    check("other.xml", b"<a/>", GuardianFileForm::Unknown, &[]);
    let cut = &made.key_protector[..made.key_protector.len() - 9];
    check("cut.bin", cut, GuardianFileForm::Damaged, &["guardian-file-damaged"]);
}

#[test]
fn a_private_key_among_public_things_is_exposed() {
    let made = &*MADE;
    let exposed = [PRIVATE_KEY_EXPOSED];
    let with_key = pem_certificate() + &made.pem;
    check("guardian.cer", with_key.as_bytes(), GuardianFileForm::Certificates, &exposed);
    check("guardian.cer", &utf16(&with_key), GuardianFileForm::Certificates, &exposed);
    check("guardian.cer", made.pem.as_bytes(), GuardianFileForm::PrivateKey, &exposed);
    // Somebody put it into the document itself.
    let base64: String = made.pem.lines().filter(|line| !line.starts_with('-')).collect();
    let text = String::from_utf8(made.metadata.clone()).unwrap();
    let end = text.rfind("</").unwrap();
    for hidden in [
        format!("<x:Key xmlns:x=\"urn:x\">{base64}</x:Key>"),
        "<RSAKeyValue xmlns=\"urn:x\"><D>AAAA</D></RSAKeyValue>".to_owned(),
        format!("<!-- {base64} -->"),
    ] {
        let document = format!("{}{hidden}{}", &text[..end], &text[end..]);
        check("metadata.xml", document.as_bytes(), GuardianFileForm::GuardianMetadata, &exposed);
    }
}

#[test]
fn an_altered_document_is_damage_and_says_which_signature() {
    let made = &*MADE;
    let report = report("kp.bin", &made.key_protector);
    assert!(report.checks.iter().all(|check| check.result != CheckResult::Invalid));
    assert_eq!((report.certificates.len(), report.checks.len(), report.private_keys), (4, 6, 0));
    let text = String::from_utf8(made.key_protector[4..].to_vec()).unwrap();
    let altered = text.replacen("<Id>2</Id>", "<Id>3</Id>", 1);
    assert_ne!(altered, text);
    let report = inspect("kp.xml", altered.as_bytes(), None, Time::from_unix_seconds(2_000_000_000));
    let codes: Vec<_> =
        report.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect();
    assert_eq!(codes, [("signature-invalid", Severity::Damage), ("certificate-expired", Severity::Note)]);
}

#[test]
fn hostile_bytes_are_an_answer_and_never_a_panic() {
    let made = &*MADE;
    let key = made.pem.as_bytes();
    for bytes in [&made.key_protector[..], &made.metadata, made.owner.signing_certificate().der(), key] {
        for end in (0..bytes.len()).step_by(7) {
            report("a", &bytes[..end]);
        }
        for at in (0..bytes.len().min(600)).step_by(3) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x80;
            report("a", &changed);
        }
    }
    assert!(matches!(GuardianFile::read(&vec![0x30; MAX_FILE_BYTES + 1]), GuardianFile::Unknown(_)));
    assert!(!PrivateMaterial::find(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 2, 1, 3]).is_some());
}
