//! GUIDs and FILETIMEs as BitLocker stores them.
//!
//! Used by every structure of the metadata that names or dates something.
//!
//! Deliberately no calendar: a [`FileTime`] converts to seconds since 1970 and the caller formats it.

use core::fmt;
use core::str::FromStr;

/// A GUID in its disk form (Microsoft mixed-endian byte order).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

/// Positions of the bytes of the disk form in the order of the text form.
const TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, &index) in TEXT_ORDER.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[index])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a GUID: 32 hexadecimal digits in the groups 8-4-4-4-12, braces optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID: expected 32 hexadecimal digits in the groups 8-4-4-4-12")]
pub struct ParseGuidError;

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        if text.len() != 36 {
            return Err(ParseGuidError);
        }
        let mut bytes = [0u8; 16];
        let mut digits = 0usize;
        for (position, character) in text.chars().enumerate() {
            if matches!(position, 8 | 13 | 18 | 23) {
                if character != '-' {
                    return Err(ParseGuidError);
                }
                continue;
            }
            let digit = character.to_digit(16).ok_or(ParseGuidError)? as u8;
            let byte = &mut bytes[TEXT_ORDER[digits / 2]];
            *byte = *byte << 4 | digit;
            digits += 1;
        }
        Ok(Self(bytes))
    }
}

/// A Windows time: 100 ns intervals since 1601-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

/// Seconds between 1601-01-01 and 1970-01-01.
const UNIX_EPOCH_SECONDS: i64 = 11_644_473_600;
const INTERVALS_PER_SECOND: u64 = 10_000_000;

impl FileTime {
    /// Converts from whole seconds since 1970-01-01 UTC; what lies outside becomes the nearest time inside.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let seconds = u64::try_from(seconds.saturating_add(UNIX_EPOCH_SECONDS)).unwrap_or(0);
        Self(seconds.saturating_mul(INTERVALS_PER_SECOND))
    }

    /// Converts to whole seconds since 1970-01-01 UTC; negative before it.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        // u64::MAX / 10^7 is far below i64::MAX.
        (self.0 / INTERVALS_PER_SECOND) as i64 - UNIX_EPOCH_SECONDS
    }

    /// Returns the nanoseconds within the second of [`FileTime::unix_seconds`].
    #[must_use]
    pub fn subsecond_nanoseconds(self) -> u32 {
        (self.0 % INTERVALS_PER_SECOND) as u32 * 100
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::layout::{EOW_INFORMATION_OFFSET_GUID, INFORMATION_OFFSET_GUID};

    #[test]
    fn text_form_of_the_recognition_guids() {
        assert_eq!(Guid(INFORMATION_OFFSET_GUID).to_string(), "4967d63b-2e29-4ad8-8399-f6a339e3d001");
        assert_eq!(Guid(EOW_INFORMATION_OFFSET_GUID).to_string(), "92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8");
    }

    #[test]
    fn parses_what_it_prints_and_refuses_other_text() {
        let guid = Guid(core::array::from_fn(|i| (i * 17) as u8));
        let text = guid.to_string();
        assert_eq!(text.parse(), Ok(guid));
        assert_eq!(alloc::format!("{{{}}}", text.to_uppercase()).parse(), Ok(guid));
        for bad in ["", "{}", &text[1..], &text.replace('-', "0"), "64311dea-4587-4029-924a-ba29964799\u{e9}"]
        {
            assert_eq!(bad.parse::<Guid>(), Err(ParseGuidError), "{bad}");
        }
    }

    #[test]
    fn file_time_epochs() {
        assert_eq!(FileTime(0).unix_seconds(), -11_644_473_600);
        assert_eq!(FileTime(116_444_736_000_000_000 + 15).unix_seconds(), 0);
        assert_eq!(FileTime(116_444_736_000_000_000 + 15).subsecond_nanoseconds(), 1500);
        assert!(FileTime(u64::MAX).unix_seconds() > 0);
        for seconds in [0, 1_700_000_000, -11_644_473_600] {
            assert_eq!(FileTime::from_unix_seconds(seconds).unix_seconds(), seconds);
        }
        assert_eq!(FileTime::from_unix_seconds(i64::MIN), FileTime(0));
        assert_eq!(FileTime::from_unix_seconds(i64::MAX), FileTime(u64::MAX));
    }
}
