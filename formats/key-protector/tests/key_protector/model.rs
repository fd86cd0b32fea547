//! Property tests: arbitrary bytes, arbitrary edits of real documents, and a model of the writer.

use lifeboat_key_protector::*;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::fixtures::{CAST, owner_and_primary, registry, rng};

/// Everything that can be asked of arbitrary bytes.
fn exercise(bytes: &[u8]) {
    if let Ok(saved) = SavedKeyProtector::decode(bytes) {
        let _ = KeyProtector::parse(&saved.value);
    }
    if let Ok(protector) = KeyProtector::parse(bytes) {
        assert_eq!(protector.original_bytes(), bytes);
        assert!(protector.owners().count() >= 1);
        assert_eq!(protector.owners().count() + protector.guardians().count(), protector.wrappings().len());
        for wrapping in protector.wrappings() {
            assert!(protector.wrapping(wrapping.parent_id).is_some());
        }
        let needle = protector.wrappings_bytes();
        assert!(bytes.windows(needle.len()).any(|window| window == needle));
        let _ = (protector.signed_bytes().is_ok(), protector.is_canonical_in_source());
    }
    if let Ok(metadata) = GuardianMetadata::parse(bytes) {
        assert_eq!(metadata.original_bytes(), bytes);
    }
    let _ = Certificate::parse(bytes);
    let _ = PrivateKey::parse_pem(&String::from_utf8_lossy(bytes)).is_ok();
}

const TOKENS: [&str; 16] = [
    "<Wrapping>",
    "</Wrapping>",
    "<Id>2</Id>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "&amp;",
    "&#13;",
    "<?x?>",
    "xmlns=\"\"",
    " xmlns:k=\"urn:k\"",
    "\r\n",
    "=",
    "<Parameters/>",
    "\u{FEFF}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
    }

    #[test]
    fn edited_documents_do_not_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..40_usize, 0..TOKENS.len()), 1..4),
    ) {
        let mut bytes = owner_and_primary();
        for (at, removed, token) in edits {
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, TOKENS[token].bytes());
        }
        exercise(&bytes);
    }

    #[test]
    fn saved_numbers_give_any_bytes_back(value in proptest::collection::vec(any::<u8>(), 4..200)) {
        let text: Vec<String> = value.iter().map(ToString::to_string).collect();
        let saved = SavedKeyProtector::decode(text.join("\r\n").as_bytes()).unwrap();
        prop_assert_eq!(saved, SavedKeyProtector { form: SavedForm::DecimalNumbers, value });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn writer_and_reader_agree(
        which in proptest::sample::subsequence(vec![0, 1], 0..=2),
        signer in 0..3_usize,
        key in proptest::collection::vec(any::<u8>(), 1..=64),
        max_offline_unwraps in any::<Option<u32>>(),
        byte_order_mark in any::<bool>(),
        length_prefix in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let guardians: Vec<&GuardianKeys> = which.iter().map(|one| [&CAST.primary, &CAST.recovery][*one]).collect();
        let everyone: Vec<&GuardianKeys> = std::iter::once(&CAST.owner).chain(guardians.iter().copied()).collect();
        let signer = signer % everyone.len();
        let mut rng = rng(seed);
        let transport_key = TransportKey::new(Zeroizing::new(key.clone())).unwrap();
        let suite = AlgorithmSuite::synthetic();
        let template = KeyProtectorTemplate::new(&CAST.owner, &guardians, &suite, &registry(), &mut rng).unwrap();
        let options = EncodeOptions { max_offline_unwraps, byte_order_mark, length_prefix };
        let bytes = template.encode(&transport_key, everyone[signer], &options, &mut rng).unwrap();

        let protector = KeyProtector::parse(&bytes).unwrap();
        prop_assert_eq!(protector.has_length_prefix(), length_prefix);
        prop_assert_eq!(protector.max_offline_unwraps(), max_offline_unwraps.unwrap_or(0));
        prop_assert_eq!(protector.guardian_signature().wrapping_id.0 as usize, signer + 1);
        prop_assert!(protector.is_canonical_in_source());
        prop_assert_eq!(protector.wrappings().len(), everyone.len());
        for (wrapping, keys) in protector.wrappings().iter().zip(&everyone) {
            prop_assert_eq!(&wrapping.signing_certificate, keys.signing_certificate());
            prop_assert_eq!(&wrapping.encryption_certificate, keys.encryption_certificate());
            let opened = protector.unwrap_transport_key(keys.encryption_key(), &registry(), &mut rng);
            let opened = opened.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(opened.wrapping_id, wrapping.id);
            prop_assert_eq!(opened.transport_key.expose(), &key[..]);
        }
        prop_assert!(protector.verify_with(&registry(), &transport_key).checks().all(Check::is_valid));
    }
}
