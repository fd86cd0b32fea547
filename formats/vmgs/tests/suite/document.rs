use lifeboat_vmgs::fixtures::DocumentOptions;
use lifeboat_vmgs::{Corruption, FileId, Format, GptDamage, GuestState, OpenError, ReadError, Verdict};
use proptest::prelude::*;

use crate::support::report;

const JSON: &str = r#"{"Devices":{
    "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad":{"States":{"Nvram":{"Vendors":{}},"Ümlaut 😀":[1,2]}},
    "{736E6AA9-A3F8-49C0-9550-A963214D259A}":{"States":{"Nv":"AAAA"}},
    "00000000-0000-0000-0000-000000000001":7,
    "00000000-0000-0000-0000-000000000002":{}
},"Version":1}"#;

fn sample() -> Vec<u8> {
    DocumentOptions { json: JSON, ..DocumentOptions::default() }.encode()
}

#[test]
fn devices_and_their_states_are_listed() {
    let image = sample();
    let found = report(&image);
    assert_eq!((found.verdict, found.format), (Verdict::Whole, Some(Format::Document)), "{found:?}");
    let guest_state = GuestState::open(&image[..]).unwrap();
    assert!(guest_state.has_vtpm_state() && guest_state.store().is_none());
    let document = guest_state.document().unwrap();
    assert_eq!((document.sequence(), document.header_copy()), (5, 0));
    let found: Vec<_> = document
        .devices()
        .iter()
        .map(|device| {
            let states: Vec<_> = device.states.iter().map(|(name, size)| (name.as_str(), *size)).collect();
            (device.name(), states)
        })
        .collect();
    assert_eq!(
        found,
        [
            (Some("firmware (UEFI variables)"), vec![("Nvram", 14), ("Ümlaut 😀", 5)]),
            (Some("vTPM"), vec![("Nv", 6)]),
            (None, vec![]),
            (None, vec![]),
        ]
    );
    assert_eq!(guest_state.read_document().unwrap(), JSON);
    assert!(matches!(guest_state.read(FileId::ATTEST, 1), Err(ReadError::NoSuchFile { .. })));
}

#[test]
fn the_later_header_counts_also_across_the_wrap() {
    for (sequence, copy) in [(5, 0), (6, 1), (0, 1), (u32::MAX, 0)] {
        let image = DocumentOptions { json: JSON, sequence, ..DocumentOptions::default() }.encode();
        let guest_state = GuestState::open(&image[..]).unwrap();
        let document = guest_state.document().unwrap();
        assert_eq!((document.sequence(), document.header_copy()), (sequence, copy));
        assert_eq!(document.devices().len(), 4);
    }
}

/// Changes a file and answers what is said about it.
fn corruptions(change: impl FnOnce(&mut Vec<u8>)) -> Vec<Corruption> {
    let mut image = sample();
    change(&mut image);
    report(&image).corruptions
}

#[test]
fn each_broken_rule_is_named() {
    let partition = DocumentOptions::PARTITION_OFFSET;
    let last = (64 << 10) - 512;
    assert_eq!(
        corruptions(|image| image[512] = 0),
        [Corruption::Gpt { copy: 0, damage: GptDamage::Signature }]
    );
    assert_eq!(
        corruptions(|image| image[last + 40] ^= 1),
        [Corruption::Gpt { copy: 1, damage: GptDamage::HeaderChecksum }]
    );
    assert_eq!(
        corruptions(|image| image[1024] ^= 1),
        [Corruption::Gpt { copy: 0, damage: GptDamage::EntriesChecksum }]
    );
    let both = corruptions(|image| {
        image[1024] ^= 1;
        image[last + 40] ^= 1;
    });
    assert_eq!(both.last(), Some(&Corruption::NoGpt));
    assert_eq!(corruptions(|image| image[partition + 16] ^= 1), [Corruption::HeaderChecksum { copy: 0 }]);
    assert_eq!(
        corruptions(|image| image[partition + 512..][..512].fill(0)),
        [Corruption::HeaderBlank { copy: 1, other_sequence: 5 }]
    );
    // The document itself: half a character, no JSON, no devices.
    let document = partition + 1024;
    assert_eq!(corruptions(|image| image[document + 5] = 0xd8), [Corruption::DocumentEncoding { at: 4 }]);
    assert_eq!(
        corruptions(|image| image[document] = b'['),
        [Corruption::DocumentSyntax { at: 0, why: "there is no object" }]
    );
    assert_eq!(corruptions(|image| image[document + 4] = b'd'), [Corruption::DocumentShape]);
}

#[test]
fn blank_headers_are_an_empty_document() {
    let mut image = sample();
    image[DocumentOptions::PARTITION_OFFSET..][..1024].fill(0);
    assert_eq!(report(&image).verdict, Verdict::Empty);
    assert!(matches!(GuestState::open(&image[..]), Err(OpenError::Empty)));
}

#[test]
fn a_locator_of_no_bytes_may_point_anywhere() {
    let mut image = sample();
    let header = DocumentOptions::PARTITION_OFFSET;
    image[header + 32..header + 48].fill(0xff);
    image[header + 48..header + 52].fill(0);
    image[header + 12..header + 16].fill(0);
    let sum = crc32fast::hash(&image[header..header + 0x60]);
    image[header + 12..header + 16].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(report(&image).verdict, Verdict::Empty);
    // One of a single byte may not.
    image[header + 48] = 1;
    image[header + 12..header + 16].fill(0);
    let sum = crc32fast::hash(&image[header..header + 0x60]);
    image[header + 12..header + 16].copy_from_slice(&sum.to_le_bytes());
    let found = report(&image).corruptions;
    assert!(matches!(found[..], [Corruption::LocatorRange { copy: 0, locator: 0, .. }]), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_states_read_back(
        devices in prop::collection::btree_map(
            "[^\u{0}]{1,12}",
            prop::collection::btree_map("[^\u{0}]{1,12}", "[^\u{0}]{0,30}", 0..4),
            0..4,
        ),
        sequence: u32,
    ) {
        let states = |states: &std::collections::BTreeMap<String, String>| serde_json::json!({ "States": states });
        let json: serde_json::Map<_, _> =
            devices.iter().map(|(device, of)| (device.clone(), states(of))).collect();
        let json = serde_json::json!({ "Devices": json }).to_string();
        let image = DocumentOptions { json: &json, sequence, ..DocumentOptions::default() }.encode();
        prop_assert_eq!(report(&image).verdict, Verdict::Whole);
        let guest_state = GuestState::open(&image[..]).unwrap();
        prop_assert_eq!(guest_state.read_document().unwrap(), json);
        let found = guest_state.document().unwrap().devices();
        prop_assert_eq!(found.len(), devices.len());
        for device in found {
            let wanted = &devices[&device.device];
            let names: Vec<_> = device.states.iter().map(|(name, _)| name).collect();
            prop_assert_eq!(names, wanted.keys().collect::<Vec<_>>());
        }
    }
}
