//! Damaged files: no panic, nothing wrong taken for right, nothing else lost.

use std::collections::BTreeMap;

use lifeboat_escrow::{Input, Secret, fuzzing, import};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::samples::{
    ENGLISH, Expected, FRENCH, GERMAN, ad_json, bek, csvde, encoded, entra, ldif, list, manage_bde, mbam,
    powershell, saved, secret,
};

/// Inputs of the mutation test.
const INPUTS: usize = 10_000;

fn samples() -> Vec<(&'static str, Vec<u8>, Vec<Expected>)> {
    let some: Vec<Expected> = (0..4).map(secret).collect();
    let one = vec![secret(0)];
    let text = |text: String, encoding| encoded(&text, encoding);
    vec![
        ("saved", text(saved(&ENGLISH, &secret(0)), "utf-16le marked"), one.clone()),
        ("saved", text(saved(&GERMAN, &secret(0)), "cp850"), one.clone()),
        ("saved", text(saved(&FRENCH, &secret(0)), "utf-8"), one),
        (
            "bde",
            text(manage_bde(&GERMAN, &[("C:", some[..2].to_vec()), ("D:", some[2..].to_vec())]), "cp850"),
            some.clone(),
        ),
        ("powershell", text(powershell(&some), "utf-8"), some.clone()),
        ("entra", text(entra(&some), "utf-8"), some.clone()),
        ("ad", text(ad_json(&some), "utf-8"), some.clone()),
        ("ldif", text(ldif(&some, 76, "\n"), "utf-8"), some.clone()),
        ("ldif", text(ldif(&some, 77, "\r\n"), "utf-16le marked"), some.clone()),
        ("mbam", text(mbam(&some, ",", ""), "utf-8"), some.clone()),
        ("mbam", text(mbam(&some, ";", "\""), "cp1252"), some.clone()),
        ("csvde", text(csvde(&some), "utf-8"), some.clone()),
        ("list", text(list(&some, ","), "utf-8"), some),
    ]
}

/// One fault of a kind that transport, editors and tired hands make.
fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) -> usize {
    let at = random.gen_range(0..bytes.len());
    match random.gen_range(0..6) {
        0 => bytes[at] ^= 1 << random.gen_range(0..8),
        1 => bytes[at] = random.r#gen(),
        2 => {
            bytes.remove(at);
        }
        3 => bytes.insert(at, random.r#gen()),
        4 => bytes.truncate(at),
        _ => bytes[at] = b"0123456789-{},;:\"\n "[random.gen_range(0..19)],
    }
    at
}

#[test]
fn ten_thousand_damaged_inputs() {
    let samples = samples();
    let mut random = StdRng::seed_from_u64(5);
    let (mut paired, mut kept) = (0usize, 0usize);
    for number in 0..INPUTS {
        let (name, whole, expected) = &samples[number % samples.len()];
        let by_id: BTreeMap<&str, &str> =
            expected.iter().map(|one| (one.id.as_str(), one.password.as_str())).collect();
        let mut bytes = whole.clone();
        let before = whole.len();
        let at = damage(&mut bytes, &mut random);
        let is_cut = bytes.len() + 1 < before;
        let import = import(&Input { name, bytes: &bytes, modified: None });
        let say = || format!("input {number} ({name}), damaged at {at}");
        for found in &import.found {
            let Secret::RecoveryPassword(password) = &found.secret else {
                panic!("{}: a {}", say(), found.secret.kind().name());
            };
            let text = password.expose();
            // A password that was never written cannot come out, whatever happens to one byte.
            assert!(by_id.values().any(|known| *known == text.as_str()), "{}: a wrong password", say());
            // An id that is right has its own password, and no other.
            if let Some(known) = found.protector.and_then(|id| by_id.get(id.to_string().as_str()).copied()) {
                assert_eq!(known, text.as_str(), "{}: the password of another", say());
                paired += 1;
            }
        }
        // One fault costs one password at most; a file that is cut, what lies behind.
        if !is_cut {
            assert!(
                import.found.len() + 1 >= expected.len(),
                "{}: {} of {}",
                say(),
                import.found.len(),
                expected.len()
            );
        }
        if import.found.len() < expected.len() && !is_cut {
            assert!(
                !import.problems.is_empty(),
                "{}: lost in silence: {}",
                say(),
                String::from_utf8_lossy(&bytes)
            );
        }
        kept += import.found.len();
    }
    println!("{INPUTS} damaged inputs gave {kept} passwords, {paired} of them with their id");
    assert!(paired > 2 * INPUTS);
}

#[test]
fn a_damaged_recovery_key_gives_no_password_and_no_panic() {
    let whole = bek(3);
    for end in 0..whole.len() {
        fuzzing::check_import(&[&[1], &whole[..end]].concat());
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fuzzing::check_import(&[&[0], bytes.as_slice()].concat());
        }
    }
}

/// Pieces that importers act on, in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (0..9u32).prop_map(|number| secret(number).id.into_bytes()),
        (0..9u32).prop_map(|number| secret(number).password.into_bytes()),
        (0..9u32).prop_map(|number| secret(number).password.replace('-', " ").into_bytes()),
        (0..60usize).prop_map(|end| secret(1).password.as_bytes()[..end.min(55)].to_vec()),
        prop_oneof![
            Just("\n"),
            Just("\r\n"),
            Just("ID: "),
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just("\""),
            Just(","),
            Just(":: "),
            Just("dn: CN=a,CN=b\n"),
            Just("msFVE-RecoveryPassword: "),
            Just("\"id\": "),
            Just("X'"),
            Just(" "),
            Just("RecoveryKeyId,RecoveryKey\n"),
            Just("-"),
            Just("\u{2013}"),
            Just("é"),
        ]
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_pieces_are_taken(bytes in pieces(), choice in any::<u8>()) {
        fuzzing::check_import(&[&[choice], bytes.as_slice()].concat());
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzzing::check_import(&bytes);
    }
}
