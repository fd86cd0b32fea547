//! Documents that break one rule each: the parser names it, or a check says so. Nothing panics.

use lifeboat_key_protector::algorithm::{AlgorithmRole, Hash, KeyTransportScheme, SignatureScheme};
use lifeboat_key_protector::layout::{
    LENGTH_PREFIX_BYTES, MAX_DOCUMENT_BYTES, MAX_EQUAL_SIGNS_PER_TAG, MAX_NAMESPACE_DECLARATIONS,
    MAX_WRAPPINGS, MAX_XML_DEPTH, MAX_XML_NODES, uri,
};
use lifeboat_key_protector::*;

use crate::fixtures::{CAST, encode, owner_and_primary, registry, rng, transport_key};
use crate::samples;

fn document() -> String {
    String::from_utf8(owner_and_primary()).unwrap()
}

fn three_wrappings() -> String {
    let options = EncodeOptions { byte_order_mark: false, length_prefix: false, ..EncodeOptions::default() };
    String::from_utf8(encode(&[&CAST.primary, &CAST.recovery], 0x11, &CAST.owner, &options)).unwrap()
}

/// The document with one occurrence of a text replaced: the n-th, from 0.
fn edit(document: &str, n: usize, from: &str, to: &str) -> String {
    let (at, _) = document.match_indices(from).nth(n).unwrap_or_else(|| panic!("no {from} number {n}"));
    format!("{}{to}{}", &document[..at], &document[at + from.len()..])
}

fn corruption(document: &str) -> Corruption {
    match KeyProtector::parse(document.as_bytes()) {
        Err(Error::Corrupt(corruption)) => corruption,
        other => panic!("{other:?}"),
    }
}

const PARENT_1: &str = "ParentWrappingId=\"1\"";

#[test]
fn wrappings_must_form_chains_to_an_owner() {
    let document = three_wrappings();
    let one = WrappingId(1);
    let (two, three) = (WrappingId(2), WrappingId(3));
    assert_eq!(
        corruption(&edit(&document, 0, "<Id>2<", "<Id>1<")),
        Corruption::DuplicateWrappingId { id: one }
    );
    assert_eq!(
        corruption(&edit(&document, 2, PARENT_1, "ParentWrappingId=\"9\"")),
        Corruption::MissingParent { id: three, parent: WrappingId(9) }
    );
    // Two guardians that are each other's parents, beside a sound owner.
    let cycle = edit(&document, 2, PARENT_1, "ParentWrappingId=\"2\"");
    let cycle = edit(&cycle, 1, PARENT_1, "ParentWrappingId=\"3\"");
    assert_eq!(corruption(&cycle), Corruption::ParentCycle { id: two });
    // No owner at all.
    let no_owner = edit(&document, 0, PARENT_1, "ParentWrappingId=\"2\"");
    assert_eq!(corruption(&no_owner), Corruption::ParentCycle { id: one });
    assert_eq!(
        corruption(&edit(&document, 0, " WrappingId=\"1\"", " WrappingId=\"9\"")),
        Corruption::UnknownSigner { id: WrappingId(9) }
    );
}

#[test]
fn what_was_remembered_of_one_hides_nothing_of_another() {
    let sound = KeyProtector::parse(document().as_bytes()).unwrap();
    let mut memo = VerificationMemo::default();
    let fresh = sound.verify(&registry());
    assert!(fresh.is_valid_without_transport_key());
    for _ in 0..2 {
        assert_eq!(sound.verify_remembering(&registry(), &mut memo), fresh);
    }
    let swapped = edit(&document(), 1, PARENT_1, "ParentWrappingId=\"2\"");
    let swapped = KeyProtector::parse(swapped.as_bytes()).unwrap();
    assert_eq!(swapped.verify_remembering(&registry(), &mut memo), swapped.verify(&registry()));
    assert!(swapped.verify_remembering(&registry(), &mut memo).has_invalid());
}

#[test]
fn second_owner_is_counted_and_not_believed() {
    let document = edit(&document(), 1, PARENT_1, "ParentWrappingId=\"2\"");
    let protector = KeyProtector::parse(document.as_bytes()).unwrap();
    assert_eq!(protector.sole_owner(), Err(Error::SeveralOwners { owners: 2 }));
    let verification = protector.verify(&registry());
    assert_eq!(verification.owners, 2);
    assert_eq!(verification.wrappings[1].signing_certificate, Check::Invalid);
    assert_eq!(verification.guardian_signature, Check::Invalid);
}

#[test]
fn signature_of_another_wrapping_is_invalid() {
    let document = edit(&document(), 0, " WrappingId=\"1\"", " WrappingId=\"2\"");
    let verification = KeyProtector::parse(document.as_bytes()).unwrap().verify(&registry());
    assert_eq!(verification.guardian_signature, Check::Invalid);
    assert!(verification.has_invalid());
    // The wrappings themselves are untouched.
    assert!(verification.wrappings.iter().all(|one| one.signing_certificate.is_valid()));
}

#[test]
fn swapped_certificates_are_noticed() {
    let document = document();
    let content = |element: &str, n: usize| {
        let start = document.match_indices(&format!("<{element}>")).nth(n).unwrap().0 + element.len() + 2;
        let end = start + document[start..].find('<').unwrap();
        start..end
    };
    let swap = |first: core::ops::Range<usize>, second: core::ops::Range<usize>| {
        let swapped = [
            &document[..first.start],
            &document[second.clone()],
            &document[first.end..second.start],
            &document[first.clone()],
            &document[second.end..],
        ]
        .concat();
        KeyProtector::parse(swapped.as_bytes()).unwrap().verify(&registry())
    };
    let within = swap(content("SigningCertificate", 1), content("EncryptionCertificate", 1));
    assert_eq!(within.wrappings[1].signing_certificate, Check::Invalid);
    assert_eq!(within.wrappings[1].encryption_certificate, Check::Invalid);
    assert_eq!(within.guardian_signature, Check::Invalid);
    let across = swap(content("EncryptionCertificate", 0), content("EncryptionCertificate", 1));
    assert_eq!(across.wrappings[0].encryption_certificate, Check::Invalid);
    assert_eq!(across.wrappings[1].encryption_certificate, Check::Invalid);
    assert_eq!(across.guardian_signature, Check::Invalid);
}

#[test]
fn unknown_algorithms_stay_unknown() {
    let other = "urn:example:other";
    let document = document();
    let unknown = || Check::NotChecked(Unchecked::UnknownAlgorithm { uri: other.into() });
    let parse = |document: &str| KeyProtector::parse(document.as_bytes()).unwrap();
    let open = |document: &str| {
        parse(document).unwrap_transport_key(CAST.owner.encryption_key(), &registry(), &mut rng(1)).err()
    };

    // The last signature algorithm is that of the guardian signature, outside of the wrappings.
    let signature_count = document.matches(uri::RSA_SHA256).count();
    let guardian = parse(&edit(&document, signature_count - 1, uri::RSA_SHA256, other)).verify(&registry());
    assert_eq!(guardian.guardian_signature, unknown());
    assert!(!guardian.has_invalid() && !guardian.is_valid_without_transport_key());
    let certificate = parse(&edit(&document, 0, uri::RSA_SHA256, other)).verify(&registry());
    assert_eq!(certificate.wrappings[0].signing_certificate, unknown());

    let unknown_to = |role| Some(Error::UnknownAlgorithm { role, uri: other.into() });
    assert_eq!(
        open(&edit(&document, 0, uri::SYNTHETIC_KDF, other)),
        unknown_to(AlgorithmRole::KeyDerivation)
    );
    assert_eq!(open(&edit(&document, 0, uri::HMAC_SHA256, other)), unknown_to(AlgorithmRole::Mac));
    assert_eq!(
        open(&edit(&document, 0, uri::RSA_OAEP_MGF1P, other)),
        unknown_to(AlgorithmRole::KeyTransport)
    );

    // A registry that knows nothing checks nothing.
    let empty = AlgorithmRegistry::empty();
    let nothing = parse(&document).verify_with(&empty, &transport_key(0x11));
    assert!(nothing.checks().all(|check| matches!(check, Check::NotChecked(_))));
    // One that was taught the URI, wrongly, finds out.
    let mut taught = registry();
    taught.add_signature(other, SignatureScheme::RsaPss(Hash::Sha256), Evidence::Assumed);
    taught.add_key_transport(other, KeyTransportScheme::RsaOaepSha1, Evidence::Assumed);
    let wrong = parse(&edit(&document, signature_count - 1, uri::RSA_SHA256, other)).verify(&taught);
    assert_eq!(wrong.guardian_signature, Check::Invalid);
}

#[test]
fn parameters_are_kept_and_not_understood() {
    let parameters = "<Parameters><x xmlns=\"urn:example:p\"/></Parameters>";
    let document = document();
    let with = |parameters: &str| edit(&document, 0, "<CipherValue>", &format!("{parameters}<CipherValue>"));
    let protector = KeyProtector::parse(with(parameters).as_bytes()).unwrap();
    let algorithm = &protector.wrappings()[0].transport_key.algorithm;
    assert_eq!(algorithm.parameters.as_deref(), Some(parameters));
    assert!(algorithm.has_parameters);
    let refused = protector.unwrap_transport_key(CAST.owner.encryption_key(), &registry(), &mut rng(1)).err();
    assert!(matches!(
        refused,
        Some(Error::ParametersNotUnderstood { role: AlgorithmRole::KeyTransport, .. })
    ));
    // An empty element says nothing; that the wrappings were altered is noticed all the same.
    let protector = KeyProtector::parse(with("<Parameters> </Parameters>").as_bytes()).unwrap();
    assert!(!protector.wrappings()[0].transport_key.algorithm.has_parameters);
    let refused = protector.unwrap_transport_key(CAST.owner.encryption_key(), &registry(), &mut rng(1)).err();
    assert_eq!(refused, Some(Error::SelfTest));
}

#[test]
fn xml_beyond_the_format_is_refused() {
    let document = document();
    let before = |prologue: &str| corruption(&format!("{prologue}{document}"));
    assert_eq!(before("<!DOCTYPE Protector>"), Corruption::DocumentType);
    assert_eq!(before("<!DOCTYPE Protector [<!ENTITY a 'b'>]>"), Corruption::DocumentType);
    assert_eq!(
        before("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>"),
        Corruption::DeclaredEncoding { encoding: "iso-8859-1".into() }
    );
    assert!(matches!(corruption(&edit(&document, 0, "<Id>1", "<Id>&one;")), Corruption::Entity { .. }));
    assert!(matches!(corruption(&edit(&document, 0, "<Id>1", "<Id>1<")), Corruption::Xml { .. }));
    assert!(matches!(corruption("<a"), Corruption::Xml { .. }));
    let wrong_root = edit(&document, 0, "kps/2014/07", "kps/2015/07");
    assert!(matches!(corruption(&wrong_root), Corruption::Root { expected: "Protector", .. }));
    assert!(matches!(corruption("<Metadata/>"), Corruption::Root { .. }));
}

#[test]
fn schema_is_strict() {
    let document = document();
    let edited = |from: &str, to: &str| corruption(&edit(&document, 0, from, to));
    assert!(matches!(
        edited("<Wrapping><Id>1</Id>", "<Wrapping>"),
        Corruption::MissingElement { expected: "Id", found: Some(_), .. }
    ));
    assert!(matches!(edited("</Wrappings>", "<Other/></Wrappings>"), Corruption::UnexpectedElement { .. }));
    assert!(matches!(edited("</Wrapping>", "text</Wrapping>"), Corruption::UnexpectedText { .. }));
    assert!(matches!(
        edited("<Wrappings>", "<Wrappings Extra=\"1\">"),
        Corruption::UnexpectedAttribute { .. }
    ));
    assert!(matches!(
        edited(" ParentWrappingId=\"1\"", ""),
        Corruption::MissingAttribute { attribute: "ParentWrappingId", .. }
    ));
    for number in ["", "-1", "+1", "4294967296", "1.0", "0x1", "\u{661}"] {
        let expected = Corruption::Number { place: "Id" };
        assert_eq!(edited("<Id>1<", &format!("<Id>{number}<")), expected, "{number}");
    }
    assert_eq!(edited("<CipherValue>", "<CipherValue>*"), Corruption::Base64 { place: "CipherValue" });
    let empty = format!("<CipherValue>{}</CipherValue>", "");
    let start = document.find("<CipherValue>").unwrap();
    let end = document.find("</CipherValue>").unwrap() + "</CipherValue>".len();
    let no_ciphertext = format!("{}{empty}{}", &document[..start], &document[end..]);
    assert!(matches!(
        corruption(&no_ciphertext),
        Corruption::BinarySize { place: "CipherValue", have: 0, .. }
    ));
    assert!(matches!(
        edited("<SigningCertificate>MII", "<SigningCertificate>NII"),
        Corruption::Certificate { place: "SigningCertificate", .. }
    ));
    assert!(matches!(
        edited("Algorithm=\"http", "Algorithm=\"\" x=\"http"),
        Corruption::UnexpectedAttribute { .. }
    ));
}

#[test]
fn attributes_of_other_namespaces_are_carried() {
    let document = edit(&document(), 0, "<Protector ", "<Protector xmlns:o=\"urn:example:o\" o:note=\"n\" ");
    let protector = KeyProtector::parse(document.as_bytes()).unwrap();
    assert!(protector.verify(&registry()).is_valid_without_transport_key());
}

#[test]
fn canonical_form_fails_closed() {
    let document = document();
    let check = |inserted: &str| {
        let edited = edit(&document, 0, "</Wrapping>", &format!("{inserted}</Wrapping>"));
        let protector = KeyProtector::parse(edited.as_bytes()).unwrap();
        (protector.signed_bytes().err(), protector.verify(&registry()).guardian_signature)
    };
    for (inserted, error) in [
        ("<?note?>", CanonicalizationError::ProcessingInstruction),
        ("&#32;", CanonicalizationError::CharacterReference),
        ("<![CDATA[ ]]>", CanonicalizationError::CdataSection),
    ] {
        let expected = Check::NotChecked(Unchecked::Canonicalization(error.clone()));
        assert_eq!(check(inserted), (Some(error), expected), "{inserted}");
    }
    // White space is signed, comments are not.
    assert_eq!(check(" "), (None, Check::Invalid));
    let (error, signature) = check("<!-- note -->");
    assert!(error.is_none() && signature.is_valid());
    let commented = edit(&document, 0, "</Wrapping>", "<!-- note --></Wrapping>");
    assert!(!KeyProtector::parse(commented.as_bytes()).unwrap().is_canonical_in_source());
}

#[test]
fn limits_hold() {
    let too_many = |what, max| Corruption::TooMany { what, max };
    let root = |content: &str| {
        format!("<Protector xmlns=\"http://schemas.microsoft.com/kps/2014/07\">{content}</Protector>")
    };
    let nodes = MAX_XML_NODES as usize;
    assert_eq!(corruption(&root(&"<a/>".repeat(nodes))), too_many("XML nodes", nodes));
    let nested = format!("{}{}", "<a>".repeat(MAX_XML_DEPTH), "</a>".repeat(MAX_XML_DEPTH));
    assert_eq!(corruption(&root(&nested)), too_many("levels of nested elements", MAX_XML_DEPTH));
    let deep = format!("{}{}", "<a>".repeat(30_000), "</a>".repeat(30_000));
    assert_eq!(corruption(&root(&deep)), too_many("levels of nested elements", MAX_XML_DEPTH));
    let attributes: String = (0..=MAX_EQUAL_SIGNS_PER_TAG).map(|n| format!(" a{n}=\"\"")).collect();
    assert_eq!(
        corruption(&root(&format!("<a{attributes}/>"))),
        too_many("attributes in a tag", MAX_EQUAL_SIGNS_PER_TAG)
    );
    let namespaces: String =
        (0..=MAX_NAMESPACE_DECLARATIONS).map(|n| format!("<a xmlns:n{n}=\"urn:{n}\"/>")).collect();
    assert_eq!(
        corruption(&root(&namespaces)),
        too_many("namespace declarations", MAX_NAMESPACE_DECLARATIONS)
    );
    // One wrapping, repeated under other numbers.
    let document = document();
    let start = document.find("<Wrapping>").unwrap();
    let end = document.find("</Wrapping>").unwrap() + "</Wrapping>".len();
    let more: String = (10..10 + MAX_WRAPPINGS)
        .map(|id| document[start..end].replace("<Id>1<", &format!("<Id>{id}<")))
        .collect();
    let crowded = format!("{}{more}{}", &document[..end], &document[end..]);
    assert_eq!(corruption(&crowded), too_many("wrappings", MAX_WRAPPINGS));
    let large = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert!(matches!(KeyProtector::parse(&large), Err(Error::TooLarge { .. })));
    assert!(matches!(GuardianMetadata::parse(&large), Err(Error::TooLarge { .. })));
}

#[test]
fn length_prefix_must_be_the_length() {
    let bytes = encode(&[], 0x11, &CAST.owner, &EncodeOptions::default());
    let have = bytes.len();
    let declared = u32::try_from(have).unwrap();
    for wrong in [0, 4, 5, declared - 1, declared + 1, u32::MAX] {
        let mut altered = bytes.clone();
        altered[..LENGTH_PREFIX_BYTES].copy_from_slice(&wrong.to_be_bytes());
        let expected = Corruption::LengthPrefix { declared: wrong, have };
        assert_eq!(KeyProtector::parse(&altered), Err(expected.into()));
    }
    for short in 0..LENGTH_PREFIX_BYTES {
        let expected = Corruption::Short { have: short };
        assert_eq!(KeyProtector::parse(&bytes[..short]), Err(expected.into()));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let xml = owner_and_primary();
    let with_prefix = encode(&[], 0x11, &CAST.owner, &EncodeOptions::default());
    let metadata =
        CAST.primary.encode_metadata(&AlgorithmSuite::synthetic(), &registry(), &mut rng(1)).unwrap();
    for end in 0..xml.len() {
        assert!(KeyProtector::parse(&xml[..end]).is_err(), "{end}");
    }
    for end in 0..with_prefix.len() {
        assert!(KeyProtector::parse(&with_prefix[..end]).is_err(), "{end}");
    }
    for end in 0..metadata.len() {
        assert!(GuardianMetadata::parse(&metadata[..end]).is_err(), "{end}");
    }
}

/// Changes every byte of `Wrappings`: no change goes unnoticed by the transport key.
///
/// A blank between attributes that becomes another blank is the same XML: then the source is no longer canonical.
fn check_every_byte_of_wrappings(bytes: &[u8], transport_key: &TransportKey, changes: &[fn(u8) -> u8]) {
    let sound = KeyProtector::parse(bytes).unwrap();
    assert!(sound.verify_transport_key_signature(&registry(), transport_key).is_valid());
    assert!(sound.is_canonical_in_source());
    let wrappings = sound.wrappings_bytes().to_vec();
    let start = bytes.windows(wrappings.len()).position(|window| window == wrappings).unwrap();
    let mut altered = bytes.to_vec();
    let mut noticed_by_signature = 0;
    for at in start..start + wrappings.len() {
        let original = bytes[at];
        for change in changes {
            let value = change(original);
            if value == original {
                continue;
            }
            altered[at] = value;
            let Ok(protector) = KeyProtector::parse(&altered) else { continue };
            if protector.verify_transport_key_signature(&registry(), transport_key).is_valid() {
                assert!(original == b' ' && value == b'\n', "unnoticed: byte {at} became {value}");
                assert!(!protector.is_canonical_in_source());
            } else {
                noticed_by_signature += 1;
                // The guardian signature sees it without any secret; it is slow, so only some are asked.
                if noticed_by_signature % 97 == 0 {
                    // Not `Invalid` where the signer's public key itself was hit.
                    assert!(!protector.verify(&registry()).guardian_signature.is_valid());
                }
            }
        }
        altered[at] = original;
    }
    assert!(noticed_by_signature > wrappings.len() / 2, "most changes are still well-formed");
}

#[test]
fn every_changed_byte_of_wrappings_is_noticed() {
    let options = EncodeOptions { byte_order_mark: false, length_prefix: false, ..EncodeOptions::default() };
    let changes: [fn(u8) -> u8; 3] = [|byte| byte.wrapping_add(1), |_| b'A', |_| b'\n'];
    check_every_byte_of_wrappings(&encode(&[], 0x11, &CAST.owner, &options), &transport_key(0x11), &changes);
}

#[test]
fn every_changed_byte_of_wrappings_of_the_samples_is_noticed() {
    let Some(folder) = samples::folder() else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let pem = String::from_utf8(read("synthetic_owner_enc.key.pem")).unwrap();
    let owner = PrivateKey::parse_pem(&pem).unwrap();
    for name in ["owner_only", "owner_hgs", "rolled_by_hgs", "after_grant_dr"] {
        let bytes = read(&format!("synthetic_kp_{name}.bin"));
        let protector = KeyProtector::parse(&bytes).unwrap();
        let opened = protector.unwrap_transport_key(&owner, &registry(), &mut rng(1));
        let opened = opened.unwrap_or_else(|error| panic!("{error}"));
        check_every_byte_of_wrappings(&bytes, &opened.transport_key, &[|byte| byte ^ 1]);
    }
}

#[test]
fn no_changed_byte_panics() {
    let mut protector = encode(&[], 0x11, &CAST.owner, &EncodeOptions::default());
    let mut metadata =
        CAST.primary.encode_metadata(&AlgorithmSuite::synthetic(), &registry(), &mut rng(1)).unwrap();
    let mut certificate = CAST.primary.signing_certificate().der().to_vec();
    fn flip_all(bytes: &mut [u8], mut parse: impl FnMut(&[u8])) {
        for at in 0..bytes.len() {
            bytes[at] ^= 1 << (at % 8);
            parse(bytes);
            bytes[at] ^= 1 << (at % 8);
        }
    }
    let mut differing = 0;
    let original = protector.clone();
    flip_all(&mut protector, |bytes| match KeyProtector::parse(bytes) {
        Ok(parsed) => {
            assert_eq!(parsed.original_bytes(), bytes);
            differing += usize::from(bytes != original);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
    assert!(differing > 0);
    flip_all(&mut metadata, |bytes| {
        let _ = GuardianMetadata::parse(bytes).map(|parsed| assert_eq!(parsed.original_bytes(), bytes));
    });
    flip_all(&mut certificate, |bytes| {
        if let Ok(parsed) = Certificate::parse(bytes) {
            assert_ne!(parsed.sha256(), CAST.primary.signing_certificate().sha256());
            assert!(!parsed.check_self_signature().is_valid());
        }
    });
}
