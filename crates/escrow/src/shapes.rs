//! Ids and recovery passwords in any text, by their shape.
//!
//! A word is a run of letters, digits and dashes. A recovery password may be wrapped after a dash, and its blocks may
//! stand apart by spaces. What is nearly one of the two is told as damaged, so that nobody pairs across it.

use lifeboat_fve::{Analysis, Guid, RecoveryPassword, RecoveryPasswordError};
use zeroize::Zeroizing;

/// Blocks of a recovery password, and digits of each.
const BLOCKS: usize = 8;
const BLOCK_DIGITS: usize = 6;
/// Longest word that is looked at closer; the longest right one has 55 characters.
const MAX_WORD_BYTES: usize = 160;
/// From that many digits and dashes on, with no more other characters, a word that is no recovery password was meant
/// as one.
const NEAR_PASSWORD_DIGITS: usize = 36;
const NEAR_PASSWORD_DASHES: usize = 5;
const NEAR_PASSWORD_OTHERS: usize = 4;
/// Blocks of six digits in one word from which on it is a fragment: one fault in the middle leaves four on a side.
const FRAGMENT_BLOCKS: usize = 3;
/// Lengths, hexadecimal digits and dashes of a word that was meant as an id.
const NEAR_ID_BYTES: std::ops::RangeInclusive<usize> = 30..=42;
const NEAR_ID_DIGITS: usize = 26;
const NEAR_ID_DASHES: usize = 3;
/// Right blocks from which on a row of eight numbers was meant as a recovery password.
const NEAR_PASSWORD_BLOCKS: usize = 5;

/// Something that has a shape.
pub(crate) enum Kind {
    /// An id.
    Id(Guid),
    /// A recovery password.
    Password(RecoveryPassword),
    /// Something that was meant as an id.
    DamagedId,
    /// Something that was meant as a recovery password.
    DamagedPassword(RecoveryPasswordError),
}

/// Whether a recovery password, right or damaged, stands in a text that is to be shown.
pub(crate) fn holds_password(text: &str) -> bool {
    find(text).iter().any(|shape| matches!(shape.kind, Kind::Password(_) | Kind::DamagedPassword(_)))
}

/// A shape with its place.
pub(crate) struct Shape {
    /// Line, from 1, on which it begins.
    pub(crate) line: usize,
    /// Bytes of that line that it takes, braces included; for a wrapped one to the end of the line.
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) kind: Kind,
}

/// A word of a line: letters, digits and dashes of any kind.
struct Word<'a> {
    text: &'a str,
    start: usize,
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}')
}

fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let is_part = |c: char| c.is_alphanumeric() || is_dash(c);
        let start = rest + line[rest..].find(is_part)?;
        let end = line[start..].find(|c| !is_part(c)).map_or(line.len(), |length| start + length);
        rest = end;
        Some(Word { text: &line[start..end], start })
    })
}

/// Every shape of `text`, in order.
pub(crate) fn find(text: &str) -> Vec<Shape> {
    let mut finder = Finder { found: Vec::new(), row: Row::default(), wrapped: None };
    for (line, number) in text.lines().zip(1..) {
        finder.line(line, number);
    }
    finder.end_row();
    finder.end_wrapped();
    finder.found
}

/// Groups of six digits that stand apart by spaces or lone dashes.
#[derive(Default)]
struct Row {
    digits: Zeroizing<String>,
    groups: usize,
    line: usize,
    range: std::ops::Range<usize>,
}

/// The part of a recovery password before a line break.
struct Wrapped {
    text: Zeroizing<String>,
    line: usize,
    range: std::ops::Range<usize>,
}

struct Finder {
    found: Vec<Shape>,
    row: Row,
    wrapped: Option<Wrapped>,
}

impl Finder {
    fn line(&mut self, line: &str, number: usize) {
        let mut last_end = 0;
        for (index, word) in words(line).enumerate() {
            let (start, end) = (word.start, word.start + word.text.len());
            // Only white space may stand between the groups of one row.
            if !line[last_end..start].chars().all(char::is_whitespace) {
                self.end_row();
            }
            last_end = end;
            if word.text.len() > MAX_WORD_BYTES {
                self.end_row();
                self.end_wrapped();
                continue;
            }
            let text = Zeroizing::new(
                word.text.chars().map(|c| if is_dash(c) { '-' } else { c }).collect::<String>(),
            );
            if let Some(before) = self.wrapped.take() {
                let continues = index == 0 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
                if continues {
                    let joined = Zeroizing::new(format!("{}{}", before.text.as_str(), text.as_str()));
                    self.word(joined, before.line, before.range);
                    continue;
                }
                self.wrapped = Some(before);
                self.end_wrapped();
            }
            let is_last = line[end..].trim().is_empty();
            let braced = |at: usize, brace: u8| line.as_bytes().get(at) == Some(&brace);
            let from = if start > 0 && braced(start - 1, b'{') { start - 1 } else { start };
            let to = if braced(end, b'}') { end + 1 } else { end };
            if is_last && is_part_of_password(&text) {
                self.end_row();
                self.wrapped = Some(Wrapped { text, line: number, range: from..line.len() });
                continue;
            }
            self.group(&text, number, from..to);
            self.word(text, number, from..to);
        }
        // A row does not go on in the next line.
        self.end_row();
        if self.wrapped.as_ref().is_some_and(|part| part.line < number) && !line.trim().is_empty() {
            self.end_wrapped();
        }
    }

    /// Looks at one word by itself.
    fn word(&mut self, text: Zeroizing<String>, line: usize, range: std::ops::Range<usize>) {
        if let Some(kind) = classify(&text) {
            self.found.push(Shape { line, range, kind });
        }
    }

    /// Adds a word to the row of groups, or ends the row.
    fn group(&mut self, text: &str, line: usize, range: std::ops::Range<usize>) {
        if text.len() == BLOCK_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            if self.row.groups == 0 {
                self.row.line = line;
                self.row.range = range.clone();
                self.row.digits.reserve(BLOCKS * (BLOCK_DIGITS + 1));
            }
            self.row.range.end = range.end;
            self.row.groups += 1;
            if self.row.groups <= BLOCKS {
                self.row.digits.push_str(text);
                self.row.digits.push('-');
            }
        } else if !text.bytes().all(|byte| byte == b'-') {
            self.end_row();
        }
    }

    fn end_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        if row.groups != BLOCKS {
            return;
        }
        let Ok(analysis) = Analysis::of(row.digits.trim_end_matches('-')) else { return };
        let right = analysis.blocks().iter().filter(|block| block.problem.is_none()).count();
        let kind = match analysis.password() {
            Ok(password) => Kind::Password(password),
            Err(error) if right >= NEAR_PASSWORD_BLOCKS => Kind::DamagedPassword(error),
            // A table of numbers.
            Err(_) => return,
        };
        self.found.push(Shape { line: row.line, range: row.range, kind });
    }

    /// Says what stands before a line break when the next line does not go on with it.
    fn end_wrapped(&mut self) {
        let Some(part) = self.wrapped.take() else { return };
        self.word(part.text, part.line, part.range);
    }
}

/// Tells whether a word that ends its line is the first blocks of a recovery password, with a dash behind.
fn is_part_of_password(text: &str) -> bool {
    let Some(groups) = text.strip_suffix('-') else { return false };
    let mut count = 0;
    let are_blocks = groups.split('-').all(|group| {
        count += 1;
        group.len() == BLOCK_DIGITS && group.bytes().all(|byte| byte.is_ascii_digit())
    });
    are_blocks && count < BLOCKS
}

/// Tells what a word is; nothing for ordinary ones.
pub(crate) fn classify(text: &str) -> Option<Kind> {
    let text = text.trim_matches('-');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let dashes = text.bytes().filter(|&byte| byte == b'-').count();
    let is_plain = digits + dashes == text.len();
    if is_plain && digits == BLOCKS * BLOCK_DIGITS {
        return Some(match RecoveryPassword::parse(text) {
            // A dash may be lost: all eight blocks check.
            Ok(password) => Kind::Password(password),
            // 48 digits in a row may be any number.
            Err(_) if dashes == 0 => return None,
            Err(error) => Kind::DamagedPassword(error),
        });
    }
    if let Ok(id) = text.parse::<Guid>() {
        return Some(Kind::Id(id));
    }
    let is_block = |group: &&str| group.len() == BLOCK_DIGITS;
    let has_blocks = |text: &str| text.split('-').filter(is_block).count() >= FRAGMENT_BLOCKS;
    if is_plain && has_blocks(text) {
        let error = RecoveryPassword::parse(text).err();
        return error.map(Kind::DamagedPassword);
    }
    // Something ran into it: a right password is right all the same.
    let runs = text.split(|c: char| !c.is_ascii_digit() && c != '-');
    let run = runs.max_by_key(|run| run.len()).filter(|run| !is_plain && has_blocks(run));
    let within = run.and_then(classify);
    if let Some(Kind::Password(_)) = within {
        return within;
    }
    let others = text.len() - digits - dashes;
    if digits >= NEAR_PASSWORD_DIGITS && dashes >= NEAR_PASSWORD_DASHES && others <= NEAR_PASSWORD_OTHERS {
        let error =
            RecoveryPassword::parse(text).err().unwrap_or(RecoveryPasswordError::DigitCount { have: digits });
        return Some(Kind::DamagedPassword(error));
    }
    if within.is_some() {
        return within;
    }
    let hexadecimal = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_near = NEAR_ID_BYTES.contains(&text.len()) && hexadecimal >= NEAR_ID_DIGITS;
    (is_near && dashes >= NEAR_ID_DASHES).then_some(Kind::DamagedId)
}

/// The id in the text, where there is exactly one.
pub(crate) fn only_id(text: &str) -> Option<Guid> {
    let mut ids = find(text).into_iter().filter_map(|shape| match shape.kind {
        Kind::Id(id) => Some(id),
        _ => None,
    });
    let first = ids.next()?;
    ids.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::{ID, PASSWORD};

    fn told(text: &str) -> Vec<String> {
        let tell = |shape: Shape| match shape.kind {
            Kind::Id(id) => format!("{} id {id}", shape.line),
            Kind::Password(password) => format!("{} password {}", shape.line, password.expose().as_str()),
            Kind::DamagedId => format!("{} damaged id", shape.line),
            Kind::DamagedPassword(error) => format!("{} {error}", shape.line),
        };
        find(text).into_iter().map(tell).collect()
    }

    #[test]
    fn a_recovery_password_in_every_form() {
        let right = format!("1 password {PASSWORD}");
        let spaced = PASSWORD.replace('-', " ");
        let forms = [
            PASSWORD.to_owned(),
            format!("\"{PASSWORD}\","),
            spaced.clone(),
            PASSWORD.replace('-', " - "),
            PASSWORD.replace('-', "\u{2013}"),
            PASSWORD.replace('-', ""),
            format!("{}\n{}", &PASSWORD[..28], &PASSWORD[28..]),
            format!("{}\r\n\t  {}", &PASSWORD[..28], &PASSWORD[28..]),
        ];
        for form in forms {
            assert_eq!(told(&form), std::slice::from_ref(&right), "{form}");
        }
        // One group more or fewer is something else.
        for other in [format!("{spaced} 123456"), format!("000011 {spaced}"), spaced[7..].to_owned()] {
            assert_eq!(told(&other), [""; 0], "{other}");
        }
    }

    #[test]
    fn what_was_meant_is_told_as_damaged() {
        let wrong = PASSWORD.replace("123123", "123133");
        assert_eq!(told(&wrong), ["1 mistyped: block 3 of 8 does not match its check digit"]);
        assert_eq!(told(&wrong.replace('-', " ")).len(), 1);
        assert!(told(&PASSWORD.replace("123123", "12312O"))[0].contains("character 20"));
        assert!(told(&PASSWORD.replace("123123", "12312"))[0].contains("block 3"));
        assert_eq!(told(&PASSWORD[..41]).len(), 1, "a block is missing");
        let fragments = told(&format!("{}\nnext line", &PASSWORD[..28]));
        assert_eq!(fragments, ["1 a recovery password has 48 digits, this text has 24"]);
        assert_eq!(told(&PASSWORD.replace("-700018", "*-700018")).len(), 2, "two fragments");
        assert_eq!(told(&ID.replace("5E", "GE")), ["1 damaged id"]);
        assert_eq!(told(&ID[1..]), ["1 damaged id"]);
        assert_eq!(
            told("https://go.microsoft.com/fwlink/?LinkID=260589 of 2025-11-20T16:59:12-00:00"),
            [""; 0]
        );
    }

    #[test]
    fn ids_stand_between_braces_or_not() {
        let id = ID.to_lowercase();
        assert_eq!(
            told(&format!("x\n  ID: {{{ID}}}\n{id}.BEK")),
            [format!("2 id {id}"), format!("3 id {id}")]
        );
        assert_eq!(
            only_id(&format!("BitLocker Recovery Key {ID}.TXT")).map(|id| id.to_string()),
            Some(id.clone())
        );
        assert_eq!(only_id(&format!("{ID} {ID}")), None);
    }
}
