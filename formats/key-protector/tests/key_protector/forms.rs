//! Byte forms of a value and the files in which administrators save them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifeboat_key_protector::*;

use crate::fixtures::{CAST, encode, owner_and_primary, registry, transport_key};

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

fn with_prefix(body: &[u8]) -> Vec<u8> {
    let total = u32::try_from(body.len() + 4).unwrap();
    [&total.to_be_bytes()[..], body].concat()
}

#[test]
fn every_encoding_reads_the_same() {
    let xml = String::from_utf8(owner_and_primary()).unwrap();
    let wrappings = &xml[xml.find("<Wrappings>").unwrap()..xml.find("<TransportKeySignature>").unwrap()];
    let declared = format!("<?xml version=\"1.0\" encoding=\"utf-16\"?>\r\n{xml}\r\n");
    let expected = KeyProtector::parse(xml.as_bytes()).unwrap();
    let mut forms = Vec::new();
    for text in [&xml, &declared] {
        let marked = format!("\u{FEFF}{text}");
        for text in [text, &marked] {
            forms.push((Encoding::Utf8, text.as_bytes().to_vec(), wrappings.as_bytes().to_vec()));
            let little = (utf16(text, u16::to_le_bytes), utf16(wrappings, u16::to_le_bytes));
            forms.push((Encoding::Utf16Le, little.0, little.1));
            let big = (utf16(text, u16::to_be_bytes), utf16(wrappings, u16::to_be_bytes));
            forms.push((Encoding::Utf16Be, big.0, big.1));
        }
    }
    assert_eq!(forms.len(), 12);
    for (encoding, body, wrappings) in forms {
        for bytes in [with_prefix(&body), body] {
            let protector = KeyProtector::parse(&bytes).unwrap();
            assert_eq!(protector.encoding(), encoding);
            assert_eq!(protector.original_bytes(), bytes);
            assert_eq!(protector.wrappings_bytes(), wrappings);
            assert_eq!(protector.signed_bytes(), expected.signed_bytes());
            let check = protector.verify_transport_key_signature(&registry(), &transport_key(0x11));
            assert!(check.is_valid());
        }
    }
}

#[test]
fn broken_text_is_told_from_broken_xml() {
    let xml = owner_and_primary();
    let text = String::from_utf8(xml.clone()).unwrap();
    let mut invalid = xml.clone();
    invalid[40] = 0xFF;
    assert_eq!(KeyProtector::parse(&invalid), Err(Corruption::Text { encoding: "UTF-8" }.into()));
    let mut odd = utf16(&text, u16::to_le_bytes);
    odd.push(0);
    assert_eq!(KeyProtector::parse(&odd), Err(Corruption::Text { encoding: "UTF-16LE" }.into()));
    let mut lone_surrogate = utf16(&text, u16::to_be_bytes);
    lone_surrogate[40] = 0xD8;
    assert_eq!(KeyProtector::parse(&lone_surrogate), Err(Corruption::Text { encoding: "UTF-16BE" }.into()));
}

#[test]
fn saved_files_give_the_value_back() {
    let value = encode(&[&CAST.primary], 0x11, &CAST.owner, &EncodeOptions::default());
    let join = |separator: &str| value.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator);
    let base64 = STANDARD.encode(&value);
    let wrapped: String =
        base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\r\n").collect();
    let texts = [
        (SavedForm::DecimalNumbers, join("\r\n") + "\r\n"),
        (SavedForm::DecimalNumbers, join("\n")),
        (SavedForm::DecimalNumbers, join(", ")),
        (SavedForm::DecimalNumbers, format!("\n\n{}", join(" "))),
        (SavedForm::Base64, base64.clone()),
        (SavedForm::Base64, base64 + "\n"),
        (SavedForm::Base64, wrapped),
    ];
    for (form, text) in texts {
        let marked = format!("\u{FEFF}{text}");
        let files = [
            text.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(&text, u16::to_le_bytes),
        ];
        for (index, file) in files.iter().enumerate() {
            // A line end first is no mark that would tell UTF-16 from UTF-8, but its zero byte is.
            let saved = SavedKeyProtector::decode(file).unwrap_or_else(|e| panic!("{form:?} {index}: {e}"));
            assert_eq!(saved, SavedKeyProtector { form, value: value.clone() }, "{index}");
        }
    }
    let xml = owner_and_primary();
    let marked_xml = [&b"\xEF\xBB\xBF"[..], &xml].concat();
    let utf16_xml = utf16(std::str::from_utf8(&xml).unwrap(), u16::to_le_bytes);
    for raw in [value, xml, marked_xml, utf16_xml, vec![0, 0, 0, 4]] {
        let saved = SavedKeyProtector::decode(&raw).unwrap();
        assert_eq!(saved, SavedKeyProtector { form: SavedForm::Raw, value: raw });
    }
}

#[test]
fn saved_absence_is_recognised_in_every_form() {
    for file in ["0\r\n0\r\n0\r\n4\r\n", "AAAABA==", "0,0,0,4"] {
        let saved = SavedKeyProtector::decode(file.as_bytes()).unwrap();
        assert_eq!(KeyProtector::parse(&saved.value), Err(Error::NoKeyProtector), "{file}");
    }
}

#[test]
fn other_files_are_refused() {
    let decode = |file: &[u8]| SavedKeyProtector::decode(file).unwrap_err();
    assert_eq!(decode(b"0\n0\n256\n4\n"), Error::NotAByte { index: 2 });
    assert_eq!(decode(b"{\"key\": 1}"), Error::UnknownSavedForm);
    assert_eq!(decode(b"\xFF\xD8\xFF\xE0 picture"), Error::UnknownSavedForm);
    assert_eq!(decode(b"AAAABA="), Error::UnknownSavedForm);
    assert_eq!(decode(b""), Corruption::Short { have: 0 }.into());
    let huge = vec![b'1'; layout::MAX_SAVED_FILE_BYTES + 1];
    assert!(matches!(decode(&huge), Error::TooLarge { .. }));
}

#[test]
fn private_keys_come_from_pem_only_in_clear() {
    let pem = CAST.owner.signing_key().encode_pem().unwrap();
    let with_attributes = format!("Bag Attributes\n    localKeyID: 01\n{}\n", pem.as_str());
    assert!(PrivateKey::parse_pem(&with_attributes).unwrap().belongs_to(CAST.owner.signing_certificate()));
    let windows_lines = pem.replace('\n', "\r\n");
    assert!(PrivateKey::parse_pem(&windows_lines).unwrap().belongs_to(CAST.owner.signing_certificate()));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(PrivateKey::parse_pem(encrypted).err(), Some(Error::EncryptedPrivateKey));
    for other in ["", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", &pem[..pem.len() / 2]] {
        assert!(matches!(PrivateKey::parse_pem(other).err(), Some(Error::PrivateKey { .. })));
    }
    let long = " ".repeat(layout::MAX_PRIVATE_KEY_FILE_BYTES + 1);
    assert!(matches!(PrivateKey::parse_pem(&long).err(), Some(Error::TooLarge { .. })));
}
