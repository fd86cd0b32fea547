//! Bytes to text: byte order marks, UTF-16 without one, UTF-8, and the code pages of Windows and of its console.
//!
//! Ids and digits are ASCII in all of them; a wrong guess between two code pages only spoils a hint.

use zeroize::Zeroizing;

/// Bytes that are looked at to tell UTF-16 without a byte order mark.
const SAMPLE_BYTES: usize = 4096;

/// Code page 850 from 0x80 on.
const OEM_850: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";
/// Code page 1252 from 0x80 to 0x9F; above it is Latin-1.
const WINDOWS_1252: &str = "€\u{fffd}‚ƒ„…†‡ˆ‰Š‹Œ\u{fffd}Ž\u{fffd}\u{fffd}‘’“”•–—˜™š›œ\u{fffd}žŸ";

/// Decodes `bytes`; what belongs to no character becomes U+FFFD. The text is wiped when dropped.
pub(crate) fn decode(bytes: &[u8]) -> Zeroizing<String> {
    if let Some(rest) = bytes.strip_prefix(&[0xff, 0xfe]) {
        return utf16(rest, u16::from_le_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(&[0xfe, 0xff]) {
        return utf16(rest, u16::from_be_bytes);
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let zeros = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    // Every second byte of Latin text is zero; a few characters of other scripts do not change that.
    if odd > even && odd * 3 > sample.len() {
        return utf16(bytes, u16::from_le_bytes);
    }
    if even > odd && even * 3 > sample.len() {
        return utf16(bytes, u16::from_be_bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Zeroizing::new(text.to_owned());
    }
    // Letters of Western languages lie at 0x80 to 0x9A in code page 850, and from 0xC0 on in 1252.
    let count = |wanted: fn(&u8) -> bool| bytes.iter().filter(|byte| wanted(byte)).count();
    let console = count(|byte| (0x80..=0x9a).contains(byte));
    let file = count(|&byte| byte >= 0xc0 && byte != 0xe1);
    if console > file {
        return single(bytes, &OEM_850.chars().collect::<Vec<_>>());
    }
    let table: Vec<char> = WINDOWS_1252.chars().chain('\u{a0}'..='\u{ff}').collect();
    single(bytes, &table)
}

/// Bytes that a UTF-16 unit, or a character of a code page, takes in UTF-8 at most.
const MAX_UTF8_BYTES: usize = 3;

/// Units in a row that are ASCII with their bytes swapped, as no text has them: a byte was lost or added before.
const SHIFTED_UNITS: usize = 8;

fn utf16(mut bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Zeroizing<String> {
    // All at once, so that no copy of a part is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 2 * MAX_UTF8_BYTES));
    let is_swapped = |pair: &[u8; 2]| (1..0x80).contains(&unit(*pair).swap_bytes());
    loop {
        let pairs = bytes.as_chunks::<2>().0;
        // Only at a swapped unit the row behind it is looked at.
        let starts = pairs.iter().enumerate().filter(|(_, pair)| is_swapped(pair)).map(|(place, _)| place);
        let is_shifted = |place: &usize| {
            pairs.get(*place..place + SHIFTED_UNITS).is_some_and(|row| row.iter().all(is_swapped))
        };
        let shifted = starts.into_iter().find(is_shifted);
        let whole = &pairs[..shifted.unwrap_or(pairs.len())];
        let units = whole.iter().map(|pair| unit(*pair));
        text.extend(char::decode_utf16(units).map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER)));
        let Some(place) = shifted else { return text };
        text.push(char::REPLACEMENT_CHARACTER);
        bytes = &bytes[2 * place + 1..];
    }
}

fn single(bytes: &[u8], upper: &[char]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * MAX_UTF8_BYTES));
    text.extend(bytes.iter().map(|&byte| match byte.checked_sub(0x80) {
        None => char::from(byte),
        Some(place) => upper.get(usize::from(place)).copied().unwrap_or(char::REPLACEMENT_CHARACTER),
    }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_told_and_read() {
        let text = "Wiederherstellungsschlüssel für Müller, clé de récupération";
        let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let marked = |mark: &[u8], bytes: Vec<u8>| [mark, &bytes].concat();
        let paged = |table: &str| -> Vec<u8> {
            let place =
                |c: char| table.chars().position(|t| t == c).map_or(c as u32 as u8, |at| 0x80 + at as u8);
            text.chars().map(|c| if c.is_ascii() { c as u8 } else { place(c) }).collect()
        };
        let cases = [
            text.as_bytes().to_vec(),
            marked(&[0xef, 0xbb, 0xbf], text.as_bytes().to_vec()),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
            marked(&[0xff, 0xfe], utf16(u16::to_le_bytes)),
            marked(&[0xfe, 0xff], utf16(u16::to_be_bytes)),
            paged(OEM_850),
            paged(WINDOWS_1252),
        ];
        for bytes in cases {
            assert_eq!(decode(&bytes).as_str(), text);
        }
    }

    #[test]
    fn tables_have_all_their_characters() {
        assert_eq!(OEM_850.chars().count(), 128);
        assert_eq!(WINDOWS_1252.chars().count(), 32);
        assert_eq!(decode(&[]).as_str(), "");
        assert_eq!(decode(&[0xff, 0xfe, 0x41]).as_str(), "");
    }

    #[test]
    fn a_lost_byte_spoils_one_character() {
        let mut bytes: Vec<u8> =
            "before, and all of what comes after".encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.splice(..0, [0xff, 0xfe]);
        bytes.remove(10);
        let text = decode(&bytes);
        assert!(
            text.starts_with("befo") && text.ends_with(", and all of what comes after"),
            "{}",
            text.as_str()
        );
    }
}
