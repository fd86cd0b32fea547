use std::format;
use std::string::ToString;

use proptest::prelude::*;

use super::*;

const PASSWORD: &str = "235818-357951-253979-013365-241120-245575-342914-591910";
const KEY: [u8; 16] =
    [0xbe, 0x53, 0x1d, 0x7f, 0x31, 0x5a, 0xbf, 0x04, 0xa0, 0x55, 0x35, 0x57, 0xc6, 0x79, 0x32, 0xd2];

fn wrong_blocks(text: &str) -> Vec<(usize, BlockProblem)> {
    match RecoveryPassword::parse(text) {
        Err(RecoveryPasswordError::Blocks { wrong }) => wrong,
        Err(other) => panic!("{other}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn parses_the_ways_people_write_it() {
    let spaced = PASSWORD.replace('-', " ");
    let bare = PASSWORD.replace('-', "");
    let dashes = PASSWORD.replace('-', " \u{2013} ");
    let lines = PASSWORD.replacen('-', "\r\n", 4);
    for text in [PASSWORD, &spaced, &bare, &dashes, &lines, &format!("\t{PASSWORD}\n")] {
        let password = RecoveryPassword::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(*password.recovery_key(), KEY);
        assert_eq!(password.expose().as_str(), PASSWORD);
    }
    assert!(RecoveryPassword::from_recovery_key(&KEY).same_as(&RecoveryPassword::parse(PASSWORD).unwrap()));
}

#[test]
fn refuses_other_texts_without_repeating_them() {
    let parse = |text: &str| RecoveryPassword::parse(text).err().expect("must be refused");
    assert_eq!(parse(""), RecoveryPasswordError::DigitCount { have: 0 });
    assert_eq!(parse(&PASSWORD[1..40].replace('-', "")), RecoveryPasswordError::DigitCount { have: 34 });
    assert_eq!(parse(&"1".repeat(100_000)), RecoveryPasswordError::DigitCount { have: 97 });
    assert_eq!(
        parse(&PASSWORD.replace("013365", "0I3365")),
        RecoveryPasswordError::Character { position: 23 }
    );
    let message = parse(&PASSWORD.replace("013365", "013366").replace("591910", "59191")).to_string();
    assert_eq!(
        message,
        "mistyped: block 4 of 8 does not match its check digit; block 8 of 8 has 5 digits instead of 6"
    );
}

#[test]
fn a_block_above_the_limit_is_refused() {
    // 720896 = 65536 * 11 is divisible but stands for no 16-bit value.
    assert_eq!(wrong_blocks(&PASSWORD.replace("591910", "720896")), [(8, BlockProblem::TooLarge)]);
    assert_eq!(wrong_blocks(&PASSWORD.replace("591910", "720885")), []);
}

/// Every single wrong digit and every swap of unequal neighbours is found, placed and can be corrected.
#[test]
fn single_slips_are_named_and_corrected() {
    let typed: Vec<char> = PASSWORD.chars().collect();
    let check = |text: String, position: usize| {
        let block = position / (BLOCK_DIGITS + 1);
        assert_eq!(wrong_blocks(&text), [(block + 1, BlockProblem::CheckDigit)], "{text}");
        let analysis = Analysis::of(&text).unwrap();
        assert!(
            analysis.candidates(100).iter().any(|candidate| candidate.expose().as_str() == PASSWORD),
            "{text}"
        );
        assert!(analysis.blocks()[block].corrections.len() <= 12);
        assert!(
            analysis
                .blocks()
                .iter()
                .all(|report| report.number == block + 1 || report.corrections.is_empty())
        );
    };
    for position in (0..typed.len()).filter(|&position| typed[position] != '-') {
        for digit in ('0'..='9').filter(|&digit| digit != typed[position]) {
            let mut text = typed.clone();
            text[position] = digit;
            check(text.into_iter().collect(), position);
        }
        let next = position + 1;
        if next < typed.len() && typed[next] != '-' && typed[next] != typed[position] {
            let mut text = typed.clone();
            text.swap(position, next);
            check(text.into_iter().collect(), position);
        }
    }
}

#[test]
fn a_missing_and_an_extra_digit_are_corrected() {
    for (typed, digits) in [("35795", 5), ("3579511", 7), ("3557951", 7)] {
        let text = PASSWORD.replace("357951", typed);
        assert_eq!(wrong_blocks(&text), [(2, BlockProblem::Length { digits })]);
        let candidates = Analysis::of(&text).unwrap().candidates(100);
        assert!(candidates.iter().any(|candidate| candidate.expose().as_str() == PASSWORD));
    }
    let analysis = Analysis::of(&PASSWORD.replace("357951", "35")).unwrap();
    assert!(analysis.blocks()[1].corrections.is_empty() && analysis.candidates(100).is_empty());
}

#[test]
fn candidates_stay_within_the_limit() {
    let text = PASSWORD.replace("235818", "235819").replace("357951", "357952").replace("253979", "253970");
    let analysis = Analysis::of(&text).unwrap();
    assert!(analysis.candidates(usize::MAX).len() > 60);
    assert_eq!(analysis.candidates(60).len(), 60);
    assert!(analysis.candidates(0).is_empty());
}

proptest! {
    #[test]
    fn every_key_has_one_password(key: [u8; 16]) {
        let password = RecoveryPassword::from_recovery_key(&key);
        let text = password.expose();
        prop_assert_eq!(text.len(), 55);
        prop_assert_eq!(*RecoveryPassword::parse(&text).unwrap().recovery_key(), key);
    }

    #[test]
    fn any_text_is_answered(text in "[0-9 -]{0,80}|.{0,60}") {
        if let Ok(analysis) = Analysis::of(&text) {
            prop_assert_eq!(analysis.blocks().len(), BLOCKS);
            prop_assert!(analysis.candidates(10).len() <= 10);
        }
    }
}
